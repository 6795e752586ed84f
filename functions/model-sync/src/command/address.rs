//! Where a model is, as a person writes it.

use larder_contract::source::{
    HUGGING_FACE, HttpsFile, HttpsSource, HubSource, OciSource, Pattern, S3Prefix,
};
use larder_contract::{ModelSource, RelativePath};

/// The form of every address.
pub(super) const FORMS: &str = "s3://BUCKET/PREFIX/, oci://REGISTRY/REPOSITORY:TAG (or @sha256:…; #path=FOLDER), \
                                https://HOST/FILE#sha256=HEX (&path=NAME), hf://OWNER/NAME@REVISION";

/// Reads an address.
pub(super) fn parse(text: &str) -> Result<ModelSource, String> {
    match text.split_once("://") {
        Some(("s3", rest)) => s3(rest).map(ModelSource::S3),
        Some(("oci", rest)) => oci(rest).map(ModelSource::Oci),
        Some(("https" | "http", _)) => https(text).map(ModelSource::Https),
        Some(("hf", rest)) => hub(rest).map(ModelSource::HuggingFace),
        Some(_) | None => Err(format!("write one of {FORMS}")),
    }
}

fn s3(rest: &str) -> Result<S3Prefix, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("the bucket's name is missing after s3://".to_owned());
    }
    let mut prefix = prefix.to_owned();
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    Ok(S3Prefix { bucket: bucket.to_owned(), prefix })
}

fn oci(rest: &str) -> Result<OciSource, String> {
    let (reference, said) = rest.split_once('#').unzip();
    let reference = reference.unwrap_or(rest).parse().map_err(|e| format!("{e}"))?;
    let path = said.map(|said| {
        let path = said.strip_prefix("path=").ok_or("after # write path= and a folder of the image")?;
        RelativePath::parse(path).map_err(|e| e.to_string())
    });
    Ok(OciSource { reference, path: path.transpose()?, secret: None })
}

fn https(text: &str) -> Result<HttpsSource, String> {
    let (url, said) = text.split_once('#').unwrap_or((text, ""));
    let value = |name: &str| said.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let sha256 = value("sha256").ok_or("a URL needs its file's digest: add #sha256= and 64 hex digits")?;
    let sha256 = sha256.parse().map_err(|e| format!("{e}"))?;
    let path = match value("path") {
        Some(path) => RelativePath::parse(path).map_err(|e| e.to_string())?,
        None => HttpsFile::path_of(url).ok_or("the URL does not end in a file's name: add &path=NAME")?,
    };
    Ok(HttpsSource { files: vec![HttpsFile { url: url.to_owned(), sha256, path }], secret: None })
}

fn hub(rest: &str) -> Result<HubSource, String> {
    let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if repository.split('/').count() > 2 || !repository.split('/').all(is_name) || revision.is_empty() {
        return Err("write hf://OWNER/NAME or hf://OWNER/NAME@REVISION".to_owned());
    }
    Ok(HubSource {
        endpoint: HUGGING_FACE.to_owned(),
        repository: repository.to_owned(),
        revision: revision.to_owned(),
        include: Vec::new(),
        secret: None,
    })
}

/// A source with what the options add.
pub(super) fn with(
    mut source: ModelSource,
    endpoint: Option<&str>,
    secret: Option<&str>,
    patterns: &[String],
) -> ModelSource {
    match &mut source {
        ModelSource::S3(_) => {}
        ModelSource::Oci(oci) => oci.secret = secret.map(str::to_owned),
        ModelSource::Https(https) => https.secret = secret.map(str::to_owned),
        ModelSource::HuggingFace(hub) => {
            hub.secret = secret.map(str::to_owned);
            hub.include = patterns.iter().cloned().map(Pattern).collect();
            if let Some(endpoint) = endpoint {
                endpoint.clone_into(&mut hub.endpoint);
            }
        }
    }
    source
}

/// The hosts that a person named: they may have any address.
pub(super) fn hosts(source: &ModelSource) -> Vec<String> {
    let of_url = |url: &str| {
        let (_, rest) = url.split_once("://")?;
        rest.split('/').next().map(str::to_owned)
    };
    match source {
        ModelSource::S3(_) => Vec::new(),
        ModelSource::Oci(oci) => vec![oci.reference.registry.clone()],
        ModelSource::Https(https) => https.files.iter().filter_map(|file| of_url(&file.url)).collect(),
        ModelSource::HuggingFace(hub) => of_url(&hub.endpoint).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_say_what_to_write() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, want) in [
            ("s3://b/p/q/".to_owned(), Ok("s3://b/p/q/")),
            ("s3://b/p".to_owned(), Ok("s3://b/p/")),
            ("s3://b".to_owned(), Ok("s3://b/")),
            ("s3:///p".to_owned(), Err("bucket's name is missing")),
            ("oci://ghcr.io/a/b:v1".to_owned(), Ok("oci://ghcr.io/a/b:v1")),
            ("oci://ghcr.io/a/b".to_owned(), Err("neither tag nor digest")),
            ("oci://ghcr.io/a/b:v1#path=m/ocr".to_owned(), Ok("oci://ghcr.io/a/b:v1#path=m/ocr")),
            ("oci://ghcr.io/a/b:v1#path=/m".to_owned(), Err("it is absolute")),
            ("oci://ghcr.io/a/b:v1#m".to_owned(), Err("after # write path=")),
            (format!("https://a.example/m.onnx?s=1#sha256={hex}"), Ok("https://a.example/m.onnx")),
            ("https://a.example/m.onnx".to_owned(), Err("add #sha256=")),
            (format!("https://a.example/#sha256={hex}"), Err("add &path=NAME")),
            (format!("https://a.example/#sha256={hex}&path=../x"), Err(".. segment")),
            ("hf://a/b".to_owned(), Ok("https://huggingface.co/a/b@main")),
            ("hf://a/b@v1".to_owned(), Ok("https://huggingface.co/a/b@v1")),
            ("hf://a/b/c".to_owned(), Err("write hf://")),
            ("/p".to_owned(), Err("write one of s3://")),
        ] {
            match (parse(&text), want) {
                (Ok(source), Ok(want)) => assert_eq!(source.to_string(), want),
                (Err(refused), Err(why)) => assert!(refused.contains(why), "{text}: {refused}"),
                (read, want) => assert_eq!(format!("{read:?}"), format!("{want:?}"), "{text}"),
            }
        }
    }
}
