//! Ways for a connection to end, with and without data in it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::{Result, ensure};

use super::stage::Stage;
use super::traffic;
use crate::net;
use crate::oracle;

fn connected(st: &mut Stage) -> Result<(TcpStream, TcpStream)> {
    let (a, b) = st.pair()?;
    st.label(&a, "client")?;
    st.label(&b, "server")?;
    st.rest("connected")?;
    Ok((a, b))
}

fn gone(st: &Stage) -> Result<()> {
    st.until("the kernel lets go of the closed sockets", || {
        Ok(st.unowned()?.is_empty())
    })
}

/// Everything read, then closed by both ends.
pub(crate) fn plain(st: &mut Stage) -> Result<()> {
    let (a, b) = connected(st)?;
    traffic::rounds(&a, &b, 10)?;
    drop(a);
    st.pause("client-closed")?;
    drop(b);
    gone(st)?;
    st.rest("closed")
}

/// Closed with unread data: the kernel frees it and sends a reset.
pub(crate) fn rst_on_unread(st: &mut Stage) -> Result<()> {
    let (a, b) = connected(st)?;
    (&a).write_all(&[1; 50_000])?;
    st.until("50,000 bytes arrive", || Ok(oracle::unread(&b)? == 50_000))?;
    st.rest("unread")?;
    drop(b);
    st.until("the reset arrives", || Ok(oracle::tcp_info(&a)?.state == 7))?;
    ensure!(
        oracle::pending_error(&a)? == libc::ECONNRESET,
        "no ECONNRESET"
    );
    gone(st)?;
    st.rest("reset")?;
    drop(a);
    gone(st)?;
    st.rest("closed")
}

/// Closed with megabytes unsent: an orphan holds them until the peer has read all.
pub(crate) fn orphan(st: &mut Stage) -> Result<()> {
    let (a, b) = connected(st)?;
    net::set_sndbuf(&a, 1 << 20)?;
    let sent = net::fill(&a, 64 * 1024, 2 << 20)?;
    ensure!(
        oracle::mem_info(&a)?.wmem_queued > 0,
        "{sent} bytes written, none of them queued"
    );
    st.rest("full")?;
    drop(a);
    let held: i64 = st.unowned()?.iter().map(|r| r.mem.resident()).sum();
    ensure!(held > 100_000, "the orphan holds only {held} bytes");
    st.rest("orphaned")?;
    let got = net::drain_to_end(&b)?;
    ensure!(got == sent, "{sent} bytes written, {got} read");
    drop(b);
    gone(st)?;
    st.rest("drained")
}

/// `SO_LINGER` with 0 s: unsent data is thrown away, the peer gets a reset.
pub(crate) fn linger0(st: &mut Stage) -> Result<()> {
    let (a, b) = connected(st)?;
    net::fill(&a, 64 * 1024, 4 << 20)?;
    net::set_linger(&a, 0)?;
    st.rest("full")?;
    drop(a);
    // What had arrived stays readable on some kernels and is freed on others; the socket tells.
    st.until("the reset arrives", || Ok(oracle::tcp_info(&b)?.state == 7))?;
    gone(st)?;
    st.rest("reset")?;
    drop(b);
    gone(st)?;
    st.rest("closed")
}

/// `SO_LINGER` with 1 s: `close` blocks, gives up, and leaves an orphan.
pub(crate) fn linger1(st: &mut Stage) -> Result<()> {
    let (a, b) = connected(st)?;
    net::fill(&a, 64 * 1024, 4 << 20)?;
    net::set_linger(&a, 1)?;
    a.set_nonblocking(false)?;
    st.pause("full")?;
    drop(a);
    ensure!(
        !st.unowned()?.is_empty(),
        "no orphan after a close that lingered in vain"
    );
    st.rest("lingered")?;
    net::drain_to_end(&b)?;
    drop(b);
    gone(st)?;
    st.rest("drained")
}

/// One direction closed, the other still carries data.
pub(crate) fn half(st: &mut Stage) -> Result<()> {
    let (a, b) = connected(st)?;
    (&a).write_all(&[1; 5000])?;
    a.shutdown(Shutdown::Write)?;
    net::drain_to_end(&b)?;
    st.rest("half-closed")?;
    (&b).write_all(&[2; 40_000])?;
    st.until("40,000 bytes arrive", || Ok(oracle::unread(&a)? == 40_000))?;
    st.rest("answered")?;
    net::drain(&a, 40_000, 9000)?;
    drop(b);
    let mut byte = [0];
    ensure!((&a).read(&mut byte)? == 0, "data after the end");
    drop(a);
    gone(st)?;
    st.rest("closed")
}

/// `connect` to `AF_UNSPEC` throws all data away and keeps the socket.
pub(crate) fn disconnect(st: &mut Stage) -> Result<()> {
    let (a, b) = connected(st)?;
    net::fill(&a, 64 * 1024, 4 << 20)?;
    (&b).write_all(&[1; 20_000])?;
    st.until("20,000 bytes arrive", || Ok(oracle::unread(&a)? == 20_000))?;
    st.rest("full")?;
    net::disconnect(&a)?;
    let mem = oracle::mem_info(&a)?;
    ensure!(
        mem.wmem_queued == 0 && mem.rmem_alloc == 0,
        "a disconnected socket holds {mem:?}"
    );
    st.rest("disconnected")?;
    drop(a);
    drop(b);
    gone(st)?;
    st.rest("closed")
}

/// An orphan whose peer never answers: it ends by `TCP_USER_TIMEOUT`.
pub(crate) fn orphan_rto(st: &mut Stage) -> Result<()> {
    let (a, b) = connected(st)?;
    net::set_int(&a, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 900)?;
    net::attach_filter(&b, &mut net::filter_all())?;
    (&a).write_all(&[4; 40_000])?;
    drop(a);
    ensure!(
        !st.unowned()?.is_empty(),
        "no orphan after a close with unacknowledged data"
    );
    st.pause("orphaned")?;
    st.until("the orphan times out", || Ok(st.unowned()?.is_empty()))?;
    st.rest("timed-out")
}
