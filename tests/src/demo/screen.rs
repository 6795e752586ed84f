//! What the demo prints: headings, steps with their times, live lines, and the table at the end.

use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

/// The screen, and the times of the steps.
#[derive(Debug)]
pub struct Screen {
    /// Colours and live lines.
    pub is_coloured: bool,
    /// The demo leaves everything running.
    pub keeps: bool,
    begun: Instant,
    times: Vec<(String, Duration)>,
    open: Option<(String, Instant)>,
}

impl Screen {
    /// A screen on standard output.
    #[must_use]
    pub fn new(keeps: bool) -> Self {
        let is_coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { is_coloured, keeps, begun: Instant::now(), times: Vec::new(), open: None }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    #[expect(clippy::unused_self, reason = "everything that is printed goes through the screen")]
    fn print(&self, text: &str) {
        // A reader that has gone away ends the demo by its signal, not by this write.
        let _gone = writeln!(std::io::stdout(), "{text}");
    }

    /// A heading.
    pub fn heading(&self, text: &str) {
        self.print(&format!("\n{}", self.paint("1;36", &format!("$ {text}"))));
    }

    /// A line of detail.
    pub fn note(&self, text: &str) {
        self.print(&format!("    {text}"));
    }

    /// A line about something that just happened, with the time since the step began.
    pub fn event(&self, is_good: Option<bool>, text: &str) {
        let since = self.open.as_ref().map_or(Duration::ZERO, |(_, at)| at.elapsed());
        let code = match is_good {
            Some(true) => "32",
            Some(false) => "31",
            None => "33",
        };
        self.print(&format!("  {:>6.1} s  {}", since.as_secs_f64(), self.paint(code, text)));
    }

    /// Somebody else's output.
    pub fn block(&self, text: &str) {
        self.print(text.trim_end());
    }

    /// Begins a step of the table.
    pub fn begin(&mut self, what: &str) {
        self.open = Some((what.to_owned(), Instant::now()));
    }

    /// Ends it.
    pub fn end(&mut self) {
        if let Some((what, at)) = self.open.take() {
            self.times.push((what, at.elapsed()));
        }
    }

    /// A step that is one future.
    ///
    /// # Errors
    /// The future's own.
    pub async fn step<T, E>(&mut self, what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let at = Instant::now();
        let result = Box::pin(work).await;
        let took = at.elapsed();
        let (mark, code) = if result.is_ok() { ("✓", "32") } else { ("✗", "31") };
        self.print(&format!("{} {what}  {}", self.paint(code, mark), self.paint("2", &seconds(took))));
        self.times.push((what.to_owned(), took));
        result
    }

    /// The table of the steps' times.
    pub fn table(&self) {
        self.heading("how long it took");
        let width = self.times.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        for (what, took) in &self.times {
            self.print(&format!("    {what:<width$}  {:>9}", seconds(*took)));
        }
        let all = "all";
        self.print(&format!("    {all:<width$}  {:>9}", seconds(self.begun.elapsed())));
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

/// Bytes for people.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn mib(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return format!("{:.1} KiB", bytes as f64 / 1024.0);
    }
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
