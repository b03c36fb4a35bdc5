//! `cargo xtask vm`: the end-to-end tests on stock Debian kernels in QEMU.

mod apt;
mod console;
mod guest;
mod initramfs;
mod modules;
mod qemu;
mod version;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::apt::{Apt, Mirrors};
pub(crate) use self::guest::Programs;
use self::initramfs::Contents;
use self::qemu::{Accelerator, Boot, Run};
use self::version::{KERNELS, Kernel, kernel};
use crate::tally::{Tally, e2e_summary};
use crate::{exec, paths};

/// Seconds that one kernel may take.
const TIME_LIMIT: u64 = 20 * 60;
/// How often a guest is booted again that failed before its init said a word: software
/// emulation has been seen to fail there (`Oops: int3` while the kernel patched itself).
const SECOND_CHANCES: usize = 2;
/// Seconds that a guest may write nothing.
const SILENCE_LIMIT: u64 = 5 * 60;

/// Which kernels, which tests, how long.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Options {
    /// A kernel: 5.10, 6.1, 6.12 or newest (repeatable) [default: all]
    #[arg(long = "kernel", value_name = "V")]
    pub(crate) kernels: Vec<String>,
    /// Keep the initramfs of a guest that passed, and say how to boot it by hand
    #[arg(long)]
    pub(crate) keep: bool,
    /// Test this eBPF object in place of the one inside sockmem-trace
    #[arg(long, value_name = "PATH")]
    pub(crate) object: Option<PathBuf>,
    /// Run this static program in place of sockmem-e2e
    #[arg(long, value_name = "PATH")]
    pub(crate) e2e: Option<PathBuf>,
    /// Guests that run at the same time (each has two processors)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) jobs: usize,
    /// Seconds that one kernel may take
    #[arg(long, value_name = "S", default_value_t = TIME_LIMIT)]
    pub(crate) time_limit: u64,
    /// Seconds that a guest may write nothing
    #[arg(long, value_name = "S", default_value_t = SILENCE_LIMIT)]
    pub(crate) silence_limit: u64,
    /// Debian mirror, the folder that holds `dists` [default: that of this machine's apt]
    #[arg(long, value_name = "URI")]
    pub(crate) mirror: Option<String>,
    /// Ask the mirror for newer kernels even if the index is recent
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Names of tests, or parts of them [default: all]
    #[arg(last = true, value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
}

impl Default for Options {
    /// What the command line gives when nothing is on it.
    fn default() -> Self {
        Self {
            kernels: Vec::new(),
            keep: false,
            object: None,
            e2e: None,
            jobs: 1,
            time_limit: TIME_LIMIT,
            silence_limit: SILENCE_LIMIT,
            mirror: None,
            refresh: false,
            filters: Vec::new(),
        }
    }
}

/// What became of one kernel.
#[derive(Debug)]
struct Outcome {
    kernel: &'static str,
    /// The kernel's release, if its packages were found.
    release: Option<String>,
    duration: Duration,
    /// Empty when nothing was wrong.
    fault: Option<String>,
    tally: Tally,
    kept: Vec<String>,
    warnings: Vec<String>,
}

/// What became of all of them.
#[derive(Debug)]
pub(crate) struct Report {
    outcomes: Vec<Outcome>,
}

impl Report {
    /// The tests of all kernels; a kernel that failed has at least one failure.
    pub(crate) fn tally(&self) -> Tally {
        self.outcomes.iter().map(|outcome| outcome.tally).sum()
    }

    /// An error if any kernel failed.
    pub(crate) fn into_result(self) -> Result<()> {
        let failed: Vec<_> = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.fault.is_some())
            .map(|outcome| outcome.kernel)
            .collect();
        if !failed.is_empty() {
            bail!("the tests failed on kernel {}", failed.join(", "));
        }
        Ok(())
    }
}

