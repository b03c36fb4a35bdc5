//! One input as bytes and back.

use std::collections::HashMap;

use bytes::BufMut;
use sockmem_common::{
    Change, Counters, Header, Lifecycle, PressureCounts, Process, SockState, TruesizeSum,
};

use super::happened;
use super::varint::{Short, get_bytes, get_u64, put_bytes, put_u64};
use super::words::{WORDS, Words, get_difference, put_difference, state, words};
use crate::decode::Record;
use crate::facts::{HostSample, Loss};
use crate::model::{Input, ProcessFacts, TruesizeCounts};

const CHANGE: u8 = 1;
const OPEN: u8 = 2;
const CLOSE: u8 = 3;
const OWNER: u8 = 4;
const FORK: u8 = 5;
const EXIT: u8 = 6;
const STATES: u8 = 7;
const SCAN_DONE: u8 = 8;
const PROCESS: u8 = 9;
const EXITED: u8 = 10;
const LOSS: u8 = 11;
const TRUESIZE: u8 = 12;
const LIMIT: u8 = 13;
const PRESSURE: u8 = 14;
const SYSCTL: u8 = 15;
const HOST: u8 = 16;
const PRESSURE_COUNTS: u8 = 17;

/// An input of its own.
#[derive(Debug)]
pub(super) enum Item {
    Record(Record),
    States(Vec<SockState>, u64),
    ScanDone(u64),
    Process(u32, ProcessFacts),
    Exited(u32, u64),
    Loss(Loss),
    Truesize(TruesizeCounts),
    Host(HostSample),
    Pressure(PressureCounts),
    /// Of a kind that this version does not know.
    Unknown,
}

impl Item {
    pub(super) fn input(&self) -> Option<Input<'_>> {
        Some(match self {
            Item::Record(r) => Input::Record(r),
            Item::States(states, now_ns) => Input::States {
                states,
                now_ns: *now_ns,
            },
            Item::ScanDone(began_ns) => Input::ScanDone {
                began_ns: *began_ns,
            },
            Item::Process(pid, facts) => Input::Process { pid: *pid, facts },
            Item::Exited(pid, t_ns) => Input::Exited {
                pid: *pid,
                t_ns: *t_ns,
            },
            Item::Loss(loss) => Input::Loss(loss),
            Item::Truesize(counts) => Input::Truesize(counts),
            Item::Host(sample) => Input::Host(sample),
            Item::Pressure(counts) => Input::Pressure(counts),
            Item::Unknown => return None,
        })
    }
}

/// The last known state of each socket, alike in writer and reader.
pub(super) type Known = HashMap<u64, Words>;

fn put_state(out: &mut impl BufMut, known: &mut Known, s: &SockState) {
    let now = words(s);
    put_u64(out, s.id);
    let before = known.entry(s.id).or_insert([0; WORDS]);
    put_difference(out, before, &now);
    *before = now;
}

fn get_state(from: &mut &[u8], known: &mut Known) -> Result<SockState, Short> {
    let before = known.entry(get_u64(from)?).or_insert([0; WORDS]);
    get_difference(from, before)?;
    Ok(state(before))
}

pub(super) fn put_header(out: &mut impl BufMut, h: &Header) {
    for v in [
        h.t_ns,
        h.id,
        h.kind.into(),
        h.hook.into(),
        h.reserved.into(),
        h.cpu.into(),
    ] {
        put_u64(out, v);
    }
}

pub(super) fn get_header(b: &mut &[u8]) -> Result<Header, Short> {
    Ok(Header {
        t_ns: get_u64(b)?,
        id: get_u64(b)?,
        kind: get_u64(b)? as u8,
        hook: get_u64(b)? as u8,
        reserved: get_u64(b)? as u16,
        cpu: get_u64(b)? as u32,
    })
}

fn put_text(out: &mut impl BufMut, text: Option<&str>) {
    put_u64(out, text.is_some().into());
    if let Some(text) = text {
        put_bytes(out, text.as_bytes());
    }
}

