//! Scaling as Pillow does it: cubic, over as many pixels as one of the result covers, in 22-bit weights.

use super::crops::Grey;

/// Bits of a weight behind the point.
const BITS: u32 = 22;
/// How far the cubic reaches, in pixels of the coarser side.
const REACH: f64 = 2.0;

/// `crop` scaled to `width` × `height`, both above zero: across, then down.
pub(super) fn resized(crop: &Grey, width: usize, height: usize) -> Grey {
    let across = if width == crop.width { crop.clone() } else { scaled_across(crop, width) };
    if height == crop.height {
        return across;
    }
    turned(&scaled_across(&turned(&across), height))
}

fn scaled_across(crop: &Grey, width: usize) -> Grey {
    let taps: Vec<Tap> = (0..width).map(|x| Tap::new(x, crop.width, width)).collect();
    let rows = crop.values.chunks_exact(crop.width);
    let values = rows.flat_map(|row| taps.iter().map(|tap| tap.mixed(row))).collect();
    Grey { width, height: crop.height, values }
}

/// Rows become columns.
fn turned(crop: &Grey) -> Grey {
    let column = |x: usize| crop.values.iter().skip(x).step_by(crop.width).copied();
    Grey { width: crop.height, height: crop.width, values: (0..crop.width).flat_map(column).collect() }
}

/// The source pixels of one target pixel, from `first` on, and their weights.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

impl Tap {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positions are clamped to the picture, weights lie between −1 and 2"
    )]
    fn new(target: usize, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let spread = scale.max(1.0);
        let centre = (target as f64 + 0.5) * scale;
        let first = (centre - REACH * spread + 0.5).max(0.0) as usize;
        let end = ((centre + REACH * spread + 0.5) as usize).min(from);
        let shares: Vec<f64> =
            (first..end).map(|x| cubic((x as f64 - centre + 0.5) * (1.0 / spread))).collect();
        let sum: f64 = shares.iter().sum();
        let one = f64::from(1 << BITS);
        Self { first, weights: shares.iter().map(|share| (share / sum * one).round() as i32).collect() }
    }

    fn mixed(&self, row: &[u8]) -> u8 {
        let parts = row[self.first..].iter().zip(&self.weights);
        let sum = parts.fold(1 << (BITS - 1), |sum: i32, (&value, weight)| sum + i32::from(value) * weight);
        u8::try_from((sum >> BITS).clamp(0, 255)).unwrap_or(u8::MAX)
    }
}

/// Cubic convolution, a = −0.5.
fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.5;
    let d = distance.abs();
    if d < 1.0 {
        ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0
    } else if d < REACH {
        (((d - 5.0) * d + 8.0) * d - 4.0) * A
    } else {
        0.0
    }
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
