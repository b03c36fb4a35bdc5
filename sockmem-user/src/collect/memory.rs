//! What the host reports about memory, read around one reading of every TCP socket.

use std::fs;

use super::inventory::{Kinds, Namespaces, check_listeners, read};
use super::owners::OwnersError;
use crate::attach::PerCpuInt;
use crate::facts::inventory::{Inventory, Selection};
use crate::facts::memory::{Known, Limits, MemcgSock, MemoryFacts, Reserve, Rss, TcpSums};
use crate::host::cgroup;
use crate::host::info::{HostInfo, page_size, parse_release};
use crate::host::netns::in_netns_of;
use crate::host::procfs::Procfs;
use crate::host::sockstat::Sums;
use crate::host::sysctl::{self, Sysctls};
use crate::host::{memcg, meminfo, slabinfo};
use crate::kernel::{Btf, Features};

/// How often the sockets are read again while the sums move.
const TRIES: u32 = 4;
/// Pages that each CPU may hold back where there is no setting (6.0 to 6.4,
/// `SK_MEMORY_PCPU_RESERVE`, include/net/sock.h: 1 MiB).
const FIXED_RESERVE_BYTES: u64 = 1 << 20;
/// Where the kernel keeps them.
const VARIABLE: &str = "tcp_memory_per_cpu_fw_alloc";

/// How it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Whether a small eBPF program may read the CPUs' shares.
    pub ebpf: bool,
}

/// Reads every TCP socket of every namespace that can be entered, and the sums before and after;
/// again while they move, a few times. The reading that they moved least around counts. Of the
/// processes of `subject` it tells resident memory, control group and limits: `selection`'s own, save where
/// their sockets cannot be seen.
///
/// # Errors
/// `OwnersError`, as of reading sockets.
pub fn memory(
    selection: &Selection,
    subject: &Selection,
    options: MemoryOptions,
) -> Result<(Inventory, MemoryFacts), OwnersError> {
    let host = HostInfo::read().ok();
    let cpus = host.as_ref().and_then(|h| h.cpus);
    let kernel = Kernel::look(options, cpus, host.as_ref().map(|h| h.kernel.as_str()));
    let kinds = Kinds {
        tcp: true,
        udp: false,
        unix: false,
    };
    let mut best: Option<(u64, Around)> = None;
    for _ in 0..TRIES {
        let (share_before, before) = (kernel.share(), sums());
        let inventory = read(selection, kinds, Namespaces::Every)?;
        let (after, share_after) = (sums(), kernel.share());
        let around = Around {
            inventory,
            before,
            after,
            shares: share_before.zip(share_after),
        };
        let moved = around.moved();
        if best.as_ref().is_none_or(|(least, _)| moved < *least) {
            best = Some((moved, around));
        }
        if moved == 0 {
            break;
        }
    }
    let Some((_, around)) = best else {
        unreachable!("at least one reading was made");
    };
    check_listeners(selection, &around.inventory)?;
    let facts = MemoryFacts {
        page_size: page_size(),
        cpus,
        reserve: kernel.reserve(around.shares),
        before: around.before,
        after: around.after,
        gives_back: kernel.gives_back,
        defers: kernel.defers,
        system: meminfo::read().map_err(|e| format!("/proc/meminfo: {e}")),
        rss: (!subject.pids.is_empty()).then(|| rss(subject)),
        memcg: memcg(subject),
        slab: slabinfo::read().map_err(|e| match e.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "/proc/slabinfo is shown to root alone: run it with sudo".to_owned()
            }
            _ => format!("/proc/slabinfo: {e}"),
        }),
        limits: limits(subject),
    };
    Ok((around.inventory, facts))
}

/// A reading between two of the sums.
struct Around {
    inventory: Inventory,
    before: Known<TcpSums>,
    after: Known<TcpSums>,
    shares: Option<(i64, i64)>,
}

impl Around {
    /// Pages by which the sums moved.
    fn moved(&self) -> u64 {
        let pages = |sums: &Known<TcpSums>| sums.as_ref().map_or(0, |s| s.mem_pages).cast_signed();
        let (first, last) = self.shares.unwrap_or((0, 0));
        (pages(&self.before) + first).abs_diff(pages(&self.after) + last)
    }
}

/// What the kernel's own types tell about its accounts.
struct Kernel {
    gives_back: Option<bool>,
    defers: Option<bool>,
    has_reserve: bool,
    reader: Result<PerCpuInt, String>,
    cpus: u32,
    pages_per_cpu: u64,
}

