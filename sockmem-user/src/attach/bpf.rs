//! bpf(2) calls that aya 0.14 does not offer: batched look-ups, single runs of a program, iterators
//! to their end, and `bpf_prog_info.recursion_misses`.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya::Pod;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

/// One bpf(2) call.
pub(super) fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a fully initialised bpf_attr, and the caller has filled in
    // the member that `cmd` reads with pointers that outlive the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            cmd as libc::c_int,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(rc)
    }
}

pub(super) fn zeroed() -> bpf_attr {
    // SAFETY: bpf_attr is a union of plain integers; all zeroes is a valid value.
    unsafe { std::mem::zeroed() }
}

/// Takes ownership of a descriptor that bpf(2) returned.
pub(super) fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just given this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Copies elements `from..` of an array map into `values`, as many as there is room for.
/// Returns how many there were.
///
/// # Errors
/// Of bpf(2).
pub fn read_array<V: Pod>(map: BorrowedFd<'_>, from: u32, values: &mut [V]) -> io::Result<usize> {
    // The kernel begins behind the position it is given.
    let mut position = from.wrapping_sub(1);
    let mut next = 0u32;
    let mut keys = vec![0u32; values.len()];
    let mut attr = zeroed();
    attr.batch.in_batch = if from == 0 {
        0
    } else {
        (&raw mut position) as u64
    };
    attr.batch.out_batch = (&raw mut next) as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    attr.batch.map_fd = map.as_raw_fd() as u32;
    match bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) {
        Ok(_) => {}
        // The map's end.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
        Err(e) => return Err(e),
    }
    // SAFETY: the kernel wrote `count` of the member that was passed in.
    Ok(unsafe { attr.batch.count } as usize)
}

/// Runs a raw tracepoint program once, with these arguments.
///
/// # Errors
/// Of bpf(2).
pub fn run(program: BorrowedFd<'_>, arguments: &[u64; 3]) -> io::Result<()> {
    let mut attr = zeroed();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.ctx_in = arguments.as_ptr() as u64;
    attr.test.ctx_size_in = size_of_val(arguments) as u32;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

/// Reads an iterator to its end; its program writes nothing.
pub fn run_to_end(fd: OwnedFd) -> io::Result<()> {
    let mut file = std::fs::File::from(fd);
    let mut buffer = [0u8; 256];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            // EAGAIN: the kernel stops after some time and asks to be called again.
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
}

/// `recursion_misses` of a program: runs that the kernel skipped because a program of this
/// trace was running on that CPU already; `None` before 5.12, which has no such guard.
///
/// # Errors
/// Of bpf(2).
pub fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    // SAFETY: bpf_prog_info is made of plain integers; all zeroes is a valid value.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the kernel wrote `info_len` of the member that was passed in.
    let len = unsafe { attr.info.info_len } as usize;
    let known = len >= std::mem::offset_of!(bpf_prog_info, recursion_misses) + 8;
    Ok(known.then_some(info.recursion_misses))
}
