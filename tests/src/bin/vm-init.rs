//! Process 1 of a test guest: makes the file systems and the loopback device
//! that a system has, loads the modules, runs `/bin/sockmem-e2e`, prints one
//! verdict line and powers the guest off.
//!
//! It talks with `cargo xtask vm` through the kernel's command line
//! (`sockmem.filter=A,B`, `sockmem.limit=SECONDS`) and through the console: lines
//! that begin with `VM-INIT:` tell what it does, `VM-VERDICT: pass N` or
//! `VM-VERDICT: fail WHY` is the outcome.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

const E2E: &str = "/bin/sockmem-e2e";
const TRACE: &str = "/bin/sockmem-trace";
const OBJECT: &str = "/sockmem.bpf.o";

/// How long after the host's own limit the guest ends itself. It is for the case
/// that the host's side is gone and nothing else would end QEMU.
const PAST_LIMIT: Duration = Duration::from_secs(60);

/// How long the output of a finished test run may still be on its way, when a
/// process that the tests left behind holds the pipe open.
const LAST_LINES: Duration = Duration::from_secs(3);

fn main() {
    if std::process::id() != 1 {
        eprintln!("vm-init is the first process of a test guest: `cargo xtask vm` runs it");
        std::process::exit(2);
    }
    let verdict = match guest() {
        Ok(passed) => format!("pass {passed}"),
        Err(error) => format!("fail {}", format!("{error:#}").replace('\n', "; ")),
    };
    end(&verdict);
}

/// The whole life of the guest: the number of tests that passed.
fn guest() -> Result<u64> {
    mounts()?;
    let command_line = CommandLine::parse(&read("/proc/cmdline")?);
    let release = read("/proc/sys/kernel/osrelease")?;
    println!("VM-INIT: kernel {}", release.trim());
    if let Some(limit) = command_line.limit {
        std::thread::spawn(move || {
            std::thread::sleep(limit + PAST_LIMIT);
            end("fail the guest was past its time limit and nobody had ended it");
        });
    }
    nix::unistd::sethostname("sockmem-vm").context("cannot set the host name")?;
    loopback_up().context("cannot bring lo up")?;
    load_modules()?;
    println!("VM-INIT: running {E2E} {}", command_line.filters.join(" "));
    let tests = run_tests(&command_line.filters);
    // What the tests left behind must not write into the verdict.
    // ESRCH: they left nothing.
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(error).context("cannot end what the tests left behind"),
    }
    let passed = tests?;
    untainted(&read("/proc/sys/kernel/tainted")?)?;
    Ok(passed)
}

/// Prints the verdict and powers off.
fn end(verdict: &str) -> ! {
    // After a panic or a lock-up of a thread stdout's lock could be held: this
    // line and the power-off must not wait for it.
    let line = format!("\nVM-VERDICT: {verdict}\n");
    // SAFETY: the pointer and the length are those of a live string.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
    // SAFETY: no memory is involved. It waits until the console has sent
    // everything, which power-off would cut.
    unsafe { libc::tcdrain(1) };
    let refused = reboot(RebootMode::RB_POWER_OFF).unwrap_err();
    panic!("cannot power off: {refused}");
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// What the host put on the kernel's command line for this program.
#[derive(Debug, Default, PartialEq, Eq)]
struct CommandLine {
    filters: Vec<String>,
    limit: Option<Duration>,
}

impl CommandLine {
    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for word in text.split_whitespace() {
            if let Some(filters) = word.strip_prefix("sockmem.filter=") {
                parsed.filters = filters.split(',').map(str::to_owned).collect();
            } else if let Some(limit) = word.strip_prefix("sockmem.limit=") {
                parsed.limit = limit.parse().ok().map(Duration::from_secs);
            }
        }
        parsed
    }
}

