//! The steps that `preprocessor_config.json` asks for, in the order of transformers' image processors:
//! resize, cut out the middle, rescale, turn the channels around, normalise.

use std::path::Path;

use serde::Deserialize;

use super::crop;
use super::resample::{Filter, resized};
use crate::tasks::TaskError;
use crate::tasks::export::{self, ExportError};
use crate::tasks::picture::{MAX_PIXELS, Picture};

/// The largest side that is scaled to, in pixels.
const MOST: usize = 4096;

/// Below this side, processors with `crop_pct` resize to more than they keep; above, they resize to it.
const CROPPED_BELOW: usize = 384;

/// The steps.
#[derive(Debug)]
pub(super) struct Processor {
    resize: Option<(Size, Filter)>,
    crop: Option<[usize; 2]>,
    blue_first: bool,
    /// The value of each possible byte, for each channel in the order of the tensor.
    values: Box<[[f32; 256]; 3]>,
}

/// What a picture is scaled to, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// Width and height.
    Exact([usize; 2]),
    /// The shorter side; the other follows.
    Shortest(usize),
}

/// What is read of the file. Fields are those of transformers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own fields")]
struct Config {
    do_resize: Option<bool>,
    size: Option<SizeConfig>,
    resample: Option<u8>,
    do_center_crop: bool,
    crop_size: Option<SizeConfig>,
    crop_pct: Option<f64>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    rescale_offset: bool,
    do_normalize: Option<bool>,
    image_mean: Option<PerChannel>,
    image_std: Option<PerChannel>,
    include_top: bool,
    do_flip_channel_order: bool,
    do_pad: bool,
    do_thumbnail: bool,
    do_align_long_axis: bool,
    do_image_splitting: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum SizeConfig {
    Side(usize),
    Exact { height: usize, width: usize },
    Shortest { shortest_edge: usize },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum PerChannel {
    Same(f64),
    Each([f64; 3]),
}

impl PerChannel {
    fn each(self) -> [f64; 3] {
        match self {
            Self::Same(value) => [value; 3],
            Self::Each(values) => values,
        }
    }
}

impl Processor {
    /// `graph` is the width and height that the graph insists on.
    pub(super) fn open(path: Option<&Path>, graph: Option<[usize; 2]>) -> Result<Self, ExportError> {
        let config: Config = export::json(path)?;
        Self::of(&config, graph).map_err(|problem| {
            ExportError::content(path.unwrap_or(Path::new("preprocessor_config.json")), &problem)
        })
    }

    fn of(config: &Config, graph: Option<[usize; 2]>) -> Result<Self, String> {
        for (set, field) in [
            (config.do_pad, "do_pad"),
            (config.do_thumbnail, "do_thumbnail"),
            (config.do_align_long_axis, "do_align_long_axis"),
            (config.do_image_splitting, "do_image_splitting"),
        ] {
            if set {
                return Err(format!("{field} is true, and that step is not known here"));
            }
        }
        let (size, crop) = sizes(config, graph)?;
        let code = config.resample.unwrap_or(2);
        let filter = Filter::of_code(code)
            .ok_or_else(|| format!("resample is {code}, but Pillow's codes are 0 to 5"))?;
        let made = crop.or(match size {
            Some(Size::Exact(size)) => Some(size),
            Some(Size::Shortest(_)) | None => None,
        });
        match (graph, made) {
            (Some(want), Some(have)) if want != have => Err(format!(
                "it makes pictures of {}×{} pixels, but the graph takes {}×{}: set size, or do_center_crop and crop_size",
                have[0], have[1], want[0], want[1]
            )),
            (Some(want), None) => Err(format!(
                "it makes pictures of any size, but the graph takes {}×{}: set do_center_crop and crop_size",
                want[0], want[1]
            )),
            _ => Ok(Self {
                resize: size.map(|size| (size, filter)),
                crop,
                blue_first: config.do_flip_channel_order,
                values: values(config)?,
            }),
        }
    }

    /// A picture with the pixels that the graph gets.
    ///
    /// # Errors
    /// [`TaskError::TooLarge`] for a line of pixels: a fixed shorter side would make it larger than any
    /// picture may be.
    pub(super) fn prepared(&self, picture: &Picture) -> Result<Picture, TaskError> {
        let scaled = match self.resize {
            Some((size, filter)) => {
                let [width, height] = size.of(picture);
                if width.saturating_mul(height) as u64 > MAX_PIXELS {
                    return Err(TaskError::TooLarge(format!(
                        "a picture of {}×{} pixels would be scaled to {width}×{height}, the most is {MAX_PIXELS} in all: send one that is less narrow",
                        picture.width, picture.height
                    )));
                }
                resized(picture, width, height, filter)
            }
            None => picture.clone(),
        };
        Ok(match self.crop {
            Some([width, height]) => crop::centre(&scaled, width, height),
            None => scaled,
        })
    }

    /// Whether all pictures have the same size once they are prepared.
    pub(super) fn makes_one_size(&self) -> bool {
        self.crop.is_some() || matches!(self.resize, Some((Size::Exact(_), _)))
    }

    /// A prepared picture's values in the tensor's order of channels, one after another or (`together`)
    /// pixel by pixel.
    pub(super) fn write(&self, picture: &Picture, together: bool, values: &mut Vec<f32>) {
        // A picture has blue first.
        let source = |channel: usize| if self.blue_first { channel } else { 2 - channel };
        let value =
            |pixel: &[u8; 3], channel: usize| self.values[channel][usize::from(pixel[source(channel)])];
        if together {
            values.extend(picture.pixels.iter().flat_map(|pixel| [0, 1, 2].map(|c| value(pixel, c))));
        } else {
            for channel in 0..3 {
                values.extend(picture.pixels.iter().map(|pixel| value(pixel, channel)));
            }
        }
    }
}

impl Size {
    /// The width and height that a picture gets.
    fn of(self, picture: &Picture) -> [usize; 2] {
        match self {
            Self::Exact(size) => size,
            Self::Shortest(side) => {
                let [width, height] = [picture.width, picture.height];
                let (short, long) = (width.min(height), width.max(height));
                let other = side * long / short;
                if width <= height { [side, other] } else { [other, side] }
            }
        }
    }
}

/// What is scaled to, and what is cut out of it.
fn sizes(config: &Config, graph: Option<[usize; 2]>) -> Result<(Option<Size>, Option<[usize; 2]>), String> {
    let resize = config.do_resize.unwrap_or(true);
    let size = config.size.map(|size| bounded("size", size)).transpose()?;
    let crop_size = config.crop_size.map(|size| bounded("crop_size", size)).transpose()?;
    if let (true, Some(share)) = (resize, config.crop_pct) {
        return with_share(size, share);
    }
    let square = |size: Size| match size {
        Size::Exact(size) => size,
        Size::Shortest(edge) => [edge, edge],
    };
    let crop = if config.do_center_crop {
        let size = crop_size.or(size).map(square).or(graph);
        Some(size.ok_or("do_center_crop is true, but there is no crop_size")?)
    } else {
        None
    };
    // An old file says a single number: the shorter side where a cut follows, both sides where none does.
    let plain = |size: SizeConfig, parsed: Size| match size {
        SizeConfig::Side(_) if crop.is_none() => Size::Exact(square(parsed)),
        SizeConfig::Side(_) | SizeConfig::Exact { .. } | SizeConfig::Shortest { .. } => parsed,
    };
    let size = config.size.zip(size).map(|(said, parsed)| plain(said, parsed)).or(graph.map(Size::Exact));
    match (resize, size) {
        (true, None) => Err("there is no size: write \"size\": {\"height\": …, \"width\": …}".to_owned()),
        (true, Some(size)) => Ok((Some(size), crop)),
        (false, _) => Ok((None, crop)),
    }
}

/// As `ConvNextImageProcessor`: `crop_pct` is the share of the scaled picture that is kept.
fn with_share(size: Option<Size>, share: f64) -> Result<(Option<Size>, Option<[usize; 2]>), String> {
    let Some(Size::Shortest(edge)) = size else {
        return Err("crop_pct is there, but size has no shortest_edge".to_owned());
    };
    if !(0.1..=1.0).contains(&share) {
        return Err(format!("crop_pct is {share}, but it is a share from 0.1 to 1"));
    }
    if edge >= CROPPED_BELOW {
        return Ok((Some(Size::Exact([edge, edge])), None));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 3840")]
    #[expect(clippy::cast_precision_loss, reason = "below 384")]
    let scaled = (edge as f64 / share) as usize;
    Ok((Some(Size::Shortest(scaled)), Some([edge, edge])))
}

/// A size within bounds.
fn bounded(field: &str, size: SizeConfig) -> Result<Size, String> {
    let (size, sides) = match size {
        SizeConfig::Side(edge) | SizeConfig::Shortest { shortest_edge: edge } => {
            (Size::Shortest(edge), [edge, edge])
        }
        SizeConfig::Exact { height, width } => (Size::Exact([width, height]), [width, height]),
    };
    if sides.iter().any(|edge| !(1..=MOST).contains(edge)) {
        return Err(format!("{field} is {}×{}, but sides are 1 to {MOST} pixels", sides[0], sides[1]));
    }
    Ok(size)
}

/// What each byte becomes, in the reference's order and precision.
fn values(config: &Config) -> Result<Box<[[f32; 256]; 3]>, String> {
    let rescale = config.do_rescale.unwrap_or(true).then(|| config.rescale_factor.unwrap_or(1.0 / 255.0));
    let normalise = match (config.do_normalize, config.image_mean, config.image_std) {
        (Some(false), ..) | (None, None, None) => None,
        (Some(true) | None, Some(mean), deviation) => {
            Some((mean.each(), deviation.map_or([1.0; 3], PerChannel::each)))
        }
        (Some(true), None, _) | (None, None, Some(_)) => {
            return Err("do_normalize is true, but there is no image_mean".to_owned());
        }
    };
    if normalise.is_some_and(|(_, deviation)| deviation.contains(&0.0)) {
        return Err("image_std has a 0, by which nothing can be divided".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, reason = "tensors are of 32 bits")]
    let value = |channel: usize, byte: usize| {
        let byte = u8::try_from(byte).unwrap_or(u8::MAX);
        let mut value = match rescale {
            Some(factor) if config.rescale_offset => (f64::from(byte) * factor - 1.0) as f32,
            Some(factor) => (f64::from(byte) * factor) as f32,
            None => f32::from(byte),
        };
        if let Some((mean, deviation)) = normalise {
            value = (value - mean[channel] as f32) / deviation[channel] as f32;
            if config.include_top {
                value /= deviation[channel] as f32;
            }
        }
        value
    };
    Ok(Box::new(std::array::from_fn(|channel| std::array::from_fn(|byte| value(channel, byte)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(config: &str, graph: Option<[usize; 2]>) -> Result<Processor, String> {
        Processor::of(&serde_json::from_str(config).unwrap(), graph)
    }

    #[test]
    fn sizes_follow_the_file() {
        let check = |config: &str, picture: [usize; 2], scaled: [usize; 2], made: [usize; 2]| {
            let processor = processor(config, None).unwrap();
            let [width, height] = picture;
            let picture = Picture { width, height, pixels: vec![[7; 3]; width * height] };
            assert_eq!(
                processor.resize.map_or(picture_size(&picture), |(s, _)| s.of(&picture)),
                scaled,
                "{config}"
            );
            assert_eq!(picture_size(&processor.prepared(&picture).unwrap()), made, "{config}");
        };
        let picture_at = [90, 60];
        check(r#"{"size": {"height": 30, "width": 40}}"#, picture_at, [40, 30], [40, 30]);
        check(r#"{"size": 30}"#, picture_at, [30, 30], [30, 30]);
        check(r#"{"size": {"shortest_edge": 20}}"#, picture_at, [30, 20], [30, 20]);
        check(r#"{"size": {"shortest_edge": 20}}"#, [60, 91], [20, 30], [20, 30]);
        check(r#"{"size": 20, "do_center_crop": true, "crop_size": 16}"#, picture_at, [30, 20], [16, 16]);
        check(
            r#"{"size": {"shortest_edge": 20}, "do_center_crop": true, "crop_size": {"height": 16, "width": 24}}"#,
            picture_at,
            [30, 20],
            [24, 16],
        );
        check(r#"{"size": {"shortest_edge": 28}, "crop_pct": 0.875}"#, picture_at, [48, 32], [28, 28]);
        check(r#"{"size": {"shortest_edge": 384}, "crop_pct": 0.95}"#, picture_at, [384, 384], [384, 384]);
        check(r#"{"do_resize": false}"#, picture_at, picture_at, picture_at);
        check(
            r#"{"do_resize": false, "do_center_crop": true, "crop_size": 16}"#,
            picture_at,
            picture_at,
            [16, 16],
        );
    }

    #[test]
    fn a_line_of_pixels_is_refused_before_it_grows() {
        let config = r#"{"size": {"shortest_edge": 256}, "do_center_crop": true, "crop_size": 224}"#;
        let line = Picture { width: 1, height: 12_000, pixels: vec![[7; 3]; 12_000] };
        let refusal = processor(config, None).unwrap().prepared(&line).unwrap_err().to_string();
        assert!(refusal.contains("1×12000 pixels would be scaled to 256×3072000"), "{refusal}");
    }

    fn picture_size(picture: &Picture) -> [usize; 2] {
        [picture.width, picture.height]
    }

    #[test]
    fn values_follow_the_file() {
        let check = |config: &str, together: bool, expected: &[f32]| {
            let config = config.replacen('{', r#"{"do_resize": false, "#, 1).replace(", }", "}");
            let picture = Picture { width: 2, height: 1, pixels: vec![[0, 51, 255], [102, 0, 0]] };
            let mut values = Vec::new();
            processor(&config, None).unwrap().write(&picture, together, &mut values);
            assert_eq!(values.len(), expected.len());
            for (value, expected) in values.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-6, "{config}: {value}, not {expected}");
            }
        };
        check("{}", false, &[1.0, 0.0, 0.2, 0.0, 0.0, 0.4]);
        check("{}", true, &[1.0, 0.2, 0.0, 0.0, 0.0, 0.4]);
        check(
            r#"{"do_rescale": false, "do_flip_channel_order": true}"#,
            true,
            &[0.0, 51.0, 255.0, 102.0, 0.0, 0.0],
        );
        check(
            r#"{"image_mean": [0.5, 0.2, 0.0], "image_std": [0.5, 0.1, 2.0]}"#,
            true,
            &[1.0, 0.0, 0.0, -1.0, -2.0, 0.2],
        );
        check(r#"{"image_mean": 0.5, "image_std": 0.5}"#, true, &[1.0, -0.6, -1.0, -1.0, -1.0, -0.2]);
        check(
            r#"{"do_rescale": false, "do_flip_channel_order": true, "image_mean": [104, 117, 123]}"#,
            true,
            &[-104.0, -66.0, 132.0, -2.0, -117.0, -123.0],
        );
        check(
            r#"{"rescale_factor": 0.0078431373, "rescale_offset": true}"#,
            true,
            &[1.0, -0.6, -1.0, -1.0, -1.0, -0.2],
        );
        check(r#"{"do_normalize": false, "image_mean": 9}"#, true, &[1.0, 0.2, 0.0, 0.0, 0.0, 0.4]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_naming_the_field() {
        let check = |config: &str, graph: Option<[usize; 2]>, part: &str| {
            let refusal = processor(config, graph).unwrap_err();
            assert!(refusal.contains(part), "{config}: {refusal}");
        };
        check("{}", None, "there is no size");
        check(r#"{"size": 8, "resample": 9}"#, None, "resample is 9");
        check(r#"{"size": 8, "do_pad": true}"#, None, "do_pad is true");
        check(r#"{"size": 0}"#, None, "size is 0×0");
        check(r#"{"size": 8, "do_center_crop": true, "crop_size": 5000}"#, None, "crop_size is 5000×5000");
        check(r#"{"size": 8, "do_normalize": true}"#, None, "no image_mean");
        check(r#"{"size": 8, "image_mean": 0, "image_std": [1, 0, 1]}"#, None, "image_std has a 0");
        check(
            r#"{"size": 8, "crop_pct": 0.9}"#,
            Some([9, 9]),
            "makes pictures of 8×8 pixels, but the graph takes 9×9",
        );
        check(r#"{"size": {"shortest_edge": 8}}"#, Some([8, 8]), "do_center_crop");
        assert!(serde_json::from_str::<Config>(r#"{"size": {"longest_edge": 8}}"#).is_err());
    }
}
