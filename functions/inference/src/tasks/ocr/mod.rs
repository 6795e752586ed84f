//! Text in pictures, as PaddleOCR's models and RapidOCR's pipeline read it; [`easy`] has EasyOCR's.
//!
//! In the order of the work: `prepare` (size), `detect` (boxes; with `plane`,
//! `contours`, `rectangle`, `unclip`), `order`, `crop`, `orient` (optional), `recognise`.
//! Everything but this file is pure: numbers in, numbers out.
//!
//! Constants and rounding follow Python `rapidocr` 3.10, so that both read the same; the parity test
//! compares them. Deliberately absent: word and character boxes.

mod contours;
mod crop;
mod detect;
pub mod easy;
mod languages;
mod order;
mod orient;
mod plane;
mod prepare;
pub mod recognise;
mod rectangle;
mod resize;
mod unclip;

use std::path::PathBuf;

use larder_contract::Parameters;
use schemars::JsonSchema;
use serde::Serialize;

use crate::onnx::{Engine, OnnxError, Session};
use crate::tasks::TaskError;
use crate::tasks::files::OcrFiles;
use crate::tasks::picture::Picture;
use detect::Map;
use easy::EasyModel;
use easy::description::DescriptionError;
use languages::Languages;
use plane::{Point, Quad};
use recognise::{Alphabet, Reading};

/// Readings below this confidence are not reported, unless parameters say another.
const LEAST_CONFIDENCE: f64 = 0.5;

/// The key of the recognition model's metadata that holds its characters, one a line.
const CHARACTERS_KEY: &str = "character";

/// Why text cannot be read, or a model not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum OcrError {
    /// ONNX Runtime, or a file that it cannot use.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The dictionary file cannot be read.
    #[error("the dictionary {} cannot be read", path.display())]
    Dictionary {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A thread that opened a model panicked.
    #[error("opening a model was interrupted")]
    Interrupted,
    /// What describes EasyOCR's models cannot be used.
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

/// One line of text.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// How sure the model is, 0 to 1.
    pub confidence: f64,
    /// Its corners in pixels of the picture: top left, top right, bottom right, bottom left.
    #[serde(rename = "box")]
    pub corners: [[f32; 2]; 4],
}

/// The models of one ocr folder, open.
#[derive(Debug)]
pub enum OcrModel {
    /// PaddleOCR's.
    Paddle(PaddleModel),
    /// EasyOCR's.
    Easy(EasyModel),
}

impl OcrModel {
    /// Opens PaddleOCR's models; [`EasyModel::open`] opens EasyOCR's.
    ///
    /// # Errors
    /// As [`PaddleModel::open`].
    pub fn open(engine: &Engine, files: &OcrFiles) -> Result<Self, OcrError> {
        PaddleModel::open(engine, files).map(Self::Paddle)
    }

    /// Reads the text of a picture as the parameters say.
    ///
    /// # Errors
    /// As [`PaddleModel::answer`] and [`EasyModel::answer`].
    pub fn answer(&mut self, picture: &Picture, parameters: &Parameters) -> Result<Vec<Line>, TaskError> {
        match self {
            Self::Paddle(model) => model.answer(picture, parameters),
            Self::Easy(model) => model.answer(picture, parameters),
        }
    }
}

/// PaddleOCR's models, open.
#[derive(Debug)]
pub struct PaddleModel {
    detector: Session,
    orienter: Option<Session>,
    recogniser: Session,
    alphabet: Alphabet,
    languages: Languages,
}

impl PaddleModel {
    /// Opens the models.
    ///
    /// # Errors
    /// [`OcrError`] when a file cannot be opened or is not a model of its kind.
    pub fn open(engine: &Engine, files: &OcrFiles) -> Result<Self, OcrError> {
        // The longest beside the others: opening keeps one processor busy.
        let (others, recogniser) = std::thread::scope(|scope| {
            let span = tracing::Span::current();
            let others = scope.spawn(move || {
                let _entered = span.enter();
                let detector = engine.open(&files.detector)?;
                let orienter = files.orienter.as_deref().map(|path| engine.open(path)).transpose()?;
                Ok::<_, OnnxError>((detector, orienter))
            });
            let recogniser = engine.open(&files.recogniser);
            (others.join(), recogniser)
        });
        let (detector, orienter) = others.map_err(|_| OcrError::Interrupted)??;
        let recogniser = recogniser?;
        for session in [Some(&detector), orienter.as_ref(), Some(&recogniser)].into_iter().flatten() {
            session.takes_one_picture()?;
        }
        let alphabet = alphabet(&recogniser, files)?;
        let languages = Languages::of(&alphabet);
        Ok(Self { detector, orienter, recogniser, alphabet, languages })
    }

    /// Whether there is an orientation model.
    #[must_use]
    pub fn can_orient(&self) -> bool {
        self.orienter.is_some()
    }

