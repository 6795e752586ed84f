//! One of several invocations that copy a model together.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most workers that may share a copy.
pub const MAX_WORKERS: u16 = 64;

/// A worker: which one, and of how many. Each fetches a share of every model's bytes, and no two of the same
/// number fetch the same.
///
/// In JSON `{"index": 0, "of": 8}`, in text `0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Worker {
    index: u16,
    of: u16,
}

/// Numbers that are no worker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "worker {index}/{of} does not exist: indices count from 0 up to the number of workers, which is 1 to {MAX_WORKERS}"
)]
pub struct NoSuchWorker {
    index: u16,
    of: u16,
}

impl Worker {
    /// The worker with this `index`, counted from 0, of so many.
    ///
    /// # Errors
    /// [`NoSuchWorker`] unless `index < of <= MAX_WORKERS`.
    pub const fn new(index: u16, of: u16) -> Result<Self, NoSuchWorker> {
        if index < of && of <= MAX_WORKERS { Ok(Self { index, of }) } else { Err(NoSuchWorker { index, of }) }
    }

    /// All workers of so many, at least one and at most [`MAX_WORKERS`].
    pub fn all(of: u16) -> impl Iterator<Item = Self> {
        let of = of.clamp(1, MAX_WORKERS);
        (0..of).map(move |index| Self { index, of })
    }

    /// Which one, counted from 0.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.index
    }

    /// Of how many.
    #[must_use]
    pub const fn of(self) -> u16 {
        self.of
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    index: u16,
    of: u16,
}

impl TryFrom<Unchecked> for Worker {
    type Error = NoSuchWorker;
    fn try_from(Unchecked { index, of }: Unchecked) -> Result<Self, NoSuchWorker> {
        Self::new(index, of)
    }
}

impl From<Worker> for Unchecked {
    fn from(Worker { index, of }: Worker) -> Self {
        Self { index, of }
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Worker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        let (index, of) =
            numbers.ok_or_else(|| format!("{text:?} is no worker: write INDEX/OF, as in 0/8"))?;
        Self::new(index, of).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        let worker: Worker = "3/8".parse().unwrap();
        assert_eq!((worker.index(), worker.of(), worker.to_string()), (3, 8, "3/8".to_owned()));
        let json = serde_json::to_string(&worker).unwrap();
        assert_eq!(json, r#"{"index":3,"of":8}"#);
        assert_eq!(serde_json::from_str::<Worker>(&json).unwrap(), worker);
        for bad in ["8/8", "0/0", "0/65", "-1/2", "1", "1/", "a/b", ""] {
            assert!(bad.parse::<Worker>().is_err(), "{bad}");
        }
        for bad in [r#"{"index":8,"of":8}"#, r#"{"index":0}"#, r#"{"index":0,"of":1,"x":1}"#] {
            assert!(serde_json::from_str::<Worker>(bad).is_err(), "{bad}");
        }
        assert_eq!(Worker::all(0).count(), 1);
        assert_eq!(Worker::all(9).count(), 9);
    }
}
