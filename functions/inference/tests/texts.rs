//! Text models give the numbers that PyTorch, and the reference tokenizer with ONNX Runtime, give.
//!
//! Needs `LARDER_PYTHON`; `make test` sets it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use larder_contract::Parameters;
use larder_inference::tasks::files::ModelFiles;
use larder_inference::tasks::text::{Embedder, TextClassifier};
use larder_inference::tasks::{Embedding, Label, TaskError, Text};
use serde::{Deserialize, Serialize};

const SEED: u64 = 20_261_124;

/// How far a score may be from the reference's, which runs each text by itself.
const SCORE: f64 = 1e-5;
/// How far a raw output may be from PyTorch's, which is written with six digits.
const OUTPUT: f64 = 5e-5;

/// A text and what the reference makes of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Case {
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pair: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    most: Option<usize>,
    #[serde(default, skip_serializing)]
    tokens: usize,
    #[serde(default, skip_serializing)]
    output: Vec<f64>,
}

impl Case {
    fn text(&self) -> Text {
        Text { text: self.text.clone(), pair: self.pair.clone() }
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn parameters(json: &str) -> Parameters {
    serde_json::from_str(json).unwrap()
}

fn classifier(folder: &Path) -> Result<TextClassifier, TaskError> {
    let ModelFiles::TextClassification(files) = ModelFiles::find(folder, None).unwrap() else {
        panic!("{} is no text classifier", folder.display())
    };
    TextClassifier::open(&common::engine(), &files)
}

fn embedder(folder: &Path) -> Result<Embedder, TaskError> {
    let ModelFiles::FeatureExtraction(files) = ModelFiles::find(folder, None).unwrap() else {
        panic!("{} is no embedding model", folder.display())
    };
    Embedder::open(&common::engine(), &files)
}

/// The names of a model's labels, in the order of its outputs.
fn names(folder: &Path) -> Vec<String> {
    let config: serde_json::Value = json(&folder.join("config.json"));
    let labels = config["id2label"].as_object().unwrap();
    (0..labels.len()).map(|id| labels[&id.to_string()].as_str().unwrap().to_owned()).collect()
}

fn compare_labels(labels: &[Label], names: &[String], expected: &[f64], tolerance: f64, of: &str) -> f64 {
    assert_eq!(labels.len(), names.len(), "{of}");
    assert!(labels.is_sorted_by(|a, b| a.score >= b.score), "{of}: {labels:?}");
    let mut furthest = 0.0_f64;
    for (name, expected) in names.iter().zip(expected) {
        let label = labels.iter().find(|label| label.label == *name).unwrap();
        let far = (f64::from(label.score) - expected).abs();
        assert!(far <= tolerance, "{of}: {label:?}, not {expected}");
        furthest = furthest.max(far);
    }
    furthest
}

#[test]
fn classifiers_answer_as_pytorch() {
    for model in ["sentiment-distilbert", "inference-bert", "emotions-roberta"] {
        let folder = common::export(model);
        let cases: Vec<Case> = json(&folder.join("expected.json"));
        let texts: Vec<Text> = cases.iter().map(Case::text).collect();
        let raw = parameters(r#"{"functionToApply": "None"}"#);
        let answers = classifier(&folder).unwrap().answer(&texts, &raw).unwrap();
        assert_eq!(answers.len(), cases.len());
        for (labels, case) in answers.iter().zip(&cases) {
            compare_labels(labels, &names(&folder), &case.output, OUTPUT, &format!("{model}: {case:?}"));
        }
    }
}

#[test]
fn embedders_answer_as_pytorch() {
    let check = |model: &str, asked: &str| {
        let folder = common::export(model);
        let cases: Vec<Case> = json(&folder.join("expected.json"));
        let texts: Vec<Text> = cases.iter().map(Case::text).collect();
        let answers = embedder(&folder).unwrap().answer(&texts, &parameters(asked)).unwrap();
        assert_eq!(answers.len(), cases.len());
        for (answer, case) in answers.iter().zip(&cases) {
            assert_eq!(answer.tokens, case.tokens, "{model}: {case:?}");
            assert_eq!((answer.width, answer.values.len()), (case.output.len(), case.output.len()));
            for (value, expected) in answer.values.iter().zip(&case.output) {
                assert!((f64::from(*value) - expected).abs() <= OUTPUT, "{model}: {case:?}: {answer:?}");
            }
        }
    };
    check("sentences-xlmr", r#"{"normalize": false, "maxTokens": 64}"#);
    check("sentences-whole", "{}");
}

/// Texts of many languages and lengths, with emoji, control characters and the tokenizers' own words. The
/// same seed gives the same texts.
fn generated(count: usize, seed: u64) -> Vec<String> {
    const PIECES: &[&str] = &[
        "harbour",
        "the",
        "wonderful",
        "I'm",
        "cold",
        "2026",
        "9:00-18:00",
        "naïve",
        "Ångström",
        "ﬁne",
        "don't",
        "Straße",
        "İstanbul",
        "ça",
        "¡qué!",
        "поезд",
        "опоздал",
        "这家餐厅",
        "很好吃",
        "面白い",
        "です",
        "한국어",
        "안녕",
        "ไทย",
        "हिन्दी",
        "नमस्ते",
        "عربي",
        "جميل",
        "עברית",
        "😀",
        "👩‍👩‍👧‍👦",
        "👍🏽",
        "🇩🇪",
        "é",
        "e\u{301}",
        "\u{200b}",
        "\u{feff}",
        "\t",
        "\n",
        "\r\n",
        "\u{0}",
        "\u{7}",
        "\u{85}",
        "\u{a0}",
        "\u{3000}",
        "\u{fffd}",
        "   ",
        "[SEP]",
        "</s>",
        "<mask>",
        "[MASK]",
        "Antidisestablishmentarianism",
        "ǅ",
        "ß",
        "½",
        "①",
        "∑",
        "\u{10ffff}",
        "…",
        "—",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let mut state = seed;
    // Knuth's linear congruential generator; its upper bits are the better ones.
    let mut below = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    let mut texts = vec![String::new(), " ".to_owned(), "a".repeat(5000), "wonderful ".repeat(900)];
    while texts.len() < count {
        let words = match below(10) {
            0 => 0,
            1..=5 => 1 + below(8),
            6..=8 => below(60),
            _ => below(400),
        };
        let mut text = String::new();
        for _ in 0..words {
            text.push_str(PIECES[below(PIECES.len())]);
            if below(3) > 0 {
                text.push(' ');
            }
        }
        texts.push(text);
    }
    texts.truncate(count);
    texts
}

/// Generated texts, alone and in pairs.
fn cases(count: usize, most: usize, pairs: bool) -> Vec<Case> {
    let seed = std::env::var("SEED").map_or(SEED, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let texts = generated(count, seed);
    let mut others = generated(count, seed ^ 1).into_iter().rev();
    let case = |text: String| {
        let pair = others.next().filter(|pair| pairs && !pair.is_empty());
        Case { text, pair, most: Some(most), tokens: 0, output: Vec::new() }
    };
    texts.into_iter().map(case).collect()
}

/// A row of the reference's first output: numbers, or a row of them for each token.
#[derive(Debug, Deserialize)]
struct Reference<T> {
    tokens: usize,
    output: T,
}

fn reference<T: serde::de::DeserializeOwned>(model: &Path, cases: &[Case]) -> Vec<Reference<T>> {
    let folder = tempfile::tempdir().unwrap();
    let (given, out) = (folder.path().join("cases.json"), folder.path().join("out.json"));
    std::fs::write(&given, serde_json::to_vec(cases).unwrap()).unwrap();
    let script = common::export("reference.py");
    common::run_python(&[script.as_ref(), "texts".as_ref(), model.as_ref(), given.as_ref(), out.as_ref()]);
    let answers: Vec<Reference<T>> = json(&out);
    assert_eq!(answers.len(), cases.len());
    answers
}

fn softmax(outputs: &[f64]) -> Vec<f64> {
    let greatest = outputs.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = outputs.iter().map(|v| (v - greatest).exp()).sum();
    outputs.iter().map(|v| (v - greatest).exp() / sum).collect()
}

fn sigmoid(outputs: &[f64]) -> Vec<f64> {
    outputs.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect()
}

#[test]
fn classifiers_answer_many_texts_as_the_reference() {
    let check = |model: &str, most: usize, pairs: bool, scores: fn(&[f64]) -> Vec<f64>| {
        let folder = common::export(model);
        let cases = cases(300, most, pairs);
        let expected: Vec<Reference<Vec<f64>>> = reference(&folder, &cases);
        let texts: Vec<Text> = cases.iter().map(Case::text).collect();
        let answers = classifier(&folder).unwrap().answer(&texts, &Parameters::default()).unwrap();
        let names = names(&folder);
        let far = answers.iter().zip(&expected).zip(&cases).map(|((labels, expected), case)| {
            compare_labels(labels, &names, &scores(&expected.output), SCORE, &format!("{model}: {case:?}"))
        });
        println!("{model}: {} texts, furthest score {:.1e}", texts.len(), far.fold(0.0, f64::max));
    };
    check("sentiment-distilbert", 64, false, softmax);
    check("inference-bert", 48, false, softmax);
    check("inference-bert", 48, true, softmax);
    check("emotions-roberta", 64, false, sigmoid);
    check("emotions-roberta", 64, true, sigmoid);
}

fn cosine(a: &[f32], b: &[f64]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum();
    let length = |sum: f64| sum.sqrt();
    dot / length(a.iter().map(|v| f64::from(*v).powi(2)).sum()) / length(b.iter().map(|v| v * v).sum())
}

/// What sentence-transformers makes of a text's tokens.
fn mean(tokens: &[Vec<f64>]) -> Vec<f64> {
    let count = f64::from(u32::try_from(tokens.len()).unwrap());
    (0..tokens[0].len()).map(|place| tokens.iter().map(|token| token[place]).sum::<f64>() / count).collect()
}

fn by_root(tokens: &[Vec<f64>]) -> Vec<f64> {
    let count = f64::from(u32::try_from(tokens.len()).unwrap());
    mean(tokens).into_iter().map(|value| value * count.sqrt()).collect()
}

fn weighted(tokens: &[Vec<f64>]) -> Vec<f64> {
    let weights: Vec<f64> = (1..).map(f64::from).take(tokens.len()).collect();
    let sum =
        |place: usize| tokens.iter().zip(&weights).map(|(token, weight)| token[place] * weight).sum::<f64>();
    (0..tokens[0].len()).map(|place| sum(place) / weights.iter().sum::<f64>()).collect()
}

fn first(tokens: &[Vec<f64>]) -> Vec<f64> {
    tokens[0].clone()
}

fn last(tokens: &[Vec<f64>]) -> Vec<f64> {
    tokens[tokens.len() - 1].clone()
}

fn greatest(tokens: &[Vec<f64>]) -> Vec<f64> {
    (0..tokens[0].len())
        .map(|place| tokens.iter().map(|token| token[place]).fold(f64::MIN, f64::max))
        .collect()
}

/// Compares embeddings of generated texts, all of one request. Returns the least cosine.
fn compare_embeddings(
    folder: &Path,
    cases: &[Case],
    asked: &str,
    pooled: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    least: f64,
) -> f64 {
    let expected: Vec<Reference<Vec<Vec<f64>>>> = reference(folder, cases);
    let texts: Vec<Text> = cases.iter().map(Case::text).collect();
    let answers = embedder(folder).unwrap().answer(&texts, &parameters(asked)).unwrap();
    assert_eq!(answers.len(), cases.len());
    let far = answers.iter().zip(&expected).zip(cases).map(|((answer, expected), case)| {
        assert_eq!(answer.tokens, expected.tokens, "{case:?}");
        let cosine = cosine(&answer.values, &pooled(&expected.output));
        assert!(cosine >= least, "{asked}: {case:?}: the cosine is {cosine}");
        cosine
    });
    let least = far.fold(1.0, f64::min);
    println!("{asked}: {} texts, least cosine {least:.9}", texts.len());
    least
}

#[test]
fn embedders_answer_many_texts_as_the_reference() {
    let folder = common::export("sentences-xlmr");
    let cases = cases(200, 48, false);
    for (asked, pooled) in [
        ("{}", first as fn(&[Vec<f64>]) -> Vec<f64>),
        (r#"{"pooling": "Mean"}"#, mean),
        (r#"{"pooling": "MeanSqrtLength", "normalize": false}"#, by_root),
        (r#"{"pooling": "WeightedMean"}"#, weighted),
        (r#"{"pooling": "Max", "normalize": false}"#, greatest),
        (r#"{"pooling": "LastToken"}"#, last),
    ] {
        compare_embeddings(&folder, &cases, asked, pooled, 0.999_999);
    }
    // Padding on the other side gives the same vectors: this model counts positions from the text.
    let place = tempfile::tempdir().unwrap();
    let left = common::copy_of(&folder, place.path());
    let path = left.join("tokenizer_config.json");
    let mut config: serde_json::Value = json(&path);
    config["padding_side"] = "left".into();
    std::fs::write(path, config.to_string()).unwrap();
    for (asked, pooled) in [
        (r#"{"pooling": "Mean"}"#, mean as fn(&[Vec<f64>]) -> Vec<f64>),
        (r#"{"pooling": "LastToken"}"#, last),
    ] {
        compare_embeddings(&left, &cases, asked, pooled, 0.999_999);
    }
}

#[test]
fn minilm_answers_as_the_reference() {
    let place = tempfile::tempdir().unwrap();
    let folder = common::minilm(place.path());
    let cases = cases(120, 256, false);
    compare_embeddings(&folder, &cases, "{}", mean, 0.9999);
    let mut model = embedder(&folder).unwrap();
    let expected: Vec<Reference<Vec<Vec<f64>>>> = reference(&folder, &cases[..40]);
    for (case, expected) in cases.iter().zip(&expected) {
        let [alone] =
            <[Embedding; 1]>::try_from(model.answer(&[case.text()], &Parameters::default()).unwrap())
                .unwrap();
        let cosine = cosine(&alone.values, &mean(&expected.output));
        assert!(cosine > 0.999_999, "{case:?}: {cosine}");
        let length: f32 = alone.values.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "its modules.json asks for length 1, not {length}");
    }
}

#[test]
fn prompts_of_the_export_go_before_texts() {
    let place = tempfile::tempdir().unwrap();
    let folder = common::copy_of(&common::export("sentences-xlmr"), place.path());
    let one = |text: &str| [Text { text: text.to_owned(), pair: None }];
    let with = |config: &str| {
        std::fs::write(folder.join("config_sentence_transformers.json"), config).unwrap();
        embedder(&folder).unwrap()
    };
    let named = |name: &str| Parameters { prompt_name: Some(name.to_owned()), ..Parameters::default() };
    let prompts = r#""prompts": {"query": "wonderful ", "document": ""}"#;
    let mut plain = with(&format!("{{{prompts}, \"default_prompt_name\": null}}"));
    let mut by_default = with(&format!("{{{prompts}, \"default_prompt_name\": \"query\"}}"));
    let none = Parameters::default();
    let expected = plain.answer(&one("wonderful day"), &none).unwrap();
    assert_ne!(plain.answer(&one("day"), &none).unwrap(), expected);
    assert_eq!(plain.answer(&one("day"), &named("query")).unwrap(), expected);
    assert_eq!(by_default.answer(&one("day"), &none).unwrap(), expected);
    assert_eq!(by_default.answer(&one("wonderful day"), &named("document")).unwrap(), expected);
    let refusal = plain.answer(&one("day"), &named("passage")).unwrap_err().to_string();
    assert!(refusal.contains("\"passage\"") && refusal.contains("document, query"), "{refusal}");
}

#[test]
fn minilm_knows_what_is_alike() {
    let place = tempfile::tempdir().unwrap();
    let mut model = embedder(&common::minilm(place.path())).unwrap();
    let texts = ["A dog runs in the park.", "A puppy plays outside.", "Interest rates were raised again."];
    let texts = texts.map(|text| Text { text: text.to_owned(), pair: None });
    let answers = model.answer(&texts, &Parameters::default()).unwrap();
    let near = |a: &Embedding, b: &Embedding| a.values.iter().zip(&b.values).map(|(a, b)| a * b).sum::<f32>();
    let (alike, apart) = (near(&answers[0], &answers[1]), near(&answers[0], &answers[2]));
    assert!(alike > apart + 0.3, "{alike} {apart}");
}

#[test]
fn no_text_one_text_and_empty_texts() {
    let one = |text: &str| vec![Text { text: text.to_owned(), pair: None }];
    let none = Parameters::default();
    let mut labels = classifier(&common::export("sentiment-distilbert")).unwrap();
    assert_eq!(labels.answer(&[], &none).unwrap(), Vec::<Vec<Label>>::new());
    assert_eq!(labels.answer(&one("fine"), &none).unwrap()[0].len(), 2);
    assert_eq!(labels.answer(&one(""), &none).unwrap()[0].len(), 2);
    let top = labels.answer(&one("fine"), &parameters(r#"{"topK": 1}"#)).unwrap();
    assert_eq!(top[0], labels.answer(&one("fine"), &none).unwrap()[0][..1]);
    let mut vectors = embedder(&common::export("sentences-xlmr")).unwrap();
    assert_eq!(vectors.answer(&[], &none).unwrap(), Vec::<Embedding>::new());
    assert_eq!(vectors.answer(&one(""), &none).unwrap()[0].tokens, 2);
    let each = vectors.answer(&one("wonderful"), &parameters(r#"{"pooling": "None"}"#)).unwrap();
    assert_eq!(each[0].values.len(), each[0].tokens * each[0].width);
}

#[test]
fn what_cannot_be_done_is_refused_with_the_numbers() {
    let mut model = classifier(&common::export("sentiment-distilbert")).unwrap();
    let mut check = |text: &str, asked: &str, parts: &[&str]| {
        let texts =
            [Text { text: "short".to_owned(), pair: None }, Text { text: text.to_owned(), pair: None }];
        let refusal = model.answer(&texts, &parameters(asked)).unwrap_err();
        let too_large = ["has 102", "most is 10", "bytes"].iter().any(|part| parts[0].contains(part));
        assert_eq!(matches!(refusal, TaskError::TooLarge(_)), too_large, "{refusal:?}");
        for part in parts {
            assert!(refusal.to_string().contains(part), "{refusal}");
        }
    };
    let long = "wonderful ".repeat(100);
    check(&long, r#"{"truncate": false}"#, &["text 1 has 102 tokens", "the most is 64"]);
    check(&long, r#"{"truncate": false, "maxTokens": 10}"#, &["the most is 10"]);
    check("", r#"{"maxTokens": 65}"#, &["maxTokens is 65", "64 at the most"]);
    check("", r#"{"maxTokens": 2}"#, &["maxTokens is 2", "2 go to"]);
    check("", r#"{"topK": 0}"#, &["topK is 0"]);
    check(&"x".repeat(1024 * 1024 + 1), "{}", &["text 1 has 1048577 bytes"]);
    let whole = embedder(&common::export("sentences-whole"))
        .unwrap()
        .answer(&[], &parameters(r#"{"maxTokens": 17}"#));
    assert!(whole.unwrap_err().to_string().contains("16 at the most"));
}

#[test]
fn a_broken_file_is_a_load_error_that_names_it() {
    let check = |model: &str, file: &str, content: &str, parts: &[&str]| {
        let place = tempfile::tempdir().unwrap();
        let folder = common::copy_of(&common::export(model), place.path());
        std::fs::write(folder.join(file), content).unwrap();
        let files = match ModelFiles::find(&folder, None) {
            Ok(files) => files,
            Err(error) => {
                let error = error.to_string();
                assert!(parts.iter().all(|part| error.contains(part)), "{error}");
                return;
            }
        };
        let opened = match &files {
            ModelFiles::TextClassification(files) => {
                TextClassifier::open(&common::engine(), files).map(|_| ())
            }
            ModelFiles::FeatureExtraction(files) => Embedder::open(&common::engine(), files).map(|_| ()),
            other @ (ModelFiles::Ocr(_)
            | ModelFiles::EasyOcr { .. }
            | ModelFiles::ImageClassification(_)
            | ModelFiles::Tensor { .. }) => {
                panic!("{other:?}")
            }
        };
        let error = opened.unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    check("sentiment-distilbert", "tokenizer.json", "{", &["tokenizer.json cannot be used"]);
    check("sentiment-distilbert", "tokenizer.json", "{}", &["tokenizer.json cannot be used"]);
    check("sentiment-distilbert", "config.json", "{", &["config.json cannot be read"]);
    let kind = r#"{"architectures": ["XForSequenceClassification"], "problem_type": "guess"}"#;
    check("sentiment-distilbert", "config.json", kind, &["config.json cannot be used", "guess"]);
    check("sentiment-distilbert", "tokenizer_config.json", "[]x", &["tokenizer_config.json cannot be used"]);
    check("sentiment-distilbert", "model.onnx", "no graph", &["cannot open the model", "model.onnx"]);
    check("sentences-xlmr", "1_Pooling/config.json", "{", &["1_Pooling/config.json cannot be used"]);
    let dense = r#"[{"type": "sentence_transformers.models.Dense"}]"#;
    check("sentences-xlmr", "modules.json", dense, &["modules.json", "Dense", "sentence_embedding"]);
}
