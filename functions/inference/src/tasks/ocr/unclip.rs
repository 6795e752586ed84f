//! Growing a detected box: the detector is trained on shrunk text regions, so its boxes grow back by a
//! distance in proportion to their area over their circumference.

use super::contours::Pixel;
use super::plane::{Point, Quad};

/// How far a rounded corner's polygon may stay inside the true arc, in pixels. Clipper's default.
const ARC_TOLERANCE: f64 = 0.25;

/// The outline of `quad` moved outwards by area × `ratio` / circumference, with round corners, on whole
/// pixels.
///
/// The corners are cut to integers first, as Clipper's integer paths do in the reference; the distance is
/// that of the uncut box.
pub(crate) fn grown(quad: &Quad, ratio: f64) -> Vec<Pixel> {
    let distance = area(quad) * ratio / circumference(quad);
    let mut cut: Vec<[f64; 2]> =
        quad.iter().map(|p| [f64::from(p.x.trunc()), f64::from(p.y.trunc())]).collect();
    cut.dedup();
    if cut.len() > 1 && cut.first() == cut.last() {
        cut.pop();
    }
    if cut.len() < 3 || distance.is_nan() || distance <= 0.0 {
        return cut.iter().map(|p| pixel(p[0], p[1])).collect();
    }
    let arc = Arc::new(distance);
    let n = cut.len();
    let normals: Vec<[f64; 2]> = (0..n).map(|i| outward_normal(cut[i], cut[(i + 1) % n])).collect();
    let mut outline = Vec::new();
    for i in 0..n {
        arc.round(cut[i], normals[(i + n - 1) % n], normals[i], &mut outline);
    }
    outline
}

/// The arc that rounds a corner, as a rotation by a fixed step.
struct Arc {
    distance: f64,
    steps_per_radian: f64,
    sin: f64,
    cos: f64,
}

impl Arc {
    fn new(distance: f64) -> Self {
        let turn = 2.0 * std::f64::consts::PI;
        let tolerance = ARC_TOLERANCE.min(distance * ARC_TOLERANCE);
        let steps =
            (std::f64::consts::PI / (1.0 - tolerance / distance).acos()).min(distance * std::f64::consts::PI);
        let (sin, cos) = (turn / steps).sin_cos();
        Self { distance, steps_per_radian: steps / turn, sin, cos }
    }

    /// Adds the outline's points at `corner`, between the normals of the edges that meet there.
    fn round(&self, corner: [f64; 2], before: [f64; 2], after: [f64; 2], outline: &mut Vec<Pixel>) {
        let place = |normal: [f64; 2]| {
            pixel(corner[0] + normal[0] * self.distance, corner[1] + normal[1] * self.distance)
        };
        let sin = (before[0] * after[1] - after[0] * before[1]).clamp(-1.0, 1.0);
        let cos = before[0] * after[0] + before[1] * after[1];
        if (sin * self.distance).abs() < 1.0 && cos > 0.0 {
            outline.push(place(before));
            return;
        }
        if sin > 0.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at most some hundred"
            )]
            let steps = ((self.steps_per_radian * sin.atan2(cos).abs()).round() as usize).max(1);
            let mut normal = before;
            for _ in 0..steps {
                outline.push(place(normal));
                normal = [
                    normal[0] * self.cos - self.sin * normal[1],
                    normal[0] * self.sin + normal[1] * self.cos,
                ];
            }
        }
        outline.push(place(after));
    }
}

fn outward_normal(from: [f64; 2], to: [f64; 2]) -> [f64; 2] {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = (dx * dx + dy * dy).sqrt();
    [dy / length, -dx / length]
}

#[expect(clippy::cast_possible_truncation, reason = "pictures are far smaller than i32")]
fn pixel(x: f64, y: f64) -> Pixel {
    (x.round() as i32, y.round() as i32)
}

fn area(quad: &Quad) -> f64 {
    let crossed = |p: Point, q: Point| f64::from(p.x) * f64::from(q.y) - f64::from(q.x) * f64::from(p.y);
    let [a, b, c, d] = *quad;
    (crossed(a, b) + crossed(b, c) + crossed(c, d) + crossed(d, a)).abs() / 2.0
}

fn circumference(quad: &Quad) -> f64 {
    let length = |p: Point, q: Point| {
        let (dx, dy) = (f64::from(p.x) - f64::from(q.x), f64::from(p.y) - f64::from(q.y));
        (dx * dx + dy * dy).sqrt()
    };
    let [a, b, c, d] = *quad;
    length(a, b) + length(b, c) + length(c, d) + length(d, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quad(corners: [[f32; 2]; 4]) -> Quad {
        corners.map(|[x, y]| Point::new(x, y))
    }

    fn bounds(outline: &[Pixel]) -> (Pixel, Pixel) {
        let xs = || outline.iter().map(|p| p.0);
        let ys = || outline.iter().map(|p| p.1);
        ((xs().min().unwrap(), ys().min().unwrap()), (xs().max().unwrap(), ys().max().unwrap()))
    }

    #[test]
    fn a_box_grows_by_its_area_over_its_circumference() {
        // 100 × 30: 3000 × 1.6 / 260 = 18.46 pixels to each side.
        let flat = quad([[50.0, 50.0], [150.0, 50.0], [150.0, 80.0], [50.0, 80.0]]);
        assert_eq!(bounds(&grown(&flat, 1.6)), ((32, 32), (168, 98)));
    }

    #[test]
    fn corners_are_cut_not_rounded() {
        let almost = quad([[49.99998, 49.99998], [149.99998, 50.0], [150.0, 80.0], [50.0, 79.99998]]);
        // The cut box is the one from (49, 49) to (150, 80), though a rounded one would be from 50.
        assert_eq!(bounds(&grown(&almost, 1.6)).0, (31, 31));
    }

    #[test]
    fn what_has_no_area_does_not_grow() {
        let line = quad([[3.0, 3.0], [9.0, 3.0], [9.0, 3.0], [3.0, 3.0]]);
        assert_eq!(bounds(&grown(&line, 1.6)), ((3, 3), (9, 3)));
    }
}
