//! `cargo xtask build-ebpf`: the eBPF object that is kept in the tree.
//!
//! Users build with plain stable Rust and never run this: the object serves
//! every kernel and is committed. Two toolchains can build it, and the first one
//! found is taken:
//!
//! 1. Debian's `rustc-web` (1.96 or later) with `rust-web-src`, the `llvm-objcopy`
//!    of the LLVM it was built with, and bpf-linker;
//! 2. rustup's nightly with `rust-src`, and bpf-linker.
//!
//! bpf-linker is looked for in `$BPF_LINKER`, `PATH`, cargo's `bin`, the
//! `target/tools/bin` that `cargo xtask setup` fills, and `/opt/bpf-linker/bin`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::manifest::{self, Manifest};
use crate::{exec, object, paths};

/// The command that every complaint about the committed object ends with.
const FIX: &str = "cargo xtask build-ebpf";

/// Set while cargo calls this program in place of the compiler.
pub(crate) const AS_RUSTC: &str = "SOCKMEM_XTASK_AS_RUSTC";

/// What to do with the object.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Build nothing: fail if the committed object does not belong to the sources
    #[arg(long, conflicts_with = "verify")]
    check: bool,
    /// Build into target/ebpf, for the virtual machines, and compare with the committed object
    #[arg(long)]
    verify: bool,
}

/// Runs the command.
///
/// # Errors
/// When the toolchain is missing, the build fails, or the object is not the one
/// that belongs to the sources.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.check {
        check()
    } else if options.verify {
        verify()
    } else {
        commit()
    }
}

/// Compares the manifest with the files in the tree.
///
/// # Errors
/// When they differ; the error names the files.
pub(crate) fn check() -> Result<()> {
    let manifest = committed()?;
    let workspace = paths::workspace();
    let mut lines = manifest::differences(&manifest.sources, &manifest::sources(&workspace)?);
    let (path, hash) = &manifest.object;
    match std::fs::read(workspace.join(path)) {
        Ok(bytes) if manifest::hash(&bytes) == *hash => {}
        Ok(_) => lines.push(format!("changed: {path}")),
        Err(error) => lines.push(format!("unreadable ({error}): {path}")),
    }
    if !lines.is_empty() {
        bail!(
            "the committed eBPF object does not belong to the sources:\n  {}\n\
             build and commit it again: {FIX}",
            lines.join("\n  ")
        );
    }
    println!(
        "{path} belongs to its {} source files",
        manifest.sources.len()
    );
    Ok(())
}

/// Builds from source, leaves the object for the virtual machines, and only then
/// compares it with the committed one. The bytes must be equal only if the programs that
/// made them are.
///
/// # Errors
/// When the build fails or the same programs now make another object.
pub(crate) fn verify() -> Result<()> {
    let path = paths::rebuilt_object();
    // A build that fails must not leave an older object to be tested.
    if path.exists() {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let toolchain = Toolchain::find()?;
    let bytes = toolchain.build()?;
    exec::write(&path, &bytes)?;
    println!(
        "{}: {} bytes, built by {}",
        path.display(),
        bytes.len(),
        toolchain.versions
    );
    let manifest = committed()?;
    if manifest::hash(&bytes) == manifest.object.1 {
        println!("it is byte for byte the committed object");
    } else if toolchain.versions == manifest.built_by {
        bail!(
            "the same programs ({}) now build another object than the committed {}: \
             compare {}, then {FIX}",
            toolchain.versions,
            manifest.object.0,
            path.display()
        );
    } else {
        println!(
            "it differs from the committed object, which was built by {}",
            manifest.built_by
        );
    }
    Ok(())
}

/// Builds the object and its manifest into the tree.
fn commit() -> Result<()> {
    let workspace = paths::workspace();
    // Before the build: a source saved during it shall not pass for built.
    let sources = manifest::sources(&workspace)?;
    let toolchain = Toolchain::find()?;
    let bytes = toolchain.build()?;
    let path = workspace.join(paths::OBJECT);
    exec::make_folder(path.parent().context("the object is in a folder")?)?;
    exec::write(&path, &bytes)?;
    let manifest = Manifest {
        sources,
        object: (paths::OBJECT.to_owned(), manifest::hash(&bytes)),
        built_by: toolchain.versions,
    };
    exec::write(&workspace.join(paths::MANIFEST), manifest.render())?;
    println!(
        "{}: {} bytes, built by {}",
        paths::OBJECT,
        bytes.len(),
        manifest.built_by
    );
    Ok(())
}

fn committed() -> Result<Manifest> {
    let path = paths::workspace().join(paths::MANIFEST);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read the manifest of the committed eBPF object; {FIX} writes it")
    })?;
    Manifest::parse(&text).with_context(|| format!("{} is broken; {FIX}", path.display()))
}

