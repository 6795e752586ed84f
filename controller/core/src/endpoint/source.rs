//! Where a model's files are, parsed.

use larder_contract::source::{
    HUGGING_FACE, HttpsFile, HttpsSource, HubSource, OciSource, Pattern, S3Prefix,
};
use larder_contract::{ModelSource, RelativePath};
use larder_crds::spec;

use super::Refused;

/// Reads the source of the model with this name.
pub(super) fn parse(model: &str, source: &spec::Source) -> Result<ModelSource, Refused> {
    let field = format!("spec.models[{model}].source");
    match (&source.s3, &source.oci, &source.https, &source.hugging_face) {
        (Some(s3), None, None, None) => {
            let spec::S3Prefix { bucket, prefix, marker: _, events: _ } = s3.clone();
            Ok(ModelSource::S3(S3Prefix { bucket, prefix }))
        }
        (None, Some(oci), None, None) => oci_source(&field, oci).map(ModelSource::Oci),
        (None, None, Some(https), None) => https_source(&field, https).map(ModelSource::Https),
        (None, None, None, Some(hub)) => Ok(ModelSource::HuggingFace(HubSource {
            endpoint: hub.endpoint.clone().unwrap_or_else(|| HUGGING_FACE.to_owned()),
            repository: hub.repository.clone(),
            revision: hub.revision.clone(),
            include: hub.include.iter().cloned().map(Pattern).collect(),
            secret: hub.secret_arn.clone(),
        })),
        _ => Err(Refused {
            field,
            value: "not one of s3, oci, https and huggingFace".to_owned(),
            remedy: "write exactly one of them".to_owned(),
        }),
    }
}

fn oci_source(field: &str, oci: &spec::OciArtifact) -> Result<OciSource, Refused> {
    let reference = oci.reference.parse().map_err(|e: larder_contract::source::NotAReference| Refused {
        field: format!("{field}.oci.reference"),
        value: e.text,
        remedy: format!("{}; write REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST", e.why),
    })?;
    let path = oci.path.as_deref().map(RelativePath::parse).transpose().map_err(|e| Refused {
        field: format!("{field}.oci.path"),
        value: e.key,
        remedy: format!("{}; write a folder of the image, as models/ocr", e.why),
    })?;
    Ok(OciSource { reference, path, secret: oci.secret_arn.clone() })
}

fn https_source(field: &str, https: &spec::HttpsFiles) -> Result<HttpsSource, Refused> {
    let file = |(nth, written): (usize, &spec::HttpsFile)| {
        let refused = |name: &str, value: &str, remedy: &str| Refused {
            field: format!("{field}.https.files[{nth}].{name}"),
            value: value.to_owned(),
            remedy: remedy.to_owned(),
        };
        let authority = written.url.split("://").nth(1).and_then(|rest| rest.split('/').next());
        if authority.is_some_and(|authority| authority.contains('@')) {
            return Err(refused("url", "with a user", "take the user out and write secretArn"));
        }
        let digits = "write 64 lower-case hex digits";
        let sha256 = written.sha256.parse().map_err(|_| refused("sha256", &written.sha256, digits))?;
        let path = match &written.path {
            Some(path) => RelativePath::parse(path).map_err(|e| refused("path", path, e.why))?,
            None => HttpsFile::path_of(&written.url).ok_or_else(|| {
                refused("path", "not set", "the URL does not end in a file's name: write the path")
            })?,
        };
        Ok(HttpsFile { url: written.url.clone(), sha256, path })
    };
    let files = https.files.iter().enumerate().map(file).collect::<Result<Vec<_>, Refused>>()?;
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = files.iter().find(|file| !seen.insert(&file.path)) {
        return Err(Refused {
            field: format!("{field}.https.files"),
            value: format!("two files for {}", twice.path),
            remedy: "write another path for one of them".to_owned(),
        });
    }
    Ok(HttpsSource { files, secret: https.secret_arn.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(source: Value) -> Result<String, String> {
        let written: spec::Source = serde_json::from_value(source).unwrap();
        parse("m", &written).map(|source| source.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn sources_are_read_or_refused_by_field() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let files = |files: Value| json!({"https": {"files": files}});
        for (source, want) in [
            (json!({"s3": {"bucket": "b", "prefix": "p/"}}), Ok("s3://b/p/")),
            (json!({"oci": {"reference": "ghcr.io/a/b:v1"}}), Ok("oci://ghcr.io/a/b:v1")),
            (json!({"oci": {"reference": "ghcr.io/a/B:v1"}}), Err("source.oci.reference is")),
            (
                json!({"oci": {"reference": "ghcr.io/a/b:v1", "path": "m/ocr"}}),
                Ok("oci://ghcr.io/a/b:v1#path=m/ocr"),
            ),
            (json!({"oci": {"reference": "ghcr.io/a/b:v1", "path": "../m"}}), Err("source.oci.path is ../m")),
            (json!({"huggingFace": {"repository": "a/b"}}), Ok("https://huggingface.co/a/b@main")),
            (
                files(json!([{"url": "https://a.example/m.onnx", "sha256": hex}])),
                Ok("https://a.example/m.onnx"),
            ),
            (files(json!([{"url": "https://a.example/", "sha256": hex}])), Err("files[0].path is not set")),
            (
                files(json!([{"url": "https://u:p@a.example/m", "sha256": hex}])),
                Err("url is with a user: take"),
            ),
            (
                files(json!([{"url": "https://a.example/m", "sha256": hex, "path": "../x"}])),
                Err("files[0].path is ../x"),
            ),
            (
                files(json!([
                    {"url": "https://a.example/m", "sha256": hex},
                    {"url": "https://b.example/m", "sha256": hex},
                ])),
                Err("two files for m"),
            ),
            (json!({}), Err("write exactly one of them")),
        ] {
            match (check(source), want) {
                (Ok(read), Ok(want)) => assert_eq!(read, want),
                (Err(refused), Err(part)) => assert!(refused.contains(part), "{refused}"),
                (read, want) => assert_eq!(format!("{read:?}"), format!("{want:?}")),
            }
        }
    }
}
