//! Container images from a real registry: what buildah built, what nobody should have built, and copies of them that
//! are killed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails there and then"
)]

#[path = "support/registry.rs"]
mod registry;
mod support;

use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use larder_contract::Digest;
use registry::{INDEX, Registry};
use serde_json::json;
use support::{bytes, copied, copy_from, output};
use tar::{EntryType, Header};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What `tests/images/make.sh` has put into its images.
fn modelcar() -> Vec<(String, Vec<u8>)> {
    let lines = (1..=2000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n") + "\n";
    let long = format!("{}/{}/note.txt", "deep".repeat(30), "deeper".repeat(20));
    [
        ("config.json", "{\"version\": 2}\n"),
        ("same.json", "{\"version\": 2}\n"),
        ("old/keys.txt", "new\n"),
        ("onnx/model.onnx", &lines),
        ("latest.onnx", &lines),
        ("onnx/host", "not of the model\n"),
        (&long, "a long name\n"),
    ]
    .map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec()))
    .to_vec()
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect()
}

async fn verified(dir: &Path) -> serde_json::Value {
    let mut command = support::binary();
    command.arg("verify").arg(dir).arg("--json");
    serde_json::from_slice(&output(command).await.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_buildah_built_is_its_folder() {
    let registry = Registry::start(false).await;
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    let files = modelcar();
    for form in ["gzip", "zstd", "docker"] {
        registry.push_folder(form, &images.join(form)).await;
        let dir = tempfile::tempdir().unwrap();
        let address = registry.address(form);
        let first = copied(copy_from(&address, dir.path()), &borrowed(&files)).await.unwrap();
        assert_eq!((&first["alreadyPresent"], &first["partsFetched"]), (&false.into(), &2.into()), "{form}");
        let again = copied(copy_from(&address, dir.path()), &borrowed(&files)).await.unwrap();
        assert_eq!(again["alreadyPresent"], true);
        assert!(!dir.path().join("staging").join(Digest::of(b"").hex()).exists());
        let looked = verified(dir.path()).await;
        assert_eq!((&looked[0]["state"], &looked[0]["files"]), (&"Intact".into(), &files.len().into()));

        // Another folder of the image is another model, and so another revision.
        let etc = [("hostname", &b"not of the model\n"[..])];
        let other = copied(copy_from(&format!("{address}#path=etc"), dir.path()), &etc).await.unwrap();
        assert_ne!(other["revision"], first["revision"]);

        // A byte of what came out of the image is watched over as any other.
        let file = Path::new(first["directory"].as_str().unwrap()).join("old/keys.txt");
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "nEw\n").unwrap();
        let looked = verified(dir.path()).await;
        let states = looked.as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap());
        assert_eq!(states.filter(|state| *state == "Damaged").count(), 1, "{looked}");
    }
}

