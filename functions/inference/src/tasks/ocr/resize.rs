//! Scaling by linear interpolation, in the fixed-point arithmetic of the reference (11 bits a weight).

use std::borrow::Cow;

use crate::tasks::picture::Picture;

const ONE: f32 = 2048.0;

/// `picture` scaled to `width` × `height`, both above zero.
pub(crate) fn resized(picture: &Picture, width: usize, height: usize) -> Cow<'_, Picture> {
    if (width, height) == (picture.width, picture.height) {
        return Cow::Borrowed(picture);
    }
    let across = taps(picture.width, width, false);
    let down = taps(picture.height, height, true);
    let mut rows: [(usize, Vec<[i32; 3]>); 2] = [(usize::MAX, Vec::new()), (usize::MAX, Vec::new())];
    let mut pixels = Vec::with_capacity(width * height);
    for tap in &down {
        // Neighbouring rows share their sources, so the last two scaled rows are kept.
        if rows[1].0 == tap.first {
            rows.swap(0, 1);
        }
        for (kept, wanted) in rows.iter_mut().zip([tap.first, tap.second]) {
            if kept.0 != wanted {
                *kept = (wanted, scaled_row(picture, wanted, &across));
            }
        }
        let [(_, above), (_, below)] = &rows;
        let (first, second) = (tap.first_weight, tap.second_weight);
        let row = above.iter().zip(below).map(|(a, b)| {
            let mix = |c: usize| (((first * (a[c] >> 4)) >> 16) + ((second * (b[c] >> 4)) >> 16) + 2) >> 2;
            [byte(mix(0)), byte(mix(1)), byte(mix(2))]
        });
        pixels.extend(row);
    }
    Cow::Owned(Picture { width, height, pixels })
}

/// A mix of bytes; rounding takes it one above the greatest at most.
#[expect(clippy::cast_sign_loss, reason = "within a byte")]
fn byte(mix: i32) -> u8 {
    mix.clamp(0, 255) as u8
}

fn scaled_row(picture: &Picture, y: usize, across: &[Tap]) -> Vec<[i32; 3]> {
    let row = &picture.pixels[y * picture.width..(y + 1) * picture.width];
    let mix = |tap: &Tap, c: usize| {
        i32::from(row[tap.first][c]) * tap.first_weight + i32::from(row[tap.second][c]) * tap.second_weight
    };
    across.iter().map(|tap| std::array::from_fn(|c| mix(tap, c))).collect()
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
}
