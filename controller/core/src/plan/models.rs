//! The model-sync function, the sources, and the copy from one to the other.

use std::time::Duration;

use larder_contract::sync::{ModelState, SyncReport, SyncRequest};

use super::{Plan, Reason, either, lambda, settle, spread, storage};
use crate::desired::{Desired, FunctionWant, Want, is_synced, sync_request};
use crate::endpoint::Model;
use crate::observed::{Function, Observed, Read, Source};
use crate::retry::Class;
use crate::status::{signed, size};
use crate::step::Step;

pub(super) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    match &desired.sync {
        Want::Leave => Plan::Converged,
        Want::Absent => lambda::remove(&desired.names.sync_function, &observed.sync),
        Want::Present(want) => either(present(desired, want, observed)),
    }
}

fn present(desired: &Desired, want: &FunctionWant, observed: &Observed) -> Result<Plan, Plan> {
    let mut wrong = None;
    if !is_synced(observed) {
        wrong = desired.models.iter().find_map(|m| source_problem(m, observed.sources.get(&m.name)));
    }
    // A broken source is said at once; the function that copies is made meanwhile.
    let function = function(desired, want, observed)
        .map_err(|plan| if plan.steps().is_empty() { wrong.clone().unwrap_or(plan) } else { plan })?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    let Some(request) = sync_request(&desired.models, &observed.sources, observed.inventory()) else {
        return Err(Plan::wait(Reason::Waiting, "the sources to be listed"));
    };
    if let Some(wait) = settle::settling(desired, observed) {
        return Err(wait);
    }
    let Some(report) = observed.sync_report.as_ref().map_err(Plan::from)? else {
        return Err(Plan::wait(Reason::Waiting, format!("the answer of function {}", function.name)));
    };
    if report.manifest_present {
        return Ok(Plan::Converged);
    }
    let start = |worker| {
        let request = SyncRequest { worker, ..request.clone() };
        Step::StartSync { function: function.name.clone(), request }
    };
    let all = || {
        let timeout = Duration::from_secs(want.timeout_seconds.unsigned_abs().into());
        let workers = spread::workers(
            bytes_left(observed, report),
            desired.sync_bytes_per_second,
            timeout,
            function.reserved,
        );
        spread::to_start(report, workers).into_iter().map(start).collect()
    };
    let stalled = spread::stalled(report);
    let is = |state| report.models.iter().any(|m| m.state == state);
    let failed = report.models.iter().find(|m| m.state == ModelState::Failed);
    Ok(match failed {
        _ if report.running && !stalled.is_empty() => {
            Plan::Do(stalled.into_iter().map(|worker| start(Some(worker))).collect())
        }
        _ if report.running => Plan::wait(Reason::Syncing, progress(report)),
        // By now the sources are listed again. They may hold what they held before, and then only another
        // copy finds out.
        _ if is(ModelState::SourceChanged) => Plan::Retry {
            steps: all(),
            reason: Reason::SourceChanged,
            message: "the sources changed during the copy, and are listed and copied again".to_owned(),
        },
        Some(model) => Plan::Retry {
            steps: all(),
            reason: Reason::SyncFailed,
            message: format!("model {}: {}", model.model, model.message),
        },
        None => Plan::Do(all()),
    })
}

/// The function that copies, once it is as wanted.
fn function<'a>(
    desired: &Desired,
    want: &FunctionWant,
    observed: &'a Observed,
) -> Result<&'a Function, Plan> {
    lambda::log_group(want, &observed.sync.log_group, (desired, observed))?;
    let access_point = storage::mountable(desired, observed)?;
    let config = lambda::config(want, desired, &access_point.arn);
    let function = lambda::converge(want, config, &observed.sync, (desired, observed))?;
    match lambda::reserve(&want.name, want.reserved, function) {
        Some(reserve) => Err(Plan::Do(vec![reserve])),
        None => Ok(function),
    }
}

/// The bytes of the models that are not there yet, as their sources tell.
fn bytes_left(observed: &Observed, report: &SyncReport) -> u64 {
    let left = report.models.iter().filter(|model| model.state != ModelState::Ready);
    left.filter_map(|model| match observed.sources.get(&model.model) {
        Some(Ok(Source::Found { bytes, .. })) => Some(*bytes),
        Some(Ok(Source::Empty | Source::Unmarked(_) | Source::Unusable(_)) | Err(_)) | None => None,
    })
    .fold(0, u64::saturating_add)
}

/// What is wrong with a model's source, if anything.
fn source_problem(model: &Model, source: Option<&Read<Source>>) -> Option<Plan> {
    let Model { name, source: place, .. } = model;
    match source? {
        Err(problem) if problem.class == Class::NotFound => Some(Plan::blocked(
            Reason::SourceNotFound,
            Class::NotFound,
            format!(
                "model {name}: {} does not exist ({}): {}",
                problem.resource,
                if problem.code.is_empty() { &problem.message } else { &problem.code },
                problem.remedy()
            ),
        )),
        Err(problem) => {
            Some(Plan::blocked(problem.class.into(), problem.class, format!("model {name}: {problem}")))
        }
        Ok(Source::Empty) => Some(Plan::blocked(
            Reason::SourceEmpty,
            Class::NotFound,
            format!(
                "model {name}: there is no file at {place}: put the model's files there, or correct models[].source"
            ),
        )),
        Ok(Source::Unmarked(why)) => Some(Plan::blocked(
            Reason::WaitingForMarker,
            Class::Transient,
            format!("model {name}: {place}: {why}"),
        )),
        Ok(Source::Unusable(why)) => Some(Plan::blocked(
            Reason::SourceUnusable,
            Class::Invalid,
            format!("model {name}: {place}: {why}"),
        )),
        Ok(Source::Found { revision, .. }) => {
            let pin = model.pin.filter(|pin| pin != revision)?;
            Some(Plan::blocked(
                Reason::DigestMismatch,
                Class::Invalid,
                format!(
                    "model {name}: {place} holds {revision}, and only {pin} is accepted: put that content back, or write the new digest in models[].digest"
                ),
            ))
        }
    }
}

fn progress(report: &SyncReport) -> String {
    let done: u64 = report.models.iter().map(|m| m.bytes_done).sum();
    let total: u64 = report.models.iter().map(|m| m.bytes_total).sum();
    format!("the copy of the models: {} of {}", size(signed(done)), size(signed(total)))
}
