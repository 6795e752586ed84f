//! The Kubernetes side: the watch, the queue, the finalizer.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, ResourceExt};
use larder_core::endpoint::{DeletionPolicy, Management};
use larder_core::status::{
    is_progress_alone, refused, role_not_allowed, still_owned, suspended, unreachable,
};
use larder_core::tenants::StillOwned;
use larder_core::{Area, Class, Endpoint};
use larder_crds::{FINALIZER, InferenceEndpoint, InferenceEndpointStatus};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::cloud::CloudError;
use crate::cloud::aws::AwsCloud;
use crate::context::{Context, Remembered};
use crate::metrics::Outcome;
use crate::publish::publish;
use crate::reconcile::{Now, Pass, glance, pass};
use crate::scope::Scope;
use crate::wake::GAP;

/// What stops a reconcile before its pass. What AWS says within a pass is status, not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("{operation} of InferenceEndpoint {object} failed")]
    Kube {
        /// What was tried.
        operation: &'static str,
        /// `namespace/name`.
        object: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
    /// AWS could not be reached as the endpoint's role.
    #[error("AWS could not be reached for InferenceEndpoint {object}")]
    Connect {
        /// `namespace/name`.
        object: String,
        /// Why.
        #[source]
        source: CloudError,
    },
}

impl Error {
    fn class(&self) -> Class {
        match self {
            Self::Kube { source: kube::Error::Api(status), .. } if status.code == 409 => Class::Conflict,
            Self::Kube { .. } => Class::Transient,
            Self::Connect { source, .. } => source.problem.class,
        }
    }
}

/// A pass that takes longer is given up; the next one begins by looking.
const LONGEST_PASS: Duration = Duration::from_mins(5);

/// Objects that are read at once when the watch begins. Who wrote which field is read with them, and is several times as
/// much as all that is kept.
const PAGE: u32 = 100;

/// How far copies are is told so often; what is news is told at once.
const PROGRESS_GAP: Duration = Duration::from_secs(4);

/// When to look again at an object that the watch is to bring, should it not.
const COMES_BACK: Duration = Duration::from_secs(5);

/// When to come back to a role that is being assumed for another endpoint.
const BUSY: Duration = Duration::from_millis(500);

/// When to look again for the owner of what is to be taken over.
const OWNED: Duration = Duration::from_secs(30);

/// Watches and converges until `stop`, then finishes what it is at.
///
/// # Errors
/// When the API server does not know `InferenceEndpoints`, does not let us list them, or refuses the selector.
pub async fn run(
    context: Arc<Context>,
    scope: &Scope,
    concurrency: u16,
    stop: CancellationToken,
) -> Result<(), kube::Error> {
    let apis = scope.apis(&context.kube);
    let mut seen = ListParams::default().limit(1);
    seen.label_selector.clone_from(&scope.selector);
    for api in &apis {
        api.list(&seen).await?;
    }
    let each = concurrency.div_ceil(u16::try_from(apis.len()).unwrap_or(u16::MAX));
    let mut watches = watcher::Config::default().page_size(PAGE);
    watches.label_selector.clone_from(&scope.selector);
    let work = apis.into_iter().map(|api| watch(api, watches.clone(), each, &context, &stop));
    futures::future::join_all(work).await;
    context.wakes.stop();
    Ok(())
}

/// Works on the endpoints of one watch.
async fn watch(
    api: Api<InferenceEndpoint>,
    watches: watcher::Config,
    concurrency: u16,
    context: &Arc<Context>,
    stop: &CancellationToken,
) {
    // Everyone is looked up; whom no event has woken goes on waiting.
    let woken = futures::stream::unfold(context.wakes.bell(), |mut bell| async move {
        bell.changed().await.ok()?;
        Some(((), bell))
    });
    let (reader, writer) = reflector::store();
    let objects = watcher(api, watches).default_backoff().modify(lighten).reflect(writer).applied_objects();
    Controller::for_stream(objects, reader)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_all_on(woken)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile, error_policy, Arc::clone(context))
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(error = &error as &dyn std::error::Error, "the queue reports an error");
            }
        })
        .await;
}

/// Who wrote which field is most of an object, and nobody here asks. What was read in has room to grow, which a copy
/// has not.
fn lighten(object: &mut InferenceEndpoint) {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    *object = object.clone();
}

async fn reconcile(object: Arc<InferenceEndpoint>, context: Arc<Context>) -> Result<Action, Error> {
    let span = tracing::info_span!(
        "endpoint",
        namespace = object.namespace().unwrap_or_default(),
        name = object.name_any()
    );
    let uid = object.uid().unwrap_or_default();
    let action = Box::pin(converge(&object, &uid, &context)).instrument(span).await?;
    context.succeeded(&uid);
    Ok(action)
}

