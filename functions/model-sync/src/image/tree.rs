//! What an image's layers come to: a file system of names, and where the bytes of each file are. Pure.
//!
//! Layers are applied from the lowest on, as
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md> says: later entries replace earlier ones,
//! `.wh.NAME` takes away what lower layers have, `.wh..wh..opq` all that they have in its folder. Nothing is
//! written while this is found out, so no link can lead a write astray.

use std::collections::BTreeMap;

use larder_contract::RelativePath;
use larder_contract::revision::MAX_OBJECTS;

use super::tar::{Entry, Kind};

/// The most names in an image.
const MAX_NAMES: usize = 500_000;

/// The longest path (Linux's `PATH_MAX`).
const MAX_PATH: usize = 4_096;

/// How many links one path may go through (Linux's `MAXSYMLINKS`), and how many linked folders one may lie in.
const MAX_LINKS: usize = 40;
const MAX_LINKED_FOLDERS: usize = 8;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Where a file's bytes are: an entry of a layer, both counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) layer: u32,
    pub(super) entry: u32,
    pub(super) size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Folder,
    File(Place),
    Link(String),
    Other(&'static str),
}

#[derive(Debug)]
struct Node {
    layer: u32,
    what: What,
}

/// What the layers so far come to. Folders may be there by what is in them alone.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Takes in an entry of a layer.
    pub(super) fn add(&mut self, layer: u32, nth: u32, entry: Entry) -> Result<(), String> {
        let Entry { path: written, kind, size } = entry;
        if written.starts_with('/') {
            return Err(format!("its entry {written:?} is absolute"));
        }
        if let Kind::Hard(target) | Kind::Symbolic(target) = &kind
            && target.len() > MAX_PATH
        {
            return Err(format!("its entry {written:?} is a link to more than {MAX_PATH} bytes"));
        }
        let names: Vec<&str> = written.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        if names.contains(&"..") {
            return Err(format!("its entry {written:?} has a .. in it"));
        }
        let Some((name, folders)) = names.split_last() else { return Ok(()) };
        let folder = self.resolve(&folders.join("/"), true).map_err(|why| format!("{written:?} {why}"))?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if *name == OPAQUE {
                self.remove_below(&folder, Some(layer));
            } else if !hidden.starts_with(WHITEOUT) {
                self.remove(&join(&folder, hidden), Some(layer));
            }
            return Ok(());
        }
        let path = join(&folder, name);
        if path.len() > MAX_PATH {
            return Err(format!("its entry {written:?} is longer than {MAX_PATH} bytes"));
        }
        for (end, _) in path.match_indices('/') {
            let is_no_folder = |node: &Node| node.what != What::Folder;
            if self.nodes.get(&path[..end]).is_some_and(is_no_folder) {
                self.nodes.remove(&path[..end]);
            }
        }
        let what = match kind {
            Kind::Folder => What::Folder,
            Kind::File => What::File(Place { layer, entry: nth, size }),
            Kind::Symbolic(target) => What::Link(target),
            Kind::Other(what) => What::Other(what),
            Kind::Hard(target) => {
                match self.resolve(&target, false).ok().and_then(|at| self.nodes.get(&at)) {
                    Some(Node { what: what @ (What::File(_) | What::Link(_)), .. }) => what.clone(),
                    Some(_) | None => What::Other("a hard link to what is not there"),
                }
            }
        };
        if what != What::Folder {
            self.remove_below(&path, None);
        }
        self.nodes.insert(path, Node { layer, what });
        if self.nodes.len() > MAX_NAMES {
            return Err(format!("the image has more than {MAX_NAMES} files"));
        }
        Ok(())
    }

    /// The files in a folder, by their paths in it, links followed. Each is one that a model can have.
    pub(super) fn files(&self, folder: &RelativePath) -> Result<Vec<(RelativePath, Place)>, String> {
        let start =
            self.resolve(folder.as_str(), true).map_err(|why| format!("its folder /{folder} {why}"))?;
        let mut files = BTreeMap::new();
        let mut looked = 0;
        // Folders to look through, what the paths in them begin with, and how many links led there.
        let mut folders = vec![(start, String::new(), 0)];
        while let Some((folder, before, links)) = folders.pop() {
            for (path, node) in self.below(&folder) {
                looked += 1;
                if looked > 2 * MAX_OBJECTS {
                    return Err(format!("the folder has more than {MAX_OBJECTS} files"));
                }
                let name = format!("{before}{}", &path[folder.len()..].trim_start_matches('/'));
                let place = match &node.what {
                    What::Folder => continue,
                    What::Other(what) => return Err(format!("/{path} is {what}, which no model has")),
                    What::File(place) => *place,
                    What::Link(target) => {
                        let at = self.resolve(path, true);
                        let at = at.map_err(|why| format!("/{path} is a link to {target:?}, and {why}"))?;
                        match self.nodes.get(&at).map(|node| &node.what) {
                            Some(What::File(place)) => *place,
                            Some(What::Other(what)) => {
                                return Err(format!("/{path} is a link to {what}, which no model has"));
                            }
                            _ if self.is_folder(&at) && links < MAX_LINKED_FOLDERS => {
                                folders.push((at, name + "/", links + 1));
                                continue;
                            }
                            _ if self.is_folder(&at) => {
                                return Err(format!("/{path} is a link to {target:?}, round and round"));
                            }
                            _ => return Err(format!("/{path} is a link to {target:?}, which is not there")),
                        }
                    }
                };
                let name = RelativePath::parse(&name).map_err(|e| e.to_string())?;
                files.insert(name, place);
            }
        }
        if files.len() > MAX_OBJECTS {
            return Err(format!("the folder has more than {MAX_OBJECTS} files"));
        }
        if files.is_empty() {
            return Err(format!("it has no files in /{folder}: name the model's folder in source.oci.path"));
        }
        Ok(files.into_iter().collect())
    }

    /// Where a path leads, with the links on its way followed; that of its last name only if `last`. What is not
    /// there is taken as it is written.
    fn resolve(&self, path: &str, last: bool) -> Result<String, &'static str> {
        let mut names: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let (mut at, mut links) = (String::new(), 0);
        while let Some(name) = names.pop() {
            match name.as_str() {
                "" | "." => {}
                ".." if at.is_empty() => return Err("leads out of the image"),
                ".." => at.truncate(at.rfind('/').unwrap_or(0)),
                name => {
                    let next = join(&at, name);
                    match self.nodes.get(&next).map(|node| &node.what) {
                        Some(What::Link(target)) if last || !names.is_empty() => {
                            links += 1;
                            if links > MAX_LINKS || target.len() > MAX_PATH {
                                return Err("goes through too many links");
                            }
                            if target.starts_with('/') {
                                at.clear();
                            }
                            names.extend(target.rsplit('/').map(str::to_owned));
                        }
                        _ => at = next,
                    }
                }
            }
        }
        Ok(at)
    }

    fn is_folder(&self, path: &str) -> bool {
        self.nodes.get(path).is_some_and(|node| node.what == What::Folder)
            || self.below(path).next().is_some()
    }

    fn below(&self, folder: &str) -> impl Iterator<Item = (&String, &Node)> {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        self.nodes.range(start.clone()..).take_while(move |(path, _)| path.starts_with(&start))
    }

    /// Removes what is there, and below; of layers below one only, if one is given.
    fn remove(&mut self, path: &str, below: Option<u32>) {
        if self.nodes.get(path).is_some_and(|node| below.is_none_or(|layer| node.layer < layer)) {
            self.nodes.remove(path);
        }
        self.remove_below(path, below);
    }

    fn remove_below(&mut self, path: &str, below: Option<u32>) {
        let goes = |node: &Node| below.is_none_or(|layer| node.layer < layer);
        let gone: Vec<String> =
            self.below(path).filter(|(_, node)| goes(node)).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.nodes.remove(&path);
        }
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> (&str, Kind) {
        (path, Kind::File)
    }

    fn folder(path: &str) -> (&str, Kind) {
        (path, Kind::Folder)
    }

    fn soft<'a>(path: &'a str, target: &str) -> (&'a str, Kind) {
        (path, Kind::Symbolic(target.to_owned()))
    }

    fn hard<'a>(path: &'a str, target: &str) -> (&'a str, Kind) {
        (path, Kind::Hard(target.to_owned()))
    }

    /// The files of `models`, each with the layer and entry of its bytes.
    fn check(layers: &[&[(&str, Kind)]]) -> Result<Vec<(String, u32, u32)>, String> {
        let mut tree = Tree::default();
        for (layer, entries) in (0..).zip(layers) {
            for (nth, (path, kind)) in (0..).zip(*entries) {
                tree.add(layer, nth, Entry { path: (*path).to_owned(), kind: kind.clone(), size: 1 })?;
            }
        }
        let files = tree.files(&RelativePath::parse("models").unwrap())?;
        Ok(files.into_iter().map(|(path, place)| (path.to_string(), place.layer, place.entry)).collect())
    }

    fn found(layers: &[&[(&str, Kind)]], want: &[(&str, u32, u32)]) {
        let want = want.iter().map(|(path, layer, entry)| ((*path).to_owned(), *layer, *entry)).collect();
        assert_eq!(check(layers), Ok(want), "{layers:?}");
    }

    #[test]
    fn later_layers_replace_and_take_away() {
        let base: &[_] = &[folder("models/"), file("models/a"), file("./models/d/b"), file("etc/x")];
        found(&[base], &[("a", 0, 1), ("d/b", 0, 2)]);
        found(&[base, &[file("models/a")]], &[("a", 1, 0), ("d/b", 0, 2)]);
        found(&[base, &[file("models/.wh.a")]], &[("d/b", 0, 2)]);
        found(&[base, &[file("models/.wh.d")]], &[("a", 0, 1)]);
        // What the same layer adds stays, before the mark and after it.
        found(
            &[base, &[file("models/n"), file("models/.wh..wh..opq"), file("models/a")]],
            &[("a", 1, 2), ("n", 1, 0)],
        );
        found(&[base, &[file(".wh.models"), file("models/n")]], &[("n", 1, 1)]);
        found(&[base, &[file("models/.wh..wh.aufs")]], &[("a", 0, 1), ("d/b", 0, 2)]);
        // A file where a folder was, and a folder where a file was.
        found(&[base, &[file("models/d")]], &[("a", 0, 1), ("d", 1, 0)]);
        found(&[base, &[file("models/a/c")]], &[("a/c", 1, 0), ("d/b", 0, 2)]);
        found(&[base, &[folder("models/a")]], &[("d/b", 0, 2)]);
    }

    #[test]
    fn links_lead_to_the_bytes_wherever_in_the_image_they_are() {
        let base: &[_] = &[file("blobs/1"), file("blobs/2"), soft("models/snap/a", "../../blobs/1")];
        found(&[base], &[("snap/a", 0, 0)]);
        found(&[base, &[hard("models/h", "blobs/2")]], &[("h", 0, 1), ("snap/a", 0, 0)]);
        found(&[base, &[hard("models/h", "/blobs/2"), file("blobs/2")]], &[("h", 0, 1), ("snap/a", 0, 0)]);
        found(
            &[base, &[soft("models/all", "/blobs")]],
            &[("all/1", 0, 0), ("all/2", 0, 1), ("snap/a", 0, 0)],
        );
        // The folder itself is a link, and a later layer writes through it.
        found(
            &[&[file("data/v1/a"), soft("models", "data/v1")], &[file("models/b")]],
            &[("a", 0, 0), ("b", 1, 0)],
        );
        // Outside of the folder nothing has to be of use.
        let odd: &[_] = &[file("models/a"), soft("x", "../.."), ("dev/null", Kind::Other("a device"))];
        found(&[odd, &[hard("y", "gone")]], &[("a", 0, 0)]);
    }

    #[test]
    fn what_cannot_be_a_model_is_refused_by_name() {
        for (entries, why) in [
            (vec![file("/models/a")], "\"/models/a\" is absolute"),
            (vec![file("models/../../a")], "has a .. in it"),
            (vec![file("other/a")], "it has no files in /models: name the model's folder"),
            (vec![soft("models/a", "../../../etc/passwd")], "and leads out of the image"),
            (vec![soft("models/a", "/etc/passwd")], "\"/etc/passwd\", which is not there"),
            (vec![soft("models/a", "b"), soft("models/b", "a")], "goes through too many links"),
            (vec![file("models/b"), soft("models/a", ".")], "round and round"),
            (vec![hard("models/a", "gone")], "a hard link to what is not there"),
            (vec![("models/a", Kind::Other("a device"))], "/models/a is a device, which no model has"),
            (vec![("dev/x", Kind::Other("a pipe")), soft("models/a", "/dev/x")], "is a link to a pipe"),
            (vec![file("models/a\n")], "control character"),
            (vec![soft("models", "../x")], "/models leads out of the image"),
        ] {
            let refused = check(&[&entries]).unwrap_err();
            assert!(refused.contains(why), "no {why:?} in {refused:?}");
        }
        let long = format!("models/{}a", "b/".repeat(MAX_PATH / 2));
        assert!(check(&[&[file(&long)]]).unwrap_err().contains("longer than"));
    }

    #[test]
    fn links_that_multiply_end() {
        // Each folder links to the next twice: 2^8 ways to the last, and then it is enough.
        let names: Vec<(String, String)> = (0..20)
            .flat_map(|n| [0, 1].map(|way| (format!("models/{n}/{way}"), format!("/models/{}", n + 1))))
            .collect();
        let entries: Vec<_> = names.iter().map(|(path, target)| soft(path, target)).collect();
        assert!(check(&[&entries]).is_err());
    }
}
