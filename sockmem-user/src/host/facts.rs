//! What `prerequisites` judges, gathered from the system: plain values, so that
//! the rules can be tested with any host.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};

use super::caps::{CapSet, parse_effective};
use super::cgroup::{CgroupMounts, parse_mountinfo, parse_mounts};
use super::sock_diag::{DiagError, SockDiag};
use super::sysctl::Sysctls;

/// The kernel's type information, `/sys/kernel/btf/vmlinux`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BtfFile {
    /// It is there and begins as BTF does.
    Readable,
    /// Sysfs is not mounted, so it cannot be there.
    NoSysfs,
    /// The kernel has none.
    Missing,
    /// It is there but may not be read, and why.
    Unreadable(String),
    /// It is there but is not BTF.
    NotBtf,
}

/// Kernel lockdown, `/sys/kernel/security/lockdown` (security/lockdown/lockdown.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Not built in, or off.
    None,
    /// The kernel may not be changed; reading it is allowed.
    Integrity,
    /// The kernel may not be read either.
    Confidentiality,
    /// Not known, and why.
    Unknown(String),
}

/// Whether kprobes can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kprobes {
    /// They can.
    Available,
    /// Built in, but switched off by `/sys/kernel/debug/kprobes/enabled`.
    Disabled,
    /// Not built in.
    Missing,
}

/// Why sock_diag does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiagFault {
    /// A kernel module is missing; what the kernel answered.
    Module(String),
    /// A policy forbids it; what the kernel answered.
    Denied(String),
    /// Anything else; the whole message.
    Other(String),
}

impl From<&DiagError> for DiagFault {
    fn from(error: &DiagError) -> Self {
        match error {
            DiagError::Unavailable(errno) => DiagFault::Module(errno.to_string()),
            DiagError::Denied(errno) => DiagFault::Denied(errno.to_string()),
            other => DiagFault::Other(other.to_string()),
        }
    }
}

/// Plain facts about this process and its host. `None` is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// As `uname -r` prints it.
    pub release: Option<String>,
    /// Effective user id.
    pub uid: u32,
    /// Effective capabilities.
    pub caps: Option<CapSet>,
    /// `/sys/kernel/btf/vmlinux`.
    pub btf: BtfFile,
    /// Kernel lockdown.
    pub lockdown: Lockdown,
    /// Kprobes.
    pub kprobes: Kprobes,
    /// Where tracefs is mounted; `None` where it is not.
    pub tracefs: Option<String>,
    /// Whether sock_diag answers.
    pub sock_diag: Result<(), DiagFault>,
    /// Where cgroups are mounted.
    pub cgroups: CgroupMounts,
    /// RLIMIT_MEMLOCK, soft, bytes; `u64::MAX` is unlimited.
    pub memlock: Option<u64>,
    /// Kernel settings.
    pub sysctls: Sysctls,
    /// Inode of the process's user namespace.
    pub user_ns: Option<u64>,
    /// Inode of the process's pid namespace.
    pub pid_ns: Option<u64>,
    /// Inode of the process's network namespace.
    pub net_ns: Option<u64>,
    /// Inode of process 1's network namespace; `None` also where it may not be read.
    pub net_ns_of_1: Option<u64>,
}

impl Facts {
    /// Gathers them. Every fact that cannot be had is left unknown.
    #[must_use]
    pub fn gather() -> Self {
        let sock_diag = SockDiag::open().and_then(|mut diag| diag.probe());
        Facts {
            uid: nix::unistd::geteuid().as_raw(),
            memlock: getrlimit(Resource::RLIMIT_MEMLOCK)
                .ok()
                .map(|(soft, _)| soft),
            sock_diag: sock_diag.map_err(|error| DiagFault::from(&error)),
            ..Facts::read_at(Path::new("/proc"), Path::new("/sys"))
        }
    }

