//! A command that is started but waits: it runs its first instruction when the gate is opened, so
//! that a trace set up in between misses nothing of it.

use std::ffi::{CString, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execvp, fork};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

impl Ended {
    /// The status as a shell gives it: 128 and the signal's number for a command that was killed.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Ended::Exited(status) => status,
            Ended::Killed(signal) => signal.saturating_add(128),
        }
    }
}

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// No process for it.
    #[error("starting a process")]
    Fork(#[source] io::Error),
    /// A NUL in its arguments.
    #[error("an argument of the command contains a NUL byte")]
    Nul,
    /// exec(3) refused.
    #[error("{command} cannot be run: {why}")]
    Exec {
        /// Its name.
        command: String,
        /// Why.
        why: io::Error,
    },
}

/// A command that waits, then runs.
#[derive(Debug)]
pub struct Gate {
    pid: Pid,
    name: String,
    /// Closing it without writing lets the waiting process end.
    opener: Option<io::PipeWriter>,
    refusal: io::PipeReader,
    ended: Option<Ended>,
}

impl Gate {
    /// Starts a process that will become `command` (its name is looked up in `PATH`). Call it while
    /// this process has one thread. Where this process ends without opening the gate, so does that one.
    ///
    /// # Errors
    /// `GateError`.
    pub fn new(command: &[OsString]) -> Result<Self, GateError> {
        let arguments: Vec<CString> = command
            .iter()
            .map(|a| CString::new(a.clone().into_vec()).map_err(|_| GateError::Nul))
            .collect::<Result<_, _>>()?;
        let program = arguments.first().ok_or(GateError::Nul)?;
        // Both pipes are closed on exec, as everything that the standard library opens.
        let (mut gate, opener) = io::pipe().map_err(GateError::Fork)?;
        let (refusal, mut refuse) = io::pipe().map_err(GateError::Fork)?;
        // SAFETY: until it execs or exits, the child only calls read, close, execvp, write and
        // _exit on memory made before; with one thread in this process nobody holds a lock that
        // it could wait for.
        match unsafe { fork() }.map_err(|e| GateError::Fork(e.into()))? {
            ForkResult::Parent { child } => Ok(Gate {
                pid: child,
                name: command[0].to_string_lossy().into_owned(),
                opener: Some(opener),
                refusal,
                ended: None,
            }),
            ForkResult::Child => {
                drop(opener);
                drop(refusal);
                let mut word = [0];
                if matches!(gate.read(&mut word), Ok(1)) {
                    let Err(errno) = execvp(program, &arguments);
                    let _ = refuse.write_all(&(errno as i32).to_ne_bytes());
                }
                // SAFETY: ends this process at once, without what the parent's exit would do.
                unsafe { libc::_exit(127) }
            }
        }
    }

    /// The command's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Lets the command run.
    ///
    /// # Errors
    /// `GateError::Exec` where there is no such program, or it may not be run.
    pub fn open(&mut self) -> Result<(), GateError> {
        let refused = |why| GateError::Exec {
            command: self.name.clone(),
            why,
        };
        if let Some(mut opener) = self.opener.take() {
            opener.write_all(&[1]).map_err(refused)?;
        }
        let mut errno = [0; 4];
        match self.refusal.read_exact(&mut errno) {
            // exec has closed the other end.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(e) => Err(refused(e)),
            Ok(()) => Err(refused(io::Error::from_raw_os_error(i32::from_ne_bytes(
                errno,
            )))),
        }
    }

    /// Whether it has ended, and how. Does not wait.
    ///
    /// # Errors
    /// Of waitpid(2).
    pub fn ended(&mut self) -> io::Result<Option<Ended>> {
        self.reap(WaitPidFlag::WNOHANG)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Of waitpid(2).
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.reap(WaitPidFlag::empty())? {
                return Ok(ended);
            }
        }
    }

    fn reap(&mut self, flags: WaitPidFlag) -> io::Result<Option<Ended>> {
        if self.ended.is_none() {
            self.ended = match waitpid(self.pid, Some(flags)) {
                Ok(WaitStatus::Exited(_, status)) => Some(Ended::Exited(status as u8)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Killed(signal as u8)),
                Ok(_) | Err(Errno::EINTR) => None,
                Err(e) => return Err(e.into()),
            };
        }
        Ok(self.ended)
    }

    /// Sends it `signal`, if it still runs.
    pub fn pass_on(&self, signal: i32) {
        if let (None, Ok(signal)) = (self.ended, Signal::try_from(signal)) {
            // It may have ended just now; not reaped yet, its pid is nobody else's.
            let _ = kill(self.pid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Tests run in threads; these children exec or exit at once and take no lock.
    fn gate(command: &[&str]) -> Gate {
        let command: Vec<OsString> = command.iter().map(Into::into).collect();
        Gate::new(&command).expect("a process")
    }

    #[test]
    fn nothing_runs_before_the_gate_is_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let mark = dir.path().join("mark");
        let script = format!("touch {}; exit 7", mark.display());
        let mut waiting = gate(&["sh", "-c", &script]);
        assert_eq!(waiting.ended().expect("waitpid"), None);
        assert!(!mark.exists());
        waiting.open().expect("sh runs");
        assert_eq!(waiting.wait().expect("waitpid"), Ended::Exited(7));
        assert!(mark.exists());
        assert_eq!(waiting.ended().expect("known"), Some(Ended::Exited(7)));
    }

    #[test]
    fn a_gate_that_is_never_opened_leaves_nobody_behind() {
        let mut waiting = gate(&["sleep", "1000"]);
        waiting.opener = None;
        assert_eq!(waiting.wait().expect("waitpid"), Ended::Exited(127));
    }

    #[test]
    fn signals_and_refusals_are_told() {
        let mut killed = gate(&["sleep", "1000"]);
        killed.open().expect("sleep runs");
        killed.pass_on(libc::SIGTERM);
        let ended = killed.wait().expect("waitpid");
        assert_eq!((ended, ended.status()), (Ended::Killed(15), 143));
        let mut none = gate(&["/nonexistent/program"]);
        let why = none.open().unwrap_err().to_string();
        assert!(
            why.contains("/nonexistent/program") && why.contains("No such file"),
            "{why}"
        );
        none.wait().expect("waitpid");
    }
}
