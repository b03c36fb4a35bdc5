//! Whether this host can do it: the doctor's rows that need no program to be
//! loaded, and the one sentence that a command ends with where it cannot.
//!
//! The rules are pure, over `Facts`. Whether the kernel accepts the programs
//! themselves only loading them can tell: the loader appends rows of its own.

use super::caps::Cap;
use super::facts::{BtfFile, DiagFault, Facts, Kprobes, Lockdown};
use super::info::parse_release;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Pass,
    /// Something will be missing or less exact.
    Warn,
    /// It cannot work.
    Fail,
}

impl Status {
    /// The name used in text and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

/// One row of the doctor's table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it went.
    pub status: Status,
    /// What was found; `sentence` puts it behind the need.
    pub fact: String,
    /// What needs it to be otherwise; `None` where it passed.
    pub need: Option<String>,
    /// What to do about it, with the command to run; `None` where it passed or nothing can be done.
    pub fix: Option<String>,
}

impl Check {
    /// A row that passed.
    #[must_use]
    pub fn pass(name: &'static str, fact: impl Into<String>) -> Self {
        Check {
            name,
            status: Status::Pass,
            fact: fact.into(),
            need: None,
            fix: None,
        }
    }

    /// A row that warns: the sentence is "`need`, and `fact`: `fix`".
    #[must_use]
    pub fn warn(
        name: &'static str,
        need: impl Into<String>,
        fact: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (need, fix) = (Some(need.into()), Some(fix.into()));
        Check {
            name,
            status: Status::Warn,
            fact: fact.into(),
            need,
            fix,
        }
    }

    /// A row that failed: the sentence is "`need`, and `fact`: `fix`".
    #[must_use]
    pub fn fail(
        name: &'static str,
        need: impl Into<String>,
        fact: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Check {
            status: Status::Fail,
            ..Check::warn(name, need, fact, fix)
        }
    }

    /// The row in one sentence: need, fact, fix.
    #[must_use]
    pub fn sentence(&self) -> String {
        let need = self.need.as_ref().map(|need| format!("{need}, and "));
        let fix = self.fix.as_ref().map(|fix| format!(": {fix}"));
        format!(
            "{}{}{}",
            need.unwrap_or_default(),
            self.fact,
            fix.unwrap_or_default()
        )
    }
}

/// Why a command cannot start: the first failed row in one sentence; `None` where it can.
#[must_use]
pub fn first_failure(checks: &[Check]) -> Option<String> {
    checks
        .iter()
        .find(|check| check.status == Status::Fail)
        .map(Check::sentence)
}

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;
/// Inode of the initial user namespace (`PROC_USER_INIT_INO`).
const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;
/// The oldest kernel that the tests run on.
const OLDEST: (u32, u32) = (5, 10);
/// From here maps are charged to the memory cgroup and no longer to RLIMIT_MEMLOCK.
const NO_MEMLOCK: (u32, u32) = (5, 11);
/// Enough locked memory for the maps, bytes.
const MEMLOCK_ENOUGH: u64 = 64 << 20;

/// What tracing needs, in the order in which failures matter. Also the doctor's table.
#[must_use]
pub fn tracing(facts: &Facts) -> Vec<Check> {
    let rows = [
        Some(kernel(facts)),
        Some(user(facts)),
        user_namespace(facts),
        Some(capabilities(facts)),
        Some(btf(facts)),
        Some(lockdown(facts)),
        jit(facts),
        Some(kprobes(facts)),
        Some(tracefs(facts)),
        memlock(facts),
        unprivileged_bpf(facts),
        Some(sock_diag(facts, Status::Warn)),
        Some(other_users(facts)),
        pid_namespace(facts),
        net_namespace(facts),
        Some(cgroups(facts)),
    ];
    rows.into_iter().flatten().collect()
}

/// What reading sockets once, without tracing, needs: no privilege but to name
/// other users' processes.
#[must_use]
pub fn reading(facts: &Facts) -> Vec<Check> {
    let rows = [
        Some(kernel(facts)),
        Some(user(facts)),
        Some(sock_diag(facts, Status::Fail)),
        Some(other_users(facts)),
        net_namespace(facts),
        Some(cgroups(facts)),
    ];
    rows.into_iter().flatten().collect()
}

fn version(facts: &Facts) -> Option<(u32, u32)> {
    facts.release.as_deref().and_then(parse_release)
}

fn kernel(facts: &Facts) -> Check {
    const NAME: &str = "kernel";
    let need = "the oldest kernel that this was tested on is Linux 5.10";
    let release = facts.release.as_deref().unwrap_or("-");
    match version(facts) {
        Some(version) if version >= OLDEST => Check::pass(NAME, format!("Linux {release}")),
        Some(_) => Check::warn(
            NAME,
            need,
            format!("this is Linux {release}"),
            "boot Linux 5.10 or newer",
        ),
        None => Check::warn(
            NAME,
            need,
            format!("the version of this one is not known (`{release}`)"),
            "compare it with what `uname -r` prints",
        ),
    }
}

