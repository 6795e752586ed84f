//! Cutting lines out of a picture, in grey and at the height that they are read at.

use super::group::Level;
use crate::tasks::ocr::crop::Projection;
use crate::tasks::ocr::plane::Point;
use crate::tasks::ocr::resize::resized;
use crate::tasks::picture::Picture;

/// A grey picture: one byte a pixel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grey {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// The brightness of each pixel.
    pub values: Vec<u8>,
}

impl Grey {
    /// The brightness of a colour picture (ITU-R BT.601, in the reference's 15-bit weights).
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        let grey = |[blue, green, red]: &[u8; 3]| {
            let sum = u32::from(*blue) * 3735 + u32::from(*green) * 19_235 + u32::from(*red) * 9798;
            u8::try_from((sum + (1 << 14)) >> 15).unwrap_or(u8::MAX)
        };
        let values = picture.pixels.iter().map(grey).collect();
        Self { width: picture.width, height: picture.height, values }
    }

    /// What a level line frames, inside the picture, with its corners; `None` when nothing of it is.
    #[must_use]
    pub fn cut(&self, line: Level) -> Option<([[f32; 2]; 4], Self)> {
        let inside = |value: i32, end: usize| usize::try_from(value).unwrap_or(0).min(end);
        let (left, right) = (inside(line.left, self.width), inside(line.right, self.width));
        let (top, bottom) = (inside(line.top, self.height), inside(line.bottom, self.height));
        if left >= right || top >= bottom {
            return None;
        }
        let rows = self.values.chunks_exact(self.width).take(bottom).skip(top);
        let values = rows.flat_map(|row| &row[left..right]).copied().collect();
        #[expect(clippy::cast_precision_loss, reason = "sides are below 2^24")]
        let corner = |x: usize, y: usize| [x as f32, y as f32];
        let corners = [corner(left, top), corner(right, top), corner(right, bottom), corner(left, bottom)];
        Some((corners, Self { width: right - left, height: bottom - top, values }))
    }

    /// What a slanted line frames, straightened by linear interpolation; outside the picture is black.
    /// `None` when it is less than two pixels high or wide.
    #[must_use]
    pub fn straightened(&self, corners: &[[f64; 2]; 4]) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "single precision is what the reference uses")]
        let quad = corners.map(|[x, y]| Point::new(x as f32, y as f32));
        let [tl, tr, br, bl] = quad;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length in a picture")]
        let whole = |one: f32, other: f32| (one as usize).max(other as usize);
        let width = whole(br.distance(bl), tr.distance(tl));
        let height = whole(tr.distance(br), tl.distance(bl));
        if width < 2 || height < 2 {
            return None;
        }
        let projection = Projection::onto(&quad, width - 1, height - 1).single_precision();
        let mut values = Vec::with_capacity(width * height);
        #[expect(clippy::cast_precision_loss, reason = "sides are below 2^24")]
        for y in 0..height {
            values.extend((0..width).map(|x| self.interpolated(projected(&projection, x as f32, y as f32))));
        }
        Some(Self { width, height, values })
    }

    fn interpolated(&self, [x, y]: [f32; 2]) -> u8 {
        let (left, above) = (x.floor(), y.floor());
        let (across, down) = (x - left, y - above);
        let row = |dy: f32| {
            let (one, other) = (self.at(left, above + dy), self.at(left + 1.0, above + dy));
            one + across * (other - one)
        };
        let (upper, lower) = (row(0.0), row(1.0));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates to a byte")]
        let value = (upper + down * (lower - upper)).round_ties_even() as u8;
        value
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "whole numbers, checked to be inside the picture"
    )]
    fn at(&self, x: f32, y: f32) -> f32 {
        if x >= 0.0 && y >= 0.0 && x < self.width as f32 && y < self.height as f32 {
            f32::from(self.values[y as usize * self.width + x as usize])
        } else {
            0.0
        }
    }

    /// Scaled to `height` at the same shape; upright text (taller than wide) to the *width* of `height`
    /// instead, as the reference does.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sides are far below 2^52 and above zero"
    )]
    pub fn at_height(&self, height: usize) -> Self {
        let ratio = self.width as f64 / self.height as f64;
        let long = |ratio: f64| (height as f64 * ratio) as usize;
        if ratio < 1.0 { self.scaled(height, long(1.0 / ratio)) } else { self.scaled(long(ratio), height) }
    }

    fn scaled(&self, width: usize, height: usize) -> Self {
        let pixels = self.values.iter().map(|&v| [v; 3]).collect();
        let picture = Picture { width: self.width, height: self.height, pixels };
        let scaled = resized(&picture, width, height);
        Self { width, height, values: scaled.pixels.iter().map(|p| p[0]).collect() }
    }
}

