//! Builds a copy of the sources with all mutations, and runs each one's test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Mutation, VARIABLE, mutated};

/// A test that does not end has noticed, too.
const LONGEST: Duration = Duration::from_mins(3);

/// What came of a mutation.
#[derive(Debug)]
pub struct Outcome {
    /// Its test failed, or did not end.
    pub is_caught: bool,
    /// How long its test took.
    pub took: Duration,
}

/// The test programs of the copy, by name.
#[derive(Debug)]
pub struct Built {
    programs: BTreeMap<String, PathBuf>,
    tree: PathBuf,
}

/// Copies the sources to `dir`, with all mutations in them, and builds the programs that the mutations name.
/// What is the same as in an earlier copy keeps its age, so that it is not built again.
///
/// # Errors
/// When a mutation no longer applies, or does not build.
pub fn build(root: &Path, dir: &Path, mutations: &[Mutation]) -> Result<Built> {
    let mut files = Command::new("git");
    files.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let files = files.current_dir(root).output()?;
    ensure!(files.status.success(), "git ls-files: {}", String::from_utf8_lossy(&files.stderr));
    let mutated = mutated(root, mutations)?;
    let tree = dir.join("tree");
    for file in String::from_utf8(files.stdout)?.split('\0').filter(|file| root.join(file).is_file()) {
        let content = match mutated.get(file) {
            Some(text) => text.clone().into_bytes(),
            None => std::fs::read(root.join(file))?,
        };
        let path = tree.join(file);
        if std::fs::read(&path).is_ok_and(|there| there == content) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content).with_context(|| path.display().to_string())?;
    }
    let programs = mutations.iter().map(|it| Ok(it.test()?.0)).collect::<Result<BTreeSet<&str>>>()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--workspace", "--locked", "--no-run", "--lib", "--message-format=json"]);
    for program in programs.iter().filter(|program| !program.starts_with("larder")) {
        cargo.args(["--test", program]);
    }
    cargo.current_dir(&tree).env("CARGO_TARGET_DIR", dir.join("target"));
    let built = cargo.stderr(Stdio::inherit()).output().context("cargo")?;
    let messages = String::from_utf8(built.stdout)?;
    let messages =
        messages.lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>()?;
    if !built.status.success() {
        let errors = messages.iter().map(|it| &it["message"]).filter(|it| it["level"] == "error");
        let errors: Vec<&str> = errors.filter_map(|it| it["rendered"].as_str()).collect();
        bail!("the mutated sources in {} do not build:\n{}", tree.display(), errors.join("\n"));
    }
    let mut found = BTreeMap::new();
    for message in &messages {
        let (name, program) = (&message["target"]["name"], &message["executable"]);
        let (Some(name), Some(program)) = (name.as_str(), program.as_str()) else { continue };
        if message["profile"]["test"] == true {
            found.insert(name.to_owned(), PathBuf::from(program));
        }
    }
    Ok(Built { programs: found, tree })
}

impl Built {
    /// That every named test is there, and passes without a mutation.
    ///
    /// # Errors
    /// When it is not so.
    pub fn check<'a>(&self, mutations: impl IntoIterator<Item = &'a Mutation>) -> Result<()> {
        let tests = mutations.into_iter().map(Mutation::test).collect::<Result<BTreeSet<_>>>()?;
        for (program, name) in tests {
            let output = self.command(program, name)?.output()?;
            let told = String::from_utf8_lossy(&output.stdout);
            if !output.status.success() || !told.contains("1 passed") {
                bail!("{program}::{name} must pass where nothing is broken: {told}");
            }
        }
        Ok(())
    }

    /// Turns a mutation on, counted from 1, and runs its test.
    ///
    /// # Errors
    /// When the test cannot be run.
    pub fn run(&self, number: usize, mutation: &Mutation) -> Result<Outcome> {
        let (program, name) = mutation.test()?;
        let mut command = self.command(program, name)?;
        let started = Instant::now();
        let mut child = command
            .env(VARIABLE, number.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| program.to_owned())?;
        let status: Option<ExitStatus> = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if started.elapsed() > LONGEST {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let is_caught = status.is_none_or(|status| !status.success());
        Ok(Outcome { is_caught, took: started.elapsed() })
    }

    fn command(&self, program: &str, name: &str) -> Result<Command> {
        let path =
            self.programs.get(program).with_context(|| format!("there is no test program {program}"))?;
        let mut command = Command::new(path);
        command.args(["--exact", name]).current_dir(self.tree.join("tests"));
        Ok(command)
    }
}
