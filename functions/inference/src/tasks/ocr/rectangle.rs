//! The smallest rectangle, at any angle, around a set of pixels.
//!
//! Every step is in single precision and in the reference's order of operations, so that corners come
//! out alike to the last bit: [`super::unclip`] cuts them to integers.

use super::contours::Pixel;
use super::plane::{Point, Quad};

/// A rectangle's corners and its shorter side, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rectangle {
    /// Top left, top right, bottom right, bottom left.
    pub(crate) corners: Quad,
    /// The length of the shorter side.
    pub(crate) short_side: f32,
}

/// The rectangle of least area around `pixels`.
pub(crate) fn around(pixels: &[Pixel]) -> Rectangle {
    let hull = convex_hull(pixels);
    match hull[..] {
        [] => Rectangle { corners: [Point::new(0.0, 0.0); 4], short_side: 0.0 },
        [only] => Rectangle { corners: [only; 4], short_side: 0.0 },
        [a, b] => Rectangle { corners: named([a, b, b, a]), short_side: 0.0 },
        _ => least_area(&hull),
    }
}

/// The convex hull's corners, in order, without points on its edges (Andrew's monotone chain).
fn convex_hull(pixels: &[Pixel]) -> Vec<Point> {
    let mut sorted = pixels.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() > 2 {
        let mut hull = half_hull(sorted.iter().copied());
        let upper = half_hull(sorted.iter().rev().copied());
        hull.pop();
        hull.extend_from_slice(&upper[..upper.len() - 1]);
        sorted = hull;
    }
    #[expect(clippy::cast_precision_loss, reason = "picture coordinates are below 2^24")]
    sorted.into_iter().map(|(x, y)| Point::new(x as f32, y as f32)).collect()
}

fn half_hull(pixels: impl Iterator<Item = Pixel>) -> Vec<Pixel> {
    let mut chain: Vec<Pixel> = Vec::new();
    for p in pixels {
        while let [.., a, b] = chain[..] {
            let turn =
                i64::from(b.0 - a.0) * i64::from(p.1 - b.1) - i64::from(b.1 - a.1) * i64::from(p.0 - b.0);
            if turn > 0 {
                break;
            }
            chain.pop();
        }
        chain.push(p);
    }
    chain
}

/// One side of the best rectangle lies on an edge of the hull, so each edge's direction is tried.
fn least_area(hull: &[Point]) -> Rectangle {
    let mut directions: Vec<Point> =
        hull.iter().zip(hull.iter().cycle().skip(1)).map(|(&from, &to)| direction(from, to)).collect();
    // Of equals the steepest is taken: sorted from flat to steep, the last one wins.
    directions.sort_by(|p, q| q.y.total_cmp(&p.y));
    let mut best: Option<(f32, Fit)> = None;
    for along in directions {
        let fit = Fit::of(hull, along);
        let area = fit.width * fit.height;
        if best.as_ref().is_none_or(|(least, _)| area <= *least) {
            best = Some((area, fit));
        }
    }
    best.map_or(Rectangle { corners: [hull[0]; 4], short_side: 0.0 }, |(_, fit)| fit.rectangle())
}

/// An edge's unit direction, turned by right angles until it points right and up: x ≥ 0 and y < 0.
fn direction(from: Point, to: Point) -> Point {
    let (dx, dy) = (f64::from(to.x) - f64::from(from.x), f64::from(to.y) - f64::from(from.y));
    #[expect(clippy::cast_possible_truncation, reason = "single precision is what the reference uses")]
    let inverse_length = (1.0 / (dx * dx + dy * dy).sqrt()) as f32;
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers of pixels")]
    let mut unit = Point::new(dx as f32 * inverse_length, dy as f32 * inverse_length);
    while !(unit.x >= 0.0 && unit.y < 0.0) {
        unit = Point::new(unit.y, -unit.x);
    }
    unit
}

/// A rectangle around the hull with one side along a direction.
struct Fit {
    along: Point,
    corner: Point,
    width: f32,
    height: f32,
}

