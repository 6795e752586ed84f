//! From the detector's probability map to text boxes (DB: M. Liao et al., "Real-time scene text detection
//! with differentiable binarization", 2020).

use super::contours::borders;
use super::plane::{Mask, Point, Quad};
use super::prepare::scaled;
use super::rectangle::{self, Rectangle};
use super::unclip::grown;

/// The detector gets pictures whose shorter side is at least this, in pixels.
const SHORT_SIDE: usize = 736;
/// The most pixels the detector gets. Only pictures more than 7 times taller than wide reach it; they
/// would cost gigabytes.
const MOST_PIXELS: usize = 2048 * 2048;
/// Pixels above this probability are text.
const PIXEL_THRESHOLD: f32 = 0.3;
/// Boxes below this mean probability are dropped.
const BOX_THRESHOLD: f64 = 0.5;
/// The most outlines that are looked at.
const MOST_BOXES: usize = 1000;
/// Boxes whose shorter side on the map is below this are dropped.
const LEAST_SIDE: f32 = 3.0;
/// See [`grown`].
const UNCLIP_RATIO: f64 = 1.6;

/// The detector's output: how probably each pixel is text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Map<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) probabilities: &'a [f32],
}

/// The size at which a picture of this width and height goes into the detector.
#[expect(clippy::cast_precision_loss, reason = "sides are far below 2^52")]
pub(crate) fn network_size(width: usize, height: usize) -> [usize; 2] {
    let short = width.min(height);
    let wanted = if short < SHORT_SIDE { SHORT_SIDE as f64 / short as f64 } else { 1.0 };
    let most = (MOST_PIXELS as f64 / (width as f64 * height as f64)).sqrt();
    scaled([width, height], wanted.min(most))
}

/// The text boxes of a map, in the pixels of the `width` × `height` picture that it was made from.
pub(crate) fn boxes(map: Map<'_>, width: usize, height: usize) -> Vec<Quad> {
    let mask = Mask::above(PIXEL_THRESHOLD, map.width, map.height, map.probabilities).dilated();
    borders(&mask, MOST_BOXES)
        .iter()
        .filter_map(|border| {
            let core = rectangle::around(border);
            if core.short_side < LEAST_SIDE || mean_probability(map, &core.corners) < BOX_THRESHOLD {
                return None;
            }
            let whole = rectangle::around(&grown(&core.corners, UNCLIP_RATIO));
            if whole.short_side < LEAST_SIDE + 2.0 {
                return None;
            }
            in_picture(&whole, map, width, height)
        })
        .collect()
}

/// A rectangle of the map as a box of the picture, or `None` if next to nothing is left of it.
#[expect(clippy::cast_precision_loss, reason = "sides are below 2^24")]
fn in_picture(rectangle: &Rectangle, map: Map<'_>, width: usize, height: usize) -> Option<Quad> {
    let place = |value: f32, from: usize, to: usize| {
        (value / from as f32 * to as f32).round_ties_even().clamp(0.0, to as f32)
    };
    let corners =
        rectangle.corners.map(|p| Point::new(place(p.x, map.width, width), place(p.y, map.height, height)));
    let inside =
        clockwise(corners).map(|p| Point::new(p.x.min(width as f32 - 1.0), p.y.min(height as f32 - 1.0)));
    let [tl, tr, _, bl] = inside;
    (tl.distance(tr) >= 4.0 && tl.distance(bl) >= 4.0).then_some(inside)
}

/// Corners anew as top left, top right, bottom right, bottom left: rounding may have changed who is who.
fn clockwise(mut corners: Quad) -> Quad {
    corners.sort_by(|p, q| p.x.total_cmp(&q.x));
    let [left, right] = [[corners[0], corners[1]], [corners[2], corners[3]]].map(|mut side| {
        side.sort_by(|p, q| p.y.total_cmp(&q.y));
        side
    });
    [left[0], right[0], right[1], left[1]]
}

