//! `larder explain`: why endpoints are ready or not, as a tree. Reads, changes nothing.

use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use kube::{Api, Client, ResourceExt};
use larder_core::explain::{Branch, Explanation, Look, State, explain as explained};
use larder_core::status::{Failures, status};
use larder_core::{Desired, Endpoint, plan};
use larder_crds::InferenceEndpoint;

use crate::args::{Explain, ExplainOutput, Shared};
use crate::cloud::aws::Connector;
use crate::cluster::client;
use crate::manifests;
use crate::observe::observe;

/// What the explanations come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All of them are ready.
    Ready,
    /// At least one is not.
    NotReady,
    /// AWS was to be asked about one, and could not.
    Unknown,
}

/// Prints the explanations to `out`. Where AWS cannot be asked, the status is explained, and the tree says so.
///
/// # Errors
/// When a file cannot be read, the cluster cannot be reached or there is no such object.
pub async fn explain(args: &Explain, out: &mut impl std::io::Write) -> anyhow::Result<Verdict> {
    let kube = client(&args.cluster).await?;
    let namespace = args.namespace.as_deref().unwrap_or_else(|| kube.default_namespace()).to_owned();
    let mut wanted: Vec<(String, String)> =
        args.names.iter().map(|name| (namespace.clone(), name.clone())).collect();
    if !args.files.is_empty() {
        let written = manifests::read(&args.files, &namespace)?;
        wanted.extend(written.iter().map(|it| (it.namespace().unwrap_or_default(), it.name_any())));
    }
    let asked = if args.offline { None } else { Some(asked(args, &kube).await) };
    let mut verdict = Verdict::Ready;
    let mut all = Vec::new();
    for (namespace, name) in &wanted {
        let object = get(&kube, namespace, name).await?;
        let looked = match &asked {
            None => None,
            Some(Ok((shared, cluster, aws))) => Some(Box::pin(look(shared, cluster, aws, &object)).await),
            Some(Err(why)) => Some(Err(anyhow::anyhow!("{why:#}"))),
        };
        let (explanation, is_known) = match looked {
            Some(Ok(explanation)) => (explanation, true),
            Some(Err(why)) => {
                let mut explanation = from_status(&object);
                explanation.notes.push(format!("AWS could not be asked: {why:#}"));
                (explanation, false)
            }
            None => (from_status(&object), true),
        };
        verdict = verdict.max(match (is_known, explanation.ready) {
            (false, _) => Verdict::Unknown,
            (true, true) => Verdict::Ready,
            (true, false) => Verdict::NotReady,
        });
        all.push(explanation);
    }
    let text = match args.output {
        ExplainOutput::Text => {
            let is_coloured = args.color.is_wanted();
            all.iter().map(|it| render(it, is_coloured)).collect::<Vec<_>>().join("\n")
        }
        ExplainOutput::Json => serde_json::to_string_pretty(&all)? + "\n",
    };
    out.write_all(text.as_bytes()).context("the explanation cannot be written")?;
    Ok(verdict)
}

async fn asked(args: &Explain, kube: &Client) -> anyhow::Result<(Shared, String, Connector)> {
    let shared = args.shared().context("write --sync-code, as for the controller, or --offline")?;
    let cluster = shared.cluster(kube).await?;
    let aws = Connector::new(shared.settings()).await?;
    Ok((shared, cluster, aws))
}

async fn get(kube: &Client, namespace: &str, name: &str) -> anyhow::Result<InferenceEndpoint> {
    let api: Api<InferenceEndpoint> = Api::namespaced(kube.clone(), namespace);
    let Some(object) = api.get_opt(name).await.context("the API server cannot be asked")? else {
        bail!("there is no InferenceEndpoint {namespace}/{name}: check the name, and the namespace with -n");
    };
    Ok(object)
}

async fn look(
    shared: &Shared,
    cluster: &str,
    aws: &Connector,
    object: &InferenceEndpoint,
) -> anyhow::Result<Explanation> {
    let endpoint = Endpoint::parse(object, &shared.defaults(cluster.to_owned()))?;
    let cloud = aws.connect(&endpoint.place).await?;
    let written = object.status.clone().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let observed = Box::pin(observe(&cloud, &endpoint, &written, now)).await;
    let plans = plan(&Desired::of(&endpoint), &observed);
    let seen = status(&endpoint, &observed, &plans, &Failures::new(), &written, now);
    ensure!(seen.observed_generation.is_some(), "the object has no generation");
    let look = Look { plans: &plans, written: &written, sync_function: &endpoint.names.sync_function };
    Ok(explained(named(object), endpoint.generation, &seen, Some(look)))
}

fn from_status(object: &InferenceEndpoint) -> Explanation {
    let status = object.status.clone().unwrap_or_default();
    explained(named(object), object.metadata.generation.unwrap_or_default(), &status, None)
}

fn named(object: &InferenceEndpoint) -> (&str, &str) {
    let metadata = &object.metadata;
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// A message that is longer does not push the calls of all lines to the right.
const WIDEST: usize = 60;

/// The tree as text.
#[must_use]
pub fn render(explanation: &Explanation, is_coloured: bool) -> String {
    let paint = |code: &str, text: &str| {
        if is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let Explanation { namespace, name, ready, conditions, notes } = explanation;
    let word = if *ready { paint("32", "ready") } else { paint("31", "not ready") };
    let mut text = format!("{}: {word}\n", paint("1", &format!("InferenceEndpoint {namespace}/{name}")));
    let lines = lines(conditions);
    let width = |of: fn(&Line) -> usize| lines.iter().map(of).max().unwrap_or(0);
    let (names, words) = (
        width(|line| length(&line.trunk) + length(&line.branch.name)),
        width(|line| Some(length(&line.words)).filter(|it| *it <= WIDEST).unwrap_or(0)),
    );
    for Line { trunk, branch, words: said } in &lines {
        let (mark, colour) = match branch.state {
            State::Ready => ("✓", "32"),
            State::Progressing => ("…", "33"),
            State::Failing => ("✗", "31"),
        };
        let gap = " ".repeat(names.saturating_sub(length(trunk) + length(&branch.name)));
        let _ = write!(text, "{trunk}{}{gap}  {} {said}", branch.name, paint(colour, mark));
        if !branch.calls.is_empty() {
            let gap = " ".repeat(words.saturating_sub(length(said)));
            let _ = write!(text, "{gap}  {}", paint("2", &branch.calls.join(", ")));
        }
        text.push('\n');
    }
    for note in notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

struct Line<'a> {
    trunk: String,
    branch: &'a Branch,
    words: String,
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// The tree's lines, from the top.
fn lines(conditions: &[Branch]) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for (n, branch) in conditions.iter().enumerate() {
        let is_last = n + 1 == conditions.len();
        let trunk = if is_last { "└─ " } else { "├─ " };
        lines.push(Line { trunk: trunk.to_owned(), branch, words: words(branch) });
        for (n, part) in branch.parts.iter().enumerate() {
            let above = if is_last { "   " } else { "│  " };
            let trunk = if n + 1 == branch.parts.len() { "└─ " } else { "├─ " };
            lines.push(Line { trunk: format!("{above}{trunk}"), branch: part, words: words(part) });
        }
    }
    lines
}

/// The reason is said where it says more than the mark.
fn words(branch: &Branch) -> String {
    let message = branch.message.split_whitespace().collect::<Vec<_>>().join(" ");
    match branch.state {
        State::Ready => message,
        State::Progressing | State::Failing => format!("{}: {message}", branch.reason),
    }
}
