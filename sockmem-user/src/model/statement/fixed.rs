//! What a connection costs before it carries a byte: objects in slab caches.

use crate::facts::memory::{Known, MemoryFacts, Slab, SlabCache};

/// Objects that every TCP socket with a file has.
const ENDPOINT: [&str; 3] = ["sock_inode_cache", "filp", "dentry"];
/// Objects that it has where a security module keeps something in each.
const SECURITY: [&str; 2] = ["lsm_inode_cache", "lsm_file_cache"];
/// Objects of each local port that a client's socket has to itself (the second from 6.1).
const PORT: [&str; 2] = ["tcp_bind_bucket", "tcp_bind2_bucket"];
/// Objects of each descriptor that epoll watches.
const EPOLL: [&str; 2] = ["eventpoll_epi", "eventpoll_pwq"];

/// One kind of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is made for: the cache's own name.
    pub name: &'static str,
    /// The cache in slabinfo; another one where caches were merged.
    pub cache: String,
    /// Other names of the same cache: its objects are theirs too.
    pub shared_with: Vec<String>,
    /// Bytes of an object.
    pub object_bytes: u64,
    /// An object's share of the pages that it lies in.
    pub slab_bytes: u64,
    /// Objects in use, of all the names.
    pub active: u64,
}

/// What one thing costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Sum of the objects.
    pub object_bytes: u64,
    /// Sum of their shares of slab pages: what `Slab` of meminfo grows by.
    pub slab_bytes: u64,
}

/// Costs, and the objects that they are made of.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// An IPv4 socket.
    pub tcp: Known<Cost>,
    /// An IPv6 socket.
    pub tcp_v6: Known<Cost>,
    /// A port of its own, as clients have one, in addition.
    pub port: Known<Cost>,
    /// A descriptor that epoll watches, in addition.
    pub epoll: Known<Cost>,
    /// A time-wait socket.
    pub time_wait: Known<Cost>,
    /// A connection request.
    pub request: Known<Cost>,
    /// Every object that was found.
    pub objects: Vec<Object>,
    /// How many of them share a cache under another name.
    pub merged: u64,
}

impl Fixed {
    pub(super) fn of(facts: &MemoryFacts) -> Known<Fixed> {
        let slab = facts.slab.as_ref().map_err(Clone::clone)?;
        let mut objects = Vec::new();
        let mut find = |name: &'static str| -> Known<Cost> {
            let object = object(slab, name, facts.page_size)?;
            let cost = Cost {
                object_bytes: object.object_bytes,
                slab_bytes: object.slab_bytes,
            };
            objects.push(object);
            Ok(cost)
        };
        let mut common = Ok(Cost::default());
        for name in ENDPOINT {
            common = add(common, find(name));
        }
        for name in SECURITY {
            // Without such a module there is no such cache.
            if let Ok(cost) = find(name) {
                common = add(common, Ok(cost));
            }
        }
        let tcp = add(common.clone(), find("TCP"));
        let tcp_v6 = add(common, find("TCPv6"));
        let mut port = find(PORT[0]);
        if let Ok(cost) = find(PORT[1]) {
            port = add(port, Ok(cost));
        }
        let epoll = EPOLL
            .into_iter()
            .try_fold(Cost::default(), |sum, name| add(Ok(sum), find(name)));
        let time_wait = find("tw_sock_TCP");
        let request = find("request_sock_TCP");
        let merged = objects.iter().filter(|o| o.name != o.cache).count() as u64;
        Ok(Fixed {
            tcp,
            tcp_v6,
            port,
            epoll,
            time_wait,
            request,
            objects,
            merged,
        })
    }
}

fn add(a: Known<Cost>, b: Known<Cost>) -> Known<Cost> {
    let (a, b) = (a?, b?);
    Ok(Cost {
        object_bytes: a.object_bytes + b.object_bytes,
        slab_bytes: a.slab_bytes + b.slab_bytes,
    })
}

/// The cache that objects of this name lie in.
fn object(slab: &Slab, name: &'static str, page_size: u64) -> Known<Object> {
    let named = |wanted: &str| slab.caches.iter().find(|c| c.name == wanted);
    let target = slab.aliases.get(name);
    let shared_with: Vec<String> = target.map_or_else(Vec::new, |target| {
        let same = slab.aliases.iter().filter(|(_, t)| *t == target);
        same.map(|(other, _)| other.clone())
            .filter(|other| other != name)
            .collect()
    });
    let cache: &SlabCache = named(name)
        .or_else(|| shared_with.iter().find_map(|other| named(other)))
        .or_else(|| named(target?))
        .ok_or_else(|| {
            let why = if slab.aliases.is_empty() {
                "it may be merged into another, and /sys/kernel/slab, which would tell, is not there"
            } else {
                "this kernel has no such cache"
            };
            format!("/proc/slabinfo has no {name}: {why}")
        })?;
    Ok(Object {
        name,
        cache: cache.name.clone(),
        shared_with,
        object_bytes: cache.object_size,
        slab_bytes: cache.bytes_per_object(page_size),
        active: cache.active,
    })
}
