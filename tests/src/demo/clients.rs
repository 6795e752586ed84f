//! People who post the same picture all the time, and what they were answered.

use std::collections::BTreeMap;

use anyhow::Result;
use bytes::Bytes;

use super::expect_sign;
use crate::scenario::Scenario;

/// The clients.
#[derive(Debug)]
pub struct Clients<'a> {
    scenario: &'a Scenario,
    url: String,
    picture: Bytes,
    /// Right answers, by the version that gave them.
    pub by_version: BTreeMap<String, u64>,
    /// What went wrong.
    pub failed: Vec<String>,
}

impl<'a> Clients<'a> {
    /// Clients of a URL.
    #[must_use]
    pub fn new(scenario: &'a Scenario, url: &str, picture: Bytes) -> Self {
        let (url, by_version) = (url.to_owned(), BTreeMap::new());
        Self { scenario, url, picture, by_version, failed: Vec::new() }
    }

    async fn ask(&self) -> Result<String> {
        let path = "ocr?language=en,ch_sim";
        let answer = self.scenario.post(&self.url, path, "image/png", self.picture.clone()).await?;
        expect_sign(&answer)?;
        Ok(answer.version)
    }

    fn note(&mut self, asked: Result<String>) {
        match asked {
            Ok(version) => *self.by_version.entry(version).or_default() += 1,
            Err(error) => self.failed.push(format!("{error:#}")),
        }
    }

    /// Asks one time after another until `work` is done.
    ///
    /// # Errors
    /// Never of its own; failed requests are noted.
    pub async fn while_busy<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(work);
        loop {
            // A request that is under way when the work is done is still awaited.
            let mut done = None;
            let asked = {
                let ask = self.ask();
                tokio::pin!(ask);
                tokio::select! {
                    asked = &mut ask => asked,
                    result = &mut work => {
                        done = Some(result);
                        ask.await
                    }
                }
            };
            self.note(asked);
            if let Some(result) = done {
                return Ok(result);
            }
        }
    }

    /// Asks `times` more.
    ///
    /// # Errors
    /// Never of its own; failed requests are noted.
    pub async fn more(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            let asked = self.ask().await;
            self.note(asked);
        }
        Ok(())
    }

    /// What they were answered, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let answers: Vec<String> =
            self.by_version.iter().map(|(version, n)| format!("{n} by version {version}")).collect();
        format!("requests answered rightly: {}; failed: {}", answers.join(", "), self.failed.len())
    }
}
