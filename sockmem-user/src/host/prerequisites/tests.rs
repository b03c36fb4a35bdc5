use std::path::PathBuf;

use super::*;
use crate::host::caps::CapSet;
use crate::host::cgroup::CgroupMounts;
use crate::host::sysctl::Sysctls;

/// A host where everything is as it should be, seen by root.
fn good() -> Facts {
    Facts {
        release: Some("6.12.5-amd64".into()),
        uid: 0,
        caps: Some(CapSet(0x1ff_ffff_ffff)),
        btf: BtfFile::Readable,
        lockdown: Lockdown::None,
        kprobes: Kprobes::Available,
        tracefs: Some("/sys/kernel/tracing".into()),
        sock_diag: Ok(()),
        cgroups: CgroupMounts {
            v2: Some(PathBuf::from("/sys/fs/cgroup")),
            v1_memory: None,
        },
        memlock: Some(8 << 20),
        sysctls: Sysctls {
            bpf_jit_enable: Some(1),
            unprivileged_bpf_disabled: Some(2),
            ..Sysctls::default()
        },
        user_ns: Some(4_026_531_837),
        pid_ns: Some(4_026_531_836),
        net_ns: Some(4_026_531_840),
        net_ns_of_1: Some(4_026_531_840),
    }
}

fn row(checks: &[Check], name: &str) -> Check {
    checks
        .iter()
        .find(|check| check.name == name)
        .cloned()
        .expect("the row is there")
}

/// The status and sentence of row `name`.
fn said(facts: &Facts, name: &str) -> (Status, String) {
    let row = row(&tracing(facts), name);
    (row.status, row.sentence())
}

fn stops(facts: &Facts) -> String {
    first_failure(&tracing(facts)).expect("it cannot start")
}

#[test]
fn a_good_host_passes_everywhere() {
    let checks = tracing(&good());
    assert_eq!(checks.len(), 16);
    for check in &checks {
        assert_eq!(check.status, Status::Pass, "{}", check.sentence());
        assert_eq!((&check.need, &check.fix), (&None, &None));
        assert_eq!(check.sentence(), check.fact);
    }
    assert_eq!(first_failure(&checks), None);
    assert_eq!(first_failure(&reading(&good())), None);
    let mut names: Vec<_> = checks.iter().map(|check| check.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), checks.len(), "names are unique");
}

#[test]
fn without_root() {
    let facts = Facts {
        uid: 1000,
        caps: Some(CapSet(0)),
        net_ns_of_1: None,
        ..good()
    };
    assert_eq!(
        stops(&facts),
        "tracing needs CAP_BPF and CAP_PERFMON, and this process has none of them: run it with sudo"
    );
    assert_eq!(
        said(&facts, "other users' processes"),
        (
            Status::Warn,
            "naming the owners of other users' sockets needs CAP_SYS_PTRACE and \
             CAP_DAC_READ_SEARCH, and this process has none of them: run it with sudo"
                .into()
        )
    );
    assert_eq!(row(&tracing(&facts), "user").fact, "effective user id 1000");
    assert_eq!(
        first_failure(&reading(&facts)),
        None,
        "a snapshot needs no privilege"
    );
}

#[test]
fn one_capability_is_missing() {
    let facts = Facts {
        uid: 1000,
        caps: Some(CapSet::of(&[Cap::Bpf])),
        ..good()
    };
    assert_eq!(
        stops(&facts),
        "tracing needs CAP_BPF and CAP_PERFMON, and this process lacks CAP_PERFMON: run it with sudo"
    );
    let enough = Facts {
        caps: Some(CapSet::of(&[Cap::Bpf, Cap::Perfmon])),
        ..facts.clone()
    };
    assert_eq!(first_failure(&tracing(&enough)), None);
    let admin = Facts {
        caps: Some(CapSet::of(&[Cap::SysAdmin])),
        ..facts.clone()
    };
    assert_eq!(first_failure(&tracing(&admin)), None, "as before 5.8");
    let unknown = Facts {
        caps: None,
        ..facts
    };
    assert_eq!(said(&unknown, "capabilities").0, Status::Warn);
}

