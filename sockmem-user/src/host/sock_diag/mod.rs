//! Every TCP socket of one network namespace, read through NETLINK_SOCK_DIAG.
//!
//! A `SockDiag` belongs to the network namespace that its thread was in when it
//! was opened, and may then be used from any thread: `netns::in_netns_of(pid,
//! SockDiag::open)` reads another namespace.
//!
//! What it cannot show: inet_diag walks the kernel's hash tables, so sockets in
//! state CLOSE are found only while they are bound, and only from 6.8.

mod wire;

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

pub use wire::{MalformedDiag, parse_inet_diag};

/// `AF_INET`, as `DiagSocket::family` holds it.
pub const AF_INET: u8 = libc::AF_INET as u8;
/// `AF_INET6`, as `DiagSocket::family` holds it.
pub const AF_INET6: u8 = libc::AF_INET6 as u8;

/// One dump message is at most 32 KiB (`netlink_recvmsg` caps `max_recvmsg_len`
/// there, net/netlink/af_netlink.c, 5.10 to 7.2); twice that never truncates.
const BUFFER: usize = 64 * 1024;

/// How often one dump is begun again when the kernel says that it was interrupted.
const MAX_RESTARTS: u32 = 3;

/// A socket's memory: attribute `INET_DIAG_SKMEMINFO`, the kernel's
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

/// One TCP socket as `struct inet_diag_msg` describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiagSocket {
    /// `sk_cookie`: never reused while the host is up.
    pub cookie: u64,
    /// Inode of its file; 0 without a file (not accepted yet, or orphan).
    pub inode: u64,
    /// User id that its file belongs to.
    pub uid: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// `sk_state` (`TCP_*`, as `SockState::tcp_state`).
    pub state: u8,
    /// Address in network byte order, IPv4 in the first four bytes; port in host byte order.
    pub local: ([u8; 16], u16),
    /// As `local`.
    pub remote: ([u8; 16], u16),
    /// Payload not read yet, bytes; of a listener the connections that wait to be accepted.
    pub rqueue: u32,
    /// Payload not acknowledged yet, bytes; of a listener its limit on waiting connections.
    pub wqueue: u32,
    /// `None` for a time-wait or request mini-socket, which holds no buffers.
    pub meminfo: Option<Meminfo>,
}

/// What one dump went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpInfo {
    /// Sockets given to the closure, repeated ones included.
    pub sockets: u64,
    /// Mini-sockets left out: time-wait sockets and connection requests, which hold no buffers.
    pub minis: u64,
    /// How often the kernel interrupted the dump, so that it was begun again.
    pub restarts: u32,
    /// Still interrupted at the last attempt: sockets may be missing.
    pub incomplete: bool,
}

/// Why sockets could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The kernel has no sock_diag for TCP loaded.
    #[error(
        "reading TCP sockets needs the kernel module tcp_diag, and the kernel has not loaded it ({0}): run `sudo modprobe tcp_diag`"
    )]
    Unavailable(Errno),
    /// A security policy or a seccomp filter forbids it.
    #[error(
        "reading TCP sockets needs a NETLINK_SOCK_DIAG socket, and this process may not use one ({0}): run it with sudo, or outside of the sandbox that forbids it"
    )]
    Denied(Errno),
    /// Any other answer of the kernel.
    #[error("reading TCP sockets: the kernel answered {0} to {1}")]
    Kernel(Errno, &'static str),
    /// What the kernel sent is not what its header files say.
    #[error("reading TCP sockets: {0}")]
    Malformed(#[from] MalformedDiag),
}

impl DiagError {
    fn from_errno(errno: Errno, doing: &'static str) -> Self {
        match errno {
            // No handler for the family, none for TCP, or no sock_diag at all
            // (net/core/sock_diag.c, net/ipv4/inet_diag.c, netlink_create()).
            Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT => {
                DiagError::Unavailable(errno)
            }
            Errno::EACCES | Errno::EPERM => DiagError::Denied(errno),
            _ => DiagError::Kernel(errno, doing),
        }
    }
}

/// An open sock_diag socket and its buffer.
#[derive(Debug)]
pub struct SockDiag {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

impl SockDiag {
    /// Opens it in the calling thread's network namespace. Needs no privilege.
    ///
    /// # Errors
    /// `DiagError::Unavailable` where the kernel has no sock_diag, `Denied` where a
    /// policy forbids it.
    pub fn open() -> Result<Self, DiagError> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )
        .map_err(|errno| DiagError::from_errno(errno, "socket()"))?;
        Ok(SockDiag {
            fd,
            seq: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Gives every TCP socket of the namespace, IPv4 and IPv6, to `each`.
    ///
    /// Sockets come and go while the kernel walks its tables, so one may be given
    /// twice (the later reading counts) or, if it moved, not at all: whoever sums
    /// them keys them by cookie.
    ///
    /// # Errors
    /// `DiagError`; sockets given before it are valid. After `Malformed` the kernel
    /// may still be in the middle of its answer: open a new `SockDiag`.
    pub fn dump_tcp(&mut self, mut each: impl FnMut(&DiagSocket)) -> Result<DumpInfo, DiagError> {
        self.dump(wire::STATES, &mut each)
    }

    /// Asks for as little as possible, to learn whether it works.
    ///
    /// # Errors
    /// As `dump_tcp`.
    pub fn probe(&mut self) -> Result<(), DiagError> {
        // Listeners only: the kernel skips its table of connections.
        self.dump(wire::STATE_LISTEN, &mut |_| {}).map(|_| ())
    }

    fn dump(
        &mut self,
        states: u32,
        each: &mut impl FnMut(&DiagSocket),
    ) -> Result<DumpInfo, DiagError> {
        let mut info = DumpInfo::default();
        while self.dump_once(states, &mut info, each)? {
            if info.restarts == MAX_RESTARTS {
                info.incomplete = true;
                break;
            }
            info.restarts += 1;
        }
        Ok(info)
    }

    /// One dump; whether the kernel said that it was interrupted.
    fn dump_once(
        &mut self,
        states: u32,
        info: &mut DumpInfo,
        each: &mut impl FnMut(&DiagSocket),
    ) -> Result<bool, DiagError> {
        self.seq = self.seq.wrapping_add(1);
        let request = wire::request(states, self.seq);
        retry(|| send(self.fd.as_raw_fd(), &request, MsgFlags::empty()))
            .map_err(|errno| DiagError::from_errno(errno, "the request"))?;
        let mut interrupted = false;
        loop {
            let fd = self.fd.as_raw_fd();
            let len = retry(|| recv(fd, &mut self.buffer, MsgFlags::MSG_TRUNC))
                .map_err(|errno| DiagError::from_errno(errno, "recv()"))?;
            // MSG_TRUNC reports the datagram's full length, also where it did not fit.
            let Some(bytes) = self.buffer.get(..len) else {
                return Err(DiagError::Malformed(MalformedDiag::Length {
                    what: "netlink datagram",
                    have: self.buffer.len(),
                    need: len,
                }));
            };
            let batch = wire::read_batch(bytes, self.seq, info, each)?;
            interrupted |= batch.interrupted;
            match batch.end {
                None => {}
                Some(Ok(())) => return Ok(interrupted),
                Some(Err(errno)) => return Err(DiagError::from_errno(errno, "the dump")),
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
