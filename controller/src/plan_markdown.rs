//! The plans of endpoints as Markdown, for the comments of pull requests.

use std::fmt::Write as _;

use larder_core::Area;
use larder_core::step::Effect;

use crate::plan_command::{NEW, Planned, Verdict, count, stuck};

/// A line that sums up, then for each endpoint a heading, its own sum and a diff. The marks are those that hosts
/// of Git repositories colour: `!` for a change, `#` for what is neither made, changed nor deleted.
#[must_use]
pub fn markdown(all: &[Planned]) -> String {
    let known: Vec<_> = all.iter().filter_map(|planned| planned.foreseen.as_ref().ok()).collect();
    let total = known
        .iter()
        .map(|foreseen| count(foreseen))
        .fold([0; 4], |sum, it| std::array::from_fn(|n| sum[n] + it[n]));
    let mut text = format!("**Larder plan** of {}: {}", endpoints(all.len()), sum(total));
    let unknown = all.len() - known.len();
    if unknown > 0 {
        let _ = write!(text, " {} could not be planned.", endpoints(unknown));
    }
    text.push('\n');
    for planned in all {
        let _ = writeln!(text, "\n## InferenceEndpoint {}\n", planned.name);
        one(planned, &mut text);
    }
    text
}

fn endpoints(count: usize) -> String {
    if count == 1 { "1 endpoint".to_owned() } else { format!("{count} endpoints") }
}

fn sum([create, change, delete, run]: [usize; 4]) -> String {
    format!("{create} to add, {change} to change, {delete} to delete, {run} to run.")
}

fn one(planned: &Planned, text: &mut String) {
    let foreseen = match &planned.foreseen {
        Ok(foreseen) => foreseen,
        Err(why) => {
            let _ = writeln!(text, "It could not be planned:");
            fenced("", &[one_line(why)], text);
            return;
        }
    };
    if planned.verdict() == Verdict::NothingToDo {
        text.push_str("Nothing to do: AWS holds what is wanted.\n");
        return;
    }
    let _ = writeln!(text, "{}", sum(count(foreseen)));
    if planned.is_new {
        let _ = writeln!(text, "{NEW}");
    }
    if let Some(held) = &planned.held {
        fenced("", &[one_line(held)], text);
    }
    let mut lines = Vec::new();
    for area in Area::ALL {
        let steps = foreseen.steps.iter().filter(|(of, _)| *of == area);
        let mut of_area: Vec<String> = steps
            .map(|(_, step)| {
                let mark = match step.effect() {
                    Effect::Creates => '+',
                    Effect::Changes => '!',
                    Effect::Deletes => '-',
                    Effect::Runs => '#',
                };
                one_line(&format!("{mark} {step}"))
            })
            .collect();
        of_area.extend(stuck(foreseen, area).map(|stuck| one_line(&format!("# blocked: {stuck}"))));
        if !of_area.is_empty() {
            lines.push(format!("@@ {} @@", area.condition()));
            lines.append(&mut of_area);
        }
    }
    fenced("diff", &lines, text);
}

/// A text of others must not begin a line of its own.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A block in a fence that is longer than any run of backticks in it.
fn fenced(language: &str, lines: &[String], text: &mut String) {
    let longest = lines.iter().flat_map(|line| line.split(|c| c != '`')).map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = writeln!(text, "\n{fence}{language}\n{}\n{fence}", lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_stay_in_their_block() {
        let why = "it says\n```\n# Approved\n```".to_owned();
        let planned =
            Planned { name: "vision/signs".to_owned(), is_new: false, held: None, foreseen: Err(why) };
        let text = markdown(&[planned]);
        assert_eq!(
            text,
            "**Larder plan** of 1 endpoint: 0 to add, 0 to change, 0 to delete, 0 to run. 1 endpoint could not be planned.\n\n\
             ## InferenceEndpoint vision/signs\n\nIt could not be planned:\n\n\
             ````\nit says ``` # Approved ```\n````\n"
        );
    }
}
