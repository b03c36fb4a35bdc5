//! bpf(2) calls that aya 0.14 does not offer: batched look-ups, iterators over a map,
//! and `bpf_prog_info.recursion_misses`.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya::Pod;
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_info};

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

/// Reads every entry of a hash map, some hundred entries per system call. `each` gets copies.
/// Entries inserted or removed meanwhile may or may not be seen.
///
/// # Errors
/// Of bpf(2); `ENOSPC` (a bucket with more entries than a batch holds) is met by growing it.
pub fn for_each_entry<V: Pod>(
    map: BorrowedFd<'_>,
    max_entries: u32,
    mut each: impl FnMut(u64, &V),
) -> io::Result<()> {
    let mut batch = max_entries.clamp(1, 512);
    let mut position: u64 = 0;
    let mut first = true;
    let mut keys: Vec<u64> = Vec::new();
    let mut values: Vec<V> = Vec::new();
    loop {
        keys.resize(batch as usize, 0);
        // SAFETY: V is Pod, so all zeroes is a valid value.
        values.resize_with(batch as usize, || unsafe { std::mem::zeroed() });
        let mut next: u64 = 0;
        let mut attr = zeroed();
        attr.batch.in_batch = if first { 0 } else { (&raw mut position) as u64 };
        attr.batch.out_batch = (&raw mut next) as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = batch;
        attr.batch.map_fd = map.as_raw_fd() as u32;
        let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        // SAFETY: the kernel wrote `count` of the member that was passed in.
        let count = unsafe { attr.batch.count } as usize;
        let end = match result {
            Ok(_) => false,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && batch < max_entries => {
                batch = (batch * 2).min(max_entries);
                continue;
            }
            Err(e) => return Err(e),
        };
        for (key, value) in keys.iter().zip(&values).take(count) {
            each(*key, value);
        }
        if end {
            return Ok(());
        }
        position = next;
        first = false;
    }
}

/// A link of an iterator program to one map.
#[derive(Debug)]
pub struct MapIterLink(OwnedFd);

impl MapIterLink {
    /// Links `program` (an `iter/bpf_map_elem`) to `map`.
    ///
    /// # Errors
    /// Of bpf(2).
    pub fn new(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<Self> {
        // union bpf_iter_link_info { struct { __u32 map_fd; } map; … }, uapi/linux/bpf.h.
        let mut info: [u32; 2] = [map.as_raw_fd() as u32, 0];
        let mut attr = zeroed();
        attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
        attr.link_create.__bindgen_anon_3.__bindgen_anon_1.iter_info = info.as_mut_ptr() as u64;
        attr.link_create
            .__bindgen_anon_3
            .__bindgen_anon_1
            .iter_info_len = 4;
        Ok(Self(owned(bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)?)))
    }

    /// Runs the program once for each entry of the map.
    ///
    /// # Errors
    /// Of bpf(2) or read(2).
    pub fn run(&self) -> io::Result<()> {
        let mut attr = zeroed();
        attr.iter_create.link_fd = self.0.as_raw_fd() as u32;
        run_to_end(owned(bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr)?))
    }
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
