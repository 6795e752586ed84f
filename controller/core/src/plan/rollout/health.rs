//! Whether a new version is fit: what it answered, and how it does with its share of the requests.

use crate::endpoint::{AbortOn, SmokeTest};
use crate::observed::Health;
use serde_json::Value;

/// Why a version that takes a share of the requests is to be taken back, if it is.
pub(super) fn fault(on: &AbortOn, health: &Health) -> Option<String> {
    if let Some(alarm) = alarm(on, health) {
        return Some(format!("alarm {alarm} is on"));
    }
    beyond(on, health).filter(|_| health.invocations >= on.min_invocations)
}

/// An alarm that is on, of those that count.
pub(super) fn alarm<'a>(on: &AbortOn, health: &'a Health) -> Option<&'a str> {
    health.alarms_on.iter().find(|alarm| on.alarms.contains(alarm)).map(String::as_str)
}

/// What a version is suspected of, with too few invocations to be judged by.
pub(super) fn suspicion(on: &AbortOn, health: &Health) -> Option<String> {
    beyond(on, health).filter(|_| health.invocations < on.min_invocations)
}

/// The limit that a version is beyond, by however few invocations.
fn beyond(on: &AbortOn, health: &Health) -> Option<String> {
    if let Some(most) = on.error_rate_percent
        && health.errors * 100 > health.invocations.saturating_mul(u64::try_from(most).unwrap_or_default())
    {
        return Some(format!(
            "{} of its {} invocations failed, more than {most} %",
            health.errors, health.invocations
        ));
    }
    if let Some(longest) = on.p99_milliseconds
        && let Some(p99) = health.p99_milliseconds
        && i64::try_from(p99).unwrap_or(i64::MAX) > longest
    {
        return Some(format!(
            "one in a hundred of its invocations takes {p99} ms or more, longer than {longest} ms"
        ));
    }
    None
}

/// What is wrong with an answer to a smoke test, if anything. `answer` is the payload of the invocation.
#[must_use]
pub fn answered_wrongly(test: &SmokeTest, answer: &[u8]) -> Option<String> {
    let answer: Value = match serde_json::from_slice(answer) {
        Ok(answer) => answer,
        Err(_) => return Some("its answer is not JSON".to_owned()),
    };
    if let Some(error) = answer.get("error") {
        return Some(format!("it answered with an error: {}", short(error)));
    }
    let expected = test.expect.as_ref()?;
    differs(expected, &answer, "the answer")
}

/// Where `have` lacks what `want` names.
fn differs(want: &Value, have: &Value, at: &str) -> Option<String> {
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => want.iter().find_map(|(key, want)| {
            let at = format!("{at}.{key}");
            match have.get(key) {
                Some(have) => differs(want, have, &at),
                None => Some(format!("{at} is missing; expected is {}", short(want))),
            }
        }),
        (Value::Array(want_all), Value::Array(have_all)) if want_all.len() == have_all.len() => {
            let mut pairs = want_all.iter().zip(have_all).enumerate();
            pairs.find_map(|(i, (want, have))| differs(want, have, &format!("{at}[{i}]")))
        }
        (Value::Number(want), Value::Number(have)) if want.as_f64() == have.as_f64() => None,
        (want, have) if want == have => None,
        (want, have) => Some(format!("{at} is {}; expected is {}", short(have), short(want))),
    }
}

fn short(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        text
    } else {
        format!("{}…", text.chars().take(LONGEST).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn health(invocations: u64, errors: u64, p99: Option<u64>) -> Health {
        Health { version: 7, invocations, errors, p99_milliseconds: p99, alarms_on: Vec::new() }
    }

    #[test]
    fn a_version_is_at_fault_beyond_the_limits_and_not_at_them() {
        let on = AbortOn {
            error_rate_percent: Some(1),
            p99_milliseconds: Some(2000),
            min_invocations: 20,
            alarms: vec!["a".to_owned()],
        };
        for (seen, is_at_fault) in [
            (health(0, 0, None), false),
            (health(100, 1, Some(2000)), false),
            (health(100, 2, None), true),
            (health(100, 0, Some(2001)), true),
            (Health { alarms_on: vec!["a".to_owned()], ..health(0, 0, None) }, true),
            (Health { alarms_on: vec!["b".to_owned()], ..health(0, 0, None) }, false),
        ] {
            assert_eq!(fault(&on, &seen).is_some(), is_at_fault, "{seen:?}");
        }
        let none = AbortOn { error_rate_percent: Some(0), ..AbortOn::default() };
        assert!(fault(&none, &health(1000, 1, None)).is_some());
        assert_eq!(fault(&AbortOn::default(), &health(10, 10, Some(900_000))), None);
    }

    #[test]
    fn too_few_invocations_make_a_suspicion_and_no_fault() {
        let on = AbortOn {
            error_rate_percent: Some(5),
            p99_milliseconds: Some(2000),
            min_invocations: 20,
            alarms: vec!["a".to_owned()],
        };
        for (seen, is_at_fault, is_suspected) in [
            (health(0, 0, None), false, false),
            (health(1, 0, Some(100)), false, false),
            (health(1, 1, Some(100)), false, true),
            (health(19, 19, Some(100)), false, true),
            (health(20, 2, Some(100)), true, false),
            (health(20, 1, Some(100)), false, false),
            (health(19, 0, Some(2001)), false, true),
            (health(20, 0, Some(2001)), true, false),
            (Health { alarms_on: vec!["a".to_owned()], ..health(1, 0, None) }, true, false),
        ] {
            assert_eq!(fault(&on, &seen).is_some(), is_at_fault, "{seen:?}");
            assert_eq!(suspicion(&on, &seen).is_some(), is_suspected, "{seen:?}");
        }
    }

    #[test]
    fn an_answer_must_hold_what_is_expected() {
        let test = |expect| SmokeTest { payload: json!({}), inputs_from: None, expect };
        let answer = br#"{"predicted_label":"park","lines":[{"text":"a","score":1.0}]}"#;
        for (expect, wrong) in [
            (None, None),
            (Some(json!({"predicted_label": "park"})), None),
            (Some(json!({"lines": [{"score": 1}]})), None),
            (Some(json!({"lines": [{"score": 2}]})), Some("the answer.lines[0].score is 1.0; expected is 2")),
            (
                Some(json!({"predicted_label": "sign"})),
                Some(r#"the answer.predicted_label is "park"; expected is "sign""#),
            ),
            (Some(json!({"label": 1})), Some("the answer.label is missing; expected is 1")),
            (
                Some(json!({"lines": []})),
                Some(r#"the answer.lines is [{"score":1.0,"text":"a"}]; expected is []"#),
            ),
        ] {
            assert_eq!(answered_wrongly(&test(expect), answer).as_deref(), wrong);
        }
        assert!(answered_wrongly(&test(None), b"<html>").is_some());
        assert!(answered_wrongly(&test(None), br#"{"error":"no such model"}"#).is_some());
    }
}
