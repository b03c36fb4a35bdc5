//! What a control group's memory controller says of socket buffers.
//!
//! Version 2: `sock` in `memory.stat`, charged in the same calls and pages as `tcp_mem`
//! (`mem_cgroup_charge_skmem`, mm/memcontrol.c; from 6.18 `mem_cgroup_sk_charge`). Version 1: `memory.kmem.tcp.usage_in_bytes`,
//! which counts only after a limit was set (`tcpmem_active`, mm/memcontrol.c@5.10).

use std::path::Path;
use std::{fs, io};

use super::cgroup::CgroupMounts;
use crate::facts::memory::MemcgSock;

/// The bytes of `sock` in the text of a version 2 `memory.stat`.
#[must_use]
pub fn parse_sock(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("sock "))?
        .trim_end()
        .parse()
        .ok()
}

/// As `read`, of the control group that a process is in.
///
/// # Errors
/// As `read`; and for the root group: its sockets are charged to none (`mem_cgroup_sk_alloc`,
/// mm/memcontrol.c), so that what its file says is other groups'.
pub fn of_process(mounts: &CgroupMounts, path: &str) -> Result<MemcgSock, String> {
    if path.trim_matches('/').is_empty() {
        return Err(
            "the process is in the root control group, whose sockets are charged to no group"
                .into(),
        );
    }
    read(mounts, path)
}

/// Reads what the control group `path` (as `cgroup::process_path` gives it) holds in sockets.
///
/// # Errors
/// A sentence that says why it is not known.
pub fn read(mounts: &CgroupMounts, path: &str) -> Result<MemcgSock, String> {
    let relative = path.trim_start_matches('/');
    let mut reasons = Vec::new();
    if let Some(root) = &mounts.v2 {
        let file = root.join(relative).join("memory.stat");
        match fs::read_to_string(&file) {
            Ok(text) => match parse_sock(&text) {
                Some(bytes) => return Ok(found(&file, "sock", bytes)),
                None => reasons.push(format!("{} has no line sock", file.display())),
            },
            Err(error) => reasons.push(why(&file, &error)),
        }
    }
    if let Some(root) = &mounts.v1_memory {
        let file = root.join(relative).join("memory.kmem.tcp.usage_in_bytes");
        let number = |file: &Path| -> io::Result<Option<u64>> {
            Ok(fs::read_to_string(file)?.trim_end().parse().ok())
        };
        match number(&file) {
            // Without a limit nothing is counted, and 0 would be a lie.
            Ok(Some(0)) => {
                let limit = number(&root.join(relative).join("memory.kmem.tcp.limit_in_bytes"));
                match limit {
                    Ok(Some(limit)) if limit < UNLIMITED => {
                        return Ok(found(&file, "memory.kmem.tcp", 0));
                    }
                    _ => reasons.push(format!(
                        "{} counts only once memory.kmem.tcp.limit_in_bytes was set (cgroup version 1)",
                        file.display()
                    )),
                }
            }
            Ok(Some(bytes)) => return Ok(found(&file, "memory.kmem.tcp", bytes)),
            Ok(None) => reasons.push(format!("{} is not a number", file.display())),
            Err(error) => reasons.push(why(&file, &error)),
        }
    }
    if reasons.is_empty() {
        reasons.push("no cgroup file system with a memory controller is mounted".to_owned());
    }
    Err(reasons.join("; "))
}

/// `PAGE_COUNTER_MAX` in bytes is near 2^63; nobody sets a limit of a quarter of it.
const UNLIMITED: u64 = 1 << 61;

fn found(file: &Path, field: &str, bytes: u64) -> MemcgSock {
    MemcgSock {
        source: format!("{} {field}", file.display()),
        bytes,
    }
}

fn why(file: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", file.display()),
        _ => format!("{}: {error}", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sock_is_found_among_others() {
        assert_eq!(
            parse_sock("anon 1\nsock 34816000\nshmem 2\n"),
            Some(34_816_000)
        );
        assert_eq!(parse_sock("socket 7\nsock_throttled 1\n"), None);
        assert_eq!(parse_sock("sock -1\n"), None);
        assert_eq!(parse_sock(""), None);
    }

    #[test]
    fn version_1_without_a_limit_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("a");
        fs::create_dir(&group).unwrap();
        let mounts = CgroupMounts {
            v2: None,
            v1_memory: Some(dir.path().to_owned()),
        };
        let write = |name: &str, text: &str| fs::write(group.join(name), text).unwrap();
        assert!(read(&mounts, "/a").unwrap_err().contains("does not exist"));
        write("memory.kmem.tcp.usage_in_bytes", "0\n");
        write("memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n");
        assert!(
            read(&mounts, "/a")
                .unwrap_err()
                .contains("counts only once")
        );
        write("memory.kmem.tcp.limit_in_bytes", "1048576\n");
        assert_eq!(read(&mounts, "/a").unwrap().bytes, 0);
        write("memory.kmem.tcp.usage_in_bytes", "4096\n");
        assert_eq!(read(&mounts, "/a").unwrap().bytes, 4096);
    }

    #[test]
    fn version_2_comes_first_and_nothing_is_said_to_be_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("memory.stat"), "sock 8192\n").unwrap();
        let mounts = CgroupMounts {
            v2: Some(dir.path().to_owned()),
            v1_memory: Some("/nonexistent".into()),
        };
        let read = read(&mounts, "/").unwrap();
        assert_eq!(read.bytes, 8192);
        assert!(read.source.ends_with("memory.stat sock"));
        assert!(
            of_process(&mounts, "/")
                .unwrap_err()
                .contains("root control group")
        );
        let none = super::read(&CgroupMounts::default(), "/").unwrap_err();
        assert!(none.contains("no cgroup file system"));
    }
}