impl Kernel {
    fn look(options: MemoryOptions, cpus: Option<u32>, release: Option<&str>) -> Self {
        let setting = sysctl::number("net/core/mem_pcpu_rsv");
        let btf = Btf::from_sys_fs();
        let features = btf.as_ref().ok().map(Features::from_btf);
        let gives_back = features.map(|f| f.forward_alloc_is_returned());
        let has_reserve = gives_back.unwrap_or_else(|| {
            // Without types: the setting came in 6.5, the reserve in 6.0.
            setting.is_some() || release.and_then(parse_release).is_none_or(|v| v >= (6, 0))
        });
        let reader = match &btf {
            _ if !options.ebpf => Err("--no-ebpf was given".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(btf) => match btf.find_var(VARIABLE) {
                Err(_) => Err(format!("the kernel's types do not list {VARIABLE}")),
                Ok(id) => PerCpuInt::load(id.0).map_err(|e| refusal(&e)),
            },
        };
        Kernel {
            gives_back,
            defers: features.map(|f| f.skb_free_is_deferred()),
            has_reserve,
            reader,
            // A CPU that is offline keeps nothing (its share is not drained, but may be what it was).
            cpus: possible_cpus().or(cpus).unwrap_or(1),
            pages_per_cpu: setting.unwrap_or(FIXED_RESERVE_BYTES / page_size()),
        }
    }

    /// The CPUs' shares together, pages; `None` where they cannot be read.
    fn share(&self) -> Option<i64> {
        self.reader.as_ref().ok()?.sum(self.cpus).ok()
    }

    fn reserve(&self, shares: Option<(i64, i64)>) -> Reserve {
        match (&self.reader, shares) {
            _ if !self.has_reserve => Reserve::Absent,
            (Ok(_), Some((before, after))) => Reserve::Exact {
                before,
                after,
                cpus: self.cpus,
            },
            (reader, _) => Reserve::Bounded {
                pages_per_cpu: self.pages_per_cpu,
                cpus: self.cpus,
                why: match reader {
                    Err(why) => why.clone(),
                    Ok(_) => "running the program failed".to_owned(),
                },
            },
        }
    }
}

/// Why a program that would read the shares was not loaded.
fn refusal(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "reading it takes CAP_BPF and CAP_PERFMON: run it with sudo".to_owned()
        }
        Some(libc::ENOENT) => format!(
            "this kernel does not list the address of {VARIABLE} (it lacks CONFIG_KALLSYMS_ALL)"
        ),
        _ => format!("the kernel refused the program that reads it: {error}"),
    }
}

/// CPUs that there may be: a share may stay on one that was taken offline.
fn possible_cpus() -> Option<u32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible").ok()?;
    crate::host::info::parse_cpu_list(&text)
}

fn sums() -> Known<TcpSums> {
    let sums = Sums::read().map_err(|e| format!("/proc/net/sockstat: {e}"))?;
    Ok(TcpSums {
        inuse: sums.v4.tcp.inuse,
        inuse6: sums.tcp6_inuse,
        orphan: sums.v4.tcp.orphan,
        tw: sums.v4.tcp.tw,
        alloc: sums.v4.tcp.alloc,
        mem_pages: sums.v4.tcp.mem_pages,
        udp_mem_pages: sums.v4.udp_mem_pages,
    })
}

/// Resident memory of the target's processes together.
fn rss(selection: &Selection) -> Known<Rss> {
    let procfs = Procfs::default();
    let mut sum = Rss::default();
    for pid in &selection.pids {
        let split = procfs.rss_split(*pid).map_err(|e| e.to_string())?;
        let split = split.ok_or_else(|| format!("process {pid} has no memory of its own"))?;
        sum.total += split.total;
        sum.anon += split.anon;
        sum.file += split.file;
        sum.shmem += split.shmem;
    }
    Ok(sum)
}

/// The control group of the target's first process, else the root's.
fn memcg(selection: &Selection) -> Known<MemcgSock> {
    let text =
        fs::read("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
    let mounts = cgroup::parse_mounts(&String::from_utf8_lossy(&text));
    match selection.pids.first() {
        Some(pid) => {
            let path = Procfs::default().cgroup_path(*pid);
            memcg::of_process(&mounts, &path.map_err(|e| e.to_string())?)
        }
        // What all groups together are charged.
        None => memcg::read(&mounts, "/"),
    }
}

/// Limits: `tcp_mem` as this process sees it, the others as the target does.
fn limits(selection: &Selection) -> Limits {
    let own = Sysctls::read();
    let theirs = selection
        .pids
        .first()
        .and_then(|pid| in_netns_of(*pid, Sysctls::read).ok())
        .unwrap_or(own);
    Limits {
        tcp_mem: own.tcp_mem,
        tcp_rmem: theirs.tcp_rmem,
        tcp_wmem: theirs.tcp_wmem,
        rmem_max: own.rmem_max,
        wmem_max: own.wmem_max,
        bypass_prot_mem: sysctl::number("net/core/bypass_prot_mem").map(|n| n != 0),
        skb_defer_max: sysctl::number("net/core/skb_defer_max"),
    }
}
