//! A schedule, told.

use std::fmt;

use larder_crds::spec::{AuthType, Rollout};

use super::super::faults::{Fault, On, Trouble};
use super::disturbance::{Disturbance, Flaw};
use super::{Faults, Schedule, Settings};

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.settings)?;
        write!(f, "{}", self.faults)?;
        writeln!(f, "- it is created; {} s", self.begins)?;
        for (disturbance, seconds) in &self.events {
            writeln!(f, "- {disturbance}; {seconds} s")?;
        }
        if self.settles {
            writeln!(f, "- faults stop, and it comes to rest")?;
        }
        write!(f, "- it is deleted; faults for {} s more, then none", self.ends)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how_many = if self.controllers == 1 { "one controller" } else { "two controllers at once" };
        let whose = if self.is_brought { "brought along" } else { "Larder's own" };
        let policy = if self.keeps_data { "RetainData" } else { "Delete" };
        write!(f, "{how_many}; pages of {}; the file system is {whose}; ", self.page_size)?;
        write!(f, "deletionPolicy {policy}; collects after {} s, ", self.collect_after)?;
        write!(f, "retains {}, ", self.retain)?;
        match self.verify_every {
            Some(seconds) => write!(f, "reads again every {seconds} s; ")?,
            None => f.write_str("never reads again; ")?,
        }
        write!(f, "keeps {} old versions; rollout: {}", self.rollout.history_limit, in_words(&self.rollout))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.per_mille > 0 && !self.kinds.is_empty() {
            let kinds: Vec<&str> = self.kinds.iter().copied().map(trouble).collect();
            writeln!(f, "{} calls in 1000 go wrong: {}", self.per_mille, kinds.join(", "))?;
        }
        for Fault { on, trouble: kind } in &self.planned {
            match on {
                On::Operation(operation, nth) => {
                    writeln!(f, "call {nth} of {operation}: {}", trouble(*kind))?;
                }
                On::Write(nth) => writeln!(f, "write {nth}: {}", trouble(*kind))?,
            }
        }
        Ok(())
    }
}

const fn trouble(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Throttled => "throttled",
        Trouble::ServerError => "a 5xx answer, nothing done",
        Trouble::TimedOutBefore => "no answer, nothing done",
        Trouble::TimedOutAfter => "no answer, and it took effect",
        Trouble::Denied => "not allowed",
        Trouble::Stale => "answered as of before the last write",
        Trouble::KilledBefore => "the controller dies before it",
        Trouble::KilledAfter => "the controller dies once it took effect",
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(mib) => write!(f, "the spec's memory is {mib} MiB"),
            Self::ImageTag(tag) => write!(f, "the spec's image has tag {tag}"),
            Self::Push(build) => write!(f, "the image of tag 1 is now {build:?}"),
            Self::PutObject(bytes, etag) => write!(f, "ocr/rec.onnx is put, {bytes} bytes, ETag {etag}"),
            Self::Provisioned(count) => {
                write!(f, "the spec's provisioned concurrency is {}", or_none(*count))
            }
            Self::Reserved(count) => write!(f, "the spec's reserved concurrency is {}", or_none(*count)),
            Self::Url(None) => f.write_str("the spec asks for no function URL"),
            Self::Url(Some(AuthType::AwsIam)) => f.write_str("the spec asks for a function URL with AWS_IAM"),
            Self::Url(Some(AuthType::None)) => f.write_str("the spec asks for a function URL for everyone"),
            Self::History(limit) => write!(f, "the spec keeps {limit} old versions"),
            Self::Subnets(ids) => write!(f, "the spec's subnets are {}", ids.join(" and ")),
            Self::SecondModel => f.write_str("the spec gets a second model, or loses it"),
            Self::Events(events) => write!(f, "the spec's source events are {events:?}"),
            Self::Rollout(rollout) => write!(f, "the spec's rollout is {}", in_words(rollout)),
            Self::DriftPolicy(policy) => write!(f, "the spec's driftPolicy is {policy:?}"),
            Self::Adoption(adoption) => write!(f, "the spec's adoption is {adoption:?}"),
            Self::Paused(true) => f.write_str("the rollout is paused"),
            Self::Paused(false) => f.write_str("the rollout is not paused"),
            Self::Rejected(version) => write!(f, "the user rejects version {}", or_none(*version)),
            Self::Promoted(version) => write!(f, "the user promotes version {}", or_none(*version)),
            Self::Breaks(Flaw::Init, image) => write!(f, "image {image:?} no longer starts"),
            Self::Breaks(Flaw::Serving, image) => write!(f, "image {image:?} fails one request in ten"),
            Self::Breaks(Flaw::Slow, image) => write!(f, "image {image:?} is slow"),
            Self::Breaks(Flaw::Answers, image) => write!(f, "image {image:?} answers wrongly"),
            Self::CopiesFail(Some(message)) => write!(f, "copies fail: {message}"),
            Self::CopiesFail(None) => f.write_str("copies do not fail"),
            Self::CutCopies => f.write_str("running copies die"),
            Self::Damage(nth) => write!(f, "revision {nth}, counted round, loses bytes"),
            Self::Restart => f.write_str("the controllers die and come back"),
            Self::Clock(seconds) => write!(f, "the controllers' clock jumps by {seconds} s"),
            Self::ByHand(by) => write!(f, "somebody {} by hand", by.what),
            Self::MadeAgain => f.write_str("the object is lost, and made again from Git"),
            Self::Moved => f.write_str("the endpoint moves to another namespace"),
        }
    }
}

fn or_none<T: ToString>(it: Option<T>) -> String {
    it.map_or_else(|| "none".to_owned(), |it| it.to_string())
}

fn in_words(rollout: &Rollout) -> String {
    let step = |step: &larder_crds::spec::RolloutStep| {
        format!("{} % for {} s", step.weight_percent, step.hold_seconds)
    };
    let mut words = if rollout.steps.is_empty() {
        "all at once".to_owned()
    } else {
        rollout.steps.iter().map(step).collect::<Vec<_>>().join(", then ")
    };
    if let Some(abort) = &rollout.abort_on {
        words += if abort.p99_milliseconds.is_some() {
            ", aborts on errors and slowness"
        } else {
            ", aborts on errors"
        };
    }
    if rollout.smoke_test.is_some() {
        words += ", with a smoke test";
    }
    if rollout.prepare_models {
        words += ", preparing models";
    }
    words
}