/// The mean probability in a box, its outline included.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "positions are clamped to the map, which is below 2^24"
)]
fn mean_probability(map: Map<'_>, corners: &Quad) -> f64 {
    let clamp = |value: f32, end: usize| value.clamp(0.0, end as f32 - 1.0);
    let least = |values: [f32; 4]| values.into_iter().fold(f32::INFINITY, f32::min);
    let (xs, ys) = (corners.map(|p| p.x), corners.map(|p| p.y));
    let (x0, y0) = (clamp(least(xs).floor(), map.width), clamp(least(ys).floor(), map.height));
    // Cut to whole pixels relative to the box's own bounds, as the reference does.
    let outline = corners.map(|p| [f64::from((p.x - x0).trunc()), f64::from((p.y - y0).trunc())]);
    let last_row = outline.iter().fold(0.0, |last: f64, p| last.max(p[1]));
    let (mut sum, mut count) = (0.0, 0_u32);
    for row in 0..=(last_row as usize).min(map.height - 1 - y0 as usize) {
        let Some((from, to)) = covered(&outline, row as f64) else { continue };
        let start = (y0 as usize + row) * map.width;
        let columns = (x0 as usize + from.max(0.0) as usize)..=(x0 as usize + to.max(0.0) as usize);
        for x in columns.take_while(|x| *x < map.width) {
            sum += f64::from(map.probabilities[start + x]);
            count += 1;
        }
    }
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// The first and the last pixel of a row that a convex outline covers.
fn covered(outline: &[[f64; 2]; 4], row: f64) -> Option<(f64, f64)> {
    let mut span: Option<(f64, f64)> = None;
    for (i, &start) in outline.iter().enumerate() {
        let end = outline[(i + 1) % 4];
        let (upper, lower) = if start[1] <= end[1] { (start, end) } else { (end, start) };
        if row < upper[1] || row > lower[1] {
            continue;
        }
        // An edge touches, in this row, every pixel that it passes half a row up to half a row down.
        let at = |y: f64| {
            let share = (y.clamp(upper[1], lower[1]) - upper[1]) / (lower[1] - upper[1]);
            (upper[0] + share * (lower[0] - upper[0])).round()
        };
        let ends = if upper[1] < lower[1] { [at(row - 0.5), at(row + 0.5)] } else { [start[0], end[0]] };
        for x in ends {
            let (from, to) = span.unwrap_or((x, x));
            span = Some((from.min(x), to.max(x)));
        }
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(width: usize, height: usize) -> Vec<f32> {
        vec![0.0; width * height]
    }

    fn fill(map: &mut [f32], width: usize, [x0, y0, x1, y1]: [usize; 4], value: f32) {
        for y in y0..y1 {
            map[y * width + x0..y * width + x1].fill(value);
        }
    }

    fn found(probabilities: &[f32], map: (usize, usize), picture: (usize, usize)) -> Vec<[[f32; 2]; 4]> {
        boxes(Map { width: map.0, height: map.1, probabilities }, picture.0, picture.1)
            .into_iter()
            .map(|quad| quad.map(|p| [p.x, p.y]))
            .collect()
    }

    #[test]
    fn a_block_of_text_becomes_a_grown_box_in_picture_pixels() {
        let mut map = blank(200, 100);
        fill(&mut map, 200, [50, 40, 150, 60], 0.9);
        // 101 × 21 after dilation, seen as 100 × 20 between pixel centres: grows by 13.3 pixels.
        let expected = [[37.0, 27.0], [163.0, 27.0], [163.0, 73.0], [37.0, 73.0]];
        assert_eq!(found(&map, (200, 100), (200, 100)), [expected]);
        assert_eq!(found(&map, (200, 100), (400, 200)), [expected.map(|p| p.map(|v| v * 2.0))]);
    }

    #[test]
    fn faint_and_tiny_blobs_are_dropped() {
        let mut map = blank(200, 100);
        fill(&mut map, 200, [50, 40, 150, 60], 0.4);
        fill(&mut map, 200, [10, 10, 12, 12], 0.9);
        assert!(found(&map, (200, 100), (200, 100)).is_empty());
        assert!(found(&blank(64, 64), (64, 64), (64, 64)).is_empty());
    }

    #[test]
    fn boxes_stay_inside_the_picture() {
        let mut map = blank(100, 100);
        fill(&mut map, 100, [0, 0, 100, 100], 1.0);
        assert_eq!(
            found(&map, (100, 100), (100, 100)),
            [[[0.0, 0.0], [99.0, 0.0], [99.0, 99.0], [0.0, 99.0]]]
        );
    }

    #[test]
    fn network_sizes() {
        assert_eq!(network_size(640, 480), [992, 736]);
        assert_eq!(network_size(1000, 800), [992, 800]);
        let [width, height] = network_size(30, 2000);
        assert!(width * height < MOST_PIXELS * 11 / 10, "{width}×{height}");
    }

    #[test]
    fn rows_of_a_slanted_outline() {
        let diamond = [[5.0, 0.0], [10.0, 5.0], [5.0, 10.0], [0.0, 5.0]];
        assert_eq!(covered(&diamond, 5.0), Some((0.0, 10.0)));
        assert_eq!(covered(&diamond, 11.0), None);
        let (from, to) = covered(&diamond, 2.0).unwrap();
        assert!((2.0..=3.0).contains(&from) && (7.0..=8.0).contains(&to), "{from} {to}");
    }
}
