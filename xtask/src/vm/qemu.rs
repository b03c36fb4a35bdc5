//! One run of one guest: QEMU started, its console followed, and ended if the
//! guest does not end by itself.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::console::{Transcript, Trouble, kernel_text, plain};
use crate::exec;

/// How the guest's processor is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// By the host's processor.
    Kvm,
    /// In software.
    Tcg,
}

impl Accelerator {
    /// KVM if a guest can be made with it, software otherwise. That
    /// `/dev/kvm` opens is not enough: inside a virtual machine QEMU may open it
    /// and then abort on a register, where its own fallback does not help.
    pub(crate) fn find(qemu: &Path) -> Self {
        let opens = File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        if opens && starts_with_kvm(qemu) {
            Self::Kvm
        } else {
            Self::Tcg
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }
}

/// Makes a halted guest with KVM and ends it through QEMU's monitor.
fn starts_with_kvm(qemu: &Path) -> bool {
    let mut command = Command::new(qemu);
    command
        .args(["-accel", "kvm", "-cpu", CPU, "-smp", "2", "-m", "256", "-S"])
        .args(["-nodefaults", "-display", "none", "-monitor", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let asked = child
        .stdin
        .take()
        .is_some_and(|mut monitor| monitor.write_all(b"quit\n").is_ok());
    let ended = child.wait().is_ok_and(|status| status.success());
    asked && ended
}

/// What to boot and how long it may take.
#[derive(Debug)]
pub(crate) struct Boot {
    /// The QEMU program.
    pub(crate) qemu: PathBuf,
    pub(crate) accelerator: Accelerator,
    pub(crate) vmlinuz: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// Put behind the fixed part of the kernel's command line.
    pub(crate) arguments: String,
    /// Where the whole console goes.
    pub(crate) log: PathBuf,
    /// The whole run.
    pub(crate) time_limit: Duration,
    /// From one console line to the next.
    pub(crate) silence_limit: Duration,
}

/// How a run went.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) transcript: Transcript,
    /// Whether the guest's init said anything.
    pub(crate) started: bool,
    /// Why the run was ended, if the guest did not end it.
    pub(crate) ending: Option<String>,
    pub(crate) duration: Duration,
}

impl Run {
    /// What went wrong before the guest's own first program spoke: nothing that is under test
    /// had run then.
    pub(crate) fn false_start(&self) -> Option<String> {
        if self.started {
            return None;
        }
        self.transcript.fault(self.ending.as_deref())
    }
}

/// How long a kernel that has failed may go on explaining itself.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// From one line to the next while the kernel boots; in software it takes some ten seconds.
const BOOT_SILENCE: Duration = Duration::from_secs(120);

/// Everything but five-level page tables: emulated, they and the mitigations (`COMMAND_LINE`)
/// cost a third of the time (attaching three tiers on 6.12: 19.8 s with both, 13.6 s without).
const CPU: &str = "max,la57=off";

/// The guest's fixed command line.
///
/// `quiet` would hide warnings (it shows only what is more severe), `loglevel=5`
/// behind it shows them. The lockup detector waits longer than by default
/// (20 s): in software emulation on a busy host a processor can stand still for
/// that long through no fault of the guest.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=5 panic=-1 oops=panic mitigations=off \
     watchdog_thresh=30 rcupdate.rcu_cpu_stall_timeout=60 net.ifnames=0";

impl Boot {
    fn command(&self) -> Command {
        // A guest outlives a killed xtask otherwise: QEMU does not mind that
        // nobody reads its console any more.
        let mut command = match exec::find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL"]).arg(&self.qemu);
                command
            }
            None => Command::new(&self.qemu),
        };
        command
            .args(["-accel", self.accelerator.argument(), "-cpu", CPU])
            .args(["-smp", "2", "-m", "1536"])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio", "-monitor", "none"])
            .arg("-kernel")
            .arg(&self.vmlinuz)
            .arg("-initrd")
            .arg(&self.initramfs)
            .arg("-append")
            .arg(format!("{COMMAND_LINE} {}", self.arguments));
        command
    }

    /// The QEMU command line, to repeat a run by hand.
    pub(crate) fn shown(&self) -> String {
        exec::shown(&self.command())
    }

    /// Runs the guest to its end. `show` is given every line that a program of
    /// the guest wrote.
    ///
    /// # Errors
    /// When QEMU cannot be started or the log not be written. A guest that
    /// fails is no error here.
    pub(crate) fn run(&self, show: &mut dyn FnMut(&str)) -> Result<Run> {
        let mut log = File::create(&self.log)
            .with_context(|| format!("cannot make {}", self.log.display()))?;
        writeln!(log, "{}", self.shown())?;
        let begin = Instant::now();
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", exec::shown(&command)))?;
        let mut guest = Guest(child);
        let output = guest
            .0
            .stdout
            .take()
            .context("QEMU's output was not piped")?;
        let (send, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { break };
                if send.send(plain(&line)).is_err() {
                    break;
                }
            }
        });

        let mut transcript = Transcript::default();
        let mut started = false;
        let mut deadline = begin + self.time_limit;
        let mut ending = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let silence = if started {
                self.silence_limit
            } else {
                self.silence_limit.min(BOOT_SILENCE)
            };
            match lines.recv_timeout(left.min(silence)) {
                Ok(line) => {
                    let seconds = begin.elapsed().as_secs_f64();
                    writeln!(log, "{seconds:8.2} {line}")?;
                    let trouble = transcript.take(&line);
                    started |= line.starts_with("VM-INIT:");
                    let program = started && !line.is_empty() && kernel_text(&line).is_none();
                    if trouble.is_some() || program {
                        show(&line);
                    }
                    if trouble.is_some_and(Trouble::is_fatal) {
                        deadline = deadline.min(Instant::now() + LAST_WORDS);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    ending = Some(if Instant::now() < deadline {
                        let seconds = silence.as_secs();
                        format!("hang: nothing on the console for {seconds} s")
                    } else {
                        let seconds = begin.elapsed().as_secs();
                        format!("the guest was still running after {seconds} s")
                    });
                    break;
                }
            }
        }
        let status = guest.end(ending.is_some())?;
        // The other end of its pipe is closed now.
        let _ = reader.join();
        if ending.is_none() && !status.success() && transcript.verdicts.is_empty() {
            ending = Some(format!(
                "QEMU failed ({status}): see {}",
                self.log.display()
            ));
        }
        Ok(Run {
            transcript,
            started,
            ending,
            duration: begin.elapsed(),
        })
    }
}

/// The QEMU process of a run, which never outlives it.
struct Guest(Child);

impl Guest {
    fn end(&mut self, by_force: bool) -> std::io::Result<std::process::ExitStatus> {
        if by_force {
            self.0.kill()?;
        }
        self.0.wait()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both do nothing to a process that was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