#[expect(clippy::needless_pass_by_value, reason = "the queue's own signature")]
fn error_policy(object: Arc<InferenceEndpoint>, error: &Error, context: Arc<Context>) -> Action {
    let wait = context.failed(&object.uid().unwrap_or_default(), error.class());
    tracing::warn!(
        error = error as &dyn std::error::Error,
        retry_seconds = wait.as_secs_f64(),
        "a reconcile failed"
    );
    Action::requeue(wait)
}

async fn converge(object: &InferenceEndpoint, uid: &str, context: &Context) -> Result<Action, Error> {
    let is_held = object.finalizers().iter().any(|f| f == FINALIZER);
    let is_deleting = object.metadata.deletion_timestamp.is_some();
    if is_deleting && !is_held {
        context.forget(uid);
        return Ok(Action::await_change());
    }
    let failed = |operation| {
        let object = name_of(object);
        move |source| Error::Kube { operation, object, source }
    };
    // What stays in AWS needs no AWS: this is the way out when AWS cannot be reached.
    if is_deleting && leaves_all(object) {
        return let_go(object, uid, context).await;
    }
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let now = context.now();
    let work = match workable(object, context, &before, now) {
        Ok(it) => handed_over(it, &before, context, now).await.map_err(failed("look for the owner"))?,
        Err(held) => Err(held),
    };
    let endpoint = match work {
        Ok(endpoint) => endpoint,
        Err(held) => return hold(object, uid, context, &before, *held).await,
    };
    // The finalizer comes before the first write to AWS. `Plan` writes none.
    if !is_held && endpoint.management == Management::Apply {
        set_finalizer(object, context, true).await.map_err(failed("finalizer update"))?;
        return Ok(Action::requeue(COMES_BACK));
    }
    let mut remembered = context.take(uid);
    let told = remembered.status.clone().unwrap_or_else(|| before.clone());
    let look = match turn(&endpoint, uid, &told, &mut remembered, context, now) {
        Turn::Wait(wait) => {
            context.put(uid, remembered);
            return Ok(Action::requeue(wait));
        }
        Turn::Change => None,
        Turn::Look(permit) => Some(permit),
    };
    let Some(cloud) = context.aws.try_connect(&endpoint.place).await else {
        context.put(uid, remembered);
        return Ok(Action::requeue(BUSY.mul_f64(1.0 + now.jitter)));
    };
    let cloud = match cloud {
        Ok(cloud) => cloud,
        Err(source) => {
            context.put(uid, remembered);
            let status = unreachable(&source.problem, generation, is_deleting, &before, now.timestamp);
            context
                .metrics
                .passed(Outcome::Unreachable, context.now().since_start.saturating_sub(now.since_start));
            context.metrics.saw(uid, &before, &status);
            publish(context, object, &before, &status).await.map_err(failed("status update"))?;
            return Err(Error::Connect { object: name_of(object), source });
        }
    };
    if look.is_some()
        && let Some(again) = glances(&cloud, &endpoint, uid, &told, &mut remembered, context, now).await
    {
        context.metrics.saw(uid, &told, &told);
        remembered.due = context.now().since_start + again;
        context.put(uid, remembered);
        return Ok(Action::requeue(again));
    }
    remembered.status = None;
    let previous = told;
    let work = pass(&cloud, &endpoint, &previous, &mut remembered.memory, now);
    let work = async { if look.is_some() { AwsCloud::yielding(work).await } else { work.await } };
    let work = Box::pin(work);
    let Ok(Pass { status, again, is_deleted, queue, .. }) = tokio::time::timeout(LONGEST_PASS, work).await
    else {
        context.metrics.passed(Outcome::GivenUp, LONGEST_PASS);
        tracing::warn!("a pass took longer than {} s and was given up", LONGEST_PASS.as_secs());
        return Ok(Action::requeue(Duration::from_secs(1)));
    };
    let outcome = if is_deleted { Outcome::Deleted } else { Outcome::of(&status) };
    context.metrics.passed(outcome, context.now().since_start.saturating_sub(now.since_start));
    if is_deleted {
        return let_go(object, uid, context).await;
    }
    if let Ok(queue) = queue {
        context.wakes.listen(uid, &endpoint, &cloud, queue.as_deref());
    }
    context.metrics.saw(uid, &previous, &status);
    let told = remembered.told.filter(|told| is_soon_again(*told, &previous, &status, now));
    remembered.told = told.or(Some(now.since_start));
    drop(look);
    remembered.due = context.now().since_start + again;
    // Once the watch has brought it, one copy of it is enough.
    let is_brought = object.status.as_ref() == Some(&status);
    remembered.status = (!is_brought).then(|| status.clone());
    context.put(uid, remembered);
    if told.is_some() {
        return Ok(Action::requeue(again));
    }
    publish(context, object, &previous, &status).await.map_err(failed("status update"))?;
    Ok(Action::requeue(again))
}

