//! The manifest beside the committed eBPF object: which sources it was built
//! from, what it is, and by which programs it was made.
//!
//! It is text that `sha256sum -c` reads in the workspace's root: comment lines,
//! then one line per file, sources first (sorted), the object last.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::exec;

/// The comment before the names and versions of the programs.
const BUILT_BY: &str = "# built by: ";

/// Everything that goes into the object, relative to the workspace: files, and
/// folders with all that is below them.
const SOURCES: &[&str] = &[
    "sockmem-ebpf/Cargo.toml",
    "sockmem-ebpf/Cargo.lock",
    "sockmem-ebpf/src",
    "sockmem-common/Cargo.toml",
    "sockmem-common/src",
];

/// Hashes of files by their path in the workspace.
pub(crate) type Hashes = BTreeMap<String, String>;

/// What the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Every source file.
    pub(crate) sources: Hashes,
    /// The object's path in the workspace and its hash.
    pub(crate) object: (String, String),
    /// Compiler, linker and objcopy with their versions.
    pub(crate) built_by: String,
}

impl Manifest {
    /// The manifest as text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::from(
            "# Sources and object of the eBPF programs. Written by `cargo xtask build-ebpf`;\n\
             # `cargo xtask build-ebpf --check` (or `sha256sum -c` in the workspace) compares.\n",
        );
        text.push_str(&format!("{BUILT_BY}{}\n", self.built_by));
        for (path, hash) in &self.sources {
            text.push_str(&format!("{hash}  {path}\n"));
        }
        let (path, hash) = &self.object;
        text.push_str(&format!("{hash}  {path}\n"));
        text
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When a line is neither a comment nor a hash and a path, or there is no
    /// object or no `built by` line.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut built_by = None;
        let mut files = Vec::new();
        for line in text.lines() {
            if let Some(programs) = line.strip_prefix(BUILT_BY) {
                built_by = Some(programs.to_owned());
            } else if !line.starts_with('#') {
                let (hash, path) = line
                    .split_once("  ")
                    .filter(|(hash, _)| hash.len() == 64)
                    .with_context(|| format!("not a line of a manifest: `{line}`"))?;
                files.push((path.to_owned(), hash.to_owned()));
            }
        }
        let object = files.pop().context("the manifest names no file")?;
        Ok(Self {
            sources: files.into_iter().collect(),
            object,
            built_by: built_by.with_context(|| format!("no line begins with `{BUILT_BY}`"))?,
        })
    }
}

/// What differs between the sources a manifest lists and those there are now: a
/// line per file.
pub(crate) fn differences(listed: &Hashes, present: &Hashes) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, hash) in listed {
        match present.get(path) {
            None => lines.push(format!("removed: {path}")),
            Some(now) if now != hash => lines.push(format!("changed: {path}")),
            Some(_) => {}
        }
    }
    lines.extend(
        present
            .keys()
            .filter(|path| !listed.contains_key(*path))
            .map(|path| format!("added: {path}")),
    );
    lines.sort();
    lines
}

/// The hash of some bytes, in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The hashes of the object's sources as they are now.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn sources(workspace: &Path) -> Result<Hashes> {
    let mut hashes = Hashes::new();
    for source in SOURCES {
        add(workspace, source, &mut hashes)?;
    }
    Ok(hashes)
}

fn add(workspace: &Path, path: &str, hashes: &mut Hashes) -> Result<()> {
    let full = workspace.join(path);
    if !full.is_dir() {
        hashes.insert(path.to_owned(), hash(&exec::read(&full)?));
        return Ok(());
    }
    let entries =
        std::fs::read_dir(&full).with_context(|| format!("cannot list {}", full.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else {
            bail!("a file in {} has a name that is not UTF-8", full.display());
        };
        add(workspace, &format!("{path}/{name}"), hashes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(files: &[(&str, &str)]) -> Hashes {
        files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), hash(text.as_bytes())))
            .collect()
    }

    fn manifest() -> Manifest {
        Manifest {
            sources: hashes(&[("b/src/main.rs", "b"), ("a/Cargo.toml", "a")]),
            object: ("x/sockmem.bpf.o".to_owned(), hash(b"object")),
            built_by: "rustc 1.96.0, bpf-linker 0.13.0".to_owned(),
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let text = manifest().render();
        assert_eq!(Manifest::parse(&text).expect("a manifest"), manifest());
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines[0].ends_with("  a/Cargo.toml"), "sorted: {lines:?}");
        assert!(
            lines[2].ends_with("  x/sockmem.bpf.o"),
            "the object is last: {lines:?}"
        );
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        assert_eq!(
            hash(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn broken_manifests_are_refused() {
        let text = manifest().render();
        for broken in [
            text.replace("  a/", " a/"),
            text.replace(BUILT_BY, "# "),
            text.lines()
                .filter(|line| line.starts_with('#'))
                .map(|line| format!("{line}\n"))
                .collect(),
        ] {
            assert!(Manifest::parse(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn every_kind_of_difference_names_its_file() {
        let listed = hashes(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let present = hashes(&[("b", "2"), ("c", "1"), ("d", "1")]);
        assert_eq!(
            differences(&listed, &present),
            ["added: d", "changed: b", "removed: a"]
        );
        assert_eq!(differences(&listed, &listed), [""; 0]);
    }
}
