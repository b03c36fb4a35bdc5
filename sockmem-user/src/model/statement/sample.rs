//! Facts made up for tests, to go with `snapshot::sample`.

use crate::facts::memory::{
    Limits, MemcgSock, MemoryFacts, Reserve, Rss, Slab, SlabCache, SystemMemory, TcpSums,
};

/// `/proc/net/sockstat` with so many pages.
pub(crate) fn sums(mem_pages: u64) -> TcpSums {
    TcpSums {
        inuse: 5,
        inuse6: Some(1),
        orphan: 1,
        tw: 2,
        alloc: 6,
        mem_pages,
        udp_mem_pages: Some(1),
    }
}

/// One cache.
pub(crate) fn cache(name: &str, object_size: u64, per_slab: u64, pages_per_slab: u64) -> SlabCache {
    SlabCache {
        name: name.into(),
        active: 100,
        total: 130,
        object_size,
        per_slab,
        pages_per_slab,
    }
}

/// A current kernel with two CPUs whose shares are not read; the sample's 21 pages are charged.
pub(crate) fn facts() -> MemoryFacts {
    let alias = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    MemoryFacts {
        page_size: 4096,
        cpus: Some(2),
        before: Ok(sums(99)),
        after: Ok(sums(99)),
        reserve: Reserve::Bounded {
            pages_per_cpu: 256,
            cpus: 2,
            why: "this kernel does not list its address".into(),
        },
        gives_back: Some(true),
        defers: Some(true),
        system: Ok(SystemMemory {
            total: 1 << 30,
            free: 700 << 20,
            buffers: Some(10 << 20),
            cached: Some(100 << 20),
            swap_cached: Some(0),
            anon_pages: Some(60 << 20),
            slab: Some(50 << 20),
            slab_reclaimable: Some(30 << 20),
            slab_unreclaimable: Some(20 << 20),
            kernel_reclaimable: Some(31 << 20),
            kernel_stack: Some(2 << 20),
            page_tables: Some(3 << 20),
            sec_page_tables: None,
            vmalloc_used: Some(4 << 20),
            percpu: Some(1 << 20),
            hugetlb: Some(0),
        }),
        rss: Some(Ok(Rss {
            total: 15 << 20,
            anon: 5 << 20,
            file: 10 << 20,
            shmem: 0,
        })),
        memcg: Ok(MemcgSock {
            source: "/sys/fs/cgroup/web/memory.stat sock".into(),
            bytes: 77_824,
        }),
        slab: Ok(Slab {
            caches: vec![
                cache("TCP", 2368, 13, 8),
                cache("TCPv6", 2496, 13, 8),
                cache("sock_inode_cache", 832, 19, 4),
                cache("pid", 192, 21, 1),
                cache("dentry", 192, 21, 1),
                cache("eventpoll_epi", 128, 32, 1),
                cache("anon_vma_chain", 64, 64, 1),
                cache("tw_sock_TCP", 256, 16, 1),
            ],
            aliases: [
                alias("filp", ":A-0000192"),
                alias("pid", ":A-0000192"),
                alias("eventpoll_pwq", ":0000064"),
                alias("anon_vma_chain", ":0000064"),
            ]
            .into(),
        }),
        limits: Limits {
            tcp_mem: Some([1000, 2000, 4000]),
            tcp_rmem: Some([4096, 131_072, 33_554_432]),
            tcp_wmem: Some([4096, 16_384, 4_194_304]),
            rmem_max: Some(212_992),
            wmem_max: Some(212_992),
            bypass_prot_mem: None,
            skb_defer_max: Some(64),
        },
    }
}
