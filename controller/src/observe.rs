//! Looks at AWS. Every part is read whatever became of the others: a failed read is an observation of
//! its own area.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use larder_contract::ModelSource;
use larder_contract::sync::{SyncReport, SyncRequest};
use larder_contract::upkeep::Inventory;
use larder_core::desired::sync_request;
use larder_core::endpoint::{Adoption, FileSystemRef, Model};
use larder_core::names::{EVENT_QUEUES, Names};
use larder_core::observed::{
    Code, EventRule, Function, LogGroup, MountTarget, Observed, ObservedEvents, ObservedFunction, Queue,
    Read, Remote, Source, Subnet, Trial, Version,
};
use larder_core::plan::TARGET;
use larder_core::{Class, Desired, Endpoint, Problem};

use larder_crds::InferenceEndpointStatus;

use crate::cloud::{Cloud, CloudError, FileSystemQuery, ListedAccessPoint, Page};
use crate::known::{Known, Part};
use crate::listing::{dated, source};

/// The most pages of one list that a pass reads; a list that never ends must not hold it for ever.
const MAX_PAGES: usize = 1000;

/// Listings of sources that may be used again, by the models' names.
pub type Listings = BTreeMap<String, Read<Source>>;

/// Looks at everything that `endpoint` is about. `previous` is what was told last, and tells what has changed since.
pub async fn observe<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    previous: &InferenceEndpointStatus,
    at: Timestamp,
) -> Observed {
    observe_beyond(&Known::default(), cloud, endpoint, &Listings::new(), previous, at).await
}

/// As [`observe`], for a plan that is played to its end: also at what is looked at only once the status tells of it.
pub async fn observe_ahead<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    previous: &InferenceEndpointStatus,
    at: Timestamp,
) -> Observed {
    let is_announced = previous.events.is_some() || has_events(endpoint);
    look(&Known::default(), cloud, endpoint, &Listings::new(), previous, at, is_announced).await
}

/// As [`observe`], without reading again what is `known`, nor listing again the sources that `listings` holds.
pub async fn observe_beyond<C: Cloud>(
    known: &Known,
    cloud: &C,
    endpoint: &Endpoint,
    listings: &Listings,
    previous: &InferenceEndpointStatus,
    at: Timestamp,
) -> Observed {
    look(known, cloud, endpoint, listings, previous, at, previous.events.is_some()).await
}

/// `is_announced`: what makes S3 tell of changes is looked at.
async fn look<C: Cloud>(
    known: &Known,
    cloud: &C,
    endpoint: &Endpoint,
    listings: &Listings,
    previous: &InferenceEndpointStatus,
    at: Timestamp,
    is_announced: bool,
) -> Observed {
    let names = &endpoint.names;
    let kept = |part| known.part(part);
    let (subnets, file_system, sources, sync, inference, logs) = tokio::join!(
        subnets(cloud, endpoint, known),
        unless(
            kept(Part::FileSystem).map(|it| it.file_system.clone()),
            cloud.file_system(file_system_query(endpoint))
        ),
        sources(cloud, endpoint, listings, previous, at),
        function(
            cloud,
            endpoint,
            (&names.sync_function, &endpoint.sync_code),
            known,
            [Part::SyncCode, Part::SyncFunction],
            |it| &it.sync,
        ),
        function(
            cloud,
            endpoint,
            (&names.function, &endpoint.function.code),
            known,
            [Part::Code, Part::Function],
            |it| &it.inference,
        ),
        log_groups(cloud, endpoint, known),
    );
    let with = |(code, function), log_group| ObservedFunction { code, function, log_group };
    let (sync, inference) = (with(sync, logs.1), with(inference, logs.0));
    let (storage, (stored, sync_report), published) = tokio::join!(
        storage(cloud, endpoint, &file_system, known),
        on_disk(cloud, endpoint, &sync, &sources, known),
        published(cloud, endpoint, &inference.function, known),
    );
    let (mount_targets, access_point, other_access_points) = storage;
    let interfaces = interfaces(cloud, endpoint, [&sync.function, &inference.function]).await;
    let Published { versions, alias, url, permissions } = published;
    let known_file_system = match &endpoint.file_system {
        FileSystemRef::Managed { .. } => previous.storage.as_ref().and_then(|it| it.file_system_id.clone()),
        FileSystemRef::Existing(_) => None,
    };
    let kept_events = kept(Part::Events).filter(|it| it.events.is_announced == is_announced);
    let events = if is_inherited(endpoint, previous) {
        inherited_events(cloud, endpoint).await
    } else if let Some(seen) = kept_events {
        seen.events.clone()
    } else {
        events(cloud, endpoint, is_announced).await
    };
    let mut observed = Observed {
        at,
        was_converged: previous.was_converged(),
        subnets,
        file_system,
        known_file_system,
        mount_targets,
        access_point,
        other_access_points,
        interfaces,
        sync,
        sources,
        stored,
        sync_report,
        inference,
        versions,
        alias,
        url,
        trial: Trial::default(),
        permissions,
        events,
    };
    observed.trial = Box::pin(trial::trial(cloud, &Desired::of(endpoint), &observed)).await;
    observed
}

