//! Orientation: which crops are upside down.

use super::resize::write_planes;
use crate::tasks::picture::Picture;

/// The size that crops are looked at.
pub(crate) const HEIGHT: usize = 48;
/// See [`HEIGHT`].
pub(crate) const WIDTH: usize = 192;
/// The most crops in one run.
pub(crate) const BATCH: usize = 6;
/// A crop is turned when the model is surer than this.
const THRESHOLD: f32 = 0.9;

/// The tensor for some crops.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are far below 2^52 and above zero"
)]
pub(crate) fn tensor(crops: &[Picture]) -> Vec<f32> {
    let slot = 3 * HEIGHT * WIDTH;
    let mut values = vec![0.0; crops.len() * slot];
    for (crop, slot) in crops.iter().zip(values.chunks_exact_mut(slot)) {
        let width = ((HEIGHT * crop.width) as f64 / crop.height as f64).ceil() as usize;
        write_planes(crop, [width.clamp(1, WIDTH), HEIGHT], slot, WIDTH);
    }
    values
}

/// Whether each crop is upside down, by the probabilities of the classes 0° and 180°.
pub(crate) fn upside_down(probabilities: &[f32]) -> Vec<bool> {
    probabilities.chunks_exact(2).map(|p| p[1] > p[0] && p[1] > THRESHOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sure_are_turned() {
        assert_eq!(upside_down(&[0.9, 0.1, 0.2, 0.8, 0.05, 0.95]), [false, false, true]);
    }

    #[test]
    fn long_crops_are_squeezed() {
        let crop = Picture { width: 960, height: 48, pixels: vec![[255; 3]; 960 * 48] };
        assert!(tensor(&[crop]).iter().all(|&v| v > 0.99));
    }
}
