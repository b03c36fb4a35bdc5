//! BPF objects in the kernel, by the `bpf` system call and `/proc`.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::unistd::Pid;

// enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_PROG_GET_NEXT_ID: i32 = 11;
const BPF_MAP_GET_NEXT_ID: i32 = 12;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_MAP_GET_FD_BY_ID: i32 = 14;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_LINK_GET_NEXT_ID: i32 = 31;

/// Ids of the programs, maps and links that a process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    /// Programs, also those held through links.
    pub(crate) programs: BTreeSet<u32>,
    /// Maps.
    pub(crate) maps: BTreeSet<u32>,
    /// Links.
    pub(crate) links: BTreeSet<u32>,
}

impl Objects {
    /// What `/proc/PID/fdinfo` names.
    pub(crate) fn of_process(pid: Pid) -> Result<Objects> {
        let mut out = Objects::default();
        let dir = format!("/proc/{pid}/fdinfo");
        for entry in std::fs::read_dir(&dir).with_context(|| dir.clone())? {
            // A descriptor may close while we look.
            let Ok(text) = std::fs::read_to_string(entry?.path()) else {
                continue;
            };
            for line in text.lines() {
                let Some((key, value)) = line.split_once(':') else {
                    continue;
                };
                let Ok(id) = value.trim().parse() else {
                    continue;
                };
                match key {
                    "prog_id" => out.programs.insert(id),
                    "map_id" => out.maps.insert(id),
                    "link_id" => out.links.insert(id),
                    _ => false,
                };
            }
        }
        Ok(out)
    }

    /// Which of them the kernel still has, in words.
    pub(crate) fn alive(&self) -> Result<Vec<String>> {
        let mut out = Vec::new();
        for (kind, next, ids) in [
            ("program", BPF_PROG_GET_NEXT_ID, &self.programs),
            ("map", BPF_MAP_GET_NEXT_ID, &self.maps),
            ("link", BPF_LINK_GET_NEXT_ID, &self.links),
        ] {
            for id in all(next)?.intersection(ids) {
                out.push(format!(
                    "{kind} {id} {}",
                    name(kind, *id).unwrap_or_default()
                ));
            }
        }
        Ok(out)
    }
}

/// `union bpf_attr`, as far as these commands use it, zero-padded.
#[repr(C, align(8))]
struct Attr([u32; 32]);

fn bpf(command: i32, attr: &mut Attr) -> io::Result<i64> {
    let attr = std::ptr::from_mut(attr);
    // SAFETY: `attr` points to 128 bytes, the size given; the kernel requires that what it
    // does not know is zero, which it is.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<Attr>()) };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(rc)
    }
}

/// Every id of one kind.
fn all(next: i32) -> Result<BTreeSet<u32>> {
    let mut out = BTreeSet::new();
    let mut id = 0;
    loop {
        let mut attr = Attr([0; 32]);
        attr.0[0] = id;
        match bpf(next, &mut attr) {
            Ok(_) => id = attr.0[1],
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(out),
            Err(e) => return Err(e).context("bpf(BPF_*_GET_NEXT_ID): needs CAP_SYS_ADMIN"),
        }
        out.insert(id);
    }
}

/// The name that the loader gave to a program or map.
fn name(kind: &str, id: u32) -> Option<String> {
    // Offset of `name` in struct bpf_prog_info and struct bpf_map_info.
    let (command, at) = match kind {
        "program" => (BPF_PROG_GET_FD_BY_ID, 64),
        "map" => (BPF_MAP_GET_FD_BY_ID, 24),
        _ => return None,
    };
    let mut attr = Attr([0; 32]);
    attr.0[0] = id;
    let raw = RawFd::try_from(bpf(command, &mut attr).ok()?).ok()?;
    // SAFETY: the kernel has just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut info = [0_u8; 80];
    let address = info.as_mut_ptr() as u64;
    let mut attr = Attr([0; 32]);
    attr.0[0] = fd.as_raw_fd().cast_unsigned();
    attr.0[1] = info.len() as u32;
    attr.0[2] = address as u32;
    attr.0[3] = (address >> 32) as u32;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).ok()?;
    let bytes = &info[at..at + 16];
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// What is pinned in bpffs, at its usual place; empty where none is mounted.
pub(crate) fn pins() -> BTreeSet<PathBuf> {
    let mut out = BTreeSet::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/bpf")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                dirs.push(entry.path());
            }
            out.insert(entry.path());
        }
    }
    out
}
