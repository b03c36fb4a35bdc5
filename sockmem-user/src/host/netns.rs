//! Work in another process's network namespace.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Why a network namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The process is gone.
    #[error("there is no process {0} whose network namespace could be entered: it has ended")]
    Gone(u32),
    /// Not allowed.
    #[error(
        "entering the network namespace of process {pid} needs CAP_SYS_ADMIN and CAP_SYS_PTRACE, and the kernel refused it ({source}): run it with sudo"
    )]
    Denied {
        /// Whose namespace.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Any other failure.
    #[error("entering the network namespace of process {pid}: {source}")]
    Io {
        /// Whose namespace.
        pid: u32,
        /// What failed.
        source: io::Error,
    },
}

impl NetnsError {
    fn new(pid: u32, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => NetnsError::Gone(pid),
            Some(libc::EACCES | libc::EPERM) => NetnsError::Denied { pid, source },
            _ => NetnsError::Io { pid, source },
        }
    }
}

/// Runs `work` in the network namespace of process `pid` and returns its value.
///
/// The calling thread stays where it is: `work` runs on a thread of its own,
/// unless both are in the same namespace already; then it runs here. Sockets
/// that `work` opens keep their namespace and may be returned; `/proc/net` and
/// `/proc/sys/net` must be read inside, the former as `/proc/thread-self/net`.
///
/// # Errors
/// `NetnsError` where the namespace cannot be entered; `work` has not run then.
///
/// # Panics
/// If `work` does.
pub fn in_netns_of<T: Send>(pid: u32, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let failed = |source| NetnsError::new(pid, source);
    let target = File::open(format!("/proc/{pid}/ns/net")).map_err(failed)?;
    // Namespace files are equal when device and inode are (ioctl_ns(2), NOTES of namespaces(7)).
    let own = std::fs::metadata("/proc/thread-self/ns/net").map_err(failed)?;
    let there = target.metadata().map_err(failed)?;
    if (own.dev(), own.ino()) == (there.dev(), there.ino()) {
        return Ok(work());
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, || {
                // Changes this thread alone; it ends with the closure.
                setns(&target, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
        match thread.map_err(failed)?.join() {
            Ok(result) => result.map_err(failed),
            Err(panicked) => panic::resume_unwind(panicked),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::host::procfs::Procfs;
    use crate::host::sock_diag::SockDiag;

    fn own() -> u64 {
        std::fs::metadata("/proc/thread-self/ns/net")
            .expect("own namespace")
            .ino()
    }

    #[test]
    fn the_own_namespace_needs_no_thread_and_no_privilege() {
        let caller = thread::current().id();
        let pid = std::process::id();
        let ran_on = in_netns_of(pid, || thread::current().id()).expect("own namespace");
        assert_eq!(ran_on, caller);
    }

    #[test]
    fn failures_name_the_process() {
        // Above the highest pid that a kernel gives (2^22).
        let error = in_netns_of(5_000_000, || ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no process 5000000 whose network namespace could be entered: it has ended"
        );
        let denied = NetnsError::new(7, io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(denied.contains("process 7 needs CAP_SYS_ADMIN"), "{denied}");
        assert!(denied.ends_with("run it with sudo"), "{denied}");
    }

    /// A process that does nothing in a network namespace of its own, until dropped.
    struct Elsewhere(Child);

    impl Elsewhere {
        fn start() -> Self {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            // SAFETY: unshare is one system call without memory of its own, so it may be
            // called between fork and exec.
            unsafe {
                command.pre_exec(|| {
                    nix::sched::unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
                });
            }
            Elsewhere(command.spawn().expect("cat starts in a new namespace"))
        }
    }

    impl Drop for Elsewhere {
        fn drop(&mut self) {
            drop(self.0.stdin.take()); // cat ends with its input
            let _ = self.0.wait();
        }
    }

    #[test]
    #[ignore = "needs root: makes a network namespace"]
    fn work_runs_elsewhere_and_the_caller_stays() {
        let before = own();
        let there = Elsewhere::start();
        let pid = there.0.id();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let (inside, mut diag) =
            in_netns_of(pid, || (own(), SockDiag::open().expect("sock_diag opens")))
                .expect("root may enter it");
        assert_ne!(inside, before);
        assert_eq!(
            inside,
            Procfs::default().netns_inode(pid).expect("its namespace")
        );
        assert_eq!(own(), before);
        // Opened inside, used outside: it still shows the other, empty namespace.
        let info = diag
            .dump_tcp(|socket| panic!("not empty: {socket:?}"))
            .expect("dump");
        assert_eq!(info.sockets, 0);
        drop(listener);
    }
}
