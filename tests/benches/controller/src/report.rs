//! The figures, as JSON and as a picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::aws::{Calls, number};

/// Lambda's control-plane calls a second: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const CONTROL: f64 = 15.0;
const GET_FUNCTION: f64 = 100.0;
const GET_POLICY: f64 = 15.0;

/// What was measured at one number of endpoints.
#[derive(Debug)]
pub(crate) struct Size {
    pub(crate) endpoints: usize,
    /// Of these were made anew.
    pub(crate) made: usize,
    pub(crate) converge_seconds: f64,
    pub(crate) converge_cpu_seconds: f64,
    pub(crate) fresh: Calls,
    pub(crate) rss_mib: f64,
    pub(crate) rss_peak_mib: f64,
    pub(crate) act_seconds: f64,
    pub(crate) drift_seconds: Vec<f64>,
    /// So many aliases were moved.
    pub(crate) drifted: usize,
    pub(crate) window_seconds: f64,
    pub(crate) steady: Calls,
    pub(crate) steady_rates: BTreeMap<&'static str, f64>,
    /// Processors.
    pub(crate) steady_cpu: f64,
    pub(crate) throttled: u64,
}

impl Size {
    fn calls_each(&self) -> f64 {
        number(self.fresh.values().sum()) / number(self.made.max(1) as u64)
    }

    fn share(&self, rate: &str, of: f64) -> f64 {
        self.steady_rates.get(rate).copied().unwrap_or_default() / of
    }

    fn budget_share(&self) -> f64 {
        self.share("control plane", CONTROL)
    }

    /// The longest of the times until drift that a glance sees was put back; none where some of it was not, within
    /// the window.
    fn drift_seen_seconds(&self) -> Option<f64> {
        (self.drift_seconds.len() == self.drifted).then(|| self.drift_seconds.last().copied()).flatten()
    }

    /// How long it takes for as many looks at everything as there are endpoints, at the pace of the window: about the
    /// time, on average, until drift that a glance does not see is noticed. A look asks for the function URL once.
    fn looks_hours(&self) -> Option<f64> {
        let looks = number(*self.steady.get("lambda.GetFunctionUrlConfig").filter(|looks| **looks > 0)?);
        Some(number(self.endpoints as u64) / (looks / self.window_seconds) / 3600.0)
    }

    pub(crate) fn print(&self) {
        println!(
            "{:>6}: converged in {:.1} s ({:.1} ms of processor and {:.1} calls each), {:.0} MiB (at most {:.0}); \
             a change acts in {:.2} s; steady: {:.4} processors, shares of Lambda's rates: control plane {:.3}, \
             GetFunction {:.3}, GetPolicy {:.3}; {} calls throttled; moved aliases put back after {:.0?} s; as many looks \
             at everything as endpoints in {:.2?} h",
            self.endpoints,
            self.converge_seconds,
            self.converge_cpu_seconds * 1000.0 / number(self.made.max(1) as u64),
            self.calls_each(),
            self.rss_mib,
            self.rss_peak_mib,
            self.act_seconds,
            self.steady_cpu,
            self.budget_share(),
            self.share("GetFunction", GET_FUNCTION),
            self.share("GetPolicy", GET_POLICY),
            self.throttled,
            self.drift_seconds,
            self.looks_hours(),
        );
    }

    fn json(&self) -> Value {
        json!({
            "endpoints": self.endpoints,
            "made": self.made,
            "converge_seconds": self.converge_seconds,
            "converge_cpu_seconds": self.converge_cpu_seconds,
            "aws_calls_each": self.calls_each(),
            "aws_calls": self.fresh,
            "rss_mib": self.rss_mib,
            "rss_peak_mib": self.rss_peak_mib,
            "act_seconds": self.act_seconds,
            "drift_seconds": self.drift_seconds,
            "looks_hours": self.looks_hours(),
            "window_seconds": self.window_seconds,
            "steady_calls": self.steady,
            "steady_calls_per_second": self.steady_rates,
            "steady_processors": self.steady_cpu,
            "share_control_plane": self.budget_share(),
            "share_get_function": self.share("GetFunction", GET_FUNCTION),
            "share_get_policy": self.share("GetPolicy", GET_POLICY),
            "throttled": self.throttled,
        })
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) quick: bool,
    pub(crate) sizes: Vec<Size>,
    /// Seconds and calls of one endpoint, where AWS takes its time.
    pub(crate) slow: Option<(f64, u64)>,
}