mod trial;

/// What is known, or else what a call gives.
async fn unless<T>(known: Option<Read<T>>, call: impl Future<Output = Result<T, CloudError>>) -> Read<T> {
    match known {
        Some(known) => known,
        None => read(call).await,
    }
}

/// A call, as an observation. SDK calls are large state machines: on the heap, many of them can be under
/// way at once without filling the stack.
async fn read<T>(call: impl Future<Output = Result<T, CloudError>>) -> Read<T> {
    Box::pin(call).await.map_err(|error| {
        tracing::debug!(error = &error as &dyn std::error::Error, "a read failed");
        error.problem
    })
}

/// A deletion asks for nothing that only a creation needs, and that may be gone already.
async fn subnets<C: Cloud>(cloud: &C, endpoint: &Endpoint, known: &Known) -> Read<Vec<Subnet>> {
    if endpoint.deleting {
        return Ok(Vec::new());
    }
    let kept = known.part(Part::Subnets).map(|it| it.subnets.clone());
    unless(kept, cloud.subnets(&endpoint.subnets)).await
}

/// What deleted functions leave behind, for people to see.
async fn interfaces<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    functions: [&Read<Remote<Function>>; 2],
) -> Read<Vec<String>> {
    let are_gone = functions.iter().all(|function| matches!(function, Ok(Remote::Absent)));
    if !endpoint.deleting || !are_gone {
        return Ok(Vec::new());
    }
    read(pages(|page| cloud.interfaces(&endpoint.names.function, page))).await
}

/// Reads all pages of a list.
async fn pages<T, F>(mut page: impl FnMut(Option<String>) -> F) -> Result<Vec<T>, CloudError>
where
    F: Future<Output = Result<Page<T>, CloudError>>,
{
    let mut items = Vec::new();
    let mut next = None;
    for _ in 0..MAX_PAGES {
        let got = Box::pin(page(next)).await?;
        items.extend(got.items);
        next = got.next;
        if next.is_none() {
            return Ok(items);
        }
    }
    Err(CloudError::new("List", "a list", Class::Invalid, "", "it has more than 1,000 pages"))
}

fn file_system_query(endpoint: &Endpoint) -> FileSystemQuery<'_> {
    match &endpoint.file_system {
        FileSystemRef::Managed { .. } => {
            FileSystemQuery::Ours { token: &endpoint.names.file_system, owner: &endpoint.names.owner }
        }
        FileSystemRef::Existing(id) => FileSystemQuery::Existing(id),
    }
}

async fn storage<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    file_system: &Read<Remote<larder_core::observed::FileSystem>>,
    known: &Known,
) -> (Read<Vec<MountTarget>>, Read<Remote<larder_core::observed::AccessPoint>>, Read<Vec<String>>) {
    let id = match file_system {
        Ok(Remote::Absent | Remote::Foreign { .. }) => {
            return (Ok(Vec::new()), Ok(Remote::Absent), Ok(Vec::new()));
        }
        Ok(Remote::Ready(it) | Remote::Pending(it) | Remote::Deleting(it) | Remote::Failed { it, .. }) => {
            &it.id
        }
        Err(problem) => return (Err(problem.clone()), Err(problem.clone()), Err(problem.clone())),
    };
    let both = |it: &Observed| {
        let (ours, others) = (it.access_point.clone(), it.other_access_points.clone());
        ours.and_then(|ours| others.map(|others| (ours, others)))
    };
    let (mount_targets, access_points) = tokio::join!(
        unless(
            known.part(Part::MountTargets).map(|it| it.mount_targets.clone()),
            pages(|page| cloud.mount_targets(id, page))
        ),
        unless(known.part(Part::AccessPoint).map(both), access_points(cloud, endpoint, id)),
    );
    match access_points {
        Ok((ours, others)) => (mount_targets, Ok(ours), Ok(others)),
        Err(problem) => (mount_targets, Err(problem.clone()), Err(problem)),
    }
}

