//! Border following: the outlines of the blobs in a mask, and of the holes in them.
//!
//! S. Suzuki and K. Abe, "Topological structural analysis of digitized binary images by border
//! following" (1985), algorithm 1 without the hierarchy.

use super::plane::Mask;

/// A pixel position.
pub(crate) type Pixel = (i32, i32);

/// The eight neighbours, clockwise from the right.
const AROUND: [Pixel; 8] = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)];
const RIGHT: usize = 0;
const LEFT: usize = 4;

/// Every border of the mask's 8-connected blobs, outer ones and those of holes, in raster order of
/// their first pixel, at most `limit` of them.
pub(crate) fn borders(mask: &Mask, limit: usize) -> Vec<Vec<Pixel>> {
    let mut field = Field::new(mask);
    let mut found = Vec::new();
    for y in 0..mask.height {
        for x in 0..mask.width {
            let at = field.index(x, y);
            let label = field.labels[at];
            let from = if label == 1 && field.labels[at - 1] == 0 {
                LEFT
            } else if label >= 1 && field.labels[at + 1] == 0 {
                RIGHT
            } else {
                continue;
            };
            found.push(field.follow(at, from));
            if found.len() == limit {
                return found;
            }
        }
    }
    found
}

/// The mask with a frame of zeros, so that no neighbour is ever outside. A set pixel is 1 until a
/// border passes; then it has the border's number, negative where the border has zero to its right.
struct Field {
    stride: isize,
    labels: Vec<i32>,
    borders: i32,
}

impl Field {
    fn new(mask: &Mask) -> Self {
        let stride = mask.width + 2;
        let mut labels = vec![0; stride * (mask.height + 2)];
        for y in 0..mask.height {
            for x in 0..mask.width {
                labels[(y + 1) * stride + x + 1] = i32::from(mask.bits[y * mask.width + x]);
            }
        }
        Self { stride: stride.cast_signed(), labels, borders: 1 }
    }

    fn index(&self, x: usize, y: usize) -> usize {
        (y + 1) * self.stride.cast_unsigned() + x + 1
    }

    fn pixel(&self, at: usize) -> Pixel {
        let stride = self.stride.cast_unsigned();
        (pixel_coordinate(at % stride), pixel_coordinate(at / stride))
    }

    fn neighbour(&self, at: usize, direction: usize) -> usize {
        let (dx, dy) = AROUND[direction];
        at.wrapping_add_signed(dx as isize + dy as isize * self.stride)
    }

    /// Walks the border that starts at pixel `start`, where the neighbour in direction `from` is zero.
    fn follow(&mut self, start: usize, from: usize) -> Vec<Pixel> {
        self.borders += 1;
        let number = self.borders;
        let mut border = vec![self.pixel(start)];
        let first =
            (0..8).map(|turn| (from + turn) % 8).find(|&d| self.labels[self.neighbour(start, d)] != 0);
        let Some(first) = first else {
            self.labels[start] = -number;
            return border;
        };
        let last = self.neighbour(start, first);
        let (mut here, mut came_from) = (start, first);
        loop {
            let mut zero_to_the_right = false;
            let mut step = came_from;
            // Ends at the latest where it came from, which is set.
            for turn in 1..=8 {
                step = (came_from + 8 - turn) % 8;
                if self.labels[self.neighbour(here, step)] != 0 {
                    break;
                }
                zero_to_the_right |= step == RIGHT;
            }
            if zero_to_the_right {
                self.labels[here] = -number;
            } else if self.labels[here] == 1 {
                self.labels[here] = number;
            }
            let next = self.neighbour(here, step);
            if next == start && here == last {
                return border;
            }
            border.push(self.pixel(next));
            came_from = (step + 4) % 8;
            here = next;
        }
    }
}

/// Takes the frame off again. Pictures are far smaller than `i32`: [`super::picture`] sees to it.
fn pixel_coordinate(framed: usize) -> i32 {
    i32::try_from(framed).map_or(i32::MAX, |v| v - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(rows: &[&str], expected: &[&[Pixel]]) {
        let found: Vec<BTreeSet<Pixel>> =
            borders(&Mask::drawn(rows), 100).into_iter().map(|b| b.into_iter().collect()).collect();
        let expected: Vec<BTreeSet<Pixel>> = expected.iter().map(|b| b.iter().copied().collect()).collect();
        assert_eq!(found, expected, "{rows:#?}");
    }

    #[test]
    fn outlines_of_blobs_and_holes() {
        check(&["....", "...."], &[]);
        check(&["....", ".#.."], &[&[(1, 1)]]);
        check(&["##.#", "##.#"], &[&[(0, 0), (1, 0), (0, 1), (1, 1)], &[(3, 0), (3, 1)]]);
        // Diagonal neighbours are one blob.
        check(&["#..", ".#.", "..#"], &[&[(0, 0), (1, 1), (2, 2)]]);
        // A ring has an outer border and that of its hole, which leaves the ring's corners out.
        check(
            &["###", "#.#", "###"],
            &[
                &[(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)],
                &[(1, 0), (0, 1), (2, 1), (1, 2)],
            ],
        );
        // What lies in a hole is a blob of its own.
        check(
            &["#####", "#...#", "#.#.#", "#...#", "#####"],
            &[
                &[
                    (0, 0),
                    (1, 0),
                    (2, 0),
                    (3, 0),
                    (4, 0),
                    (4, 1),
                    (4, 2),
                    (4, 3),
                    (4, 4),
                    (3, 4),
                    (2, 4),
                    (1, 4),
                    (0, 4),
                    (0, 3),
                    (0, 2),
                    (0, 1),
                ],
                &[
                    (1, 0),
                    (2, 0),
                    (3, 0),
                    (4, 1),
                    (4, 2),
                    (4, 3),
                    (3, 4),
                    (2, 4),
                    (1, 4),
                    (0, 3),
                    (0, 2),
                    (0, 1),
                ],
                &[(2, 2)],
            ],
        );
    }

    #[test]
    fn the_limit_holds() {
        assert_eq!(borders(&Mask::drawn(&["#.#.#.#"]), 2).len(), 2);
    }
}
