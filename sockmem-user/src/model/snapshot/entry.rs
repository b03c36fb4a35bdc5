//! What one socket of a snapshot says.

use std::borrow::Cow;

use super::Row;
use crate::facts::inventory::{Holder, Inventory, Listed, NamespaceFact, ProcessFact};
use crate::facts::socket::{AF_INET, AF_INET6, DiagSocket, LISTEN, Meminfo, Protocol};
use crate::model::OwnerKind;
use crate::model::address::{push_address, push_endpoint, push_number, state_name};

/// `SOCK_STREAM`.
const SOCK_STREAM: u8 = 1;
/// `SOCK_SEQPACKET`.
const SOCK_SEQPACKET: u8 = 5;

/// A socket of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    inventory: &'a Inventory,
    row: &'a Row,
}

impl<'a> Entry<'a> {
    pub(super) fn new(inventory: &'a Inventory, row: &'a Row) -> Self {
        Entry { inventory, row }
    }

    fn listed(&self) -> &'a Listed {
        &self.inventory.sockets[self.row.at as usize]
    }

    /// As the kernel describes it.
    #[must_use]
    pub fn socket(&self) -> &'a DiagSocket {
        &self.listed().socket
    }

    /// Its counters; `None` where the kernel gave none.
    #[must_use]
    pub fn mem(&self) -> Option<&'a Meminfo> {
        self.socket().meminfo.as_ref()
    }

    /// Its transport.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.listed().protocol
    }

    /// `inet`, `inet6` or `unix`.
    #[must_use]
    pub fn family(&self) -> &'static str {
        match self.socket().family {
            AF_INET => "inet",
            AF_INET6 => "inet6",
            _ => "unix",
        }
    }

    /// The kernel's name of its state.
    #[must_use]
    pub fn state(&self) -> &'static str {
        state_name(self.socket().state)
    }

    /// Whether it listens.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.socket().state == LISTEN && self.protocol() != Protocol::Udp
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &'a NamespaceFact {
        &self.inventory.namespaces[self.listed().namespace as usize]
    }

    /// Appends the local end: `10.0.0.1:443`; of a unix socket its path, `@name`, or `*`. Unescaped.
    pub fn push_local(&self, out: &mut String) {
        let s = self.socket();
        match (self.protocol(), &self.listed().name) {
            (Protocol::Unix, None) => out.push('*'),
            (Protocol::Unix, Some(name)) => match name.split_first() {
                Some((0, name)) => {
                    out.push('@');
                    out.push_str(&String::from_utf8_lossy(name));
                }
                _ => {
                    // The kernel may count the NUL at a path's end.
                    let path = name.strip_suffix(&[0]).unwrap_or(name);
                    out.push_str(&String::from_utf8_lossy(path));
                }
            },
            _ => push_endpoint(out, s.family, &s.local.0, s.local.1),
        }
    }

    /// Appends the remote end; of a unix socket the inode of its peer, or `*`.
    pub fn push_remote(&self, out: &mut String) {
        let s = self.socket();
        match self.protocol() {
            Protocol::Unix if s.peer_inode == 0 => out.push('*'),
            Protocol::Unix => {
                out.push_str("inode:");
                push_number(out, u64::from(s.peer_inode));
            }
            _ => push_endpoint(out, s.family, &s.remote.0, s.remote.1),
        }
    }

    /// Appends the remote address without its port, as groups have it.
    pub(super) fn push_remote_address(&self, out: &mut String) {
        let s = self.socket();
        match self.protocol() {
            Protocol::Unix => out.push_str("unix"),
            _ if s.remote.1 == 0 => out.push_str("not connected"),
            _ => push_address(out, s.family, &s.remote.0),
        }
    }

    /// Memory that it holds, in the kernel's accounts. TCP: `rmem_alloc + wmem_queued + forward_alloc`,
    /// charged to `tcp_mem`. UDP: `rmem_alloc + forward_alloc`, charged to `udp_mem`. Unix: `wmem_alloc`,
    /// what it sent and its peer has not read; charged to no limit but its own.
    #[must_use]
    pub fn resident(&self) -> Option<u64> {
        let m = self.mem()?;
        Some(match self.protocol() {
            Protocol::Tcp => m.resident(),
            Protocol::Udp => {
                u64::try_from(i64::from(m.rmem_alloc) + i64::from(m.forward_alloc)).unwrap_or(0)
            }
            Protocol::Unix => u64::from(m.wmem_alloc),
        })
    }

    /// Payload that was received and not read; `None` where the kernel does not tell, of
    /// listeners, whose number counts connections, and of UDP, whose number is memory.
    #[must_use]
    pub fn unread_bytes(&self) -> Option<u64> {
        let s = self.socket();
        let tells = match self.protocol() {
            Protocol::Tcp => true,
            Protocol::Udp => false,
            Protocol::Unix => matches!(s.kind, SOCK_STREAM | SOCK_SEQPACKET),
        };
        (tells && s.state != LISTEN).then_some(u64::from(s.rqueue))
    }

    /// Payload that was written and is not acknowledged; TCP only.
    #[must_use]
    pub fn unacked_bytes(&self) -> Option<u64> {
        let s = self.socket();
        (self.protocol() == Protocol::Tcp && s.state != LISTEN).then_some(u64::from(s.wqueue))
    }

    /// Of a listener: connections that wait to be accepted, and how many may.
    #[must_use]
    pub fn accept_queue(&self) -> Option<(u32, u32)> {
        let s = self.socket();
        self.listens().then_some((s.rqueue, s.wqueue))
    }

    /// What its owner is to it.
    #[must_use]
    pub fn kind(&self) -> OwnerKind {
        self.row.kind
    }

    /// The process that holds it, or listens for it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.row.pid
    }

    /// What is known of that process.
    #[must_use]
    pub fn process(&self) -> Option<&'a ProcessFact> {
        self.inventory.processes.get(&self.row.pid?)
    }

    /// The control group that it was made in, where the kernel tells; else its process's.
    #[must_use]
    pub fn cgroup(&self) -> Option<Cow<'a, str>> {
        const ROOT: u64 = 1;
        let by_id = |id| {
            self.inventory
                .cgroups
                .get(&id)
                .map(|p| Cow::from(p.as_str()))
        };
        let own = self.socket().cgroup_id;
        // Where version 1 is in use, every socket is in the root of version 2, which says nothing.
        own.filter(|id| *id != ROOT)
            .and_then(by_id)
            .or_else(|| Some(Cow::from(self.process()?.cgroup.as_deref()?)))
            .or_else(|| own.and_then(by_id))
    }

    /// Every descriptor that refers to it.
    #[must_use]
    pub fn holders(&self) -> &'a [Holder] {
        match self.socket().inode {
            0 => &[],
            inode => self.inventory.holders.of(inode),
        }
    }

    /// The name of one of the processes that hold it; unescaped.
    #[must_use]
    pub fn comm_of(&self, pid: u32) -> Option<&'a str> {
        self.inventory.processes.get(&pid)?.comm.as_deref()
    }

    /// The listener that it came through, or is.
    #[must_use]
    pub fn listener(&self) -> Option<&'a DiagSocket> {
        let at = self.row.listener?;
        Some(&self.inventory.sockets[at as usize].socket)
    }
}
