//! The requests that an alias takes, what CloudWatch says of them, and what a version answers when it is asked.

use std::time::Duration;

use larder_core::Class;
use larder_core::observed::Health;

use super::account::{Account, Body, Refusal, refuse};

/// Requests a second that an alias takes.
const RATE: f64 = 20.0;

/// The version, the minute in which it served; invocations and errors.
pub type Served = std::collections::BTreeMap<(u64, u64), (u64, u64)>;

impl Account {
    /// Requests arrive while time goes on.
    pub(super) fn serve(&mut self, by: Duration) {
        if self.is_idle {
            return;
        }
        let (minute, broken) = (self.now.as_secs() / 60, self.broken.clone());
        for function in self.functions.values_mut() {
            let Some(alias) = &function.alias else { continue };
            let shares = match alias.second {
                None => vec![(alias.version, 100)],
                Some((second, percent)) => vec![(alias.version, 100 - percent), (second, percent)],
            };
            for (number, percent) in shares {
                let Some(version) = function.versions.get(&number) else { continue };
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                let count = (RATE * by.as_secs_f64() * f64::from(percent) / 100.0).ceil() as u64;
                let errors = if is_among(&broken.serving, &version.body) { count.div_ceil(10) } else { 0 };
                let entry = function.served.entry((number, minute)).or_default();
                *entry = (entry.0 + count, entry.1 + errors);
            }
        }
    }

    pub(super) fn health(&self, query: &larder::cloud::HealthQuery<'_>) -> Result<Health, Refusal> {
        if let Some(missing) = query.alarms.iter().find(|name| !self.alarms.contains_key(*name)) {
            return refuse(Class::NotFound, "", format!("there is no alarm {missing}"));
        }
        let since = query.since.duration_since(super::time_of_day(Duration::ZERO)).as_secs() / 60;
        let since = u64::try_from(since).unwrap_or_default();
        let function = self.functions.get(query.function);
        let served = function.into_iter().flat_map(|function| &function.served);
        let mine = served.filter(|((version, minute), _)| *version == query.version && *minute >= since);
        let (invocations, errors) = mine.fold((0, 0), |sum, (_, it)| (sum.0 + it.0, sum.1 + it.1));
        let version = function.and_then(|function| function.versions.get(&query.version));
        let is_slow = version.is_some_and(|version| is_among(&self.broken.slow, &version.body));
        Ok(Health {
            version: query.version,
            invocations,
            errors,
            p99_milliseconds: (invocations > 0).then_some(if is_slow { 5000 } else { 150 }),
            alarms_on: query
                .alarms
                .iter()
                .filter(|name| self.alarms.get(*name) == Some(&true))
                .cloned()
                .collect(),
        })
    }

    /// Lambda takes an asynchronous invocation whatever comes of it.
    pub(super) fn prepare_models(&mut self, name: &str, number: u64) -> Result<(), Refusal> {
        let function = self.functions.get(name).filter(|function| function.versions.contains_key(&number));
        let Some(function) = function else {
            return refuse(Class::NotFound, "ResourceNotFoundException", format!("no {name}:{number}"));
        };
        let serves = function.alias.as_ref().is_some_and(|it| it.serves(number));
        self.preparing.push((name.to_owned(), number, serves));
        Ok(())
    }

    pub(super) fn answer(&self, name: &str, number: u64) -> Result<Result<Vec<u8>, String>, Refusal> {
        let Some(version) = self.functions.get(name).and_then(|function| function.versions.get(&number))
        else {
            return refuse(Class::NotFound, "ResourceNotFoundException", format!("no {name}:{number}"));
        };
        if version.active_at > self.now {
            return refuse(
                Class::Conflict,
                "ResourceConflictException",
                format!("version {number} is pending"),
            );
        }
        if is_among(&self.broken.init, &version.body) {
            return Ok(Err("Unhandled: the function ended while it started".to_owned()));
        }
        let text = if is_among(&self.broken.answers, &version.body) { "wrong" } else { "park" };
        Ok(Ok(serde_json::json!({"predicted_label": text}).to_string().into_bytes()))
    }
}

/// Whether a set names what a version runs: its code's digest or its manifest.
fn is_among(set: &std::collections::BTreeSet<String>, body: &Body) -> bool {
    let manifest = body.config.env.get(larder_contract::layout::ENV_MANIFEST);
    set.contains(&body.code_digest) || manifest.is_some_and(|manifest| set.contains(manifest))
}