/// Mounts what a booted system has. The first ones are needed; those that a
/// kernel may be built without only cost the tests that use them.
fn mounts() -> Result<()> {
    let place = |kind: &str, target: &str| -> Result<()> {
        std::fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
        match mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        ) {
            // devtmpfs may be mounted by the kernel itself.
            Ok(()) | Err(Errno::EBUSY) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot mount {kind} on {target}")),
        }
    };
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
    ] {
        place(kind, target)?;
    }
    for (kind, target) in [
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("tracefs", "/sys/kernel/tracing"),
        ("debugfs", "/sys/kernel/debug"),
        ("bpf", "/sys/fs/bpf"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        if let Err(error) = place(kind, target) {
            println!("VM-INIT: {error:#}");
        }
    }
    Ok(())
}

/// Sets `IFF_UP` on `lo`, as `ip link set lo up` does.
fn loopback_up() -> Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is plain old data: a name and a union of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed();
    }
    // SAFETY: request is a whole ifreq with a terminated name; the kernel writes
    // its flags into it.
    let got = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    Errno::result(got)?;
    // SAFETY: the call above filled this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::c_short::try_from(libc::IFF_UP)?;
    // SAFETY: as above; the kernel only reads it.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Errno::result(set)?;
    Ok(())
}

/// Loads `/modules/*` in the order of their names, which the host chose.
fn load_modules() -> Result<()> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir("/modules")
        .context("cannot read /modules")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let parameters: &CStr = c"";
        // SAFETY: the descriptor is open and the parameters are a terminated
        // string; the kernel keeps neither.
        let loaded = unsafe {
            libc::syscall(
                libc::SYS_finit_module,
                file.as_raw_fd(),
                parameters.as_ptr(),
                0,
            )
        };
        match Errno::result(loaded) {
            Ok(_) | Err(Errno::EEXIST) => {}
            // The tests that need it will say so.
            Err(error) => println!("VM-INIT: cannot load {}: {error}", path.display()),
        }
    }
    Ok(())
}

/// Runs the tests, passing their output on: the number that passed.
fn run_tests(filters: &[String]) -> Result<u64> {
    let (output, input) = std::io::pipe().context("cannot make a pipe")?;
    let mut command = Command::new(E2E);
    command
        .args(filters)
        .env_clear()
        .env("PATH", "/bin")
        .env("HOME", "/root")
        .env("TMPDIR", "/tmp")
        .env("RUST_BACKTRACE", "1")
        .env("SOCKMEM_VM", "1")
        .env("SOCKMEM_TRACE", TRACE)
        .stdin(Stdio::null())
        .stdout(input.try_clone().context("cannot copy the pipe")?)
        .stderr(input);
    if Path::new(OBJECT).is_file() {
        command.env("SOCKMEM_BPF_OBJECT", OBJECT);
    }
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {E2E}"))?;
    // The command holds the pipe's writing end too; the reader must see its end.
    drop(command);
    let child = Pid::from_raw(child.id().cast_signed());

    let (send, summaries) = mpsc::channel();
    std::thread::spawn(move || forward(output, &send));
    let status = reap_until(child)?;
    let mut summary = None;
    // Ends when the last writer has closed the pipe, or when that takes too long.
    while let Ok(next) = summaries.recv_timeout(LAST_LINES) {
        summary = Some(next);
    }
    judge(status, summary)
}

/// Prints the tests' lines and sends every summary among them.
fn forward(output: impl Read, summaries: &mpsc::Sender<Summary>) {
    for line in BufReader::new(output).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(counts) = Summary::parse(&line)
            && summaries.send(counts).is_err()
        {
            break;
        }
    }
}

/// The last line of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Summary {
    /// Reads a line such as `3 passed, 0 failed` or `3 passed, 0 failed, 1 skipped`.
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim().split(", ");
        let mut count = |what: &str| -> Option<u64> {
            parts.next()?.strip_suffix(what)?.trim_end().parse().ok()
        };
        let (passed, failed) = (count("passed")?, count("failed")?);
        Some(Self {
            passed,
            failed,
            skipped: count("skipped").unwrap_or(0),
        })
    }
}

/// Waits for everything that ends, orphans too, until `child` has.
fn reap_until(child: Pid) -> Result<WaitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(status) if status.pid() == Some(child) => return Ok(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the tests"),
        }
    }
}

