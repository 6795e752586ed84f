//! One run of one program.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::tools::Tool;

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Until all is on disk: what a program leaves in the page cache is written before the clock stops.
    pub(crate) seconds: f64,
    /// User and system, of all its processes.
    pub(crate) cpu_seconds: f64,
    /// The most that its process had at once.
    pub(crate) rss_mib: f64,
}

/// Clock ticks a second in `/proc` (proc(5)); the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// Runs `tool` into the new folder `to`, on one processor if so wanted.
pub(crate) fn run(tool: &Tool, url: &str, to: &Path, one_processor: bool) -> Result<Run> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    rustix::fs::syncfs(File::open(to)?)?;
    let log = tool.log();
    let mut command = tool.command(url, to, one_processor);
    command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
    let before = cpu_of_children()?;
    let begun = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {}", tool.name))?;
    let (status, rss_mib) = wait(&mut child)?;
    rustix::fs::syncfs(File::open(to)?)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(status, "{} failed: {}", tool.name, fs::read_to_string(&log)?);
    Ok(Run { seconds, cpu_seconds: cpu_of_children()? - before, rss_mib })
}

/// Waits, and looks at the peak of its memory until it ends.
fn wait(child: &mut Child) -> Result<(bool, f64)> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak: f64 = 0.0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) / 1_024.0);
        if let Some(status) = child.try_wait()? {
            return Ok((status.success(), peak));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn cpu_of_children() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(") ").context("/proc/self/stat")?;
    // `cutime` and `cstime`, the 16th and 17th, where the 3rd is the first after the name.
    let ticks: Vec<f64> = fields.split(' ').skip(13).take(2).filter_map(|t| t.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS)
}
