//! Which sockets a process has open: the links in `/proc/PID/fd`.
//!
//! A server may have tens of thousands, so nothing is allocated for one: directory entries are
//! read into a block as the kernel writes them, and each link is read by the name that lies there.
//! What is left is the kernel's own, about 3 µs a descriptor and 4.5 µs when nobody looked at it
//! before (6.18): a part of it is spent listing, the rest reading links, so that two threads share it.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::facts::inventory::Holder;

/// The longest link that matters: `socket:[` with 20 digits and `]`.
const LINK: usize = 32;
/// Bytes of directory entries read at once: some 340 descriptors.
const BLOCK: usize = 8 * 1024;
/// Blocks that wait before the thread that lists reads links itself.
const WAITING: usize = 16;

/// `d_name` in `struct linux_dirent64` (include/linux/dirent.h): behind `d_ino` and `d_off` of
/// eight bytes, `d_reclen` of two, `d_type` of one.
const D_NAME: usize = 19;
/// `d_reclen`.
const D_RECLEN: usize = 16;

/// The inode in a link `socket:[N]`; `None` for any other link.
pub(super) fn parse_socket_link(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    decimal(digits)
}

/// A number in digits alone.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, d| {
        let digit = u64::from(d.wrapping_sub(b'0'));
        (digit <= 9)
            .then(|| n.checked_mul(10)?.checked_add(digit))
            .flatten()
    })
}

/// Names in a block of `struct linux_dirent64`, in place. Ends at the first that is broken.
pub(super) fn names(block: &[u8]) -> impl Iterator<Item = &CStr> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(
            rest.get(D_RECLEN..D_RECLEN + 2)?.try_into().ok()?,
        ));
        let entry = rest.get(..len)?;
        rest = &rest[len..];
        CStr::from_bytes_until_nul(entry.get(D_NAME..)?).ok()
    })
}

/// Inodes of all sockets linked in `directory`, ascending, each once.
pub(super) fn socket_inodes(directory: &Path) -> io::Result<Vec<u64>> {
    let dir = File::open(directory)?;
    let mut inodes = Vec::new();
    let mut block = vec![0; BLOCK];
    loop {
        let len = list(dir.as_fd(), &mut block)?;
        if len == 0 {
            break;
        }
        links(dir.as_fd(), &block[..len], |_, inode| inodes.push(inode))?;
    }
    inodes.sort_unstable();
    inodes.dedup();
    Ok(inodes)
}

/// A block of a process's directory, its links not read yet.
struct Block {
    dir: Arc<File>,
    pid: u32,
    entries: Vec<u8>,
}

impl Block {
    fn read(&self, found: &mut Vec<Holder>) {
        let pid = self.pid;
        // What fails here is a process that ends: its descriptors are gone.
        let _ = links(self.dir.as_fd(), &self.entries, |name, inode| {
            if let Some(fd) = decimal(name.to_bytes()).and_then(|n| u32::try_from(n).ok()) {
                found.push(Holder { inode, pid, fd });
            }
        });
    }
}

#[derive(Default)]
struct Queue {
    blocks: VecDeque<Block>,
    closed: bool,
}

/// Descriptors of many processes, looked through by one thread that lists and any that help.
#[derive(Default)]
pub struct FdWalk {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl FdWalk {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the descriptors in `directory`, of process `pid`; links that no other thread
    /// has taken by the time that many wait are read here, into `found`.
    pub(super) fn list(
        &self,
        directory: &Path,
        pid: u32,
        found: &mut Vec<Holder>,
    ) -> io::Result<()> {
        let dir = Arc::new(File::open(directory)?);
        loop {
            let mut entries = vec![0; BLOCK];
            let len = list(dir.as_fd(), &mut entries)?;
            if len == 0 {
                return Ok(());
            }
            entries.truncate(len);
            let block = Block {
                dir: Arc::clone(&dir),
                pid,
                entries,
            };
            // A short block is the whole directory: not worth another thread.
            if len < BLOCK / 2 || self.lock().blocks.len() >= WAITING {
                block.read(found);
            } else {
                self.lock().blocks.push_back(block);
                self.changed.notify_one();
            }
        }
    }

    /// Nothing more will be listed.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Reads links until there are none and no more will come.
    pub fn help(&self, found: &mut Vec<Holder>) {
        loop {
            let mut queue = self.lock();
            let block = loop {
                if let Some(block) = queue.blocks.pop_front() {
                    break block;
                }
                if queue.closed {
                    return;
                }
                queue = self
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            block.read(found);
        }
    }
}

/// Reads every link in a block of entries; sockets go to `each`.
fn links(dir: BorrowedFd<'_>, block: &[u8], mut each: impl FnMut(&CStr, u64)) -> io::Result<()> {
    let mut buffer = [0; LINK];
    for name in names(block) {
        match read_link(dir, name, &mut buffer) {
            Ok(link) => {
                if let Some(inode) = parse_socket_link(link) {
                    each(name, inode);
                }
            }
            // Closed since the directory was read; or `.` and `..`, which are no links.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `getdents64`: bytes written to `block`; 0 at the end.
fn list(dir: BorrowedFd<'_>, block: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `dir` is open, and the kernel writes at most `block.len()` bytes to `block`.
    let len = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_raw_fd(),
            block.as_mut_ptr(),
            block.len(),
        )
    };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

/// `readlinkat`, cut to the buffer.
fn read_link<'a>(
    dir: BorrowedFd<'_>,
    name: &CStr,
    buffer: &'a mut [u8; LINK],
) -> io::Result<&'a [u8]> {
    let to = buffer.as_mut_ptr().cast();
    // SAFETY: `dir` is open, `name` NUL-terminated, and the kernel writes at most
    // `LINK` bytes to `to`, which points at as many.
    let len = unsafe { libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), to, LINK) };
    match usize::try_from(len) {
        Ok(len) => Ok(&buffer[..len]),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