/// The programs that make the object.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// `cargo`, and what must stand before its arguments.
    cargo: Vec<PathBuf>,
    /// The compiler, where cargo would take another.
    rustc: Option<PathBuf>,
    /// Where the compiler has its library's source.
    sysroot: PathBuf,
    linker: PathBuf,
    objcopy: PathBuf,
    /// All of them with their versions.
    versions: String,
}

/// What `rustc -vV` says.
#[derive(Debug, PartialEq, Eq)]
struct Compiler {
    /// Its first line, `rustc 1.96.0 (...)`.
    name: String,
    /// Major and minor version.
    release: (u32, u32),
    /// The major version of its LLVM.
    llvm: u32,
}

impl Compiler {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let mut release = field("release: ")?.split('.');
        let mut next = || release.next()?.parse().ok();
        Some(Self {
            name: text.lines().next()?.to_owned(),
            release: (next()?, next()?),
            llvm: field("LLVM version: ")?.split('.').next()?.parse().ok()?,
        })
    }
}

impl Toolchain {
    /// The first of the two that is complete.
    ///
    /// # Errors
    /// When none is; the error says what to install for either.
    pub(crate) fn find() -> Result<Self> {
        let linker = find_linker();
        let debian = Self::debian(linker.as_deref());
        let rustup = || Self::rustup(linker.as_deref());
        debian
            .or_else(|debian| rustup().map_err(|rustup| (debian, rustup)))
            .map_err(|(debian, rustup)| {
                anyhow::anyhow!(
                    "no toolchain for eBPF is complete.\n\
                     Debian's: {debian:#}\n\
                     rustup's: {rustup:#}\n\
                     On Debian `cargo xtask setup` installs the first. Elsewhere:\n\
                     \x20 rustup toolchain install nightly --component rust-src\n\
                     \x20 cargo install bpf-linker     (its README says which LLVM it needs)"
                )
            })
    }

    fn debian(linker: Option<&Path>) -> Result<Self> {
        let rustc = PathBuf::from("/usr/bin/rustc");
        if !rustc.is_file() {
            bail!("/usr/bin/rustc is missing: apt-get install rustc-web rust-web-src");
        }
        let compiler = compiler(Command::new(&rustc).arg("-vV"))?;
        if compiler.release < (1, 96) {
            bail!(
                "/usr/bin/rustc is {}, 1.96 is needed: apt-get install rustc-web",
                compiler.name
            );
        }
        let sysroot = exec::capture_text(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot.trim());
        let llvm = compiler.llvm;
        library_source(&sysroot).context("apt-get install rust-web-src")?;
        let objcopy = PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin/llvm-objcopy"));
        if !objcopy.is_file() {
            bail!(
                "{} is missing: apt-get install llvm-{llvm}-dev",
                objcopy.display()
            );
        }
        let cargo = PathBuf::from(exec::cargo().get_program());
        Self::complete(
            vec![cargo],
            Some(rustc),
            sysroot,
            linker,
            objcopy,
            &compiler,
        )
    }

    fn rustup(linker: Option<&Path>) -> Result<Self> {
        let rustup = exec::find("rustup").context("rustup is missing")?;
        let nightly = |program: &str| {
            let mut command = Command::new(&rustup);
            command.args(["run", "nightly", program]);
            exec::without_toolchain_env(&mut command);
            command
        };
        let compiler = compiler(nightly("rustc").arg("-vV"))
            .context("no nightly: rustup toolchain install nightly --component rust-src")?;
        let sysroot = exec::capture_text(nightly("rustc").args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot.trim());
        library_source(&sysroot).context("rustup component add rust-src --toolchain nightly")?;
        let objcopy = nightly_objcopy(&sysroot).context(
            "llvm-objcopy is missing: rustup component add llvm-tools --toolchain nightly",
        )?;
        let cargo = ["run", "nightly", "cargo"].map(PathBuf::from);
        let cargo = std::iter::once(rustup.clone()).chain(cargo).collect();
        Self::complete(cargo, None, sysroot, linker, objcopy, &compiler)
    }

