//! `verify`: whether revisions are still what was copied.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use larder_contract::Digest;

use super::{CommandError, folders_named_by_digest, print, show, stop_by_signal};
use crate::transfer::Progress;
use crate::verify::{State, Verdict, verify};

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The folder that `copy` wrote to.
    dir: PathBuf,
    /// Only this revision; may be given more than once.
    #[arg(long, value_name = "DIGEST")]
    revision: Vec<Digest>,
    /// Neither bar nor sentences: one line of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: VerifyArgs) -> Result<(), CommandError> {
    let stop = stop_by_signal()?;
    let revisions = if args.revision.is_empty() {
        let mut all = folders_named_by_digest(&args.dir.join("revisions"))?;
        all.sort();
        all
    } else {
        args.revision.clone()
    };
    if revisions.is_empty() {
        return Err(CommandError::NoRevisions(args.dir));
    }
    let progress = Arc::new(Progress::default());
    let bar = (!args.json).then(|| show(&progress));
    let mut verdicts = Vec::new();
    for revision in revisions {
        let (dir, progress, stop) = (args.dir.clone(), Arc::clone(&progress), stop.clone());
        let looked = tokio::task::spawn_blocking(move || verify(&dir, &revision, &progress, &stop)).await??;
        verdicts.push(looked.ok_or(CommandError::Stopped)?);
    }
    drop(bar);
    if args.json {
        print(&verdicts, true)?;
    } else {
        in_words(&verdicts).map_err(CommandError::Output)?;
    }
    let count = |state| verdicts.iter().filter(|verdict| verdict.state == state).count();
    match (count(State::Damaged), count(State::Unrecorded)) {
        (0, 0) => Ok(()),
        (0, unrecorded) => Err(CommandError::Unrecorded(unrecorded, verdicts.len())),
        (damaged, _) => Err(CommandError::Damaged(damaged, verdicts.len())),
    }
}

fn in_words(verdicts: &[Verdict]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for Verdict { revision, state, files, bytes, problems } in verdicts {
        match state {
            State::Intact => writeln!(out, "{revision}: intact, {files} files, {bytes} bytes")?,
            State::Unrecorded => writeln!(out, "{revision}: no record")?,
            State::Damaged => writeln!(out, "{revision}: damaged")?,
        }
        for problem in problems {
            writeln!(out, "  {}: {}", problem.path, problem.message)?;
        }
    }
    Ok(())
}
