//! Text in pictures, as EasyOCR's models and pipeline read it.
//!
//! In the order of the work: [`search`] (size and range), CRAFT, [`boxes`], [`group`] (lines), [`crops`],
//! [`align`] (contrast, padding; with `bicubic`), a CRNN, [`decode`]. Everything but this file and
//! [`description`], which says what models a folder has, is pure.
//!
//! Constants and rounding follow Python `easyocr` 1.7.2 with its defaults, so that both read the same; the
//! test `easyocr` compares them step by step. Deliberately absent: the `DBNet` detector, beam search,
//! rotated readings and paragraphs, none of which EasyOCR does unless asked.

pub mod align;
mod bicubic;
pub mod boxes;
pub mod crops;
pub mod decode;
pub mod description;
pub mod group;
pub mod search;

use std::path::Path;

use larder_contract::Parameters;

use super::{Line, OcrError};
use crate::onnx::{Engine, Session};
use crate::tasks::TaskError;
use crate::tasks::picture::Picture;
use boxes::HeatMaps;
use crops::Grey;
use decode::{Characters, Reading};
use description::{Description, RecogniserFile};
use group::Grouped;
use search::Search;

/// `contrast_ths`: what is read less surely than this is read again with more contrast.
const UNSURE: f64 = 0.1;
/// `adjust_contrast`: the contrast that it gets then.
const CONTRAST: f64 = 0.5;
/// The most crops in one run.
const BATCH: usize = 8;
/// Columns of a run's crops together, unless one alone is wider.
const BATCH_WIDTH: usize = 8192;

/// The models of one EasyOCR folder, open.
#[derive(Debug)]
pub struct EasyModel {
    description: Description,
    detector: Session,
    recognisers: Vec<Recogniser>,
}

/// A recognition model, open.
#[derive(Debug)]
struct Recogniser {
    session: Session,
    characters: Characters,
}

/// A line's place, and its text in grey as it was cut.
struct Found {
    corners: [[f32; 2]; 4],
    crop: Grey,
}

impl EasyModel {
    /// Opens the models that a description names.
    ///
    /// # Errors
    /// [`OcrError`] when the description cannot be used, or a file not be opened or is no such model.
    pub fn open(engine: &Engine, description: &Path) -> Result<Self, OcrError> {
        let folder = description.parent().unwrap_or(Path::new(""));
        let description = Description::read(description)?;
        let detector = engine.open(&folder.join(&description.detector.file))?;
        detector.takes_one_picture()?;
        let recognisers = description
            .recognisers
            .iter()
            .map(|file| Recogniser::open(engine, folder, file))
            .collect::<Result<_, _>>()?;
        Ok(Self { description, detector, recognisers })
    }

    /// Reads the text of a picture as the parameters say, in EasyOCR's order: level lines from top to
    /// bottom, then slanted ones. Lines without text are left out.
    ///
    /// # Errors
    /// [`TaskError::Refused`] for parameters that these models cannot follow, else [`TaskError::Ocr`] when
    /// a model fails to run.
    pub fn answer(&mut self, picture: &Picture, parameters: &Parameters) -> Result<Vec<Line>, TaskError> {
        if parameters.orientation.unwrap_or(false) {
            let message = "parameter \"orientation\": EasyOCR's models do not tell which way up a line is; leave the parameter out";
            return Err(TaskError::Refused(message.to_owned()));
        }
        let languages = match parameters.languages.as_deref() {
            None | Some([]) => &self.description.default_languages,
            Some(asked) => asked,
        };
        let chosen = self.description.choice(languages).ok_or_else(|| self.no_model_for(languages))?;
        let file = &self.description.recognisers[chosen];
        let (height, right_to_left) = (file.height, file.right_to_left);
        let ignored = self.description.ignored(file, languages);
        let least = parameters.least_confidence_percent.map_or(0.0, |p| f64::from(p) / 100.0);

        let lines = self.detect(picture)?;
        let found = found(&Grey::of(picture), &lines);
        let readings = self.recognisers[chosen].read(&found, height, &ignored)?;
        let read = found
            .into_iter()
            .zip(readings)
            .filter(|(_, reading)| reading.confidence >= least && !reading.text.trim().is_empty());
        let line = |(Found { corners, .. }, Reading { text, confidence }): (Found, Reading)| {
            let text = if right_to_left { decode::logical(&text) } else { text };
            Line { text, confidence, corners }
        };
        Ok(read.map(line).collect())
    }

    fn no_model_for(&self, languages: &[String]) -> TaskError {
        let models = self.description.recognisers.iter();
        let there: Vec<String> = models.map(|r| format!("{} ({})", r.languages.join(","), r.name)).collect();
        TaskError::Refused(format!(
            "parameter \"languages\": no model here reads {:?} together; there are: {}",
            languages.join(","),
            there.join("; ")
        ))
    }