fn get_text(from: &mut &[u8]) -> Result<Option<String>, Short> {
    if get_u64(from)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(get_bytes(from)?).into_owned()))
}

pub(super) fn put(out: &mut Vec<u8>, known: &mut Known, t_ns: u64, input: Input<'_>) {
    let mut b = Vec::new();
    let kind = match input {
        Input::Record(Record::Change(c)) => {
            put_header(&mut b, &c.header);
            let a = &c.after;
            for v in [
                a.rmem_alloc,
                a.wmem_queued,
                a.forward_alloc as u32,
                a.wmem_alloc,
                a.optmem,
                a.backlog,
                a.rcvbuf,
                a.sndbuf,
                c.d_rmem_alloc as u32,
                c.d_wmem_queued as u32,
                c.d_forward_alloc as u32,
                c.unread,
                c.unacked,
                c.resident_min,
                c.resident_max,
                c.merged,
            ] {
                put_u64(&mut b, v.into());
            }
            CHANGE
        }
        Input::Record(record @ (Record::Open(l) | Record::Close(l) | Record::Owner(l))) => {
            put_header(&mut b, &l.header);
            put_state(&mut b, known, &l.state);
            match record {
                Record::Open(_) => OPEN,
                Record::Close(_) => CLOSE,
                _ => OWNER,
            }
        }
        Input::Record(record @ (Record::Fork(p) | Record::Exit(p))) => {
            put_header(&mut b, &p.header);
            put_u64(&mut b, p.parent.into());
            put_u64(&mut b, p.reserved.into());
            b.put_slice(&p.comm);
            if matches!(record, Record::Fork(_)) {
                FORK
            } else {
                EXIT
            }
        }
        Input::Record(Record::Limit(l)) => {
            happened::put_limit(&mut b, l);
            LIMIT
        }
        Input::Record(Record::Pressure(p)) => {
            happened::put_pressure(&mut b, p);
            PRESSURE
        }
        Input::Record(Record::Sysctl(w)) => {
            happened::put_sysctl(&mut b, w);
            SYSCTL
        }
        Input::Host(sample) => {
            happened::put_host(&mut b, sample);
            HOST
        }
        Input::Pressure(counts) => {
            happened::put_counts(&mut b, counts);
            PRESSURE_COUNTS
        }
        Input::States { states, now_ns } => {
            put_u64(&mut b, now_ns);
            put_u64(&mut b, states.len() as u64);
            for s in states {
                put_state(&mut b, known, s);
            }
            STATES
        }
        Input::ScanDone { began_ns } => {
            put_u64(&mut b, began_ns);
            SCAN_DONE
        }
        Input::Process { pid, facts } => {
            put_u64(&mut b, pid.into());
            for text in [&facts.comm, &facts.cgroup, &facts.cmdline] {
                put_text(&mut b, text.as_deref());
            }
            PROCESS
        }
        Input::Exited { pid, t_ns } => {
            put_u64(&mut b, pid.into());
            put_u64(&mut b, t_ns);
            EXITED
        }
        Input::Loss(l) => {
            for v in [
                l.seen,
                l.sent,
                l.merged,
                l.dropped_ring,
                l.dropped_map,
                l.lost_closed,
                l.recursion_misses.is_some().into(),
                l.recursion_misses.unwrap_or(0),
            ] {
                put_u64(&mut b, v);
            }
            LOSS
        }
        Input::Truesize(t) => {
            for v in [
                t.sum.count,
                t.sum.truesize,
                t.sum.payload,
                t.sum.max,
                t.buckets.len() as u64,
            ] {
                put_u64(&mut b, v);
            }
            for n in &t.buckets {
                put_u64(&mut b, *n);
            }
            TRUESIZE
        }
    };
    out.put_u8(kind);
    put_u64(out, t_ns);
    put_bytes(out, &b);
}

