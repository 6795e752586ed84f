//! Our EasyOCR pipeline against EasyOCR itself, step by step and as a whole.
//!
//! `tests/easyocr/reference.py` has exported the models and written down what EasyOCR makes of pictures and
//! heat maps. Needs `LARDER_EASYOCR`, the folder that it wrote, and `LARDER_PYTHON`; `make test` sets both.
//! CRAFT and `english_g2` have EasyOCR's weights, the other recognition models random ones: the text that
//! they read is noise, and as telling.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use larder_contract::Parameters;
use larder_inference::tasks::TaskError;
use larder_inference::tasks::files::ModelFiles;
use larder_inference::tasks::ocr::easy::boxes::HeatMaps;
use larder_inference::tasks::ocr::easy::crops::Grey;
use larder_inference::tasks::ocr::easy::decode::Characters;
use larder_inference::tasks::ocr::easy::group::{Level, grouped};
use larder_inference::tasks::ocr::easy::search::{Search, ratio};
use larder_inference::tasks::ocr::easy::{EasyModel, align};
use larder_inference::tasks::picture::Picture;
use larder_inference::tasks::tensor::{Elements, NamedTensor, TensorModel};
use serde::Deserialize;

/// What the reference wrote. Boxes are numbers of either kind, as JSON has them.
#[derive(Debug, Deserialize)]
struct Reference {
    maps: Vec<Maps>,
    pictures: Vec<Drawn>,
    crops: Vec<Crop>,
}

/// Heat maps, and what EasyOCR finds on them.
#[derive(Debug, Deserialize)]
struct Maps {
    #[serde(rename = "maps")]
    pairs: Stored,
    size: [usize; 2],
    canvas_size: usize,
    boxes: Vec<[f64; 8]>,
    horizontal: Vec<[f64; 4]>,
    free: Vec<[[f64; 2]; 4]>,
}

/// A picture, and what EasyOCR reads in it, by languages.
#[derive(Debug, Deserialize)]
struct Drawn {
    picture: String,
    lines: BTreeMap<String, Vec<Line>>,
    detector: Option<Run>,
}

#[derive(Debug, Deserialize)]
struct Line {
    text: String,
    confidence: f64,
    #[serde(rename = "box")]
    corners: [[f64; 2]; 4],
}

/// One box of a picture in full.
#[derive(Debug, Deserialize)]
struct Crop {
    picture: String,
    kind: String,
    cut: serde_json::Value,
    languages: Vec<String>,
    model: String,
    runs: Vec<Run>,
    text: String,
    confidence: f64,
}

/// What `PyTorch` was given, and what it answered.
#[derive(Debug, Deserialize)]
struct Run {
    #[serde(alias = "tensor")]
    given: Stored,
    #[serde(alias = "logits")]
    answered: Stored,
}

/// A tensor in a file.
#[derive(Debug, Deserialize)]
struct Stored {
    file: String,
    shape: Vec<usize>,
}

impl Stored {
    fn values(&self) -> Vec<f32> {
        let bytes = std::fs::read(folder().join(&self.file)).unwrap();
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(values.len(), self.shape.iter().product::<usize>());
        values
    }
}

fn folder() -> PathBuf {
    std::env::var_os("LARDER_EASYOCR").map(PathBuf::from).expect(
        "LARDER_EASYOCR is not set: this test needs what tests/easyocr/reference.py writes; `make test` makes it \
         and sets the variable",
    )
}

fn reference() -> &'static Reference {
    static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
        serde_json::from_slice(&std::fs::read(folder().join("reference.json")).unwrap()).unwrap()
    });
    &REFERENCE
}

fn picture(name: &str) -> Picture {
    Picture::decode(&std::fs::read(folder().join("pictures").join(name)).unwrap()).unwrap()
}

