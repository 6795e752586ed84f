//! From the recognition model's logits to text, and how sure it is.

use unicode_bidi::BidiInfo;

/// What the classes of a recognition model mean: class 0 is the blank, the others are characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Characters {
    characters: Vec<char>,
}

/// Text, and how sure the model is of it, 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The text.
    pub text: String,
    /// The probability of all of its characters together, flattened for their number.
    pub confidence: f64,
}

impl Characters {
    /// The characters of the classes from 1 on.
    #[must_use]
    pub fn new(characters: &str) -> Self {
        Self { characters: characters.chars().collect() }
    }

    /// The number of classes, with the blank.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.characters.len() + 1
    }

    /// Reads one crop's logits, [`Characters::classes`] a step: the likeliest class of each step, the
    /// `ignored` ones taken for impossible; repeats and blanks are left out.
    #[must_use]
    pub fn decode(&self, logits: &[f32], ignored: &[usize]) -> Reading {
        let (mut text, mut previous) = (String::new(), 0);
        let (mut product, mut count) = (1.0_f32, 0_u32);
        let mut step = Vec::with_capacity(self.classes());
        for values in logits.chunks_exact(self.classes()) {
            step.clear();
            step.extend_from_slice(values);
            let (class, probability) = likeliest(&mut step, ignored);
            if class != 0 {
                // Every step counts, a repeated one as well.
                product *= probability;
                count += 1;
                if class != previous {
                    text.push(self.characters[class - 1]);
                }
            }
            previous = class;
        }
        let confidence =
            if count == 0 { 0.0 } else { f64::from(product).powf(2.0 / f64::from(count).sqrt()) };
        Reading { text, confidence }
    }
}

/// Text in the order that it is spoken, from the order that it is seen in from left to right: the models
/// of Arabic script answer what they see.
#[must_use]
pub fn logical(seen: &str) -> String {
    let text = BidiInfo::new(seen, None);
    text.paragraphs.iter().map(|paragraph| text.reorder_line(paragraph, paragraph.range.clone())).collect()
}

/// The likeliest class and its probability among those that are not ignored. `step` is scratch.
fn likeliest(step: &mut [f32], ignored: &[usize]) -> (usize, f32) {
    let most = step.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for value in step.iter_mut() {
        *value = (*value - most).exp();
    }
    let all: f32 = step.iter().sum();
    for value in step.iter_mut() {
        *value /= all;
    }
    for &class in ignored {
        step[class] = 0.0;
    }
    let left: f32 = step.iter().sum();
    let mut best = (0, f32::NEG_INFINITY);
    for (class, value) in step.iter().enumerate() {
        let value = value / left;
        if value > best.1 {
            best = (class, value);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &[[f32; 4]], ignored: &[usize], text: &str, confidence: f64) {
        let read = Characters::new("abc").decode(&steps.concat(), ignored);
        assert_eq!(read.text, text);
        assert!((read.confidence - confidence).abs() < 1e-6, "{read:?}");
    }

    /// Logits of a class with this probability, the others alike.
    fn step(class: usize, probability: f32) -> [f32; 4] {
        let mut step = [((1.0 - probability) / 3.0).ln(); 4];
        step[class] = probability.ln();
        step
    }

    #[test]
    fn repeats_and_blanks_are_left_out() {
        check(&[], &[], "", 0.0);
        check(&[step(0, 0.9), step(0, 0.9)], &[], "", 0.0);
        check(&[step(1, 0.5), step(0, 0.9), step(1, 0.5)], &[], "aa", 0.25_f64.powf(2.0 / 2.0_f64.sqrt()));
        check(&[step(2, 0.9), step(2, 0.8)], &[], "b", 0.72_f64.powf(2.0 / 2.0_f64.sqrt()));
    }

    #[test]
    fn what_is_seen_becomes_what_is_spoken() {
        // Expected values are python-bidi's (`get_display`), which EasyOCR uses.
        let check = |seen: &str, spoken: &str| assert_eq!(logical(seen), spoken);
        check("", "");
        check("abc 12", "abc 12");
        check(
            "\u{645}\u{627}\u{644}\u{633}\u{644}\u{627} 12",
            "12 \u{627}\u{644}\u{633}\u{644}\u{627}\u{645}",
        );
        check("abc \u{645}\u{627}\u{644}\u{633} 12 !", "abc 12 \u{633}\u{644}\u{627}\u{645} !");
    }

    #[test]
    fn ignored_classes_are_impossible() {
        // With "b" gone, the other three share 0.1: "a" has a third of what is left, as the blank has.
        let mut values = step(2, 0.9);
        values[1] += 0.5;
        let (a, rest) = (0.5_f64.exp(), 2.0);
        check(&[values], &[2], "a", (a / (a + rest)).powi(2));
    }

    #[test]
    fn what_is_no_number_is_no_text() {
        let read = Characters::new("abc").decode(&[f32::NAN; 4], &[]);
        assert_eq!((read.text.as_str(), read.confidence.to_bits()), ("", 0.0_f64.to_bits()));
    }
}