#[test]
fn root_in_a_container() {
    let facts = Facts {
        caps: Some(CapSet(0xa804_25fb)),
        ..good()
    };
    assert_eq!(
        stops(&facts),
        "tracing needs CAP_BPF and CAP_PERFMON, and this process has none of them: run it on the \
         host, or in a container started with --cap-add=BPF --cap-add=PERFMON"
    );
    let rootless = Facts {
        user_ns: Some(4_026_532_837),
        ..good()
    };
    assert_eq!(
        stops(&rootless),
        "tracing needs capabilities in the initial user namespace, and this process is in another \
         one (user:[4026532837]): run it on the host with sudo, outside of rootless containers"
    );
}

#[test]
fn without_btf() {
    let with = |btf| stops(&Facts { btf, ..good() });
    assert_eq!(
        with(BtfFile::Missing),
        "tracing needs the kernel's type information, and /sys/kernel/btf/vmlinux does not exist: \
         boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' own are"
    );
    assert_eq!(
        with(BtfFile::Unreadable(
            "Permission denied (os error 13)".into()
        )),
        "tracing needs the kernel's type information, and /sys/kernel/btf/vmlinux cannot be read \
         (Permission denied (os error 13)): run it with sudo"
    );
    assert_eq!(
        with(BtfFile::NoSysfs),
        "tracing needs the kernel's type information, and /sys is not mounted: run `sudo mount -t \
         sysfs sysfs /sys`"
    );
    assert!(with(BtfFile::NotBtf).contains("/sys/kernel/btf/vmlinux is not BTF"));
}

#[test]
fn locked_down() {
    let facts = Facts {
        lockdown: Lockdown::Confidentiality,
        ..good()
    };
    assert_eq!(
        stops(&facts),
        "tracing needs to read kernel memory, and kernel lockdown is in confidentiality mode, \
         which forbids it: boot with the kernel parameter lockdown=integrity"
    );
    assert_eq!(
        first_failure(&reading(&facts)),
        None,
        "a snapshot reads no kernel memory"
    );
    let integrity = Facts {
        lockdown: Lockdown::Integrity,
        ..good()
    };
    assert_eq!(said(&integrity, "lockdown").0, Status::Pass);
    let unknown = Facts {
        lockdown: Lockdown::Unknown("why".into()),
        ..good()
    };
    assert_eq!(said(&unknown, "lockdown").0, Status::Warn);
}

#[test]
fn old_kernels() {
    let with = |release: &str| {
        said(
            &Facts {
                release: Some(release.into()),
                ..good()
            },
            "kernel",
        )
    };
    assert_eq!(
        with("4.18.0-553.el8"),
        (
            Status::Warn,
            "the oldest kernel that this was tested on is Linux 5.10, and this is Linux \
             4.18.0-553.el8: boot Linux 5.10 or newer"
                .into()
        )
    );
    assert_eq!(with("5.9.16").0, Status::Warn);
    assert_eq!(with("5.10.0").0, Status::Pass);
    assert_eq!(with("7.2.0"), (Status::Pass, "Linux 7.2.0".into()));
    assert_eq!(with("custom").0, Status::Warn);
}

#[test]
fn locked_memory_matters_before_5_11() {
    let old = Facts {
        release: Some("5.10.0".into()),
        memlock: Some(64 << 10),
        caps: Some(CapSet::of(&[Cap::SysAdmin])),
        ..good()
    };
    assert_eq!(
        said(&old, "locked memory"),
        (
            Status::Warn,
            "before Linux 5.11 the maps count as locked memory, and its limit is 64 KiB: run \
             `ulimit -l unlimited` as root first"
                .into()
        )
    );
    let raised = Facts {
        caps: good().caps,
        ..old.clone()
    };
    assert_eq!(said(&raised, "locked memory").0, Status::Pass);
    let unlimited = Facts {
        memlock: Some(u64::MAX),
        ..old.clone()
    };
    assert_eq!(said(&unlimited, "locked memory").0, Status::Pass);
    let newer = Facts {
        release: Some("5.11.0".into()),
        ..old
    };
    assert_eq!(said(&newer, "locked memory").0, Status::Pass);
}