fn entry(kind: EntryType, path: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    [header.as_bytes(), content, &padding].concat()
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_model_may_be_is_refused_and_leaves_no_revision() {
    let registry = Registry::start(false).await;
    let good = || entry(EntryType::Regular, "models/a", "", b"abc");
    let with = |other: Vec<u8>| archive(&[good(), other]);
    let whole = |layer: Vec<u8>| (GZIP, gzip(&layer), Digest::of(&layer));
    let cut = {
        let layer = archive(&[entry(EntryType::Regular, "models/a", "", &bytes(100_000, 1))]);
        let packed = gzip(&layer);
        (GZIP, packed[..packed.len() / 2].to_vec(), Digest::of(&layer))
    };
    for ((media_type, content, id), part) in [
        (whole(with(entry(EntryType::Regular, "/etc/passwd", "", b"x"))), "\"/etc/passwd\" is absolute"),
        (whole(with(entry(EntryType::Regular, "models/../../x", "", b"x"))), "has a .. in it"),
        (whole(with(entry(EntryType::Block, "models/disk", "", b""))), "/models/disk is a device"),
        (whole(with(entry(EntryType::Fifo, "models/pipe", "", b""))), "/models/pipe is a pipe"),
        (
            whole(with(entry(EntryType::Symlink, "models/l", "../../../etc/passwd", b""))),
            "leads out of the image",
        ),
        (whole(with(entry(EntryType::Symlink, "models/l", "/etc/passwd", b""))), "which is not there"),
        (
            whole(with(entry(EntryType::Link, "models/l", "etc/shadow", b""))),
            "a hard link to what is not there",
        ),
        (whole(with(b"no header".repeat(60)[..512].to_vec())), "no tar archive: the checksum of a header"),
        (
            whole(archive(&[entry(EntryType::Regular, "m/a", "", b"x")])),
            "no files in /models: name the model's",
        ),
        ((GZIP, gzip(&with(good())), Digest::of(b"other")), "and the configuration says sha256:"),
        (cut, "layer 1 of the image:"),
        ((TAR, good()[..700].to_vec(), Digest::of(b"")), "layer 1 of the image:"),
        (
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", b"x".to_vec(), Digest::of(b"x")),
            "push it without encryption",
        ),
    ] {
        registry.push_image("odd", &[(media_type, &content, id)]).await;
        let dir = tempfile::tempdir().unwrap();
        let said = copied(copy_from(&registry.address("odd"), dir.path()), &[]).await.unwrap_err();
        assert!(said.contains(part), "no {part:?} in {said}");
        let revisions = std::fs::read_dir(dir.path().join("revisions"));
        assert_eq!(revisions.map_or(0, Iterator::count), 0, "{part}");
        assert!(!dir.path().parent().unwrap().join("x").exists());
    }
    // An artifact is no image, and has no folders.
    registry.push("v1", &[("a", b"x")]).await;
    let dir = tempfile::tempdir().unwrap();
    let address = registry.address("v1") + "#path=models";
    let said = copied(copy_from(&address, dir.path()), &[]).await.unwrap_err();
    assert!(said.contains("leave path out"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_an_image_and_workers_share_its_layers() {
    let registry = Registry::start(false).await;
    let (model, config) = (bytes((5 << 20) + 7, 1), bytes(300, 2));
    let layers = [
        archive(&[entry(EntryType::Regular, "models/model.onnx", "", &model)]),
        archive(&[entry(EntryType::Regular, "./models/config.json", "", &config)]),
    ];
    let packed = gzip(&layers[1]);
    let layers =
        [(TAR, layers[0].as_slice(), Digest::of(&layers[0])), (GZIP, &packed, Digest::of(&layers[1]))];
    registry.push_image("amd64", &layers).await;
    let manifest = serde_json::from_str::<serde_json::Value>(&registry.manifest("amd64").await).unwrap();
    let pushed = registry.push_manifest("again", registry::MANIFEST, &manifest).await;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [pushed]});
    registry.push_manifest("v1", INDEX, &index).await;
    let files = [("model.onnx", model.as_slice()), ("config.json", config.as_slice())];
    let dir = tempfile::tempdir().unwrap();
    let work = |worker: &str| {
        let mut command = copy_from(&registry.address("v1"), dir.path());
        command.args(["--worker", worker]);
        output(command)
    };
    let (one, other) = tokio::join!(work("0/2"), work("1/2"));
    for share in [one, other] {
        assert!(share.status.success(), "{}", String::from_utf8_lossy(&share.stderr));
    }
    let whole = copied(copy_from(&registry.address("v1"), dir.path()), &files).await.unwrap();
    assert_eq!(whole["alreadyPresent"], true);
}

/// A layer of these files; a name alone is one without bytes, such as the mark that takes another away.
fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    archive(
        &files.iter().map(|(path, content)| entry(EntryType::Regular, path, "", content)).collect::<Vec<_>>(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_files_are_here_is_not_fetched_again() {
    let registry = Registry::start(false).await;
    let model = bytes(700_007, 1);
    let weights =
        layer(&[("models/model.onnx", &model), ("models/note", b"of the weights"), ("etc/x", b"x")]);
    let push = async |tag: &str, layers: &[&Vec<u8>]| {
        let packed: Vec<_> = layers.iter().map(|layer| (gzip(layer), Digest::of(layer))).collect();
        let layers: Vec<_> = packed.iter().map(|(packed, id)| (GZIP, packed.as_slice(), *id)).collect();
        registry.push_image(tag, &layers).await;
        registry.address(tag)
    };
    let dir = tempfile::tempdir().unwrap();
    let copy = async |address: &str, files: &[(&str, &[u8])], fetched: u64, linked: u64| {
        let summary = copied(copy_from(address, dir.path()), files).await.unwrap();
        assert_eq!(
            (&summary["partsFetched"], &summary["filesLinked"]),
            (&fetched.into(), &linked.into()),
            "{address}"
        );
        Path::new(summary["directory"].as_str().unwrap()).to_owned()
    };
    let whole = ("model.onnx", model.as_slice());
    let note = ("note", &b"of the weights"[..]);

    let first = push("v1", &[&weights, &layer(&[("models/config.json", b"1")])]).await;
    let first = copy(&first, &[whole, note, ("config.json", b"1")], 2, 0).await;

    // A layer above is another one, and takes a file away.
    let above = layer(&[("models/config.json", b"two"), ("models/.wh.note", b"")]);
    let second = push("v2", &[&weights, &above]).await;
    let second = copy(&second, &[whole, ("config.json", b"two")], 1, 1).await;
    let inode = |folder: &Path| std::fs::metadata(folder.join("model.onnx")).unwrap().ino();
    assert_eq!(inode(&first), inode(&second));
    let looked = verified(dir.path()).await;
    assert!(looked.as_array().unwrap().iter().all(|it| it["state"] == "Intact"), "{looked}");

    // A layer below is another one; and all of the layers are here.
    let below = layer(&[("models/old", b"below")]);
    let third = push("v3", &[&below, &weights]).await;
    copy(&third, &[whole, note, ("old", b"below")], 1, 2).await;
    let fourth = push("v4", &[&weights, &below]).await;
    copy(&fourth, &[whole, note, ("old", b"below")], 0, 3).await;

    // What lies outside of the model's folder was never written, and is fetched.
    let etc = push("v4", &[&weights, &below]).await + "#path=etc";
    copy(&etc, &[("x", b"x")], 1, 0).await;

    // The same, where a byte of a file changed on the disk: it is not taken, and what was skipped is fetched.
    let file = first.join("model.onnx");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().write_at(b"!", 100_000).unwrap();
    let fifth = push("v5", &[&weights, &layer(&[("models/new", b"5")])]).await;
    let fifth = copy(&fifth, &[whole, note, ("new", b"5")], 2, 0).await;
    assert_ne!(inode(&first), inode(&fifth));
    // And the file that is right is found beside those that are not.
    let sixth = push("v6", &[&weights, &layer(&[("models/new", b"6")])]).await;
    let sixth = copy(&sixth, &[whole, note, ("new", b"6")], 1, 2).await;
    assert_eq!(inode(&fifth), inode(&sixth));

    // Nothing is here any more but the notes.
    for revision in std::fs::read_dir(dir.path().join("revisions")).unwrap().flatten() {
        if revision.path().is_dir() {
            std::fs::remove_dir_all(revision.path()).unwrap();
        }
    }
    let seventh = push("v7", &[&weights, &layer(&[("models/new", b"7")])]).await;
    copy(&seventh, &[whole, note, ("new", b"7")], 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time_it_goes_on_and_never_shows_a_part() {
    let registry = Registry::start(false).await;
    let files = [("a.onnx", bytes(24 << 20, 1)), ("b.onnx", bytes(8 << 20, 2)), ("c/d", bytes(10, 3))];
    let entries: Vec<_> = files
        .iter()
        .map(|(path, content)| entry(EntryType::Regular, &format!("models/{path}"), "", content))
        .collect();
    let layer = archive(&entries);
    let packed = gzip(&layer);
    registry.push_image("v1", &[(GZIP, &packed, Digest::of(&layer))]).await;
    let dir = tempfile::tempdir().unwrap();
    let address = registry.address("v1");
    let mut random = fastrand::Rng::with_seed(7);
    let (mut unpacking, mut kills) = (0, 0);
    let staged = || {
        let staging = std::fs::read_dir(dir.path().join("staging")).into_iter().flatten().flatten();
        staging.map(|it| it.path()).filter(|it| it.is_dir()).collect::<Vec<_>>()
    };
    // Until it was killed at least three times while it unpacked; so long that even a slow machine comes to that.
    for _ in 0..400 {
        if unpacking == 3 {
            break;
        }
        let mut child = tokio::process::Command::from(copy_from(&address, dir.path()))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let wants_unpacking = random.bool();
        for _ in 0..random.u32(1..300) {
            let is_unpacking = staged().iter().any(|it| it.join("unpacked").exists());
            if wants_unpacking && is_unpacking {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let is_over = child.try_wait().unwrap().is_some();
        child.kill().await.unwrap();
        let shown = std::fs::read_dir(dir.path().join("revisions")).into_iter().flatten().flatten();
        for revision in shown.filter(|it| it.path().is_dir()) {
            for (path, content) in &files {
                assert!(std::fs::read(revision.path().join(path)).unwrap() == *content, "{path}");
            }
            std::fs::remove_dir_all(dir.path()).unwrap();
        }
        kills += u32::from(!is_over);
        unpacking += u32::from(staged().iter().any(|it| it.join("unpacked").exists()));
    }
    assert!(unpacking == 3 && kills >= 3, "killed {kills} times, {unpacking} of them while it unpacked");
    let whole: Vec<_> = files.iter().map(|(path, content)| (*path, content.as_slice())).collect();
    let summary = copied(copy_from(&address, dir.path()), &whole).await.unwrap();
    // The layer was there: it is not fetched again.
    assert_eq!(summary["partsFetched"], 0, "{summary}");
    assert!(staged().is_empty());
}
