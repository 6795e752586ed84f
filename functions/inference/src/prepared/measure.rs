//! What it costs to open a model file one way or another, on inputs that are made up.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Cost;
use crate::onnx::{Engine, OnnxError, Session};
use crate::tasks::tensor::{Datatype, Elements, NamedTensor, Port, TensorModel};

/// Openings, and the least runs after the first; the quickest counts.
const TIMES: usize = 5;

/// Runs go on for this long, at most this often: the quickest of a few is not the same twice when a run takes
/// a millisecond.
const RUNNING: Duration = Duration::from_millis(200);
const MOST_RUNS: usize = 100;

/// The most elements of a made-up input.
const MOST_ELEMENTS: i64 = 4_000_000;

/// What was measured, and the answer, to compare with.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) cost: Cost,
    pub(super) answer: Vec<NamedTensor>,
}

/// Opens and runs a file some times.
pub(super) fn measured(
    engine: &Engine,
    path: &Path,
    open: impl Fn(&Engine, &Path) -> Result<Session, OnnxError>,
) -> Result<Measured, String> {
    let told = |e: OnnxError| crate::error::chain(&e);
    let mut opens = Vec::new();
    let mut model = None;
    for _ in 0..TIMES {
        // Two at a time would be twice the memory.
        drop(model.take());
        let started = Instant::now();
        model = Some(TensorModel::new(open(engine, path).map_err(told)?));
        opens.push(milliseconds(started));
    }
    let mut model = model.ok_or("it was never opened")?;
    let inputs = model.inputs().iter().map(made_up).collect::<Result<Vec<_>, _>>()?;
    let wanted: Vec<String> = model.outputs().into_iter().map(|port| port.name).collect();
    let answer = model.run(inputs.clone(), &wanted).map_err(|e| crate::error::chain(&e))?;
    let mut runs = Vec::new();
    let begun = Instant::now();
    while runs.len() < TIMES || (begun.elapsed() < RUNNING && runs.len() < MOST_RUNS) {
        let inputs = inputs.clone();
        let started = Instant::now();
        model.run(inputs, &wanted).map_err(|e| crate::error::chain(&e))?;
        runs.push(milliseconds(started));
    }
    let bytes = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    Ok(Measured { cost: Cost { bytes, open_ms: least(&opens), run_ms: least(&runs) }, answer })
}

/// Whether two answers are the same but for rounding.
pub(super) fn agree(ours: &[NamedTensor], theirs: &[NamedTensor]) -> bool {
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 + 1e-3 * b.abs() || (a.is_nan() && b.is_nan());
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(a, b)| {
            a.shape == b.shape
                && match (&a.elements, &b.elements) {
                    (Elements::Fp32(a), Elements::Fp32(b)) => a.iter().zip(b).all(close),
                    (a, b) => a == b,
                }
        })
}

/// An input of the smallest sizes that most graphs take: where the graph says nothing, one row, and 32 of
/// what is behind it.
fn made_up(port: &Port) -> Result<NamedTensor, String> {
    let size = |(axis, size): (usize, &i64)| match (axis, *size) {
        (_, known) if known > 0 => known,
        (0, _) => 1,
        (1, _) if port.shape.len() == 4 => 3,
        _ => 32,
    };
    let shape: Vec<i64> = port.shape.iter().enumerate().map(size).collect();
    let elements = shape.iter().try_fold(1_i64, |all, n| all.checked_mul(*n)).unwrap_or(i64::MAX);
    let unfit = |why: &str| Err(format!("its input {} {why}", port.name));
    if elements > MOST_ELEMENTS {
        return unfit("is too large to be made up");
    }
    let count = usize::try_from(elements).unwrap_or(0);
    let elements = match port.datatype {
        Some(Datatype::Fp32) => Elements::Fp32(vec![0.5; count]),
        Some(Datatype::Int64) => Elements::Int64(vec![1; count]),
        Some(Datatype::Int32) => Elements::Int32(vec![1; count]),
        Some(Datatype::Bool) => Elements::Bool(vec![true; count]),
        Some(Datatype::Uint8) => Elements::Uint8(vec![128; count]),
        _ => return unfit("has a type that is not made up"),
    };
    Ok(NamedTensor { name: port.name.clone(), shape, elements })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The least of some times: what the work takes when nothing else gets in its way.
fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