    fn complete(
        cargo: Vec<PathBuf>,
        rustc: Option<PathBuf>,
        sysroot: PathBuf,
        linker: Option<&Path>,
        objcopy: PathBuf,
        compiler: &Compiler,
    ) -> Result<Self> {
        let linker = linker
            .context("bpf-linker is missing, also in $BPF_LINKER")?
            .to_path_buf();
        let linker_version = exec::capture_text(Command::new(&linker).arg("--version"))?;
        let objcopy_text = exec::capture_text(Command::new(&objcopy).arg("--version"))?;
        let objcopy_version = objcopy_text
            .lines()
            .find_map(|line| line.split("version ").nth(1))
            .with_context(|| format!("{} tells no version", objcopy.display()))?;
        let versions = format!(
            "{}, LLVM {}; {}; llvm-objcopy {}",
            compiler.name,
            compiler.llvm,
            linker_version.trim(),
            objcopy_version.trim()
        );
        Ok(Self {
            cargo,
            rustc,
            sysroot,
            linker,
            objcopy,
            versions,
        })
    }

    /// A cargo command of this toolchain in the folder of the eBPF crate.
    ///
    /// # Errors
    /// When a path that must be remapped is not UTF-8.
    pub(crate) fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = Command::new(&self.cargo[0]);
        exec::without_toolchain_env(&mut command);
        command
            .args(&self.cargo[1..])
            .arg(subcommand)
            .args(["--release", "--locked", "--target", "bpfel-unknown-none"])
            .args(["-Z", "build-std=core", "--target-dir"])
            .arg(paths::target().join("ebpf/build"))
            .current_dir(paths::workspace().join("sockmem-ebpf"))
            // Both stable's cargo and Debian's compiler refuse -Z without it.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags()?.join("\u{1f}"));
        if let Some(rustc) = &self.rustc {
            command.env("RUSTC", rustc);
        }
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        command.env("RUSTC_WRAPPER", own).env(AS_RUSTC, "1");
        Ok(command)
    }

    /// The compiler's flags: type information in the object, and no path of
    /// this machine.
    fn flags(&self) -> Result<Vec<String>> {
        let mut flags: Vec<String> = [
            "-Cdebuginfo=2",
            "-Clink-arg=--btf",
            // Where a crate asks for it the answer must not be this machine's.
            "--cfg=bpf_target_arch=\"x86_64\"",
        ]
        .map(str::to_owned)
        .to_vec();
        flags.push(format!("-Clinker={}", text(&self.linker)?));
        // The last that matches wins, so the innermost comes last.
        for (from, to) in [
            (cargo_home(), "/cargo"),
            (paths::workspace(), "/sockmem"),
            (self.sysroot.clone(), "/rustc"),
            (
                resolved(&self.sysroot.join("lib/rustlib/src/rust")),
                "/rustc/src",
            ),
        ] {
            flags.push(format!("--remap-path-prefix={}={to}", text(&from)?));
        }
        Ok(flags)
    }

    /// Builds the object: its bytes, stripped and inspected.
    ///
    /// # Errors
    /// When a program fails or the object is not fit to be committed.
    fn build(&self) -> Result<Vec<u8>> {
        println!("building the eBPF programs with {}", self.versions);
        exec::run(&mut self.cargo("build")?)?;
        let built = paths::target().join("ebpf/build/bpfel-unknown-none/release/sockmem-ebpf");
        let stripped = paths::target().join("ebpf/stripped.bpf.o");
        // .BTF and .BTF.ext are no debug sections to it: they stay. Their
        // relocations have been applied, loaders do not read them, and they are
        // more than a quarter of the file.
        exec::run(
            Command::new(&self.objcopy)
                .args(["--strip-debug", "--remove-section=.rel.BTF"])
                .arg("--remove-section=.rel.BTF.ext")
                .arg(&built)
                .arg(&stripped),
        )?;
        let bytes = exec::read(&stripped)?;
        let mut local = vec![text(&paths::workspace())?, text(&cargo_home())?];
        local.retain(|path| path.len() > 1);
        object::inspect(&bytes, &local)?;
        Ok(bytes)
    }
}

