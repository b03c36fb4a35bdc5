//! One reading of every socket: whose each is, which are meant, sums and groups. Pure: made
//! from an `Inventory`.
//!
//! * here: owners, selection, sums, order. * `entry`: what one socket says. * `group`: sums by process, listener, …

mod entry;
mod group;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;

pub use entry::Entry;
pub use group::{By, Group};

use super::OwnerKind;
use crate::facts::inventory::{Inventory, Selection};
use crate::facts::socket::{AF_INET, DiagSocket, LISTEN, Protocol};

/// Where a socket is in the inventory, and whose it was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    at: u32,
    kind: OwnerKind,
    pid: Option<u32>,
    /// Place in the inventory of the listener that it came through or is.
    listener: Option<u32>,
}

/// Sums over sockets; of usage only. Limits are never added up: they are nobody's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Sockets.
    pub sockets: u64,
    /// Memory held: see `Entry::resident`.
    pub resident: u64,
    /// `rmem_alloc`.
    pub rmem_alloc: u64,
    /// `wmem_alloc`; overlaps `wmem_queued`.
    pub wmem_alloc: u64,
    /// `wmem_queued`.
    pub wmem_queued: u64,
    /// `forward_alloc`; below zero for moments.
    pub forward_alloc: i64,
    /// `optmem`.
    pub optmem: u64,
    /// `backlog`.
    pub backlog: u64,
    /// `drops`: packets.
    pub drops: u64,
    /// Payload not read, of those sockets that tell.
    pub unread_bytes: u64,
    /// Payload not acknowledged, of those sockets that tell.
    pub unacked_bytes: u64,
    /// Sockets that listen.
    pub listening: u64,
    /// Sockets that wait to be accepted.
    pub unaccepted: u64,
    /// What those hold.
    pub unaccepted_resident: u64,
    /// Sockets that their process has closed.
    pub orphans: u64,
    /// What those hold.
    pub orphans_resident: u64,
    /// Sockets whose owner is not known.
    pub unknown: u64,
}

impl Sums {
    fn add(&mut self, e: &Entry<'_>) {
        self.sockets += 1;
        let resident = e.resident();
        if let Some(m) = e.mem() {
            self.rmem_alloc += u64::from(m.rmem_alloc);
            self.wmem_alloc += u64::from(m.wmem_alloc);
            self.wmem_queued += u64::from(m.wmem_queued);
            self.forward_alloc += i64::from(m.forward_alloc);
            self.optmem += u64::from(m.optmem);
            self.backlog += u64::from(m.backlog);
            self.drops += u64::from(m.drops);
        }
        let held = resident.unwrap_or(0);
        self.resident += held;
        self.unread_bytes += e.unread_bytes().unwrap_or(0);
        self.unacked_bytes += e.unacked_bytes().unwrap_or(0);
        self.listening += u64::from(e.listens());
        match e.kind() {
            OwnerKind::Process => {}
            OwnerKind::Listener => {
                self.unaccepted += 1;
                self.unaccepted_resident += held;
            }
            OwnerKind::Orphan => {
                self.orphans += 1;
                self.orphans_resident += held;
            }
            OwnerKind::Unknown => self.unknown += 1,
        }
    }
}

/// In which order sockets stand.
#[derive(Clone, Copy, Debug)]
pub enum Sort {
    /// By what they hold, most first.
    Resident,
    /// By any other number of an `Entry`, most first.
    Number(fn(&Entry<'_>) -> i64),
    /// By owner's pid, least first; unknown last.
    Pid,
    /// By local address and port.
    Local,
    /// By remote address and port.
    Remote,
    /// By state.
    State,
}

/// The sockets that are meant.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    inventory: &'a Inventory,
    rows: Vec<Row>,
    /// Sums over all of them, however few are shown.
    pub totals: Sums,
}

impl<'a> Snapshot<'a> {
    /// Finds owners and keeps what `selection` means.
    #[must_use]
    pub fn new(inventory: &'a Inventory, selection: &Selection) -> Self {
        let listeners = Listeners::of(inventory);
        let mut rows: Vec<Row> = Vec::with_capacity(inventory.sockets.len());
        for at in 0..inventory.sockets.len() {
            let row = owner(inventory, &listeners, selection, at);
            if meant(inventory, selection, &row) {
                rows.push(row);
            }
        }
        let mut snapshot = Snapshot {
            inventory,
            rows,
            totals: Sums::default(),
        };
        let mut totals = Sums::default();
        for entry in snapshot.entries() {
            totals.add(&entry);
        }
        snapshot.totals = totals;
        snapshot
    }

    /// What it was made from.
    #[must_use]
    pub fn inventory(&self) -> &'a Inventory {
        self.inventory
    }

