//! The lines that stand above those of the areas: what keeps all of them from being worked on, and what others have
//! changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use larder_crds::status::InferenceEndpointStatus;

use super::{Branch, State, call_of, condition};
use crate::plan::Area;
use crate::status::is_progress;

fn branch(of: &Condition, state: State, calls: Vec<String>) -> Branch {
    Branch {
        name: of.type_.clone(),
        state,
        reason: of.reason.clone(),
        message: of.message.clone(),
        calls,
        parts: Vec::new(),
    }
}

/// What keeps all areas from being worked on, as the controller has written it.
pub(super) fn obstacles(written: &InferenceEndpointStatus) -> Vec<Branch> {
    let of = |type_: &str, when: &str| condition(written, type_).filter(|c| c.status == when);
    let accepted = of("Accepted", "False").map(|it| branch(it, State::Failing, Vec::new()));
    let suspended = of("Suspended", "True").map(|it| branch(it, State::Progressing, Vec::new()));
    let mut all: Vec<Branch> = accepted.into_iter().chain(suspended).collect();
    // The role that cannot be assumed, say: no area tells of it, and each is still as it was told before.
    if all.is_empty()
        && let Some(ready) = of("Ready", "False").filter(|it| !is_of_an_area(&it.message))
    {
        let state = if is_progress(&ready.reason) { State::Progressing } else { State::Failing };
        all.push(branch(ready, state, call_of(&ready.message).into_iter().collect()));
    }
    all
}

/// Whether a message of `Ready` is that of an area, which has a line of its own.
fn is_of_an_area(message: &str) -> bool {
    let first = message.split_once(": ").map(|(first, _)| first);
    Area::ALL.iter().any(|area| Some(area.condition()) == first)
}

/// What others have changed: put back by itself, unless somebody has to decide.
pub(super) fn drifted(status: &InferenceEndpointStatus) -> Option<Branch> {
    let drifted = condition(status, "Drifted").filter(|c| c.status == "True")?;
    let is_left = status.conditions.iter().any(|c| {
        c.status == "False" && matches!(c.reason.as_str(), "Drifted" | "Contested") && c.type_ != "Ready"
    });
    let is_there = status.drift.iter().any(|it| it.ended.is_none());
    let state = match (is_there, is_left) {
        (true, true) => State::Failing,
        (true, false) => State::Progressing,
        (false, _) => State::Ready,
    };
    let mut calls: Vec<String> = status.drift.iter().map(|it| shown_by(&it.resource).to_owned()).collect();
    calls.sort_unstable();
    calls.dedup();
    Some(branch(drifted, state, calls))
}

/// What makes everything slow, and is no failure of anything.
pub(super) fn slow(status: &InferenceEndpointStatus) -> Option<Branch> {
    let low = condition(status, "BurstCreditsLow").filter(|c| c.status == "True")?;
    Some(branch(low, State::Progressing, vec!["GetMetricData".to_owned()]))
}

/// The call that shows how a resource is, which is named as in `status.drift`.
fn shown_by(resource: &str) -> &'static str {
    match resource.split(' ').next().unwrap_or_default() {
        "file" => "DescribeFileSystems",
        "mount" => "DescribeMountTargets",
        "access" => "DescribeAccessPoints",
        "log" => "DescribeLogGroups",
        "models" => "Invoke",
        "wanted" => "ListVersionsByFunction",
        "version" => "GetProvisionedConcurrencyConfig",
        "alias" => "GetAlias",
        "URL" => "GetFunctionUrlConfig",
        "permission" => "GetPolicy",
        "queue" | "policy" => "GetQueueAttributes",
        "rule" => "DescribeRule",
        "targets" => "ListTargetsByRule",
        "events" => "GetBucketNotificationConfiguration",
        _ => "GetFunction",
    }
}

#[cfg(test)]
mod tests {
    use larder_crds::status::DriftStatus;
    use serde_json::json;

    use super::*;

    /// A status with these conditions: type, status, reason, message.
    fn told(conditions: &[(&str, &str, &str, &str)]) -> InferenceEndpointStatus {
        let condition = |(type_, status, reason, message): &(&str, &str, &str, &str)| {
            let time = "2027-01-15T08:00:00Z";
            let it = json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": time});
            serde_json::from_value(it).unwrap()
        };
        let conditions = conditions.iter().map(condition).collect();
        InferenceEndpointStatus { conditions, ..InferenceEndpointStatus::default() }
    }

    fn lines(branches: Vec<Branch>) -> Vec<(String, State, String)> {
        branches.into_iter().map(|it| (it.name, it.state, it.calls.join(", "))).collect()
    }

