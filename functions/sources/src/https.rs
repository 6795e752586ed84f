//! Files that have a URL each.

use futures::{StreamExt as _, TryStreamExt as _};
use larder_contract::source::{HttpsFile, HttpsSource};
use url::Url;

use crate::session::Session;
use crate::{Class, Content, File, SourceError};

/// How many servers are asked at once.
const AT_ONCE: usize = 8;

pub(crate) async fn list(session: &Session, source: &HttpsSource) -> Result<Vec<File>, SourceError> {
    let looks: Vec<_> = source.files.iter().map(|file| look(session, file)).collect();
    futures::stream::iter(looks).buffered(AT_ONCE).try_collect().await
}

async fn look(session: &Session, file: &HttpsFile) -> Result<File, SourceError> {
    let url = Url::parse(&file.url)
        .map_err(|e| SourceError::new(Class::Invalid, &file.url, &format!("it is no URL ({e})")))?;
    let probed = session.probe(&url).await?;
    let why = "the server does not tell its length";
    let size = probed.size.ok_or_else(|| SourceError::new(Class::Invalid, &file.url, why))?;
    let content = Content::Sha256(file.sha256);
    Ok(File { path: file.path.clone(), size, content, url, is_fixed: false, etag: probed.etag })
}
