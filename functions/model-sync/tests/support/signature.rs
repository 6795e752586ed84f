//! Signature Version 4 as S3 checks it, worked out from the request on the wire alone.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use axum::extract::Request;
use axum::http::HeaderMap;
use sha2::{Digest as _, Sha256};

/// Of [`super::binary`].
const SECRET: &str = "test";

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> {
        let mut block = key.to_vec();
        block.resize(64, 0);
        block.iter().map(|byte| byte ^ with).collect()
    };
    assert!(key.len() <= 64);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("absent", |value| value.to_str().unwrap().trim())
}

/// Fails where a request is not signed, or not so.
pub(crate) fn check(request: &Request) {
    let headers = request.headers();
    let authorization = header(headers, "authorization").strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
    let field = |name: &str| {
        authorization.split(", ").find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap()
    };
    let (_, scope) = field("Credential").split_once('/').unwrap();
    let signed = field("SignedHeaders");
    for name in ["host", "x-amz-content-sha256", "x-amz-date"] {
        assert!(signed.split(';').any(|it| it == name), "{name} is not signed");
    }
    let mut pairs: Vec<String> = request
        .uri()
        .query()
        .unwrap_or("")
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    let lines = signed.split(';').map(|name| format!("{name}:{}\n", header(headers, name)));
    let lines = lines.collect::<Vec<_>>().concat();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{signed}\n{}",
        request.method(),
        request.uri().path(),
        pairs.join("&"),
        header(headers, "x-amz-content-sha256"),
    );
    let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", header(headers, "x-amz-date"));
    let key =
        scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    let wanted = hex::encode(hmac(&key, text.as_bytes()));
    assert_eq!(field("Signature"), wanted, "of {canonical}");
}