    fn detect(&mut self, picture: &Picture) -> Result<Grouped, OcrError> {
        let Search { width, height, values, ratio } =
            Search::of(picture, self.description.detector.canvas_size);
        let (map_width, map_height) = (width / 2, height / 2);
        let lines = self.detector.run_one([1, 3, height, width], values, |(shape, pairs)| {
            let fits = *shape == [1, signed(map_height), signed(map_width), 2];
            let maps = HeatMaps { width: map_width, height: map_height, pairs };
            fits.then(|| group::grouped(&maps.boxes(ratio)))
        })?;
        let unfit =
            || self.detector.unfit("answers with something else than two maps of its input".to_owned());
        Ok(lines.ok_or_else(unfit)?)
    }
}

/// The lines that have something in the picture, in the order that they are answered in.
fn found(grey: &Grey, lines: &Grouped) -> Vec<Found> {
    let level = lines.level.iter().filter_map(|&line| grey.cut(line));
    #[expect(clippy::cast_possible_truncation, reason = "positions near a picture, to be shown")]
    let shown = |corners: &[[f64; 2]; 4]| corners.map(|p| p.map(|v| v as f32));
    let slanted = lines.slanted.iter().filter_map(|line| Some((shown(line), grey.straightened(line)?)));
    level.chain(slanted).map(|(corners, crop)| Found { corners, crop }).collect()
}

impl Recogniser {
    fn open(engine: &Engine, folder: &Path, file: &RecogniserFile) -> Result<Self, OcrError> {
        let session = engine.open(&folder.join(&file.file))?;
        session.takes_one_picture()?;
        let characters = Characters::new(&file.characters);
        match session.classes() {
            Some(classes) if classes != characters.classes() => Err(session
                .unfit(format!(
                    "tells {classes} classes apart, but {} makes {} with the blank",
                    description::FILE_NAME,
                    characters.classes()
                ))
                .into()),
            _ => Ok(Self { session, characters }),
        }
    }

    /// Reads crops; those that are read with little confidence a second time with more contrast.
    fn read(&mut self, found: &[Found], height: usize, ignored: &[usize]) -> Result<Vec<Reading>, OcrError> {
        let scaled: Vec<(usize, Grey)> = found
            .iter()
            .map(|Found { crop, .. }| (align::padded_width(crop, height), crop.at_height(height)))
            .collect();
        let mut readings = self.run(&scaled, height, ignored)?;
        let unsure: Vec<usize> = (0..readings.len()).filter(|&i| readings[i].confidence < UNSURE).collect();
        let contrasted: Vec<(usize, Grey)> =
            unsure.iter().map(|&i| (scaled[i].0, align::contrasted(&scaled[i].1, CONTRAST))).collect();
        for (index, again) in unsure.into_iter().zip(self.run(&contrasted, height, ignored)?) {
            if readings[index].confidence <= again.confidence {
                readings[index] = again;
            }
        }
        Ok(readings)
    }

    fn run(
        &mut self,
        crops: &[(usize, Grey)],
        height: usize,
        ignored: &[usize],
    ) -> Result<Vec<Reading>, OcrError> {
        let mut readings: Vec<Option<Reading>> = vec![None; crops.len()];
        for members in batches(crops) {
            let width = crops[members[0]].0;
            let mut values = vec![0.0; members.len() * height * width];
            for (&member, slot) in members.iter().zip(values.chunks_exact_mut(height * width)) {
                align::write(&crops[member].1, width, height, slot);
            }
            let characters = &self.characters;
            let shape = [members.len(), 1, height, width];
            let read: Vec<Reading> = self.session.run_one(shape, values, |(shape, logits)| match *shape {
                [count, steps, classes]
                    if count == signed(members.len())
                        && steps > 0
                        && classes == signed(characters.classes()) =>
                {
                    let crops = logits.chunks_exact(logits.len() / members.len());
                    crops.map(|crop| characters.decode(crop, ignored)).collect()
                }
                _ => Vec::new(),
            })?;
            if read.len() != members.len() {
                let problem = "answers with something else than logits by step".to_owned();
                return Err(self.session.unfit(problem).into());
            }
            for (member, reading) in members.into_iter().zip(read) {
                readings[member] = Some(reading);
            }
        }
        Ok(readings.into_iter().flatten().collect())
    }
}

/// Groups crops of one padded width, as positions in the caller's list.
fn batches(crops: &[(usize, Grey)]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..crops.len()).collect();
    order.sort_by_key(|&i| crops[i].0);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let width = crops[i].0;
        match batches.last_mut() {
            Some(batch)
                if crops[batch[0]].0 == width
                    && batch.len() < BATCH
                    && (batch.len() + 1) * width <= BATCH_WIDTH =>
            {
                batch.push(i);
            }
            Some(_) | None => batches.push(vec![i]),
        }
    }
    batches
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_of_one_width_share_a_run() {
        let crop = |width: usize| (width, Grey { width: 1, height: 1, values: vec![0] });
        let check = |widths: &[usize], expected: &[&[usize]]| {
            let crops: Vec<_> = widths.iter().map(|&w| crop(w)).collect();
            assert_eq!(batches(&crops), expected, "{widths:?}");
        };
        check(&[], &[]);
        check(&[128, 64, 128], &[&[1], &[0, 2]]);
        check(&[64; 9], &[&[0, 1, 2, 3, 4, 5, 6, 7], &[8]]);
        check(&[4096; 3], &[&[0, 1], &[2]]);
        check(&[20_000, 20_000], &[&[0], &[1]]);
    }
}
