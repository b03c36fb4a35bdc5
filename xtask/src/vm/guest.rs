//! The programs that run inside a guest, built as static executables.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::{exec, paths};

/// The only architecture that the guests have.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The static programs, in the release profile.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// The guest's process 1.
    pub(crate) init: PathBuf,
    /// The test runner.
    pub(crate) e2e: PathBuf,
    /// The tool under test.
    pub(crate) trace: PathBuf,
    /// Writes recordings of hosts that do not exist.
    pub(crate) fleet: PathBuf,
}

impl Programs {
    /// Builds them with a C library linked in, so that the guest needs no other
    /// file; in a target folder of their own, so that the flag for that does not
    /// rebuild everything else.
    ///
    /// # Errors
    /// When cargo fails or does not say where a program is.
    pub(crate) fn build() -> Result<Self> {
        if cfg!(not(target_arch = "x86_64")) {
            bail!(
                "the guests are x86-64 and their programs are built here: this needs an x86-64 host"
            );
        }
        let mut command = exec::cargo();
        command
            .args(["build", "--release", "--target", TARGET])
            .args(["-p", "sockmem-tests", "-p", "sockmem-user", "--bins"])
            .args(["--message-format", "json-render-diagnostics"])
            .arg("--target-dir")
            .arg(paths::target().join("static"))
            .current_dir(paths::workspace())
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .stdout(Stdio::piped());
        println!("building the static programs");
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", exec::shown(&command)))?;
        let output = child
            .stdout
            .take()
            .context("cargo's output was not piped")?;
        let mut built = BTreeMap::new();
        for line in BufReader::new(output).lines() {
            if let Some((name, path)) = executable(&line?) {
                built.insert(name, path);
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("`{}` failed: {status}", exec::shown(&command));
        }
        let mut take = |name: &str| {
            built
                .remove(name)
                .with_context(|| format!("`{}` built no `{name}`", exec::shown(&command)))
        };
        Ok(Self {
            init: take("vm-init")?,
            e2e: take("sockmem-e2e")?,
            trace: take("sockmem-trace")?,
            fleet: take("sockmem-fleet")?,
        })
    }
}

/// The program that a line of cargo's messages tells of.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let path = message["executable"].as_str()?;
    Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_cargos_messages() {
        let program = r#"{"reason":"compiler-artifact","target":{"name":"vm-init"},"executable":"/t/vm-init"}"#;
        assert_eq!(
            executable(program),
            Some(("vm-init".to_owned(), PathBuf::from("/t/vm-init")))
        );
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(
            executable(r#"{"reason":"build-finished","success":true}"#),
            None
        );
    }
}
