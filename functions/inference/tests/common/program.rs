//! The program as a process of its own, and what it writes to its log.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use super::library;

/// The program with nothing but `variables` and the library in its environment.
pub(crate) fn program(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder-inference"));
    command.args(arguments).env_clear().env("ORT_DYLIB_PATH", library());
    command.envs(variables.iter().copied()).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The program as a server of a folder of models, on a free port.
pub(crate) fn server(models: &Path, more: &[&str], variables: &[(&str, &str)]) -> Running {
    let serve = ["--log-format", "json", "serve", "--listen", "127.0.0.1:0", "--models"];
    let mut command = program(&serve, variables);
    command.arg(models).args(more);
    Running::start(command)
}

/// The program, ended when the test is, whichever way. Its log is read while it runs: a full pipe would
/// hold it up.
pub(crate) struct Running {
    child: Child,
    log: Arc<(Mutex<Log>, Condvar)>,
    reader: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    is_over: bool,
}

impl Running {
    /// Starts a [`program`].
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let pipe = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::<(Mutex<Log>, Condvar)>::default();
        let read = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in pipe.split(b'\n').map_while(Result::ok) {
                read.0.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
                read.1.notify_all();
            }
            read.0.lock().unwrap().is_over = true;
            read.1.notify_all();
        });
        Self { child, log, reader: Some(reader) }
    }

    /// The first line of the log, of now or later, that `look` finds something in.
    pub(crate) fn found<T>(&self, look: impl Fn(&Value) -> Option<T>) -> T {
        let mut log = self.log.0.lock().unwrap();
        loop {
            // ONNX Runtime writes lines of its own.
            let entries = log.lines.iter().filter_map(|line| serde_json::from_str(line).ok());
            if let Some(found) = entries.into_iter().find_map(|entry: Value| look(&entry)) {
                return found;
            }
            assert!(!log.is_over, "it ended: {}", log.lines.join("\n"));
            log = self.log.1.wait(log).unwrap();
        }
    }

    /// Where it listens, as soon as it does.
    pub(crate) fn address(&self) -> String {
        self.found(|entry| entry["fields"]["address"].as_str().map(str::to_owned))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once, if the command asked for it.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// A number of `/proc/<pid>/status`, in KiB where it is an amount of memory.
    pub(crate) fn status(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Ends it as Lambda and Kubernetes do, and returns how it ended, and its whole log.
    pub(crate) fn terminated(mut self) -> (ExitStatus, String) {
        let pid = self.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        (status, self.whole_log())
    }

    /// Ends it at once, and returns its whole log.
    pub(crate) fn killed(mut self) -> String {
        let _ = self.child.kill();
        self.whole_log()
    }

    fn whole_log(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.log.0.lock().unwrap().lines.join("\n")
    }
}

/// Whether a log says that a prepared file was opened.
pub(crate) fn says_opened(log: &str, prepared: &Path) -> bool {
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let opened = entries.filter(|entry| entry["fields"]["message"] == "opened as it was prepared");
    opened.into_iter().any(|entry| entry["fields"]["file"].as_str().map(Path::new) == Some(prepared))
}

/// Sends one request on a connection of its own; returns the answer's status and body.
pub(crate) fn send(address: &str, method: &str, path: &str, content: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let answer = exchanged(address, method, path, &format!("content-type: {content}\r\n"), body);
    (answer.0, answer.2)
}

/// As [`send`], with these lines in its head; also returns the head of the answer.
pub(crate) fn exchanged(
    address: &str,
    method: &str,
    path: &str,
    lines: &str,
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    whole_answer(stream)
}

/// The whole answer on a connection that is closed after it.
pub(crate) fn answered(stream: TcpStream) -> (u16, Vec<u8>) {
    let (status, _, body) = whole_answer(stream);
    (status, body)
}

fn whole_answer(mut stream: TcpStream) -> (u16, String, Vec<u8>) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    let body = answer.split_off(end + 4);
    (status, String::from_utf8(answer).unwrap(), body)
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
