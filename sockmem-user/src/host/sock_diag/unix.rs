//! The bytes of unix_diag: linux/unix_diag.h. Pure.

use super::wire::{
    MalformedDiag, NLMSGHDR, SOCK_DIAG_BY_FAMILY, attribute, header, meminfo, u32_at,
};
use super::{AF_UNIX, DiagSocket};

/// `sizeof(struct unix_diag_req)`.
const REQUEST: usize = 24;
/// `sizeof(struct unix_diag_msg)`.
const UNIX_DIAG_MSG: usize = 16;
/// `UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN | UDIAG_SHOW_MEMINFO`.
const SHOW: u32 = 0x01 | 0x04 | 0x10 | 0x20;
/// `UNIX_DIAG_NAME`.
const NAME: u16 = 0;
/// `UNIX_DIAG_PEER`.
const PEER: u16 = 2;
/// `UNIX_DIAG_RQLEN`.
const RQLEN: u16 = 4;
/// `UNIX_DIAG_MEMINFO`.
const MEMINFO: u16 = 5;

/// A dump request for every unix socket of the namespace.
pub(super) fn request(seq: u32) -> [u8; NLMSGHDR + REQUEST] {
    let mut out = [0; NLMSGHDR + REQUEST];
    header(&mut out, SOCK_DIAG_BY_FAMILY, seq);
    out[16] = AF_UNIX; // sdiag_family
    out[20..24].copy_from_slice(&u32::MAX.to_ne_bytes()); // udiag_states: any
    out[28..32].copy_from_slice(&SHOW.to_ne_bytes()); // udiag_show
    out
}

/// Reads one `struct unix_diag_msg` with its attributes, and the socket's name (empty where it
/// has none; led by NUL where it is abstract). Attributes that it does not know are skipped.
///
/// # Errors
/// `MalformedDiag` where the bytes end too early. Never panics.
pub fn parse_unix_diag(bytes: &[u8]) -> Result<(DiagSocket, &[u8]), MalformedDiag> {
    let Some((msg, mut attributes)) = bytes.split_at_checked(UNIX_DIAG_MSG) else {
        return Err(MalformedDiag::Length {
            what: "unix_diag_msg",
            have: bytes.len(),
            need: UNIX_DIAG_MSG,
        });
    };
    let mut socket = DiagSocket {
        family: AF_UNIX,
        kind: msg[1],
        state: msg[2],
        inode: u64::from(u32_at(msg, 4)),
        cookie: u64::from(u32_at(msg, 8)) | u64::from(u32_at(msg, 12)) << 32,
        ..DiagSocket::default()
    };
    let mut name: &[u8] = &[];
    while !attributes.is_empty() {
        let (kind, payload, rest) = attribute(attributes)?;
        match kind {
            NAME => name = payload,
            PEER if payload.len() >= 4 => socket.peer_inode = u32_at(payload, 0),
            RQLEN if payload.len() >= 8 => {
                socket.rqueue = u32_at(payload, 0);
                socket.wqueue = u32_at(payload, 4);
            }
            MEMINFO => socket.meminfo = meminfo(payload),
            _ => {}
        }
        attributes = rest;
    }
    Ok((socket, name))
}
