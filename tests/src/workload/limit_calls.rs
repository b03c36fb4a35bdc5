//! Limits: set by every option that sets one, tuned by the kernel, and run into.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, ensure};

use super::loss::MARKER;
use super::stage::Stage;
use super::traffic;
use crate::{net, oracle};

/// `SO_RESERVE_MEM` (include/uapi/asm-generic/socket.h), which the C library does not name.
const SO_RESERVE_MEM: i32 = 73;
/// `TCP_NOTSENT_LOWAT` (include/uapi/linux/tcp.h).
const TCP_NOTSENT_LOWAT: i32 = 25;

/// Calls that were made, as facts: `0.cookie`, `0.level`, …, `1.cookie`, ….
struct Calls(u64);

impl Calls {
    /// Sets an option and notes what the kernel said of it before and after. `read` is the option
    /// that shows the field.
    fn set(
        &mut self,
        st: &mut Stage,
        fd: &impl AsFd,
        (level, name, read): (i32, i32, i32),
        asked: i32,
    ) -> Result<()> {
        let from = oracle::option(fd, level, read)?;
        net::set_int(fd, level, name, asked).with_context(|| format!("option {name}"))?;
        let to = oracle::option(fd, level, read)?;
        let n = self.0;
        st.fact(&format!("{n}.cookie"), oracle::cookie(fd)?);
        st.fact(&format!("{n}.level"), level.unsigned_abs().into());
        st.fact(&format!("{n}.option"), name.unsigned_abs().into());
        st.fact(&format!("{n}.asked"), asked.unsigned_abs().into());
        st.fact(&format!("{n}.from"), from.into());
        st.fact(&format!("{n}.to"), to.into());
        self.0 += 1;
        st.fact("calls", self.0);
        Ok(())
    }
}

const RCVBUF: (i32, i32, i32) = (libc::SOL_SOCKET, libc::SO_RCVBUF, libc::SO_RCVBUF);
const SNDBUF: (i32, i32, i32) = (libc::SOL_SOCKET, libc::SO_SNDBUF, libc::SO_SNDBUF);
const RCVBUFFORCE: (i32, i32, i32) = (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
const SNDBUFFORCE: (i32, i32, i32) = (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
const RCVLOWAT: (i32, i32, i32) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT, libc::SO_RCVBUF);
const RESERVE: (i32, i32, i32) = (libc::SOL_SOCKET, SO_RESERVE_MEM, SO_RESERVE_MEM);
const CLAMP: (i32, i32, i32) = (
    libc::IPPROTO_TCP,
    libc::TCP_WINDOW_CLAMP,
    libc::TCP_WINDOW_CLAMP,
);
const LOWAT: (i32, i32, i32) = (libc::IPPROTO_TCP, TCP_NOTSENT_LOWAT, TCP_NOTSENT_LOWAT);

/// Puts this process into a memory control group of its own: only sockets of one can reserve
/// memory. For a guest whose kernel has nothing else in its groups.
fn own_group() -> Result<()> {
    let root = std::path::Path::new("/cgroup-of-test");
    std::fs::create_dir_all(root)?;
    let none: Option<&str> = None;
    nix::mount::mount(
        none,
        root,
        Some("cgroup2"),
        nix::mount::MsFlags::empty(),
        none,
    )
    .or_else(|e| {
        if e == nix::errno::Errno::EBUSY {
            Ok(())
        } else {
            Err(e)
        }
    })
    .context("mounting cgroup2")?;
    std::fs::write(root.join("cgroup.subtree_control"), "+memory").context("+memory")?;
    let own = root.join("limits");
    std::fs::create_dir_all(&own)?;
    std::fs::write(own.join("cgroup.procs"), std::process::id().to_string()).context("joining")
}

/// Every option that sets a limit: on a listener, on an accepted socket, with data queued.
pub(crate) fn set_options(st: &mut Stage) -> Result<()> {
    // A kernel without the option (before 5.16) has the group all the same.
    let grouped = !st.host && own_group().is_ok();
    let listener = st.listen(8, &net::plain)?;
    st.label(&listener, "listener")?;
    let a = net::dial(listener.local_addr()?, &net::plain)?;
    let (b, _) = listener.accept()?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    let (c, d) = st.pair()?;
    st.label(&c, "plain")?;
    st.label(&d, "plain-peer")?;
    st.rest("connected")?;
    let mut calls = Calls(0);
    calls.set(st, &listener, RCVBUF, 20_000)?;
    calls.set(st, &b, RCVBUF, 8192)?;
    calls.set(st, &a, SNDBUF, 16 * 1024)?;
    calls.set(st, &b, CLAMP, 5000)?;
    calls.set(st, &a, LOWAT, 16_384)?;
    calls.set(st, &c, RCVLOWAT, 300_000)?;
    let mut writer = &a;
    writer.write_all(&[9; 4000])?;
    st.until("4,000 bytes arrive", || Ok(oracle::unread(&b)? == 4000))?;
    calls.set(st, &b, RCVBUF, 4096)?;
    // Once more: no change, but a call.
    calls.set(st, &b, RCVBUF, 4096)?;
    if nix::unistd::geteuid().is_root() {
        calls.set(st, &b, RCVBUFFORCE, 300_000)?;
        calls.set(st, &a, SNDBUFFORCE, 400_000)?;
    }
    let reserves = net::set_int(&a, libc::SOL_SOCKET, SO_RESERVE_MEM, 0).is_ok();
    if grouped && reserves {
        calls.set(st, &a, RESERVE, 65_536)?;
        let reserved = oracle::option(&a, libc::SOL_SOCKET, SO_RESERVE_MEM)?;
        ensure!(reserved > 0, "SO_RESERVE_MEM reserved nothing");
        st.fact("reserved", reserved.into());
    }
    st.rest("set")?;
    net::drain(&b, 4000, 4000)?;
    traffic::rounds(&a, &b, 2)?;
    st.rest("read")
}

/// Enough traffic that the kernel raises limits. In segments of 1400 bytes: with loopback's own of
/// 64 KiB both limits begin high.
pub(crate) fn autotune(st: &mut Stage) -> Result<()> {
    let small = |fd: &OwnedFd| net::set_int(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 1400);
    let (a, b) = st.pair_with(&small, &small)?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    st.rest("connected")?;
    let read = || anyhow::Ok([oracle::mem_info(&a)?.sndbuf, oracle::mem_info(&b)?.rcvbuf]);
    let before = read()?;
    for _ in 0..10 {
        traffic::transfer(&a, &b, 2 << 20, 256 * 1024)?;
        let after = read()?;
        if after[0] > before[0] && after[1] > before[1] {
            break;
        }
    }
    traffic::rounds(&a, &b, 2)?;
    let after = read()?;
    ensure!(
        after[0] > before[0],
        "20 MiB went through, and the kernel did not raise sndbuf {}",
        before[0]
    );
    st.fact("grew.sndbuf", 1);
    st.fact("grew.rcvbuf", u64::from(after[1] > before[1]));
    st.rest("grown")
}

/// A receive buffer made tiny after its window was advertised, and then as much data as that
/// window allows: the kernel collapses the queue and drops what still does not fit.
pub(crate) fn overfull(st: &mut Stage) -> Result<()> {
    let (a, b) = overfull_pair(st)?;
    net::set_rcvbuf(&b, 1)?;
    let before = oracle::netstat("RcvPruned")?;
    segments(&a, 150, 300)?;
    st.until("RcvPruned", || Ok(oracle::netstat("RcvPruned")? > before))?;
    // Dropped segments are sent again and again: no rest.
    st.pause("overfull")
}

/// The same with a hole: when the segment that fills it arrives, the out-of-order queue is
/// dropped to make room. Not for one behind that queue, and not while nothing is queued in order
/// (`tcp_prune_ofo_queue`, `tcp_data_queue`, net/ipv4/tcp_input.c).
pub(crate) fn overfull_hole(st: &mut Stage) -> Result<()> {
    let (a, b) = overfull_pair(st)?;
    segments(&a, 1, 300)?;
    st.until("a segment arrives", || Ok(oracle::unread(&b)? == 300))?;
    net::attach_filter(&b, &mut net::filter_marker(MARKER))?;
    let mut writer = &a;
    writer.write_all(&MARKER)?;
    segments(&a, 40, 1000)?;
    st.until("data queues up behind the hole", || {
        // Well over what the receive buffer will be.
        Ok(oracle::mem_info(&b)?.rmem_alloc > 4096)
    })?;
    let before = oracle::netstat("OfoPruned")?;
    net::set_rcvbuf(&b, 1)?;
    net::detach_filter(&b)?;
    st.until("OfoPruned", || Ok(oracle::netstat("OfoPruned")? > before))?;
    st.pause("overfull")
}

fn overfull_pair(st: &mut Stage) -> Result<(TcpStream, TcpStream)> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    a.set_nodelay(true)?;
    traffic::rounds(&a, &b, 2)?;
    st.rest("connected")?;
    a.set_nonblocking(true)?;
    Ok((a, b))
}

