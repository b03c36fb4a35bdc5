//! The workload of `hooks`: sends and reads of which each is surely of one kind.
//!
//! * `open`: a new connection to itself, corked (`TCP_CORK`): what is written is queued and not
//!   sent before a whole segment (64 KiB on loopback) is there.
//! * `changed N`: N sends of one byte; each adds one to `sk_wmem_queued` and transmits nothing.
//! * `unchanged N`: N sends of nothing; `sock_send_length` fires and no counter has moved.
//! * `read N`: N reads of an empty queue; the same for `sock_recv_length`.
//! * `echo N`: N times one byte there and back, uncorked.

use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

/// Sends of one byte that fit into one segment of a corked socket.
pub(crate) const MOST: usize = 60_000;

struct Pair {
    near: TcpStream,
    far: TcpStream,
}

fn cork(stream: &TcpStream, on: bool) -> Result<()> {
    let value = libc::c_int::from(on);
    // SAFETY: the option's value is one int, whose address and size are given.
    let rc = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CORK,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    ensure!(rc == 0, "TCP_CORK: {}", std::io::Error::last_os_error());
    Ok(())
}

fn open() -> Result<Pair> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let near = TcpStream::connect(listener.local_addr()?).context("connecting")?;
    let (far, _) = listener.accept().context("accepting")?;
    cork(&near, true)?;
    Ok(Pair { near, far })
}

impl Pair {
    fn sends(&self, n: usize, bytes: &[u8]) -> Result<()> {
        let fd = self.near.as_raw_fd();
        for _ in 0..n {
            let sent = send(fd, bytes, MsgFlags::empty()).context("send")?;
            ensure!(sent == bytes.len(), "a send took {sent} bytes");
        }
        Ok(())
    }

    fn reads(&self, n: usize) -> Result<()> {
        let fd = self.near.as_raw_fd();
        let mut buffer = [0u8; 1];
        for _ in 0..n {
            match recv(fd, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => {}
                other => bail!("a read of an empty queue gave {other:?}"),
            }
        }
        Ok(())
    }

    fn echoes(&self, n: usize) -> Result<()> {
        cork(&self.near, false)?;
        self.near.set_nodelay(true)?;
        self.far.set_nodelay(true)?;
        let (near, far) = (self.near.as_raw_fd(), self.far.as_raw_fd());
        let mut buffer = [0u8; 64];
        for _ in 0..n {
            for (from, to) in [(near, far), (far, near)] {
                send(from, b"x", MsgFlags::empty()).context("send")?;
                recv(to, &mut buffer, MsgFlags::empty()).context("recv")?;
            }
        }
        Ok(())
    }
}

/// Obeys stdin, a command a line, and answers each with a line.
pub(crate) fn serve() -> Result<()> {
    let mut pair: Option<Pair> = None;
    for line in stdin().lock().lines() {
        let line = line.context("reading stdin")?;
        let (what, n) = line.split_once(' ').unwrap_or((&line, "0"));
        let n: usize = n.parse().context("a count")?;
        if what == "open" {
            pair = Some(open()?);
        } else {
            let pair = pair.as_ref().context("nothing is open")?;
            match what {
                "changed" => pair.sends(n.min(MOST), b"x")?,
                "unchanged" => pair.sends(n, b"")?,
                "read" => pair.reads(n)?,
                "echo" => pair.echoes(n)?,
                _ => bail!("{what:?} is no command"),
            }
        }
        println!("done");
        stdout().flush()?;
    }
    Ok(())
}
