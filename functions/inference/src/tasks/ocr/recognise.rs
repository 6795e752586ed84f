//! From straightened crops to text: batches by width, and CTC decoding.

use super::resize::resized;
use crate::tasks::picture::Picture;

/// The height that crops are read at, in pixels.
pub(crate) const HEIGHT: usize = 48;
/// Crops are padded to at least this width over height.
const LEAST_RATIO: f64 = 320.0 / 48.0;
/// The most crops in one run.
const BATCH: usize = 6;

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
fn best(values: &[f32]) -> (usize, f32) {
    let mut found = (0, f32::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > found.1 {
            found = (index, value);
        }
    }
    found
}

/// To five digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 1e5).round_ties_even() / 1e5
}

/// Crops that are read in one run: their positions in the caller's list, and the tensor.
pub(crate) struct Batch {
    pub(crate) members: Vec<usize>,
    pub(crate) width: usize,
    pub(crate) values: Vec<f32>,
}

/// Groups crops of like width, so that little of a run is padding.
pub(crate) fn batches(crops: &[Picture]) -> impl Iterator<Item = Batch> {
    let mut order: Vec<usize> = (0..crops.len()).collect();
    order.sort_by(|&a, &b| ratio(&crops[a]).total_cmp(&ratio(&crops[b])));
    let groups: Vec<Vec<usize>> = order.chunks(BATCH).map(<[usize]>::to_vec).collect();
    groups.into_iter().map(|members| batch(crops, members))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are far below 2^52 and above zero"
)]
fn batch(crops: &[Picture], members: Vec<usize>) -> Batch {
    let widest = members.iter().fold(LEAST_RATIO, |widest, &m| widest.max(ratio(&crops[m])));
    let width = (HEIGHT as f64 * widest) as usize;
    let slot = 3 * HEIGHT * width;
    let mut values = vec![0.0; members.len() * slot];
    for (&member, slot) in members.iter().zip(values.chunks_exact_mut(slot)) {
        let crop = &crops[member];
        let scaled_width = ((HEIGHT as f64 * ratio(crop)).ceil() as usize).min(width);
        resized(crop, scaled_width, HEIGHT).write_planes(slot, width);
    }
    Batch { members, width, values }
}

#[expect(clippy::cast_precision_loss, reason = "sides are far below 2^52")]
fn ratio(picture: &Picture) -> f64 {
    picture.width as f64 / picture.height as f64
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
    fn crops_of_like_width_share_a_batch() {
        let crop = |width: usize| Picture { width, height: 48, pixels: vec![[255; 3]; width * 48] };
        let crops: Vec<Picture> = [900, 100, 110, 120, 130, 140, 150].map(crop).into();
        let made: Vec<Batch> = batches(&crops).collect();
        assert_eq!(
            made.iter().map(|b| b.members.clone()).collect::<Vec<_>>(),
            [vec![1, 2, 3, 4, 5, 6], vec![0]]
        );
        assert_eq!(made.iter().map(|b| b.width).collect::<Vec<_>>(), [320, 900]);
        let narrowest = &made[0].values[..320];
        assert_eq!((narrowest[99], narrowest[100]), (1.0, 0.0), "white, then padding");
    }
}