/// Up to `n` segments of `size` bytes.
fn segments(stream: &TcpStream, n: usize, size: usize) -> Result<()> {
    let mut writer = stream;
    for _ in 0..n {
        match writer.write(&vec![6; size]) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Pairs that hold much more than a lowered `tcp_mem` allows. The runner changes it.
pub(crate) fn pressure(st: &mut Stage) -> Result<()> {
    const MIB: i32 = 1 << 20;
    let large = |fd: &OwnedFd| {
        net::set_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 4 * MIB)?;
        net::set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4 * MIB)
    };
    let pairs: Vec<(TcpStream, TcpStream)> = (0..3)
        .map(|_| st.pair_with(&large, &large))
        .collect::<Result<_>>()?;
    let (small, reader) = st.pair()?;
    st.label(&pairs[0].1, "reader")?;
    st.rest("connected")?;
    // The kernel may refuse more once it is under pressure.
    let fill = |stream: &TcpStream, most: usize| -> Result<usize> {
        stream.set_nonblocking(true)?;
        let mut sent = 0;
        let mut writer = stream;
        while sent < most {
            match writer.write(&[1; 65_536]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(sent)
    };
    let mut sent = Vec::new();
    for (a, _) in &pairs {
        sent.push(fill(a, 6 << 20)?);
    }
    st.pause("filled")?;
    // Over the hard limit now.
    let mut more = fill(&small, 1 << 20)?;
    for ((a, _), sent) in pairs.iter().zip(&mut sent) {
        *sent += fill(a, 1 << 20)?;
    }
    st.pause("refused")?;
    more += fill(&small, 1)?;
    for ((_, b), sent) in pairs.iter().zip(&sent) {
        net::drain(b, *sent, 65_536)?;
    }
    net::drain(&reader, more, 65_536)?;
    // Charges that find little allocated end the pressure.
    for (a, b) in &pairs {
        a.set_nonblocking(false)?;
        traffic::rounds(a, b, 5)?;
    }
    st.rest("drained")
}