/// Tells of an endpoint that is not worked on. Nor is a queue read for it, as a role that it may not use any more.
async fn hold(
    object: &InferenceEndpoint,
    uid: &str,
    context: &Context,
    before: &InferenceEndpointStatus,
    (status, action): (InferenceEndpointStatus, Action),
) -> Result<Action, Error> {
    context.wakes.forget(uid);
    context.metrics.saw(uid, before, &status);
    let failed = |source| Error::Kube { operation: "status update", object: name_of(object), source };
    publish(context, object, before, &status).await.map_err(failed)?;
    Ok(action)
}

/// When to look again at an endpoint that is as it was told, where a glance does; none when all of it is to be looked at.
async fn glances(
    cloud: &AwsCloud,
    endpoint: &Endpoint,
    uid: &str,
    told: &InferenceEndpointStatus,
    remembered: &mut Remembered,
    context: &Context,
    now: Now,
) -> Option<Duration> {
    let has_ears = endpoint.models.iter().all(|model| !model.has_events) || context.wakes.is_listening(uid);
    if !has_ears || remembered.memory.is_stale(now) || cloud.has_room() {
        return None;
    }
    let seen = AwsCloud::yielding(glance(cloud, endpoint, told, &mut remembered.memory, now));
    match tokio::time::timeout(LONGEST_PASS, Box::pin(seen)).await {
        Ok(Ok(again)) => return Some(again),
        Ok(Err(what)) => tracing::debug!("{what} is not as it was told: looks at everything"),
        Err(_) => tracing::debug!("a glance took longer than {} s", LONGEST_PASS.as_secs()),
    }
    None
}

/// Whether only the progress of a copy is new, of which something was told a moment ago.
fn is_soon_again(
    told: Duration,
    previous: &InferenceEndpointStatus,
    status: &InferenceEndpointStatus,
    now: Now,
) -> bool {
    let is_copying = status.models.iter().any(|model| model.state == "Syncing");
    let is_recent = now.since_start.saturating_sub(told) < PROGRESS_GAP;
    is_copying && is_recent && is_progress_alone(previous, status)
}

/// What is said of an object that is not worked on, and when to look at it again.
type Held = Box<(InferenceEndpointStatus, Action)>;

/// The endpoint, when it may be worked on; else what is said of it, and when to look at it again.
fn workable(
    object: &InferenceEndpoint,
    context: &Context,
    before: &InferenceEndpointStatus,
    now: Now,
) -> Result<Endpoint, Held> {
    let generation = object.metadata.generation.unwrap_or_default();
    let is_deleting = object.metadata.deletion_timestamp.is_some();
    let later = Action::requeue(Duration::from_mins(5));
    let endpoint = Endpoint::parse(object, &context.defaults).map_err(|why| {
        Box::new((refused(&why, generation, is_deleting, before, now.timestamp), later.clone()))
    })?;
    if endpoint.management == Management::Suspend {
        return Err(Box::new((
            suspended(generation, is_deleting, before, now.timestamp),
            Action::await_change(),
        )));
    }
    if let Err(why) = context.tenants.check(&endpoint) {
        return Err(Box::new((
            role_not_allowed(&why, generation, is_deleting, before, now.timestamp),
            later,
        )));
    }
    Ok(endpoint)
}

/// The endpoint, when no other endpoint of this cluster owns what it is to take over. One that is deleted goes without
/// what is not its own; what was once converged is.
async fn handed_over(
    mut endpoint: Endpoint,
    before: &InferenceEndpointStatus,
    context: &Context,
    now: Now,
) -> Result<Result<Endpoint, Held>, kube::Error> {
    let is_about_to = endpoint.management == Management::Apply && !before.was_converged();
    let Some(place) = endpoint.predecessor().filter(|_| is_about_to) else { return Ok(Ok(endpoint)) };
    let api: Api<InferenceEndpoint> = Api::namespaced(context.kube.clone(), &place.namespace);
    let is_seen =
        match api.list(&ListParams::default().fields(&format!("metadata.name={}", place.name))).await {
            Ok(found) if found.items.is_empty() => return Ok(Ok(endpoint)),
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 403 => false,
            Err(error) => return Err(error),
        };
    if endpoint.deleting {
        endpoint.adopt_from = None;
        return Ok(Ok(endpoint));
    }
    let why = StillOwned { place: place.clone(), is_seen };
    let status = still_owned(&why, endpoint.generation, before, now.timestamp);
    Ok(Err(Box::new((status, Action::requeue(OWNED)))))
}

/// What a reconcile may do.
enum Turn {
    /// Nothing, for so long.
    Wait(Duration),
    /// Whatever is to be done: there is a reason.
    Change,
    /// A look for drift, while the permit is held.
    Look(OwnedSemaphorePermit),
}

