//! Cgroups: which one a process is in, where they are mounted, who is in them.
//!
//! Version 2 has one hierarchy. Version 1 has one for each controller, and a
//! host may have both at once ("hybrid"); then the memory controller's is the
//! one that matters here, as it is what limits a process's memory.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupMounts {
    /// The version 2 hierarchy.
    pub v2: Option<PathBuf>,
    /// The version 1 hierarchy of the memory controller.
    pub v1_memory: Option<PathBuf>,
}

/// The path in `/proc/PID/cgroup`, relative to the hierarchy's root, as the
/// kernel gives it (unescaped; of a removed cgroup with ` (deleted)` behind it).
///
/// The version 2 path; where that is missing or only the root, the version 1
/// path of the memory controller if there is one. `None` without either.
#[must_use]
pub fn process_path(text: &str) -> Option<String> {
    let mut v2 = None;
    let mut memory = None;
    for line in text.lines() {
        // hierarchy-ID:controllers:path; only the path may contain a colon.
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if id == "0" && controllers.is_empty() {
            v2 = Some(path);
        } else if controllers.split(',').any(|name| name == "memory") {
            memory = Some(path);
        }
    }
    match (v2, memory) {
        (Some("/") | None, Some(memory)) => Some(memory.to_owned()),
        (v2, _) => v2.map(str::to_owned),
    }
}

/// Reads `/proc/PID/mountinfo` for where cgroups are mounted; of several mounts the first.
#[must_use]
pub fn parse_mounts(mountinfo: &str) -> CgroupMounts {
    let mut mounts = CgroupMounts::default();
    for mount in parse_mountinfo(mountinfo) {
        match mount.kind {
            "cgroup2" => {
                mounts.v2.get_or_insert(mount.at);
            }
            "cgroup"
                if mount
                    .super_options
                    .split(',')
                    .any(|option| option == "memory") =>
            {
                mounts.v1_memory.get_or_insert(mount.at);
            }
            _ => {}
        }
    }
    mounts
}

/// One line of `/proc/PID/mountinfo`.
pub(super) struct Mount<'a> {
    /// Mount point.
    pub(super) at: PathBuf,
    /// File system type.
    pub(super) kind: &'a str,
    super_options: &'a str,
}

/// The lines of `/proc/PID/mountinfo`; those that are not as proc(5) says are skipped.
pub(super) fn parse_mountinfo(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        // A number of optional fields, then " - ", then type, source and super options.
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let kind = tail.next()?;
        Some(Mount {
            at: PathBuf::from(unescape(head.split(' ').nth(4)?)),
            kind,
            super_options: tail.nth(1).unwrap_or_default(),
        })
    })
}

