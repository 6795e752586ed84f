//! The endpoints of files and folders, as repositories of manifests hold them.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use kube::{Resource, ResourceExt};
use larder_crds::InferenceEndpoint;
use serde::Deserialize;
use serde_yaml::Value;

/// The most bytes of one file: more than the API server takes for an object, many times over.
const MAX_FILE: u64 = 16 << 20;

/// The most files.
const MAX_FILES: usize = 10_000;

/// The most folders in each other.
const MAX_DEPTH: usize = 32;

/// The `InferenceEndpoints` in `paths`: files of one or more YAML documents, folders of such files, `-` for
/// standard input. Objects of other kinds are passed over, and `List`s are opened. `namespace` is that of objects
/// that name none.
///
/// # Errors
/// When something cannot be read or is no YAML, an endpoint has no name, is there twice or is none by its schema, or
/// there is none at all.
pub fn read(paths: &[PathBuf], namespace: &str) -> anyhow::Result<Vec<InferenceEndpoint>> {
    let mut found: Vec<InferenceEndpoint> = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            let read = std::io::stdin().take(MAX_FILE).read_to_string(&mut text);
            read.context("standard input cannot be read")?;
            found.extend(endpoints(&text, namespace).context("standard input")?);
            continue;
        }
        let mut files = Vec::new();
        collect(path, 0, &mut files)?;
        for file in files {
            let name = file.display();
            let size = std::fs::metadata(&file).with_context(|| format!("{name} cannot be read"))?.len();
            ensure!(size <= MAX_FILE, "{name} has {size} bytes, and at most {MAX_FILE} are read");
            let text = std::fs::read_to_string(&file).with_context(|| format!("{name} cannot be read"))?;
            found.extend(endpoints(&text, namespace).with_context(|| name.to_string())?);
        }
    }
    ensure!(!found.is_empty(), "there is no InferenceEndpoint in {}", listed(paths));
    let mut seen = BTreeSet::new();
    for object in &found {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        ensure!(
            seen.insert((namespace.clone(), name.clone())),
            "InferenceEndpoint {namespace}/{name} is there twice: leave one of them out"
        );
    }
    Ok(found)
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The files under `path`, in the order of their names. A file that is named is read whatever it is called;
/// links to folders are not followed.
fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let name = path.display();
    if !path.is_dir() {
        files.push(path.to_owned());
        ensure!(files.len() <= MAX_FILES, "there are more than {MAX_FILES} files: name fewer of them");
        return Ok(());
    }
    ensure!(depth < MAX_DEPTH, "{name} is more than {MAX_DEPTH} folders deep");
    let read = || format!("{name} cannot be read");
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).with_context(read)? {
        let entry = entry.with_context(read)?;
        entries.push((entry.path(), entry.file_type().with_context(read)?));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, kind) in entries {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let is_manifest =
            path.extension().is_some_and(|ext| ["yaml", "yml", "json"].iter().any(|known| ext == *known));
        if (kind.is_dir() && !is_hidden) || (is_manifest && path.is_file()) {
            collect(&path, depth + 1, files)?;
        }
    }
    Ok(())
}

fn endpoints(text: &str, namespace: &str) -> anyhow::Result<Vec<InferenceEndpoint>> {
    let mut found = Vec::new();
    for (n, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value = Value::deserialize(document).with_context(|| format!("document {} is no YAML", n + 1))?;
        take(value, namespace, &mut found).with_context(|| format!("document {}", n + 1))?;
    }
    Ok(found)
}

fn take(value: Value, namespace: &str, found: &mut Vec<InferenceEndpoint>) -> anyhow::Result<()> {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (group, kind) = (text("apiVersion"), text("kind"));
    if let (true, Some(items)) = (kind == "List", value.get("items").and_then(Value::as_sequence)) {
        return items.iter().try_for_each(|item| take(item.clone(), namespace, found));
    }
    if kind != InferenceEndpoint::kind(&()) || !group.starts_with(&format!("{}/", larder_crds::GROUP)) {
        return Ok(());
    }
    let mut object: InferenceEndpoint =
        serde_yaml::from_value(value).context("it is not an InferenceEndpoint as its schema says")?;
    if object.metadata.name.is_none() {
        bail!("it has no metadata.name: write it");
    }
    object.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
    found.push(object);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: &str = r"
apiVersion: larder.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: NAME}
spec:
  models: [{name: ocr, source: {s3: {bucket: acme-models, prefix: ocr/}}}]
  storage: {efs: {managed: {}}}
  network: {subnetIds: [subnet-00000001], securityGroupIds: [sg-00000001]}
  function:
    image: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/larder-inference:0.1.0
    roleArn: arn:aws:iam::111122223333:role/larder
";

    fn named(name: &str) -> String {
        ENDPOINT.replace("NAME", name)
    }

    /// A folder of its own, gone when it is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn with(files: &[(&str, String)]) -> Self {
            let folder = Self(std::env::temp_dir().join(format!("larder-{:016x}", fastrand::u64(..))));
            for (name, text) in files {
                let path = folder.0.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            folder
        }

        fn names(&self) -> anyhow::Result<Vec<String>> {
            let found = read(std::slice::from_ref(&self.0), "vision")?;
            Ok(found.iter().map(|it| format!("{}/{}", it.namespace().unwrap(), it.name_any())).collect())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_endpoints_of_a_repository_are_found_and_nothing_else() {
        let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n";
        let list = format!(
            "apiVersion: v1\nkind: List\nitems:\n- {}\n",
            named("listed").trim().replace('\n', "\n  ")
        );
        let theirs = named("theirs").replace("larder.dev/", "example.com/");
        let folder = Folder::with(&[
            ("b/two.yml", format!("{}---\n{other}---\n{}", named("b1"), named("b2"))),
            ("a.yaml", format!("---\n---\n{}", named("a"))),
            ("list.json", list),
            ("theirs.yaml", theirs),
            ("README.md", "kind: [InferenceEndpoint".to_owned()),
            (".git/c.yaml", named("hidden")),
            ("empty.yaml", String::new()),
        ]);
        assert_eq!(folder.names().unwrap(), ["vision/a", "vision/b1", "vision/b2", "vision/listed"]);
    }

    #[test]
    fn what_cannot_be_planned_is_said_with_the_file() {
        for (text, says) in [
            ("a: [".to_owned(), "document 1 is no YAML"),
            (named("x").replace("models", "modules"), "schema"),
            (named("x").replace("{name: x}", "{}"), "no metadata.name"),
            (format!("{}---\n{}", named("x"), named("x")), "twice"),
            ("kind: ConfigMap".to_owned(), "no InferenceEndpoint"),
        ] {
            let folder = Folder::with(&[("sub/file.yaml", text.clone())]);
            let error = format!("{:#}", folder.names().unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
            let is_about_all = ["twice", "no InferenceEndpoint"].contains(&says);
            assert!(is_about_all || error.contains("sub/file.yaml"), "{error}");
        }
        assert!(read(&[PathBuf::from("/nowhere/x.yaml")], "n").is_err());
    }
}
