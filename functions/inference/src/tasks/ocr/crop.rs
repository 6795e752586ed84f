//! Cutting a text box out of a picture, straightened.

use super::plane::{Point, Quad};
use crate::tasks::picture::Picture;

/// Positions are rounded to this many steps a pixel before interpolation, as the reference does.
const STEPS: f64 = 32.0;

/// A crop this many times taller than wide is upright text, lying on its side to be read.
const TALL: f64 = 1.5;

/// What `quad` frames, as an upright picture; a tall one is turned left so that its text runs across.
/// `None` when the box is less than a pixel high or wide.
pub(crate) fn straightened(picture: &Picture, quad: &Quad) -> Option<Picture> {
    let [tl, tr, br, bl] = *quad;
    let width = whole(tl.distance(tr).max(br.distance(bl)));
    let height = whole(tl.distance(bl).max(tr.distance(br)));
    if width == 0 || height == 0 {
        return None;
    }
    let crop = warped(picture, &Projection::onto(quad, width, height), width, height);
    #[expect(clippy::cast_precision_loss, reason = "sides are far below 2^52")]
    let tall = height as f64 / width as f64 >= TALL;
    Some(if tall { crop.turned_left() } else { crop })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length in a picture")]
fn whole(length: f32) -> usize {
    length as usize
}

/// The projective map from a crop's pixels to the picture's: x = (ax + by + c) / (gx + hy + 1), y alike.
pub(crate) struct Projection([f64; 8]);

impl Projection {
    /// Maps the corners of a `width` × `height` crop onto those of `quad`.
    ///
    /// The closed form for a rectangle's source (P. Heckbert, "Fundamentals of texture mapping and image
    /// warping", 1989, section 2.2.3).
    #[expect(clippy::cast_precision_loss, reason = "sides are far below 2^52")]
    pub(crate) fn onto(quad: &Quad, width: usize, height: usize) -> Self {
        let [[x0, y0], [x1, y1], [x2, y2], [x3, y3]] = quad.map(|p: Point| [f64::from(p.x), f64::from(p.y)]);
        let (sx, sy) = (x0 - x1 + x2 - x3, y0 - y1 + y2 - y3);
        let (dx1, dx2, dy1, dy2) = (x1 - x2, x3 - x2, y1 - y2, y3 - y2);
        let determinant = dx1 * dy2 - dx2 * dy1;
        let (g, h) = ((sx * dy2 - dx2 * sy) / determinant, (dx1 * sy - sx * dy1) / determinant);
        let (w, t) = (width as f64, height as f64);
        Self([
            (x1 - x0 + g * x1) / w,
            (x3 - x0 + h * x3) / t,
            x0,
            (y1 - y0 + g * y1) / w,
            (y3 - y0 + h * y3) / t,
            y0,
            g / w,
            h / t,
        ])
    }

    /// The coefficients a to h in single precision.
    #[expect(clippy::cast_possible_truncation, reason = "that is what is asked for")]
    pub(crate) fn single_precision(&self) -> [f32; 8] {
        self.0.map(|value| value as f32)
    }

    /// The place in the picture of a crop's pixel, in steps of 1/[`STEPS`].
    #[expect(clippy::cast_possible_truncation, reason = "saturates; far outside is clamped to the edge")]
    fn place(&self, x: f64, y: f64) -> (i32, i32) {
        let Self([across @ .., down_x, down_y, down_1, depth_x, depth_y]) = self;
        let scale = STEPS / (depth_x * x + depth_y * y + 1.0);
        let steps = |value: f64| (value * scale).round_ties_even() as i32;
        (steps(across[0] * x + across[1] * y + across[2]), steps(down_x * x + down_y * y + down_1))
    }
}

/// Reads the crop by cubic interpolation; outside the picture its edge goes on.
#[expect(clippy::cast_precision_loss, reason = "sides are far below 2^52")]
fn warped(picture: &Picture, projection: &Projection, width: usize, height: usize) -> Picture {
    let weights: Vec<[f32; 4]> = (0_u8..32).map(|step| cubic(f32::from(step) / 32.0)).collect();
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let (px, py) = projection.place(x as f64, y as f64);
            pixels.push(interpolated(picture, (px, py), &weights));
        }
    }
    Picture { width, height, pixels }
}

