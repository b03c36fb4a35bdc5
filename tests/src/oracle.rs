//! The kernel's own numbers, read without the tool: what every report is compared with.
//!
//! Readings that are compared at rest must not touch the socket's lock: taking it runs the very
//! hooks under test and would heal a missed change. `SO_MEMINFO`, `SO_COOKIE` and a `sock_diag`
//! dump without `INET_DIAG_INFO` take no socket lock (net/core/sock.c, net/ipv4/inet_diag.c,
//! 5.10 to 7.2); `TCP_INFO` and `SIOCINQ` do, and are for a workload's own claims only.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socket};
use serde::{Deserialize, Serialize};

const SO_MEMINFO: i32 = 55;
const SO_COOKIE: i32 = 57;
const TCP_LISTEN: u8 = 10;

/// `SK_MEMINFO_*`, bytes (`sk_get_meminfo`, net/core/sock.c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemInfo {
    /// `sk_backlog.rmem_alloc`
    pub(crate) rmem_alloc: u32,
    /// `sk_rcvbuf`
    pub(crate) rcvbuf: u32,
    /// `sk_wmem_alloc` without its bias
    pub(crate) wmem_alloc: u32,
    /// `sk_sndbuf`
    pub(crate) sndbuf: u32,
    /// `sk_forward_alloc`
    pub(crate) forward_alloc: i32,
    /// `sk_wmem_queued`
    pub(crate) wmem_queued: u32,
    /// `sk_omem_alloc`
    pub(crate) optmem: u32,
    /// `sk_backlog.len`
    pub(crate) backlog: u32,
    /// `sk_drops`
    pub(crate) drops: u32,
}

impl MemInfo {
    fn from_words(w: &[u32]) -> Option<MemInfo> {
        let [
            rmem_alloc,
            rcvbuf,
            wmem_alloc,
            sndbuf,
            fwd,
            wmem_queued,
            optmem,
            backlog,
            drops,
        ] = *w.first_chunk::<9>()?;
        Some(MemInfo {
            rmem_alloc,
            rcvbuf,
            wmem_alloc,
            sndbuf,
            forward_alloc: fwd.cast_signed(),
            wmem_queued,
            optmem,
            backlog,
            drops,
        })
    }

    /// The counters that a trace reports, by the names it reports them under.
    pub(crate) fn named(&self) -> [(&'static str, i64); 8] {
        [
            ("rmem_alloc", self.rmem_alloc.into()),
            ("wmem_queued", self.wmem_queued.into()),
            ("forward_alloc", self.forward_alloc.into()),
            ("wmem_alloc", self.wmem_alloc.into()),
            ("optmem", self.optmem.into()),
            ("backlog", self.backlog.into()),
            ("rcvbuf", self.rcvbuf.into()),
            ("sndbuf", self.sndbuf.into()),
        ]
    }

    /// What is charged to `tcp_mem`.
    pub(crate) fn resident(&self) -> i64 {
        i64::from(self.rmem_alloc) + i64::from(self.wmem_queued) + i64::from(self.forward_alloc)
    }
}

/// One socket, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// The workload's name for it; empty where it has none.
    pub(crate) label: String,
    /// `sk_cookie`
    pub(crate) cookie: u64,
    /// Local address; `None` while unbound.
    pub(crate) local: Option<SocketAddr>,
    /// Remote address; `None` while not connected.
    pub(crate) remote: Option<SocketAddr>,
    /// Listens.
    pub(crate) listens: bool,
    /// No file refers to it: not yet accepted, or orphan.
    pub(crate) unowned: bool,
    /// Its counters.
    pub(crate) mem: MemInfo,
}

fn get_opt<T: Copy + Default>(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    let out = std::ptr::from_mut(&mut value).cast();
    // SAFETY: pointer and length describe `value`, a plain integer or array of them.
    let rc = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, out, &raw mut len) };
    if rc == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `SO_COOKIE`; makes one where there was none.
pub(crate) fn cookie(fd: &impl AsFd) -> io::Result<u64> {
    get_opt(fd.as_fd(), libc::SOL_SOCKET, SO_COOKIE)
}

/// `SO_MEMINFO`.
pub(crate) fn mem_info(fd: &impl AsFd) -> Result<MemInfo> {
    let words: [u32; 9] =
        get_opt(fd.as_fd(), libc::SOL_SOCKET, SO_MEMINFO).context("getsockopt(SO_MEMINFO)")?;
    MemInfo::from_words(&words).context("SO_MEMINFO is short")
}

/// An option whose value is an `int` or a `u32`.
pub(crate) fn option(fd: &impl AsFd, level: i32, name: i32) -> io::Result<u32> {
    get_opt(fd.as_fd(), level, name)
}

