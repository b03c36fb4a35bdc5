//! Every socket of one network namespace, read through NETLINK_SOCK_DIAG: TCP, UDP, unix.
//!
//! A `SockDiag` belongs to the network namespace that its thread was in when it
//! was opened, and may then be used from any thread: `netns::in_netns_of(pid,
//! SockDiag::open)` reads another namespace.
//!
//! What it cannot show: inet_diag walks the kernel's hash tables, so sockets in
//! state CLOSE are found only while they are bound, and only from 6.8.

mod unix;
mod wire;

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

pub use crate::facts::socket::{AF_INET, AF_INET6, AF_UNIX, DiagSocket, Meminfo};
pub use unix::parse_unix_diag;
pub use wire::{MalformedDiag, parse_inet_diag};

/// One dump message is at most 32 KiB (`netlink_recvmsg` caps `max_recvmsg_len`
/// there, net/netlink/af_netlink.c, 5.10 to 7.2); twice that never truncates.
const BUFFER: usize = 64 * 1024;

/// How often one dump is begun again when the kernel says that it was interrupted.
const MAX_RESTARTS: u32 = 3;

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

impl DumpInfo {
    /// Adds what another dump went through.
    pub fn add(&mut self, other: DumpInfo) {
        self.sockets += other.sockets;
        self.minis += other.minis;
        self.restarts += other.restarts;
        self.incomplete |= other.incomplete;
    }
}

/// Why sockets could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The kernel has no sock_diag for TCP loaded.
    #[error(
        "reading TCP sockets needs the kernel module tcp_diag, and the kernel has not loaded it ({0}): run `sudo modprobe tcp_diag`"
    )]
    Unavailable(Errno),
    /// The kernel has no sock_diag for another kind loaded.
    #[error(
        "reading {kind} sockets needs the kernel module {module}, and the kernel has not loaded it ({errno}): run `sudo modprobe {module}`"
    )]
    NoModule {
        /// Which sockets.
        kind: &'static str,
        /// What reads them.
        module: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
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
    /// The same of sockets other than TCP.
    fn of(self, kind: &'static str, module: &'static str) -> Self {
        match self {
            DiagError::Unavailable(errno) => DiagError::NoModule {
                kind,
                module,
                errno,
            },
            other => other,
        }
    }

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
        self.dump(|seq| wire::request(wire::STATES, seq), &mut |socket, _| {
            each(socket);
        })
    }

    /// Gives every UDP socket of the namespace, IPv4 and then IPv6, to `each`; else as `dump_tcp`.
    /// `rqueue` and `wqueue` are memory here, not payload (net/ipv4/udp_diag.c).
    ///
    /// # Errors
    /// As `dump_tcp`.
    pub fn dump_udp(&mut self, mut each: impl FnMut(&DiagSocket)) -> Result<DumpInfo, DiagError> {
        let mut both = DumpInfo::default();
        for family in [AF_INET, AF_INET6] {
            let request = |seq| wire::request_udp(family, seq);
            let info = self.dump(request, &mut |socket, _| {
                each(socket);
            });
            both.add(info.map_err(|e| e.of("UDP", "udp_diag"))?);
        }
        Ok(both)
    }

    /// Gives every unix socket of the namespace with its name to `each`; else as `dump_tcp`.
    ///
    /// # Errors
    /// As `dump_tcp`.
    pub fn dump_unix(
        &mut self,
        mut each: impl FnMut(&DiagSocket, &[u8]),
    ) -> Result<DumpInfo, DiagError> {
        self.dump(unix::request, &mut each)
            .map_err(|e| e.of("unix", "unix_diag"))
    }

    /// Asks for as little as possible, to learn whether it works.
    ///
    /// # Errors
    /// As `dump_tcp`.
    pub fn probe(&mut self) -> Result<(), DiagError> {
        // Listeners only: the kernel skips its table of connections.
        self.dump(|seq| wire::request(wire::STATE_LISTEN, seq), &mut |_, _| {})
            .map(|_| ())
    }

    fn dump<R: AsRef<[u8]>>(
        &mut self,
        request: impl Fn(u32) -> R,
        each: &mut impl FnMut(&DiagSocket, &[u8]),
    ) -> Result<DumpInfo, DiagError> {
        let mut info = DumpInfo::default();
        while self.dump_once(&request, &mut info, each)? {
            if info.restarts == MAX_RESTARTS {
                info.incomplete = true;
                break;
            }
            info.restarts += 1;
        }
        Ok(info)
    }

    /// One dump; whether the kernel said that it was interrupted.
    fn dump_once<R: AsRef<[u8]>>(
        &mut self,
        request: impl Fn(u32) -> R,
        info: &mut DumpInfo,
        each: &mut impl FnMut(&DiagSocket, &[u8]),
    ) -> Result<bool, DiagError> {
        self.seq = self.seq.wrapping_add(1);
        let request = request(self.seq);
        retry(|| send(self.fd.as_raw_fd(), request.as_ref(), MsgFlags::empty()))
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
