//! Keys that no file system should be trusted with, through the real binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use support::{Bucket, copy};

/// Copies `models/ocr/` with objects of these keys. The files that it makes, or what it says.
async fn check(keys: &[(&str, usize)]) -> Result<Vec<(String, usize)>, String> {
    let bucket = Arc::new(Bucket::new(keys));
    let url = bucket.serve().await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = copy(&url, "ocr/", dir.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    if !output.status.success() {
        assert!(!dir.path().join("revisions").exists() && output.status.code() == Some(1));
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let folder = PathBuf::from(summary["directory"].as_str().unwrap());
    let objects = bucket.objects.lock().unwrap();
    let found = objects.iter().filter_map(|(key, bytes)| {
        let path = key.strip_prefix("ocr/")?;
        let is_file = folder.join(path).is_file() && !path.is_empty();
        is_file.then(|| {
            assert!(std::fs::read(folder.join(path)).unwrap() == *bytes, "{key} differs");
            (path.to_owned(), bytes.len())
        })
    });
    Ok(found.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_become_files_of_the_same_name() {
    let longest =
        format!("ocr/{}", ["x".repeat(254), "y".repeat(254), "z".repeat(254), "w".repeat(255)].join("/"));
    assert_eq!(longest.len(), 1_024);
    for key in [
        "ocr/model.onnx",
        "ocr/a b+c%20d.onnx",
        "ocr/<&>\"'.onnx",
        "ocr/ü/识别.onnx",
        "ocr/..a/.b/c..",
        "ocr/-rf",
        "ocr/*?[x]",
        longest.as_str(),
    ] {
        let want = vec![(key["ocr/".len()..].to_owned(), 300)];
        assert_eq!(check(&[(key, 300)]).await, Ok(want), "{key}");
    }
    let both = [("ocr/Model.onnx", 3), ("ocr/model.onnx", 4)];
    assert_eq!(check(&both).await, Ok(vec![("Model.onnx".to_owned(), 3), ("model.onnx".to_owned(), 4)]));
    let folders = [("ocr/", 0), ("ocr/a/", 0), ("ocr/a/b", 5), ("ocr/empty", 0)];
    assert_eq!(check(&folders).await, Ok(vec![("a/b".to_owned(), 5), ("empty".to_owned(), 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_files_are_refused_by_name() {
    let long = format!("ocr/{}", "x".repeat(256));
    for (keys, words) in [
        (
            &[("ocr/../x", 1)][..],
            r#"object key "ocr/../x" cannot be a file in the model's folder: it has a . or .. segment"#,
        ),
        (&[("ocr/a/../../x", 1)], "it has a . or .. segment"),
        (&[("ocr//etc/passwd", 1)], "it is absolute"),
        (&[("ocr/a//b", 1)], "it has an empty segment"),
        (&[("ocr/a/", 1)], "it ends in /"),
        (&[("ocr/a\\b", 1)], "it has a control character or a backslash"),
        // XML cannot hold this one: without URL encoding the whole listing would be unreadable.
        (&[("ocr/a\u{1}b", 1), ("ocr/good", 1)], r#"object key "ocr/a\u{1}b" cannot be"#),
        (&[("ocr/a\nb", 1)], r#""ocr/a\nb""#),
        (&[("ocr/a\0b", 1)], r#""ocr/a\0b""#),
        (&[(long.as_str(), 1)], "a segment is longer than 255 bytes"),
        (&[("ocr/a", 1), ("ocr/a/b", 1)], r#"object key "a" is also the folder of "a/b""#),
    ] {
        let said = check(keys).await.unwrap_err();
        assert!(said.starts_with("larder-model-sync: s3://models/ocr/: ") && said.contains(words), "{said}");
    }
}
