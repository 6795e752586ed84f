//! Programs that the stack starts, and how they end with it.
//!
//! Every program gets a clean environment, a process group of its own and a log file. It dies in three
//! ways: by [`Program::stop`], by [`Drop`], and, when the test itself is killed, by the kernel: programs
//! are started through util-linux's `setpriv --pdeathsig KILL`, which replaces itself with the program.
//! That needs no unsafe code here, which calling `prctl` between fork and exec would.
//!
//! The kernel sends the parent-death signal when the *thread* that started the program ends, so one
//! thread that lives as long as the process starts them all.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;
use tokio::sync::oneshot;

use super::error::StackError;

/// How long a program may take to end when asked, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a program to its end in a clean environment, with something to read; gives what it prints and its status.
///
/// # Errors
/// When it cannot be run, or does not end within a time.
pub(crate) async fn fed(
    program: &Path,
    args: &[impl AsRef<OsStr>],
    env: &[(&str, &Path)],
    input: &str,
    within: Duration,
) -> io::Result<Output> {
    let run = async {
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    tokio::time::timeout(within, run).await.unwrap_or_else(|late| Err(late.into()))
}

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    dir: PathBuf,
    log: PathBuf,
}

impl Launch {
    /// `program` started in `dir`, which is also its `HOME` and `TMPDIR`, with its output in `log`.
    pub(crate) fn new(name: &str, program: &Path, dir: &Path, log: PathBuf) -> Self {
        let home = dir.display().to_string();
        let env = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("LANG", "C.UTF-8"),
            ("HOME", &home),
            ("TMPDIR", &home),
        ];
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            dir: dir.to_owned(),
            log,
        }
    }

    /// More arguments.
    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// More environment; a later value replaces an earlier one.
    pub(crate) fn env<K: Into<String>, V: Into<String>>(
        mut self,
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env.extend(env.into_iter().map(|(k, v)| (k.into(), v.into())));
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> Result<Program, StackError> {
        let failed = |source| StackError::Spawn { program: self.name.clone(), source };
        let log = File::create(&self.log).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let mut command = tokio::process::Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true);
        let child = spawn(command).await.map_err(failed)?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Program { name: self.name, child, pid, log: self.log })
    }
}

/// A started program. Dropping it kills its whole process group and waits until it is gone.
pub(crate) struct Program {
    name: String,
    child: Child,
    pid: Option<Pid>,
    log: PathBuf,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("name", &self.name).field("pid", &self.id()).finish_non_exhaustive()
    }
}

impl Program {
    /// Its process id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// An error when it has ended.
    pub(crate) fn alive(&mut self) -> Result<(), StackError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(&status.to_string())),
            Err(error) => Err(self.ended(&error.to_string())),
        }
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks `ready` until it says yes, the program ends, or `limit` has passed.
    pub(crate) async fn ready<F: Future<Output = bool>>(
        &mut self,
        limit: Duration,
        ready: impl Fn() -> F,
    ) -> Result<(), StackError> {
        let begun = Instant::now();
        loop {
            self.alive()?;
            // One question must not take the whole time: the port may be another program's.
            if tokio::time::timeout(Duration::from_secs(2), ready()).await.unwrap_or(false) {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(StackError::NotReady {
                    program: self.name.clone(),
                    seconds: limit.as_secs(),
                    tail: tail(&self.log),
                    log: self.log.clone(),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks it to end, and kills it when it does not.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::TERM);
        // What is left is killed by the drop that follows.
        let _ended = tokio::time::timeout(GRACE, self.child.wait()).await;
    }

    fn ended(&self, how: &str) -> StackError {
        StackError::Ended {
            program: self.name.clone(),
            how: how.to_owned(),
            tail: tail(&self.log),
            log: self.log.clone(),
        }
    }

    fn signal(&self, signal: Signal) {
        // `id` is empty once the program was waited for; then its number may be another's.
        if let (Some(pid), Some(_)) = (self.pid, self.child.id()) {
            // It may have ended in between, which is what the signal wants.
            let _gone = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The last lines of a log, for an error message.
fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// One program to start, and where the answer goes.
struct Order {
    command: tokio::process::Command,
    runtime: tokio::runtime::Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, queue) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for mut order in queue {
            let _entered = order.runtime.enter();
            // A caller that has gone drops the child with the answer, and so kills it.
            let _sent = order.answer.send(order.command.spawn());
        }
    });
    orders
});

async fn spawn(command: tokio::process::Command) -> io::Result<Child> {
    let (answer, child) = oneshot::channel();
    let order = Order { command, runtime: tokio::runtime::Handle::current(), answer };
    STARTER.send(order).map_err(|_| io::Error::other("the thread that starts programs has ended"))?;
    child.await.map_err(|_| io::Error::other("the thread that starts programs has ended"))?
}
