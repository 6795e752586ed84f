//! Breaks each rule of `tests/mutations/rules.yaml` in a copy of the sources, and demands that its test fails:
//! `make mutations`. Its first argument is a folder for the copy and what is built of it; the others, if there are any,
//! say which are turned on: those whose rule, file or test has one of these texts in it.

#![expect(clippy::print_stdout, reason = "it tells people")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use larder_tests::mutations::{Mutation, list, run};

fn main() -> Result<ExitCode> {
    let dir = PathBuf::from(std::env::args().nth(1).context("usage: mutations FOLDER")?);
    let dir = std::path::absolute(dir)?;
    let root = std::env::current_dir()?;
    let mutations = list(&root)?;
    let built = run::build(&root, &dir, &mutations)?;
    let texts: Vec<String> = std::env::args().skip(2).collect();
    let is_chosen = |it: &Mutation| texts.is_empty() || texts.iter().any(|text| it.mentions(text));
    let chosen: Vec<(usize, &Mutation)> =
        mutations.iter().enumerate().filter(|(_, mutation)| is_chosen(mutation)).collect();
    built.check(chosen.iter().map(|(_, mutation)| *mutation))?;
    let mut survived = 0;
    for (i, mutation) in chosen.iter().copied() {
        let outcome = built.run(i + 1, mutation)?;
        let seconds = outcome.took.as_secs_f64();
        if outcome.is_caught {
            println!("{:>3} caught in {seconds:.1} s by {}: {}", i + 1, mutation.caught_by, mutation.rule);
        } else {
            survived += 1;
            println!("{:>3} SURVIVED {}: {}", i + 1, mutation.caught_by, mutation.rule);
        }
    }
    println!("{} rules broken, {} caught, {survived} survived", chosen.len(), chosen.len() - survived);
    Ok(if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
