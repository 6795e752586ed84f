//! Scaling by linear interpolation, in the fixed-point arithmetic of the reference (11 bits a weight).

use std::borrow::Cow;

use crate::tasks::picture::Picture;

const ONE: f32 = 2048.0;

/// `picture` scaled to `width` × `height`, both above zero.
pub(crate) fn resized(picture: &Picture, width: usize, height: usize) -> Cow<'_, Picture> {
    if (width, height) == (picture.width, picture.height) {
        return Cow::Borrowed(picture);
    }
    let mut pixels = Vec::with_capacity(width * height);
    each_row(picture, width, height, |_, row| pixels.extend_from_slice(row));
    Cow::Owned(Picture { width, height, pixels })
}

/// Writes `picture` scaled to `width` × `height`, each value mapped to −1..=1, as three planes into a batch
/// slot that is `plane_width` wide. What the picture does not reach stays as it is.
pub(crate) fn write_planes(
    picture: &Picture,
    [width, height]: [usize; 2],
    slot: &mut [f32],
    plane_width: usize,
) {
    let (blue, rest) = slot.split_at_mut(plane_width * height);
    let (green, red) = rest.split_at_mut(plane_width * height);
    each_row(picture, width, height, |y, row| {
        let of = y * plane_width..y * plane_width + width;
        let planes = blue[of.clone()].iter_mut().zip(&mut green[of.clone()]).zip(&mut red[of]);
        for (((blue, green), red), pixel) in planes.zip(row) {
            *blue = SCALED[usize::from(pixel[0])];
            *green = SCALED[usize::from(pixel[1])];
            *red = SCALED[usize::from(pixel[2])];
        }
    });
}

/// Each value mapped to −1..=1.
static SCALED: [f32; 256] = {
    let mut scaled = [0.0; 256];
    let mut value = 0;
    while value < 256 {
        #[expect(clippy::cast_precision_loss, reason = "below 2^24")]
        let share = value as f32 / 255.0;
        scaled[value] = (share - 0.5) / 0.5;
        value += 1;
    }
    scaled
};

/// Hands the rows of `picture` scaled to `width` × `height` to `sink`, from the top down.
fn each_row(picture: &Picture, width: usize, height: usize, mut sink: impl FnMut(usize, &[[u8; 3]])) {
    if (width, height) == (picture.width, picture.height) {
        picture.pixels.chunks_exact(width).enumerate().for_each(|(y, row)| sink(y, row));
        return;
    }
    let across = taps(picture.width, width, false);
    // Neighbouring rows share their sources, so the last two scaled rows are kept.
    let mut kept = [(usize::MAX, vec![0; width * 3]), (usize::MAX, vec![0; width * 3])];
    let mut mixed = vec![[0; 3]; width];
    for (y, tap) in taps(picture.height, height, true).iter().enumerate() {
        if kept[1].0 == tap.first {
            kept.swap(0, 1);
        }
        for ((source, row), wanted) in kept.iter_mut().zip([tap.first, tap.second]) {
            if *source != wanted {
                *source = wanted;
                scale_row(&picture.pixels[wanted * picture.width..][..picture.width], &across, row);
            }
        }
        let [(_, above), (_, below)] = &kept;
        let sources = above.iter().zip(below);
        for (byte, (a, b)) in mixed.as_flattened_mut().iter_mut().zip(sources) {
            *byte = byte_of((((tap.first_weight * a) >> 16) + ((tap.second_weight * b) >> 16) + 2) >> 2);
        }
        sink(y, &mixed);
    }
}

/// A mix of bytes; rounding takes it one above the greatest at most.
#[expect(clippy::cast_sign_loss, reason = "within a byte")]
fn byte_of(mix: i32) -> u8 {
    mix.clamp(0, 255) as u8
}

/// Scales a row; what is left has 7 bits more than a byte.
fn scale_row(row: &[[u8; 3]], across: &[Tap], scaled: &mut [i32]) {
    let (targets, _) = scaled.as_chunks_mut::<3>();
    for (target, tap) in targets.iter_mut().zip(across) {
        let (left, right) = (row[tap.first], row[tap.second]);
        let mix =
            |c: usize| (i32::from(left[c]) * tap.first_weight + i32::from(right[c]) * tap.second_weight) >> 4;
        *target = [mix(0), mix(1), mix(2)];
    }
}

/// Which two source positions make one target position, and how much of each.
struct Tap {
    first: usize,
    second: usize,
    first_weight: i32,
    second_weight: i32,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions are clamped to the picture, weights lie in 0..=2048"
)]
fn taps(from: usize, to: usize, down: bool) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|target| {
            let position = ((target as f64 + 0.5) * scale - 0.5) as f32;
            let (floor, last) = (position.floor(), from - 1);
            let edge = floor < 0.0 || floor as usize >= last;
            // Beyond the edges both sources are one pixel. The reference still mixes it with itself when it
            // goes down, which may round a step lower.
            let fraction = if edge && !down { 0.0 } else { position - floor };
            let first = (floor.max(0.0) as usize).min(last);
            let second = ((floor + 1.0) as usize).min(last);
            let weight = |share: f32| (share * ONE).round_ties_even() as i32;
            Tap { first, second, first_weight: weight(1.0 - fraction), second_weight: weight(fraction) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: (usize, usize, &[u8]), to: (usize, usize, &[u8])) {
        let picture =
            Picture { width: from.0, height: from.1, pixels: from.2.iter().map(|&v| [v; 3]).collect() };
        let scaled = resized(&picture, to.0, to.1);
        let values: Vec<u8> = scaled.pixels.iter().map(|p| p[1]).collect();
        assert_eq!((scaled.width, scaled.height, &values[..]), to);
    }

    #[test]
    fn scales_as_the_reference() {
        check((2, 1, &[10, 20]), (2, 1, &[10, 20]));
        // Expected values are OpenCV's (`cv2.resize`, linear).
        check((2, 1, &[0, 100]), (4, 1, &[0, 25, 75, 100]));
        check((4, 1, &[0, 50, 100, 200]), (2, 1, &[25, 150]));
        check((1, 2, &[0, 255]), (1, 3, &[0, 128, 255]));
        // The first row: 112, where it would be 113 if it were not mixed with itself.
        check((2, 2, &[95, 130, 194, 217]), (3, 3, &[95, 112, 130, 145, 159, 174, 194, 205, 217]));
        check(
            (3, 2, &[10, 90, 250, 7, 77, 177]),
            (5, 3, &[10, 42, 90, 186, 250, 9, 38, 84, 162, 214, 7, 35, 77, 137, 177]),
        );
    }

    #[test]
    fn planes_are_blue_green_red_and_leave_padding_alone() {
        let picture = Picture { width: 1, height: 2, pixels: vec![[0, 255, 51], [255, 0, 204]] };
        let mut slot = [9.0; 12];
        write_planes(&picture, [1, 2], &mut slot, 2);
        let rounded: Vec<f32> = slot.iter().map(|v| (v * 10.0).round() / 10.0).collect();
        assert_eq!(rounded, [-1.0, 9.0, 1.0, 9.0, 1.0, 9.0, -1.0, 9.0, -0.6, 9.0, 0.6, 9.0]);
    }
}