/// Our access point, and the ids of those of others.
async fn access_points<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    file_system: &str,
) -> Result<(Remote<larder_core::observed::AccessPoint>, Vec<String>), CloudError> {
    let names = &endpoint.names;
    let all: Vec<ListedAccessPoint> =
        pages(|page| cloud.access_points(file_system, &names.owner, page)).await?;
    let (ours, others): (Vec<ListedAccessPoint>, Vec<ListedAccessPoint>) =
        all.into_iter().partition(|ap| ap.token == names.access_point);
    // One that is on its way out may still be listed beside its successor.
    let ours = ours.into_iter().map(|ap| ap.it);
    let ours = ours.min_by_key(|it| matches!(it, Remote::Deleting(_))).unwrap_or(Remote::Absent);
    Ok((ours, others.into_iter().map(|ap| ap.id).collect()))
}

async fn function<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    (name, code): (&str, &larder_core::endpoint::CodeRef),
    known: &Known,
    [code_part, function_part]: [Part; 2],
    of: impl Fn(&Observed) -> &ObservedFunction,
) -> (Read<Code>, Read<Remote<Function>>) {
    let kept = |part| known.part(part).map(&of);
    tokio::join!(
        unless(kept(code_part).map(|it| it.code.clone()), resolved(cloud, endpoint, code)),
        unless(
            kept(function_part).map(|it| it.function.clone()),
            cloud.function(name, &endpoint.names.owner)
        ),
    )
}

/// The log groups of the inference function and of model-sync, whose name begins with that of the first.
async fn log_groups<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    known: &Known,
) -> (Read<Remote<LogGroup>>, Read<Remote<LogGroup>>) {
    if let Some(seen) = known.part(Part::Logs) {
        return (seen.inference.log_group.clone(), seen.sync.log_group.clone());
    }
    let names = [&endpoint.names.function, &endpoint.names.sync_function].map(|name| Names::log_group(name));
    match read(cloud.log_groups(names.each_ref().map(String::as_str), &endpoint.names.owner)).await {
        Ok([inference, sync]) => (Ok(inference), Ok(sync)),
        Err(problem) => (Err(problem.clone()), Err(problem)),
    }
}

async fn resolved<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    code: &larder_core::endpoint::CodeRef,
) -> Result<Code, CloudError> {
    if endpoint.deleting {
        let why = "a deletion asks for no code";
        return Err(CloudError::new("Resolve", &code.to_string(), Class::NotFound, "", why));
    }
    cloud.code(code).await
}

struct Published {
    versions: Read<Vec<Version>>,
    alias: Read<Option<larder_core::observed::Alias>>,
    url: Read<Option<larder_core::observed::FunctionUrl>>,
    permissions: Read<BTreeMap<String, bool>>,
}

/// What hangs on the inference function. Nothing of a foreign function is ours, so it is not looked at.
async fn published<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    function: &Read<Remote<Function>>,
    known: &Known,
) -> Published {
    let nothing = || Published {
        versions: Ok(Vec::new()),
        alias: Ok(None),
        url: Ok(None),
        permissions: Ok(BTreeMap::new()),
    };
    match function {
        Ok(seen) if seen.is_gone() => return nothing(),
        Ok(_) => {}
        Err(problem) => {
            return Published {
                versions: Err(problem.clone()),
                alias: Err(problem.clone()),
                url: Err(problem.clone()),
                permissions: Err(problem.clone()),
            };
        }
    }
    let name = &endpoint.names.function;
    let exposed = async {
        let alias = unless(known.part(Part::Alias).map(|it| it.alias.clone()), cloud.alias(name)).await;
        // The URL and the policy hang on the alias and go with it.
        let (url, permissions) = match &alias {
            Ok(Some(_)) => tokio::join!(
                unless(known.part(Part::Url).map(|it| it.url.clone()), cloud.function_url(name)),
                unless(
                    known.part(Part::Permissions).map(|it| it.permissions.clone()),
                    cloud.permissions(name)
                ),
            ),
            Ok(None) => (Ok(None), Ok(BTreeMap::new())),
            Err(problem) => (Err(problem.clone()), Err(problem.clone())),
        };
        (alias, url, permissions)
    };
    let (versions, (alias, url, permissions)) =
        tokio::join!(read(versions(cloud, endpoint, name, known)), exposed);
    Published { versions, alias, url, permissions }
}

