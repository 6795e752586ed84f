//! From CRAFT's heat maps to one box for each piece of text.
//!
//! Pixels that are text, or that join text, are gathered into blobs; a blob grows by a share of its size
//! and gets the smallest rectangle around it (Y. Baek and others, "Character Region Awareness for Text
//! Detection", 2019).

use crate::tasks::ocr::contours::Pixel;
use crate::tasks::ocr::plane::{Point, Quad};
use crate::tasks::ocr::rectangle;

/// Pixels above this are text.
const TEXT: f32 = 0.4;
/// Pixels above this join text.
const LINK: f32 = 0.4;
/// Blobs whose best pixel is below this are dropped.
const BEST_TEXT: f64 = 0.7;
/// Blobs with fewer pixels are dropped.
const LEAST_PIXELS: usize = 10;
/// A box whose sides differ by less than this share is taken for upright, whatever its angle.
const SQUARE: f64 = 0.1;
/// Pixels of the network's input to one of the maps.
const SHRINKAGE: f64 = 2.0;

/// The detector's output, one pair a pixel: how surely it is the middle of a character, and how surely
/// the middle between two characters of a word.
#[derive(Debug, Clone, Copy)]
pub struct HeatMaps<'a> {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// The pairs, row by row: 2 × width × height values.
    pub pairs: &'a [f32],
}

/// A box's corners, top left, top right, bottom right, bottom left, in whole pixels of a picture.
pub type Corners = [[i32; 2]; 4];

impl HeatMaps<'_> {
    fn text(&self, at: usize) -> f32 {
        self.pairs[2 * at]
    }

    fn is_text(&self, at: usize) -> bool {
        self.text(at) > TEXT
    }

    fn is_link(&self, at: usize) -> bool {
        self.pairs[2 * at + 1] > LINK
    }

    /// The boxes, in the pixels of a picture that was scaled by `ratio` for the detector.
    #[must_use]
    pub fn boxes(&self, ratio: f64) -> Vec<Corners> {
        let scale = 1.0 / ratio * SHRINKAGE;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounded to single precision, then cut to a pixel"
        )]
        let place = |value: f32| (f64::from(value) * scale) as f32 as i32;
        self.blobs()
            .iter()
            .filter(|blob| blob.pixels >= LEAST_PIXELS && f64::from(blob.best_text) >= BEST_TEXT)
            .map(|blob| blob.framed(self).map(|p| [place(p.x), place(p.y)]))
            .collect()
    }

    /// The 4-connected blobs of text and links, in raster order of their first pixels.
    fn blobs(&self) -> Vec<Blob> {
        let mut open: Vec<bool> =
            (0..self.width * self.height).map(|at| self.is_text(at) || self.is_link(at)).collect();
        let (mut blobs, mut waiting) = (Vec::new(), Vec::new());
        for start in 0..open.len() {
            if !std::mem::take(&mut open[start]) {
                continue;
            }
            let mut blob = Blob::new(start / self.width, start % self.width);
            waiting.push(start);
            while let Some(at) = waiting.pop() {
                let (x, y) = (at % self.width, at / self.width);
                blob.take(x, y, self.text(at), self.is_text(at));
                let neighbours = [
                    (x > 0).then(|| at - 1),
                    (x + 1 < self.width).then(|| at + 1),
                    (y > 0).then(|| at - self.width),
                    (y + 1 < self.height).then(|| at + self.width),
                ];
                waiting.extend(neighbours.into_iter().flatten().filter(|&n| std::mem::take(&mut open[n])));
            }
            blobs.push(blob);
        }
        blobs
    }
}

/// One blob: its bounds, and the outermost text pixels of each of its rows. Links join blobs and are not
/// part of their boxes.
struct Blob {
    pixels: usize,
    best_text: f32,
    left: usize,
    right: usize,
    top: usize,
    /// For each row from `top` on: the first and the last pixel of text.
    rows: Vec<Option<(usize, usize)>>,
}

impl Blob {
    /// Its first pixel in raster order is in its topmost row.
    fn new(top: usize, x: usize) -> Self {
        Self { pixels: 0, best_text: f32::NEG_INFINITY, left: x, right: x, top, rows: Vec::new() }
    }

    fn take(&mut self, x: usize, y: usize, text: f32, is_text: bool) {
        self.pixels += 1;
        self.best_text = self.best_text.max(text);
        (self.left, self.right) = (self.left.min(x), self.right.max(x));
        let row = y - self.top;
        if row >= self.rows.len() {
            self.rows.resize(row + 1, None);
        }
        if is_text {
            let (from, to) = self.rows[row].unwrap_or((x, x));
            self.rows[row] = Some((from.min(x), to.max(x)));
        }
    }