/// A counter of the `TcpExt` lines in `/proc/net/netstat`.
pub(crate) fn netstat(name: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/netstat")?;
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("TcpExt:"));
    let (names, numbers) = (lines.next(), lines.next());
    let (names, numbers) = names.zip(numbers).context("netstat has no TcpExt")?;
    let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
    let (_, number) = pairs
        .find(|(n, _)| *n == name)
        .with_context(|| format!("netstat has no {name}"))?;
    number
        .parse()
        .with_context(|| format!("{name} is {number}"))
}

/// `SO_ERROR`: takes the pending error.
pub(crate) fn pending_error(fd: &impl AsFd) -> io::Result<i32> {
    get_opt(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR)
}

/// The parts of `struct tcp_info` (include/uapi/linux/tcp.h) that workloads look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpInfo {
    /// `tcpi_state`
    pub(crate) state: u8,
    /// `tcpi_unacked`: segments in flight
    pub(crate) unacked: u32,
    /// `tcpi_total_retrans`
    pub(crate) total_retrans: u32,
}

/// `TCP_INFO`. Takes the socket's lock: see the module's note.
pub(crate) fn tcp_info(fd: &impl AsFd) -> io::Result<TcpInfo> {
    // The prefix that every kernel since 2.6 has: 8 bytes, then 24 words.
    let raw: [u32; 26] = get_opt(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO)?;
    Ok(TcpInfo {
        state: raw[0].to_ne_bytes()[0],
        // Words 0 and 1 are bytes; then rto, ato, snd_mss, rcv_mss, unacked, …, total_retrans.
        unacked: raw[6],
        total_retrans: raw[25],
    })
}

/// Bytes received and not read (`SIOCINQ`). Takes the socket's lock.
pub(crate) fn unread(fd: &impl AsFd) -> io::Result<u32> {
    ioctl_int(fd.as_fd(), libc::FIONREAD)
}

/// Bytes written and not acknowledged (`SIOCOUTQ`).
pub(crate) fn unacked(fd: &impl AsFd) -> io::Result<u32> {
    ioctl_int(fd.as_fd(), libc::TIOCOUTQ)
}