async fn versions<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    name: &str,
    known: &Known,
) -> Result<Vec<Version>, CloudError> {
    let listed = |seen: &Observed| -> Option<Vec<u64>> {
        Some(seen.versions.as_ref().ok()?.iter().map(|it| it.number).collect())
    };
    let mut numbers = match known.part(Part::Numbers).and_then(listed) {
        Some(numbers) => numbers,
        None => pages(|page| cloud.version_numbers(name, page)).await?,
    };
    numbers.sort_unstable();
    let newest = known.part(Part::Provisioned).and_then(listed).map(|all| all.into_iter().max());
    let mut versions = Vec::new();
    for number in numbers {
        let seen = known.version(number);
        let active = seen.filter(|it| it.function.ready().is_some());
        let warm = known.part(Part::Provisioned).and(seen);
        let body = async {
            match active {
                Some(version) => Ok(version.function.clone()),
                None => Box::pin(cloud.version(name, number, &endpoint.names.owner)).await,
            }
        };
        let provisioned = async {
            match warm {
                Some(version) => Ok(version.provisioned.clone()),
                // Published a moment ago: nobody has provisioned it.
                None if newest.is_some_and(|newest| newest < Some(number)) => Ok(None),
                None => Box::pin(cloud.provisioned(name, number)).await,
            }
        };
        let (function, provisioned) = tokio::try_join!(body, provisioned)?;
        // Deleted between the list and the look at it.
        if function != Remote::Absent {
            versions.push(Version { number, function, provisioned });
        }
    }
    Ok(versions)
}

/// The models' sources, by the models' names. Those that `listings` holds are not listed again.
pub(crate) async fn sources<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    listings: &Listings,
    previous: &InferenceEndpointStatus,
    at: Timestamp,
) -> BTreeMap<String, Read<Source>> {
    if endpoint.deleting {
        return BTreeMap::new();
    }
    let list = async |model: &Model| {
        if let Some(known) = listings.get(&model.name) {
            return (model.name.clone(), known.clone());
        }
        let found = read(source(cloud, &model.source, model.marker.as_deref(), at)).await;
        (model.name.clone(), found.map(|found| dated(found, &model.name, previous, at)))
    };
    futures::future::join_all(endpoint.models.iter().map(list)).await.into_iter().collect()
}

/// Whether the spec wants to be told of changes.
fn has_events(endpoint: &Endpoint) -> bool {
    endpoint.models.iter().any(|model| model.has_events) && !endpoint.deleting
}

/// Whether there may be a rule that no status tells of: an earlier object's, whose spec wanted events.
fn is_inherited(endpoint: &Endpoint, previous: &InferenceEndpointStatus) -> bool {
    let consents = endpoint.adoption == Adoption::Adopt || endpoint.adopt_from.is_some();
    consents && !has_events(endpoint) && previous.events.is_none() && !previous.was_converged()
}

/// What an earlier object has left of its events. Who may not look has none.
async fn inherited_events<C: Cloud>(cloud: &C, endpoint: &Endpoint) -> ObservedEvents {
    let seen = ObservedEvents { is_announced: false, ..events(cloud, endpoint, true).await };
    let is_denied = |problem: Option<&Problem>| problem.is_some_and(|it| it.class == Class::Denied);
    if is_denied(seen.rule.as_ref().err()) || is_denied(seen.queue.as_ref().err()) {
        return ObservedEvents::default();
    }
    seen
}

/// Without the status's word for it nothing is asked, so that endpoints without events need no such rights.
async fn events<C: Cloud>(cloud: &C, endpoint: &Endpoint, is_announced: bool) -> ObservedEvents {
    if !is_announced {
        return ObservedEvents::default();
    }
    let names = &endpoint.names;
    let wanted = endpoint.models.iter().filter(|model| model.has_events && !endpoint.deleting);
    let buckets: BTreeSet<&String> = wanted
        .filter_map(|model| match &model.source {
            ModelSource::S3(place) => Some(&place.bucket),
            ModelSource::Oci(_) | ModelSource::Https(_) | ModelSource::HuggingFace(_) => None,
        })
        .collect();
    let is_wanted = !buckets.is_empty();
    let sends = async |bucket: &String| (bucket.clone(), read(cloud.sends_events(bucket)).await);
    let (queue, rule, buckets) = tokio::join!(
        read(cloud.event_queue(&names.event_queue, &names.cluster)),
        read(cloud.event_rule(&names.event_rule, &names.owner)),
        futures::future::join_all(buckets.into_iter().map(sends)),
    );
    let former = former_queue(cloud, endpoint, &rule).await;
    let is_shared = match (&queue, &rule) {
        // Only one that may go is looked at: now, or once the rule has.
        (Ok(Remote::Ready(queue)), Ok(rule)) if !is_wanted => {
            // A rule of our name that is somebody else's counts as well.
            let ours = (!matches!(rule, Remote::Foreign { .. })).then_some(names.event_rule.as_str());
            read(cloud.is_shared(&queue.arn, ours)).await
        }
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Ok(false),
    };
    ObservedEvents { is_announced, queue, former, rule, is_shared, buckets: buckets.into_iter().collect() }
}

