//! From straightened crops to text: strips, and CTC decoding.

use super::resize::write_planes;
use crate::tasks::picture::Picture;

/// The height that crops are read at, in pixels.
pub(crate) const HEIGHT: usize = 48;
/// Crops are padded to at least this width, in pixels.
const LEAST_WIDTH: usize = 64;

/// Text and how sure the model is of it, 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The text.
    pub text: String,
    /// How sure the model is of it, 0 to 1.
    pub confidence: f64,
}

/// What the classes of the recognition model mean: blank, the character list, space.
#[derive(Debug)]
pub struct Alphabet {
    characters: Vec<String>,
}

impl Alphabet {
    /// From a list with one character a line.
    pub fn parse(list: &str) -> Self {
        let mut characters: Vec<String> = list.lines().map(str::to_owned).collect();
        characters.push(" ".to_owned());
        Self { characters }
    }

    /// The number of classes: the characters, space and blank.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.characters.len() + 1
    }

    /// Whether a character can be read.
    pub(crate) fn has(&self, character: char) -> bool {
        let mut buffer = [0; 4];
        let text: &str = character.encode_utf8(&mut buffer);
        self.characters.iter().any(|c| c == text)
    }

    /// Decodes one crop's class probabilities, `classes` a step: the best class of each step, repeats
    /// and blanks left out.
    #[must_use]
    pub fn decode(&self, steps: &[f32]) -> Reading {
        let mut text = String::new();
        let mut confidences = Vec::new();
        let mut previous = 0;
        for step in steps.chunks_exact(self.classes()) {
            let (class, probability) = best(step);
            if class != 0 && class != previous {
                text.push_str(&self.characters[class - 1]);
                confidences.push(rounded(f64::from(probability)));
            }
            previous = class;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most some thousand steps")]
        let mean = confidences.iter().sum::<f64>() / confidences.len().max(1) as f64;
        Reading { text, confidence: rounded(mean) }
    }
}

/// The first of the greatest values, with its index.
///
/// In two passes, the first over blocks whose columns the compiler can compare side by side: there are tens
/// of thousands of classes for each of a line's steps.
fn best(values: &[f32]) -> (usize, f32) {
    const COLUMNS: usize = 32;
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let (blocks, rest) = values.as_chunks::<COLUMNS>();
    let columns = blocks.iter().fold([f32::NEG_INFINITY; COLUMNS], |mut found, block| {
        for (found, &value) in found.iter_mut().zip(block) {
            *found = greater(*found, value);
        }
        found
    });
    let greatest = columns.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| greater(a, b));
    values.iter().position(|&value| value >= greatest).map_or((0, f32::NEG_INFINITY), |at| (at, greatest))
}

/// To five digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 1e5).round_ties_even() / 1e5
}

/// A crop as the network takes it: three planes of [`HEIGHT`] rows.
///
/// Each goes alone, in its own width. The reference runs six at a time, all padded to the width of the
/// widest and to 320 pixels at least: the time of a run goes with its width, so that is time for nothing.
pub(crate) struct Strip {
    pub(crate) width: usize,
    pub(crate) values: Vec<f32>,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are far below 2^52 and above zero"
)]
pub(crate) fn strip(crop: &Picture) -> Strip {
    let scaled = (HEIGHT as f64 * crop.width as f64 / crop.height as f64).ceil() as usize;
    let width = scaled.max(LEAST_WIDTH);
    let mut values = vec![0.0; 3 * HEIGHT * width];
    write_planes(crop, [scaled, HEIGHT], &mut values, width);
    Strip { width, values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_leaves_out_blanks_and_repeats() {
        let alphabet = Alphabet::parse("a\nb");
        assert_eq!(alphabet.classes(), 4); // blank, a, b, space
        let step = |class: usize, probability: f32| {
            let mut step = [0.0; 4];
            step[class] = probability;
            step
        };
        let check = |steps: &[[f32; 4]], text: &str, confidence: f64| {
            let expected = Reading { text: text.to_owned(), confidence };
            assert_eq!(alphabet.decode(&steps.concat()), expected);
        };
        check(&[], "", 0.0);
        check(&[step(0, 1.0), step(0, 1.0)], "", 0.0);
        check(&[step(1, 0.5), step(1, 0.9), step(0, 1.0), step(1, 1.0)], "aa", 0.75);
        check(&[step(1, 1.0), step(3, 0.5), step(2, 0.9)], "a b", 0.8);
    }

    #[test]
    fn the_first_of_the_greatest_wins() {
        let values: Vec<f32> = (0..100_u16).map(|i| f32::from(i * 7 % 64)).collect();
        assert_eq!(best(&values), (9, 63.0)); // and again at 73
        assert_eq!(best(&values[..9]), (8, 56.0));
        assert_eq!(best(&[]), (0, f32::NEG_INFINITY));
        assert_eq!(best(&[f32::NAN, 1.0, f32::NAN, 1.0]), (1, 1.0));
    }

    #[test]
    fn strips_are_as_wide_as_their_crops() {
        let strip = |width: usize| strip(&Picture { width, height: 48, pixels: vec![[255; 3]; width * 48] });
        assert_eq!([900, 100, 9].map(|width| strip(width).width), [900, 100, LEAST_WIDTH]);
        let narrow = strip(9).values;
        assert_eq!((narrow[8], narrow[9]), (1.0, 0.0), "white, then padding");
    }
}
