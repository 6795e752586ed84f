//! A server whose certificate is from a company's own authority: refused, unless the authority is named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there and then")]

mod support;
#[path = "support/tls.rs"]
mod tls;

use axum::Router;
use axum::routing::get;
use support::{bytes, copied, copy_from, sha256};

#[tokio::test(flavor = "multi_thread")]
async fn a_company_s_authority_is_trusted_where_it_is_named() {
    let content = bytes(100_000, 1);
    let body = content.clone();
    let router = Router::new().route("/model.onnx", get(move || async move { body }));
    let (url, authority) = tls::serve_tls(router).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    // Of somebody else: a certificate more is no trust in everyone.
    let (_, other) = tls::serve_tls(Router::new()).await;
    for (authorities, want) in [
        (None, Err("certificate")),
        (Some(file("other.pem", &other)), Err("certificate")),
        (Some(file("both.pem", &format!("{other}\n{authority}"))), Ok(())),
        (Some(file("none.pem", "no certificate")), Err("hold no certificate")),
        (Some(dir.path().join("missing.pem")), Err("cannot read ")),
    ] {
        let to = tempfile::tempdir().unwrap();
        let address = format!("{url}/model.onnx#sha256={}", sha256(&content));
        let mut command = copy_from(&address, to.path());
        if let Some(path) = &authorities {
            command.arg("--ca-file").arg(path);
        }
        let result = copied(command, &[("model.onnx", &content)]).await;
        match want {
            Ok(()) => drop(result.unwrap()),
            Err(part) => {
                let said = result.unwrap_err();
                assert!(said.contains(part), "no {part:?} in {said}");
            }
        }
    }
}
