//! How a call meets the account: faults first, then permission and rate, then the effect.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use larder::cloud::{CloudError, Page, Result};
use larder_core::{Class, Step};

use super::account::{Account, Refusal, refuse};
use super::faults::{Fault, On, Trouble};
use super::{Inner, World};

/// How late a collection takes effect whose caller has given it up.
const LATE: Duration = Duration::from_secs(45);

/// Writes that Lambda's control plane takes in a second. Those to other services have rates of their own.
const WRITES_A_SECOND: u32 = 15;

/// Lets others go first, once.
struct Turn(bool);

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl World {
    async fn turn(&self) {
        let goes_first = !self.lock().takes_turns;
        Turn(goes_first).await;
    }

    /// A read.
    pub(super) async fn read<T>(
        &self,
        operation: &'static str,
        resource: &str,
        answer: impl Fn(&mut Account) -> std::result::Result<T, Refusal>,
    ) -> Result<T> {
        self.turn().await;
        let answered = self.lock().read(operation, resource, answer);
        match answered {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// A write.
    pub(super) async fn write(&self, step: &Step) -> Result<()> {
        self.turn().await;
        let done = self.lock().write(step);
        match done {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    /// One page of a list. The token is the place of its first item.
    pub(super) fn page<T>(&self, items: Vec<T>, page: Option<&str>) -> Page<T> {
        let size = self.lock().page_size;
        let start = page.and_then(|page| page.parse().ok()).unwrap_or(0usize);
        let is_last = start + size >= items.len();
        Page {
            items: items.into_iter().skip(start).take(size).collect(),
            next: (!is_last).then(|| (start + size).to_string()),
        }
    }
}

fn failed(operation: &'static str, resource: &str, refusal: &Refusal) -> CloudError {
    CloudError::new(operation, resource, refusal.class, refusal.code, &refusal.message)
}

/// The answer that a trouble gives instead of AWS's own; none when it lets the call through.
fn answer_of(trouble: Trouble, operation: &str) -> Option<Refusal> {
    let (class, code, message) = match trouble {
        Trouble::Throttled => (Class::Throttled, "TooManyRequestsException", "rate exceeded".to_owned()),
        Trouble::ServerError => (Class::Transient, "ServiceException", "internal error".to_owned()),
        Trouble::TimedOutBefore | Trouble::TimedOutAfter => {
            (Class::Transient, "", "no answer in time; the call may have taken effect".to_owned())
        }
        Trouble::Denied => {
            (Class::Denied, "AccessDeniedException", format!("not authorized to perform: {operation}"))
        }
        Trouble::Stale | Trouble::KilledBefore | Trouble::KilledAfter => return None,
    };
    Some(Refusal { class, code, message })
}

impl Inner {
    /// Counts the call and says what befalls it.
    fn trouble(&mut self, operation: &'static str, is_write: bool) -> Option<Trouble> {
        let count = self.calls.entry(operation).or_default();
        *count += 1;
        let nth = *count;
        self.writes += u64::from(is_write);
        if self.denied.contains(operation) {
            return Some(Trouble::Denied);
        }
        let hits = |on: On| match on {
            On::Operation(name, n) => name == operation && n == nth,
            On::Write(n) => is_write && n == self.writes,
        };
        let planned = self.faults.iter().find(|fault| hits(fault.on)).map(|fault| fault.trouble);
        let trouble = planned.or_else(|| self.chance.as_mut().and_then(super::faults::Chance::next));
        if let Some(trouble) = trouble {
            self.note(&format!("{operation}: {trouble:?}"));
            self.befallen.push(Fault { on: On::Operation(operation, nth), trouble });
        }
        trouble
    }

    fn note(&mut self, what: &str) {
        let at = self.account.now.as_secs_f64();
        self.history.push(format!("{at:>8.1} s  {what}"));
    }

    /// None when the caller is dead.
    fn read<T>(
        &mut self,
        operation: &'static str,
        resource: &str,
        answer: impl Fn(&mut Account) -> std::result::Result<T, Refusal>,
    ) -> Option<Result<T>> {
        if self.is_killed {
            return None;
        }
        let trouble = self.trouble(operation, false);
        if matches!(trouble, Some(Trouble::KilledBefore | Trouble::KilledAfter)) {
            self.is_killed = true;
            return None;
        }
        if let Some(refusal) = trouble.and_then(|trouble| answer_of(trouble, operation)) {
            return Some(Err(failed(operation, resource, &refusal)));
        }
        let is_lie = trouble == Some(Trouble::Stale);
        if is_lie {
            self.lied_at = Some(self.account.now);
        }
        let account = if is_lie { &mut self.before } else { &mut self.account };
        Some(match answer(account) {
            Ok(answer) => Ok(answer),
            Err(refusal) => Err(failed(operation, resource, &refusal)),
        })
    }

    fn write(&mut self, step: &Step) -> Option<Result<()>> {
        if self.is_killed {
            return None;
        }
        let (operation, resource) = (step.operation(), resource(step));
        let trouble = self.trouble(operation, true);
        if trouble == Some(Trouble::KilledBefore) {
            self.is_killed = true;
            return None;
        }
        let refusal = trouble.and_then(|trouble| answer_of(trouble, operation));
        if trouble != Some(Trouble::TimedOutAfter)
            && let Some(refusal) = &refusal
        {
            return Some(Err(failed(operation, &resource, refusal)));
        }
        // Its function works on for as long as it may, when nobody waits for the answer any more.
        let is_late = matches!(trouble, Some(Trouble::TimedOutAfter | Trouble::KilledAfter))
            && self.writes.is_multiple_of(2);
        let late = is_late.then(|| self.account.now + LATE);
        let done = self.perform(step, late);
        if trouble == Some(Trouble::KilledAfter) {
            self.is_killed = true;
            return None;
        }
        Some(match refusal.or(done.err()) {
            None => Ok(()),
            Some(refusal) => Err(failed(operation, &resource, &refusal)),
        })
    }

    /// Lets a write happen, and watches it.
    /// A collection may take effect only `late`.
    fn perform(&mut self, step: &Step, late: Option<Duration>) -> std::result::Result<(), Refusal> {
        let second = self.account.now.as_secs();
        if self.writes_this_second.0 != second {
            self.writes_this_second = (second, 0);
        }
        self.writes_this_second.1 += u32::from(step.is_of_control_plane());
        let is_too_fast = step.is_of_control_plane() && self.writes_this_second.1 > WRITES_A_SECOND;
        let wanted = self.wanted.clone();
        let mut breaches = wanted.as_ref().map(|w| self.account.breaches_before(step, w)).unwrap_or_default();
        let before = self.account.clone();
        let done = if let Some(at) = late
            && let Step::Collect { function, request } = step
        {
            self.account.collect_late(at, function, request);
            Ok(())
        } else if is_too_fast {
            refuse(Class::Throttled, "TooManyRequestsException", "rate exceeded")
        } else {
            self.account.apply(step)
        };
        self.account.settle();
        match &done {
            Ok(()) => {
                breaches.extend(self.account.lost_notifications(&before));
                self.before = before;
                self.wrote_at = Some(self.account.now);
                self.note(&step.to_string());
                let held = wanted.as_ref().filter(|_| !self.is_outage);
                breaches.extend(held.map(|w| self.account.breaches(w)).unwrap_or_default());
            }
            Err(refusal) => {
                self.account = before;
                let told = format!("{step}: {} {}", refusal.code, refusal.message);
                self.note(&told);
                self.refused.push(told);
            }
        }
        self.breaches.extend(breaches.into_iter().map(|breach| format!("{step}: {breach}")));
        done
    }
}

/// The resource of a step, for people.
fn resource(step: &Step) -> String {
    use super::step::{Target, target};
    match (step, target(step)) {
        (Step::CreateFileSystem { token, .. }, _) => format!("file system with token {token}"),
        (Step::CreateAccessPoint { token, .. }, _) => format!("access point with token {token}"),
        (Step::CreateLogGroup { name, .. }, _) => format!("log group {name}"),
        (Step::CreateFunction { name, .. }, _) => format!("function {name}"),
        (_, Target::FileSystem(id)) => format!("file system {id}"),
        (_, Target::MountTarget(id)) => format!("mount target {id}"),
        (_, Target::AccessPoint(id)) => format!("access point {id}"),
        (_, Target::LogGroup(name)) => format!("log group {name}"),
        (_, Target::Function(name)) => format!("function {name}"),
        (_, Target::Queue(name)) => format!("queue {name}"),
        (_, Target::Rule(name)) => format!("rule {name}"),
        (_, Target::Bucket(name)) => format!("bucket {name}"),
        (_, Target::New) => String::new(),
    }
}