    /// Reads the text of a picture as the parameters say.
    ///
    /// # Errors
    /// [`TaskError::Refused`] for parameters that this model cannot follow, else as [`PaddleModel::read`].
    pub fn answer(&mut self, picture: &Picture, parameters: &Parameters) -> Result<Vec<Line>, TaskError> {
        let orient = parameters.orientation.unwrap_or(false);
        if orient && !self.can_orient() {
            let message = "parameter \"orientation\": the model has no orientation file (.onnx with cls in its name); leave the parameter out";
            return Err(TaskError::Refused(message.to_owned()));
        }
        self.languages.check(parameters.languages.as_deref())?;
        let least = parameters.least_confidence_percent.map_or(LEAST_CONFIDENCE, |p| f64::from(p) / 100.0);
        Ok(self.read(picture, orient, least)?)
    }

    /// Reads the text of a picture, in reading order, leaving out what is less sure than `least`. With
    /// `orient`, lines that are upside down are turned first, if there is a model for it.
    ///
    /// # Errors
    /// [`OcrError::Onnx`] when a model fails to run.
    pub fn read(&mut self, picture: &Picture, orient: bool, least: f64) -> Result<Vec<Line>, OcrError> {
        let prepared = prepare::prepared(picture);
        let boxes = order::reading_order(self.detect(&prepared.picture)?);
        let (mut crops, mut framed) = (Vec::new(), Vec::new());
        for quad in boxes {
            if let Some(crop) = crop::straightened(&prepared.picture, &quad) {
                crops.push(crop);
                framed.push(quad);
            }
        }
        if orient {
            crops = self.orient(crops)?;
        }
        let readings = self.recognise(&crops)?;
        Ok(framed
            .iter()
            .zip(readings)
            .filter(|(_, reading)| reading.confidence >= least && !reading.text.trim().is_empty())
            .map(|(quad, Reading { text, confidence })| Line {
                text,
                confidence,
                corners: prepared.original_box(quad).map(|Point { x, y }| [x, y]),
            })
            .collect())
    }

    fn detect(&mut self, picture: &Picture) -> Result<Vec<Quad>, OcrError> {
        let [width, height] = detect::network_size(picture.width, picture.height);
        let mut values = vec![0.0; 3 * width * height];
        resize::write_planes(picture, [width, height], &mut values, width);
        let boxes = self.detector.run_one([1, 3, height, width], values, |(shape, probabilities)| {
            let fits = *shape == [1, 1, signed(height), signed(width)];
            fits.then(|| detect::boxes(Map { width, height, probabilities }, picture.width, picture.height))
        })?;
        let unfit = || self.detector.unfit("answers with something else than a map of its input".to_owned());
        Ok(boxes.ok_or_else(unfit)?)
    }

    fn orient(&mut self, mut crops: Vec<Picture>) -> Result<Vec<Picture>, OcrError> {
        let Some(orienter) = &mut self.orienter else { return Ok(crops) };
        for batch in crops.chunks_mut(orient::BATCH) {
            let shape = [batch.len(), 3, orient::HEIGHT, orient::WIDTH];
            let turned =
                orienter.run_one(shape, orient::tensor(batch), |(_, values)| orient::upside_down(values))?;
            for (crop, turned) in batch.iter_mut().zip(turned) {
                if turned {
                    *crop = crop.clone().turned_around();
                }
            }
        }
        Ok(crops)
    }

    fn recognise(&mut self, crops: &[Picture]) -> Result<Vec<Reading>, OcrError> {
        crops.iter().map(|crop| self.recognise_one(crop)).collect()
    }

    fn recognise_one(&mut self, crop: &Picture) -> Result<Reading, OcrError> {
        let strip = recognise::strip(crop);
        let alphabet = &self.alphabet;
        let shape = [1, 3, recognise::HEIGHT, strip.width];
        let reading = self.recogniser.run_one(shape, strip.values, |(shape, values)| {
            let fits = matches!(*shape, [1, _, classes] if classes == signed(alphabet.classes()));
            fits.then(|| alphabet.decode(values))
        })?;
        let problem = || "answers with something else than class probabilities by step".to_owned();
        reading.ok_or_else(|| self.recogniser.unfit(problem()).into())
    }
}

fn alphabet(recogniser: &Session, files: &OcrFiles) -> Result<Alphabet, OcrError> {
    let (alphabet, origin) = if let Some(list) = recogniser.custom_metadata(CHARACTERS_KEY) {
        (Alphabet::parse(&list), "its metadata".to_owned())
    } else if let Some(path) = &files.dictionary {
        let list = std::fs::read_to_string(path)
            .map_err(|source| OcrError::Dictionary { path: path.clone(), source })?;
        (Alphabet::parse(&list), path.display().to_string())
    } else {
        let problem = format!(
            "has no character list: neither the metadata key {CHARACTERS_KEY:?} nor a .txt dictionary is there; add one with a character a line"
        );
        return Err(recogniser.unfit(problem).into());
    };
    match recogniser.classes() {
        Some(classes) if classes != alphabet.classes() => Err(recogniser
            .unfit(format!(
                "tells {classes} classes apart, but {origin} makes {} with blank and space",
                alphabet.classes()
            ))
            .into()),
        _ => Ok(alphabet),
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
