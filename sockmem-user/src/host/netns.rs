//! Network namespaces: which there are, and work in another one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::procfs::Procfs;

/// Where programs keep namespaces that need no process in them: iproute2's `ip netns`, docker's.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// A network namespace, and a way in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// That of a process.
    Process(u32),
    /// One that a file keeps alive.
    File(PathBuf),
}

/// The network namespaces that these processes are in, by inode number, then those kept by
/// files; and how many processes do not show theirs. One that only an open socket or
/// descriptor keeps alive cannot be found.
#[must_use]
pub fn list(procfs: &Procfs, pids: &[u32]) -> (BTreeMap<u64, Door>, u32) {
    let mut found = BTreeMap::new();
    let mut denied = 0;
    for pid in pids {
        match procfs.netns_inode(*pid) {
            Ok(inode) => {
                found.entry(inode).or_insert(Door::Process(*pid));
            }
            Err(super::procfs::ProcError::Denied { .. }) => denied += 1,
            // It has ended.
            Err(_) => {}
        }
    }
    for directory in NAMED {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            // A namespace that was taken down leaves an empty file of another file system.
            if let Ok(metadata) = fs::metadata(entry.path())
                && is_namespace(&entry.path())
            {
                found
                    .entry(metadata.ino())
                    .or_insert_with(|| Door::File(entry.path()));
            }
        }
    }
    (found, denied)
}

/// Whether the file is one of the kernel's namespace files (`NSFS_MAGIC`).
fn is_namespace(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// Runs `work` in the namespace behind `door`, as `in_netns_of`.
///
/// # Errors
/// As `in_netns_of`.
///
/// # Panics
/// If `work` does.
pub fn in_netns<T: Send>(door: &Door, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    match door {
        Door::Process(pid) => in_netns_of(*pid, work),
        Door::File(path) => enter(path, work).map_err(|source| NetnsError::File {
            path: path.clone(),
            source,
        }),
    }
}

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
    /// One that a file keeps alive.
    #[error(
        "entering the network namespace {} needs CAP_SYS_ADMIN: {source}; run it with sudo",
        path.display()
    )]
    File {
        /// Which.
        path: PathBuf,
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
    enter(Path::new(&format!("/proc/{pid}/ns/net")), work)
        .map_err(|source| NetnsError::new(pid, source))
}

fn enter<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let target = File::open(path)?;
    // Namespace files are equal when device and inode are (ioctl_ns(2), NOTES of namespaces(7)).
    let own = fs::metadata("/proc/thread-self/ns/net")?;
    let there = target.metadata()?;
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
        match thread?.join() {
            Ok(result) => result,
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