impl Fit {
    fn of(hull: &[Point], along: Point) -> Self {
        let (a, b) = (along.x, along.y);
        let on_width = |p: &Point| p.x * a + p.y * b;
        let on_height = |p: &Point| -p.x * b + p.y * a;
        let (left, right) = extremes(hull, on_width);
        let (low, high) = extremes(hull, on_height);
        let width = (right.x - left.x) * a + (right.y - left.y) * b;
        let height = -(high.x - low.x) * b + (high.y - low.y) * a;
        // Where the side through `left` meets the side through `low`.
        let c1 = a * left.x + left.y * b;
        let c2 = -b * low.x + low.y * a;
        let scale = 1.0 / (a * a + b * b);
        let corner = Point::new((c1 * a - c2 * b) * scale, (a * c2 + b * c1) * scale);
        Self { along, corner, width, height }
    }

    /// By way of centre, size and angle, as the reference goes: the detour's rounding is part of the
    /// result.
    #[expect(clippy::cast_possible_truncation, reason = "single precision is what the reference uses")]
    fn rectangle(&self) -> Rectangle {
        let Self { along, corner, width, height } = *self;
        let side = Point::new(along.x * width, along.y * width);
        let other = Point::new(-along.y * height, along.x * height);
        let centre = Point::new(corner.x + (side.x + other.x) * 0.5, corner.y + (side.y + other.y) * 0.5);
        let length = |p: Point| (f64::from(p.x).powi(2) + f64::from(p.y).powi(2)).sqrt() as f32;
        let (w, h) = (length(side), length(other));
        let degrees = (f64::from(f64::from(side.y).atan2(f64::from(side.x)) as f32) * 180.0
            / std::f64::consts::PI) as f32;
        let angle = f64::from(degrees) * std::f64::consts::PI / 180.0;
        let (b, a) = (angle.cos() as f32 * 0.5, angle.sin() as f32 * 0.5);
        let p0 = Point::new(centre.x - a * h - b * w, centre.y + b * h - a * w);
        let p1 = Point::new(centre.x + a * h - b * w, centre.y - b * h - a * w);
        let opposite = |p: Point| Point::new(2.0 * centre.x - p.x, 2.0 * centre.y - p.y);
        Rectangle { corners: named([p0, p1, opposite(p0), opposite(p1)]), short_side: w.min(h) }
    }
}

/// The points with the least and the greatest value.
fn extremes(points: &[Point], value: impl Fn(&Point) -> f32) -> (Point, Point) {
    let (mut least, mut greatest) = (points[0], points[0]);
    for p in points {
        if value(p) < value(&least) {
            least = *p;
        }
        if value(p) > value(&greatest) {
            greatest = *p;
        }
    }
    (least, greatest)
}

/// Orders corners as top left, top right, bottom right, bottom left: the two leftmost are the left side.
fn named(mut corners: [Point; 4]) -> Quad {
    corners.sort_by(|p, q| p.x.total_cmp(&q.x));
    let [a, b, c, d] = corners;
    let (top_left, bottom_left) = if b.y > a.y { (a, b) } else { (b, a) };
    let (top_right, bottom_right) = if d.y > c.y { (c, d) } else { (d, c) };
    [top_left, top_right, bottom_right, bottom_left]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pixels: &[Pixel], corners: [[f32; 2]; 4], short_side: f32) {
        let found = around(pixels);
        assert_eq!(found.corners.map(|p| [p.x, p.y]), corners, "{pixels:?}");
        assert_eq!(found.short_side.to_bits(), short_side.to_bits(), "{pixels:?}");
    }

    #[test]
    fn corners_are_opencvs_to_the_last_bit() {
        //FIXTURES
    }

    proptest! {
        #[test]
        fn every_pixel_is_inside(pixels in prop::collection::vec((0i32..400, 0i32..400), 3..40)) {
            let found = around(&pixels);
            let [tl, tr, br, bl] = found.corners;
            for &(x, y) in &pixels {
                for (from, to) in [(tl, tr), (tr, br), (br, bl), (bl, tl)] {
                    let side = (to.x - from.x) * (y as f32 - from.y) - (to.y - from.y) * (x as f32 - from.x);
                    prop_assert!(side >= -0.5, "{pixels:?} {found:?}");
                }
            }
        }
    }
}
