//! `cargo xtask setup`: installs what the other commands need, on Debian.

use std::io::{IsTerminal as _, Write as _};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{ebpf, exec, paths};

/// The linker for eBPF, and the LLVM it is built against: that of `rustc-web`.
const LINKER_VERSION: &str = "0.13.0";
const LLVM: &str = "22";

/// The packages, each with what needs it.
const PACKAGES: &[(&str, &str)] = &[
    (
        "build-essential",
        "linking, and the C library that static programs take in",
    ),
    ("rustc-web", "the compiler of the eBPF programs"),
    ("rust-web-src", "its library, which is built for eBPF"),
    (
        "llvm-22-dev",
        "bpf-linker is built against it; llvm-objcopy",
    ),
    ("qemu-system-x86", "the virtual machines"),
    (
        "debian-archive-keyring",
        "the signatures of their kernels' packages",
    ),
    ("kmod", "their kernels' modules"),
    ("xz-utils", "their kernels' modules"),
    ("gzip", "their file system"),
    ("iproute2", "`ss`, which tests compare with"),
    (
        "python3-venv",
        "the packages that exported files are read with",
    ),
    ("tmux", "the terminal that the full screen is tested on"),
];

/// How to ask.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Install without asking (also with CI=true in the environment)
    #[arg(long)]
    yes: bool,
}

/// Says what is missing and installs it.
///
/// # Errors
/// When nobody can be asked, the answer is no, or an installation fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut packages = missing_packages()?;
    // Another complete toolchain makes Debian's unnecessary.
    if ebpf::Toolchain::find().is_ok() {
        packages.retain(|package| !["rustc-web", "rust-web-src", "llvm-22-dev"].contains(package));
    }
    let linker = ebpf::find_linker().is_none();
    let components = missing_components();
    if packages.is_empty() && !linker && components.is_empty() {
        println!("everything is installed");
        return Ok(());
    }

    println!("this installs:");
    for (package, use_) in PACKAGES.iter().filter(|(name, _)| packages.contains(name)) {
        println!("  Debian package {package:<23} {use_}");
    }
    if linker {
        let root = paths::tools();
        println!(
            "  bpf-linker {LINKER_VERSION}, built from its source into {}",
            root.display()
        );
    }
    for component in &components {
        println!("  rustup component {component}");
    }
    confirm(options)?;

    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    if linker {
        install_linker()?;
    }
    if !components.is_empty() {
        let mut rustup = exec::tool("rustup", "rustup")?;
        exec::run(rustup.args(["component", "add"]).args(&components))?;
    }
    Ok(())
}

/// Those of [`PACKAGES`] that are not installed.
fn missing_packages() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for (package, _) in PACKAGES {
        let status = exec::tool("dpkg-query", "dpkg")?
            .args(["--show", "--showformat", "${db:Status-Status}", package])
            .output()
            .context("cannot start dpkg-query")?;
        // It fails for a package it has never heard of.
        if status.stdout != b"installed" {
            missing.push(*package);
        }
    }
    Ok(missing)
}

/// The cargo subcommands that the checks need and this toolchain lacks.
fn missing_components() -> Vec<&'static str> {
    [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(subcommand, _)| {
            exec::capture(exec::cargo().args([subcommand, "--version"])).is_err()
        })
        .map(|(_, component)| component)
        .collect()
}

fn confirm(options: &Options) -> Result<()> {
    if options.yes || std::env::var("CI").is_ok_and(|value| value == "true") {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("nobody to ask: `cargo xtask setup --yes` installs without asking");
    }
    print!("go on? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was installed");
    }
    Ok(())
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if !exec::is_root() {
        bail!(
            "installing packages needs root: apt-get update && apt-get install {}",
            packages.join(" ")
        );
    }
    exec::run(exec::tool("apt-get", "apt")?.args(["-q", "update"]))?;
    exec::run(
        exec::tool("apt-get", "apt")?
            .args(["-q", "install", "--yes", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Builds bpf-linker into the work tree. It finds LLVM by `llvm-config`.
fn install_linker() -> Result<()> {
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(format!("{prefix}/bin").into()).chain(std::env::split_paths(&path));
    let mut install: Command = exec::cargo();
    install
        .args(["install", "--locked", "--no-default-features"])
        .args([
            "--features",
            &format!("llvm-{LLVM}"),
            "--version",
            LINKER_VERSION,
            "--root",
        ])
        .arg(paths::tools())
        .arg("bpf-linker")
        .env("LLVM_PREFIX", prefix)
        .env(
            "PATH",
            std::env::join_paths(path).context("PATH holds a strange folder")?,
        );
    exec::run(&mut install)
}
