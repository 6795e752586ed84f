//! Deliberate breakages of the product, each with the rule that it breaks and the test that must catch it: the list
//! is `tests/mutations/rules.yaml`.
//!
//! All of them are built at once: a copy of the sources has, at each place, what is there and what breaks it, and an
//! environment variable chooses. [`run`] does so.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

pub mod run;

/// Says which mutation is on, counted from 1.
pub const VARIABLE: &str = "LARDER_MUTATION";

/// A rule, and how it is broken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// The rule.
    pub rule: String,
    /// The source file, from the root of the repository.
    pub file: String,
    /// The text around it, where `from` stands more than once.
    pub within: Option<String>,
    /// What is there.
    pub from: String,
    /// What breaks the rule.
    pub to: String,
    /// The test that must fail then: its program, `::`, its name.
    pub caught_by: String,
}

impl Mutation {
    /// The program and the name of its test.
    ///
    /// # Errors
    /// When there is no `::`.
    pub fn test(&self) -> Result<(&str, &str)> {
        self.caught_by.split_once("::").with_context(|| format!("{} names no test", self.caught_by))
    }

    /// Whether its rule, file or test has `text` in it.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        [&self.rule, &self.file, &self.caught_by].into_iter().any(|it| it.contains(text))
    }

    /// Where `from` begins in `source`.
    fn place(&self, source: &str) -> Result<usize> {
        let once = |text: &str, what: &str| {
            let places: Vec<usize> = text.match_indices(what).map(|(at, _)| at).collect();
            match places[..] {
                [at] => Ok(at),
                _ => bail!(
                    "{:?}: {what:?} stands {} times in {}, and must once: bring tests/mutations/rules.yaml up to date",
                    self.rule,
                    places.len(),
                    self.file
                ),
            }
        };
        let Some(within) = &self.within else { return once(source, &self.from) };
        Ok(once(source, within)? + once(within, &self.from)?)
    }
}

/// The list.
///
/// # Errors
/// When it cannot be read.
pub fn list(root: &Path) -> Result<Vec<Mutation>> {
    let path = root.join("tests/mutations/rules.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_yaml::from_str(&text).with_context(|| path.display().to_string())
}

/// The files that the mutations change, with all mutations in them.
///
/// # Errors
/// When a mutation no longer applies.
pub fn mutated(root: &Path, mutations: &[Mutation]) -> Result<BTreeMap<String, String>> {
    let mut by_file: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    let mut sources: BTreeMap<&str, String> = BTreeMap::new();
    for (i, mutation) in mutations.iter().enumerate() {
        if !sources.contains_key(mutation.file.as_str()) {
            let path = root.join(&mutation.file);
            let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            sources.insert(&mutation.file, source);
        }
        let place = mutation.place(&sources[mutation.file.as_str()])?;
        by_file.entry(&mutation.file).or_default().push((place, i));
    }
    let mut mutated = BTreeMap::new();
    for (file, mut places) in by_file {
        places.sort_unstable();
        let source = &sources[file];
        let (mut text, mut end) = (String::new(), 0);
        for (place, i) in places {
            let Mutation { from, to, rule, .. } = &mutations[i];
            ensure!(place >= end, "{rule:?}: its place in {file} is another mutation's, too");
            text += &source[end..place];
            text += &broken(i + 1, from, to);
            end = place + from.len();
        }
        text += &source[end..];
        // What asks the environment is no constant.
        let text = text.replace("const fn", "fn");
        mutated.insert(file.to_owned(), text);
    }
    Ok(mutated)
}

/// What is there, or what breaks it when it is on.
fn broken(number: usize, from: &str, to: &str) -> String {
    let is_on = format!(r#"std::env::var("{VARIABLE}").is_ok_and(|it| it == "{number}")"#);
    let either = format!("if {is_on} {{ {to} }} else {{ {from} }}");
    if from.ends_with(';') { either } else { format!("({either})") }
}
