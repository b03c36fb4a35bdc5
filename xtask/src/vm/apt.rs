//! Stock Debian kernels, through a private apt root below the target folder:
//! the machine's own apt state is read (for the mirror and the keys) and never
//! changed, and no right of root is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::version::{Candidate, Kernel, Suite, candidates};
use crate::exec;

/// How long a package index is taken as it is.
const INDEX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many packages are tried before giving a kernel up. An archived suite's
/// index can name several packages that its mirror no longer has.
const TRIES: usize = 8;

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirrors {
    /// The main archive, such as `http://mirror.example/debian/`.
    pub(crate) main: String,
    /// The security archive, if it is known.
    pub(crate) security: Option<String>,
}

impl Mirrors {
    /// The mirrors that this machine's own apt uses, unless `given` is one.
    ///
    /// # Errors
    /// When apt is missing or knows no Debian mirror.
    pub(crate) fn find(given: Option<&str>) -> Result<Self> {
        if let Some(main) = given {
            return Ok(Self {
                main: main.to_owned(),
                security: None,
            });
        }
        let text = exec::capture_text(
            exec::tool("apt-get", "apt")?
                .args(["indextargets", "--format", "$(REPO_URI)|$(ORIGIN)"])
                .env("LC_ALL", "C.UTF-8"),
        )?;
        Self::parse(&text).context(
            "this machine's apt has no Debian mirror in its index: run `apt-get update`, \
             or give one with `--mirror URI` (the folder that holds `dists`)",
        )
    }

    /// Picks the mirrors from lines of `URI|origin`.
    fn parse(index_targets: &str) -> Option<Self> {
        let debian = || {
            index_targets
                .lines()
                .filter_map(|line| line.split_once('|'))
                .filter(|(_, origin)| *origin == "Debian")
                .map(|(uri, _)| uri)
        };
        let main = debian().find(|uri| !uri.contains("security"))?;
        let security = debian().find(|uri| uri.contains("security"));
        Some(Self {
            main: main.to_owned(),
            security: security.map(str::to_owned),
        })
    }

    fn of(&self, suite: Suite) -> Option<&str> {
        if suite.security {
            self.security.as_deref()
        } else {
            Some(&self.main)
        }
    }
}

/// A kernel's unpacked packages.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The kernel's release, such as `6.1.0-50-cloud-amd64`.
    pub(crate) release: String,
    /// The folder that the packages were unpacked into.
    pub(crate) root: PathBuf,
}

impl Unpacked {
    /// The compressed kernel image.
    ///
    /// # Errors
    /// When the packages hold none.
    pub(crate) fn vmlinuz(&self) -> Result<PathBuf> {
        let release = &self.release;
        let places = [
            format!("boot/vmlinuz-{release}"),
            format!("usr/lib/modules/{release}/vmlinuz"),
            format!("lib/modules/{release}/vmlinuz"),
        ];
        let found = places
            .iter()
            .map(|place| self.root.join(place))
            .find(|path| path.is_file());
        found.with_context(|| {
            format!(
                "no kernel image in {}: looked for {}",
                self.root.display(),
                places.join(", ")
            )
        })
    }
}

/// Private apt root of one kernel's suites.
pub(crate) struct Apt {
    root: PathBuf,
}

impl Apt {
    /// The packages of `kernel`, unpacked: from the cache below `vm_folder` if
    /// they are there, downloaded otherwise.
    ///
    /// # Errors
    /// When the kernel is in no index or no package of it can be fetched.
    pub(crate) fn unpacked(
        kernel: &Kernel,
        mirrors: &Mirrors,
        vm_folder: &Path,
        refresh: bool,
    ) -> Result<Unpacked> {
        let apt = Self {
            root: vm_folder.join("apt").join(kernel.name),
        };
        apt.update(kernel, mirrors, refresh)?;
        let names = exec::capture_text(apt.command("apt-cache")?.args(["pkgnames", "linux-"]))?;
        let found = candidates(kernel.series, names.lines());
        if found.is_empty() {
            let suites: Vec<_> = kernel.suites.iter().map(|suite| suite.name).collect();
            bail!(
                "no package of kernel {} in {} at {}: is the suite still on that mirror? \
                 `--mirror URI` names another",
                kernel.name,
                suites.join(", "),
                mirrors.main
            );
        }
        let mut reasons = String::new();
        for candidate in found.iter().take(TRIES) {
            match apt.fetch(candidate, &vm_folder.join("kernel")) {
                Ok(unpacked) => return Ok(unpacked),
                Err(error) => {
                    println!(
                        "kernel {}: {} cannot be fetched, trying the one before it",
                        kernel.name,
                        candidate.packages.join(" ")
                    );
                    reasons.push_str(&format!("\n{error:#}"));
                }
            }
        }
        bail!(
            "none of the newest packages of kernel {} could be fetched:{reasons}",
            kernel.name
        )
    }

