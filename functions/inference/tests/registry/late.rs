//! Runs that nobody waits for any more.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::write_models;
use crate::program::Server;

/// Rows and columns of what the loop multiplies: one round takes less than a millisecond.
const WIDTH: usize = 64;
/// Rounds that would take more than a day.
const ENDLESS: u64 = 1 << 40;

const PATH: &str = "/v2/models/loop/infer";

fn request(rounds: u64) -> String {
    let x =
        json!({"name": "x", "shape": [WIDTH, WIDTH], "datatype": "FP32", "data": vec![0.5; WIDTH * WIDTH]});
    json!({"inputs": [{"name": "n", "shape": [], "datatype": "INT64", "data": [rounds]}, x]}).to_string()
}

/// Serves a model that runs as long as a request says, which one may do for `seconds`.
fn served(root: &Path, seconds: &str) -> Server {
    let folder = root.join("models/loop");
    std::fs::create_dir_all(&folder).unwrap();
    let (onnx, width) = (folder.join("model.onnx"), WIDTH.to_string());
    write_models(&["loop", onnx.to_str().unwrap(), "--width", &width].map(OsStr::new));
    Server::start(&root.join("models"), 3538, &["--request-timeout", seconds])
}

/// One request at a time has the model: this one is answered in time only if no other runs.
fn answers(server: &Server) {
    let (status, answer) = server.send("POST", PATH, &request(2));
    assert_eq!((status, &answer["outputs"][0]["shape"]), (200, &json!([WIDTH, WIDTH])), "{answer}");
}

fn says_that_a_run_was_ended(server: Server) {
    let said = |line: &Value| {
        line["fields"]["message"].as_str().filter(|message| message.contains("a run was ended")).map(drop)
    };
    server.running.found(said);
    let log = server.running.killed();
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    assert_eq!(lines.filter_map(|line: Value| said(&line)).count(), 1, "{log}");
}

#[test]
fn a_run_is_ended_when_its_time_is_over() {
    let root = tempfile::tempdir().unwrap();
    let server = served(root.path(), "3");
    answers(&server);
    let (status, late) = server.send("POST", PATH, &request(ENDLESS));
    assert_eq!(status, 504, "{late}");
    answers(&server);
    says_that_a_run_was_ended(server);
}

#[test]
fn a_run_is_ended_when_its_client_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let server = served(root.path(), "60");
    answers(&server);
    let before = server.ticks();
    let mut client = TcpStream::connect(&server.address).unwrap();
    let body = request(ENDLESS);
    write!(client, "POST {PATH} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    // Nothing but the run takes a third of a second of a processor.
    while server.ticks() < before + 33 {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(client);
    answers(&server);
    says_that_a_run_was_ended(server);
}