/// What the tests' end and their last line mean.
fn judge(status: WaitStatus, summary: Option<Summary>) -> Result<u64> {
    let counts = summary.map_or_else(
        || "no summary line".to_owned(),
        |Summary { passed, failed, .. }| format!("{passed} passed, {failed} failed"),
    );
    match (status, summary) {
        (
            WaitStatus::Exited(_, 0),
            Some(Summary {
                passed: 0,
                failed: 0,
                skipped: 0,
            }),
        ) => {
            bail!("no test ran")
        }
        (
            WaitStatus::Exited(_, 0),
            Some(Summary {
                passed, failed: 0, ..
            }),
        ) => Ok(passed),
        (WaitStatus::Exited(_, 0), _) => bail!("the tests ended with status 0 but {counts}"),
        (WaitStatus::Exited(_, code), _) => bail!("{counts} (exit status {code})"),
        (WaitStatus::Signaled(_, signal, _), _) => {
            bail!("the tests were ended by {signal} with {counts}")
        }
        (other, _) => bail!("the tests ended strangely: {other:?}"),
    }
}

/// Fails if the kernel holds itself for damaged: a warning or an oops whose
/// words did not come over the console still sets a bit here
/// (`Documentation/admin-guide/tainted-kernels.rst`).
fn untainted(text: &str) -> Result<()> {
    let value: u64 = text
        .trim()
        .parse()
        .context("/proc/sys/kernel/tainted is not a number")?;
    let bits = [
        (5, "bad page"),
        (7, "oops"),
        (9, "warning"),
        (14, "soft lockup"),
    ];
    let set: Vec<_> = bits
        .iter()
        .filter(|(bit, _)| value >> bit & 1 == 1)
        .map(|(_, what)| *what)
        .collect();
    if !set.is_empty() {
        bail!("the kernel is tainted ({value}): {}", set.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> WaitStatus {
        WaitStatus::Exited(Pid::from_raw(7), code)
    }

    fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Summary> {
        Some(Summary {
            passed,
            failed,
            skipped,
        })
    }

    #[test]
    fn only_status_0_without_a_failure_is_a_pass() {
        assert_eq!(judge(exited(0), counts(3, 0, 0)).expect("a pass"), 3);
        assert_eq!(judge(exited(0), counts(0, 0, 2)).expect("a pass"), 0);
        let signaled = WaitStatus::Signaled(Pid::from_raw(7), Signal::SIGSEGV, false);
        for (status, summary, expected) in [
            (exited(0), None, "no summary line"),
            (exited(0), counts(0, 0, 0), "no test ran"),
            (exited(0), counts(3, 1, 0), "3 passed, 1 failed"),
            (
                exited(1),
                counts(3, 1, 0),
                "3 passed, 1 failed (exit status 1)",
            ),
            (signaled, None, "SIGSEGV"),
        ] {
            let error = judge(status, summary).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_command_line_gives_filters_and_limit() {
        let parsed =
            CommandLine::parse("console=ttyS0 sockmem.limit=90 sockmem.filter=a,b quiet\n");
        assert_eq!(parsed.filters, ["a", "b"]);
        assert_eq!(parsed.limit, Some(Duration::from_secs(90)));
        assert_eq!(CommandLine::parse("quiet"), CommandLine::default());
    }

    #[test]
    fn a_summary_is_a_line_of_its_own() {
        assert_eq!(Summary::parse("3 passed, 0 failed"), counts(3, 0, 0));
        assert_eq!(
            Summary::parse("3 passed, 1 failed, 2 skipped"),
            counts(3, 1, 2)
        );
        assert_eq!(Summary::parse("all passed, 0 failed"), None);
        assert_eq!(Summary::parse("3 passed"), None);
    }

    #[test]
    fn warnings_and_oopses_taint_and_unsigned_modules_do_not() {
        assert!(untainted("0\n").is_ok());
        assert!(
            untainted("12288\n").is_ok(),
            "out-of-tree and unsigned module"
        );
        let error = untainted("640\n").unwrap_err().to_string();
        assert!(error.contains("oops, warning"), "{error}");
        assert!(untainted("").is_err());
    }
}
