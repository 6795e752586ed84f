//! Scaling of grey crops as Pillow does it: cubic, with the weights that pictures are scaled with.

use super::crops::Grey;
use crate::tasks::image::resample::{Filter, weights};

/// `crop` scaled to `width` × `height`, both above zero: across, then down.
pub(super) fn resized(crop: &Grey, width: usize, height: usize) -> Grey {
    let across = if width == crop.width { crop.clone() } else { scaled_across(crop, width) };
    if height == crop.height {
        return across;
    }
    turned(&scaled_across(&turned(&across), height))
}

fn scaled_across(crop: &Grey, width: usize) -> Grey {
    let windows = weights(crop.width, width, Filter::Bicubic);
    let rows = crop.values.chunks_exact(crop.width);
    let values = rows.flat_map(|row| windows.iter().map(|window| window.mixed(row))).collect();
    Grey { width, height: crop.height, values }
}

/// Rows become columns.
fn turned(crop: &Grey) -> Grey {
    let column = |x: usize| crop.values.iter().skip(x).step_by(crop.width).copied();
    Grey { width: crop.height, height: crop.width, values: (0..crop.width).flat_map(column).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_as_the_reference() {
        let check = |from: (usize, usize, &[u8]), to: (usize, usize, &[u8])| {
            let scaled =
                resized(&Grey { width: from.0, height: from.1, values: from.2.to_vec() }, to.0, to.1);
            assert_eq!((scaled.width, scaled.height, &scaled.values[..]), to);
        };
        // Expected values are Pillow's (`Image.resize`, BICUBIC).
        check((4, 1, &[0, 50, 100, 200]), (4, 1, &[0, 50, 100, 200]));
        check((4, 1, &[0, 50, 100, 200]), (2, 1, &[27, 144]));
        check((2, 1, &[10, 200]), (5, 1, &[0, 22, 105, 188, 219]));
        let tall = (2, 6, &[0, 255, 10, 245, 200, 30, 90, 60, 7, 8, 250, 3][..]);
        check(tall, (2, 3, &[25, 233, 116, 57, 123, 8]));
        check(tall, (3, 2, &[62, 118, 173, 123, 69, 14]));
    }
}
