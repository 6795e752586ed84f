//! The middle of a picture, as the image processors of transformers cut it.

use crate::tasks::picture::Picture;

/// The middle `width` × `height` pixels. What a smaller picture lacks is black.
pub(super) fn centre(picture: &Picture, width: usize, height: usize) -> Picture {
    let across = Span::middle(picture.width, width);
    let down = Span::middle(picture.height, height);
    let mut pixels = vec![[0; 3]; width * height];
    for row in 0..down.count {
        let from = (down.from + row) * picture.width + across.from;
        let to = (down.to + row) * width + across.to;
        pixels[to..to + across.count].copy_from_slice(&picture.pixels[from..from + across.count]);
    }
    Picture { width, height, pixels }
}

/// `count` pixels of one dimension: from where in the source to where in the cut.
struct Span {
    from: usize,
    to: usize,
    count: usize,
}

impl Span {
    fn middle(have: usize, want: usize) -> Self {
        if have >= want {
            return Self { from: (have - want) / 2, to: 0, count: want };
        }
        // Half of what lacks is before it, rounded up.
        Self { from: 0, to: (want - have).div_ceil(2), count: have }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_as_the_reference() {
        let check = |have: usize, want: usize, expected: &[u8]| {
            let pixels: Vec<[u8; 3]> = (1..=have).map(|v| [u8::try_from(v).unwrap(); 3]).collect();
            let row = centre(&Picture { width: have, height: 1, pixels: pixels.clone() }, want, 1);
            assert_eq!(row.pixels.iter().map(|p| p[0]).collect::<Vec<_>>(), expected);
            let column = centre(&Picture { width: 1, height: have, pixels }, 1, want);
            assert_eq!(column.pixels.iter().map(|p| p[0]).collect::<Vec<_>>(), expected);
        };
        check(5, 3, &[2, 3, 4]);
        check(4, 3, &[1, 2, 3]);
        check(3, 3, &[1, 2, 3]);
        // Expected values are transformers' (`center_crop`).
        check(2, 5, &[0, 0, 1, 2, 0]);
        check(3, 4, &[0, 1, 2, 3]);
        check(1, 4, &[0, 0, 1, 0]);
    }
}