pub(super) fn get(from: &mut &[u8], known: &mut Known) -> Result<(u64, Item), Short> {
    let kind = get_u64(from)? as u8;
    let t_ns = get_u64(from)?;
    let mut body = get_bytes(from)?;
    let b = &mut body;
    let item = match kind {
        CHANGE => {
            let header = get_header(b)?;
            let mut w = || Ok(get_u64(b)? as u32);
            let after = Counters {
                rmem_alloc: w()?,
                wmem_queued: w()?,
                forward_alloc: w()? as i32,
                wmem_alloc: w()?,
                optmem: w()?,
                backlog: w()?,
                rcvbuf: w()?,
                sndbuf: w()?,
            };
            Item::Record(Record::Change(Change {
                header,
                after,
                d_rmem_alloc: w()? as i32,
                d_wmem_queued: w()? as i32,
                d_forward_alloc: w()? as i32,
                unread: w()?,
                unacked: w()?,
                resident_min: w()?,
                resident_max: w()?,
                merged: w()?,
            }))
        }
        OPEN | CLOSE | OWNER => {
            let header = get_header(b)?;
            let state = get_state(b, known)?;
            let l = Box::new(Lifecycle { header, state });
            Item::Record(match kind {
                OPEN => Record::Open(l),
                CLOSE => Record::Close(l),
                _ => Record::Owner(l),
            })
        }
        FORK | EXIT => {
            let header = get_header(b)?;
            let (parent, reserved) = (get_u64(b)? as u32, get_u64(b)? as u32);
            let (comm, _) = b.split_first_chunk::<16>().ok_or(Short)?;
            let p = Process {
                header,
                parent,
                reserved,
                comm: *comm,
            };
            Item::Record(if kind == FORK {
                Record::Fork(p)
            } else {
                Record::Exit(p)
            })
        }
        STATES => {
            let now_ns = get_u64(b)?;
            let count = get_u64(b)?;
            let mut states = Vec::new();
            for _ in 0..count {
                states.push(get_state(b, known)?);
            }
            Item::States(states, now_ns)
        }
        SCAN_DONE => Item::ScanDone(get_u64(b)?),
        PROCESS => Item::Process(
            get_u64(b)? as u32,
            ProcessFacts {
                comm: get_text(b)?,
                cgroup: get_text(b)?,
                cmdline: get_text(b)?,
            },
        ),
        EXITED => Item::Exited(get_u64(b)? as u32, get_u64(b)?),
        LOSS => {
            let mut l = Loss {
                seen: get_u64(b)?,
                sent: get_u64(b)?,
                merged: get_u64(b)?,
                dropped_ring: get_u64(b)?,
                dropped_map: get_u64(b)?,
                lost_closed: get_u64(b)?,
                recursion_misses: None,
            };
            let (known, misses) = (get_u64(b)?, get_u64(b)?);
            l.recursion_misses = (known != 0).then_some(misses);
            Item::Loss(l)
        }
        TRUESIZE => {
            let sum = TruesizeSum {
                count: get_u64(b)?,
                truesize: get_u64(b)?,
                payload: get_u64(b)?,
                max: get_u64(b)?,
            };
            let mut buckets = Vec::new();
            for _ in 0..get_u64(b)? {
                buckets.push(get_u64(b)?);
            }
            Item::Truesize(TruesizeCounts { buckets, sum })
        }
        LIMIT => Item::Record(Record::Limit(happened::get_limit(b)?)),
        PRESSURE => Item::Record(Record::Pressure(happened::get_pressure(b)?)),
        SYSCTL => Item::Record(Record::Sysctl(happened::get_sysctl(b)?)),
        HOST => Item::Host(happened::get_host(b)?),
        PRESSURE_COUNTS => Item::Pressure(happened::get_counts(b)?),
        _ => Item::Unknown,
    };
    Ok((t_ns, item))
}