/// Whether it is this endpoint's turn at `now`. Where nothing is under way and nobody has asked, whoever has a reason
/// goes first.
fn turn(
    endpoint: &Endpoint,
    uid: &str,
    told: &InferenceEndpointStatus,
    remembered: &mut Remembered,
    context: &Context,
    now: Now,
) -> Turn {
    let is_about = remembered.memory.is_about(endpoint);
    let is_woken = context.wakes.is_woken(uid);
    let mut early = remembered.due.saturating_sub(now.since_start);
    if is_woken {
        early = early.min(remembered.next_wake.saturating_sub(now.since_start));
    }
    if is_about && !early.is_zero() {
        // Woken by our own status, or by one event of many.
        return Turn::Wait(early);
    }
    let is_changed = !is_about && !remembered.memory.is_new();
    if is_changed
        && !endpoint.deleting
        && let Some(wait) = remembered.changes.note(now.since_start)
    {
        return Turn::Wait(wait);
    }
    if is_woken {
        context.wakes.answered(uid);
        remembered.memory.wake();
        remembered.next_wake = now.since_start + GAP;
    }
    if is_changed || is_woken || !is_as_wanted(endpoint, told) {
        remembered.turn = None;
        return Turn::Change;
    }
    let turn = *remembered.turn.get_or_insert_with(|| context.turns.take(now.since_start));
    let wait = turn.saturating_sub(now.since_start);
    if !wait.is_zero() {
        return Turn::Wait(wait);
    }
    let Some(permit) = context.turns.look() else {
        // Enough are looked at: at the end of the queue again, so that ten thousand do not all ask every second.
        let turn = context.turns.take(now.since_start);
        remembered.turn = Some(turn);
        return Turn::Wait(turn.saturating_sub(now.since_start).max(Duration::from_secs(1)));
    };
    remembered.turn = None;
    Turn::Look(permit)
}

/// Whether everything was as this generation wants it when it was last looked at.
fn is_as_wanted(endpoint: &Endpoint, told: &InferenceEndpointStatus) -> bool {
    let is_true = |type_: &str| {
        told.conditions.iter().any(|it| {
            it.type_ == type_ && it.status == "True" && it.observed_generation == Some(endpoint.generation)
        })
    };
    !endpoint.deleting
        && endpoint.management == Management::Apply
        && is_true("Ready")
        && is_true(Area::History.condition())
        && is_true(Area::Upkeep.condition())
        && told.plan.is_empty()
        && told.drift.is_empty()
}

/// Takes our finalizer from an object of which nothing is left in AWS, or all of it is to be.
async fn let_go(object: &InferenceEndpoint, uid: &str, context: &Context) -> Result<Action, Error> {
    let is_set = set_finalizer(object, context, false).await.map_err(|source| Error::Kube {
        operation: "finalizer update",
        object: name_of(object),
        source,
    })?;
    if !is_set {
        return Ok(Action::requeue(COMES_BACK));
    }
    context.forget(uid);
    let left = if leaves_all(object) { "it is left in AWS as it is" } else { "nothing of it is left in AWS" };
    tracing::info!("{left}");
    Ok(Action::await_change())
}

/// A deletion leaves everything in AWS as it is.
fn leaves_all(object: &InferenceEndpoint) -> bool {
    object.spec.deletion_policy == DeletionPolicy::Retain && object.spec.management == Management::Apply
}

fn name_of(object: &InferenceEndpoint) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Adds or removes our finalizer. The resource version keeps the finalizers of others as they are; whether it was
/// that of the object as it is.
async fn set_finalizer(
    object: &InferenceEndpoint,
    context: &Context,
    is_held: bool,
) -> Result<bool, kube::Error> {
    let mut finalizers: Vec<&str> =
        object.finalizers().iter().map(String::as_str).filter(|f| *f != FINALIZER).collect();
    if is_held {
        finalizers.push(FINALIZER);
    }
    let api: Api<InferenceEndpoint> =
        Api::namespaced(context.kube.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({"metadata": {
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers,
    }});
    match api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        // Gone already: somebody else took the last finalizer.
        Err(kube::Error::Api(status)) if status.code == 404 && !is_held => Ok(true),
        // Somebody wrote first, perhaps we ourselves: the watch brings what they wrote.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
        Ok(_) => Ok(true),
    }
}

/// This cluster's id: the UID of namespace kube-system, which every cluster has and no two share.
///
/// # Errors
/// When the namespace cannot be read.
pub async fn cluster_id(kube: &kube::Client) -> Result<String, kube::Error> {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(kube.clone());
    Ok(namespaces.get("kube-system").await?.uid().unwrap_or_default())
}
