//! Who a socket belongs to: children, passed descriptors, processes that end.

use std::io::{IoSlice, IoSliceMut, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::stage::{self, Stage};
use super::traffic;
use crate::net;
use crate::oracle;

/// The traced process forks; its child makes sockets of its own.
pub(crate) fn fork_child(st: &mut Stage) -> Result<()> {
    let parent = st.pair()?;
    st.label(&parent.0, "parent")?;
    st.pause("connected")?;
    let family = st.family;
    let (mut control, pid) = st.peer(|control| {
        let listener = net::listener(family, 0, 8, &net::plain)?;
        let a = net::dial(listener.local_addr()?, &net::plain)?;
        let (b, _) = listener.accept()?;
        stage::tell_u64(control, oracle::cookie(&b)?)?;
        (&a).write_all(&[1; 20_000])?;
        stage::tell(control)?;
        stage::hear(control)?;
        net::drain(&b, 20_000, 5000)?;
        traffic::rounds(&a, &b, 3)?;
        stage::tell(control)?;
        stage::linger(control)
    })?;
    st.fact("child", u64::try_from(pid.as_raw())?);
    let cookie = stage::hear_u64(&mut control)?;
    st.fact("cookie.child", cookie);
    stage::hear(&mut control)?;
    st.pause("child-unread")?;
    stage::tell(&mut control)?;
    stage::hear(&mut control)?;
    st.pause("child-read")?;
    stage::tell(&mut control)?;
    nix::sys::wait::waitpid(pid, None).context("waitpid")?;
    st.pause("child-ended")
}

fn send_fd(channel: &impl AsFd, fd: &impl AsFd) -> Result<()> {
    let fds = [fd.as_fd().as_raw_fd()];
    let control = [ControlMessage::ScmRights(&fds)];
    let data = [IoSlice::new(b"f")];
    sendmsg::<()>(
        channel.as_fd().as_raw_fd(),
        &data,
        &control,
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

fn receive_fd(channel: &impl AsFd) -> Result<OwnedFd> {
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let raw = channel.as_fd().as_raw_fd();
    let message = recvmsg::<()>(raw, &mut data, Some(&mut space), MsgFlags::empty())?;
    for c in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = c
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just installed this descriptor for us alone.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    bail!("no descriptor in the message")
}

/// A socket is passed to a helper, closed here, and used there.
pub(crate) fn fd_passing(st: &mut Stage) -> Result<()> {
    let (mut control, pid) = st.peer(|control| {
        let passed = TcpStream::from(receive_fd(control)?);
        net::drain(&passed, 1000, 1000)?;
        (&passed).write_all(&[2; 100])?;
        stage::tell(control)?;
        stage::linger(control)
    })?;
    st.fact("helper", u64::try_from(pid.as_raw())?);
    let (a, b) = st.pair()?;
    st.label(&a, "client")?;
    st.label(&b, "passed")?;
    traffic::rounds(&a, &b, 3)?;
    st.pause("connected")?;
    send_fd(&control, &b)?;
    drop(b);
    (&a).write_all(&[1; 1000])?;
    stage::hear(&mut control)?;
    net::drain(&a, 100, 100)?;
    st.pause("passed")?;
    stage::tell(&mut control)?;
    nix::sys::wait::waitpid(pid, None)
        .map(drop)
        .context("waitpid")
}

/// The process ends by itself, with data left in its sockets.
pub(crate) fn exit(st: &mut Stage) -> Result<()> {
    let (a, b) = st.pair()?;
    st.label(&a, "client")?;
    st.label(&b, "server")?;
    st.pause("connected")?;
    traffic::rounds(&a, &b, 5)?;
    (&a).write_all(&[1; 10_000])?;
    std::process::exit(0)
}