/// The queue of this cluster that the endpoint's rule alone sends to, where its own is another one.
async fn former_queue<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    rule: &Read<Remote<EventRule>>,
) -> Read<Option<Queue>> {
    let names = &endpoint.names;
    let target = rule.as_ref().ok().and_then(|rule| rule.ours()?.targets.get(TARGET));
    let Some((arn, name)) = target.and_then(|arn| Some((arn, arn.rsplit(':').next()?))) else {
        return Ok(None);
    };
    if name == names.event_queue || !name.starts_with(EVENT_QUEUES) {
        return Ok(None);
    }
    match read(cloud.event_queue(name, &names.cluster)).await? {
        // A target may be in another account or region.
        Remote::Ready(queue) if queue.arn == *arn => {
            let is_shared = read(cloud.is_shared(arn, Some(&names.event_rule))).await?;
            Ok((!is_shared).then_some(queue))
        }
        Remote::Absent
        | Remote::Pending(_)
        | Remote::Ready(_)
        | Remote::Deleting(_)
        | Remote::Failed { .. }
        | Remote::Foreign { .. } => Ok(None),
    }
}

/// What lies on the file system, and how far that is what is wanted.
async fn on_disk<C: Cloud>(
    cloud: &C,
    endpoint: &Endpoint,
    sync: &ObservedFunction,
    sources: &BTreeMap<String, Read<Source>>,
    known: &Known,
) -> (Read<Option<Inventory>>, Read<Option<SyncReport>>) {
    let is_ready = matches!(&sync.function, Ok(Remote::Ready(_)));
    if !is_ready || endpoint.deleting {
        return (Ok(None), Ok(None));
    }
    let (function, models) = (&endpoint.names.sync_function, &endpoint.models);
    let mut stored = known.inventory();
    if let Some(wanted) = sync_request(models, sources, stored.as_ref()) {
        // A report is about one request.
        let is_same =
            |it: &&Observed| sync_request(models, &it.sources, it.inventory()).as_ref() == Some(&wanted);
        let kept = known.part(Part::Report).filter(is_same).map(|seen| seen.sync_report.clone());
        if let (Some(stored), Some(report)) = (&stored, kept) {
            return (Ok(Some(stored.clone())), report);
        }
        let (report, found) = status(cloud, function, &wanted).await;
        stored = found.or(stored);
        // What is wanted depends on what was found damaged.
        let is_wanted = || sync_request(models, sources, stored.as_ref()).as_ref() == Some(&wanted);
        match (&report, &stored) {
            (Err(problem), None) => return (Err(problem.clone()), report),
            (_, Some(_)) if is_wanted() => return (Ok(stored), report),
            _ => {}
        }
    }
    let stored = match unless(stored.map(Ok), cloud.inventory(function)).await {
        Ok(stored) => stored,
        Err(problem) => return (Err(problem.clone()), Err(problem)),
    };
    let report = match sync_request(models, sources, Some(&stored)) {
        Some(wanted) => status(cloud, function, &wanted).await.0,
        None => Ok(None),
    };
    (Ok(Some(stored)), report)
}

/// How far what is wanted is, and what lies on the file system.
async fn status<C: Cloud>(
    cloud: &C,
    function: &str,
    wanted: &SyncRequest,
) -> (Read<Option<SyncReport>>, Option<Inventory>) {
    match read(cloud.sync_status(function, wanted)).await {
        Ok(mut report) => {
            let stored = report.inventory.take();
            (Ok(Some(report)), stored)
        }
        Err(problem) => (Err(problem), None),
    }
}

/// Whether a model's source was found changed while it was copied: its listing is no longer true.
#[must_use]
pub fn has_changed_source(report: &Read<Option<SyncReport>>) -> bool {
    use larder_contract::sync::ModelState;
    report.as_ref().is_ok_and(|report| {
        report.iter().flat_map(|r| &r.models).any(|m| m.state == ModelState::SourceChanged)
    })
}