    /// By how many pixels it grows, in all, across and down.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes of a map are far below 2^52 and above zero"
    )]
    fn growth(&self) -> usize {
        let (width, height) = (self.right - self.left + 1, self.rows.len());
        (((self.pixels * width.min(height)) as f64 / (width * height) as f64).sqrt() * 2.0) as usize
    }

    /// The outermost pixels of the blob as it has grown, inside the map. The odd pixel goes to the right
    /// and down.
    fn outline(&self, width: usize, height: usize) -> Vec<Pixel> {
        let growth = self.growth();
        let after = growth.div_ceil(2);
        let before = growth - after;
        let last = self.top + self.rows.len() - 1;
        let mut outline = Vec::new();
        for y in self.top.saturating_sub(before)..=(last + after).min(height - 1) {
            // Rows whose pixels have grown into this one.
            let from = y.saturating_sub(after).max(self.top) - self.top;
            let to = (y + before).min(last) - self.top;
            let spans = || self.rows[from..=to].iter().flatten();
            let (Some(left), Some(right)) = (spans().map(|s| s.0).min(), spans().map(|s| s.1).max()) else {
                continue;
            };
            outline.push(pixel(left.saturating_sub(before), y));
            outline.push(pixel((right + after).min(width - 1), y));
        }
        outline
    }

    fn framed(&self, maps: &HeatMaps<'_>) -> Quad {
        let outline = self.outline(maps.width, maps.height);
        let mut corners = rectangle::corners_around(&outline);
        let [a, b, c, _] = corners;
        let (one, other) = (f64::from(a.distance(b)), f64::from(b.distance(c)));
        let ratio = one.max(other) / (one.min(other) + 1e-5);
        if (1.0 - ratio).abs() <= SQUARE {
            corners = upright(&outline);
        }
        // The corner nearest to the top left goes first.
        let sum = |p: &Point| p.x + p.y;
        let mut first = 0;
        for (index, corner) in corners.iter().enumerate() {
            if sum(corner) < sum(&corners[first]) {
                first = index;
            }
        }
        corners.rotate_left(first);
        corners
    }
}

#[expect(clippy::cast_precision_loss, reason = "positions on a map are below 2^24")]
fn upright(outline: &[Pixel]) -> Quad {
    let least = |values: &dyn Fn(&Pixel) -> i32| outline.iter().map(values).min().unwrap_or(0) as f32;
    let most = |values: &dyn Fn(&Pixel) -> i32| outline.iter().map(values).max().unwrap_or(0) as f32;
    let (left, right) = (least(&|p| p.0), most(&|p| p.0));
    let (top, bottom) = (least(&|p| p.1), most(&|p| p.1));
    [[left, top], [right, top], [right, bottom], [left, bottom]].map(|[x, y]| Point::new(x, y))
}

/// Maps are far smaller than `i32`: their pictures are.
fn pixel(x: usize, y: usize) -> Pixel {
    let whole = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    (whole(x), whole(y))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws `#` as text, `-` as link, `+` as faint text.
    fn boxes(rows: &[&str], ratio: f64) -> Vec<Corners> {
        let pairs: Vec<f32> = rows
            .iter()
            .flat_map(|row| row.bytes())
            .flat_map(|b| match b {
                b'#' => [0.9, 0.0],
                b'+' => [0.5, 0.0],
                b'-' => [0.0, 0.9],
                _ => [0.0, 0.0],
            })
            .collect();
        HeatMaps { width: rows[0].len(), height: rows.len(), pairs: &pairs }.boxes(ratio)
    }

    fn upright(left: i32, top: i32, right: i32, bottom: i32) -> Corners {
        [[left, top], [right, top], [right, bottom], [left, bottom]]
    }

    #[test]
    fn a_word_grows_and_comes_back_to_the_picture() {
        let rows = [
            "....................",
            "....................",
            "....................",
            "....................",
            "....######--######..",
            "....######--######..",
            "....................",
            "....................",
            "....................",
        ];
        // 28 pixels, 14 by 2: grows by 2, one to each side.
        let expected = upright(6, 6, 36, 12);
        assert_eq!(boxes(&rows, 1.0), [expected]);
        assert_eq!(boxes(&rows, 0.5), [expected.map(|p| p.map(|v| 2 * v))]);
    }

    #[test]
    fn faint_and_small_blobs_are_dropped() {
        assert!(boxes(&["++++++++++++", "++++++++++++"], 1.0).is_empty());
        assert!(boxes(&["#########...", "............"], 1.0).is_empty());
        assert!(boxes(&["------------", "------------"], 1.0).is_empty());
        assert_eq!(boxes(&["##########..", "............"], 1.0).len(), 1);
    }

    #[test]
    fn links_join_and_are_not_framed() {
        let rows = [
            "................",
            "..####----......",
            "..####----......",
            "..####----......",
            "................",
        ];
        // 24 pixels, 8 by 3: grows by 3, 1 before and 2 after, to the map's last row.
        assert_eq!(boxes(&rows, 1.0), [upright(2, 0, 14, 8)]);
    }
}