/// Calls the compiler as cargo asked (`arguments` are its path and its own
/// arguments), save for one thing: the `metadata` of this project's crates, which
/// cargo makes from the path of the work tree, is a constant. It ends up in
/// symbol names, and the same sources would make another object in another folder.
///
/// # Errors
/// When the compiler cannot be started; else this program ends as it did.
pub(crate) fn as_rustc(arguments: impl IntoIterator<Item = OsString>) -> Result<Infallible> {
    use std::os::unix::process::CommandExt as _;
    let mut arguments = arguments.into_iter();
    let rustc = arguments.next().context("no compiler was given")?;
    let mut command = Command::new(rustc);
    command.args(without_tree(arguments.collect()));
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", exec::shown(&command)))
}

/// A compiler's arguments with a constant `metadata`, if they are for a crate of
/// this project.
fn without_tree(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let own = arguments
        .windows(2)
        .any(|pair| pair[0] == "--crate-name" && pair[1].to_string_lossy().starts_with("sockmem_"));
    if own {
        for argument in &mut arguments {
            if argument.to_string_lossy().starts_with("metadata=") {
                *argument = "metadata=sockmem".into();
            }
        }
    }
    arguments
}

fn compiler(command: &mut Command) -> Result<Compiler> {
    let text = exec::capture_text(command)?;
    Compiler::parse(&text).with_context(|| format!("`{}` tells no version", exec::shown(command)))
}

/// Fails unless the compiler's library can be built from source.
fn library_source(sysroot: &Path) -> Result<()> {
    let core = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !core.is_file() {
        bail!("{} is missing", core.display());
    }
    Ok(())
}

/// rustup's own objcopy, or any LLVM's.
fn nightly_objcopy(sysroot: &Path) -> Option<PathBuf> {
    let bin = format!(
        "lib/rustlib/{}-unknown-linux-gnu/bin",
        std::env::consts::ARCH
    );
    let bin = sysroot.join(bin);
    exec::find_in("llvm-objcopy", [&bin])
        .or_else(|| exec::find_in("rust-objcopy", [&bin]))
        .or_else(|| exec::find("llvm-objcopy"))
}

/// bpf-linker, wherever it may be.
pub(crate) fn find_linker() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("BPF_LINKER").map(PathBuf::from) {
        return given.is_file().then_some(given);
    }
    exec::find("bpf-linker").or_else(|| {
        exec::find_in(
            "bpf-linker",
            [
                cargo_home().join("bin"),
                paths::tools().join("bin"),
                PathBuf::from("/opt/bpf-linker/bin"),
            ],
        )
    })
}

fn cargo_home() -> PathBuf {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => home.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
    }
}

fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| {
        format!(
            "the path {} is not UTF-8, and a flag needs it",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compilers_version_is_read() {
        let said = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
                    binary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\n\
                    LLVM version: 22.1.8\n";
        let compiler = Compiler::parse(said).expect("a compiler");
        assert_eq!((compiler.release, compiler.llvm), ((1, 96), 22));
        assert!(compiler.name.starts_with("rustc 1.96.0 (ac6"));
        let nightly = said.replace("release: 1.96.0", "release: 1.97.0-nightly");
        assert_eq!(
            Compiler::parse(&nightly).expect("a compiler").release,
            (1, 97)
        );
        assert_eq!(Compiler::parse("rustc 1.96.0\n"), None);
    }

    #[test]
    fn only_this_projects_crates_lose_the_path_of_the_tree() {
        let arguments = |name: &str| -> Vec<OsString> {
            [
                "--crate-name",
                name,
                "-C",
                "metadata=5f1",
                "-C",
                "extra-filename=-5f1",
            ]
            .map(OsString::from)
            .to_vec()
        };
        let other = arguments("aya_ebpf");
        assert_eq!(without_tree(other.clone()), other);
        let own = without_tree(arguments("sockmem_common"));
        assert_eq!(own[3], "metadata=sockmem");
        assert_eq!(own[5], "extra-filename=-5f1");
    }
}
