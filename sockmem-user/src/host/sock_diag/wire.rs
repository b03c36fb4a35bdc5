//! The bytes of sock_diag: linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h. Pure.

use nix::errno::Errno;

use super::unix::parse_unix_diag;
use super::{AF_INET, AF_INET6, AF_UNIX, DiagSocket, DumpInfo, Meminfo};

/// `TCPDIAG_GETSOCK`: TCP of both families at once, as `ss -t` asks for it.
/// `SOCK_DIAG_BY_FAMILY` takes one at a time, so that the kernel walks its tables
/// twice. Measured on 6.18 with 262,144 buckets: for next to no sockets 0.4 ms,
/// with this 0.2 ms; for 8,000 8.4 ms and 7.6 ms.
pub(super) const TCPDIAG_GETSOCK: u16 = 18;
/// `SOCK_DIAG_BY_FAMILY`.
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `INET_DIAG_CGROUP_ID`, from 5.8: given without being asked for (`inet_diag_msg_attrs_fill`).
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `INET_DIAG_SKMEMINFO`.
const INET_DIAG_SKMEMINFO: u16 = 7;
/// `NLA_TYPE_MASK`: the two upper bits of an attribute's type are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// `sizeof(struct nlmsghdr)`.
pub(super) const NLMSGHDR: usize = 16;
/// `sizeof(struct inet_diag_req)`.
const REQUEST: usize = 60;
/// `sizeof(struct inet_diag_req_v2)`.
const REQUEST_V2: usize = 56;
/// `sizeof(struct inet_diag_msg)`.
const INET_DIAG_MSG: usize = 72;
/// `sizeof(struct rtattr)`.
const RTATTR: usize = 4;
/// `SK_MEMINFO_VARS` words; later kernels may add some behind.
const MEMINFO: usize = 9 * 4;

const fn bit(state: u32) -> u32 {
    1 << state
}

/// `TCPF_LISTEN`.
pub(super) const STATE_LISTEN: u32 = bit(10);

/// Every state of a full socket: `TCP_ESTABLISHED` (1) to `TCP_CLOSING` (11)
/// without `TCP_TIME_WAIT` (6), and `TCP_BOUND_INACTIVE` (13; before 6.8 nothing
/// has it). `TCP_NEW_SYN_RECV` (12) is left out, but inet_diag adds it to
/// `TCP_SYN_RECV` by itself, and time-wait sockets in their second FIN_WAIT2
/// pass as `TCP_FIN_WAIT2`: both are recognised by having no SKMEMINFO
/// (net/ipv4/inet_diag.c, `inet_req_diag_fill`, `inet_twsk_diag_fill`).
pub(super) const STATES: u32 = (bit(12) - bit(1)) & !bit(6) | bit(13);

/// Bytes that are not what the kernel's header files promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedDiag {
    /// Too few bytes.
    #[error("{what} has {have} bytes, needs {need}")]
    Length {
        /// Which structure.
        what: &'static str,
        /// Bytes present.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// A message or attribute claims less than its own header.
    #[error("{what} claims a length of {claims} bytes, less than its header")]
    Claim {
        /// Which structure.
        what: &'static str,
        /// The length it claims.
        claims: usize,
    },
}

/// A dump request: `struct nlmsghdr` and `struct inet_diag_req`.
pub(super) fn request(states: u32, seq: u32) -> [u8; NLMSGHDR + REQUEST] {
    let mut out = [0; NLMSGHDR + REQUEST];
    header(&mut out, TCPDIAG_GETSOCK, seq);
    // idiag_family, and lengths of addresses to match: not read by a dump.
    out[19] = 1 << (INET_DIAG_SKMEMINFO - 1); // idiag_ext
    // struct inet_diag_sockid, 20 to 68: ports 0 match any.
    out[68..72].copy_from_slice(&states.to_ne_bytes()); // idiag_states
    out
}

