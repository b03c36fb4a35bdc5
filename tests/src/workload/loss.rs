//! Loss, by a filter on the receiving socket: random drops, collapse, prune, retransmit timeouts.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::stage::Stage;
use super::traffic;
use crate::net;
use crate::oracle;

/// First bytes of the segment that `filter_marker` drops.
pub(crate) const MARKER: [u8; 4] = *b"HOLE";

/// One packet in 12 lost, in both directions.
pub(crate) fn lossy(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "receiver")?;
    st.rest("connected")?;
    net::attach_filter(&a, &mut net::filter_random(12))?;
    net::attach_filter(&b, &mut net::filter_random(12))?;
    ensure!(
        oracle::mem_info(&b)?.optmem > 0,
        "a filter is attached, but optmem is 0"
    );
    traffic::transfer(&a, &b, 1 << 20, 32 * 1024)?;
    net::detach_filter(&a)?;
    net::detach_filter(&b)?;
    st.until("the last acknowledgement arrives", || {
        Ok(oracle::unacked(&a)? == 0)
    })?;
    // Without loss once more: the ends agree and no timer is pending.
    traffic::rounds(&a, &b, 5)?;
    st.rest("recovered")
}

/// So many small segments in a small receive buffer that the kernel has to collapse them.
pub(crate) fn collapse(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair_with(&net::plain, &|fd| net::set_rcvbuf(fd, 8192))?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    a.set_nodelay(true)?;
    st.rest("connected")?;
    let mut writer = &a;
    a.set_nonblocking(true)?;
    let mut sent = 0;
    for _ in 0..3000 {
        match writer.write(&[5; 40]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e.into()),
        }
    }
    st.until("the window closes or all arrives", || {
        Ok(oracle::unread(&b)? as usize == sent || oracle::tcp_info(&a)?.unacked == 0)
    })?;
    st.rest("collapsed")?;
    net::drain(&b, sent, 4096)?;
    st.until("all are acknowledged", || Ok(oracle::unacked(&a)? == 0))?;
    st.rest("read")
}

/// An out-of-order queue that outgrows the receive buffer and is pruned, then the hole is filled.
pub(crate) fn prune(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair_with(&net::plain, &|fd| net::set_rcvbuf(fd, 16 * 1024))?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    a.set_nodelay(true)?;
    st.rest("connected")?;
    net::attach_filter(&b, &mut net::filter_marker(MARKER))?;
    let mut writer = &a;
    writer.write_all(&MARKER)?;
    a.set_nonblocking(true)?;
    let mut sent = MARKER.len();
    for _ in 0..400 {
        match writer.write(&[6; 300]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e.into()),
        }
    }
    st.until("data queues up behind the hole", || {
        Ok(oracle::mem_info(&b)?.rmem_alloc > 0)
    })?;
    ensure!(
        oracle::unread(&b)? == 0,
        "bytes behind a hole count as unread"
    );
    st.rest("hole")?;
    net::detach_filter(&b)?;
    net::drain(&b, sent, 4096)?;
    st.until("all are acknowledged", || Ok(oracle::unacked(&a)? == 0))?;
    st.rest("filled")
}

/// A peer that falls silent: retransmission timeouts until `TCP_USER_TIMEOUT` ends it.
pub(crate) fn rto(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "silent")?;
    st.rest("connected")?;
    net::set_int(&a, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 900)?;
    net::attach_filter(&b, &mut net::filter_all())?;
    let mut writer = &a;
    writer.write_all(&[4; 40_000])?;
    st.until("a retransmission", || {
        Ok(oracle::tcp_info(&a)?.total_retrans > 0)
    })?;
    ensure!(
        oracle::mem_info(&a)?.wmem_queued > 40_000,
        "unacknowledged data is not queued"
    );
    st.pause("retransmitting")?;
    st.until("the user timeout ends the connection", || {
        Ok(oracle::mem_info(&a)?.wmem_queued == 0)
    })?;
    let error = oracle::pending_error(&a)?;
    ensure!(
        error == libc::ETIMEDOUT,
        "SO_ERROR {error} instead of ETIMEDOUT"
    );
    std::thread::sleep(Duration::from_millis(50));
    st.rest("timed-out")
}
