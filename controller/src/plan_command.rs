//! `larder plan`: the steps that the controller would take, as a diff. Reads AWS, changes nothing.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use larder_core::foresee::Foreseen;
use larder_core::plan::{Plan as AreaPlan, Reason};
use larder_core::step::Effect;
use larder_core::tenants::{self, RolePolicy};
use larder_core::{Area, Desired, Endpoint, drift};
use larder_crds::{ALLOWED_ROLES, InferenceEndpoint};

use crate::args::{Plan, PlanOutput};
use crate::cloud::aws::Connector;
use crate::cluster::client;
use crate::manifests;
use crate::observe::observe_ahead;
use crate::plan_markdown::markdown;

/// What the plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// AWS holds what is wanted.
    NothingToDo,
    /// There are steps to take, or something blocks them.
    SomethingToDo,
    /// Of an endpoint it could not be found out.
    Unknown,
}

/// The plan of one endpoint.
#[derive(Debug)]
pub struct Planned {
    /// `namespace/name`
    pub name: String,
    /// The object is not in the cluster yet.
    pub is_new: bool,
    /// Why the controller takes none of the steps, if that is so.
    pub held: Option<String>,
    /// Its steps, or why they are not known, in one line.
    pub foreseen: Result<Foreseen, String>,
}

impl Planned {
    /// What it comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.foreseen {
            Ok(foreseen)
                if foreseen.steps.is_empty() && foreseen.end.is_converged() && self.held.is_none() =>
            {
                Verdict::NothingToDo
            }
            Ok(_) => Verdict::SomethingToDo,
            Err(_) => Verdict::Unknown,
        }
    }
}

/// Said of an endpoint that is not in the cluster yet.
pub(crate) const NEW: &str = "It is new.";

/// Prints the plan to `out`. What becomes of one endpoint does not keep the others from being planned.
///
/// # Errors
/// When a file cannot be read, or neither the cluster nor AWS can be reached.
pub async fn plan(args: &Plan, out: &mut impl std::io::Write) -> anyhow::Result<Verdict> {
    let written = manifests::read(&args.files, &args.namespace)?;
    let kube = client(&args.cluster).await?;
    let cluster = args.shared.cluster(&kube).await?;
    let aws = Connector::new(args.shared.settings()).await?;
    let mut all = Vec::new();
    for object in &written {
        all.push(Box::pin(planned(args, &kube, &cluster, &aws, object)).await);
    }
    let text = match args.output {
        PlanOutput::Text => {
            let is_coloured = args.color.is_wanted();
            all.iter().map(|planned| render(planned, is_coloured)).collect::<Vec<_>>().join("\n")
        }
        PlanOutput::Markdown => markdown(&all),
    };
    out.write_all(text.as_bytes()).context("the plan cannot be written")?;
    Ok(all.iter().map(Planned::verdict).max().unwrap_or(Verdict::NothingToDo))
}

async fn planned(
    args: &Plan,
    kube: &Client,
    cluster: &str,
    aws: &Connector,
    written: &InferenceEndpoint,
) -> Planned {
    let name = format!("{}/{}", written.namespace().unwrap_or_default(), written.name_any());
    let mut planned = Planned { name, is_new: false, held: None, foreseen: Err(String::new()) };
    let foreseen = foreseen(args, kube, cluster, aws, written, &mut planned).await;
    planned.foreseen = foreseen.map_err(|error| format!("{error:#}"));
    planned
}

async fn foreseen(
    args: &Plan,
    kube: &Client,
    cluster: &str,
    aws: &Connector,
    written: &InferenceEndpoint,
    planned: &mut Planned,
) -> anyhow::Result<Foreseen> {
    let (object, exists) = admitted(kube, written).await?;
    planned.is_new = !exists;
    let endpoint = Endpoint::parse(&object, &args.shared.defaults(cluster.to_owned()))?;
    planned.held = not_allowed(kube, args.role_policy.into(), &endpoint).await?;
    let cloud = aws.connect(&endpoint.place).await?;
    let status = object.status.clone().unwrap_or_default();
    let observed = Box::pin(observe_ahead(&cloud, &endpoint, &status, jiff::Timestamp::now())).await;
    Ok(drift::foresee_held(&endpoint, &Desired::of(&endpoint), &observed, &status))
}

