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

/// The corners of the same rectangle, clockwise, beginning where the reference begins.
pub(crate) fn corners_around(pixels: &[Pixel]) -> Quad {
    let hull = convex_hull(pixels);
    if hull.len() > 2 {
        best_fit(&hull).map_or([hull[0]; 4], |fit| fit.corners().0)
    } else {
        around(pixels).corners
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

/// One side of the best rectangle lies on an edge of the hull, so each edge is tried.
fn least_area(hull: &[Point]) -> Rectangle {
    best_fit(hull).map_or(Rectangle { corners: [hull[0]; 4], short_side: 0.0 }, |fit| {
        let (corners, short_side) = fit.corners();
        Rectangle { corners: named(corners), short_side }
    })
}

fn best_fit(hull: &[Point]) -> Option<Fit> {
    let edges = hull.iter().zip(hull.iter().cycle().skip(1));
    let mut fits: Vec<Fit> = edges.map(|(&from, &to)| Fit::on_edge(hull, from, to)).collect();
    // Of equal areas the last wins: the steepest, of parallel edges the one turned most.
    fits.sort_by(|p, q| 0.0_f64.total_cmp(&(cross(p.edge, q.edge) + 0.0)).then(p.turns.cmp(&q.turns)));
    fits.into_iter().reduce(|best, fit| if fit.area() <= best.area() { fit } else { best })
}

/// A rectangle around the hull with one side on an edge. `along` is the edge's direction, turned by right
/// angles until it points right and down: y ≥ 0. `edge` is the same at the edge's length,
/// after so many `turns`.
struct Fit {
    edge: Point,
    turns: usize,
    along: Point,
    corner: Point,
    width: f32,
    height: f32,
}

impl Fit {
    /// For an edge of a hull that turns left where y points up.
    fn on_edge(hull: &[Point], from: Point, to: Point) -> Self {
        let (mut edge, mut turns) = (Point::new(to.x - from.x, to.y - from.y), 0);
        // An upright edge on the right stays: the reference's calipers come to it last.
        let right = edge.x == 0.0 && edge.y > 0.0;
        while !(right || (edge.x > 0.0 && edge.y >= 0.0)) {
            edge = Point::new(edge.y, -edge.x);
            turns += 1;
        }
        let along = unit(edge);
        let (a, b) = (along.x, along.y);
        // Whole numbers, so that what lies on one line with a parallel edge is seen to.
        let (x, y) = (f64::from(edge.x), f64::from(edge.y));
        let [left, right] = extremes(hull, |p| f64::from(p.x) * x + f64::from(p.y) * y);
        let [low, high] = extremes(hull, |p| f64::from(p.y) * x - f64::from(p.x) * y);
        // Where a side has two extreme points, the reference's calipers have come to the later one if they
        // took this side before the edge's or with it.
        let mut side = 0;
        let [low, right, high, left] = [low, right, high, left].map(|[earlier, later]| {
            side += 1;
            if side <= turns + 1 { later } else { earlier }
        });
        let width = (right.x - left.x) * a + (right.y - left.y) * b;
        let height = -(high.x - low.x) * b + (high.y - low.y) * a;
        // Where the side through `left` meets the side through `low`.
        let c1 = a * left.x + left.y * b;
        let c2 = -b * low.x + low.y * a;
        let scale = 1.0 / (a * a + b * b);
        let corner = Point::new((c1 * a - c2 * b) * scale, (a * c2 + b * c1) * scale);
        Self { edge, turns, along, corner, width, height }
    }

    fn area(&self) -> f32 {
        self.width * self.height
    }

    /// The corners and the shorter side, by way of centre, size and angle, as the reference goes: the
    /// detour's rounding is part of the result.
    #[expect(clippy::cast_possible_truncation, reason = "single precision is what the reference uses")]
    fn corners(&self) -> (Quad, f32) {
        let Self { along, corner, width, height, .. } = *self;
        let side = Point::new(along.x * width, along.y * width);
        let other = Point::new(-along.y * height, along.x * height);
        let centre = Point::new(corner.x + (side.x + other.x) * 0.5, corner.y + (side.y + other.y) * 0.5);
        let length = |p: Point| (f64::from(p.x).powi(2) + f64::from(p.y).powi(2)).sqrt() as f32;
        // The angle is told from −90° to 0°, so what lies along it is the other side.
        let (w, h) = (length(other), length(side));
        let turned = f64::from(side.y).atan2(f64::from(side.x)) * 180.0 / std::f64::consts::PI - 90.0;
        let angle = f64::from(turned as f32) * std::f64::consts::PI / 180.0;
        let (b, a) = (angle.cos() as f32 * 0.5, angle.sin() as f32 * 0.5);
        // The order of the operations is part of the result as well.
        let Point { x, y } = centre;
        let corners = [
            Point::new(x - a * h - b * w, y + b * h - a * w),
            Point::new(x + a * h - b * w, y - b * h - a * w),
            Point::new(x + a * h + b * w, y - b * h + a * w),
            Point::new(x - a * h + b * w, y + b * h + a * w),
        ];
        (corners, w.min(h))
    }
}

/// A vector of length one in the direction of `edge`.
#[expect(clippy::cast_possible_truncation, reason = "single precision is what the reference uses")]
fn unit(edge: Point) -> Point {
    let inverse_length = (1.0 / (f64::from(edge.x).powi(2) + f64::from(edge.y).powi(2)).sqrt()) as f32;
    Point::new(edge.x * inverse_length, edge.y * inverse_length)
}

/// Above zero when `q` is steeper than `p`. Exact: edges are whole numbers.
fn cross(p: Point, q: Point) -> f64 {
    f64::from(p.x) * f64::from(q.y) - f64::from(p.y) * f64::from(q.x)
}

/// The points with the least and with the greatest value: where two have it, the earlier and the later
/// in the order of the hull, else one twice.
fn extremes(hull: &[Point], value: impl Fn(&Point) -> f64) -> [[Point; 2]; 2] {
    // Without negative zeros, which are another value in the total order.
    let values: Vec<f64> = hull.iter().map(|p| value(p) + 0.0).collect();
    let with = |extreme: f64| {
        let mut found = (0..hull.len()).filter(|&i| values[i].total_cmp(&extreme).is_eq());
        let first = found.next().unwrap_or(0);
        match found.next() {
            Some(second) if second == first + 1 => [hull[first], hull[second]],
            // The hull's end and its beginning.
            Some(second) => [hull[second], hull[first]],
            None => [hull[first]; 2],
        }
    };
    [
        values.iter().copied().fold(f64::INFINITY, f64::min),
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    ]
    .map(with)
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
    #[expect(clippy::unreadable_literal, reason = "printed by OpenCV, to be compared with it")]
    fn corners_are_the_references_to_the_last_bit() {
        // Expected values are OpenCV 5.0's (`cv2.boxPoints(cv2.minAreaRect(…))`).
        check(
            &[(28, 99), (25, 53), (174, 11), (220, 9), (240, 260), (47, 207), (34, 135)],
            [[21.953438, 23.115265], [219.86816, 7.345168], [240.00003, 260.0], [42.085297, 275.77008]],
            198.54204,
        );
        check(
            &[(326, 461), (329, 457), (543, 457), (552, 458), (552, 486), (534, 487), (329, 487), (326, 484)],
            [[325.99994, 457.0], [551.99994, 457.0], [551.99994, 487.0], [325.99994, 487.0]],
            29.999996,
        );
        check(
            &[(408, 285), (413, 284), (486, 284), (486, 314), (484, 315), (408, 315)],
            [[408.0, 284.0], [486.0, 284.0], [486.0, 315.0], [408.0, 315.0]],
            31.0,
        );
        check(
            &[(616, 764), (659, 763), (725, 763), (985, 764), (985, 773), (803, 773), (628, 772), (616, 771)],
            [[616.00543, 762.58075], [985.0346, 764.00006], [984.99725, 773.6999], [615.9681, 772.2806]],
            9.699928,
        );
        check(
            &[(154, 763), (405, 763), (407, 769), (407, 778), (180, 778), (154, 777)],
            [[153.99998, 762.99994], [406.99994, 762.99994], [406.99994, 777.99994], [153.99998, 777.99994]],
            14.999998,
        );
        check(
            &[(167, 168), (110, 290), (93, 28)],
            [[93.0, 27.999996], [157.64389, 23.805546], [174.64389, 285.80554], [110.0, 290.0]],
            64.779816,
        );
        check(
            &[(134, 641), (135, 630), (162, 630), (163, 670), (163, 759), (158, 763), (134, 763)],
            [[133.99998, 629.99994], [162.99998, 629.99994], [162.99998, 762.99994], [133.99998, 762.99994]],
            28.999996,
        );
        check(
            &[(599, 429), (599, 409), (623, 409), (623, 427), (618, 429)],
            [[599.0, 409.0], [623.0, 409.0], [623.0, 429.0], [599.0, 429.0]],
            20.0,
        );
        check(
            &[(623, 421), (666, 419), (724, 419), (728, 423), (728, 453), (727, 456), (666, 456), (623, 455)],
            [[622.99994, 419.0], [727.99994, 419.0], [727.99994, 456.0], [622.99994, 456.0]],
            36.999992,
        );
        check(
            &[(346, 491), (346, 481), (357, 481), (365, 482), (365, 492), (363, 493), (357, 493), (347, 492)],
            [[346.0, 481.0], [365.0, 481.0], [365.0, 493.0], [346.0, 493.0]],
            12.0,
        );
        check(
            &[(153, 596), (165, 596), (176, 597), (179, 598), (179, 608), (167, 608), (156, 607), (153, 606)],
            [[153.0, 596.0], [179.0, 596.0], [179.0, 608.0], [153.0, 608.0]],
            12.0,
        );
        check(
            &[(279, 262), (279, 258), (520, 258), (520, 263), (280, 263)],
            [[279.0, 258.0], [520.0, 258.0], [520.0, 263.0], [279.0, 263.0]],
            5.0,
        );
        check(
            &[(706, 327), (715, 324), (755, 324), (758, 342), (758, 370), (756, 375), (712, 375), (706, 369)],
            [[706.0, 324.0], [758.0, 324.0], [758.0, 375.0], [706.0, 375.0]],
            51.0,
        );
    }

    proptest! {
        #[test]
        fn every_pixel_is_inside(pixels in prop::collection::vec((0i32..400, 0i32..400), 3..40)) {
            let found = around(&pixels);
            let [tl, tr, br, bl] = found.corners;
            for &(x, y) in &pixels {
                for (from, to) in [(tl, tr), (tr, br), (br, bl), (bl, tl)] {
                    let (across, down) = (f64::from(x) - f64::from(from.x), f64::from(y) - f64::from(from.y));
                    let side = f64::from(to.x - from.x) * down - f64::from(to.y - from.y) * across;
                    prop_assert!(side >= -0.5, "{pixels:?} {found:?}");
                }
            }
        }
    }
}
