//! A disk that is full, read-only or not ours: a clear state, and it goes on when that is mended.
//!
//! Each scene plays in a mount namespace of its own, which root has, and others where the kernel lets them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::Bucket;

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
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    let mut copy = support::copy(&url, "ocr/", dir.path());
    if rustix::process::geteuid().is_root() {
        // The binary may lie where only root may look.
        let binary = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let program = binary.path().join("larder-model-sync");
        std::fs::copy(env!("CARGO_BIN_EXE_larder-model-sync"), &program).unwrap();
        let mut as_nobody = Command::new("setpriv");
        as_nobody
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(copy.get_args());
        as_nobody.env_clear().envs(copy.get_envs().filter_map(|(name, value)| Some((name, value?))));
        as_nobody.env("PATH", "/usr/bin:/bin");
        copy = as_nobody;
        let output = tokio::task::spawn_blocking(move || copy.output().unwrap()).await.unwrap();
        drop(binary);
        return said(&output);
    }
    let output = tokio::task::spawn_blocking(move || copy.output().unwrap()).await.unwrap();
    said(&output);
}

fn said(output: &std::process::Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("permission is denied: check the access point's POSIX user"), "{text}");
}
