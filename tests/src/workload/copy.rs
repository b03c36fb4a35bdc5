//! Ways to move bytes other than read and write: sendfile, splice, zerocopy, peek, kTLS.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};

use super::stage::{Skip, Stage};
use crate::net;
use crate::oracle;

fn count(n: isize, what: &str) -> Result<usize> {
    usize::try_from(n)
        .map_err(|_| io::Error::last_os_error())
        .with_context(|| what.to_owned())
}

/// A file to a socket, read at the other end.
pub(crate) fn sendfile(st: &mut Stage) -> Result<()> {
    const LEN: usize = 1 << 20;
    let file = net::memory_file(LEN)?;
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    st.rest("connected")?;
    std::thread::scope(|s| {
        let writer = s.spawn(|| {
            let mut offset: libc::off_t = 0;
            while (offset as usize) < LEN {
                // SAFETY: both descriptors are open, `offset` is ours.
                let n = unsafe {
                    libc::sendfile(a.as_raw_fd(), file.as_raw_fd(), &raw mut offset, LEN)
                };
                count(n, "sendfile")?;
            }
            anyhow::Ok(())
        });
        net::drain(&b, LEN, 50_000)?;
        writer.join().ok().context("the writer panicked")?
    })?;
    st.rest("sent")?;
    let mut offset: libc::off_t = 0;
    // SAFETY: as above.
    let n = unsafe { libc::sendfile(a.as_raw_fd(), file.as_raw_fd(), &raw mut offset, 30_000) };
    let n = count(n, "sendfile")?;
    st.until("the pages arrive", || Ok(oracle::unread(&b)? as usize == n))?;
    st.rest("unread-pages")?;
    net::drain(&b, n, 4096)?;
    st.rest("read")
}

fn splice_n(from: &impl AsRawFd, to: &impl AsRawFd, n: usize) -> Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    let null = std::ptr::null_mut();
    // SAFETY: no offsets are passed; the descriptors are open.
    count(
        unsafe { libc::splice(from, null, to, null, n, libc::SPLICE_F_MOVE) },
        "splice",
    )
}

/// Socket to pipe to socket, as a proxy does.
pub(crate) fn splice(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    let (c, d) = st.pair()?;
    for (s, name) in [
        (&a, "client"),
        (&b, "proxy-in"),
        (&c, "proxy-out"),
        (&d, "server"),
    ] {
        st.label(s, name)?;
    }
    let (pipe_r, pipe_w): (OwnedFd, OwnedFd) = nix::unistd::pipe()?;
    st.rest("connected")?;
    let total = 512 * 1024 * st.scale;
    std::thread::scope(|s| {
        let source = s.spawn(|| (&a).write_all(&vec![8; total]));
        let sink = s.spawn(|| net::drain(&d, total, 20_000));
        let mut left = total;
        while left > 0 {
            let got = splice_n(&b, &pipe_w, left.min(64 * 1024))?;
            ensure!(got > 0, "end of stream with {left} bytes missing");
            left -= got;
            let mut inside = got;
            while inside > 0 {
                inside -= splice_n(&pipe_r, &c, inside)?;
            }
        }
        source.join().ok().context("the source panicked")??;
        sink.join().ok().context("the sink panicked")??;
        anyhow::Ok(())
    })?;
    st.rest("proxied")?;
    // Pages that sit in the pipe belong to no socket.
    let mut writer = &a;
    writer.write_all(&[8; 5000])?;
    let got = splice_n(&b, &pipe_w, 5000)?;
    st.rest("in-the-pipe")?;
    let mut inside = got;
    while inside > 0 {
        inside -= splice_n(&pipe_r, &c, inside)?;
    }
    net::drain(&d, got, 5000)?;
    st.rest("out-of-the-pipe")
}

/// `MSG_ZEROCOPY`, with its notifications left pending and then taken.
pub(crate) fn zerocopy(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    net::set_int(&a, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
    st.rest("connected")?;
    let buf = vec![1_u8; 100_000];
    let mut total = 0;
    for _ in 0..8 {
        let fd = a.as_raw_fd();
        // SAFETY: pointer and length describe `buf`, which lives until all is acknowledged.
        let n = unsafe { libc::send(fd, buf.as_ptr().cast(), buf.len(), libc::MSG_ZEROCOPY) };
        let n = count(n, "send(MSG_ZEROCOPY)")?;
        net::drain(&b, n, 33_333)?;
        total += n;
    }
    ensure!(total > 0, "nothing sent");
    st.until("all are acknowledged", || Ok(oracle::unacked(&a)? == 0))?;
    st.rest("notified")?;
    st.until("the notifications are taken", || {
        while take_notification(&a)? {}
        Ok(oracle::mem_info(&a)?.optmem == 0)
    })?;
    // A round trip, so that the sender's lock was held after the notifications went.
    super::traffic::rounds(&a, &b, 1)?;
    st.rest("taken")
}

/// Takes one message off the error queue; false when it is empty.
fn take_notification(stream: &TcpStream) -> Result<bool> {
    let mut control = [0_u8; 128];
    // SAFETY: an all-zero msghdr is valid.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    msg.msg_control = control.as_mut_ptr().cast();
    msg.msg_controllen = control.len();
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: `msg` describes `control` and no data buffers.
    let n = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut msg, flags) };
    if n >= 0 {
        return Ok(true);
    }
    let e = io::Error::last_os_error();
    if e.kind() == io::ErrorKind::WouldBlock {
        Ok(false)
    } else {
        Err(e.into())
    }
}

