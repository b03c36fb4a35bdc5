//! Loopback TCP sockets with the options the workloads need.
//!
//! Everything that std offers is used from std; what it lacks goes through `setsockopt`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, socket,
};

/// Address family of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `127.0.0.1`
    V4,
    /// `::1`
    V6,
}

impl Family {
    /// The loopback address with `port` (0: the kernel chooses).
    pub(crate) fn loopback(self, port: u16) -> SocketAddr {
        match self {
            Family::V4 => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Family::V6 => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        }
    }

    fn nix(self) -> AddressFamily {
        match self {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        }
    }
}

/// A TCP socket that is neither bound nor connected.
pub(crate) fn tcp_socket(family: Family) -> io::Result<OwnedFd> {
    Ok(socket(
        family.nix(),
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// Options to set on a socket before it listens or connects.
pub(crate) type Setup<'a> = &'a dyn Fn(&OwnedFd) -> io::Result<()>;

/// No options.
pub(crate) fn plain(_: &OwnedFd) -> io::Result<()> {
    Ok(())
}

/// A listener on `port` of the loopback address; `setup` runs before `listen`, so that children
/// inherit what it sets.
pub(crate) fn listener(
    family: Family,
    port: u16,
    backlog: i32,
    setup: Setup<'_>,
) -> io::Result<TcpListener> {
    let fd = tcp_socket(family)?;
    setup(&fd)?;
    bind(
        fd.as_raw_fd(),
        &SockaddrStorage::from(family.loopback(port)),
    )?;
    listen(&fd, Backlog::new(backlog)?)?;
    Ok(TcpListener::from(fd))
}

/// Connects; `setup` runs before the handshake, so that it shapes the advertised window.
pub(crate) fn dial(addr: SocketAddr, setup: Setup<'_>) -> io::Result<TcpStream> {
    let family = if addr.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let fd = tcp_socket(family)?;
    setup(&fd)?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
    Ok(TcpStream::from(fd))
}

/// `setsockopt` with any plain value.
pub(crate) fn set_opt<T: Copy>(fd: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let rc = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), len) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `setsockopt` with an `int`.
pub(crate) fn set_int(fd: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_opt(fd, level, name, &value)
}

/// `SO_RCVBUF`; the kernel doubles it.
pub(crate) fn set_rcvbuf(fd: &impl AsFd, bytes: i32) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)
}

/// `SO_SNDBUF`; the kernel doubles it.
pub(crate) fn set_sndbuf(fd: &impl AsFd, bytes: i32) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)
}

/// `SO_LINGER` with a time in seconds; 0 makes `close` send a reset.
pub(crate) fn set_linger(fd: &impl AsFd, seconds: i32) -> io::Result<()> {
    let value = libc::linger {
        l_onoff: 1,
        l_linger: seconds,
    };
    set_opt(fd, libc::SOL_SOCKET, libc::SO_LINGER, &value)
}

/// Dissolves a connection: `connect` to `AF_UNSPEC` (`tcp_disconnect`).
pub(crate) fn disconnect(fd: &impl AsFd) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr is valid, and its family 0 is AF_UNSPEC.
    let addr: libc::sockaddr = unsafe { std::mem::zeroed() };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: pointer and length describe `addr`.
    let rc = unsafe { libc::connect(fd.as_fd().as_raw_fd(), &raw const addr, len) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Writes until the socket takes no more; returns the bytes taken. Leaves the socket non-blocking.
pub(crate) fn fill(stream: &TcpStream, chunk: usize, at_most: usize) -> io::Result<usize> {
    stream.set_nonblocking(true)?;
    let buf = vec![0x5a_u8; chunk];
    let mut taken = 0;
    let mut writer = stream;
    while taken < at_most {
        match writer.write(&buf[..chunk.min(at_most - taken)]) {
            Ok(n) => taken += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(taken)
}

/// Reads exactly `n` bytes and drops them, at most `chunk` at a time.
pub(crate) fn drain(stream: &TcpStream, n: usize, chunk: usize) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut buf = vec![0_u8; chunk];
    let mut reader = stream;
    let mut left = n;
    while left > 0 {
        match reader.read(&mut buf[..chunk.min(left)])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => left -= got,
        }
    }
    Ok(())
}

/// Reads to the end of the stream; a reset counts as the end. Returns the bytes read.
pub(crate) fn drain_to_end(stream: &TcpStream) -> io::Result<usize> {
    stream.set_nonblocking(false)?;
    let mut buf = vec![0_u8; 64 * 1024];
    let mut reader = stream;
    let mut total = 0;
    loop {
        match reader.read(&mut buf) {
            Ok(0) => return Ok(total),
            Ok(got) => total += got,
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(total),
            Err(e) => return Err(e),
        }
    }
}

/// A classic BPF instruction.
pub(crate) fn op(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// A classic BPF jump.
pub(crate) fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

const LD_W_ABS: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const RET_K: u32 = libc::BPF_RET | libc::BPF_K;

/// Drops one in `one_in` packets by chance (`SKF_AD_RANDOM`).
pub(crate) fn filter_random(one_in: u32) -> Vec<libc::sock_filter> {
    let random = libc::SKF_AD_OFF as u32 + libc::SKF_AD_RANDOM as u32;
    vec![
        op(LD_W_ABS, random),
        op(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, one_in),
        jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 0, 1),
        op(RET_K, 0),
        op(RET_K, u32::MAX),
    ]
}

/// Drops every packet.
pub(crate) fn filter_all() -> Vec<libc::sock_filter> {
    vec![op(RET_K, 0)]
}

/// Drops every segment whose payload starts with `marker`: the first transmission and each
/// retransmission, so the hole stays. For TCP the filter sees the packet from the TCP header on
/// (`tcp_filter`, net/ipv4/tcp_ipv4.c).
pub(crate) fn filter_marker(marker: [u8; 4]) -> Vec<libc::sock_filter> {
    vec![
        // X = header length: high nibble of byte 12, in 4-byte words.
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 12),
        op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xf0),
        op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 2),
        op(libc::BPF_MISC | libc::BPF_TAX, 0),
        // A load past the end would drop the packet, so look at the length first.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0),
        op(libc::BPF_ALU | libc::BPF_SUB | libc::BPF_X, 0),
        jump(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 4, 0, 3),
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, 0),
        jump(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            u32::from_be_bytes(marker),
            0,
            1,
        ),
        op(RET_K, 0),
        op(RET_K, u32::MAX),
    ]
}

/// Attaches a filter to what the socket receives (`SO_ATTACH_FILTER`; charges `sk_omem_alloc`).
pub(crate) fn attach_filter(fd: &impl AsFd, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let prog = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_mut_ptr(),
    };
    set_opt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &prog)
}

/// Takes the filter off.
pub(crate) fn detach_filter(fd: &impl AsFd) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

/// An anonymous file of `len` zero bytes, for `sendfile` and `splice`.
pub(crate) fn memory_file(len: usize) -> io::Result<std::fs::File> {
    // SAFETY: the name is a NUL-terminated literal.
    let fd = unsafe { libc::memfd_create(c"workload".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just returned to us and nobody else owns it.
    let file = unsafe { std::fs::File::from_raw_fd(fd) };
    let mut writer = &file;
    writer.write_all(&vec![0x33; len])?;
    Ok(file)
}
