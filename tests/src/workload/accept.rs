//! Sockets on their way to a process: accept queues, Fast Open, several listeners on a port.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};

use super::stage::{Skip, Stage};
use crate::net;
use crate::oracle;

/// Connections with data that nobody has accepted; some are, the rest die with the listener.
pub(crate) fn queue(st: &mut Stage) -> Result<()> {
    let listener = st.listen(16, &net::plain)?;
    st.label(&listener, "listener")?;
    let addr = listener.local_addr()?;
    let early = net::dial(addr, &net::plain)?;
    (&early).write_all(&[1; 3000])?;
    wait_arrived(st, 1, 3000)?;
    st.rest("early-unaccepted")?;
    let late: Vec<TcpStream> = (0..7)
        .map(|_| net::dial(addr, &net::plain))
        .collect::<Result<_, _>>()?;
    for s in &late {
        let mut s = s;
        s.write_all(&[2; 10_000])?;
    }
    wait_arrived(st, 8, 10_000)?;
    st.rest("unaccepted")?;
    let mut accepted = Vec::new();
    for _ in 0..4 {
        let (s, _) = listener.accept()?;
        let n = if accepted.is_empty() { 3000 } else { 10_000 };
        net::drain(&s, n, 4096)?;
        oracle::cookie(&s)?;
        accepted.push(s);
    }
    st.rest("accepted")?;
    drop(listener);
    st.until("the unaccepted are reset", || Ok(st.unowned()?.is_empty()))?;
    st.rest("listener-closed")?;
    drop(late);
    drop(early);
    drop(accepted);
    st.until("all are closed", || Ok(st.unowned()?.is_empty()))?;
    st.rest("closed")
}

fn wait_arrived(st: &Stage, sockets: usize, bytes: u32) -> Result<()> {
    st.until("data waits on unaccepted sockets", || {
        let waiting = st.unowned()?;
        Ok(waiting.len() == sockets
            && waiting.iter().any(|r| r.mem.rmem_alloc > bytes)
            && waiting.iter().all(|r| r.mem.rmem_alloc > 0))
    })
}

const FASTOPEN_SYSCTL: &str = "/proc/sys/net/ipv4/tcp_fastopen";

/// Data in the SYN: the child is born with memory in it.
pub(crate) fn fastopen(st: &mut Stage) -> Result<()> {
    let text = std::fs::read_to_string(FASTOPEN_SYSCTL).context(FASTOPEN_SYSCTL)?;
    let bits: u32 = text.trim().parse().context(FASTOPEN_SYSCTL)?;
    if bits & 3 != 3 {
        if st.host {
            bail!(Skip(format!(
                "net.ipv4.tcp_fastopen is {bits}; the test needs 3 and leaves this machine's settings alone"
            )));
        }
        std::fs::write(FASTOPEN_SYSCTL, "3").context("cannot set net.ipv4.tcp_fastopen")?;
    }
    let listener = st.listen(16, &|fd| {
        net::set_int(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16)
    })?;
    st.label(&listener, "listener")?;
    let addr = SockaddrStorage::from(listener.local_addr()?);
    st.rest("listening")?;
    let mut ends = Vec::new();
    for round in 0..3 {
        let fd = net::tcp_socket(st.family)?;
        let data = [7; 700];
        // The first round fetches the cookie, later ones carry the data in the SYN.
        let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
        let sent = sendto(fd.as_raw_fd(), &data, &addr, flags).context("sendto(MSG_FASTOPEN)")?;
        ensure!(
            sent == data.len(),
            "round {round}: {sent} of {} bytes sent",
            data.len()
        );
        ends.push(TcpStream::from(fd));
    }
    st.until("three connections wait with their data", || {
        let waiting = st.unowned()?;
        Ok(waiting.len() == 3 && waiting.iter().all(|r| r.mem.rmem_alloc > 700))
    })?;
    st.rest("unaccepted")?;
    for _ in 0..3 {
        let (s, _) = listener.accept()?;
        net::drain(&s, 700, 700)?;
        oracle::cookie(&s)?;
        ends.push(s);
    }
    st.rest("read")
}

/// Two listeners on one port; each takes what the kernel gives it.
pub(crate) fn reuseport(st: &mut Stage) -> Result<()> {
    let setup =
        |fd: &std::os::fd::OwnedFd| net::set_int(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1);
    let first = st.listen(64, &setup)?;
    let addr = first.local_addr()?;
    let second = net::listener(st.family, addr.port(), 64, &setup)?;
    st.label(&first, "first")?;
    st.label(&second, "second")?;
    st.rest("listening")?;
    let clients: Vec<TcpStream> = (0..16)
        .map(|_| net::dial(addr, &net::plain))
        .collect::<Result<_, _>>()?;
    for c in &clients {
        let mut c = c;
        c.write_all(&[1; 2000])?;
    }
    st.until("all data arrives", || {
        let waiting = st.unowned()?;
        Ok(waiting.len() == 16 && waiting.iter().all(|r| r.mem.rmem_alloc > 2000))
    })?;
    st.rest("unaccepted")?;
    let mut served = Vec::new();
    for listener in [&first, &second] {
        listener.set_nonblocking(true)?;
        loop {
            match listener.accept() {
                Ok((s, _)) => {
                    s.set_nonblocking(false)?;
                    let mut buf = [0; 2000];
                    (&s).read_exact(&mut buf)?;
                    oracle::cookie(&s)?;
                    served.push(s);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
        }
    }
    ensure!(
        served.len() == 16,
        "{} of 16 connections accepted",
        served.len()
    );
    st.rest("read")
}
