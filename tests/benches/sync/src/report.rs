//! Ratios between programs that ran one after the other, as JSON and as a picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::measure::Run;
use crate::objects::Case;
use crate::raw::Limit;

/// One case. Ratios are of each round by itself, then the median: what slows the machine slows all in a round.
#[derive(Debug, Serialize)]
pub(crate) struct CaseResult {
    #[serde(skip)]
    name: &'static str,
    files: usize,
    file_bytes: u64,
    /// Ours to the fastest of the others.
    throughput_vs_fastest: Option<f64>,
    /// Ours to the AWS CLI's.
    cpu_vs_awscli: Option<f64>,
    /// The most of ours.
    rss_mib: Option<f64>,
    /// Ours to the lower of server alone and disk alone.
    share_of_raw_limit: Option<f64>,
    raw_server_mb_per_s: f64,
    raw_disk_mb_per_s: f64,
    tools: BTreeMap<&'static str, ToolResult>,
}

/// The median of one program's runs.
#[derive(Debug, Serialize)]
struct ToolResult {
    runs: usize,
    seconds: f64,
    mb_per_s: f64,
    cpu_seconds: f64,
    rss_mib: f64,
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

impl CaseResult {
    pub(crate) fn new(case: &Case, limit: &Limit, runs: &[(usize, &'static str, Run)]) -> Self {
        let of = |tool: &str| runs.iter().filter(|(_, name, _)| *name == tool).collect::<Vec<_>>();
        let mut tools = BTreeMap::new();
        for name in runs.iter().map(|(_, name, _)| *name) {
            let all = |value: fn(&Run) -> f64| of(name).iter().map(|(_, _, run)| value(run)).collect();
            let seconds = median(all(|run| run.seconds)).unwrap_or(0.0);
            tools.entry(name).or_insert_with(|| ToolResult {
                runs: of(name).len(),
                seconds,
                mb_per_s: case.bytes() / seconds / 1e6,
                cpu_seconds: median(all(|run| run.cpu_seconds)).unwrap_or(0.0),
                rss_mib: all(|run| run.rss_mib).into_iter().fold(0.0, f64::max),
            });
        }
        let ours = of("ours");
        let in_round = |round: usize| runs.iter().filter(move |(r, name, _)| *r == round && *name != "ours");
        let vs_fastest = ours.iter().filter_map(|(round, _, run)| {
            let fastest = in_round(*round).map(|(_, _, run)| run.seconds).reduce(f64::min)?;
            Some(fastest / run.seconds)
        });
        let vs_awscli = ours.iter().filter_map(|(round, _, run)| {
            let (_, _, other) = in_round(*round).find(|(_, name, _)| *name == "awscli-crt")?;
            Some(run.cpu_seconds / other.cpu_seconds)
        });
        Self {
            name: case.name,
            files: case.files,
            file_bytes: case.size,
            throughput_vs_fastest: median(vs_fastest.collect()),
            cpu_vs_awscli: median(vs_awscli.collect()),
            rss_mib: tools.get("ours").map(|ours| ours.rss_mib),
            share_of_raw_limit: tools.get("ours").map(|ours| ours.mb_per_s * 1e6 / limit.lower()),
            raw_server_mb_per_s: limit.server / 1e6,
            raw_disk_mb_per_s: limit.disk / 1e6,
            tools,
        }
    }
}

/// Writes both, and prints the ratios.
pub(crate) fn write(json: &Path, svg: Option<&Path>, quick: bool, results: &[CaseResult]) -> Result<()> {
    let cases: BTreeMap<&str, &CaseResult> = results.iter().map(|case| (case.name, case)).collect();
    let whole = serde_json::json!({ "quick": quick, "cases": cases });
    fs::write(json, serde_json::to_string_pretty(&whole)?)?;
    for case in results {
        let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        println!(
            "{:<6} throughput vs fastest {}, processor vs AWS CLI {}, {} MiB, {} of the raw limit",
            case.name,
            text(case.throughput_vs_fastest),
            text(case.cpu_vs_awscli),
            text(case.rss_mib),
            text(case.share_of_raw_limit)
        );
    }
    if let Some(svg) = svg {
        fs::write(svg, picture(results))?;
    }
    Ok(())
}

/// Bars of throughput, each case by its own fastest.
fn picture(results: &[CaseResult]) -> String {
    const ROW: usize = 22;
    const BAR: f64 = 420.0;
    let rows: usize = results.iter().map(|case| case.tools.len() + 2).sum();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        rows * ROW + 10
    );
    let mut y = ROW;
    for case in results {
        let title = format!("{} files of {:.2} MiB, MB/s", case.files, mib(case.file_bytes));
        writeln!(text, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{title}</text>").ok();
        y += ROW;
        let fastest = case.tools.values().map(|tool| tool.mb_per_s).fold(1.0, f64::max);
        for (name, tool) in &case.tools {
            let (width, middle) = (tool.mb_per_s / fastest * BAR, y - ROW / 2 - 4);
            let color = if *name == "ours" { "#2a6f97" } else { "#b8c4cc" };
            let label = if *name == "ours" { "larder-model-sync" } else { name };
            writeln!(
                text,
                "<text x=\"130\" y=\"{y}\" text-anchor=\"end\">{label}</text>\
                 <rect x=\"140\" y=\"{middle}\" width=\"{width:.0}\" height=\"16\" fill=\"{color}\"/>\
                 <text x=\"{:.0}\" y=\"{y}\">{:.0}</text>",
                146.0 + width,
                tool.mb_per_s
            )
            .ok();
            y += ROW;
        }
        y += ROW;
    }
    text.push_str("</svg>\n");
    text
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