#[test]
fn without_sock_diag() {
    let facts = Facts {
        sock_diag: Err(DiagFault::Module("ENOENT".into())),
        ..good()
    };
    let sentence = "reading sockets that are already open needs sock_diag, and the kernel has not \
                    loaded it for TCP (ENOENT): run `sudo modprobe tcp_diag`";
    assert_eq!(said(&facts, "sock_diag"), (Status::Warn, sentence.into()));
    assert_eq!(first_failure(&tracing(&facts)), None);
    assert_eq!(first_failure(&reading(&facts)).as_deref(), Some(sentence));
    for fault in [
        DiagFault::Denied("EACCES".into()),
        DiagFault::Other("odd".into()),
    ] {
        let facts = Facts {
            sock_diag: Err(fault),
            ..good()
        };
        assert!(first_failure(&reading(&facts)).is_some());
    }
}

#[test]
fn in_other_namespaces() {
    let facts = Facts {
        pid_ns: Some(4_026_532_200),
        net_ns: Some(4_026_532_201),
        ..good()
    };
    assert_eq!(
        said(&facts, "pid namespace"),
        (
            Status::Warn,
            "the kernel tells the process ids of the initial pid namespace, and this process is in \
             another one (pid:[4026532200]), where they differ: run it on the host, or in a \
             container started with --pid=host"
                .into()
        )
    );
    assert_eq!(
        said(&facts, "network namespace"),
        (
            Status::Warn,
            "the host's own sockets are read from its network namespace, and this process is in \
             another one than process 1 (net:[4026532201]): start it with `sudo nsenter -t 1 -n`"
                .into()
        )
    );
}

#[test]
fn fallbacks_that_are_missing_only_warn() {
    let facts = Facts {
        kprobes: Kprobes::Missing,
        tracefs: None,
        cgroups: CgroupMounts::default(),
        sysctls: Sysctls {
            bpf_jit_enable: Some(0),
            ..Sysctls::default()
        },
        ..good()
    };
    assert_eq!(first_failure(&tracing(&facts)), None);
    let sentence = |name| said(&facts, name).1;
    assert_eq!(
        sentence("kprobes"),
        "where fentry is refused, observing every change needs kprobes, and this kernel has none: \
         boot a kernel built with CONFIG_KPROBE_EVENTS=y, as distributions' own are"
    );
    assert_eq!(
        sentence("tracefs"),
        "looking up kprobes and tracepoints by name needs tracefs, and it is not mounted: run \
         `sudo mount -t tracefs nodev /sys/kernel/tracing`"
    );
    assert_eq!(
        sentence("BPF compiler"),
        "fentry programs need the BPF just-in-time compiler, and net.core.bpf_jit_enable is 0: run \
         `sudo sysctl net.core.bpf_jit_enable=1`"
    );
    assert_eq!(
        sentence("cgroups"),
        "finding the processes of a cgroup needs its file system, and none is mounted: run `sudo \
         mount -t cgroup2 none /sys/fs/cgroup`"
    );
    let off = Facts {
        kprobes: Kprobes::Disabled,
        ..facts
    };
    assert!(
        said(&off, "kprobes")
            .1
            .ends_with("/sys/kernel/debug/kprobes/enabled`")
    );
}

#[test]
fn what_is_not_known_has_no_row() {
    let facts = Facts {
        user_ns: None,
        pid_ns: None,
        net_ns: None,
        memlock: None,
        sysctls: Sysctls::default(),
        ..good()
    };
    assert_eq!(tracing(&facts).len(), 10);
}

#[test]
fn loaders_rows_are_appended() {
    let mut checks = tracing(&good());
    checks.push(Check::pass("fentry", "tcp_release_cb accepted"));
    checks.push(Check {
        fix: None,
        ..Check::fail("ring", "events need it", "it is full", "")
    });
    checks.push(Check::fail("later", "a", "b", "c"));
    assert_eq!(
        first_failure(&checks).as_deref(),
        Some("events need it, and it is full")
    );
    assert_eq!(
        serde_json::to_string(&checks[16]).unwrap(),
        r#"{"name":"fentry","status":"pass","fact":"tcp_release_cb accepted","need":null,"fix":null}"#
    );
}

#[test]
fn a_failure_comes_before_a_later_one() {
    let facts = Facts {
        caps: Some(CapSet(0)),
        btf: BtfFile::Missing,
        ..good()
    };
    assert!(stops(&facts).starts_with("tracing needs CAP_BPF"));
}
