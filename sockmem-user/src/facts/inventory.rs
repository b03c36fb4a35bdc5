//! Every socket that could be read at one moment, and what was found about whose they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::socket::{DiagSocket, Protocol};

/// A descriptor of a process that refers to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The socket, by its inode.
    pub inode: u64,
    /// The process.
    pub pid: u32,
    /// The descriptor in it.
    pub fd: u32,
}

/// Sockets and the processes that hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// In order, each once.
    sorted: Vec<Holder>,
    /// Processes whose descriptors may not be seen: their sockets are missing.
    pub denied: u32,
}

impl Holders {
    /// Of these, in whatever order.
    #[must_use]
    pub fn new(mut all: Vec<Holder>, denied: u32) -> Self {
        all.sort_unstable();
        all.dedup();
        Holders {
            sorted: all,
            denied,
        }
    }

    /// The descriptors that refer to the socket of this inode, by pid, then number. Several
    /// processes share one after a fork or when it was passed on.
    #[must_use]
    pub fn of(&self, inode: u64) -> &[Holder] {
        let first = self.sorted.partition_point(|h| h.inode < inode);
        let same = self.sorted[first..].partition_point(|h| h.inode == inode);
        &self.sorted[first..first + same]
    }

    /// All of them, by inode.
    #[must_use]
    pub fn all(&self) -> &[Holder] {
        &self.sorted
    }
}

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFact {
    /// Name, unescaped.
    pub comm: Option<String>,
    /// Control group.
    pub cgroup: Option<String>,
}

/// One network namespace, and how reading it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFact {
    /// Inode number; 0 where it is not known.
    pub inode: u64,
    /// How it was found: `process 1`, `/run/netns/blue`.
    pub via: String,
    /// Why none or not all of its sockets were read.
    pub missing: Option<String>,
}

/// A socket, and which namespace it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As the kernel describes it.
    pub socket: DiagSocket,
    /// Its transport.
    pub protocol: Protocol,
    /// Place in `Inventory::namespaces`.
    pub namespace: u32,
    /// Path or abstract name (led by NUL) of a unix socket.
    pub name: Option<Box<[u8]>>,
}

/// All that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The sockets, each once.
    pub sockets: Vec<Listed>,
    /// Who holds them.
    pub holders: Holders,
    /// The processes that hold any.
    pub processes: BTreeMap<u32, ProcessFact>,
    /// Paths of version 2 cgroups, by id.
    pub cgroups: HashMap<u64, String>,
    /// The namespaces, those that could not be read among them.
    pub namespaces: Vec<NamespaceFact>,
    /// When the reading began and ended, nanoseconds of the epoch.
    pub taken_unix_ns: (u64, u64),
}

/// Which sockets are meant: those that match any of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Every socket.
    pub all: bool,
    /// Sockets of these processes.
    pub pids: BTreeSet<u32>,
    /// Sockets with these ports at either end.
    pub ports: Vec<u16>,
    /// Listeners and what comes through them; no address stands for any.
    pub listeners: Vec<(Option<IpAddr>, u16)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_found_by_inode_and_ordered() {
        let h = |inode, pid, fd| Holder { inode, pid, fd };
        let holders = Holders::new(vec![h(9, 2, 3), h(7, 2, 3), h(9, 1, 8), h(9, 2, 3)], 0);
        assert_eq!(holders.of(9), [h(9, 1, 8), h(9, 2, 3)]);
        assert_eq!(holders.of(7), [h(7, 2, 3)]);
        assert!(holders.of(8).is_empty() && holders.of(10).is_empty());
        assert_eq!(holders.all().len(), 3);
    }
}
