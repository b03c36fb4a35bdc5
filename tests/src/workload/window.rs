//! Closed windows and lost peers: where bytes wait, and for whom.
//!
//! The workloads at the end have their peer in an untraced process, so that the traced one
//! holds memory for exactly one reason.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};

use super::loss::MARKER;
use super::stage::{self, Stage};
use crate::net::{self, Family, Setup};
use crate::oracle;

/// A reader that does not read, with a small buffer; then it does.
pub(crate) fn zero_window(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair_with(&|fd| net::set_sndbuf(fd, 200_000), &|fd| {
        net::set_rcvbuf(fd, 8192)
    })?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    st.rest("connected")?;
    let sent = net::fill(&a, 10_000, 1 << 20)?;
    st.until("the window closes", || {
        Ok(oracle::tcp_info(&a)?.unacked == 0)
    })?;
    ensure!(
        oracle::mem_info(&a)?.wmem_queued > 0,
        "nothing is held behind a closed window"
    );
    st.rest("closed-window")?;
    net::drain(&b, sent, 3000)?;
    st.until("all are acknowledged", || Ok(oracle::unacked(&a)? == 0))?;
    st.rest("read")
}

/// A dead peer found by keepalive.
pub(crate) fn keepalive(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "prober")?;
    st.label(&b, "dead")?;
    net::set_int(&a, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 1)?;
    net::set_int(&a, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 1)?;
    net::set_int(&a, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 1)?;
    (&b).write_all(&[1; 7000])?;
    st.until("7,000 bytes arrive", || Ok(oracle::unread(&a)? == 7000))?;
    st.rest("unread")?;
    net::attach_filter(&b, &mut net::filter_all())?;
    net::set_int(&a, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    st.until(
        "keepalive gives up",
        || Ok(oracle::tcp_info(&a)?.state == 7),
    )?;
    let error = oracle::pending_error(&a)?;
    ensure!(
        error == libc::ETIMEDOUT,
        "SO_ERROR {error} instead of ETIMEDOUT"
    );
    st.rest("dead")
}

/// Closed by one end only: the other end keeps its unread data.
pub(crate) fn fin_wait2(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&b, "half")?;
    net::set_int(&a, libc::IPPROTO_TCP, libc::TCP_LINGER2, 1)?;
    st.rest("connected")?;
    (&a).write_all(&[1; 9000])?;
    drop(a);
    st.until("9,000 bytes and the end arrive", || {
        Ok(oracle::unread(&b)? >= 9000 && oracle::tcp_info(&b)?.state == 8)
    })?;
    st.until("FIN_WAIT2 times out", || Ok(st.unowned()?.is_empty()))?;
    st.rest("fin-wait2")?;
    ensure!(
        net::drain_to_end(&b)? == 9000,
        "9,000 bytes written, others read"
    );
    st.rest("read")
}

/// The untraced side: listens, tells its port, accepts one connection and hands it to `then`.
fn serve(
    st: &mut Stage,
    setup: Setup<'_>,
    then: impl FnOnce(TcpStream, &mut UnixStream) -> Result<()>,
) -> Result<(UnixStream, std::net::SocketAddr)> {
    let family: Family = st.family;
    let (mut control, _) = st.peer(|control| {
        let listener: TcpListener = net::listener(family, 0, 8, setup)?;
        stage::tell_u64(control, listener.local_addr()?.port().into())?;
        let (stream, _) = listener.accept()?;
        then(stream, control)
    })?;
    let port = u16::try_from(stage::hear_u64(&mut control)?).context("the peer's port")?;
    Ok((control, family.loopback(port)))
}

/// Keeps `stream` open until the other side is gone, and leaves no orphan then.
fn hold(stream: &TcpStream, control: &mut UnixStream) -> Result<()> {
    net::set_linger(stream, 0)?;
    stage::linger(control)
}