impl Report {
    fn at(&self, endpoints: usize) -> Option<&Size> {
        self.sizes.iter().find(|size| size.endpoints == endpoints)
    }

    fn keys(&self) -> Value {
        json!({
            "aws_calls_fresh": self.at(1).map(Size::calls_each),
            "converge_seconds_fresh": self.at(1).map(|size| size.converge_seconds),
            "aws_calls_fresh_waiting": self.slow.map(|(_, calls)| calls),
            "converge_seconds_fresh_waiting": self.slow.map(|(seconds, _)| seconds),
            "rss_mib_10": self.at(10).map(|size| size.rss_mib),
            "rss_mib_10000": self.at(10_000).map(|size| size.rss_mib),
            "budget_share_10000": self.at(10_000).map(Size::budget_share),
            "act_seconds_10000": self.at(10_000).map(|size| size.act_seconds),
            "drift_seen_seconds_10000": self.at(10_000).and_then(Size::drift_seen_seconds),
            "looks_hours_10000": self.at(10_000).and_then(Size::looks_hours),
        })
    }

    pub(crate) fn print(&self) {
        println!("{:#}", self.keys());
    }

    pub(crate) fn write(&self, json: &Path, svg: &Path) -> Result<()> {
        let mut whole = self.keys();
        whole["quick"] = json!(self.quick);
        whole["sizes"] = self.sizes.iter().map(Size::json).collect();
        std::fs::write(json, serde_json::to_string_pretty(&whole)?)?;
        std::fs::write(svg, self.picture())?;
        Ok(())
    }

    /// Bars of each figure by number of endpoints.
    fn picture(&self) -> String {
        type Figure = (&'static str, fn(&Size) -> Option<f64>);
        const FIGURES: [Figure; 7] = [
            ("Calls to AWS for each new endpoint", |size| Some(size.calls_each())),
            ("Milliseconds of processor for each new endpoint", |size| {
                Some(size.converge_cpu_seconds * 1000.0 / number(size.made.max(1) as u64))
            }),
            ("MiB of memory", |size| Some(size.rss_mib)),
            ("Seconds until a changed spec acts", |size| Some(size.act_seconds)),
            ("Share of Lambda's 15 control-plane calls a second, all converged", |size| {
                Some(size.budget_share())
            }),
            ("Seconds until an alias that was moved by hand is put back, at most", Size::drift_seen_seconds),
            ("Hours until everything was looked at, at the pace of the window", Size::looks_hours),
        ];
        const ROW: usize = 22;
        const BAR: f64 = 420.0;
        let rows = FIGURES.len() * (self.sizes.len() + 2);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            rows * ROW + 10
        );
        let mut y = ROW;
        for (title, figure) in FIGURES {
            writeln!(text, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{title}</text>").ok();
            y += ROW;
            let most = self.sizes.iter().filter_map(figure).fold(f64::MIN_POSITIVE, f64::max);
            for size in &self.sizes {
                let figure = figure(size);
                let (width, middle) = (figure.unwrap_or_default() / most * BAR, y - ROW / 2 - 4);
                let words =
                    figure.map_or_else(|| "not within the window".to_owned(), |it| format!("{it:.3}"));
                writeln!(
                    text,
                    "<text x=\"110\" y=\"{y}\" text-anchor=\"end\">{}</text>\
                     <rect x=\"120\" y=\"{middle}\" width=\"{width:.0}\" height=\"16\" fill=\"#2a6f97\"/>\
                     <text x=\"{:.0}\" y=\"{y}\">{words}</text>",
                    size.endpoints,
                    126.0 + width
                )
                .ok();
                y += ROW;
            }
            y += ROW;
        }
        text.push_str("</svg>\n");
        text
    }
}
