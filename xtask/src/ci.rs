//! `cargo xtask test` and `cargo xtask ci`: every check, all of them run even if
//! one fails, and as the very last line the number of tests.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::tally::{Tally, e2e_summary, libtest_line};
use crate::{ebpf, exec, paths, python, vm};

/// Seconds that one kernel may take: two guests may share two processors.
const TIME_LIMIT: u64 = 30 * 60;

/// How `ci` runs the virtual machines.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Guests that run at the same time (each has two processors)
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Debian mirror, the folder that holds `dists` [default: that of this machine's apt]
    #[arg(long, value_name = "URI")]
    mirror: Option<String>,
}

/// Checks this machine can do without a virtual one.
pub(crate) fn test() -> ExitCode {
    let mut steps = Steps::default();
    host_steps(&mut steps);
    steps.finish()
}

/// All of `test`, then the object rebuilt from source and tried on every kernel.
pub(crate) fn ci(options: &Options) -> ExitCode {
    let mut steps = Steps::default();
    host_steps(&mut steps);
    steps.run("rebuild of the eBPF object", || {
        ebpf::verify().map(|()| None)
    });
    steps.run("virtual machines", || {
        let object = paths::rebuilt_object();
        if !object.is_file() {
            // The committed object says nothing about these sources.
            bail!("there is no rebuilt eBPF object to test");
        }
        let report = vm::run(&vm::Options {
            jobs: options.jobs,
            time_limit: TIME_LIMIT,
            mirror: options.mirror.clone(),
            object: Some(object),
            ..vm::Options::default()
        })?;
        Ok(Some(report.tally()))
    });
    steps.finish()
}

fn host_steps(steps: &mut Steps) {
    let check = |command: &mut Command| exec::run(command).map(|()| None);
    steps.run("formatting", || {
        check(cargo().args(["fmt", "--all", "--check"]))
    });
    steps.run("formatting of sockmem-ebpf", || {
        check(cargo().args(["fmt", "--check", "--manifest-path", EBPF]))
    });
    steps.run("lints", || {
        let clippy = [
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        check(cargo().args(clippy))
    });
    steps.run("lints of sockmem-ebpf", || check(&mut ebpf_clippy()));
    steps.run("unit tests", || unit_tests().map(Some));
    steps.run("committed eBPF object", || ebpf::check().map(|()| None));
    steps.run("exported files, read by other programs", || {
        python::exports(|command| counted(command, e2e_summary))
    });
    steps.run("end-to-end tests on this kernel", host_e2e);
}

const EBPF: &str = "sockmem-ebpf/Cargo.toml";

fn cargo() -> Command {
    let mut command = exec::cargo();
    command.current_dir(paths::workspace());
    command
}

/// Lints the eBPF crate for this machine's own target. No compiler of an eBPF
/// toolchain comes with a clippy of its own version (Debian's has none), and
/// clippy generates no code: what it reads is the same for either target.
fn ebpf_clippy() -> Command {
    let mut command = cargo();
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    command
        .args([
            "clippy",
            "--locked",
            "--manifest-path",
            EBPF,
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(paths::target().join("ebpf/lint"))
        .args(["--", "-D", "warnings"])
        // The crate uses eBPF assembly, an unstable feature of the language.
        .env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Runs all unit tests.
fn unit_tests() -> Result<Tally> {
    let mut command = cargo();
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    counted(&mut command, libtest_line)
}

/// Runs the tests that need no more than this kernel, as root. Programs are those
/// of the virtual machines: static ones run here too.
fn host_e2e() -> Result<Option<Tally>> {
    if !exec::is_root() {
        println!("left out: loading eBPF programs needs root");
        return Ok(None);
    }
    let programs = vm::Programs::build()?;
    let mut command = Command::new(&programs.e2e);
    command.arg("--host").env("SOCKMEM_TRACE", &programs.trace);
    let tally = counted(&mut command, e2e_summary)?;
    if tally == Tally::default() {
        bail!("`{}` ran no test", exec::shown(&command));
    }
    Ok(Some(tally))
}

/// Runs a command, passing on what it prints, and sums up the counts on its
/// lines. Failed tests are counted; they are no error here.
fn counted(command: &mut Command, counts: fn(&str) -> Option<Tally>) -> Result<Tally> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", exec::shown(command)))?;
    let output = child.stdout.take().context("the output was not piped")?;
    let mut sum = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        sum = [sum].into_iter().chain(counts(&line)).sum();
    }
    let status = child.wait()?;
    if !status.success() && sum.failed == 0 {
        // A build that failed, or a test program that died without a count.
        bail!(
            "`{}` failed: {status} ({} passed before)",
            exec::shown(command),
            sum.passed
        );
    }
    Ok(sum)
}

/// What became of the steps so far.
#[derive(Debug, Default)]
struct Steps {
    tally: Tally,
    failed: Vec<String>,
}

impl Steps {
    /// Runs one step and keeps its outcome. A step that fails without a failed
    /// test counts as one.
    fn run(&mut self, name: &str, step: impl FnOnce() -> Result<Option<Tally>>) {
        let begin = Instant::now();
        println!("== {name}");
        let outcome = step();
        let seconds = begin.elapsed().as_secs_f64();
        let (tally, why) = match outcome {
            Ok(tally) => {
                let tally = tally.unwrap_or_default();
                let why = format!("{} tests failed", tally.failed);
                (tally, (tally.failed > 0).then_some(why))
            }
            Err(error) => (
                Tally {
                    failed: 1,
                    ..Tally::default()
                },
                Some(format!("{error:#}")),
            ),
        };
        self.tally = [self.tally, tally].into_iter().sum();
        match why {
            None => println!("== {name}: ok, {seconds:.1} s"),
            Some(why) => {
                println!("== {name}: FAILED, {seconds:.1} s: {why}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Names what failed, and ends with the counts.
    fn finish(self) -> ExitCode {
        for name in &self.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", self.tally.passed, self.tally.failed);
        if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_steps_and_a_broken_step_is_one_failure() {
        let mut steps = Steps::default();
        let tally = |passed, failed, ignored| Tally {
            passed,
            failed,
            ignored,
        };
        steps.run("a", || Ok(Some(tally(5, 0, 1))));
        steps.run("b", || Ok(None));
        steps.run("c", || bail!("no compiler"));
        steps.run("d", || Ok(Some(tally(1, 2, 0))));
        assert_eq!(steps.tally, tally(6, 3, 1));
        assert_eq!(steps.failed, ["c", "d"]);
        assert_eq!(
            format!("{:?}", steps.finish()),
            format!("{:?}", ExitCode::FAILURE)
        );
    }

    #[test]
    fn a_programs_counts_are_read_even_if_it_fails() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '2 passed, 1 failed'; exit 1"]);
        let tally = counted(&mut command, e2e_summary).expect("counts");
        assert_eq!(
            tally,
            Tally {
                passed: 2,
                failed: 1,
                ignored: 0
            }
        );
    }

    #[test]
    fn a_program_that_dies_without_a_failed_test_is_an_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '2 passed, 0 failed'; exit 101"]);
        let error = counted(&mut command, e2e_summary).unwrap_err().to_string();
        assert!(error.contains("exit status: 101"), "{error}");
    }
}
