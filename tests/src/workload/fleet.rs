//! Many connections at once, and one after the other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::stage::{self, Stage};
use super::traffic;
use crate::net;
use crate::oracle;

/// Makes room for `n` descriptors.
fn descriptors(n: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < n {
        setrlimit(Resource::RLIMIT_NOFILE, n, hard.max(n)).context("RLIMIT_NOFILE")?;
    }
    Ok(())
}

/// 200 sockets of mixed traffic: half were there before the trace, a quarter end with unread
/// data, a quarter with unsent data, the rest empty.
pub(crate) fn many(st: &mut Stage) -> Result<()> {
    descriptors(1024)?;
    let mut pairs = Vec::new();
    for _ in 0..50 {
        pairs.push(st.pair()?);
    }
    st.rest("half")?;
    for _ in 0..50 {
        let small = |fd: &std::os::fd::OwnedFd| net::set_rcvbuf(fd, 8192);
        pairs.push(st.pair_with(&|fd| net::set_sndbuf(fd, 100_000), &small)?);
    }
    for (i, (a, b)) in pairs.iter().enumerate() {
        traffic::rounds(a, b, 5)?;
        match i % 4 {
            0 => (&mut &*a).write_all(&vec![1; 100 * (i + 1)])?,
            // More than the receive buffer takes: the rest waits behind a closed window.
            1 => drop(net::fill(a, 10_000, 1 << 20)?),
            2 => traffic::transfer(a, b, 100_000, 7777)?,
            _ => {}
        }
    }
    st.until("windows close and data arrives", || {
        for (a, _) in &pairs {
            if oracle::tcp_info(a)?.unacked != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    st.rest("mixed")?;
    // Every other pair goes, some of them with data inside.
    let mut keep = Vec::new();
    for (i, pair) in pairs.into_iter().enumerate() {
        if i % 2 == 0 {
            keep.push(pair);
        } else {
            let (a, b) = pair;
            drop(b);
            drop(a);
        }
    }
    st.until("the closed ones are gone", || Ok(st.unowned()?.is_empty()))?;
    st.rest("half-gone")
}

/// Connections that come and go; five that stay.
pub(crate) fn churn(st: &mut Stage) -> Result<()> {
    let stay: Vec<_> = (0..5).map(|_| st.pair()).collect::<Result<_>>()?;
    let listener = st.listen(64, &net::plain)?;
    st.rest("ready")?;
    let total = 2000;
    let addr = listener.local_addr()?;
    for i in 0..total {
        let a = net::dial(addr, &net::plain)?;
        let (b, _) = listener.accept()?;
        (&a).write_all(&[1; 300])?;
        // One in five is closed with its data unread, which resets the connection.
        if i % 5 != 0 {
            net::drain(&b, 300, 300)?;
        }
        drop(b);
        drop(a);
    }
    st.fact("connections", total);
    for (a, b) in &stay {
        traffic::rounds(a, b, 2)?;
    }
    st.until("all are closed", || Ok(st.unowned()?.is_empty()))?;
    st.rest("churned")
}

/// A thousand connections, each with one request long ago; their peer is not traced.
pub(crate) fn quiet(st: &mut Stage) -> Result<()> {
    const N: usize = 1000;
    descriptors(N as u64 + 100)?;
    let family = st.family;
    let (mut control, _) = st.peer(|control| {
        let listener = net::listener(family, 0, 128, &net::plain)?;
        stage::tell_u64(control, listener.local_addr()?.port().into())?;
        let mut all = Vec::new();
        for _ in 0..N {
            let (mut s, _) = listener.accept()?;
            let mut buf = [0; 200];
            s.read_exact(&mut buf)?;
            s.write_all(&buf)?;
            all.push(s);
        }
        stage::tell(control)?;
        stage::linger(control)
    })?;
    let port = u16::try_from(stage::hear_u64(&mut control)?)?;
    let mut all: Vec<TcpStream> = Vec::new();
    for _ in 0..N {
        let mut s = net::dial(family.loopback(port), &net::plain)?;
        let mut buf = [1; 200];
        s.write_all(&buf)?;
        s.read_exact(&mut buf)?;
        all.push(s);
    }
    stage::hear(&mut control)?;
    st.rest("quiet")
}

/// Ten connections receive 900 kB each at once, read it all, and fall silent.
pub(crate) fn burst(st: &mut Stage) -> Result<()> {
    let pairs: Vec<_> = (0..10).map(|_| st.pair()).collect::<Result<_>>()?;
    for (i, (_, b)) in pairs.iter().enumerate() {
        // Room for all of it at once, so that it is read from a full queue.
        net::set_rcvbuf(b, 2 << 20)?;
        st.label(b, &format!("reader{i}"))?;
    }
    st.pause("connected")?;
    for (a, b) in &pairs {
        traffic::transfer(a, b, 900_000, 64 * 1024)?;
    }
    st.until("all are acknowledged", || {
        Ok(pairs
            .iter()
            .all(|(a, _)| oracle::unacked(a).is_ok_and(|n| n == 0)))
    })?;
    let held: i64 = pairs
        .iter()
        .map(|(_, b)| Ok(oracle::mem_info(b)?.resident()))
        .sum::<Result<i64>>()?;
    // Before 6.0 a drained receiver keeps its reservation for ever; from 6.0 it is returned at
    // once (sk_mem_uncharge, include/net/sock.h).
    if oracle::kernel_version()? < (6, 0) {
        ensure!(
            held > 100_000,
            "drained sockets were to keep forward_alloc, they hold {held}"
        );
    } else {
        ensure!(held == 0, "drained sockets hold {held} bytes");
    }
    st.rest("idle")
}

/// A request and an answer every 20 ms, without end: there is never a pause to judge.
pub(crate) fn busy(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "client")?;
    st.label(&b, "server")?;
    let (rounds, longest) = (st.counter("rounds"), st.counter("longest-pause-ms"));
    std::thread::spawn(move || {
        let mut last = Instant::now();
        while traffic::rounds(&a, &b, 1).is_ok() {
            rounds.fetch_add(1, Ordering::Relaxed);
            let pause = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
            longest.fetch_max(pause, Ordering::Relaxed);
            last = Instant::now();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    st.pause("busy")
}

/// A queue that only grows, some hundred bytes every few milliseconds.
pub(crate) fn steady_fill(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair_with(&net::plain, &|fd| net::set_rcvbuf(fd, 4 << 20))?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    a.set_nodelay(true)?;
    let held = b.try_clone()?;
    st.pause("connected")?;
    let writer = std::thread::spawn(move || {
        let mut a = a;
        // Well below the default rcvbuf even at a truesize of 2,304 a segment, so that the
        // kernel has no reason to collapse the queue and rmem_alloc only grows.
        for _ in 0..150 {
            a.write_all(&[1; 400])?;
            std::thread::sleep(Duration::from_millis(12));
        }
        std::io::Result::Ok(a)
    });
    st.pause("filling")?;
    let a = writer.join().ok().context("the writer panicked")??;
    st.until("all arrives", || Ok(oracle::unread(&held)? == 60_000))?;
    ensure!(
        oracle::mem_info(&held)?.rmem_alloc > 60_000,
        "unread data is not in rmem_alloc"
    );
    st.rest("filled")?;
    drop(a);
    Ok(())
}