    /// Brings the index up to date, if it is old or `refresh` asks for it. An
    /// old index is kept, with a notice, when no newer one can be had.
    fn update(&self, kernel: &Kernel, mirrors: &Mirrors, refresh: bool) -> Result<()> {
        let sources = sources_list(kernel, mirrors, keyring().as_deref());
        let sources_path = self.root.join("etc/sources.list");
        let stamp = self.root.join("updated");
        let same_sources = std::fs::read_to_string(&sources_path).is_ok_and(|had| had == sources);
        let age = std::fs::metadata(&stamp)
            .and_then(|data| data.modified())
            .ok()
            .and_then(|then| SystemTime::now().duration_since(then).ok());
        if same_sources && !refresh && age.is_some_and(|age| age < INDEX_AGE) {
            return Ok(());
        }
        for folder in [
            "etc/apt.conf.d",
            "etc/preferences.d",
            "state/lists/partial",
            "cache/archives/partial",
        ] {
            exec::make_folder(&self.root.join(folder))?;
        }
        exec::write(&self.root.join("status"), "")?;
        exec::write(&sources_path, sources)?;
        println!("kernel {}: reading the package index", kernel.name);
        match exec::capture(self.command("apt-get")?.args(["-q", "update"])) {
            Ok(_) => exec::write(&stamp, ""),
            Err(error) if same_sources && stamp.is_file() => {
                println!(
                    "kernel {}: the package index stays old: {error:#}",
                    kernel.name
                );
                Ok(())
            }
            // One suite of several may be gone; what the others hold decides.
            Err(error) if kernel.suites.len() > 1 => {
                println!("kernel {}: {error:#}", kernel.name);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Downloads and unpacks one candidate, or finds it done.
    fn fetch(&self, candidate: &Candidate, kernels: &Path) -> Result<Unpacked> {
        let mut versioned = Vec::new();
        for package in &candidate.packages {
            let shown = exec::capture_text(self.command("apt-cache")?.args([
                "show",
                "--no-all-versions",
                package,
            ]))?;
            let version = shown
                .lines()
                .find_map(|line| line.strip_prefix("Version: "))
                .with_context(|| format!("apt-cache names no version of {package}"))?;
            versioned.push((package.as_str(), version.to_owned()));
        }
        let (first, version) = &versioned[0];
        let root = kernels.join(format!("{first}_{version}"));
        let unpacked = Unpacked {
            release: candidate.release.clone(),
            root,
        };
        if unpacked.root.is_dir() {
            return Ok(unpacked);
        }

        let debs = self.root.join("debs");
        exec::fresh_folder(&debs)?;
        println!(
            "kernel {}: fetching {}",
            candidate.release,
            candidate.packages.join(" ")
        );
        let mut download = self.command("apt-get")?;
        download.args(["-q", "download"]).current_dir(&debs);
        download.args(
            versioned
                .iter()
                .map(|(package, version)| format!("{package}={version}")),
        );
        exec::capture(&mut download)?;

        // Unpacked aside and renamed, so that a broken run leaves no half kernel.
        let partial = kernels.join(format!("{first}_{version}.partial"));
        exec::fresh_folder(&partial)?;
        for entry in std::fs::read_dir(&debs)? {
            exec::run(
                exec::tool("dpkg", "dpkg")?
                    .arg("-x")
                    .arg(entry?.path())
                    .arg(&partial),
            )?;
        }
        std::fs::rename(&partial, &unpacked.root)
            .with_context(|| format!("cannot move {}", partial.display()))?;
        std::fs::remove_dir_all(&debs)?;
        Ok(unpacked)
    }

    /// An apt program that works in the private root. The machine's `apt.conf`
    /// is still read, so its proxy settings hold.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = exec::tool(program, "apt")?;
        let folder = |name: &str| self.root.join(name);
        for (option, value) in [
            ("Dir::Etc=", folder("etc")),
            ("Dir::Etc::sourcelist=", folder("etc/sources.list")),
            ("Dir::Etc::sourceparts=", PathBuf::from("/dev/null")),
            ("Dir::State=", folder("state")),
            ("Dir::State::status=", folder("status")),
            ("Dir::Cache=", folder("cache")),
        ] {
            command.arg("-o").arg(exec::joined(option, value));
        }
        for option in [
            "APT::Architecture=amd64",
            "APT::Architectures=amd64",
            // The private root is not readable for apt's own user.
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            // A suite past its end keeps its signature, but its date runs out.
            "Acquire::Check-Valid-Until=false",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::Retries=2",
        ] {
            command.args(["-o", option]);
        }
        command.env("LC_ALL", "C.UTF-8");
        Ok(command)
    }
}

/// The keys of the Debian archive, where a machine has them.
fn keyring() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg");
    // Without it, apt takes the keys in /etc/apt/trusted.gpg.d.
    path.is_file().then_some(path)
}

fn sources_list(kernel: &Kernel, mirrors: &Mirrors, keyring: Option<&Path>) -> String {
    let signed = keyring.map_or_else(String::new, |path| format!(" signed-by={}", path.display()));
    kernel
        .suites
        .iter()
        .filter_map(|suite| Some((suite.name, mirrors.of(*suite)?)))
        .map(|(suite, mirror)| format!("deb [arch=amd64{signed}] {mirror} {suite} main\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::version::kernel;
    use super::*;

    const TARGETS: &str = "\
https://packages.example/node|NodeSource
http://mirror.example/debian-security/|Debian
http://mirror.example/debian/|Debian
http://mirror.example/debian/|Debian
";

    #[test]
    fn mirrors_are_the_machines_own_and_third_parties_are_not_taken() {
        let mirrors = Mirrors::parse(TARGETS).expect("mirrors");
        assert_eq!(mirrors.main, "http://mirror.example/debian/");
        assert_eq!(
            mirrors.security.as_deref(),
            Some("http://mirror.example/debian-security/")
        );
        assert_eq!(
            Mirrors::parse("https://packages.example/node|NodeSource\n"),
            None
        );
    }

    #[test]
    fn a_suite_without_a_known_mirror_is_left_out() {
        let bullseye = kernel("5.10").expect("5.10");
        let mut mirrors = Mirrors::parse(TARGETS).expect("mirrors");
        assert_eq!(
            sources_list(bullseye, &mirrors, Some(Path::new("/k.gpg"))),
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian/ bullseye main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian-security/ \
             bullseye-security main\n"
        );
        mirrors.security = None;
        assert_eq!(
            sources_list(bullseye, &mirrors, None),
            "deb [arch=amd64] http://mirror.example/debian/ bullseye main\n"
        );
    }
}
