//! What the host reports about memory, as far as sockets are concerned. Bytes unless said otherwise.

use std::collections::BTreeMap;

/// `/proc/meminfo`; a line that this kernel does not have is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemMemory {
    /// `MemTotal`.
    pub total: u64,
    /// `MemFree`.
    pub free: u64,
    /// `Buffers`.
    pub buffers: Option<u64>,
    /// `Cached`: page cache and shared memory.
    pub cached: Option<u64>,
    /// `SwapCached`.
    pub swap_cached: Option<u64>,
    /// `AnonPages`.
    pub anon_pages: Option<u64>,
    /// `Slab`.
    pub slab: Option<u64>,
    /// `SReclaimable`, part of `Slab`.
    pub slab_reclaimable: Option<u64>,
    /// `SUnreclaim`, part of `Slab`.
    pub slab_unreclaimable: Option<u64>,
    /// `KReclaimable`: `SReclaimable` and more.
    pub kernel_reclaimable: Option<u64>,
    /// `KernelStack`.
    pub kernel_stack: Option<u64>,
    /// `PageTables`.
    pub page_tables: Option<u64>,
    /// `SecPageTables`.
    pub sec_page_tables: Option<u64>,
    /// `VmallocUsed`.
    pub vmalloc_used: Option<u64>,
    /// `Percpu`.
    pub percpu: Option<u64>,
    /// `Hugetlb`.
    pub hugetlb: Option<u64>,
}

impl SystemMemory {
    /// Memory in no line: `MemTotal` less every line that counts pages of its own. Socket payload is
    /// in it, beside pages that drivers, the kernel's image and others took from the page allocator.
    #[must_use]
    pub fn in_no_line(&self) -> u64 {
        let reclaimable = self
            .kernel_reclaimable
            .unwrap_or(0)
            .saturating_sub(self.slab_reclaimable.unwrap_or(0));
        [
            Some(self.free),
            self.buffers,
            self.cached,
            self.swap_cached,
            self.anon_pages,
            self.slab,
            Some(reclaimable),
            self.kernel_stack,
            self.page_tables,
            self.sec_page_tables,
            self.vmalloc_used,
            self.percpu,
            self.hugetlb,
        ]
        .into_iter()
        .flatten()
        .fold(self.total, u64::saturating_sub)
    }
}

/// Resident memory of processes: `VmRSS` and what it is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rss {
    /// `VmRSS`: what `top` calls RES.
    pub total: u64,
    /// `RssAnon`: heap and stacks.
    pub anon: u64,
    /// `RssFile`: mapped files.
    pub file: u64,
    /// `RssShmem`: shared memory.
    pub shmem: u64,
}

/// A line of `/proc/slabinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlabCache {
    /// Its first name.
    pub name: String,
    /// Objects in use; not exact on kernels that keep some for each CPU.
    pub active: u64,
    /// Objects that there is room for.
    pub total: u64,
    /// Bytes that an object takes, with what the allocator adds.
    pub object_size: u64,
    /// Objects in a slab.
    pub per_slab: u64,
    /// Pages in a slab.
    pub pages_per_slab: u64,
}

impl SlabCache {
    /// An object's share of the pages that it lies in, rounded up.
    #[must_use]
    pub fn bytes_per_object(&self, page_size: u64) -> u64 {
        match self.per_slab {
            0 => self.object_size,
            n => self.pages_per_slab.saturating_mul(page_size).div_ceil(n),
        }
    }
}

/// The slab caches, and which names stand for the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slab {
    /// `/proc/slabinfo`.
    pub caches: Vec<SlabCache>,
    /// Links in `/sys/kernel/slab`: name to the cache that it was merged into.
    pub aliases: BTreeMap<String, String>,
}

/// What a control group is charged for socket buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemcgSock {
    /// File and field.
    pub source: String,
    /// Bytes.
    pub bytes: u64,
}

/// `/proc/net/sockstat`, as far as TCP is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSums {
    /// IPv4 sockets in use in the namespace.
    pub inuse: u64,
    /// IPv6 sockets in use in the namespace; `None` without IPv6.
    pub inuse6: Option<u64>,
    /// Orphans of the whole host.
    pub orphan: u64,
    /// Time-wait sockets of the namespace.
    pub tw: u64,
    /// TCP sockets of the whole host.
    pub alloc: u64,
    /// `tcp_memory_allocated` of the whole host, pages; printed as 0 where it is below.
    pub mem_pages: u64,
    /// Pages charged to UDP, of the whole host.
    pub udp_mem_pages: Option<u64>,
}

/// The CPUs' shares of `tcp_memory_allocated` that sockstat does not show
/// (`tcp_memory_per_cpu_fw_alloc`, net/ipv4/tcp.c, from 6.0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// This kernel has none: sockstat is exact.
    Absent,
    /// Read: pages of each CPU, before and after the sockets were read.
    Exact {
        /// Sum before.
        before: i64,
        /// Sum after.
        after: i64,
        /// CPUs read.
        cpus: u32,
    },
    /// Not read; each CPU may hold this many pages back, or owe them.
    Bounded {
        /// `net.core.mem_pcpu_rsv`, or what kernels before 6.5 have fixed.
        pages_per_cpu: u64,
        /// CPUs that there may be.
        cpus: u32,
        /// Why it was not read.
        why: String,
    },
}

/// The kernel's limits on TCP memory; what is not shown is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `net.ipv4.tcp_mem`: low, pressure, high; pages, of the whole host.
    pub tcp_mem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_rmem`: minimum, initial, most; of the target's namespace.
    pub tcp_rmem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_wmem`: the same of the send side.
    pub tcp_wmem: Option<[u64; 3]>,
    /// `net.core.rmem_max`.
    pub rmem_max: Option<u64>,
    /// `net.core.wmem_max`.
    pub wmem_max: Option<u64>,
    /// `net.core.bypass_prot_mem`: whether sockets are made that `tcp_mem` does not count (7.x);
    /// `None` where the kernel has no such setting.
    pub bypass_prot_mem: Option<bool>,
    /// `net.core.skb_defer_max`; `None` where the kernel has no such setting.
    pub skb_defer_max: Option<u64>,
}

/// A number that may be unknown, with the reason then.
pub type Known<T> = Result<T, String>;

/// All of it.
#[derive(Clone, Debug)]
pub struct MemoryFacts {
    /// Bytes in a page.
    pub page_size: u64,
    /// CPUs online.
    pub cpus: Option<u32>,
    /// `/proc/net/sockstat` right before the sockets were read.
    pub before: Known<TcpSums>,
    /// And right after.
    pub after: Known<TcpSums>,
    /// The CPUs' shares.
    pub reserve: Reserve,
    /// Whether a drained socket gives its `forward_alloc` back (6.0 and later); `None` where not known.
    pub gives_back: Option<bool>,
    /// Whether skbs that were read may wait, charged to nobody, on a list of the CPU that made them
    /// (5.19 and later); `None` where not known.
    pub defers: Option<bool>,
    /// `/proc/meminfo`.
    pub system: Known<SystemMemory>,
    /// The target's processes together; `None` where the target is not processes.
    pub rss: Option<Known<Rss>>,
    /// The control group that the target's processes are in, or the root.
    pub memcg: Known<MemcgSock>,
    /// `/proc/slabinfo`.
    pub slab: Known<Slab>,
    /// The limits.
    pub limits: Limits,
}
