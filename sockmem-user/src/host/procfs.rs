//! Processes, as `/proc` shows them.
//!
//! Every call may race with the process ending: that is `ProcError::Gone`, and
//! calls over many processes leave such ones out.

mod fds;
mod owners;
mod stat;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use fds::FdWalk;
pub use stat::{Stat, parse_stat};

/// Why something under `/proc/PID` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// There is no such process, or it ended meanwhile.
    #[error("there is no process {0}: it has ended, or never was; `ps -e` lists those that run")]
    Gone(u32),
    /// The kernel does not show it to this process.
    #[error(
        "reading {} needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and this process may not: run it with sudo",
        path.display()
    )]
    Denied {
        /// What was to be read.
        path: PathBuf,
    },
    /// Any other failure.
    #[error("reading {}: {source}", path.display())]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// The file is not written as proc(5) says.
    #[error("{} is not in the form that proc(5) describes", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
    },
}

/// Bytes of a command line that are read.
pub const CMDLINE_MOST: usize = 1024;

/// What a process's resident memory is made of. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RssSplit {
    /// `VmRSS`: the sum, what `top` calls RES.
    pub total: u64,
    /// `RssAnon`: heap and stacks.
    pub anon: u64,
    /// `RssFile`: mapped files.
    pub file: u64,
    /// `RssShmem`: shared memory.
    pub shmem: u64,
}

/// A `/proc`.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
}

impl Default for Procfs {
    fn default() -> Self {
        Procfs::at("/proc")
    }
}