fn ioctl_int(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<u32> {
    let mut value: libc::c_int = 0;
    // SAFETY: both requests write one int.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut value) };
    if rc == 0 {
        Ok(value.cast_unsigned())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Every TCP socket this process holds open, each once.
pub(crate) fn own_sockets() -> Result<Vec<Reading>> {
    let mut out: Vec<Reading> = Vec::new();
    let mut seen = BTreeSet::new();
    let fds: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .context("cannot list /proc/self/fd: is /proc mounted?")?
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for raw in fds {
        // SAFETY: the number was listed a moment ago and this process closes no descriptor
        // meanwhile; should it be gone, getsockopt says EBADF and the entry is skipped.
        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
        let protocol: i32 = get_opt(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL).unwrap_or(0);
        let domain: i32 = get_opt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN).unwrap_or(0);
        if protocol != libc::IPPROTO_TCP || !matches!(domain, libc::AF_INET | libc::AF_INET6) {
            continue;
        }
        let cookie = cookie(&fd)?;
        if !seen.insert(cookie) {
            continue;
        }
        let listens: i32 = get_opt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)?;
        out.push(Reading {
            label: String::new(),
            cookie,
            local: local_addr(fd),
            remote: remote_addr(fd),
            listens: listens != 0,
            unowned: false,
            mem: mem_info(&fd)?,
        });
    }
    Ok(out)
}

fn local_addr(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    let addr: nix::sys::socket::SockaddrStorage =
        nix::sys::socket::getsockname(fd.as_raw_fd()).ok()?;
    to_std(&addr).filter(|a| a.port() != 0)
}

fn remote_addr(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    let addr: nix::sys::socket::SockaddrStorage =
        nix::sys::socket::getpeername(fd.as_raw_fd()).ok()?;
    to_std(&addr)
}

fn to_std(addr: &nix::sys::socket::SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = addr.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    addr.as_sockaddr_in6()
        .map(|v6| SocketAddr::from((v6.ip(), v6.port())))
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_SKMEMINFO: u16 = 7;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// All states but TIME_WAIT (6), SYN_RECV (3) and NEW_SYN_RECV (12), which are no full sockets.
const FULL_SOCKETS: u32 = 0xfff & !(1 << 6) & !(1 << 3);

/// Every full TCP socket of this network namespace, by `sock_diag`.
///
/// # Errors
/// Where the kernel has no `tcp_diag` (a module that is not loaded), or refuses.
pub(crate) fn dump() -> Result<Vec<Reading>> {
    let mut out = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        dump_family(family as u8, &mut out)
            .context("sock_diag dump failed: are inet_diag and tcp_diag built in or loaded?")?;
    }
    Ok(out)
}

fn dump_family(family: u8, out: &mut Vec<Reading>) -> Result<()> {
    let fd: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        nix::sys::socket::SockProtocol::NetlinkSockDiag,
    )?;
    // struct nlmsghdr, then struct inet_diag_req_v2 (56 bytes) with an all-zero id.
    let mut req = Vec::with_capacity(72);
    req.extend(72_u32.to_ne_bytes());
    req.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    req.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    req.extend([0; 8]);
    req.extend([
        family,
        libc::IPPROTO_TCP as u8,
        1 << (INET_DIAG_SKMEMINFO - 1),
        0,
    ]);
    req.extend(FULL_SOCKETS.to_ne_bytes());
    req.resize(72, 0);
    send(fd.as_raw_fd(), &req, MsgFlags::empty())?;
    let mut buf = vec![0_u8; 64 * 1024];
    loop {
        let got = recv(fd.as_raw_fd(), &mut buf, MsgFlags::empty())?;
        let mut rest = &buf[..got];
        while rest.len() >= 16 {
            let len = u32_at(rest, 0)? as usize;
            ensure!(
                (16..=rest.len()).contains(&len),
                "netlink message of {len} bytes"
            );
            match u16_at(rest, 4)? {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = u32_at(rest, 16)?.cast_signed();
                    bail!(io::Error::from_raw_os_error(-code));
                }
                _ => out.extend(parse_diag(&rest[16..len])?),
            }
            rest = &rest[len.next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// `struct inet_diag_msg` and its attributes (include/uapi/linux/inet_diag.h).
fn parse_diag(msg: &[u8]) -> Result<Option<Reading>> {
    let family = *msg.first().context("empty inet_diag_msg")?;
    let state = *msg.get(1).context("short inet_diag_msg")?;
    let port = |at: usize| Ok::<_, anyhow::Error>(u16::from_be(u16_at(msg, at)?));
    let local = SocketAddr::new(ip_at(msg, 8, family)?, port(4)?);
    let remote = SocketAddr::new(ip_at(msg, 24, family)?, port(6)?);
    let cookie = u64::from(u32_at(msg, 44)?) | u64::from(u32_at(msg, 48)?) << 32;
    let inode = u32_at(msg, 68)?;
    let mut attrs = msg.get(72..).unwrap_or_default();
    let mut mem = None;
    while attrs.len() >= 4 {
        let len = usize::from(u16_at(attrs, 0)?);
        ensure!(
            (4..=attrs.len()).contains(&len),
            "netlink attribute of {len} bytes"
        );
        if u16_at(attrs, 2)? == INET_DIAG_SKMEMINFO {
            let words: Vec<u32> = attrs[4..len]
                .as_chunks::<4>()
                .0
                .iter()
                .map(|c| u32::from_ne_bytes(*c))
                .collect();
            mem = MemInfo::from_words(&words);
        }
        attrs = &attrs[len.next_multiple_of(4).min(attrs.len())..];
    }
    Ok(mem.map(|mem| Reading {
        label: String::new(),
        cookie,
        local: Some(local),
        remote: (remote.port() != 0).then_some(remote),
        listens: state == TCP_LISTEN,
        unowned: inode == 0,
        mem,
    }))
}

fn ip_at(msg: &[u8], at: usize, family: u8) -> Result<IpAddr> {
    let bytes: [u8; 16] = *msg
        .get(at..)
        .and_then(|s| s.first_chunk())
        .context("short inet_diag_msg")?;
    if i32::from(family) == libc::AF_INET {
        return Ok(IpAddr::V4(Ipv4Addr::new(
            bytes[0], bytes[1], bytes[2], bytes[3],
        )));
    }
    Ok(IpAddr::V6(Ipv6Addr::from(bytes)))
}

fn u32_at(b: &[u8], at: usize) -> Result<u32> {
    let bytes = b
        .get(at..)
        .and_then(|s| s.first_chunk())
        .context("short netlink message")?;
    Ok(u32::from_ne_bytes(*bytes))
}

fn u16_at(b: &[u8], at: usize) -> Result<u16> {
    let bytes = b
        .get(at..)
        .and_then(|s| s.first_chunk())
        .context("short netlink message")?;
    Ok(u16::from_ne_bytes(*bytes))
}

/// `TCP: … mem N` of `/proc/net/sockstat`, in pages.
pub(crate) fn sockstat_tcp_mem() -> Result<i64> {
    let text = std::fs::read_to_string("/proc/net/sockstat").context("/proc/net/sockstat")?;
    let line = text
        .lines()
        .find(|l| l.starts_with("TCP:"))
        .context("sockstat has no TCP line")?;
    let mut words = line.split_whitespace().skip_while(|w| *w != "mem");
    words
        .nth(1)
        .and_then(|w| w.parse().ok())
        .context("sockstat has no TCP mem")
}

/// As `uname -r` prints it.
pub(crate) fn kernel_release() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?;
    Ok(text.trim().to_owned())
}

/// Major and minor version of the running kernel.
pub(crate) fn kernel_version() -> Result<(u32, u32)> {
    let text = kernel_release()?;
    let mut parts = text.split(['.', '-', '+']).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("kernel release {text:?} is no version"),
    }
}
