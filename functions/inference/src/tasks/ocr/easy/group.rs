//! From boxes to lines: level boxes that follow each other are merged, slanted ones stay as they are.
//!
//! The names of the constants' origins are the parameters of `easyocr.Reader.readtext`.

use super::boxes::Corners;

/// `slope_ths`: boxes whose upper and lower edge rise less than this, as height over width, are level.
const LEVEL: f64 = 0.1;
/// `ycenter_ths`: boxes of one line have centres no further apart than this share of their height.
const SAME_CENTRE: f64 = 0.5;
/// `height_ths`: merged boxes differ in height by less than this share.
const SAME_HEIGHT: f64 = 0.5;
/// `width_ths`: merged boxes are no further apart than this share of a height.
const NEAR: f64 = 0.5;
/// `add_margin`: boxes grow by this share of their shorter side.
const MARGIN: f64 = 0.1;
/// Slanted boxes grow by this much more.
const SLANTED: f64 = 1.44;
/// `min_size`: what is not longer than this is dropped, in pixels.
const LEAST_SIDE: i32 = 20;

/// A level line, in whole pixels of the picture, or beyond its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The first column.
    pub left: i32,
    /// The last column.
    pub right: i32,
    /// The first row.
    pub top: i32,
    /// The last row.
    pub bottom: i32,
}

/// The lines of a picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grouped {
    /// From top to bottom, in each row from left to right.
    pub level: Vec<Level>,
    /// Top left, top right, bottom right, bottom left, in pixels.
    pub slanted: Vec<[[f64; 2]; 4]>,
}

impl Level {
    fn around(corners: &Corners) -> Self {
        let (xs, ys) = (corners.map(|p| p[0]), corners.map(|p| p[1]));
        let least = |v: [i32; 4]| v.into_iter().fold(i32::MAX, i32::min);
        let most = |v: [i32; 4]| v.into_iter().fold(i32::MIN, i32::max);
        Self { left: least(xs), right: most(xs), top: least(ys), bottom: most(ys) }
    }

    fn width(self) -> i32 {
        self.right - self.left
    }

    fn height(self) -> i32 {
        self.bottom - self.top
    }

    fn centre(self) -> f64 {
        0.5 * f64::from(self.top + self.bottom)
    }

    fn joined(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            right: self.right.max(other.right),
            top: self.top.min(other.top),
            bottom: self.bottom.max(other.bottom),
        }
    }

    fn grown(self) -> Self {
        let margin = margin(MARGIN, f64::from(self.width().min(self.height())));
        Self {
            left: self.left - margin,
            right: self.right + margin,
            top: self.top - margin,
            bottom: self.bottom + margin,
        }
    }
}

/// Gathers boxes into lines.
#[must_use]
pub fn grouped(boxes: &[Corners]) -> Grouped {
    let (level, slanted): (Vec<&Corners>, Vec<&Corners>) = boxes.iter().partition(|b| is_level(b));
    let mut level: Vec<Level> = level.into_iter().map(Level::around).collect();
    level.sort_by(|a, b| a.centre().total_cmp(&b.centre()));
    let mut lines: Vec<Level> = rows(&level).into_iter().flat_map(merged).map(Level::grown).collect();
    lines.retain(|line| line.width().max(line.height()) > LEAST_SIDE);
    let mut slanted: Vec<[[f64; 2]; 4]> = slanted.into_iter().map(widened).collect();
    slanted.retain(|corners| extent(corners) > f64::from(LEAST_SIDE));
    Grouped { level: lines, slanted }
}

fn is_level(corners: &Corners) -> bool {
    let [tl, tr, br, bl] = *corners;
    let slope =
        |from: [i32; 2], to: [i32; 2]| f64::from(to[1] - from[1]) / f64::from((to[0] - from[0]).max(10));
    slope(tl, tr).abs().max(slope(bl, br).abs()) < LEVEL
}

/// Splits boxes, sorted by their centres, into rows.
fn rows(boxes: &[Level]) -> Vec<Vec<Level>> {
    let mut rows: Vec<Vec<Level>> = Vec::new();
    for &level in boxes {
        match rows.last_mut() {
            Some(row)
                if (mean(row, Level::centre) - level.centre()).abs()
                    < SAME_CENTRE * mean(row, |b| f64::from(b.height())) =>
            {
                row.push(level);
            }
            Some(_) | None => rows.push(vec![level]),
        }
    }
    rows
}