fn model() -> EasyModel {
    let files = ModelFiles::find(&folder().join("models"), None).unwrap();
    let ModelFiles::EasyOcr { description } = files else { panic!("{files:?} is not EasyOCR's") };
    EasyModel::open(&common::engine(), &description).unwrap()
}

fn languages(codes: &[&str]) -> Parameters {
    let codes = codes.iter().map(|&code| code.to_owned()).collect();
    Parameters { languages: Some(codes), ..Parameters::default() }
}

/// The recognition model's entry in `easyocr.json`.
fn described(model: &str) -> serde_json::Value {
    let text = std::fs::read(folder().join("models/easyocr.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let models = json["recognisers"].as_array().unwrap();
    models.iter().find(|m| m["name"] == model).unwrap().clone()
}

fn furthest(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Runs an exported graph on what `PyTorch` was given.
fn run(graph: &mut TensorModel, [input, output]: [&str; 2], given: &Stored) -> Vec<f32> {
    let shape = given.shape.iter().map(|&d| i64::try_from(d).unwrap()).collect();
    let tensor = NamedTensor { name: input.to_owned(), shape, elements: Elements::Fp32(given.values()) };
    let answered = graph.run(vec![tensor], &[output.to_owned()]).unwrap();
    let Elements::Fp32(values) = answered[0].elements.clone() else { panic!("not single precision") };
    values
}

fn graph(file: &Path) -> TensorModel {
    TensorModel::new(common::engine().open(file).unwrap())
}

/// Heat maps lie between 0 and 1, with thresholds at 0.4 and 0.7.
#[test]
fn the_exported_detector_answers_as_pytorch() {
    let mut craft = graph(&folder().join("models/craft_mlt_25k.onnx"));
    let runs: Vec<&Run> = reference().pictures.iter().filter_map(|p| p.detector.as_ref()).collect();
    assert!(runs.len() > 2, "{} pictures", runs.len());
    for Run { given, answered } in runs {
        let off = furthest(&run(&mut craft, ["picture", "heatmaps"], given), &answered.values());
        println!("{:?}: {off:e} at most", given.shape);
        assert!(off < 1e-4, "{given:?}: {off}");
    }
}

/// Logits of EasyOCR's weights go to some tens, of random ones to some hundreds: tolerances are shares of
/// the greatest.
#[test]
fn the_exported_recognisers_answer_as_pytorch() {
    let mut graphs = BTreeMap::new();
    let mut widths = BTreeMap::<&str, std::collections::BTreeSet<usize>>::new();
    for crop in &reference().crops {
        let graph = graphs
            .entry(crop.model.as_str())
            .or_insert_with(|| graph(&folder().join(format!("models/{}.onnx", crop.model))));
        for Run { given, answered } in &crop.runs {
            widths.entry(&crop.model).or_default().insert(given.shape[3]);
            let theirs = answered.values();
            let greatest = theirs.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
            let off = furthest(&run(graph, ["crops", "logits"], given), &theirs);
            assert!(off < 1e-4 * greatest, "{} {given:?}: {off} of {greatest}", crop.model);
        }
    }
    println!("{widths:?}");
    assert!(graphs.len() == 3 && widths.values().any(|w| w.len() > 4));
}

/// Exact: every box, to the pixel, in the same order.
#[test]
fn boxes_and_lines_are_easyocrs_on_the_same_heat_maps() {
    let (mut boxes, mut level, mut slanted) = (0, 0, 0);
    for Maps { pairs: stored, size: [width, height], canvas_size, boxes: expected, horizontal, free } in
        &reference().maps
    {
        let pairs = stored.values();
        let ours = HeatMaps { width: stored.shape[1], height: stored.shape[0], pairs: &pairs }.boxes(ratio(
            *width,
            *height,
            *canvas_size,
        ));
        let flat: Vec<Vec<f64>> =
            ours.iter().map(|b| b.as_flattened().iter().map(|&v| f64::from(v)).collect()).collect();
        assert_eq!(flat, expected.iter().map(|b| b.to_vec()).collect::<Vec<_>>(), "{stored:?}");
        let lines = grouped(&ours);
        let ours: Vec<[f64; 4]> =
            lines.level.iter().map(|l| [l.left, l.right, l.top, l.bottom].map(f64::from)).collect();
        assert_eq!(&ours, horizontal, "{stored:?}");
        // Sines and cosines may differ in their last digit.
        assert_eq!(lines.slanted.len(), free.len(), "{stored:?}");
        for (ours, theirs) in lines.slanted.iter().zip(free) {
            let far = ours.as_flattened().iter().zip(theirs.as_flattened()).map(|(a, b)| (a - b).abs());
            assert!(far.fold(0.0, f64::max) < 1e-9, "{stored:?}: {ours:?} {theirs:?}");
        }
        boxes += expected.len();
        level += horizontal.len();
        slanted += free.len();
    }
    println!(
        "{boxes} boxes, {level} level lines, {slanted} slanted lines on {} maps",
        reference().maps.len()
    );
    assert!(boxes > 100 && level > 30 && slanted > 30);
}

/// Exact but for slanted lines, whose pixels may be two steps of brightness off after warping.
#[test]
fn tensors_are_easyocrs() {
    let (mut level, mut slanted, mut contrasted) = (0, 0, 0);
    for crop in &reference().crops {
        let grey = Grey::of(&picture(&crop.picture));
        let (cut, steps) = if crop.kind == "horizontal" {
            let [left, right, top, bottom]: [i32; 4] = serde_json::from_value(crop.cut.clone()).unwrap();
            level += 1;
            (grey.cut(Level { left, right, top, bottom }).unwrap().1, 0.0)
        } else {
            slanted += 1;
            (grey.straightened(&serde_json::from_value(crop.cut.clone()).unwrap()).unwrap(), 2.0)
        };
        for (again, run) in crop.runs.iter().enumerate() {
            let (height, width) = (run.given.shape[2], run.given.shape[3]);
            assert_eq!(align::padded_width(&cut, height), width, "{crop:?}");
            let mut scaled = cut.at_height(height);
            if again > 0 {
                scaled = align::contrasted(&scaled, 0.5);
                contrasted += 1;
            }
            let mut ours = vec![0.0; height * width];
            align::write(&scaled, width, height, &mut ours);
            let off = furthest(&ours, &run.given.values()) * 127.5;
            // More contrast makes a step of one a step of several.
            let tolerance = if again > 0 { 8.0 * steps } else { steps };
            assert!(off < tolerance + 0.01, "{crop:?}: {off} steps");
        }
    }
    println!("{level} level, {slanted} slanted, {contrasted} with more contrast");
    assert!(level > 10 && slanted > 10 && contrasted > 3);

    for drawn in &reference().pictures {
        let Some(Run { given, .. }) = &drawn.detector else { continue };
        let search = Search::of(&picture(&drawn.picture), 2560);
        assert_eq!([search.height, search.width], given.shape[2..]);
        let off = furthest(&search.values, &given.values());
        assert!(off < 1e-6, "{}: {off}", drawn.picture);
    }
}

/// Text exact, confidence to the rounding of single precision.
#[test]
fn text_is_easyocrs_on_the_same_logits() {
    let text = std::fs::read(folder().join("models/easyocr.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let (mut read, mut ignoring) = (0, 0);
    for crop in &reference().crops {
        let entry = described(&crop.model);
        let list = entry["characters"].as_str().unwrap();
        let characters = Characters::new(list);
        let of = |code: &String| json["language_characters"][code].as_str().unwrap().to_owned();
        let known: String =
            crop.languages.iter().map(of).chain([entry["symbols"].as_str().unwrap().to_owned()]).collect();
        let ignored: Vec<usize> =
            (1..).zip(list.chars()).filter(|(_, c)| !known.contains(*c)).map(|(class, _)| class).collect();
        let best = crop
            .runs
            .iter()
            .map(|run| characters.decode(&run.answered.values(), &ignored))
            .reduce(|first, second| if first.confidence > second.confidence { first } else { second })
            .unwrap();
        assert_eq!(best.text, crop.text, "{crop:?}");
        let off = (best.confidence - crop.confidence).abs();
        assert!(off < 1e-5, "{crop:?}: {off}");
        read += usize::from(!best.text.is_empty());
        ignoring += usize::from(!ignored.is_empty());
    }
    println!("{read} texts, {ignoring} with characters to ignore");
    assert!(read > 20 && ignoring > 5);
}

/// The whole of it: ONNX Runtime and our pipeline against `PyTorch` and EasyOCR's.
#[test]
fn pictures_are_read_as_easyocr_reads_them() {
    let mut model = model();
    let drawn_text: BTreeMap<String, Vec<String>> =
        serde_json::from_slice(&std::fs::read(folder().join("pictures/expected.json")).unwrap()).unwrap();
    let (mut lines, mut as_drawn) = (0, 0);
    for drawn in &reference().pictures {
        let decoded = picture(&drawn.picture);
        for (codes, theirs) in &drawn.lines {
            let asked = languages(&codes.split(',').collect::<Vec<_>>());
            let ours = model.answer(&decoded, &asked).unwrap();
            // Ours leave out what has no text.
            let theirs: Vec<&Line> = theirs.iter().filter(|l| !l.text.trim().is_empty()).collect();
            let texts: Vec<&str> = ours.iter().map(|l| l.text.as_str()).collect();
            let expected: Vec<&str> = theirs.iter().map(|l| l.text.as_str()).collect();
            assert_eq!(texts, expected, "{} {codes}", drawn.picture);
            for (ours, theirs) in ours.iter().zip(theirs) {
                let pairs = ours.corners.as_flattened().iter().zip(theirs.corners.as_flattened());
                let far = pairs.map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(far < 0.01, "{} {codes}: {ours:?} {theirs:?}", drawn.picture);
                let off = (ours.confidence - theirs.confidence).abs();
                assert!(off < 0.01, "{} {codes}: {ours:?} {theirs:?}", drawn.picture);
                lines += 1;
                if codes == "en" {
                    as_drawn += usize::from(drawn_text[&drawn.picture].contains(&ours.text));
                }
            }
        }
    }
    println!("{lines} lines alike, {as_drawn} of them as drawn");
    // Both could be alike and blind; what was drawn in English says that they are not.
    assert!(lines > 50 && as_drawn > 5);
}

#[test]
fn languages_choose_the_model_or_are_refused() {
    let mut model = model();
    let name = &reference().pictures[0].picture;
    let decoded = picture(name);
    let mut answer = |asked: &Parameters| model.answer(&decoded, asked);
    assert_eq!(answer(&Parameters::default()).unwrap(), answer(&languages(&["en"])).unwrap());
    assert_eq!(answer(&languages(&[])).unwrap(), answer(&languages(&["en"])).unwrap());
    let sure = Parameters { least_confidence_percent: Some(60), ..languages(&["en,ch_sim"]) };
    let Err(TaskError::Refused(_)) = answer(&sure) else { panic!("a list in one code was taken") };
    let sure = Parameters { least_confidence_percent: Some(60), ..languages(&["en"]) };
    assert!(answer(&sure).unwrap().iter().all(|line| line.confidence >= 0.6));
    for (asked, parts) in [
        (languages(&["th", "ch_sim"]), &["th,ch_sim", "en (english_g2)", "zh_sim_g2", "thai_g1"][..]),
        (languages(&["xx"]), &["languages", "xx"]),
        (Parameters { orientation: Some(true), ..Parameters::default() }, &["orientation"]),
    ] {
        let Err(TaskError::Refused(message)) = answer(&asked) else { panic!("{asked:?} was not refused") };
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    }
}
