//! Points, quadrilaterals and bit masks: the vocabulary of the geometry files.

/// A point in pixels, y downwards. Single precision on purpose: the reference computes in it, and a
/// corner that it sees at 199.99998 is cut to 199 in [`super::unclip`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f32,
    pub(crate) y: f32,
}

impl Point {
    pub(crate) const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    /// The distance to `other`, in pixels.
    pub(crate) fn distance(self, other: Self) -> f32 {
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        (dx * dx + dy * dy).sqrt()
    }
}

/// A text box: top left, top right, bottom right, bottom left as the reader of the text sees them.
pub(crate) type Quad = [Point; 4];

/// A binary picture, one byte a pixel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) bits: Vec<bool>,
}

impl Mask {
    /// The pixels of a probability map that are above `threshold`.
    pub(crate) fn above(threshold: f32, width: usize, height: usize, probabilities: &[f32]) -> Self {
        Self { width, height, bits: probabilities.iter().map(|&p| p > threshold).collect() }
    }

    /// Grows every set pixel by one to the right and one down (a 2×2 kernel anchored at its last cell).
    #[must_use]
    pub(crate) fn dilated(&self) -> Self {
        let mut grown = self.clone();
        // Whole rows at a time: first by what is left, then by what is above, already grown to the right.
        for (row, source) in grown.rows_mut().zip(self.bits.chunks_exact(self.width)) {
            for (bit, left) in row[1..].iter_mut().zip(source) {
                *bit |= left;
            }
        }
        for y in (1..self.height).rev() {
            let (above, row) = grown.bits.split_at_mut(y * self.width);
            for (bit, over) in row.iter_mut().zip(&above[above.len() - self.width..]) {
                *bit |= over;
            }
        }
        grown
    }

    fn rows_mut(&mut self) -> impl Iterator<Item = &mut [bool]> {
        self.bits.chunks_exact_mut(self.width)
    }
}

#[cfg(test)]
impl Mask {
    /// A mask drawn with `#` for set pixels.
    pub(crate) fn drawn(rows: &[&str]) -> Self {
        let bits = rows.iter().flat_map(|r| r.bytes().map(|b| b == b'#')).collect();
        Self { width: rows[0].len(), height: rows.len(), bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dilation_grows_right_and_down_only() {
        let before = Mask::drawn(&["....", ".#..", "....", "...#"]);
        let after = Mask::drawn(&["....", ".##.", ".##.", "...#"]);
        assert_eq!(before.dilated(), after);
    }

    #[test]
    fn the_threshold_itself_is_below() {
        assert_eq!(Mask::above(0.3, 3, 1, &[0.2, 0.3, 0.31]).bits, [false, false, true]);
    }
}
