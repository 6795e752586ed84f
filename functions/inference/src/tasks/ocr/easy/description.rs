//! `easyocr.json`: what the export script says of a folder's models, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// The name of the file that makes a folder an EasyOCR folder.
pub const FILE_NAME: &str = "easyocr.json";

/// The form of the file that is understood.
const FORMAT: u32 = 1;
/// The most bytes of the file. With all of EasyOCR's models it has 300 KB.
const MOST_BYTES: u64 = 8 * 1024 * 1024;
/// Pictures are searched at no more than this a side.
const MOST_CANVAS: usize = 4096;
/// Crops are read at no more than this height.
const MOST_HEIGHT: usize = 256;

/// Why a description cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not JSON of this form.
    #[error("{} is not a description of EasyOCR models", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The reason, naming the field.
        source: serde_json::Error,
    },
    /// A field's value cannot be used.
    #[error("{}: {problem}; export the folder again with easyocr_export.py", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The field and its value.
        problem: String,
    },
}

/// The models of a folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    format: u32,
    /// The version of EasyOCR that the models are from. For people.
    #[serde(rename = "easyocr")]
    _easyocr: String,
    pub(crate) detector: DetectorFile,
    /// What is read when a request asks for no language.
    pub(crate) default_languages: Vec<String>,
    /// In the order of choice.
    pub(crate) recognisers: Vec<RecogniserFile>,
    /// The characters of each language.
    pub(crate) language_characters: BTreeMap<String, String>,
}

/// The detector, CRAFT.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetectorFile {
    pub(crate) file: String,
    /// Pictures with a longer side are scaled down to it, in pixels.
    pub(crate) canvas_size: usize,
}

/// A recognition model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecogniserFile {
    pub(crate) name: String,
    pub(crate) file: String,
    /// The codes that it reads, together, in any choice.
    pub(crate) languages: Vec<String>,
    /// The meaning of its classes from 1 on; 0 is the blank.
    pub(crate) characters: String,
    /// What is read whatever the languages.
    pub(crate) symbols: String,
    /// The height of crops in pixels.
    pub(crate) height: usize,
    /// It answers characters from left to right though they are read from right to left.
    pub(crate) right_to_left: bool,
}

impl Description {
    /// Reads a folder's description.
    pub(crate) fn read(path: &Path) -> Result<Self, DescriptionError> {
        let failed = |source| DescriptionError::Read { path: path.to_owned(), source };
        let unfit = |problem| DescriptionError::Unfit { path: path.to_owned(), problem };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > MOST_BYTES {
            return Err(unfit(format!("it has {bytes} bytes; the most is {MOST_BYTES}")));
        }
        let text = std::fs::read(path).map_err(failed)?;
        Self::parse(&text)
            .map_err(|source| DescriptionError::Malformed { path: path.to_owned(), source })?
            .checked()
            .map_err(unfit)
    }

    fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    fn checked(self) -> Result<Self, String> {
        if self.format != FORMAT {
            return Err(format!("field \"format\" is {}, not {FORMAT}", self.format));
        }
        if !(32..=MOST_CANVAS).contains(&self.detector.canvas_size) {
            let have = self.detector.canvas_size;
            return Err(format!("field \"canvas_size\" is {have}, not between 32 and {MOST_CANVAS}"));
        }
        let recogniser_files = self.recognisers.iter().map(|r| &r.file);
        if let Some(file) = recogniser_files.chain([&self.detector.file]).find(|file| !is_plain(file)) {
            return Err(format!("field \"file\" is {file:?}, not the name of a file in the same folder"));
        }
        for RecogniserFile { name, languages, height, characters, .. } in &self.recognisers {
            if !(16..=MOST_HEIGHT).contains(height) {
                return Err(format!(
                    "field \"height\" of {name} is {height}, not between 16 and {MOST_HEIGHT}"
                ));
            }
            if characters.is_empty() {
                return Err(format!("field \"characters\" of {name} is empty"));
            }
            if let Some(code) = languages.iter().find(|code| !self.language_characters.contains_key(*code)) {
                return Err(format!(
                    "field \"language_characters\" has nothing for {code:?}, which {name} reads"
                ));
            }
        }
        if self.choice(&self.default_languages).is_none() {
            let asked = self.default_languages.join(",");
            return Err(format!(
                "field \"default_languages\" is {asked}, which no model of the folder reads"
            ));
        }
        Ok(self)
    }

