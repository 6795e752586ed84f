//! What a rollout remembers: the alias's `Description`, which changes together with its weights. So it survives
//! the controller and the object's status, and no two controllers disagree about it.

use std::fmt;

use jiff::Timestamp;

/// The first word of a description that is ours.
const MARK: &str = "larder:";

/// The most characters of a `Description` (`UpdateAlias`).
const LONGEST: usize = 256;

/// What the alias's description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A version takes a share of the requests.
    Step {
        /// The version.
        version: u64,
        /// Its step, from 0.
        step: usize,
        /// Its share of the requests, in percent: any other is somebody else's.
        percent: u8,
        /// Since when.
        since: Timestamp,
        /// When it took its first.
        begun: Timestamp,
        /// Since when it is held where it is, by a person.
        paused: Option<Timestamp>,
    },
    /// A version has taken all requests.
    Done {
        /// The version.
        version: u64,
        /// Since when.
        since: Timestamp,
    },
    /// A version was taken back.
    Aborted {
        /// The version.
        version: u64,
        /// When.
        at: Timestamp,
        /// Why.
        why: String,
    },
}

impl Record {
    /// What a description says; none when somebody else wrote it.
    #[must_use]
    pub fn parse(description: &str) -> Option<Self> {
        let rest = description.strip_prefix(MARK)?.trim_start();
        let (fields, why) = rest.split_once("why=").unwrap_or((rest, ""));
        let field = |name: &str| {
            fields.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let time = |name| field(name)?.parse::<Timestamp>().ok();
        if let Some(version) = field("aborted") {
            let why = why.trim().to_owned();
            return Some(Self::Aborted { version: version.parse().ok()?, at: time("at")?, why });
        }
        let version = field("version")?.parse().ok()?;
        let since = time("since")?;
        Some(match field("step") {
            Some(step) => {
                let step = step.parse::<usize>().ok()?.checked_sub(1)?;
                let percent = field("percent")?.parse().ok()?;
                Self::Step { version, step, percent, since, begun: time("begun")?, paused: time("paused") }
            }
            None => Self::Done { version, since },
        })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Step { version, step, percent, since, begun, paused } => {
                let paused = paused.map(|at| format!(" paused={at:.0}")).unwrap_or_default();
                format!(
                    "{MARK} version={version} step={} percent={percent} since={since:.0} begun={begun:.0}{paused}",
                    step + 1
                )
            }
            Self::Done { version, since } => format!("{MARK} version={version} since={since:.0}"),
            Self::Aborted { version, at, why } => format!("{MARK} aborted={version} at={at:.0} why={why}"),
        };
        let short: String = text.chars().take(LONGEST).collect();
        f.write_str(short.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let all = [
            Record::Step {
                version: 7,
                step: 1,
                percent: 50,
                since: at(1_800_000_100),
                begun: at(1_800_000_000),
                paused: None,
            },
            Record::Step {
                version: 7,
                step: 0,
                percent: 10,
                since: at(1_800_000_000),
                begun: at(1_800_000_000),
                paused: Some(at(1_800_000_050)),
            },
            Record::Done { version: 12, since: at(1_800_000_100) },
            Record::Aborted {
                version: 7,
                at: at(1_800_000_100),
                why: "3 of 90 invocations failed".to_owned(),
            },
        ];
        for record in all {
            assert_eq!(Record::parse(&record.to_string()), Some(record));
        }
        let long = Record::Aborted { version: 7, at: at(1_800_000_100), why: "é".repeat(1000) };
        assert_eq!(long.to_string().chars().count(), LONGEST);
        assert!(matches!(Record::parse(&long.to_string()), Some(Record::Aborted { version: 7, .. })));
    }

    #[test]
    fn what_others_wrote_is_no_record() {
        for text in [
            "",
            "the live one",
            "larder:",
            "larder: version=x since=2026-01-01T00:00:00Z",
            "larder: version=7",
            "larder: version=7 step=0 percent=10 since=2026-01-01T00:00:00Z begun=2026-01-01T00:00:00Z",
            "larder: version=7 step=1 since=2026-01-01T00:00:00Z begun=2026-01-01T00:00:00Z",
            "larder: aborted=7 why=at=2026-01-01T00:00:00Z",
        ] {
            assert_eq!(Record::parse(text), None, "{text}");
        }
    }
}