/// Runs the tests on every kernel that was asked for, then reports; one kernel's
/// failure does not keep the others from running.
///
/// # Errors
/// When nothing can be run at all: a wrong kernel name, a missing program, a
/// build that fails.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let kernels = chosen(&options.kernels)?;
    let filter = filter_argument(&options.filters)?;
    let qemu = exec::find("qemu-system-x86_64");
    let qemu = qemu.context(
        "`qemu-system-x86_64` is not installed, and the guests run in it: \
         apt-get install qemu-system-x86 (or run `cargo xtask setup`)",
    )?;
    for (program, package) in [
        ("apt-get", "apt"),
        ("dpkg", "dpkg"),
        ("depmod", "kmod"),
        ("xz", "xz-utils"),
        ("gzip", "gzip"),
    ] {
        exec::tool(program, package)?;
    }
    let mirrors = Mirrors::find(options.mirror.as_deref())?;
    let programs = Programs::build()?;
    let object = options.object.as_deref().map(exec::read).transpose()?;
    let lab = Lab {
        options,
        filter,
        accelerator: Accelerator::find(&qemu),
        qemu,
        mirrors,
        init: exec::read(&programs.init)?,
        programs: vec![
            (
                "sockmem-e2e",
                exec::read(options.e2e.as_ref().unwrap_or(&programs.e2e))?,
            ),
            ("sockmem-trace", exec::read(&programs.trace)?),
        ],
        object,
        folder: paths::target().join("vm"),
    };
    for part in ["log", "initramfs", "kernel"] {
        exec::make_folder(&lab.folder.join(part))?;
    }
    println!(
        "guests run on {:?}, {} at a time",
        lab.accelerator,
        options.jobs.max(1)
    );

    let queue = Mutex::new(kernels.into_iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no holder panics").next();
                    let Some((at, kernel)) = next else { break };
                    let outcome = lab.try_kernel(kernel);
                    outcomes
                        .lock()
                        .expect("no holder panics")
                        .push((at, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("no holder panics");
    outcomes.sort_by_key(|(at, _)| *at);
    let report = Report {
        outcomes: outcomes.into_iter().map(|(_, outcome)| outcome).collect(),
    };
    print_report(&report);
    Ok(report)
}

/// The kernels of these names, or all.
fn chosen(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let known = || {
        KERNELS
            .iter()
            .map(|kernel| kernel.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    names
        .iter()
        .map(|name| {
            kernel(name).with_context(|| format!("no kernel `{name}`: there are {}", known()))
        })
        .collect()
}

/// The filters as one word of a kernel command line.
fn filter_argument(filters: &[String]) -> Result<String> {
    let plain = |c: char| c.is_ascii_graphic() && c != ',' && c != '"';
    if let Some(bad) = filters
        .iter()
        .find(|word| word.is_empty() || !word.chars().all(plain))
    {
        bail!("the filter `{bad}` cannot go on a kernel command line: no spaces, commas or quotes");
    }
    if filters.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("sockmem.filter={}", filters.join(",")))
}

/// What all runs share.
struct Lab<'a> {
    options: &'a Options,
    filter: String,
    qemu: PathBuf,
    accelerator: Accelerator,
    mirrors: Mirrors,
    init: Vec<u8>,
    programs: Vec<(&'static str, Vec<u8>)>,
    object: Option<Vec<u8>>,
    folder: PathBuf,
}

impl Lab<'_> {
    /// Runs one kernel; what goes wrong on the way is its fault.
    fn try_kernel(&self, kernel: &'static Kernel) -> Outcome {
        let begin = Instant::now();
        let mut outcome = Outcome {
            kernel: kernel.name,
            release: None,
            duration: Duration::ZERO,
            fault: None,
            tally: Tally::default(),
            kept: Vec::new(),
            warnings: Vec::new(),
        };
        match self.boot(kernel, &mut outcome) {
            Ok(run) => {
                outcome.fault = run.transcript.fault(run.ending.as_deref());
                if let Some(tally) = run.transcript.summary.as_deref().and_then(e2e_summary) {
                    outcome.tally = tally;
                }
                outcome.warnings = run
                    .transcript
                    .troubles
                    .into_iter()
                    .map(|(_, line)| line)
                    .collect();
                outcome.kept = run.transcript.kept;
                outcome.duration = run.duration;
            }
            Err(error) => {
                outcome.fault = Some(format!("{error:#}"));
                outcome.duration = begin.elapsed();
            }
        }
        if outcome.fault.is_some() && outcome.tally.failed == 0 {
            outcome.tally.failed = 1;
        }
        outcome
    }

    fn boot(&self, kernel: &Kernel, outcome: &mut Outcome) -> Result<Run> {
        let unpacked = Apt::unpacked(kernel, &self.mirrors, &self.folder, self.options.refresh)?;
        outcome.release = Some(unpacked.release.clone());
        let modules = modules::read(&unpacked)?;
        if !modules.absent.is_empty() {
            println!(
                "kernel {}: has no {}",
                kernel.name,
                modules.absent.join(", ")
            );
        }
        let initramfs = self
            .folder
            .join("initramfs")
            .join(format!("{}.cpio.gz", kernel.name));
        let archive = initramfs::archive(&Contents {
            init: &self.init,
            programs: &self.programs,
            modules: &modules.files,
            object: self.object.as_deref(),
        });
        initramfs::write_compressed(&archive, &initramfs)?;
        drop(archive);

        let boot = Boot {
            qemu: self.qemu.clone(),
            accelerator: self.accelerator,
            vmlinuz: unpacked.vmlinuz()?,
            initramfs: initramfs.clone(),
            arguments: format!("sockmem.limit={} {}", self.options.time_limit, self.filter),
            log: self.log(kernel.name),
            time_limit: Duration::from_secs(self.options.time_limit),
            silence_limit: Duration::from_secs(self.options.silence_limit),
        };
        let fold = std::env::var_os("GITHUB_ACTIONS").is_some() && self.options.jobs < 2;
        println!(
            "{}kernel {} ({}), console in {}",
            if fold { "::group::" } else { "" },
            kernel.name,
            unpacked.release,
            boot.log.display()
        );
        let run = boot_until_started(kernel.name, || {
            boot.run(&mut |line| println!("[{}] {line}", kernel.name))
        });
        if fold {
            println!("::endgroup::");
        }
        let run = run?;
        let sound = run.transcript.fault(run.ending.as_deref()).is_none();
        if self.options.keep {
            println!("kernel {}: again by hand: {}", kernel.name, boot.shown());
        } else if sound {
            remove(&initramfs)?;
        }
        Ok(run)
    }

    fn log(&self, kernel: &str) -> PathBuf {
        self.folder.join("log").join(format!("{kernel}.log"))
    }
}

/// Boots a guest, again if it failed before its init had said anything.
fn boot_until_started(kernel: &str, mut boot: impl FnMut() -> Result<Run>) -> Result<Run> {
    for chance in 1..=SECOND_CHANCES {
        let run = boot()?;
        let Some(why) = run.false_start() else {
            return Ok(run);
        };
        println!(
            "[{kernel}] failed before its init ran ({why}); booting it again, {chance} of at most {SECOND_CHANCES}"
        );
    }
    boot()
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// The lines that the guests asked to be kept, then one verdict a kernel.
fn print_report(report: &Report) {
    for outcome in &report.outcomes {
        for line in &outcome.kept {
            println!("{:<7} {line}", outcome.kernel);
        }
    }
    for outcome in &report.outcomes {
        for line in &outcome.warnings {
            println!("{:<7} {line}", outcome.kernel);
        }
    }
    for outcome in &report.outcomes {
        let release = outcome.release.as_deref().unwrap_or("-");
        let seconds = outcome.duration.as_secs_f64();
        let Tally { passed, failed, .. } = outcome.tally;
        match &outcome.fault {
            None => {
                println!(
                    "kernel {:<7} pass  {passed} tests, {seconds:.1} s  {release}",
                    outcome.kernel
                );
            }
            Some(fault) => println!(
                "kernel {:<7} FAIL  {passed} passed, {failed} failed, {seconds:.1} s  {release}: {fault}",
                outcome.kernel
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kernel_is_refused_with_the_known_ones() {
        let error = chosen(&["4.19".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("4.19") && error.contains("5.10, 6.1, 6.12, newest"),
            "{error}"
        );
        assert_eq!(chosen(&[]).expect("all").len(), KERNELS.len());
    }

    #[test]
    fn filters_are_one_word_of_a_command_line() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(filter_argument(&[]).expect("none"), "");
        let two = filter_argument(&words(&["idle", "udp::a"])).expect("two");
        assert_eq!(two, "sockmem.filter=idle,udp::a");
        assert!(filter_argument(&words(&["a b"])).is_err());
        assert!(filter_argument(&words(&[""])).is_err());
    }

    fn run(lines: &[&str]) -> Run {
        let mut transcript = self::console::Transcript::default();
        for line in lines {
            transcript.take(line);
        }
        Run {
            transcript,
            started: lines.iter().any(|line| line.starts_with("VM-INIT:")),
            ending: None,
            duration: Duration::ZERO,
        }
    }

    #[test]
    fn only_a_guest_that_never_started_is_booted_again_and_not_for_ever() {
        let panic = "[    1.180000] Kernel panic - not syncing: Fatal exception";
        for (runs, boots, sound) in [
            (&[&["VM-INIT: x", "VM-VERDICT: pass 1"][..]][..], 1, true),
            (&[&[panic], &["VM-INIT: x", "VM-VERDICT: pass 1"]], 2, true),
            (&[&["VM-INIT: x", panic]], 1, false),
            (&[&[panic], &[panic], &[panic]], 3, false),
        ] {
            let mut count = 0;
            let last = boot_until_started("6.1", || {
                count += 1;
                Ok(run(runs[count - 1]))
            })
            .expect("a run");
            assert_eq!(count, boots, "{runs:?}");
            assert_eq!(last.transcript.fault(None).is_none(), sound, "{runs:?}");
        }
    }

    #[test]
    fn a_kernel_that_failed_fails_the_report() {
        let outcome = |fault: Option<&str>| Outcome {
            kernel: "6.1",
            release: None,
            duration: Duration::ZERO,
            fault: fault.map(str::to_owned),
            tally: Tally {
                passed: 2,
                failed: u64::from(fault.is_some()),
                ignored: 0,
            },
            kept: Vec::new(),
            warnings: Vec::new(),
        };
        let report = Report {
            outcomes: vec![outcome(None), outcome(Some("kernel panic"))],
        };
        assert_eq!(
            report.tally(),
            Tally {
                passed: 4,
                failed: 1,
                ignored: 0
            }
        );
        assert!(
            report
                .into_result()
                .unwrap_err()
                .to_string()
                .contains("6.1")
        );
        assert!(
            Report {
                outcomes: vec![outcome(None)]
            }
            .into_result()
            .is_ok()
        );
    }
}
