//! From the bytes of a ring-buffer record to a typed one. Pure.
#![deny(unsafe_code)]

use bytes::Buf;
use sockmem_common::{
    Change, Counters, Header, Integral, KIND_CHANGE, KIND_CLOSE, KIND_EXIT, KIND_FORK, KIND_LIMIT,
    KIND_OPEN, KIND_OWNER, KIND_PRESSURE, KIND_SYSCTL, Lifecycle, LimitSet, Pressure, Process,
    REASONS, Seqs, SockState, SysctlWrite,
};

/// A decoded record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A socket's counters changed.
    Change(Change),
    /// The trace saw a socket for the first time.
    Open(Box<Lifecycle>),
    /// A socket was destroyed; its totals are final.
    Close(Box<Lifecycle>),
    /// Owner, TCP state or addresses changed.
    Owner(Box<Lifecycle>),
    /// A traced process forked.
    Fork(Process),
    /// A traced process ended.
    Exit(Process),
    /// A setsockopt call on a limit succeeded.
    Limit(LimitSet),
    /// The kernel ran into a limit.
    Pressure(Pressure),
    /// A sysctl is written.
    Sysctl(SysctlWrite),
}

impl Record {
    /// What, when, where.
    #[must_use]
    pub fn header(&self) -> &Header {
        match self {
            Record::Change(c) => &c.header,
            Record::Open(l) | Record::Close(l) | Record::Owner(l) => &l.header,
            Record::Fork(p) | Record::Exit(p) => &p.header,
            Record::Limit(l) => &l.header,
            Record::Pressure(p) => &p.header,
            Record::Sysctl(w) => &w.header,
        }
    }
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the record's kind needs.
    #[error("record of kind {kind} has {have} bytes, needs {need}")]
    Short {
        /// `Header::kind`, 0 where even the header is short.
        kind: u8,
        /// Bytes given.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// A kind that this version does not know.
    #[error("record of unknown kind {0}")]
    Unknown(u8),
}

/// Decodes one record. Bytes after it are ignored: the ring pads to 8.
///
/// # Errors
/// `DecodeError` where the bytes are too few or of an unknown kind.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    const HEADER: usize = size_of::<Header>();
    if bytes.len() < HEADER {
        return Err(DecodeError::Short {
            kind: 0,
            have: bytes.len(),
            need: HEADER,
        });
    }
    let mut buf = bytes;
    let header = header(&mut buf);
    let need = match header.kind {
        KIND_CHANGE => size_of::<Change>(),
        KIND_OPEN | KIND_CLOSE | KIND_OWNER => size_of::<Lifecycle>(),
        KIND_FORK | KIND_EXIT => size_of::<Process>(),
        KIND_LIMIT => size_of::<LimitSet>(),
        KIND_PRESSURE => size_of::<Pressure>(),
        KIND_SYSCTL => size_of::<SysctlWrite>(),
        kind => return Err(DecodeError::Unknown(kind)),
    };
    if bytes.len() < need {
        return Err(DecodeError::Short {
            kind: header.kind,
            have: bytes.len(),
            need,
        });
    }
    Ok(match header.kind {
        KIND_CHANGE => Record::Change(change(header, &mut buf)),
        KIND_OPEN => Record::Open(lifecycle(header, &mut buf)),
        KIND_CLOSE => Record::Close(lifecycle(header, &mut buf)),
        KIND_OWNER => Record::Owner(lifecycle(header, &mut buf)),
        KIND_FORK => Record::Fork(process(header, &mut buf)),
        KIND_LIMIT => Record::Limit(limit(header, &mut buf)),
        KIND_PRESSURE => Record::Pressure(pressure(header, &mut buf)),
        KIND_SYSCTL => Record::Sysctl(sysctl(header, &mut buf)),
        _ => Record::Exit(process(header, &mut buf)),
    })
}

fn header(b: &mut &[u8]) -> Header {
    Header {
        t_ns: b.get_u64_ne(),
        id: b.get_u64_ne(),
        kind: b.get_u8(),
        hook: b.get_u8(),
        reserved: b.get_u16_ne(),
        cpu: b.get_u32_ne(),
    }
}

fn counters(b: &mut &[u8]) -> Counters {
    Counters {
        rmem_alloc: b.get_u32_ne(),
        wmem_queued: b.get_u32_ne(),
        forward_alloc: b.get_i32_ne(),
        wmem_alloc: b.get_u32_ne(),
        optmem: b.get_u32_ne(),
        backlog: b.get_u32_ne(),
        rcvbuf: b.get_u32_ne(),
        sndbuf: b.get_u32_ne(),
    }
}