    #[test]
    fn what_no_area_tells_of_is_told() {
        let of = |name: &str, state, calls: &str| vec![(name.to_owned(), state, calls.to_owned())];
        let ready = |reason, message| ("Ready", "False", reason, message);
        let accepted = ("Accepted", "True", "Accepted", "the spec is valid");
        let stale = ("FunctionReady", "False", "Waiting", "waiting for function f to be active");
        for (conditions, lines_) in [
            (
                vec![
                    accepted,
                    stale,
                    ready("AccessDenied", "AssumeRole of role larder failed: AccessDenied: no"),
                ],
                of("Ready", State::Failing, "AssumeRole"),
            ),
            (
                vec![accepted, ready("Unavailable", "AssumeRole of role larder failed: no answer in 10 s")],
                of("Ready", State::Failing, "AssumeRole"),
            ),
            (vec![ready("Deleting", "everything is deleted")], of("Ready", State::Progressing, "")),
            // Its area tells it, or what keeps all of them.
            (vec![stale, ready("Waiting", "FunctionReady: waiting for function f to be active")], Vec::new()),
            (
                vec![("Accepted", "False", "InvalidSpec", "x"), ready("InvalidSpec", "x")],
                of("Accepted", State::Failing, ""),
            ),
            (
                vec![("Suspended", "True", "Suspended", "x"), ready("Suspended", "x")],
                of("Suspended", State::Progressing, ""),
            ),
            (vec![accepted, ("Ready", "True", "Converged", "")], Vec::new()),
        ] {
            assert_eq!(lines(obstacles(&told(&conditions))), lines_, "{conditions:?}");
        }
    }

    #[test]
    fn a_file_system_that_is_out_of_breath_is_told() {
        let low = told(&[("BurstCreditsLow", "True", "BurstCreditsLow", "1.0 GiB left")]);
        let line = slow(&low).into_iter().collect();
        assert_eq!(
            lines(line),
            [("BurstCreditsLow".to_owned(), State::Progressing, "GetMetricData".to_owned())]
        );
        assert_eq!(slow(&told(&[])), None);
    }

    #[test]
    fn drift_is_told_as_long_as_it_is_remembered() {
        let entry = |resource: &str, is_over: bool| DriftStatus {
            resource: resource.to_owned(),
            ended: is_over.then(|| "2027-01-15T08:00:00Z".to_owned()),
            ..DriftStatus::default()
        };
        let drifted_ = ("Drifted", "True", "Drifted", "function f: memory is 1, not 2");
        let reported = ("FunctionReady", "False", "Drifted", "function f: memory is 1, not 2");
        let contested = ("TrafficReady", "False", "Contested", "again");
        for (conditions, drift, state, calls) in [
            (vec![drifted_], vec![entry("function f", false)], State::Progressing, "GetFunction"),
            (vec![drifted_], vec![entry("function f", true)], State::Ready, "GetFunction"),
            (vec![drifted_, reported], vec![entry("function f", false)], State::Failing, "GetFunction"),
            (
                vec![drifted_, contested],
                vec![
                    entry("function f", true),
                    entry("alias of function f", false),
                    entry("URL of function f", true),
                ],
                State::Failing,
                "GetAlias, GetFunction, GetFunctionUrlConfig",
            ),
        ] {
            let status = InferenceEndpointStatus { drift, ..told(&conditions) };
            let line = drifted(&status).into_iter().collect();
            assert_eq!(lines(line), [("Drifted".to_owned(), state, calls.to_owned())]);
        }
        assert_eq!(drifted(&told(&[reported])), None);
    }

    #[test]
    fn each_kind_of_drift_is_shown_by_a_call() {
        for (resource, call) in [
            ("file system fs-1", "DescribeFileSystems"),
            ("mount target fsmt-1", "DescribeMountTargets"),
            ("access point fsap-1", "DescribeAccessPoints"),
            ("log group /aws/lambda/f", "DescribeLogGroups"),
            ("models on the file system", "Invoke"),
            ("wanted version", "ListVersionsByFunction"),
            ("version 3", "GetProvisionedConcurrencyConfig"),
            ("alias live", "GetAlias"),
            ("URL of f", "GetFunctionUrlConfig"),
            ("permission larder-url-public", "GetPolicy"),
            ("queue larder-events", "GetQueueAttributes"),
            ("policy of queue larder-events", "GetQueueAttributes"),
            ("rule larder-r", "DescribeRule"),
            ("targets of rule larder-r", "ListTargetsByRule"),
            ("events of bucket b", "GetBucketNotificationConfiguration"),
            ("function f", "GetFunction"),
        ] {
            assert_eq!(shown_by(resource), call, "{resource}");
        }
    }
}