/// The traced process never reads 60,000 bytes.
pub(crate) fn unread(st: &mut Stage) -> Result<()> {
    let (mut control, addr) = serve(st, &net::plain, |mut s, control| {
        stage::hear(control)?;
        s.write_all(&[1; 60_000])?;
        hold(&s, control)
    })?;
    let s = net::dial(addr, &net::plain)?;
    st.label(&s, "subject")?;
    st.pause("connected")?;
    stage::tell(&mut control)?;
    st.until("60,000 bytes arrive", || Ok(oracle::unread(&s)? == 60_000))?;
    st.rest("idle")
}

/// The traced process sends; no acknowledgement ever gets in.
pub(crate) fn unacked(st: &mut Stage) -> Result<()> {
    let (_control, addr) = serve(st, &net::plain, |s, control| hold(&s, control))?;
    let s = net::dial(addr, &net::plain)?;
    st.label(&s, "subject")?;
    // Else the orphan would go on retransmitting long after this process.
    net::set_linger(&s, 0)?;
    st.pause("connected")?;
    // Attached to the sender: data leaves and arrives, acknowledgements are dropped on return.
    net::attach_filter(&s, &mut net::filter_all())?;
    (&s).write_all(&[1; 10_000])?;
    let held = oracle::unacked(&s)?;
    ensure!(
        held == 10_000,
        "{held} bytes unacknowledged instead of 10,000"
    );
    st.rest("idle")
}

/// The traced process sends more than the peer's window takes.
pub(crate) fn unsent(st: &mut Stage) -> Result<()> {
    let (_control, addr) = serve(st, &|fd| net::set_rcvbuf(fd, 4096), |s, control| {
        hold(&s, control)
    })?;
    let s = net::dial(addr, &|fd| net::set_sndbuf(fd, 200_000))?;
    st.label(&s, "subject")?;
    net::set_linger(&s, 0)?;
    st.pause("connected")?;
    net::fill(&s, 10_000, 1 << 20)?;
    st.until("the window closes", || {
        Ok(oracle::tcp_info(&s)?.unacked == 0)
    })?;
    ensure!(
        oracle::unacked(&s)? > 0,
        "nothing is held behind a closed window"
    );
    st.rest("idle")
}

/// The traced process receives everything but one segment.
pub(crate) fn hole(st: &mut Stage) -> Result<()> {
    let (mut control, addr) = serve(st, &net::plain, |mut s, control| {
        s.set_nodelay(true)?;
        stage::hear(control)?;
        s.write_all(&MARKER)?;
        // One write, one segment: after the first selective acknowledgement the sender knows
        // of the loss and lets nothing more out.
        s.write_all(&[1; 30_000])?;
        hold(&s, control)
    })?;
    let s = net::dial(addr, &net::plain)?;
    st.label(&s, "subject")?;
    net::attach_filter(&s, &mut net::filter_marker(MARKER))?;
    st.pause("connected")?;
    stage::tell(&mut control)?;
    st.until("30,000 bytes queue up behind the hole", || {
        Ok(oracle::mem_info(&s)?.rmem_alloc > 30_000)
    })?;
    ensure!(
        oracle::unread(&s)? == 0,
        "bytes behind a hole count as unread"
    );
    st.rest("idle")
}

/// The traced process is sent 400 messages of 10 bytes, each in a segment of its own.
pub(crate) fn tiny(st: &mut Stage) -> Result<()> {
    let (mut control, addr) = serve(st, &net::plain, |mut s, control| {
        s.set_nodelay(true)?;
        stage::hear(control)?;
        let mut byte = [0];
        for _ in 0..400 {
            s.write_all(&[1; 10])?;
            // Paced by the reader, so that no two messages share a segment.
            s.read_exact(&mut byte)?;
        }
        hold(&s, control)
    })?;
    let s = net::dial(addr, &net::plain)?;
    s.set_nodelay(true)?;
    st.label(&s, "subject")?;
    st.pause("connected")?;
    stage::tell(&mut control)?;
    let mut buf = [0; 10];
    for _ in 0..400 {
        (&s).read_exact(&mut buf)?;
        (&s).write_all(&[2])?;
    }
    st.rest("idle")
}