/// A dump request for the UDP sockets of one family: `struct nlmsghdr` and `struct inet_diag_req_v2`.
pub(super) fn request_udp(family: u8, seq: u32) -> [u8; NLMSGHDR + REQUEST_V2] {
    let mut out = [0; NLMSGHDR + REQUEST_V2];
    header(&mut out, SOCK_DIAG_BY_FAMILY, seq);
    out[16] = family; // sdiag_family
    out[17] = libc::IPPROTO_UDP as u8; // sdiag_protocol
    out[18] = 1 << (INET_DIAG_SKMEMINFO - 1); // idiag_ext
    out[20..24].copy_from_slice(&u32::MAX.to_ne_bytes()); // idiag_states
    out
}

/// Fills in the `struct nlmsghdr` of a dump request.
pub(super) fn header(out: &mut [u8], kind: u16, seq: u32) {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let len = out.len() as u32;
    out[0..4].copy_from_slice(&len.to_ne_bytes());
    out[4..6].copy_from_slice(&kind.to_ne_bytes());
    out[6..8].copy_from_slice(&flags.to_ne_bytes());
    out[8..12].copy_from_slice(&seq.to_ne_bytes());
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(std::array::from_fn(|i| b[at + i]))
}

pub(super) fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|i| b[at + i]))
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|i| b[at + i]))
}

fn port_at(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

fn address_at(b: &[u8], at: usize, family: u8) -> [u8; 16] {
    // IPv4 leaves the last twelve bytes as they are: zero since 3.10, but not promised.
    let len = if family == AF_INET { 4 } else { 16 };
    let mut out = [0; 16];
    out[..len].copy_from_slice(&b[at..at + len]);
    out
}

/// Reads one `struct inet_diag_msg` with its attributes: the payload of an
/// answer to `TCPDIAG_GETSOCK` or `SOCK_DIAG_BY_FAMILY`. `None` for a family other than IPv4 and IPv6.
/// Attributes that it does not know are skipped.
///
/// # Errors
/// `MalformedDiag` where the bytes end too early. Never panics.
pub fn parse_inet_diag(bytes: &[u8]) -> Result<Option<DiagSocket>, MalformedDiag> {
    let Some((msg, mut attributes)) = bytes.split_at_checked(INET_DIAG_MSG) else {
        return Err(MalformedDiag::Length {
            what: "inet_diag_msg",
            have: bytes.len(),
            need: INET_DIAG_MSG,
        });
    };
    let family = msg[0];
    if family != AF_INET && family != AF_INET6 {
        return Ok(None);
    }
    let mut socket = DiagSocket {
        cookie: u64::from(u32_at(msg, 44)) | u64::from(u32_at(msg, 48)) << 32,
        inode: u64::from(u32_at(msg, 68)),
        uid: u32_at(msg, 64),
        family,
        state: msg[1],
        local: (address_at(msg, 8, family), port_at(msg, 4)),
        remote: (address_at(msg, 24, family), port_at(msg, 6)),
        rqueue: u32_at(msg, 56),
        wqueue: u32_at(msg, 60),
        interface: u32_at(msg, 40),
        ..DiagSocket::default()
    };
    while !attributes.is_empty() {
        let (kind, payload, rest) = attribute(attributes)?;
        match kind {
            INET_DIAG_SKMEMINFO => socket.meminfo = meminfo(payload),
            INET_DIAG_CGROUP_ID if payload.len() >= 8 => {
                socket.cgroup_id = Some(u64_at(payload, 0));
            }
            _ => {}
        }
        attributes = rest;
    }
    Ok(Some(socket))
}

/// The first attribute's type and payload, and what follows it.
pub(super) fn attribute(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), MalformedDiag> {
    const WHAT: &str = "netlink attribute";
    if bytes.len() < RTATTR {
        return Err(MalformedDiag::Length {
            what: WHAT,
            have: bytes.len(),
            need: RTATTR,
        });
    }
    let len = usize::from(u16_at(bytes, 0));
    if len < RTATTR {
        return Err(MalformedDiag::Claim {
            what: WHAT,
            claims: len,
        });
    }
    let Some(whole) = bytes.get(..len) else {
        return Err(MalformedDiag::Length {
            what: WHAT,
            have: bytes.len(),
            need: len,
        });
    };
    // The last one's padding may be missing.
    let next = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    Ok((u16_at(bytes, 2) & NLA_TYPE_MASK, &whole[RTATTR..], next))
}

/// `None` where there are too few bytes.
pub(super) fn meminfo(bytes: &[u8]) -> Option<Meminfo> {
    let bytes = bytes.get(..MEMINFO)?;
    // The order of `enum SK_MEMINFO_*`, linux/sock_diag.h.
    let word = |i: usize| u32_at(bytes, i * 4);
    Some(Meminfo {
        rmem_alloc: word(0),
        rcvbuf: word(1),
        wmem_alloc: word(2),
        sndbuf: word(3),
        forward_alloc: word(4) as i32,
        wmem_queued: word(5),
        optmem: word(6),
        backlog: word(7),
        drops: word(8),
    })
}

/// What one datagram of a dump said besides its sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// `NLM_F_DUMP_INTR` was set: the tables changed in a way that the kernel noticed.
    pub(super) interrupted: bool,
    /// The dump is over, well or not.
    pub(super) end: Option<Result<(), Errno>>,
}