fn user(facts: &Facts) -> Check {
    let name = if facts.uid == 0 { " (root)" } else { "" };
    Check::pass("user", format!("effective user id {}{name}", facts.uid))
}

fn user_namespace(facts: &Facts) -> Option<Check> {
    const NAME: &str = "user namespace";
    Some(match facts.user_ns? {
        INITIAL_USER_NS => Check::pass(NAME, "the initial one"),
        inode => Check::fail(
            NAME,
            "tracing needs capabilities in the initial user namespace",
            format!("this process is in another one (user:[{inode}])"),
            "run it on the host with sudo, outside of rootless containers",
        ),
    })
}

/// What to do about missing capabilities: sudo helps only those who are not root.
fn gain(facts: &Facts, caps: &[Cap]) -> String {
    if facts.uid != 0 {
        return "run it with sudo".to_owned();
    }
    let options: Vec<String> = caps
        .iter()
        .map(|cap| format!("--cap-add={}", cap.name().trim_start_matches("CAP_")))
        .collect();
    format!(
        "run it on the host, or in a container started with {}",
        options.join(" ")
    )
}

fn list(caps: &[Cap]) -> String {
    caps.iter()
        .map(|cap| cap.name())
        .collect::<Vec<_>>()
        .join(" and ")
}

/// A row about capabilities: what misses them, and how bad that is.
fn needs_caps(
    facts: &Facts,
    name: &'static str,
    status: Status,
    what: &str,
    needed: &[Cap],
) -> Check {
    let need = format!("{what} needs {}", list(needed));
    let Some(caps) = facts.caps else {
        let fact = "the capabilities of this process are not known";
        return Check::warn(name, need, fact, "see the line CapEff in /proc/self/status");
    };
    let missing = caps.missing(needed);
    if missing.is_empty() {
        return Check::pass(name, format!("{} or stronger", list(needed)));
    }
    let fact = if missing.len() == needed.len() {
        "this process has none of them".to_owned()
    } else {
        format!("this process lacks {}", list(&missing))
    };
    Check {
        status,
        ..Check::warn(name, need, fact, gain(facts, &missing))
    }
}

fn capabilities(facts: &Facts) -> Check {
    needs_caps(
        facts,
        "capabilities",
        Status::Fail,
        "tracing",
        &[Cap::Bpf, Cap::Perfmon],
    )
}

fn other_users(facts: &Facts) -> Check {
    needs_caps(
        facts,
        "other users' processes",
        Status::Warn,
        "naming the owners of other users' sockets",
        &[Cap::SysPtrace, Cap::DacReadSearch],
    )
}

fn btf(facts: &Facts) -> Check {
    const NAME: &str = "kernel types (BTF)";
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    let (fact, fix) = match &facts.btf {
        BtfFile::Readable => return Check::pass(NAME, format!("{FILE} is readable")),
        BtfFile::NoSysfs => (
            "/sys is not mounted".to_owned(),
            "run `sudo mount -t sysfs sysfs /sys`",
        ),
        BtfFile::Missing => (
            format!("{FILE} does not exist"),
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' own are",
        ),
        BtfFile::Unreadable(why) => (format!("{FILE} cannot be read ({why})"), "run it with sudo"),
        BtfFile::NotBtf => (
            format!("{FILE} is not BTF"),
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' own are",
        ),
    };
    Check::fail(
        NAME,
        "tracing needs the kernel's type information",
        fact,
        fix,
    )
}

fn lockdown(facts: &Facts) -> Check {
    const NAME: &str = "lockdown";
    let need = "tracing needs to read kernel memory";
    match &facts.lockdown {
        Lockdown::None => Check::pass(NAME, "none"),
        Lockdown::Integrity => Check::pass(NAME, "integrity, which allows reading"),
        Lockdown::Confidentiality => Check::fail(
            NAME,
            need,
            "kernel lockdown is in confidentiality mode, which forbids it",
            "boot with the kernel parameter lockdown=integrity",
        ),
        Lockdown::Unknown(why) => Check::warn(
            NAME,
            need,
            format!("whether kernel lockdown forbids it is not known ({why})"),
            "run `sudo cat /sys/kernel/security/lockdown`",
        ),
    }
}

fn jit(facts: &Facts) -> Option<Check> {
    const NAME: &str = "BPF compiler";
    Some(match facts.sysctls.bpf_jit_enable? {
        0 => Check::warn(
            NAME,
            "fentry programs need the BPF just-in-time compiler",
            "net.core.bpf_jit_enable is 0",
            "run `sudo sysctl net.core.bpf_jit_enable=1`",
        ),
        value => Check::pass(NAME, format!("net.core.bpf_jit_enable is {value}")),
    })
}