    /// Those that are files, from trees that look like `/proc` and `/sys`. The
    /// others are as for root without limits.
    #[must_use]
    pub fn read_at(proc: &Path, sys: &Path) -> Self {
        let text = |name: &str| {
            fs::read(proc.join(name))
                .ok()
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let inode = |name: &str| {
            fs::metadata(proc.join(name))
                .ok()
                .map(|metadata| metadata.ino())
        };
        let mountinfo = text("self/mountinfo").unwrap_or_default();
        let tracefs = tracefs(&mountinfo);
        Facts {
            release: text("sys/kernel/osrelease").map(|release| release.trim_end().to_owned()),
            uid: 0,
            caps: text("self/status").as_deref().and_then(parse_effective),
            btf: btf(sys),
            lockdown: lockdown(fs::read_to_string(sys.join("kernel/security/lockdown"))),
            kprobes: kprobes(sys, tracefs.as_deref()),
            tracefs,
            sock_diag: Ok(()),
            cgroups: parse_mounts(&mountinfo),
            memlock: None,
            sysctls: Sysctls::read_at(&proc.join("sys")),
            user_ns: inode("self/ns/user"),
            pid_ns: inode("self/ns/pid"),
            net_ns: inode("thread-self/ns/net"),
            net_ns_of_1: inode("1/ns/net"),
        }
    }
}

fn btf(sys: &Path) -> BtfFile {
    /// `BTF_MAGIC`, the first two bytes in the machine's byte order.
    const MAGIC: u16 = 0xeb9f;
    let mut magic = [0; 2];
    let read =
        File::open(sys.join("kernel/btf/vmlinux")).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Ok(()) if u16::from_ne_bytes(magic) == MAGIC => BtfFile::Readable,
        Ok(()) => BtfFile::NotBtf,
        Err(error) => match error.kind() {
            ErrorKind::NotFound if sys.join("kernel").exists() => BtfFile::Missing,
            ErrorKind::NotFound => BtfFile::NoSysfs,
            ErrorKind::UnexpectedEof => BtfFile::NotBtf,
            _ => BtfFile::Unreadable(error.to_string()),
        },
    }
}

/// The mode in brackets, of `none [integrity] confidentiality`.
fn lockdown(text: io::Result<String>) -> Lockdown {
    let text = match text {
        Ok(text) => text,
        // Without lockdown in the kernel there is no such file.
        Err(error) if error.kind() == ErrorKind::NotFound => return Lockdown::None,
        Err(error) => return Lockdown::Unknown(error.to_string()),
    };
    match text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(mode, _)| mode)
    {
        Some("none") => Lockdown::None,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown(format!("it reads {:?}", text.trim_end())),
    }
}

fn tracefs(mountinfo: &str) -> Option<String> {
    let mount = parse_mountinfo(mountinfo).find(|mount| mount.kind == "tracefs")?;
    Some(mount.at.to_string_lossy().into_owned())
}