fn recv(stream: &TcpStream, buf: &mut [u8], flags: i32) -> Result<usize> {
    // SAFETY: pointer and length describe `buf`.
    let n = unsafe {
        libc::recv(
            stream.as_raw_fd(),
            buf.as_mut_ptr().cast(),
            buf.len(),
            flags,
        )
    };
    count(n, "recv")
}

/// `MSG_PEEK` frees nothing, `MSG_TRUNC` frees without copying, `SO_RCVLOWAT` wakes late.
pub(crate) fn peek(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "sender")?;
    st.label(&b, "reader")?;
    net::set_int(&b, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 20_000)?;
    st.rest("connected")?;
    let mut writer = &a;
    writer.write_all(&[2; 30_000])?;
    st.until("30,000 bytes arrive", || Ok(oracle::unread(&b)? == 30_000))?;
    let before = oracle::mem_info(&b)?.rmem_alloc;
    let mut buf = vec![0_u8; 30_000];
    ensure!(
        recv(&b, &mut buf, libc::MSG_PEEK)? == 30_000,
        "peeked fewer than 30,000 bytes"
    );
    let after = oracle::mem_info(&b)?.rmem_alloc;
    ensure!(
        before == after,
        "MSG_PEEK changed rmem_alloc from {before} to {after}"
    );
    st.rest("peeked")?;
    ensure!(
        recv(&b, &mut buf[..25_000], libc::MSG_TRUNC)? == 25_000,
        "short MSG_TRUNC"
    );
    st.rest("truncated")?;
    net::drain(&b, 5000, 700)?;
    st.rest("read")
}

const TCP_ULP: i32 = 31;
const SOL_TLS: i32 = 282;
const TLS_TX: i32 = 1;
const TLS_RX: i32 = 2;

/// `struct tls12_crypto_info_aes_gcm_128` (include/uapi/linux/tls.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct AesGcm128 {
    version: u16,
    cipher: u16,
    iv: [u8; 8],
    key: [u8; 16],
    salt: [u8; 4],
    rec_seq: [u8; 8],
}

/// Kernel TLS in both directions.
pub(crate) fn ktls(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "client")?;
    st.label(&b, "server")?;
    st.pause("connected")?;
    for s in [&a, &b] {
        if let Err(e) = net::set_opt(s, libc::IPPROTO_TCP, TCP_ULP, b"tls") {
            // Debian's 5.10 for clouds is built without; its later ones have the module.
            let may_lack = st.host || oracle::kernel_version()? < (6, 0);
            if may_lack && matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT)) {
                bail!(Skip(
                    "this kernel has no kTLS (module tls is not loaded)".into()
                ));
            }
            return Err(e).context("setsockopt(TCP_ULP)");
        }
        let info = AesGcm128 {
            version: 0x0303,
            cipher: 51,
            iv: [1; 8],
            key: [2; 16],
            salt: [3; 4],
            rec_seq: [0; 8],
        };
        if let Err(e) = net::set_opt(s, SOL_TLS, TLS_TX, &info) {
            // A test guest is given the modules, so there it is a mistake of the guest's.
            if st.host && e.raw_os_error() == Some(libc::ENOENT) {
                bail!(Skip(
                    "this kernel has no gcm(aes) for kTLS (modules gcm, ghash)".into()
                ));
            }
            return Err(e).context("setsockopt(TLS_TX)");
        }
        net::set_opt(s, SOL_TLS, TLS_RX, &info).context("TLS_RX")?;
    }
    st.rest("keyed")?;
    super::traffic::transfer(&a, &b, 512 * 1024, 16 * 1024)?;
    super::traffic::rounds(&a, &b, 50)?;
    st.until("all are acknowledged", || {
        Ok(oracle::unacked(&a)? == 0 && oracle::unacked(&b)? == 0)
    })?;
    st.rest("decrypted")
}