    /// The sockets, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> + Clone {
        self.rows.iter().map(|row| Entry::new(self.inventory, row))
    }

    /// Puts them in order; of equal ones the older socket comes first.
    pub fn sort(&mut self, by: Sort) {
        let inventory = self.inventory;
        let cookie = |row: &Row| inventory.sockets[row.at as usize].socket.cookie;
        // The key that numbers are ordered by: most first.
        let most = |row: &Row, get: &dyn Fn(&Entry<'_>) -> i64| {
            std::cmp::Reverse(get(&Entry::new(inventory, row)))
        };
        let socket = |row: &Row| &inventory.sockets[row.at as usize].socket;
        match by {
            Sort::Resident => self.rows.sort_by_cached_key(|r| {
                let resident = Entry::new(inventory, r).resident();
                (std::cmp::Reverse(resident), cookie(r))
            }),
            Sort::Number(get) => self.rows.sort_by_cached_key(|r| (most(r, &get), cookie(r))),
            Sort::Pid => self
                .rows
                .sort_by_cached_key(|r| (r.pid.unwrap_or(u32::MAX), cookie(r))),
            Sort::Local => self.rows.sort_by_cached_key(|r| {
                let s = socket(r);
                (s.family, s.local, cookie(r))
            }),
            Sort::Remote => self.rows.sort_by_cached_key(|r| {
                let s = socket(r);
                (s.family, s.remote, cookie(r))
            }),
            Sort::State => self
                .rows
                .sort_by_cached_key(|r| (socket(r).state, cookie(r))),
        }
    }

    /// Sums by process, listener, …; what holds most first.
    #[must_use]
    pub fn groups(&self, by: By) -> Vec<Group> {
        group::groups(self, by)
    }
}

/// Listening sockets by namespace, transport and port.
struct Listeners(HashMap<(u32, Protocol, u16), Vec<u32>>);

impl Listeners {
    fn of(inventory: &Inventory) -> Self {
        let mut map: HashMap<_, Vec<u32>> = HashMap::new();
        for (at, l) in inventory.sockets.iter().enumerate() {
            if l.socket.state == LISTEN && l.protocol == Protocol::Tcp {
                let key = (l.namespace, l.protocol, l.socket.local.1);
                map.entry(key).or_default().push(at as u32);
            }
        }
        Listeners(map)
    }

    /// The listener that the socket can have come through: the one bound to the address itself
    /// before the one bound to any.
    fn parent(&self, inventory: &Inventory, at: usize) -> Option<u32> {
        let l = &inventory.sockets[at];
        let candidates = self
            .0
            .get(&(l.namespace, l.protocol, l.socket.local.1))?
            .iter()
            .copied();
        let of = |i: u32| &inventory.sockets[i as usize].socket;
        candidates
            .filter(|i| is_parent(of(*i), &l.socket))
            .max_by_key(|i| of(*i).local.0 == l.socket.local.0)
    }
}

/// Whether `child` can have come through `listener`: same port, and an address that it takes.
fn is_parent(listener: &DiagSocket, child: &DiagSocket) -> bool {
    let any = listener.local.0 == [0; 16];
    listener.local.1 == child.local.1
        && if any {
            // A listener on [::] takes IPv4 too, unless IPV6_V6ONLY is set, which is not shown here.
            listener.family == child.family || listener.family != AF_INET
        } else {
            listener.family == child.family && listener.local.0 == child.local.0
        }
}

/// Whose the socket is.
fn owner(inventory: &Inventory, listeners: &Listeners, selection: &Selection, at: usize) -> Row {
    let l = &inventory.sockets[at];
    let s = &l.socket;
    let mut row = Row {
        at: at as u32,
        kind: OwnerKind::Unknown,
        pid: None,
        listener: None,
    };
    if l.protocol == Protocol::Tcp {
        row.listener = if s.state == LISTEN {
            Some(row.at)
        } else {
            listeners.parent(inventory, at)
        };
    }
    if s.inode != 0 {
        row.pid = holder(inventory, selection, s.inode);
        if row.pid.is_some() {
            row.kind = OwnerKind::Process;
        }
        return row;
    }
    // Without a file. What a process has closed has sent its FIN, or is about to; what none has
    // accepted yet has not (net/ipv4/tcp.c, `tcp_close_state`; net/ipv4/inet_connection_sock.c).
    const SYN_RECV: u8 = 3;
    const ESTABLISHED: u8 = 1;
    const CLOSE_WAIT: u8 = 8;
    if matches!(s.state, ESTABLISHED | SYN_RECV | CLOSE_WAIT) {
        if let Some(parent) = row.listener {
            row.kind = OwnerKind::Listener;
            let inode = inventory.sockets[parent as usize].socket.inode;
            row.pid = holder(inventory, selection, inode);
        }
    } else if s.state != LISTEN && l.protocol == Protocol::Tcp {
        row.kind = OwnerKind::Orphan;
    }
    row
}

/// Of the processes that hold it one that is meant, else the one of the lowest pid.
fn holder(inventory: &Inventory, selection: &Selection, inode: u64) -> Option<u32> {
    let holders = inventory.holders.of(inode);
    let meant = holders.iter().find(|h| selection.pids.contains(&h.pid));
    meant.or(holders.first()).map(|h| h.pid)
}

fn meant(inventory: &Inventory, selection: &Selection, row: &Row) -> bool {
    let s = &inventory.sockets[row.at as usize].socket;
    let inet = inventory.sockets[row.at as usize].protocol != Protocol::Unix;
    selection.all
        || row.pid.is_some_and(|pid| selection.pids.contains(&pid))
        || inet
            && selection
                .ports
                .iter()
                .any(|p| s.local.1 == *p || s.state != LISTEN && s.remote.1 == *p)
        || row.listener.is_some_and(|at| {
            let l = &inventory.sockets[at as usize].socket;
            let wanted = &selection.listeners;
            wanted
                .iter()
                .any(|(addr, port)| *port == l.local.1 && addr.is_none_or(|a| a == address(l)))
        })
}

fn address(s: &DiagSocket) -> IpAddr {
    if s.family == AF_INET {
        IpAddr::from([s.local.0[0], s.local.0[1], s.local.0[2], s.local.0[3]])
    } else {
        IpAddr::from(s.local.0)
    }
}
