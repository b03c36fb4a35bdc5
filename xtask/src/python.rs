//! Exported files, read by the programs that they are for. Those are Python packages: they go into
//! an environment of their own below the target folder, where Python and its package index can be had.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::tally::Tally;
use crate::{exec, paths, vm};

/// Where the environment is.
fn environment() -> PathBuf {
    paths::target().join("python")
}

/// The environment's Python, with the packages that the tests need; an error says what is missing.
fn python() -> Result<PathBuf> {
    let (root, python) = (environment(), environment().join("bin/python3"));
    let wanted = paths::workspace().join("tests/python/requirements.txt");
    let stamp = root.join("installed");
    let have = std::fs::read(&stamp).unwrap_or_default();
    if python.is_file() && have == std::fs::read(&wanted)? {
        return Ok(python);
    }
    println!("installing the packages of {}", wanted.display());
    exec::capture(
        exec::tool("python3", "python3")?
            .args(["-m", "venv"])
            .arg(&root),
    )?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    exec::capture(pip.arg("--requirement").arg(&wanted))?;
    std::fs::copy(&wanted, &stamp)?;
    Ok(python)
}

/// Runs the tests; without the packages they are counted as not run.
///
/// # Errors
/// When the programs cannot be built or the tests end without a count.
pub(crate) fn exports(counted: fn(&mut Command) -> Result<Tally>) -> Result<Option<Tally>> {
    let python = match python() {
        Ok(python) => python,
        Err(error) => {
            println!("left out: the packages cannot be had here: {error:#}");
            println!(
                "`cargo xtask setup` installs python3-venv; the rest comes from Python's package index"
            );
            return Ok(Some(Tally {
                ignored: 1,
                ..Tally::default()
            }));
        }
    };
    let programs = vm::Programs::build()?;
    let folder = paths::target().join("exports");
    exec::fresh_folder(&folder)?;
    let mut command = Command::new(python);
    command
        .arg(paths::workspace().join("tests/python/exports.py"))
        .args([&programs.trace, &programs.fleet])
        .arg(paths::workspace())
        .arg(&folder);
    counted(&mut command).map(Some)
}