    /// The first model that reads all of these languages.
    pub(crate) fn choice(&self, languages: &[String]) -> Option<usize> {
        self.recognisers.iter().position(|r| languages.iter().all(|code| r.languages.contains(code)))
    }

    /// The classes of a model that are not to be read: those of characters that none of the languages
    /// has. A character that is there twice is left out once, as the reference does.
    pub(crate) fn ignored(&self, recogniser: &RecogniserFile, languages: &[String]) -> Vec<usize> {
        let of_languages = languages.iter().filter_map(|code| self.language_characters.get(code));
        let read: BTreeSet<char> =
            of_languages.flat_map(|all| all.chars()).chain(recogniser.symbols.chars()).collect();
        let mut seen = BTreeSet::new();
        let classes = (1..).zip(recogniser.characters.chars());
        classes.filter(|(_, c)| seen.insert(*c) && !read.contains(c)).map(|(class, _)| class).collect()
    }
}

/// Whether this is a file's name without any folder.
fn is_plain(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(name)), None) if name == file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(change: impl FnOnce(&mut serde_json::Value)) -> Result<Description, String> {
        let model = |name: &str, languages: &[&str], characters: &str| {
            serde_json::json!({
                "name": name, "file": format!("{name}.onnx"), "languages": languages, "characters": characters,
                "symbols": "0 ", "height": 64, "right_to_left": false,
            })
        };
        let mut json = serde_json::json!({
            "format": 1, "easyocr": "1.7.2",
            "detector": {"file": "craft.onnx", "canvas_size": 2560},
            "default_languages": ["en"],
            "recognisers": [model("english_g2", &["en"], "0 ab"), model("latin_g2", &["de", "en", "fr"], "0 abäéa")],
            "language_characters": {"en": "ab", "de": "abä", "fr": "abé"},
        });
        change(&mut json);
        let parsed = Description::parse(json.to_string().as_bytes()).map_err(|e| e.to_string())?;
        parsed.checked()
    }

    #[test]
    fn the_first_model_that_reads_all_languages_is_chosen() {
        let description = description(|_| ()).unwrap();
        let check = |codes: &[&str], expected: Option<usize>| {
            let codes: Vec<String> = codes.iter().map(|&c| c.to_owned()).collect();
            assert_eq!(description.choice(&codes), expected, "{codes:?}");
        };
        check(&["en"], Some(0));
        check(&["en", "de"], Some(1));
        check(&["fr", "de"], Some(1));
        check(&["en", "th"], None);
    }

    #[test]
    fn characters_of_other_languages_are_ignored() {
        let description = description(|_| ()).unwrap();
        let check = |codes: &[&str], expected: &[usize]| {
            let codes: Vec<String> = codes.iter().map(|&c| c.to_owned()).collect();
            assert_eq!(description.ignored(&description.recognisers[1], &codes), expected, "{codes:?}");
        };
        // Classes: 1 "0", 2 " ", 3 "a", 4 "b", 5 "ä", 6 "é", 7 "a" again.
        check(&["en"], &[5, 6]);
        check(&["de"], &[6]);
        check(&["de", "fr"], &[]);
        check(&[], &[3, 4, 5, 6]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let check = |change: &dyn Fn(&mut serde_json::Value), parts: &[&str]| {
            let refusal = description(|json| change(json)).unwrap_err();
            for part in parts {
                assert!(refusal.contains(part), "{refusal}");
            }
        };
        check(&|json| json["format"] = 2.into(), &["format", "2"]);
        check(&|json| json["colour"] = 2.into(), &["colour"]);
        check(&|json| json["detector"]["file"] = "../craft.onnx".into(), &["file", "../craft.onnx"]);
        check(&|json| json["recognisers"][0]["file"] = "/etc/passwd".into(), &["file", "/etc/passwd"]);
        check(&|json| json["recognisers"][0]["file"] = "".into(), &["file"]);
        check(&|json| json["recognisers"][1]["height"] = 0.into(), &["height", "latin_g2"]);
        check(&|json| json["recognisers"][1]["characters"] = "".into(), &["characters", "latin_g2"]);
        check(&|json| json["detector"]["canvas_size"] = 100_000.into(), &["canvas_size", "100000"]);
        check(&|json| json["default_languages"] = serde_json::json!(["th"]), &["default_languages", "th"]);
        check(&|json| json["language_characters"] = serde_json::json!({}), &["language_characters", "en"]);
    }
}