fn interpolated(picture: &Picture, (px, py): (i32, i32), weights: &[[f32; 4]]) -> [u8; 3] {
    // Floor and remainder, also left of and above the picture.
    let (x, y) = (px >> 5, py >> 5);
    let (fx, fy) = ((px & 31).unsigned_abs() as usize, (py & 31).unsigned_abs() as usize);
    let at = |value: i32, end: usize| usize::try_from(value).unwrap_or(0).min(end - 1);
    if fx == 0 && fy == 0 {
        return picture.pixels[at(y, picture.height) * picture.width + at(x, picture.width)];
    }
    let mut sum = [0.0_f32; 3];
    for (dy, wy) in (-1..).zip(weights[fy]) {
        let row = at(y.saturating_add(dy), picture.height) * picture.width;
        for (dx, wx) in (-1..).zip(weights[fx]) {
            let pixel = picture.pixels[row + at(x.saturating_add(dx), picture.width)];
            for (total, value) in sum.iter_mut().zip(pixel) {
                *total += f32::from(value) * (wx * wy);
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
    sum.map(|v| v.round_ties_even().clamp(0.0, 255.0) as u8)
}

/// The weights of the four neighbours at fraction `t` past the second (cubic convolution, a = −0.75).
fn cubic(t: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let outer = |d: f32| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    let inner = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let (w0, w1, w2) = (outer(t + 1.0), inner(t), inner(1.0 - t));
    [w0, w1, w2, 1.0 - w0 - w1 - w2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Picture {
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| [u8::try_from(x).unwrap(), u8::try_from(y).unwrap(), 7]))
            .collect();
        Picture { width, height, pixels }
    }

    fn quad(corners: [[f32; 2]; 4]) -> Quad {
        corners.map(|[x, y]| Point::new(x, y))
    }

    #[test]
    fn an_upright_box_is_copied() {
        let crop =
            straightened(&gradient(50, 40), &quad([[10.0, 5.0], [40.0, 5.0], [40.0, 15.0], [10.0, 15.0]]))
                .unwrap();
        assert_eq!((crop.width, crop.height), (30, 10));
        for y in 0..10_u8 {
            for x in 0..30_u8 {
                assert_eq!(crop.pixels[usize::from(y) * 30 + usize::from(x)], [x + 10, y + 5, 7]);
            }
        }
    }

    #[test]
    fn a_tall_box_is_turned_left() {
        let crop =
            straightened(&gradient(50, 40), &quad([[10.0, 5.0], [20.0, 5.0], [20.0, 35.0], [10.0, 35.0]]))
                .unwrap();
        assert_eq!((crop.width, crop.height), (30, 10));
        // What was the top right is now the top left.
        assert_eq!(crop.pixels[0], [19, 5, 7]);
    }

    #[test]
    fn corners_of_a_slanted_box_land_on_corners() {
        let slanted = [(10_u16, 12_u16), (39, 5), (41, 20), (12, 27)];
        let projection = Projection::onto(&slanted.map(|(x, y)| Point::new(x.into(), y.into())), 30, 15);
        for ((x, y), corner) in [(0.0, 0.0), (30.0, 0.0), (30.0, 15.0), (0.0, 15.0)].into_iter().zip(slanted)
        {
            assert_eq!(projection.place(x, y), (i32::from(corner.0) * 32, i32::from(corner.1) * 32));
        }
    }

    #[test]
    fn a_box_without_extent_has_no_crop() {
        let line = quad([[1.0, 1.0], [9.0, 1.0], [9.0, 1.5], [1.0, 1.5]]);
        assert_eq!(straightened(&gradient(10, 10), &line), None);
    }

    #[test]
    fn weights_sum_to_one() {
        for step in 0_u8..32 {
            let sum: f32 = cubic(f32::from(step) / 32.0).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6);
        }
    }
}
