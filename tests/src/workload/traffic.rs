//! Data that flows: request and response, bulk, slow and stalled readers, many threads, pacing.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::net;
use crate::oracle;

/// 1,000-byte requests, 100-byte answers.
pub(crate) fn pingpong(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "client")?;
    st.label(&b, "server")?;
    st.rest("connected")?;
    rounds(&a, &b, 200 * st.scale)?;
    ensure!(
        oracle::unread(&a)? == 0 && oracle::unread(&b)? == 0,
        "answers left unread"
    );
    st.rest("answered")
}

/// `n` requests and answers.
pub(crate) fn rounds(a: &TcpStream, b: &TcpStream, n: usize) -> Result<()> {
    let (mut client, mut server) = (a, b);
    let mut buf = [0_u8; 1000];
    for _ in 0..n {
        client.write_all(&[1; 1000])?;
        server.read_exact(&mut buf)?;
        server.write_all(&[2; 100])?;
        client.read_exact(&mut buf[..100])?;
    }
    Ok(())
}

/// Megabytes in one direction, writer and reader on two threads.
pub(crate) fn bulk(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "receiver")?;
    st.rest("connected")?;
    for round in ["first", "second"] {
        transfer(&a, &b, st.scale << 22, 64 * 1024)?;
        st.rest(round)?;
    }
    Ok(())
}

/// Moves `n` bytes from `a` to `b`, reading `chunk` at a time.
pub(crate) fn transfer(a: &TcpStream, b: &TcpStream, n: usize, chunk: usize) -> Result<()> {
    std::thread::scope(|s| {
        let writer = s.spawn(|| {
            let mut a = a;
            let buf = vec![7_u8; 64 * 1024];
            let mut left = n;
            while left > 0 {
                let part = left.min(buf.len());
                a.write_all(&buf[..part])?;
                left -= part;
            }
            std::io::Result::Ok(())
        });
        net::drain(b, n, chunk).context("read")?;
        writer
            .join()
            .ok()
            .context("the writer panicked")?
            .context("write")
    })
}

/// 60 kB that nobody reads, then somebody does.
pub(crate) fn stalled_reader(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    st.rest("connected")?;
    let mut writer = &a;
    writer.write_all(&[9; 60_000])?;
    st.until("60,000 bytes arrive", || Ok(oracle::unread(&b)? == 60_000))?;
    st.until("all are acknowledged", || Ok(oracle::unacked(&a)? == 0))?;
    let mem = oracle::mem_info(&b)?;
    ensure!(
        mem.rmem_alloc > 60_000,
        "60,000 bytes unread, but rmem_alloc {}",
        mem.rmem_alloc
    );
    st.rest("unread")?;
    net::drain(&b, 30_000, 8192)?;
    st.rest("half-read")?;
    net::drain(&b, 30_000, 8192)?;
    ensure!(
        oracle::mem_info(&b)?.rmem_alloc == 0,
        "all read, but rmem_alloc is not 0"
    );
    st.rest("read")
}

/// A reader that takes 500 bytes at a time while the sender is ahead.
pub(crate) fn slow_reader(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair_with(&net::plain, &|fd| net::set_rcvbuf(fd, 32 * 1024))?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    st.pause("connected")?;
    transfer(&a, &b, 256 * 1024 * st.scale, 500)?;
    st.rest("read")
}

/// Four threads, each with a pair of its own, and a fifth pair that all of them share.
pub(crate) fn stress(st: &mut Stage) -> Result<()> {
    let pairs: Vec<_> = (0..4).map(|_| st.pair()).collect::<Result<_>>()?;
    let (shared_a, shared_b) = st.pair()?;
    st.rest("connected")?;
    let scale = st.scale;
    std::thread::scope(|s| {
        let threads: Vec<_> = pairs
            .iter()
            .map(|(a, b)| {
                let shared_a = &shared_a;
                s.spawn(move || {
                    for round in 0..4 * scale {
                        rounds(a, b, 25)?;
                        transfer(b, a, 64 * 1024 + round * 4096, 10_000)?;
                        let mut writer = shared_a;
                        writer.write_all(&[3; 3000])?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        net::drain(&shared_b, 4 * 4 * scale * 3000, 1777)?;
        for t in threads {
            t.join().ok().context("a thread panicked")??;
        }
        anyhow::Ok(())
    })?;
    st.rest("done")
}

/// A sender held back by `SO_MAX_PACING_RATE`, whose skbs leave from a timer.
pub(crate) fn pacing(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    net::set_int(&a, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, 2_000_000)?;
    st.pause("connected")?;
    transfer(&a, &b, 300_000 * st.scale, 64 * 1024)?;
    st.rest("arrived")
}

/// Limits changed while data is queued, and before any.
pub(crate) fn limits(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    st.rest("connected")?;
    net::set_rcvbuf(&b, 8192)?;
    net::set_sndbuf(&a, 16 * 1024)?;
    let mut writer = &a;
    writer.write_all(&[9; 10_000])?;
    st.until("10,000 bytes arrive", || Ok(oracle::unread(&b)? == 10_000))?;
    ensure!(
        oracle::mem_info(&b)?.rcvbuf == 16_384,
        "SO_RCVBUF 8192 did not become 16384"
    );
    st.rest("lowered")?;
    net::set_rcvbuf(&b, 4096)?;
    net::drain(&b, 10_000, 10_000)?;
    // One more round trip, so that every observer has had a reason to look at both ends.
    rounds(&a, &b, 2)?;
    st.rest("lowered-under-load")
}
