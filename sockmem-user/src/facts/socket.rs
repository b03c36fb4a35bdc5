//! One socket as the kernel's sock_diag describes it.

/// `AF_UNIX`, as `DiagSocket::family` holds it.
pub const AF_UNIX: u8 = 1;
/// `AF_INET`, as `DiagSocket::family` holds it.
pub const AF_INET: u8 = 2;
/// `AF_INET6`, as `DiagSocket::family` holds it.
pub const AF_INET6: u8 = 10;

/// `TCP_LISTEN`: also what a listening unix socket says.
pub const LISTEN: u8 = 10;

/// Transport of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP over IPv4 or IPv6.
    #[default]
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// A unix socket of any type.
    Unix,
}

impl Protocol {
    /// The name in JSON and text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Unix => "unix",
        }
    }
}

/// A socket's memory: attributes `INET_DIAG_SKMEMINFO` and `UNIX_DIAG_MEMINFO`, the kernel's
/// `sk_get_meminfo()` (net/core/sock.c). Bytes, save `drops`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meminfo {
    /// `sk_backlog.rmem_alloc`.
    pub rmem_alloc: u32,
    /// `sk_rcvbuf`: a limit.
    pub rcvbuf: u32,
    /// `sk_wmem_alloc` minus its bias of 1; overlaps `wmem_queued`.
    pub wmem_alloc: u32,
    /// `sk_sndbuf`: a limit.
    pub sndbuf: u32,
    /// `sk_forward_alloc`; may be negative for a moment.
    pub forward_alloc: i32,
    /// `sk_wmem_queued`.
    pub wmem_queued: u32,
    /// `sk_omem_alloc`.
    pub optmem: u32,
    /// `sk_backlog.len`.
    pub backlog: u32,
    /// `sk_drops`: packets.
    pub drops: u32,
}

impl Meminfo {
    /// `rmem_alloc + wmem_queued + forward_alloc`, never below zero, as
    /// `sockmem_common::Counters::resident`.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let sum = i64::from(self.rmem_alloc)
            + i64::from(self.wmem_queued)
            + i64::from(self.forward_alloc);
        u64::try_from(sum).unwrap_or(0)
    }
}

/// One socket as `struct inet_diag_msg` or `struct unix_diag_msg` describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiagSocket {
    /// `sk_cookie`: never reused while the host is up.
    pub cookie: u64,
    /// Inode of its file; 0 without a file (not accepted yet, or orphan).
    pub inode: u64,
    /// User id that its file belongs to; 0 for unix sockets, which are not asked for it.
    pub uid: u32,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u8,
    /// `sk_state` (`TCP_*`, as `SockState::tcp_state`).
    pub state: u8,
    /// `sk_type` of a unix socket (`SOCK_STREAM`, …); else 0.
    pub kind: u8,
    /// Address in network byte order, IPv4 in the first four bytes; port in host byte order.
    pub local: ([u8; 16], u16),
    /// As `local`.
    pub remote: ([u8; 16], u16),
    /// `sk_bound_dev_if`: index of the interface that it is bound to; 0 for any.
    pub interface: u32,
    /// Inode of a unix socket's peer; 0 without one.
    pub peer_inode: u32,
    /// TCP: payload not read yet, bytes; of a listener the connections that wait to be accepted.
    pub rqueue: u32,
    /// TCP: payload not acknowledged yet, bytes; of a listener its limit on waiting connections.
    pub wqueue: u32,
    /// `INET_DIAG_CGROUP_ID`: version 2 cgroup that it was made in (from 5.8).
    pub cgroup_id: Option<u64>,
    /// `None` for a time-wait or request mini-socket, which holds no buffers.
    pub meminfo: Option<Meminfo>,
}