fn change(header: Header, b: &mut &[u8]) -> Change {
    Change {
        header,
        after: counters(b),
        d_rmem_alloc: b.get_i32_ne(),
        d_wmem_queued: b.get_i32_ne(),
        d_forward_alloc: b.get_i32_ne(),
        unread: b.get_u32_ne(),
        unacked: b.get_u32_ne(),
        resident_min: b.get_u32_ne(),
        resident_max: b.get_u32_ne(),
        merged: b.get_u32_ne(),
    }
}

fn integral(b: &mut &[u8]) -> Integral {
    Integral {
        high: b.get_u64_ne(),
        low: b.get_u64_ne(),
    }
}

fn array<const N: usize>(b: &mut &[u8]) -> [u8; N] {
    let mut out = [0; N];
    b.copy_to_slice(&mut out);
    out
}

fn lifecycle(header: Header, b: &mut &[u8]) -> Box<Lifecycle> {
    Box::new(Lifecycle {
        header,
        state: state(b),
    })
}

/// Struct expressions evaluate in the order written, which is the order of the ABI.
fn state(b: &mut &[u8]) -> SockState {
    SockState {
        id: b.get_u64_ne(),
        cookie: b.get_u64_ne(),
        inode: b.get_u64_ne(),
        listener_id: b.get_u64_ne(),
        first_ns: b.get_u64_ne(),
        last_ns: b.get_u64_ne(),
        last_activity_ns: b.get_u64_ne(),
        last_emit_ns: b.get_u64_ne(),
        baseline: b.get_u64_ne(),
        charged: b.get_u64_ne(),
        released: b.get_u64_ne(),
        changes: b.get_u64_ne(),
        idle_ns: b.get_u64_ne(),
        resident_peak: b.get_u64_ne(),
        idle_resident_max: b.get_u64_ne(),
        resident_time: integral(b),
        idle_time: {
            let mut parts = [Integral::default(); REASONS];
            for part in &mut parts {
                *part = integral(b);
            }
            parts
        },
        counters: counters(b),
        seqs: Seqs {
            rcv_nxt: b.get_u32_ne(),
            copied_seq: b.get_u32_ne(),
            write_seq: b.get_u32_ne(),
            snd_una: b.get_u32_ne(),
            snd_nxt: b.get_u32_ne(),
            flags: b.get_u32_ne(),
        },
        rmem_peak: b.get_u32_ne(),
        wmem_queued_peak: b.get_u32_ne(),
        window_min: b.get_u32_ne(),
        window_max: b.get_u32_ne(),
        merged: b.get_u32_ne(),
        netns: b.get_u32_ne(),
        owner_tgid: b.get_u32_ne(),
        pending: b.get_u32_ne(),
        owner_kind: b.get_u8(),
        tcp_state: b.get_u8(),
        family: b.get_u8(),
        flags: b.get_u8(),
        local_port: b.get_u16_ne(),
        remote_port: b.get_u16_ne(),
        local: array(b),
        remote: array(b),
        owner_comm: array(b),
    }
}

fn process(header: Header, b: &mut &[u8]) -> Process {
    Process {
        header,
        parent: b.get_u32_ne(),
        reserved: b.get_u32_ne(),
        comm: array(b),
    }
}

fn limit(header: Header, b: &mut &[u8]) -> LimitSet {
    LimitSet {
        header,
        began_ns: b.get_u64_ne(),
        asked: b.get_i32_ne(),
        from: b.get_u32_ne(),
        to: b.get_u32_ne(),
        tgid: b.get_u32_ne(),
        what: b.get_u8(),
        flags: b.get_u8(),
        level: b.get_u16_ne(),
        optname: b.get_u32_ne(),
        comm: array(b),
    }
}

fn pressure(header: Header, b: &mut &[u8]) -> Pressure {
    Pressure {
        header,
        count: b.get_u64_ne(),
        allocated: b.get_u64_ne(),
        limits: [b.get_u64_ne(), b.get_u64_ne(), b.get_u64_ne()],
        rmem_alloc: b.get_u32_ne(),
        rcvbuf: b.get_u32_ne(),
        kind: b.get_u8(),
        flags: b.get_u8(),
        direction: b.get_u8(),
        reserved: array(b),
    }
}

fn sysctl(header: Header, b: &mut &[u8]) -> SysctlWrite {
    SysctlWrite {
        header,
        name: array(b),
        comm: array(b),
        netns: b.get_u32_ne(),
        reserved: b.get_u32_ne(),
    }
}

#[cfg(test)]
mod tests;