fn projected(coefficients: &[f32; 8], x: f32, y: f32) -> [f32; 2] {
    let [across_x, across_y, across_1, down_x, down_y, down_1, depth_x, depth_y] = coefficients;
    let depth = depth_x * x + depth_y * y + 1.0;
    [(across_x * x + across_y * y + across_1) / depth, (down_x * x + down_y * y + down_1) / depth]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Grey {
        let values =
            (0..height).flat_map(|y| (0..width).map(move |x| u8::try_from(x + 10 * y).unwrap())).collect();
        Grey { width, height, values }
    }

    #[test]
    fn brightness_is_the_references() {
        let check = |bgr: [u8; 3], expected: u8| {
            let picture = Picture { width: 1, height: 1, pixels: vec![bgr] };
            assert_eq!(Grey::of(&picture).values, [expected], "{bgr:?}");
        };
        // Expected values are OpenCV's (`cv2.cvtColor`, BGR to grey).
        check([0, 0, 0], 0);
        check([255, 255, 255], 255);
        check([255, 0, 0], 29);
        check([0, 255, 0], 150);
        check([0, 0, 255], 76);
        check([10, 100, 200], 120);
    }

    #[test]
    fn a_level_line_is_cut_inside_the_picture() {
        let grey = gradient(10, 5);
        let check = |[left, top, right, bottom]: [i32; 4], expected: Option<(usize, usize, u8)>| {
            let cut =
                grey.cut(Level { left, right, top, bottom }).map(|(_, c)| (c.width, c.height, c.values[0]));
            assert_eq!(cut, expected);
        };
        check([2, 1, 6, 3], Some((4, 2, 12)));
        check([-3, -2, 4, 2], Some((4, 2, 0)));
        check([8, 4, 20, 20], Some((2, 1, 48)));
        check([10, 0, 20, 5], None);
        check([2, -9, 6, -1], None);
    }

    #[test]
    fn a_slanted_line_is_straightened() {
        let grey = gradient(12, 10);
        let upright = grey.straightened(&[[2.0, 1.0], [6.0, 1.0], [6.0, 4.0], [2.0, 4.0]]).unwrap();
        // Four by three pixels are taken from five by four: corners go to corners.
        assert_eq!((upright.width, upright.height), (4, 3));
        assert_eq!(upright.values, [12, 13, 15, 16, 27, 28, 30, 31, 42, 43, 45, 46]);
        let outside = grey.straightened(&[[-9.0, -9.0], [-5.0, -9.0], [-5.0, -6.0], [-9.0, -6.0]]).unwrap();
        assert!(outside.values.iter().all(|&v| v == 0));
        assert_eq!(grey.straightened(&[[1.0, 1.0], [9.0, 1.0], [9.0, 2.5], [1.0, 2.5]]), None);
    }

    #[test]
    fn lines_come_to_one_height() {
        let size = |width, height| {
            let scaled = gradient(width, height).at_height(64);
            (scaled.width, scaled.height)
        };
        assert_eq!(size(40, 10), (256, 64));
        assert_eq!(size(13, 12), (69, 64));
        assert_eq!(size(10, 20), (64, 128));
    }
}
