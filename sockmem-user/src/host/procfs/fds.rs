//! Which sockets a process has open: the links in `/proc/PID/fd`.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Write};
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

/// From this many descriptors on they are tried by number rather than listed.
const MANY: u64 = 256;
/// How many unused numbers in a row end that.
const GAP: u32 = 32;

/// Inodes of all sockets linked in `directory`, ascending, each once.
pub(super) fn socket_inodes(directory: &Path) -> io::Result<Vec<u64>> {
    let dir = File::open(directory)?;
    let mut inodes = Vec::new();
    // From 6.2 the directory's size is the number of open descriptors; before it is 0.
    let count = dir.metadata()?.len();
    if count < MANY || !by_number(&dir, count, &mut inodes)? {
        inodes.clear();
        by_name(&dir, directory, &mut inodes)?;
    }
    inodes.sort_unstable();
    inodes.dedup();
    Ok(inodes)
}

/// Follows the links that the directory lists.
fn by_name(dir: &File, directory: &Path, inodes: &mut Vec<u64>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let name = CString::new(entry?.file_name().as_bytes())?;
        follow(dir.as_fd(), &name, inodes)?;
    }
    Ok(())
}

/// Tries 0, 1, 2, … until all `count` descriptors were found; whether they were.
///
/// Numbers are given out lowest first, so a process with many descriptors has
/// them side by side. Having the kernel list them makes its first reading cost
/// more than twice as much: 7.1 µs a descriptor against 2.9 µs (8,000 on 6.18).
fn by_number(dir: &File, count: u64, inodes: &mut Vec<u64>) -> io::Result<bool> {
    let mut found = 0;
    let mut gap = 0;
    let mut holes = 0;
    let mut number = 0u32;
    let mut name = [0; 12]; // ten digits and a NUL
    // Not only until `count`: descriptors that are opened and closed meanwhile
    // may have been counted in place of the last ones.
    while found < count || gap < GAP {
        if follow(dir.as_fd(), name_of(number, &mut name)?, inodes)? {
            found += 1;
            gap = 0;
        } else {
            gap += 1;
            holes += 1;
        }
        // Scattered numbers: listing is cheaper.
        if found < count && holes > count / 2 {
            return Ok(false);
        }
        number += 1;
    }
    Ok(true)
}

/// Writes a number's decimal digits and a NUL.
fn name_of(number: u32, buffer: &mut [u8; 12]) -> io::Result<&CStr> {
    buffer.fill(0);
    write!(&mut buffer[..], "{number}")?;
    CStr::from_bytes_until_nul(buffer).map_err(io::Error::other)
}

/// Follows one link and keeps the inode of a socket; whether there is such a link.
fn follow(dir: BorrowedFd<'_>, name: &CStr, inodes: &mut Vec<u64>) -> io::Result<bool> {
    let mut buffer = [0; LINK];
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
    let Ok(len) = usize::try_from(len) else {
        let error = io::Error::last_os_error();
        // Closed meanwhile, or never open.
        return if error.raw_os_error() == Some(libc::ENOENT) {
            Ok(false)
        } else {
            Err(error)
        };
    };
    inodes.extend(parse_socket_link(&buffer[..len]));
    Ok(true)
}
