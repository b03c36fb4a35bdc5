//! Which sockets a process has open: the links in `/proc/PID/fd`.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest link that matters: `socket:[` with 20 digits and `]`.
const LINK: usize = 32;

/// The inode in a link `socket:[N]`; `None` for any other link.
pub(super) fn parse_socket_link(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Inodes of all sockets linked in `directory`, ascending, each once.
pub(super) fn socket_inodes(directory: &Path) -> io::Result<Vec<u64>> {
    // One open directory and readlinkat: the kernel resolves one name per
    // descriptor instead of the whole path, and nothing is allocated for it.
    let dir = File::open(directory)?;
    let mut inodes = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = CString::new(entry?.file_name().as_bytes())?;
        let mut buffer = [0; LINK];
        match read_link(dir.as_fd(), &name, &mut buffer) {
            Ok(link) => inodes.extend(parse_socket_link(link)),
            // Closed since the directory was read.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    inodes.sort_unstable();
    inodes.dedup();
    Ok(inodes)
}

/// `readlinkat`, cut to the buffer.
fn read_link<'a>(
    dir: BorrowedFd<'_>,
    name: &CString,
    buffer: &'a mut [u8; LINK],
) -> io::Result<&'a [u8]> {
    // SAFETY: `dir` is open, `name` NUL-terminated, and the kernel writes at most
    // `LINK` bytes into `buffer`, which is that long.
    let len = unsafe {
        libc::readlinkat(
            dir.as_raw_fd(),
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            LINK,
        )
    };
    match usize::try_from(len) {
        Ok(len) => Ok(&buffer[..len]),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
