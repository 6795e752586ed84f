//! A disk that is full, read-only or not ours: a clear state, and it goes on when that is mended.
//!
//! Each scene plays in a mount namespace of its own, which root has, and others where the kernel lets them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails there and then")]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_contract::sync::{ModelReport, ModelState, SyncEvent};
use support::Bucket;
use support::lambda::{Runtime, environment, request};

const MIB: usize = 1 << 20;
const OBJECTS: &[(&str, usize)] =
    &[("ocr/a/first.onnx", 2 * MIB), ("ocr/b/second.onnx", 6 * MIB), ("ocr/keys.txt", 300)];

/// Runs a script in which `copy` copies to `$DIR`, a file system of 5 MiB; its exit code and all that it printed.
async fn play(url: &str, script: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let head = r#"
        mount -t tmpfs -o size=5m,mode=0777 none "$DIR" || exit 77
        copy() { "$BINARY" copy s3://models/ocr/ "$DIR" --endpoint-url "$URL" --json --part-mib 1 --parts 4 2>&1; }
        status() { "$BINARY" status "$DIR"; }
    "#;
    let mut command = Command::new("unshare");
    // As root of a namespace of its own: then modes stop nobody, as for root.
    command.args(["--map-root-user", "--mount", "sh", "-c", &format!("{head}{script}")]).env_clear().envs([
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("BINARY", env!("CARGO_BIN_EXE_larder-model-sync")),
        ("URL", url),
    ]);
    command.env("DIR", dir.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn may_mount() -> bool {
    let may = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).status();
    let may = may.is_ok_and(|status| status.success());
    if !may {
        eprintln!("skipped: this kernel gives no mount namespaces to this user");
    }
    may
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_goes_on_with_more_room() {
    if !may_mount() {
        return;
    }
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let script = r#"
        copy; echo "code $?"; status
        mount -o remount,size=64m "$DIR"
        copy; echo "code $?"
        "$BINARY" verify "$DIR"; echo "code $?"
    "#;
    let (code, text) = play(&url, script).await;
    assert_eq!(code, Some(0), "{text}");
    let (before, after) = text.split_once("code 1\n").unwrap();
    assert!(
        before.contains("the file system is full: free some space, the copy goes on from where it is"),
        "{text}"
    );
    // Also for whoever asks later, although there was no room to write it down.
    assert!(after.contains(r#""state":"Failed""#) && after.contains("the file system is full"), "{text}");
    assert!(after.contains(r#""alreadyPresent":false"#) && after.contains("intact, 3 files"), "{text}");
    assert!(after.ends_with("code 0\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_named_and_goes_on_once_it_is_not() {
    if !may_mount() {
        return;
    }
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let script = r#"
        mount -o remount,size=64m,ro "$DIR"
        copy; echo "code $?"
        mount -o remount,rw "$DIR"
        copy; echo "code $?"
    "#;
    let (code, text) = play(&url, script).await;
    assert_eq!(code, Some(0), "{text}");
    let (before, after) = text.split_once("code 1\n").unwrap();
    assert!(before.contains("the file system is read-only: mount it writable"), "{text}");
    assert!(after.contains(r#""alreadyPresent":false"#) && after.ends_with("code 0\n"), "{text}");
    assert_eq!(bucket.gets.load(Ordering::SeqCst), 2 + 6 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_ours_is_named() {
    // Root may write everywhere, so only others can be stopped by a mode: as root, become somebody else.
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o555)).unwrap();
    let (mut copy, _binary) = as_somebody(&support::copy(&url, "ocr/", dir.path()));
    let output = tokio::task::spawn_blocking(move || copy.output().unwrap()).await.unwrap();
    said(&output);
}

/// The same command, but never as root, and the folder that its program may lie in.
fn as_somebody(command: &Command) -> (Command, tempfile::TempDir) {
    // The binary may lie where only root may look.
    let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let program = folder.path().join("larder-model-sync");
    std::fs::copy(command.get_program(), &program).unwrap();
    let mut somebody = if rustix::process::geteuid().is_root() {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        setpriv
    } else {
        Command::new(&program)
    };
    somebody.args(command.get_args()).env_clear();
    somebody.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    somebody.env("PATH", "/usr/bin:/bin");
    (somebody, folder)
}

fn said(output: &std::process::Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("permission is denied: check the access point's POSIX user"), "{text}");
}

/// Has the function copy and tell how far it is while something is wrong, and again when it is mended.
///
/// Only what `Status` answers counts: the controller starts copies without waiting for what they answer.
async fn function_says(function: Command, url: &str, root: &Path, words: &str, mend: impl AsyncFnOnce()) {
    let runtime = Arc::new(Runtime::default());
    let mut function = function;
    function.envs(environment(&runtime.serve().await)).env("AWS_ENDPOINT_URL", url).env("LARDER_ROOT", root);
    let mut function =
        tokio::process::Command::from(function).kill_on_drop(true).process_group(0).spawn().unwrap();
    let request = request("ocr/", Bucket::new(OBJECTS).revision("ocr/"));
    let (copy, status) = (SyncEvent::Copy(request.clone()), SyncEvent::Status(request));
    let look = |model: &ModelReport| (model.state, model.message.clone());

    let before = runtime.answers([status.clone(), copy.clone(), status.clone()]).await;
    for report in [&before[0], &before[2]] {
        let (state, message) = look(&report.models[0]);
        // What is full shows when a copy has tried.
        let is_told = state == ModelState::Failed && message.contains(words);
        assert!(is_told || state == ModelState::Pending && report == &before[0], "{before:?}");
        assert!(!report.running && !report.manifest_present);
    }
    assert_eq!(before[2].models[0].state, ModelState::Failed, "{before:?}");
    mend().await;
    let after = runtime.answers([copy, status]).await;
    for report in after {
        assert_eq!(look(&report.models[0]), (ModelState::Ready, String::new()));
        assert!(report.manifest_present);
    }
    function.kill().await.unwrap();
}

/// The function in a mount namespace of its own, on a file system that `breaks` breaks and `mends` mends.
async fn function_on_a_disk(breaks: &str, mends: &str, words: &str) {
    if !may_mount() {
        return;
    }
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let (dir, signs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let script = format!(
        r#"
        mount -t tmpfs -o size=64m,mode=0777 none "$DIR" && {breaks} || exit 77
        (until [ -e "$SIGNS/mend" ]; do sleep 0.02; done; {mends}; : > "$SIGNS/mended") &
        exec "$BINARY"
        "#
    );
    let mut function = Command::new("unshare");
    function.args(["--map-root-user", "--mount", "sh", "-c", &script]).env_clear();
    let binary = support::binary();
    function.envs(binary.get_envs().filter_map(|(name, value)| Some((name, value?))));
    function.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("BINARY", binary.get_program());
    function.env("DIR", dir.path()).env("SIGNS", signs.path());
    let mend = async || {
        std::fs::write(signs.path().join("mend"), b"").unwrap();
        for _ in 0..1_000 {
            if signs.path().join("mended").exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not mended within 10 s");
    };
    function_says(function, &url, dir.path(), words, mend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_tells_of_a_read_only_disk_and_goes_on_once_it_is_not() {
    let (breaks, mends) = (r#"mount -o remount,ro "$DIR""#, r#"mount -o remount,rw "$DIR""#);
    function_on_a_disk(breaks, mends, "the file system is read-only: mount it writable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_tells_of_a_full_disk_and_goes_on_with_more_room() {
    let (breaks, mends) = (r#"mount -o remount,size=5m "$DIR""#, r#"mount -o remount,size=64m "$DIR""#);
    function_on_a_disk(breaks, mends, "the file system is full: free some space").await;
    // Not even room for a word of it.
    let breaks = r#"mount -o remount,size=1m "$DIR" && ! head -c 2m /dev/zero > "$DIR/other" 2> /dev/null"#;
    function_on_a_disk(breaks, r#"mount -o remount,size=64m "$DIR""#, "the file system is full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_tells_of_a_folder_that_is_not_its_own_and_goes_on_once_it_is() {
    let bucket = Arc::new(Bucket::new(OBJECTS));
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let give = |mode| std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
    give(0o555);
    let (function, _binary) = as_somebody(&support::binary());
    let words = "permission is denied: check the access point's POSIX user";
    function_says(function, &url, dir.path(), words, async || give(0o777)).await;
}
