//! Ways to open a model file, each in a process of its own, so that its memory is its own too.

use std::path::Path;
use std::time::Instant;

use larder_inference::onnx::reading;
use larder_native::MappedFile;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{DynValue, Tensor, TensorElementType, ValueType};
use serde::{Deserialize, Serialize};

use crate::common;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    OriginalByOnnxRuntime,
    OriginalReadFirst,
    PreparedByOnnxRuntime,
    Mapped,
    MappedAndAdvised,
    MappedAndReadFirst,
    OneBuffer,
}

pub(crate) const WAYS: [Way; 7] = [
    Way::OriginalByOnnxRuntime,
    Way::OriginalReadFirst,
    Way::PreparedByOnnxRuntime,
    Way::Mapped,
    Way::MappedAndAdvised,
    Way::MappedAndReadFirst,
    Way::OneBuffer,
];

impl Way {
    pub(crate) fn is_of_the_original(self) -> bool {
        matches!(self, Self::OriginalByOnnxRuntime | Self::OriginalReadFirst)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OriginalByOnnxRuntime => "original, by ONNX Runtime",
            Self::OriginalReadFirst => "original, read in parallel before",
            Self::PreparedByOnnxRuntime => "prepared, by ONNX Runtime",
            Self::Mapped => "prepared, mapped",
            Self::MappedAndAdvised => "prepared, mapped, `MADV_WILLNEED`",
            Self::MappedAndReadFirst => "prepared, mapped, read in parallel before",
            Self::OneBuffer => "prepared, read in parallel into one buffer",
        }
    }
}

/// What a way took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) open_ms: f64,
    /// The first run included.
    pub(crate) answer_ms: f64,
    /// The most memory of the process, in KiB.
    pub(crate) peak: u64,
}

/// Opens and runs a file in this process, of which there is nothing else to be seen.
pub(crate) fn take(way: Way, file: &Path) -> Took {
    // The library before anything else of it.
    let environment = ort::init_from(common::library()).unwrap().with_telemetry(false);
    let pool = GlobalThreadPoolOptions::default().with_intra_threads(2).unwrap();
    let pool = pool.with_inter_threads(1).unwrap().with_spin_control(false).unwrap();
    let environment = environment.with_global_thread_pool(pool).build().unwrap();
    let began = Instant::now();
    let since = || began.elapsed().as_secs_f64() * 1e3;
    let done = |open_ms: f64, session: &mut Session| {
        let inputs: Vec<(String, DynValue)> =
            session.inputs().iter().map(|i| (i.name().to_owned(), made_up(i.dtype()))).collect();
        drop(session.run(inputs).unwrap());
        open_ms
    };
    let builder = || builder(&environment);
    let open_ms = match way {
        Way::OriginalByOnnxRuntime | Way::PreparedByOnnxRuntime => {
            let mut session = builder().commit_from_file(file).unwrap();
            done(since(), &mut session)
        }
        Way::OriginalReadFirst => {
            reading::ahead(file).unwrap();
            let mut session = builder().commit_from_file(file).unwrap();
            done(since(), &mut session)
        }
        Way::Mapped | Way::MappedAndAdvised | Way::MappedAndReadFirst => {
            let map = MappedFile::open(file).unwrap();
            if way == Way::MappedAndAdvised {
                map.read_ahead().unwrap();
            } else if way == Way::MappedAndReadFirst {
                reading::ahead(file).unwrap();
            }
            let mut session = direct(builder(), &map);
            done(since(), &mut session)
        }
        Way::OneBuffer => {
            let bytes = reading::whole(file).unwrap();
            let mut session = direct(builder(), &bytes);
            done(since(), &mut session)
        }
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    Took { open_ms, answer_ms: since(), peak: peak.split_whitespace().next().unwrap().parse().unwrap() }
}

/// As the program's own sessions.
fn builder(environment: &Environment) -> SessionBuilder {
    Session::builder(environment)
        .unwrap()
        .with_optimization_level(GraphOptimizationLevel::All)
        .unwrap()
        .with_memory_pattern(false)
        .unwrap()
        .with_execution_providers([ep::CPU::default().with_arena_allocator(true).build()])
        .unwrap()
}

/// The bytes outlive the session: it is dropped by the end of [`take`]'s arm.
fn direct(builder: SessionBuilder, bytes: &[u8]) -> Session {
    builder
        .with_config_entry("session.use_ort_model_bytes_directly", "1")
        .unwrap()
        .with_config_entry("session.use_ort_model_bytes_for_initializers", "1")
        .unwrap()
        .commit_from_memory(bytes)
        .unwrap()
}

fn made_up(dtype: &ValueType) -> DynValue {
    let ValueType::Tensor { ty, shape, .. } = dtype else { panic!("{dtype:?}") };
    let size = |(axis, size): (usize, &i64)| match (axis, *size) {
        (_, known) if known > 0 => known,
        (0, _) => 1,
        (1, _) if shape.len() == 4 => 3,
        (2, _) => 64,
        _ => 96,
    };
    let shape: Vec<i64> = shape.iter().enumerate().map(size).collect();
    let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
    if *ty == TensorElementType::Int64 {
        return Tensor::from_array((shape, vec![1_i64; count])).unwrap().into_dyn();
    }
    Tensor::from_array((shape, vec![0.5_f32; count])).unwrap().into_dyn()
}
