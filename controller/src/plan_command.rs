//! `larder plan`: the steps that the controller would take, as a diff. Reads AWS, changes nothing.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::{Context as _, bail};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use larder_core::foresee::{Foreseen, foresee};
use larder_core::plan::Plan as AreaPlan;
use larder_core::step::Effect;
use larder_core::{Area, Desired, Endpoint};
use larder_crds::InferenceEndpoint;

use crate::args::{Colour, Plan};
use crate::cloud::aws::Connector;
use crate::observe::{Listings, observe};

/// What the plan comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// AWS holds what is wanted.
    NothingToDo,
    /// There are steps to take, or something blocks them.
    SomethingToDo,
}

/// Prints the plan to `out`.
///
/// # Errors
/// When the file cannot be read, admission refuses it, or AWS cannot be reached.
pub async fn plan(args: &Plan, out: &mut impl std::io::Write) -> anyhow::Result<Verdict> {
    let written = read(&args.file, &args.namespace)?;
    let kube = Client::try_default().await.context("the cluster cannot be reached: check the kubeconfig")?;
    let cluster = match &args.shared.cluster_id {
        Some(id) => id.clone(),
        None => crate::run::cluster_id(&kube).await.context("the cluster's id cannot be read")?,
    };
    let (object, exists) = admitted(&kube, &written).await?;
    let endpoint = Endpoint::parse(&object, &args.shared.defaults(cluster))?;
    let cloud = Connector::new(args.shared.settings()).await?.connect(&endpoint.place).await?;
    let observed = Box::pin(observe(
        &cloud,
        &endpoint,
        &Listings::new(),
        &object.status.clone().unwrap_or_default(),
        jiff::Timestamp::now(),
    ))
    .await;
    let foreseen = foresee(&Desired::of(&endpoint), &observed);
    let is_coloured = match args.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let title = format!("InferenceEndpoint {}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let title = if exists {
        title
    } else {
        format!(
            "{title}\nIt is new: its UID, and with it the end of each name below, is chosen when it is created."
        )
    };
    let (text, verdict) = render(&title, &foreseen, is_coloured);
    out.write_all(text.as_bytes()).context("the plan cannot be written")?;
    Ok(verdict)
}

fn read(file: &Path, namespace: &str) -> anyhow::Result<InferenceEndpoint> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(1 << 20).read_to_string(&mut text).context("standard input cannot be read")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    }
    let mut object: InferenceEndpoint = serde_yaml::from_str(&text)
        .with_context(|| format!("{} is not one InferenceEndpoint", file.display()))?;
    if object.metadata.name.is_none() {
        bail!("{} has no metadata.name: write it", file.display());
    }
    object.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
    Ok(object)
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

/// The plan as text, and what it comes to.
#[must_use]
pub fn render(title: &str, foreseen: &Foreseen, is_coloured: bool) -> (String, Verdict) {
    let paint = |code: &str, text: &str| {
        if is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let mut text = format!("{}\n", paint("1", title));
    let mut count = [0usize; 4];
    for area in Area::ALL {
        let steps: Vec<_> = foreseen.steps.iter().filter(|(of, _)| *of == area).collect();
        let stuck = match foreseen.end.get(area) {
            AreaPlan::Blocked { reason, message, .. } | AreaPlan::Retry { reason, message, .. } => {
                Some(format!("{reason}: {message}"))
            }
            AreaPlan::Wait { on, .. } => Some(format!("waits for {on}")),
            AreaPlan::Converged | AreaPlan::Do(_) => None,
        };
        let _ = writeln!(text, "\n  {}", paint("1", area.condition()));
        if steps.is_empty() && stuck.is_none() {
            let _ = writeln!(text, "    {}", paint("2", "= as wanted"));
        }
        for (_, step) in steps {
            let effect = step.effect();
            let (colour, slot) = match effect {
                Effect::Creates => ("32", 0),
                Effect::Changes => ("33", 1),
                Effect::Deletes => ("31", 2),
                Effect::Runs => ("36", 3),
            };
            count[slot] += 1;
            let _ = writeln!(text, "    {}", paint(colour, &format!("{} {step}", effect.mark())));
        }
        if let Some(stuck) = stuck {
            let _ = writeln!(text, "    {}", paint("35", &format!("! {stuck}")));
        }
    }
    let [create, change, delete, run] = count;
    let is_done = create + change + delete + run == 0 && foreseen.end.is_converged();
    let summary = if is_done {
        "Nothing to do: AWS holds what is wanted.".to_owned()
    } else {
        format!("Plan: {create} to create, {change} to change, {delete} to delete, {run} to run.")
    };
    let _ = writeln!(text, "\n{}", paint("1", &summary));
    (text, if is_done { Verdict::NothingToDo } else { Verdict::SomethingToDo })
}
