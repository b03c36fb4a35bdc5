//! A process held by a descriptor: readable when the process has ended, and never
//! another process of the same pid.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::procfs::ProcError;

/// Opens process `pid` (`pidfd_open(2)`, Linux 5.3). Needs no privilege; closed on exec.
///
/// # Errors
/// `ProcError::Gone` where there is no such process, or `pid` is a thread but not a process.
pub fn pidfd_open(pid: u32) -> Result<OwnedFd, ProcError> {
    let gone = || ProcError::Gone(pid);
    let number = libc::pid_t::try_from(pid).map_err(|_| gone())?;
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
    match RawFd::try_from(result) {
        // SAFETY: a non-negative result is a new descriptor that nobody else has.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => {
            let source = io::Error::last_os_error();
            match source.raw_os_error() {
                // EINVAL: 0 (no pid), or a thread; ENOENT: a thread, from 6.9.
                Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => Err(gone()),
                _ => Err(ProcError::Io {
                    path: PathBuf::from(format!("/proc/{pid}")),
                    source,
                }),
            }
        }
    }
}

/// Whether the process has ended (a zombie has).
///
/// # Errors
/// Errors of `poll(2)`.
pub fn has_ended(pidfd: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cat");
        let pidfd = pidfd_open(child.id()).expect("it runs");
        assert!(!has_ended(&pidfd).expect("poll"));
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
        assert!(has_ended(&pidfd).expect("poll"));
        assert!(!has_ended(&pidfd_open(std::process::id()).expect("own")).expect("poll"));
    }

    #[test]
    fn no_process_is_told() {
        // Above the highest pid that a kernel gives (2^22), no pid, and more than a pid_t.
        for pid in [5_000_000, 0, u32::MAX] {
            assert!(
                matches!(pidfd_open(pid), Err(ProcError::Gone(p)) if p == pid),
                "{pid}"
            );
        }
    }
}
