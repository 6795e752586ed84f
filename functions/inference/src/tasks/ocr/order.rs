//! Reading order: lines from top to bottom, in a line from left to right.

use super::plane::Quad;

/// Boxes whose tops are less than this many pixels below the one before are on its line.
const SAME_LINE: f32 = 10.0;

/// The boxes in reading order, by their top left corners.
pub(crate) fn reading_order(mut boxes: Vec<Quad>) -> Vec<Quad> {
    boxes.sort_by(|a, b| a[0].y.total_cmp(&b[0].y));
    let mut line = 0;
    let mut previous = None;
    let mut numbered: Vec<(usize, Quad)> = boxes
        .into_iter()
        .map(|quad| {
            if previous.replace(quad[0].y).is_some_and(|y| quad[0].y - y >= SAME_LINE) {
                line += 1;
            }
            (line, quad)
        })
        .collect();
    numbered.sort_by(|(m, a), (n, b)| m.cmp(n).then(a[0].x.total_cmp(&b[0].x)));
    numbered.into_iter().map(|(_, quad)| quad).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plane::Point;
    use super::*;

    fn check(tops: &[(f32, f32)], expected: &[(f32, f32)]) {
        let boxes = tops.iter().map(|&(x, y)| [Point::new(x, y); 4]).collect();
        let ordered: Vec<_> = reading_order(boxes).iter().map(|quad| (quad[0].x, quad[0].y)).collect();
        assert_eq!(ordered, expected);
    }

    #[test]
    fn lines_then_columns() {
        check(&[], &[]);
        check(&[(50.0, 9.0), (5.0, 0.0), (0.0, 19.5)], &[(5.0, 0.0), (50.0, 9.0), (0.0, 19.5)]);
        // A slanted line stays one line, step by step.
        check(&[(40.0, 0.0), (20.0, 9.0), (0.0, 18.0)], &[(0.0, 18.0), (20.0, 9.0), (40.0, 0.0)]);
    }
}
