//! Repositories of a Hugging Face hub. A revision is resolved to its commit first: what is read by a commit's name
//! never changes.
//!
//! <https://huggingface.co/docs/hub/api>

use http::HeaderMap;
use http::header::LINK;
use larder_contract::RelativePath;
use larder_contract::revision::MAX_OBJECTS;
use larder_contract::source::HubSource;
use serde::Deserialize;
use url::Url;

use crate::session::Session;
use crate::{Class, Content, File, SourceError};

/// Pages hold up to 1,000 entries.
const MAX_PAGES: usize = 1 + MAX_OBJECTS / 100;

#[derive(Deserialize)]
struct Commit {
    sha: String,
}

/// An entry of a tree. `oid` is git's name of a blob; of a file in Large File Storage, that of its pointer.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    oid: String,
    size: u64,
    path: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    /// The SHA-256 of the content, with or without `sha256:` before it.
    oid: String,
    size: u64,
}

pub(crate) async fn list(session: &Session, source: &HubSource) -> Result<Vec<File>, SourceError> {
    let invalid = |why: &str| SourceError::new(Class::Invalid, &source.endpoint, why);
    let base = Url::parse(&source.endpoint).map_err(|e| invalid(&format!("it is no URL ({e})")))?;
    let repository: Vec<&str> = source.repository.split('/').collect();
    let at = |parts: &[&[&str]]| -> Result<Url, SourceError> {
        let mut url = base.clone();
        let mut path = url.path_segments_mut().map_err(|()| invalid("it has no host"))?;
        path.pop_if_empty().extend(parts.iter().copied().flatten());
        drop(path);
        Ok(url)
    };
    let url = at(&[&["api", "models"], &repository, &["revision", &source.revision]])?;
    let (_, Commit { sha }) = session.json(&url).await?;
    if sha.len() < 40 || !sha.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SourceError::new(Class::Invalid, url.as_str(), "the answer names no commit"));
    }
    let mut page = at(&[&["api", "models"], &repository, &["tree", &sha]])?;
    page.query_pairs_mut().append_pair("recursive", "true").append_pair("expand", "false");
    let mut files = Vec::new();
    for _ in 0..MAX_PAGES {
        let (headers, entries): (_, Vec<Entry>) = session.json(&page).await?;
        for entry in entries {
            let is_wanted =
                source.include.is_empty() || source.include.iter().any(|p| p.matches(&entry.path));
            if entry.kind == "file" && is_wanted {
                let segments: Vec<&str> = entry.path.split('/').collect();
                let url = at(&[&repository, &["resolve", &sha], &segments])?;
                files.push(file(entry, url)?);
            }
        }
        if files.len() > MAX_OBJECTS {
            return Ok(files);
        }
        let Some(next) = next(&page, &headers) else { return Ok(files) };
        page = next;
    }
    Err(SourceError::new(Class::Invalid, page.as_str(), "its listing does not end"))
}

fn file(entry: Entry, url: Url) -> Result<File, SourceError> {
    let refused = |why: &str| SourceError::new(Class::Invalid, url.as_str(), why);
    let path = RelativePath::parse(&entry.path).map_err(|e| refused(&e.to_string()))?;
    let (content, size) = if let Some(Lfs { oid, size }) = entry.lfs {
        let digest = oid.parse().map_err(|_| refused("its SHA-256 in the listing is none"))?;
        (Content::Sha256(digest), size)
    } else {
        let mut name = [0; 20];
        hex::decode_to_slice(&entry.oid, &mut name)
            .map_err(|_| refused("its name in git in the listing is no SHA-1"))?;
        (Content::GitBlob(name), entry.size)
    };
    Ok(File { path, size, content, url, is_fixed: true, etag: None })
}

/// The page that `Link: <…>; rel="next"` names, on the same server.
fn next(page: &Url, headers: &HeaderMap) -> Option<Url> {
    let links = headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok());
    let mut links = links.flat_map(|links| links.split(','));
    let next = links.find_map(|link| {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.split(';').any(|it| matches!(it.trim(), "rel=\"next\"" | "rel=next")).then_some(target)
    })?;
    page.join(next).ok().filter(|url| url.origin() == page.origin() && url != page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_on_the_same_server() {
        let page = Url::parse("https://hub.example/api/models/a/b/tree/1?recursive=true").unwrap();
        for (link, want) in [
            (r#"<https://hub.example/api?cursor=2>; rel="next""#, Some("https://hub.example/api?cursor=2")),
            (r#"</x?cursor=2>; rel="next""#, Some("https://hub.example/x?cursor=2")),
            (r#"<https://hub.example/a>; rel="prev", </b>; rel="next""#, Some("https://hub.example/b")),
            (r#"<https://evil.example/x>; rel="next""#, None),
            (r#"<https://hub.example/x>; rel="prev""#, None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
            assert_eq!(next(&page, &headers).as_ref().map(Url::as_str), want, "{link}");
        }
    }
}