/// Merges the boxes of a row that follow each other closely.
fn merged(mut row: Vec<Level>) -> Vec<Level> {
    row.sort_by_key(|b| b.left);
    let mut lines: Vec<Vec<Level>> = Vec::new();
    for level in row {
        match lines.last_mut() {
            Some(line) if continues(line, level) => line.push(level),
            Some(_) | None => lines.push(vec![level]),
        }
    }
    lines.into_iter().filter_map(|line| line.into_iter().reduce(Level::joined)).collect()
}

fn continues(line: &[Level], next: Level) -> bool {
    let height = mean(line, |b| f64::from(b.height()));
    let end = line.last().map_or(next.left, |last| last.right);
    (height - f64::from(next.height())).abs() < SAME_HEIGHT * height
        && f64::from(next.left - end) < NEAR * f64::from(next.height())
}

#[expect(clippy::cast_precision_loss, reason = "a count of boxes is far below 2^52")]
fn mean(boxes: &[Level], value: impl Fn(Level) -> f64) -> f64 {
    boxes.iter().map(|&b| value(b)).sum::<f64>() / boxes.len() as f64
}

/// Moves the corners outwards along the diagonals.
fn widened(corners: &Corners) -> [[f64; 2]; 4] {
    let [tl, tr, br, bl] = corners.map(|p| p.map(f64::from));
    let length = |from: [f64; 2], to: [f64; 2]| {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        (dx * dx + dy * dy).sqrt()
    };
    let margin = f64::from(margin(SLANTED * MARGIN, length(tl, tr).min(length(tl, bl))));
    // The reference divides by at least 10 here as well, whatever the sign.
    let angle = |from: [f64; 2], to: [f64; 2]| ((from[1] - to[1]) / (from[0] - to[0]).max(10.0)).atan().abs();
    let (falling, rising) = (angle(tl, br), angle(tr, bl));
    [
        [tl[0] - falling.cos() * margin, tl[1] - falling.sin() * margin],
        [tr[0] + rising.cos() * margin, tr[1] - rising.sin() * margin],
        [br[0] + falling.cos() * margin, br[1] + falling.sin() * margin],
        [bl[0] - rising.cos() * margin, bl[1] + rising.sin() * margin],
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "a share of a side of a picture")]
fn margin(share: f64, side: f64) -> i32 {
    (share * side) as i32
}

/// The longer side of the upright box around these corners.
fn extent(corners: &[[f64; 2]; 4]) -> f64 {
    let span = |axis: usize| {
        let values = corners.map(|p| p[axis]);
        values.into_iter().fold(f64::MIN, f64::max) - values.into_iter().fold(f64::MAX, f64::min)
    };
    span(0).max(span(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upright([left, top, right, bottom]: [i32; 4]) -> Corners {
        [[left, top], [right, top], [right, bottom], [left, bottom]]
    }

    fn check(boxes: &[[i32; 4]], expected: &[[i32; 4]]) {
        let boxes: Vec<Corners> = boxes.iter().map(|&b| upright(b)).collect();
        let found = grouped(&boxes);
        let lines: Vec<[i32; 4]> = found.level.iter().map(|l| [l.left, l.top, l.right, l.bottom]).collect();
        assert_eq!(lines, expected, "{boxes:?}");
        assert!(found.slanted.is_empty());
    }

    #[test]
    fn words_of_a_line_are_merged() {
        check(&[], &[]);
        // Each grows by a tenth of its height.
        check(&[[100, 100, 200, 130]], &[[97, 97, 203, 133]]);
        // Out of order, and near: the gap is less than half a height.
        check(&[[210, 100, 300, 130], [100, 102, 200, 131]], &[[97, 97, 303, 134]]);
        // Too far, another height, another row.
        check(&[[100, 100, 200, 130], [220, 100, 300, 130]], &[[97, 97, 203, 133], [217, 97, 303, 133]]);
        check(&[[100, 100, 200, 130], [205, 90, 300, 140]], &[[97, 97, 203, 133], [200, 85, 305, 145]]);
        check(&[[205, 200, 300, 230], [100, 100, 200, 130]], &[[97, 97, 203, 133], [202, 197, 303, 233]]);
        // Small ones are dropped after they have grown.
        check(&[[10, 10, 28, 28], [50, 50, 71, 71]], &[[48, 48, 73, 73]]);
    }

    #[test]
    fn slanted_boxes_stay_and_grow_along_their_diagonals() {
        let found = grouped(&[[[100, 100], [200, 150], [180, 190], [80, 140]]]);
        assert!(found.level.is_empty());
        let [[x, y], ..] = found.slanted[0];
        assert!((92.0..100.0).contains(&x) && (92.0..100.0).contains(&y), "{x} {y}");
    }
}