fn kprobes(sys: &Path, tracefs: Option<&str>) -> Kprobes {
    // The perf event source exists since 4.17 wherever CONFIG_KPROBE_EVENTS is set.
    let source = sys.join("bus/event_source/devices/kprobe/type").exists();
    let events = tracefs.is_some_and(|at| Path::new(at).join("kprobe_events").exists());
    if !source && !events {
        return Kprobes::Missing;
    }
    match fs::read_to_string(sys.join("kernel/debug/kprobes/enabled")) {
        Ok(text) if text.trim() == "0" => Kprobes::Disabled,
        // Debugfs may not be mounted: then nobody has switched them off through it.
        _ => Kprobes::Available,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let tree = Tree(tempfile::tempdir().unwrap());
            for (name, content) in files {
                let path = tree.0.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            tree
        }
    }

    #[test]
    fn btf_is_recognised_by_its_first_bytes() {
        let with = |files: &[(&str, &[u8])]| btf(Tree::new(files).0.path());
        let magic = 0xeb9fu16.to_ne_bytes();
        assert_eq!(with(&[("kernel/btf/vmlinux", &magic)]), BtfFile::Readable);
        assert_eq!(with(&[("kernel/btf/vmlinux", b"ELF")]), BtfFile::NotBtf);
        assert_eq!(with(&[("kernel/btf/vmlinux", b"")]), BtfFile::NotBtf);
        assert_eq!(with(&[("kernel/notes", b"")]), BtfFile::Missing);
        assert_eq!(with(&[]), BtfFile::NoSysfs);
        let tree = Tree::new(&[("kernel/btf/vmlinux/directory", b"")]);
        assert!(matches!(btf(tree.0.path()), BtfFile::Unreadable(_)));
    }

    #[test]
    fn the_lockdown_mode_is_the_one_in_brackets() {
        let mode = |text: &str| lockdown(Ok(text.to_owned()));
        assert_eq!(mode("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(
            mode("none [integrity] confidentiality\n"),
            Lockdown::Integrity
        );
        assert_eq!(
            mode("none integrity [confidentiality]\n"),
            Lockdown::Confidentiality
        );
        assert_eq!(
            mode("none\n"),
            Lockdown::Unknown("it reads \"none\"".into())
        );
        assert_eq!(mode("]["), Lockdown::Unknown("it reads \"][\"".into()));
        assert_eq!(lockdown(Err(ErrorKind::NotFound.into())), Lockdown::None);
        assert!(matches!(
            lockdown(Err(ErrorKind::PermissionDenied.into())),
            Lockdown::Unknown(_)
        ));
    }

    #[test]
    fn kprobes_are_found_by_either_way() {
        let source: (&str, &[u8]) = ("bus/event_source/devices/kprobe/type", b"8\n");
        let with = |files: &[(&str, &[u8])]| kprobes(Tree::new(files).0.path(), None);
        assert_eq!(with(&[]), Kprobes::Missing);
        assert_eq!(with(&[source]), Kprobes::Available);
        assert_eq!(
            with(&[source, ("kernel/debug/kprobes/enabled", b"1\n")]),
            Kprobes::Available
        );
        assert_eq!(
            with(&[source, ("kernel/debug/kprobes/enabled", b"0\n")]),
            Kprobes::Disabled
        );
        let trace = Tree::new(&[("kprobe_events", b"")]);
        let at = trace.0.path().to_str();
        assert_eq!(kprobes(Tree::new(&[]).0.path(), at), Kprobes::Available);
    }

    #[test]
    fn files_become_facts() {
        let proc = Tree::new(&[
            ("sys/kernel/osrelease", b"6.1.0-25-amd64\n"),
            ("sys/kernel/unprivileged_bpf_disabled", b"2\n"),
            ("self/status", b"CapEff:\t000001ffffffffff\n"),
            (
                "self/mountinfo",
                b"9 1 0:9 / /t rw - tracefs none rw\n8 1 0:8 / /c rw - cgroup2 c rw\n",
            ),
        ]);
        let sys = Tree::new(&[(
            "kernel/security/lockdown",
            b"none [integrity] confidentiality\n",
        )]);
        let facts = Facts::read_at(proc.0.path(), sys.0.path());
        assert_eq!(facts.release.as_deref(), Some("6.1.0-25-amd64"));
        assert_eq!(facts.caps, Some(CapSet(0x1ff_ffff_ffff)));
        assert_eq!(facts.tracefs.as_deref(), Some("/t"));
        assert_eq!(facts.cgroups.v2.as_deref(), Some(Path::new("/c")));
        assert_eq!(facts.lockdown, Lockdown::Integrity);
        assert_eq!(facts.btf, BtfFile::Missing);
        assert_eq!(facts.sysctls.unprivileged_bpf_disabled, Some(2));
        assert_eq!(facts.pid_ns, None);
    }

    #[test]
    fn an_empty_host_has_no_facts() {
        let empty = Tree::new(&[]);
        let facts = Facts::read_at(empty.0.path(), empty.0.path());
        assert_eq!(
            (facts.release, facts.caps, facts.net_ns),
            (None, None, None)
        );
        assert_eq!(facts.cgroups, CgroupMounts::default());
        assert_eq!(facts.btf, BtfFile::NoSysfs);
    }

    #[test]
    fn this_host_has_facts() {
        let facts = Facts::gather();
        assert!(facts.release.is_some() && facts.caps.is_some());
        assert!(facts.pid_ns.is_some() && facts.net_ns.is_some() && facts.memlock.is_some());
        assert_eq!(facts.uid, nix::unistd::geteuid().as_raw());
    }
}