/// Reads a datagram: gives full sockets to `each`, with the names of unix sockets, counts them in `info`.
/// Messages of another sequence number are left-overs of an earlier dump and skipped.
pub(super) fn read_batch(
    mut bytes: &[u8],
    seq: u32,
    info: &mut DumpInfo,
    each: &mut impl FnMut(&DiagSocket, &[u8]),
) -> Result<Batch, MalformedDiag> {
    const WHAT: &str = "netlink message";
    let mut batch = Batch::default();
    while !bytes.is_empty() {
        if bytes.len() < NLMSGHDR {
            return Err(MalformedDiag::Length {
                what: WHAT,
                have: bytes.len(),
                need: NLMSGHDR,
            });
        }
        let len = u32_at(bytes, 0) as usize;
        if len < NLMSGHDR {
            return Err(MalformedDiag::Claim {
                what: WHAT,
                claims: len,
            });
        }
        let Some(message) = bytes.get(..len) else {
            return Err(MalformedDiag::Length {
                what: WHAT,
                have: bytes.len(),
                need: len,
            });
        };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        if u32_at(message, 8) != seq {
            continue;
        }
        batch.interrupted |= u16_at(message, 6) & libc::NLM_F_DUMP_INTR as u16 != 0;
        let payload = &message[NLMSGHDR..];
        match i32::from(u16_at(message, 4)) {
            libc::NLMSG_ERROR => {
                batch.end = Some(status(payload, "netlink error")?);
                break;
            }
            libc::NLMSG_DONE => {
                // A dump that fails on its way ends like this, the error in the payload;
                // kernels may send no payload at all.
                let end = if payload.is_empty() {
                    Ok(())
                } else {
                    status(payload, "dump's end")?
                };
                batch.end = Some(end);
                break;
            }
            kind if kind == i32::from(SOCK_DIAG_BY_FAMILY) && payload.first() == Some(&AF_UNIX) => {
                let (socket, name) = parse_unix_diag(payload)?;
                info.sockets += 1;
                each(&socket, name);
            }
            kind if kind == i32::from(TCPDIAG_GETSOCK)
                || kind == i32::from(SOCK_DIAG_BY_FAMILY) =>
            {
                match parse_inet_diag(payload)? {
                    Some(socket) if socket.meminfo.is_some() => {
                        info.sockets += 1;
                        each(&socket, &[]);
                    }
                    Some(_) => info.minis += 1,
                    None => {}
                }
            }
            _ => {}
        }
    }
    Ok(batch)
}

/// The status that an error or the end of a dump carries: 0, or a negative errno.
fn status(payload: &[u8], what: &'static str) -> Result<Result<(), Errno>, MalformedDiag> {
    if payload.len() < 4 {
        return Err(MalformedDiag::Length {
            what,
            have: payload.len(),
            need: 4,
        });
    }
    let code = u32_at(payload, 0) as i32;
    Ok(if code < 0 {
        Err(Errno::from_raw(code.saturating_neg()))
    } else {
        Ok(())
    })
}
