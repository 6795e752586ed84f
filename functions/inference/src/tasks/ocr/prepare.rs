//! Bringing a picture to a size the detector is good at, and boxes back to the picture as it came.

use std::borrow::Cow;

use super::plane::{Point, Quad};
use super::resize::resized;
use crate::tasks::picture::Picture;

/// Longer sides are scaled down to this, in pixels.
const LONGEST_SIDE: usize = 2000;
/// Shorter sides are scaled up to this, in pixels.
const SHORTEST_SIDE: usize = 30;
/// Wider pictures than this, as width over height, get black above and below: the detector misses text
/// that fills its picture's height.
const WIDEST: f64 = 8.0;
/// Sizes become multiples of this, which the networks ask for.
const MULTIPLE: usize = 32;

/// A picture as the detector sees it, and the way back.
pub(crate) struct Prepared<'a> {
    pub(crate) picture: Cow<'a, Picture>,
    ratio: [f32; 2],
    padding: usize,
    original: [f32; 2],
}

#[expect(clippy::cast_precision_loss, reason = "sides are below 2^24")]
pub(crate) fn prepared(picture: &Picture) -> Prepared<'_> {
    let [width, height] = bounded([picture.width, picture.height]);
    let scaled = resized(picture, width, height);
    let ratio = [picture.width as f32 / width as f32, picture.height as f32 / height as f32];
    let padding = padding(width, height);
    Prepared {
        picture: if padding > 0 { Cow::Owned(scaled.padded(padding)) } else { scaled },
        ratio,
        padding,
        original: [picture.width as f32, picture.height as f32],
    }
}

impl Prepared<'_> {
    /// A box of the prepared picture in the pixels of the original one.
    #[expect(clippy::cast_precision_loss, reason = "a padding is below 2^24")]
    pub(crate) fn original_box(&self, quad: &Quad) -> Quad {
        let [ratio_x, ratio_y] = self.ratio;
        let [width, height] = self.original;
        quad.map(|p| {
            Point::new(
                (p.x * ratio_x).clamp(0.0, width),
                ((p.y - self.padding as f32) * ratio_y).clamp(0.0, height),
            )
        })
    }
}

/// The size with its longest side at most [`LONGEST_SIDE`], then its shortest at least [`SHORTEST_SIDE`].
fn bounded(size: [usize; 2]) -> [usize; 2] {
    let longest = size[0].max(size[1]);
    let size = if longest > LONGEST_SIDE { scaled(size, ratio(LONGEST_SIDE, longest)) } else { size };
    let shortest = size[0].min(size[1]);
    if shortest < SHORTEST_SIDE { scaled(size, ratio(SHORTEST_SIDE, shortest)) } else { size }
}

#[expect(clippy::cast_precision_loss, reason = "sides are far below 2^52")]
fn ratio(to: usize, from: usize) -> f64 {
    to as f64 / from as f64
}

/// The size times `ratio`, each side brought to the nearest [`MULTIPLE`], one at least.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are far below 2^52 and above zero"
)]
pub(crate) fn scaled(size: [usize; 2], ratio: f64) -> [usize; 2] {
    size.map(|side| {
        let whole = (side as f64 * ratio) as usize;
        let multiples = (whole as f64 / MULTIPLE as f64).round_ties_even() as usize;
        multiples.max(1) * MULTIPLE
    })
}

/// The rows of black that a picture of this size gets above and below.
fn padding(width: usize, height: usize) -> usize {
    if height > SHORTEST_SIDE && ratio(width, height) <= WIDEST {
        return 0;
    }
    let target = 2 * SHORTEST_SIDE.max(width / 8);
    target.abs_diff(height) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_references() {
        let check = |size, expected| assert_eq!(bounded(size), expected, "{size:?}");
        check([640, 480], [640, 480]);
        check([4000, 3000], [1984, 1504]); // 2000 × 1500
        check([20, 100], [32, 160]); // 30 × 150, 4.69 multiples
        check([6000, 40], [1984, 32]); // 2000 × 13: never no multiple at all
    }

    #[test]
    fn wide_pictures_are_padded() {
        let check = |width, height, expected| assert_eq!(padding(width, height), expected);
        check(640, 480, 0);
        check(800, 100, 0);
        check(801, 100, 50);
        check(100, 30, 15);
    }

    #[test]
    fn boxes_come_back() {
        let picture = Picture { width: 900, height: 60, pixels: vec![[0; 3]; 900 * 60] };
        let prepared = prepared(&picture);
        assert_eq!(prepared.picture.height, 60 + 2 * 82);
        let corner = |x, y| Point::new(x, y);
        let quad = [corner(10.0, 92.0), corner(990.0, 92.0), corner(990.0, 200.0), corner(10.0, 50.0)];
        let back = prepared.original_box(&quad);
        assert_eq!(back, [corner(10.0, 10.0), corner(900.0, 10.0), corner(900.0, 60.0), corner(10.0, 0.0)]);
    }
}