/// Undoes the kernel's octal escapes of blanks and backslashes (`\040`) in mountinfo.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok())
        {
            // The kernel escapes only blank, tab, newline, '#' and backslash: all ASCII.
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            _ => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// Processes in the cgroup and all below it, ascending, each once. `path` is
/// either a directory of the cgroup file system or a path as `process_path` gives it.
///
/// # Errors
/// `NotFound` where no hierarchy has such a cgroup; other errors of reading it.
pub fn pids_below(mounts: &CgroupMounts, path: &Path) -> io::Result<Vec<u32>> {
    let roots = [mounts.v2.as_deref(), mounts.v1_memory.as_deref()];
    let relative = path.strip_prefix("/").unwrap_or(path);
    let inside = roots.into_iter().flatten().map(|root| root.join(relative));
    let candidates = std::iter::once(path.to_owned()).chain(inside);
    let mut pids = Vec::new();
    let mut found = false;
    for directory in candidates {
        // In a hybrid host the same path may exist in both hierarchies.
        if directory.join("cgroup.procs").exists() {
            found = true;
            collect(&directory, &mut pids)?;
        }
    }
    if !found {
        return Err(io::Error::new(
            ErrorKind::NotFound,
            "no cgroup of this name; `systemd-cgls` or `cat /proc/PID/cgroup` shows those there are",
        ));
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn collect(directory: &Path, pids: &mut Vec<u32>) -> io::Result<()> {
    match fs::read_to_string(directory.join("cgroup.procs")) {
        // 0 stands for a process of another pid namespace.
        Ok(text) => {
            let listed = text.lines().filter_map(|line| line.parse::<u32>().ok());
            pids.extend(listed.filter(|&pid| pid != 0));
        }
        // Threaded cgroups list no processes: those are in the domain above.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(error) if vanished(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if vanished(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), pids)?;
        }
    }
    Ok(())
}

/// The cgroup was removed while it was read.
fn vanished(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_version_2_unless_memory_is_elsewhere() {
        let path = |text| process_path(text);
        assert_eq!(path("0::/system.slice/nginx.service\n").as_deref(), {
            Some("/system.slice/nginx.service")
        });
        assert_eq!(path("0::/\n").as_deref(), Some("/"));
        assert_eq!(path("0::/a:b c\n").as_deref(), Some("/a:b c"));
        let v1 = "12:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/1f\n1:name=systemd:/y\n";
        assert_eq!(path(v1).as_deref(), Some("/docker/1f"));
        let hybrid = format!("{v1}0::/\n");
        assert_eq!(path(&hybrid).as_deref(), Some("/docker/1f"));
        let systemd_hybrid = format!("{v1}0::/user.slice\n");
        assert_eq!(path(&systemd_hybrid).as_deref(), Some("/user.slice"));
        assert_eq!(path("3:cpuset:/z\n4:memoryless:/q\n"), None);
        assert_eq!(path("\n:\nmemory\n"), None);
    }

    const MOUNTINFO: &str = "\
21 25 0:20 / /proc rw,relatime shared:5 - proc proc rw
30 23 0:26 / /sys/fs/cgroup/unified rw shared:10 master:2 - cgroup2 cgroup2 rw,nsdelegate
31 23 0:27 / /sys/fs/cg\\040roup/memory rw - cgroup cgroup rw,hugetlb,memory
32 23 0:27 / /elsewhere rw - cgroup cgroup rw,memory
33 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
34 short line
35 1 1 1 - cgroup2";

    #[test]
    fn mounts_are_found_and_unescaped() {
        let mounts = parse_mounts(MOUNTINFO);
        assert_eq!(mounts.v2, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(
            mounts.v1_memory,
            Some(PathBuf::from("/sys/fs/cg roup/memory"))
        );
        assert_eq!(parse_mounts("garbage - \n - \n"), CgroupMounts::default());
    }

    #[test]
    fn escapes_are_undone_and_others_left() {
        assert_eq!(unescape("a\\040b\\134c"), "a b\\c");
        assert_eq!(unescape("a\\9\\377\\04"), "a\\9\\377\\04");
        assert_eq!(unescape("\\04\u{e9}"), "\\04\u{e9}");
    }

    #[test]
    fn processes_of_a_subtree_are_collected() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str, procs: &str| {
            let directory = root.path().join(path);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("cgroup.procs"), procs).unwrap();
        };
        make("", "1\n");
        make("web", "20\n0\n10\n");
        make("web/worker", "30\n20\n");
        make("db", "40\n");
        let mounts = CgroupMounts {
            v2: Some(root.path().to_owned()),
            v1_memory: None,
        };
        let pids = |path: &Path| pids_below(&mounts, path);
        assert_eq!(pids(Path::new("/web")).unwrap(), [10, 20, 30]);
        assert_eq!(pids(Path::new("web/worker")).unwrap(), [20, 30]);
        assert_eq!(pids(&root.path().join("db")).unwrap(), [40]);
        assert_eq!(pids(Path::new("/")).unwrap(), [1, 10, 20, 30, 40]);
        let error = pids(Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("/proc/PID/cgroup"), "{error}");
    }
}
