//! A lowered receive buffer, set early, late, and too late.
//!
//! A peer sends more than the receive buffers take; the process holds it for a while, then reads
//! all of it. Twice. Whatever the buffers, the same bytes are moved in the same time: what
//! differs is how much of them waits on this side.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::stage::{self, Stage};
use crate::net;
use crate::oracle;

/// Connections, all alike.
const CONNECTIONS: usize = 12;
/// What each of them carries, each time. Above what a buffer of the default size takes.
const PAYLOAD: usize = 160 * 1024;
/// `SO_RCVBUF`; the kernel makes 16 KiB of it.
const LOWERED: i32 = 8192;
/// How long the data is held.
const HOLD: Duration = Duration::from_millis(800);
/// From the end of the hold to the end of the round: all is read in it, and then it is quiet. Through
/// a window that has closed reading waits for the sender's probes, for up to three seconds.
const READ: Duration = Duration::from_millis(3500);
/// The same where no buffer is lowered, for a workload that is repeated often.
const READ_SOON: Duration = Duration::from_millis(700);

/// When the buffer is lowered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lower {
    Never,
    Listener,
    Accepted,
    Queued,
}

/// With the buffers that the kernel gives.
pub(crate) fn never(st: &mut Stage) -> Result<()> {
    play(st, Lower::Never, READ)
}

/// The same in less time.
pub(crate) fn short(st: &mut Stage) -> Result<()> {
    play(st, Lower::Never, READ_SOON)
}

/// Lowered at the listener, so that connections are born with it.
pub(crate) fn listener(st: &mut Stage) -> Result<()> {
    play(st, Lower::Listener, READ)
}

/// Lowered at each connection after `accept`: the window that was advertised stands.
pub(crate) fn accepted(st: &mut Stage) -> Result<()> {
    play(st, Lower::Accepted, READ)
}

/// Lowered while the buffers are full: nothing that waits is thrown away.
pub(crate) fn queued(st: &mut Stage) -> Result<()> {
    play(st, Lower::Queued, READ)
}

fn play(st: &mut Stage, when: Lower, read: Duration) -> Result<()> {
    let family = st.family;
    let (mut control, pid) = st.peer(|control| {
        let port = u16::try_from(stage::hear_u64(control)?)?;
        let addr = family.loopback(port);
        // Room for all of the payload, so that writing never waits for reading.
        let room = |fd: &std::os::fd::OwnedFd| net::set_sndbuf(fd, 1 << 20);
        let connections: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| net::dial(addr, &room))
            .collect::<std::io::Result<_>>()?;
        stage::tell(control)?;
        for _ in 0..2 {
            if stage::hear(control).is_err() {
                // The runner has seen enough.
                return Ok(());
            }
            for mut c in &connections {
                c.write_all(&[7; PAYLOAD])?;
            }
            stage::tell(control)?;
        }
        stage::linger(control)
    })?;
    let lower = |fd: &std::os::fd::OwnedFd| match when {
        Lower::Listener => net::set_rcvbuf(fd, LOWERED),
        _ => Ok(()),
    };
    let listener = st.listen(64, &lower)?;
    stage::tell_u64(&mut control, listener.local_addr()?.port().into())?;
    let mut connections = Vec::new();
    for at in 0..CONNECTIONS {
        let (c, _) = listener.accept()?;
        st.label(&c, &format!("server.{at}"))?;
        connections.push(c);
    }
    stage::hear(&mut control)?;
    st.pause("connected")?;
    if when == Lower::Accepted {
        lower_all(&connections)?;
    }
    for (held, done) in [("held", "read"), ("held-again", "read-again")] {
        stage::tell(&mut control)?;
        stage::hear(&mut control)?;
        standing(st, &connections)?;
        if when == Lower::Queued {
            lower_all(&connections)?;
        }
        std::thread::sleep(HOLD);
        st.pause(held)?;
        let begin = Instant::now();
        std::thread::scope(|s| {
            let readers: Vec<_> = connections
                .iter()
                .map(|c| s.spawn(|| net::drain(c, PAYLOAD, 64 * 1024)))
                .collect();
            readers
                .into_iter()
                .try_for_each(|r| r.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
        })?;
        std::thread::sleep(read.saturating_sub(begin.elapsed()));
        st.pause(done)?;
    }
    stage::tell(&mut control)?;
    nix::sys::wait::waitpid(pid, None)?;
    Ok(())
}

fn lower_all(connections: &[TcpStream]) -> Result<()> {
    for c in connections {
        net::set_rcvbuf(c, LOWERED)?;
    }
    Ok(())
}

/// Waits until the queues take no more: something is in each, and none has grown for a while.
fn standing(st: &Stage, connections: &[TcpStream]) -> Result<()> {
    let unread = || -> Result<Vec<i64>> {
        connections
            .iter()
            .map(|c| Ok(i64::from(oracle::unread(c)?)))
            .collect()
    };
    let (mut last, mut since) = (unread()?, Instant::now());
    st.until("the queues stand still", || {
        let now = unread()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        // After a window was closed the first bytes come with the sender's next probe.
        let all = last.iter().all(|n| *n > 0);
        Ok(all && since.elapsed() > Duration::from_millis(60))
    })
}
