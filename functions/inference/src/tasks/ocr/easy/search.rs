//! A picture as CRAFT's input.

use crate::tasks::ocr::resize::resized;
use crate::tasks::picture::Picture;

/// Sides become multiples of this, which the network asks for.
const MULTIPLE: usize = 32;
/// Mean and spread of red, green and blue that the network was trained with, as shares of 255.
const MEANS: [f64; 3] = [0.485, 0.456, 0.406];
const SPREADS: [f64; 3] = [0.229, 0.224, 0.225];

/// The network's input, and the way back.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Three planes: red, green, blue.
    pub values: Vec<f32>,
    /// By what the picture's sides were multiplied.
    pub ratio: f64,
}

impl Search {
    /// Scales a picture so that its longer side is at most `canvas_size`, and pads it with black to the
    /// right and below.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sides are far below 2^52 and above zero"
    )]
    pub fn of(picture: &Picture, canvas_size: usize) -> Self {
        let ratio = ratio(picture.width, picture.height, canvas_size);
        // A picture that is thousands of times longer than wide keeps a pixel of width.
        let scaled_side = |side: usize| ((side as f64 * ratio) as usize).max(1);
        let scaled = resized(picture, scaled_side(picture.width), scaled_side(picture.height));
        let [width, height] = [scaled.width, scaled.height].map(|side| side.next_multiple_of(MULTIPLE));
        let mut values = Vec::with_capacity(3 * width * height);
        for ((mean, spread), channel) in MEANS.into_iter().zip(SPREADS).zip([2, 1, 0]) {
            let (mean, spread) = ((mean * 255.0) as f32, (spread * 255.0) as f32);
            let normalised = |value: u8| (f32::from(value) - mean) / spread;
            for row in scaled.pixels.chunks_exact(scaled.width) {
                values.extend(row.iter().map(|pixel| normalised(pixel[channel])));
                values.extend(std::iter::repeat_n(normalised(0), width - scaled.width));
            }
            values.extend(std::iter::repeat_n(normalised(0), width * (height - scaled.height)));
        }
        Self { width, height, values, ratio }
    }
}

/// By what the sides of a picture are multiplied for a canvas of this size: 1 at most.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sides are far below 2^52")]
pub fn ratio(width: usize, height: usize, canvas_size: usize) -> f64 {
    let longest = width.max(height);
    longest.min(canvas_size) as f64 / longest as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_fit_the_canvas_and_the_network() {
        let check = |(width, height): (usize, usize), canvas: usize, expected: (usize, usize), ratio: f64| {
            let picture = Picture { width, height, pixels: vec![[0; 3]; width * height] };
            let search = Search::of(&picture, canvas);
            assert_eq!((search.width, search.height), expected);
            assert!((search.ratio - ratio).abs() < 1e-12, "{}", search.ratio);
            assert_eq!(search.values.len(), 3 * search.width * search.height);
        };
        check((64, 32), 2560, (64, 32), 1.0);
        check((65, 31), 2560, (96, 32), 1.0);
        check((200, 100), 64, (64, 32), 0.32);
        check((3000, 2), 64, (64, 32), 64.0 / 3000.0);
    }

    #[test]
    fn planes_are_red_green_blue_and_padded_with_black() {
        let picture = Picture { width: 1, height: 1, pixels: vec![[0, 0, 255]] };
        let search = Search::of(&picture, 2560);
        #[expect(clippy::cast_possible_truncation, reason = "some thousands")]
        let at = |plane: usize, index: usize| (search.values[plane * 1024 + index] * 1000.0).round() as i32;
        assert_eq!([at(0, 0), at(1, 0), at(2, 0)], [2249, -2036, -1804]);
        assert_eq!([at(0, 1), at(1, 1), at(2, 1)], [-2118, -2036, -1804]);
    }
}