fn kprobes(facts: &Facts) -> Check {
    const NAME: &str = "kprobes";
    let need = "where fentry is refused, observing every change needs kprobes";
    match facts.kprobes {
        Kprobes::Available => Check::pass(NAME, "available"),
        Kprobes::Disabled => Check::warn(
            NAME,
            need,
            "they are switched off",
            "run `echo 1 | sudo tee /sys/kernel/debug/kprobes/enabled`",
        ),
        Kprobes::Missing => Check::warn(
            NAME,
            need,
            "this kernel has none",
            "boot a kernel built with CONFIG_KPROBE_EVENTS=y, as distributions' own are",
        ),
    }
}

fn tracefs(facts: &Facts) -> Check {
    const NAME: &str = "tracefs";
    match &facts.tracefs {
        Some(at) => Check::pass(NAME, format!("mounted at {at}")),
        None => Check::warn(
            NAME,
            "looking up kprobes and tracepoints by name needs tracefs",
            "it is not mounted",
            "run `sudo mount -t tracefs nodev /sys/kernel/tracing`",
        ),
    }
}

fn memlock(facts: &Facts) -> Option<Check> {
    const NAME: &str = "locked memory";
    let limit = facts.memlock?;
    if version(facts)? >= NO_MEMLOCK {
        return Some(Check::pass(
            NAME,
            "its limit does not matter from Linux 5.11",
        ));
    }
    let may_raise = facts.caps.is_some_and(|caps| caps.has(Cap::SysResource));
    Some(if limit >= MEMLOCK_ENOUGH {
        Check::pass(NAME, "its limit is high enough")
    } else if may_raise {
        Check::pass(
            NAME,
            format!("its limit of {} KiB will be raised", limit >> 10),
        )
    } else {
        Check::warn(
            NAME,
            "before Linux 5.11 the maps count as locked memory",
            format!("its limit is {} KiB", limit >> 10),
            "run `ulimit -l unlimited` as root first",
        )
    })
}

fn unprivileged_bpf(facts: &Facts) -> Option<Check> {
    // Tracing programs need capabilities whatever it is: shown because people ask.
    let value = facts.sysctls.unprivileged_bpf_disabled?;
    Some(Check::pass(
        "unprivileged BPF",
        format!("kernel.unprivileged_bpf_disabled is {value}"),
    ))
}

fn sock_diag(facts: &Facts, status: Status) -> Check {
    const NAME: &str = "sock_diag";
    let need = "reading sockets that are already open needs sock_diag";
    let check = match &facts.sock_diag {
        Ok(()) => return Check::pass(NAME, "answers"),
        Err(DiagFault::Module(answer)) => Check::warn(
            NAME,
            need,
            format!("the kernel has not loaded it for TCP ({answer})"),
            "run `sudo modprobe tcp_diag`",
        ),
        Err(DiagFault::Denied(answer)) => Check::warn(
            NAME,
            need,
            format!("this process may not use it ({answer})"),
            "run it with sudo, or outside of the sandbox that forbids it",
        ),
        Err(DiagFault::Other(message)) => Check::warn(
            NAME,
            need,
            format!("it failed ({message})"),
            "compare it with what `ss -tm` prints",
        ),
    };
    Check { status, ..check }
}

fn pid_namespace(facts: &Facts) -> Option<Check> {
    const NAME: &str = "pid namespace";
    Some(match facts.pid_ns? {
        INITIAL_PID_NS => Check::pass(NAME, "the initial one"),
        inode => Check::warn(
            NAME,
            "the kernel tells the process ids of the initial pid namespace",
            format!("this process is in another one (pid:[{inode}]), where they differ"),
            "run it on the host, or in a container started with --pid=host",
        ),
    })
}

fn net_namespace(facts: &Facts) -> Option<Check> {
    const NAME: &str = "network namespace";
    let own = facts.net_ns?;
    Some(match facts.net_ns_of_1 {
        Some(first) if first != own => Check::warn(
            NAME,
            "the host's own sockets are read from its network namespace",
            format!("this process is in another one than process 1 (net:[{own}])"),
            "start it with `sudo nsenter -t 1 -n`",
        ),
        Some(_) => Check::pass(NAME, format!("that of process 1 (net:[{own}])")),
        // Only a privileged process may compare it with that of process 1.
        None => Check::pass(NAME, format!("net:[{own}]")),
    })
}

fn cgroups(facts: &Facts) -> Check {
    const NAME: &str = "cgroups";
    let found: Vec<String> = [
        ("version 2", &facts.cgroups.v2),
        ("version 1 (memory)", &facts.cgroups.v1_memory),
    ]
    .into_iter()
    .filter_map(|(kind, at)| Some(format!("{kind} at {}", at.as_ref()?.display())))
    .collect();
    if found.is_empty() {
        return Check::warn(
            NAME,
            "finding the processes of a cgroup needs its file system",
            "none is mounted",
            "run `sudo mount -t cgroup2 none /sys/fs/cgroup`",
        );
    }
    Check::pass(NAME, found.join(", "))
}

#[cfg(test)]
mod tests;