impl Procfs {
    /// One mounted elsewhere than at `/proc`, or a tree that looks like one.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Procfs { root: root.into() }
    }

    fn path(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(name)
    }

    fn read(&self, pid: u32, name: &str) -> Result<Vec<u8>, ProcError> {
        let path = self.path(pid, name);
        fs::read(&path).map_err(|source| self.error(pid, path, source))
    }

    fn error(&self, pid: u32, path: PathBuf, source: io::Error) -> ProcError {
        match source.kind() {
            ErrorKind::PermissionDenied => ProcError::Denied { path },
            // ESRCH: the file was opened while the process was alive.
            _ if source.raw_os_error() == Some(libc::ESRCH) => ProcError::Gone(pid),
            ErrorKind::NotFound if !self.root.join(pid.to_string()).exists() => {
                ProcError::Gone(pid)
            }
            _ => ProcError::Io { path, source },
        }
    }

    /// Every process that can be seen, in order of pid. Processes hidden by the
    /// mount option `hidepid` are not among them.
    ///
    /// # Errors
    /// `ProcError` where `/proc` itself cannot be read.
    pub fn pids(&self) -> Result<Vec<u32>, ProcError> {
        let failed = |source| ProcError::Io {
            path: self.root.clone(),
            source,
        };
        let mut pids = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            pids.extend(name.to_str().and_then(number));
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// Whether the process exists (a zombie does).
    #[must_use]
    pub fn exists(&self, pid: u32) -> bool {
        self.root.join(pid.to_string()).exists()
    }

    /// Inodes of the sockets that the process holds open, ascending, each once
    /// however many descriptors it has. Descriptors that close meanwhile are left out.
    ///
    /// # Errors
    /// `ProcError`; `Denied` for another user's process without the capabilities.
    pub fn socket_inodes(&self, pid: u32) -> Result<Vec<u64>, ProcError> {
        let path = self.path(pid, "fd");
        fds::socket_inodes(&path).map_err(|source| self.error(pid, path, source))
    }

    /// How many descriptors the process has open, without looking at any: the size that the kernel
    /// states for `/proc/PID/fd` (6.2 and later). `None` where it states none.
    #[must_use]
    pub fn descriptors(&self, pid: u32) -> Option<u64> {
        let size = std::fs::metadata(self.path(pid, "fd")).ok()?.len();
        (size > 0).then_some(size)
    }

    /// The process's name, as the kernel gives it: at most 15 bytes, any of them
    /// possible save NUL; bytes that are not UTF-8 become U+FFFD. Not escaped.
    ///
    /// # Errors
    /// `ProcError`.
    pub fn comm(&self, pid: u32) -> Result<String, ProcError> {
        let bytes = self.read(pid, "comm")?;
        // The kernel adds one newline; others belong to the name.
        let name = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    /// The command line, its arguments joined by blanks, at most `CMDLINE_MOST` bytes of it; `None`
    /// where it has none (kernel threads, zombies).
    ///
    /// # Errors
    /// `ProcError`.
    pub fn cmdline(&self, pid: u32) -> Result<Option<String>, ProcError> {
        let path = self.path(pid, "cmdline");
        let mut bytes = Vec::new();
        // It may be megabytes long.
        fs::File::open(&path)
            .and_then(|file| file.take(CMDLINE_MOST as u64).read_to_end(&mut bytes))
            .map_err(|source| self.error(pid, path, source))?;
        // Programs that write their title there leave zeroes behind it.
        let mut arguments = bytes.as_slice();
        while let Some(rest) = arguments.strip_suffix(b"\0") {
            arguments = rest;
        }
        let joined: Vec<u8> = arguments
            .iter()
            .map(|b| if *b == 0 { b' ' } else { *b })
            .collect();
        let text = String::from_utf8_lossy(&joined).into_owned();
        Ok((!text.is_empty()).then_some(text))
    }

    /// `/proc/PID/stat`.
    ///
    /// # Errors
    /// `ProcError`.
    pub fn stat(&self, pid: u32) -> Result<Stat, ProcError> {
        let bytes = self.read(pid, "stat")?;
        parse_stat(&bytes).ok_or_else(|| ProcError::Malformed {
            path: self.path(pid, "stat"),
        })
    }

    /// When the process started: clock ticks since boot (`sysconf(_SC_CLK_TCK)` a
    /// second). With the pid it tells processes apart after the pid was used again.
    ///
    /// # Errors
    /// `ProcError`.
    pub fn start_time(&self, pid: u32) -> Result<u64, ProcError> {
        Ok(self.stat(pid)?.start_ticks)
    }

    /// Path of the process's cgroup: see `cgroup::process_path`.
    ///
    /// # Errors
    /// `ProcError`; `Malformed` also where the kernel has no cgroups that tell.
    pub fn cgroup_path(&self, pid: u32) -> Result<String, ProcError> {
        let bytes = self.read(pid, "cgroup")?;
        super::cgroup::process_path(&String::from_utf8_lossy(&bytes)).ok_or_else(|| {
            ProcError::Malformed {
                path: self.path(pid, "cgroup"),
            }
        })
    }

    /// Inode number of the process's network namespace (`SockState::netns`).
    ///
    /// # Errors
    /// `ProcError`; `Denied` for another user's process without CAP_SYS_PTRACE.
    pub fn netns_inode(&self, pid: u32) -> Result<u64, ProcError> {
        let path = self.path(pid, "ns/net");
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.ino()),
            Err(source) => Err(self.error(pid, path, source)),
        }
    }

    /// What the process's resident memory is made of; `None` for a kernel thread
    /// or a zombie, which have none.
    ///
    /// # Errors
    /// `ProcError`.
    pub fn rss_split(&self, pid: u32) -> Result<Option<RssSplit>, ProcError> {
        Ok(parse_rss(&String::from_utf8_lossy(
            &self.read(pid, "status")?,
        )))
    }

    /// Parent of every process that can be seen. One read per process.
    ///
    /// # Errors
    /// `ProcError` where `/proc` itself cannot be read.
    pub fn parents(&self) -> Result<BTreeMap<u32, u32>, ProcError> {
        Ok(self
            .pids()?
            .into_iter()
            .filter_map(|p| Some((p, self.stat(p).ok()?.ppid)))
            .collect())
    }

    /// The process's children, ascending.
    ///
    /// # Errors
    /// `ProcError` where `/proc` itself cannot be read. A process that does not
    /// exist has no children.
    pub fn children(&self, pid: u32) -> Result<Vec<u32>, ProcError> {
        Ok(self
            .parents()?
            .into_iter()
            .filter(|&(_, p)| p == pid)
            .map(|(c, _)| c)
            .collect())
    }

    /// The process's children, theirs, and so on, nearest first. A child that
    /// was forked while this looked may be missing.
    ///
    /// # Errors
    /// As `children`.
    pub fn descendants(&self, pid: u32) -> Result<Vec<u32>, ProcError> {
        Ok(descendants(&self.parents()?, pid))
    }

    /// Processes of exactly this name, ascending. As the kernel cuts names to 15
    /// bytes, a longer `name` is cut likewise.
    ///
    /// # Errors
    /// `ProcError` where `/proc` itself cannot be read.
    pub fn find_by_comm(&self, name: &str) -> Result<Vec<u32>, ProcError> {
        let cut = &name.as_bytes()[..name.len().min(COMM_MAX)];
        let wanted = String::from_utf8_lossy(cut);
        let mut pids = self.pids()?;
        pids.retain(|&pid| self.comm(pid).is_ok_and(|comm| comm == wanted));
        Ok(pids)
    }

    /// Processes in the cgroup and all below it, ascending. `path` is either as
    /// `cgroup_path` gives it or a directory of the cgroup file system.
    ///
    /// # Errors
    /// `ProcError::Io` with `NotFound` where there is no such cgroup.
    pub fn pids_in_cgroup(&self, path: &Path) -> Result<Vec<u32>, ProcError> {
        let mountinfo = self.root.join("self/mountinfo");
        let text = fs::read(&mountinfo).map_err(|source| ProcError::Io {
            path: mountinfo.clone(),
            source,
        })?;
        let mounts = super::cgroup::parse_mounts(&String::from_utf8_lossy(&text));
        super::cgroup::pids_below(&mounts, path).map_err(|source| ProcError::Io {
            path: path.to_owned(),
            source,
        })
    }
}

/// `TASK_COMM_LEN` without its NUL.
const COMM_MAX: usize = 15;

/// A directory name that is a pid: digits only, as `"+1".parse()` would pass too.
fn number(name: &str) -> Option<u32> {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        name.parse().ok()
    } else {
        None
    }
}

/// Everything below `pid` in a map from child to parent, breadth first.
fn descendants(parents: &BTreeMap<u32, u32>, pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (&child, &parent) in parents {
        children.entry(parent).or_default().push(child);
    }
    let mut found = Vec::new();
    let mut queue = VecDeque::from([pid]);
    while let Some(parent) = queue.pop_front() {
        // Taken out, so that a loop (pids reused while they were read) ends.
        let below = children.remove(&parent).unwrap_or_default();
        queue.extend(&below);
        found.extend(below);
    }
    found.retain(|&child| child != pid);
    found
}

/// Reads the `Rss*` lines of `/proc/PID/status`; `None` where they are missing.
fn parse_rss(status: &str) -> Option<RssSplit> {
    let bytes = |key: &str| -> Option<u64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim()
            .strip_suffix("kB")?
            .trim_end()
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    };
    Some(RssSplit {
        total: bytes("VmRSS")?,
        anon: bytes("RssAnon")?,
        file: bytes("RssFile")?,
        shmem: bytes("RssShmem")?,
    })
}

#[cfg(test)]
mod tests;
