//! Scaling with a filter that widens as the picture shrinks, in the fixed-point arithmetic of Pillow, so
//! that every pixel comes out the same.

use crate::tasks::picture::Picture;

/// Bits behind the point of a weight: 8 go to the pixel, 2 to sums that overshoot.
const BITS: u32 = 32 - 8 - 2;

/// A way to weigh the pixels around a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tasks) enum Filter {
    Nearest,
    Box,
    Bilinear,
    Hamming,
    Bicubic,
    Lanczos,
}

impl Filter {
    /// The filter of a Pillow code, which image processors store.
    pub(super) fn of_code(code: u8) -> Option<Self> {
        let all = [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming];
        all.get(usize::from(code)).copied()
    }

    /// How far it reaches, in source pixels at the scale of 1.
    fn reach(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at this distance.
    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Box => f64::from(u8::from(distance > -0.5 && distance <= 0.5)),
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Hamming if x == 0.0 => 1.0,
            Self::Hamming if x >= 1.0 => 0.0,
            Self::Hamming => {
                let x = x * std::f64::consts::PI;
                x.sin() / x * (0.54 + 0.46 * x.cos())
            }
            Self::Bicubic => {
                let a = -0.5;
                if x < 1.0 {
                    ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * a
                } else {
                    0.0
                }
            }
            Self::Lanczos if x < 3.0 => sinc(distance) * sinc(distance / 3.0),
            Self::Lanczos | Self::Nearest => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// `picture` scaled to `width` × `height`, both above zero.
pub(super) fn resized(picture: &Picture, width: usize, height: usize, filter: Filter) -> Picture {
    if filter == Filter::Nearest {
        return nearest(picture, width, height);
    }
    let across = || weights(picture.width, width, filter);
    let down = || weights(picture.height, height, filter);
    match (picture.width == width, picture.height == height) {
        (true, true) => picture.clone(),
        (true, false) => lowered(picture, &down()),
        (false, true) => narrowed(picture, &across()),
        (false, false) if down_first([picture.width, width], [picture.height, height]) => {
            narrowed(&lowered(picture, &down()), &across())
        }
        (false, false) => lowered(&narrowed(picture, &across()), &down()),
    }
}

/// Each pass rounds, so their order shows. This is Pillow 13's, as trials with it tell; older ones always
/// go across first, and differ by 1 in some pixels of pictures that lose far more of their height.
fn down_first(across: [usize; 2], down: [usize; 2]) -> bool {
    let lost = |[from, to]: [usize; 2]| from.cast_signed() - to.cast_signed();
    lost(down) > 0 && lost(down) > 2 * lost(across)
}

fn narrowed(picture: &Picture, windows: &[Window]) -> Picture {
    let mut pixels = Vec::with_capacity(windows.len() * picture.height);
    for row in picture.pixels.chunks_exact(picture.width) {
        pixels.extend(windows.iter().map(|window| {
            let mut sum = [1 << (BITS - 1); 3];
            for (pixel, weight) in row[window.first..].iter().zip(&window.weights) {
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            sum.map(cut)
        }));
    }
    Picture { width: windows.len(), height: picture.height, pixels }
}

/// Whole rows are summed at a time: the compiler makes vector instructions of it.
fn lowered(picture: &Picture, windows: &[Window]) -> Picture {
    let width = picture.width;
    let mut pixels = Vec::with_capacity(width * windows.len());
    let mut sums = vec![0_i32; width * 3];
    for window in windows {
        sums.fill(1 << (BITS - 1));
        let rows = picture.pixels[window.first * width..].chunks_exact(width);
        for (row, weight) in rows.zip(&window.weights) {
            for (sum, value) in sums.iter_mut().zip(row.as_flattened()) {
                *sum += i32::from(*value) * weight;
            }
        }
        pixels.extend(sums.chunks_exact(3).map(|sum| [cut(sum[0]), cut(sum[1]), cut(sum[2])]));
    }
    Picture { width, height: windows.len(), pixels }
}

/// The whole part of a sum, within a pixel's range.
fn cut(sum: i32) -> u8 {
    u8::try_from((sum >> BITS).clamp(0, 255)).unwrap_or(u8::MAX)
}

/// Which source pixels make one target pixel, and how much of each.
pub(in crate::tasks) struct Window {
    first: usize,
    weights: Vec<i32>,
}

impl Window {
    /// The target pixel of a grey row.
    pub(in crate::tasks) fn mixed(&self, row: &[u8]) -> u8 {
        let parts = row[self.first..].iter().zip(&self.weights);
        cut(parts.fold(1 << (BITS - 1), |sum, (&value, weight)| sum + i32::from(value) * weight))
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are below 2^24, places are clamped to them, weights are between -2 and 2"
)]
pub(in crate::tasks) fn weights(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let widened = scale.max(1.0);
    let reach = filter.reach() * widened;
    let one = f64::from(1 << BITS);
    (0..to)
        .map(|target| {
            let centre = (target as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from);
            let raw: Vec<f64> = (first..end)
                .map(|place| filter.weight((place as f64 - centre + 0.5) * (1.0 / widened)))
                .collect();
            let sum: f64 = raw.iter().sum();
            let fixed = |weight: &f64| {
                let share = if sum == 0.0 { *weight } else { weight / sum };
                (share * one).round() as i32
            };
            Window { first, weights: raw.iter().map(fixed).collect() }
        })
        .collect()
}

fn nearest(picture: &Picture, width: usize, height: usize) -> Picture {
    let across = places(picture.width, width);
    let down = places(picture.height, height);
    let mut pixels = Vec::with_capacity(width * height);
    for y in down {
        let row = &picture.pixels[y * picture.width..][..picture.width];
        pixels.extend(across.iter().map(|&x| row[x]));
    }
    Picture { width, height, pixels }
}

/// The source place of each target place. Added up step by step, as the reference does.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are below 2^24, places are above zero"
)]
fn places(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut place = step * 0.5;
    (0..to)
        .map(|_| {
            let this = (place as usize).min(from - 1);
            place += step;
            this
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(values: &[u8]) -> Vec<[u8; 3]> {
        values.iter().map(|&v| [v; 3]).collect()
    }

    #[test]
    fn scales_as_pillow() {
        let check = |from: &[u8], filter, expected: &[u8]| {
            let row = Picture { width: from.len(), height: 1, pixels: grey(from) };
            assert_eq!(resized(&row, expected.len(), 1, filter).pixels, grey(expected), "{filter:?}");
            let column = Picture { width: 1, height: from.len(), pixels: grey(from) };
            assert_eq!(resized(&column, 1, expected.len(), filter).pixels, grey(expected), "{filter:?}");
        };
        // Expected values are Pillow's.
        let row = [10, 200, 30, 0, 255, 90, 17];
        check(&row, Filter::Nearest, &[200, 0, 90]);
        check(&row, Filter::Nearest, &[10, 200, 200, 30, 0, 0, 255, 90, 90, 17]);
        check(&row, Filter::Box, &[105, 95, 54]);
        check(&row, Filter::Box, &[10, 200, 200, 30, 0, 0, 255, 90, 90, 17]);
        check(&row, Filter::Bilinear, &[96, 84, 99]);
        check(&row, Filter::Bilinear, &[10, 114, 158, 38, 10, 89, 247, 131, 57, 17]);
        check(&row, Filter::Hamming, &[106, 70, 83]);
        check(&row, Filter::Hamming, &[10, 127, 187, 31, 6, 49, 254, 103, 62, 17]);
        check(&row, Filter::Bicubic, &[90, 91, 99]);
        check(&row, Filter::Bicubic, &[0, 122, 180, 36, 0, 85, 255, 135, 45, 13]);
        check(&row, Filter::Lanczos, &[81, 98, 101]);
        check(&row, Filter::Lanczos, &[0, 124, 193, 41, 0, 96, 255, 152, 30, 15]);
    }

    #[test]
    fn codes_are_pillows() {
        let codes: Vec<_> = (0..7).map(Filter::of_code).collect();
        let all = [
            Filter::Nearest,
            Filter::Lanczos,
            Filter::Bilinear,
            Filter::Bicubic,
            Filter::Box,
            Filter::Hamming,
        ];
        assert_eq!(codes[..6], all.map(Some));
        assert_eq!(codes[6], None);
    }
}
