//! Crops as the recognition model's input: contrast, size, range and padding.

use super::bicubic;
use super::crops::Grey;

/// The width that a crop, as it was cut, is padded to: a multiple of the height.
///
/// The reference reads each crop in a run of its own, padded to its own width; so crops of the same
/// padded width, and only those, may share a run.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are far below 2^52 and above zero"
)]
pub fn padded_width(crop: &Grey, height: usize) -> usize {
    let ratio = crop.width as f64 / crop.height as f64;
    let long = if ratio < 1.0 { 1.0 / ratio } else { ratio };
    long.ceil() as usize * height
}

/// Writes a crop, that is already scaled by [`Grey::at_height`], into a slot of `width` × `height`
/// values from −1 to 1. Right of the crop its last column goes on.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are far below 2^52 and above zero"
)]
pub fn write(crop: &Grey, width: usize, height: usize, slot: &mut [f32]) {
    let ratio = crop.width as f64 / crop.height as f64;
    let scaled_width = ((height as f64 * ratio).ceil() as usize).clamp(1, width);
    let scaled = bicubic::resized(crop, scaled_width, height);
    for (row, source) in slot.chunks_exact_mut(width).zip(scaled.values.chunks_exact(scaled_width)) {
        for (value, &byte) in row.iter_mut().zip(source) {
            *value = (f32::from(byte) / 255.0 - 0.5) / 0.5;
        }
        let last = row[scaled_width - 1];
        row[scaled_width..].fill(last);
    }
}

/// A crop whose dark and bright parts differ by less than `target` (0 to 1), made to differ more.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
pub fn contrasted(crop: &Grey, target: f64) -> Grey {
    let mut sorted = crop.values.clone();
    sorted.sort_unstable();
    let (high, low) = (percentile(&sorted, 0.9), percentile(&sorted, 0.1));
    if (high - low) / (high + low).max(10.0) >= target {
        return crop.clone();
    }
    let ratio = 200.0 / (high - low).max(10.0);
    let stretched = |&v: &u8| ((f64::from(v) - low + 25.0) * ratio).clamp(0.0, 255.0) as u8;
    Grey { width: crop.width, height: crop.height, values: crop.values.iter().map(stretched).collect() }
}

/// The value below which this share of sorted values lies, between two by linear interpolation.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index, far below 2^52"
)]
fn percentile(sorted: &[u8], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = last as f64 * share;
    let (below, t) = (place.floor() as usize, place.fract());
    let (a, b) = (f64::from(sorted[below]), f64::from(sorted[(below + 1).min(last)]));
    if t >= 0.5 { b - (b - a) * (1.0 - t) } else { a + (b - a) * t }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, values: &[u8]) -> Grey {
        Grey { width, height, values: values.to_vec() }
    }

    #[test]
    fn widths_are_multiples_of_the_height() {
        let check = |width, height, expected| {
            assert_eq!(padded_width(&grey(width, height, &vec![0; width * height]), 64), expected);
        };
        check(64, 64, 64);
        check(65, 64, 128);
        check(130, 64, 192);
        check(64, 130, 192);
    }

    #[test]
    fn the_last_column_goes_on() {
        let mut slot = [9.0; 8];
        write(&grey(2, 2, &[0, 255, 255, 0]), 4, 2, &mut slot);
        let signs = slot.map(|v| (v >= 1.0, v <= -1.0));
        let (white, black) = ((true, false), (false, true));
        assert_eq!(signs, [black, white, white, white, white, black, black, black]);
    }

    #[test]
    fn faint_crops_get_contrast() {
        // Expected values are EasyOCR's (`adjust_contrast_grey(…, target=0.5)`).
        let faint = grey(5, 1, &[100, 110, 120, 130, 140]);
        assert_eq!(contrasted(&faint, 0.5).values, [131, 193, 255, 255, 255]);
        let strong = grey(5, 1, &[0, 60, 120, 180, 240]);
        assert_eq!(contrasted(&strong, 0.5), strong);
    }
}
