//! `GET /`: a page to try the endpoint's models in a browser. One answer without outside assets, made of
//! `page.html`, `page.css` and `page.js`; it talks to the same routes as everyone else.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{Html, IntoResponse};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use larder_contract::Digest;

/// Environment variable: `off` takes the page away.
pub const ENV_PAGE: &str = "TRY_IT_PAGE";

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, and the policy that lets nothing run but its own script.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = include_str!("page.html").replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    (page, policy)
});

/// A source's hash as a content security policy writes it.
fn hash(source: &str) -> String {
    BASE64_STANDARD.encode(Digest::of(source.as_bytes()).as_bytes())
}

/// Handles `GET /`.
pub async fn page() -> impl IntoResponse {
    let (page, policy) = &*PAGE;
    let headers = [
        (CONTENT_SECURITY_POLICY, policy.as_str()),
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(page.as_str()))
}