/// Why the controller does not work on an endpoint, when its Namespace does not allow it its roles.
async fn not_allowed(
    kube: &Client,
    policy: RolePolicy,
    endpoint: &Endpoint,
) -> anyhow::Result<Option<String>> {
    let namespace = match policy {
        RolePolicy::Any => return Ok(None),
        RolePolicy::Annotated => &endpoint.identity.namespace,
    };
    let api: Api<Namespace> = Api::all(kube.clone());
    let found = api.get_metadata_opt(namespace).await.with_context(|| {
        format!("namespace {namespace} cannot be read: allow get of it, or write --role-policy any")
    })?;
    let allowed = found.as_ref().and_then(|it| it.annotations().get(ALLOWED_ROLES));
    let checked = tenants::check(policy, endpoint, allowed.map(String::as_str));
    Ok(checked.err().map(|why| format!("{}: {why}; until then nothing is done", Reason::RoleNotAllowed)))
}

/// The object as the API server would store it: validated, defaulted, with the UID of the one that
/// exists. A dry run: nothing is stored. And whether one exists.
async fn admitted(kube: &Client, written: &InferenceEndpoint) -> anyhow::Result<(InferenceEndpoint, bool)> {
    let name = written.name_any();
    let namespace = written.namespace().unwrap_or_default();
    let api: Api<InferenceEndpoint> = Api::namespaced(kube.clone(), &namespace);
    let exists = api.get_opt(&name).await.context("the API server cannot be asked")?.is_some();
    let mut written = written.clone();
    written.status = None;
    written.metadata.managed_fields = None;
    let params = PatchParams { dry_run: true, ..PatchParams::apply("kubectl-client-side-apply").force() };
    let answer = api.patch(&name, &params, &Patch::Apply(&written)).await;
    if let Err(kube::Error::Api(status)) = &answer {
        bail!("the API server refuses it: {}", status.message);
    }
    Ok((answer.context("the API server cannot be asked")?, exists))
}

/// The plan as text.
#[must_use]
pub fn render(planned: &Planned, is_coloured: bool) -> String {
    let paint = |code: &str, text: &str| {
        if is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let mut text = format!("{}\n", paint("1", &format!("InferenceEndpoint {}", planned.name)));
    if planned.is_new {
        let _ = writeln!(text, "{NEW}");
    }
    if let Some(held) = &planned.held {
        let _ = writeln!(text, "{}", paint("35", &format!("! {held}")));
    }
    let foreseen = match &planned.foreseen {
        Ok(foreseen) => foreseen,
        Err(why) => {
            let _ = writeln!(text, "\n  {}", paint("31", &format!("! {why}")));
            return text;
        }
    };
    for area in Area::ALL {
        let steps: Vec<_> = foreseen.steps.iter().filter(|(of, _)| *of == area).collect();
        let stuck = stuck(foreseen, area);
        let _ = writeln!(text, "\n  {}", paint("1", area.condition()));
        if steps.is_empty() && stuck.is_none() {
            let _ = writeln!(text, "    {}", paint("2", "= as wanted"));
        }
        for (_, step) in steps {
            let effect = step.effect();
            let colour = match effect {
                Effect::Creates => "32",
                Effect::Changes => "33",
                Effect::Deletes => "31",
                Effect::Runs => "36",
            };
            let _ = writeln!(text, "    {}", paint(colour, &format!("{} {step}", effect.mark())));
        }
        if let Some(stuck) = stuck {
            let _ = writeln!(text, "    {}", paint("35", &format!("! {stuck}")));
        }
    }
    let [create, change, delete, run] = count(foreseen);
    let summary = if planned.verdict() == Verdict::NothingToDo {
        "Nothing to do: AWS holds what is wanted.".to_owned()
    } else {
        format!("Plan: {create} to create, {change} to change, {delete} to delete, {run} to run.")
    };
    let _ = writeln!(text, "\n{}", paint("1", &summary));
    text
}

/// What keeps an area from its end, in words.
pub(crate) fn stuck(foreseen: &Foreseen, area: Area) -> Option<String> {
    match foreseen.end.get(area) {
        AreaPlan::Blocked { reason, message, .. } | AreaPlan::Retry { reason, message, .. } => {
            Some(format!("{reason}: {message}"))
        }
        AreaPlan::Wait { on, .. } => Some(format!("waits for {on}")),
        AreaPlan::Converged | AreaPlan::Do(_) => None,
    }
}

/// How many steps create, change, delete and run something.
pub(crate) fn count(foreseen: &Foreseen) -> [usize; 4] {
    let of = |effect| foreseen.steps.iter().filter(|(_, step)| step.effect() == effect).count();
    [Effect::Creates, Effect::Changes, Effect::Deletes, Effect::Runs].map(of)
}
