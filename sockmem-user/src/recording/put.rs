//! Inputs into a frame.

use std::collections::HashMap;

use bytes::{BufMut, BytesMut};
use sockmem_common::{
    Change, KIND_CLOSE, KIND_EXIT, KIND_FORK, KIND_OPEN, KIND_OWNER, Lifecycle, STATE_CLOSED,
    SockState,
};

use super::batch::{Batch, FLAGS, MASKS, SOCKETS, TIMES_HIGH, TIMES_LOW, VALUES};
use super::happened;
use super::kinds::*;
use super::table::{self, FIELDS, FORWARD_ALLOC, GUESSED, STRANGER, Table};
use super::varint::{put_bytes, put_u64, zigzag};
use super::words::{put_difference, words};
use crate::decode::Record;
use crate::model::{Input, TruesizeCounts};

/// States in one row.
pub(super) const STATES_A_ROW: usize = 1024;
/// A string is cut here.
const LONGEST: usize = 1 << 16;

/// Flag of a change: a mask follows.
pub(super) const FLAG_MASK: u8 = 1;
/// Flag of a change: it is older than the input before it.
pub(super) const FLAG_EARLIER: u8 = 2;
/// In the column of sockets: the likely one, one that is not remembered, a new one; else its slot
/// and this.
pub(super) const SOCKET_LIKELY: u64 = 0;
pub(super) const SOCKET_STRANGER: u64 = 1;
pub(super) const SOCKET_NEW: u64 = 2;
pub(super) const SOCKET_SLOT: u64 = 3;
/// In a row of states: the next one of the last scan, but changed. Even numbers are runs of
/// such as have not changed.
pub(super) const STATE_NEXT: u64 = 1;
/// In a row of states: one that is named.
pub(super) const STATE_NAMED: u64 = 3;

/// The writing side's table, with a way from ids to slots.
pub(super) struct Putter {
    pub(super) table: Table,
    slots: HashMap<u64, u32, std::hash::BuildHasherDefault<IdHasher>>,
    /// Different sockets so far.
    pub(super) sockets: u64,
}

/// Ids are the kernel programs' own: nobody chooses them to collide.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(5) ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// How a socket is named: its slot, and whether it is new there.
#[derive(Clone, Copy)]
struct Named {
    slot: u32,
    new: bool,
}

impl Putter {
    pub(super) fn new() -> Self {
        Putter {
            table: Table::new(),
            slots: HashMap::default(),
            sockets: 0,
        }
    }

    /// Begins anew with an empty table, as a keyframe does.
    pub(super) fn reset(&mut self) {
        self.table = Table::new();
        self.slots.clear();
    }

    #[inline]
    fn name(&mut self, id: u64) -> Named {
        if let Some(slot) = self.slots.get(&id) {
            return Named {
                slot: *slot,
                new: false,
            };
        }
        let slot = self.table.take_in(id);
        if slot != STRANGER {
            self.slots.insert(id, slot);
        }
        Named { slot, new: true }
    }

    fn forget(&mut self, id: u64, slot: u32) {
        self.slots.remove(&id);
        self.table.remove(slot);
    }

    /// Writes one input that came at `t_ns` (a record: at its own time).
    #[inline]
    pub(super) fn put(&mut self, out: &mut Batch, t_ns: u64, input: Input<'_>) {
        match input {
            Input::Record(Record::Change(c)) => self.change(out, c),
            other => self.rare(out, t_ns, other),
        }
    }

    fn change(&mut self, out: &mut Batch, c: &Change) {
        let (t_ns, id) = (c.header.t_ns, c.header.id);
        let likely = self.table.likely();
        let as_likely = self
            .table
            .slot(likely)
            .is_some_and(|s| s.id == id && likely != STRANGER);
        let slot = if as_likely {
            put_u64(out.column(SOCKETS), SOCKET_LIKELY);
            likely
        } else {
            let named = self.name(id);
            let column = out.column(SOCKETS);
            if named.new {
                self.sockets += 1;
                put_u64(
                    column,
                    if named.slot == STRANGER {
                        SOCKET_STRANGER
                    } else {
                        SOCKET_NEW
                    },
                );
                put_u64(column, id);
            } else {
                put_u64(column, u64::from(named.slot) + SOCKET_SLOT);
            }
            named.slot
        };
        let fields = table::fields(c);
        let mut guess = self.table.guess(slot);
        let mut mask = 0u32;
        for at in 0..GUESSED {
            if at == FORWARD_ALLOC {
                let mut known = fields;
                self.table.settle_forward_alloc(slot, &mut known);
                guess[at] = known[at];
            }
            mask |= u32::from(guess[at] != fields[at]) << at;
        }
        let mut settled = fields;
        self.table.settle(slot, &mut settled);
        for at in GUESSED..FIELDS {
            guess[at] = settled[at];
            mask |= u32::from(guess[at] != fields[at]) << at;
        }
        let mut flags = 0;
        if mask != 0 {
            flags |= FLAG_MASK;
            put_u64(out.column(MASKS), mask.into());
            let mut left = mask;
            while left != 0 {
                let at = left.trailing_zeros() as usize;
                left &= left - 1;
                let difference = fields[at].wrapping_sub(guess[at]) as i32;
                put_u64(
                    out.column(VALUES + at),
                    zigzag(i64::from(difference) as u64),
                );
            }
        }
        let before = self.table.t_ns;
        let since = if t_ns >= before {
            t_ns - before
        } else {
            flags |= FLAG_EARLIER;
            before - t_ns
        };
        out.column(FLAGS).put_u8(flags);
        out.column(TIMES_LOW).put_u8(since as u8);
        put_u64(out.column(TIMES_HIGH), since >> 8);
        out.kind(CHANGE);
        out.change();
        self.table.changed(slot, t_ns, &fields);
    }

    fn rare(&mut self, out: &mut Batch, t_ns: u64, input: Input<'_>) {
        if let Input::States { states, now_ns } = input {
            if states.is_empty() {
                self.states(out, t_ns, &[], now_ns);
            }
            for part in states.chunks(STATES_A_ROW) {
                self.states(out, t_ns, part, now_ns);
            }
            return;
        }
        let t_ns = match input {
            Input::Record(record) => record.header().t_ns,
            _ => t_ns,
        };
        let mut row = self.begin(out, t_ns);
        let b = &mut row;
        let kind = match input {
            Input::Record(Record::Change(_)) | Input::States { .. } => return,
            Input::Record(Record::Open(l)) => self.lifecycle(b, l, KIND_OPEN, OPEN),
            Input::Record(Record::Close(l)) => self.lifecycle(b, l, KIND_CLOSE, CLOSE),
            Input::Record(Record::Owner(l)) => self.lifecycle(b, l, KIND_OWNER, OWNER),
            Input::Record(record @ (Record::Fork(p) | Record::Exit(p))) => {
                let (expected, kind) = match record {
                    Record::Fork(_) => (KIND_FORK, FORK),
                    _ => (KIND_EXIT, EXIT),
                };
                put_u64(b, p.header.id);
                put_header(b, &p.header, expected);
                put_u64(b, p.parent.into());
                put_u64(b, p.reserved.into());
                b.put_slice(&p.comm);
                kind
            }
            Input::Record(Record::Limit(l)) => {
                happened::put_limit(b, l);
                LIMIT
            }
            Input::Record(Record::Pressure(p)) => {
                happened::put_pressure(b, p);
                PRESSURE
            }
            Input::Record(Record::Sysctl(w)) => {
                happened::put_sysctl(b, w);
                SYSCTL
            }
            Input::Host(sample) => {
                happened::put_host(b, sample);
                HOST
            }
            Input::Pressure(counts) => {
                happened::put_counts(b, counts);
                PRESSURE_COUNTS
            }
            Input::ScanDone { began_ns } => {
                put_u64(b, zigzag(began_ns.wrapping_sub(t_ns)));
                let slots = &mut self.slots;
                self.table.scan_done(|id| {
                    slots.remove(&id);
                });
                SCAN_DONE
            }
            Input::Process { pid, facts } => {
                put_u64(b, pid.into());
                for text in [&facts.comm, &facts.cgroup, &facts.cmdline] {
                    self.text(b, text.as_deref());
                }
                PROCESS
            }
            Input::Exited { pid, t_ns: at_ns } => {
                put_u64(b, pid.into());
                put_u64(b, zigzag(at_ns.wrapping_sub(t_ns)));
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
                ] {
                    put_u64(b, v);
                }
                put_u64(b, l.recursion_misses.is_some().into());
                put_u64(b, l.recursion_misses.unwrap_or(0));
                LOSS
            }
            Input::Truesize(counts) => {
                put_truesize(b, counts);
                TRUESIZE
            }
        };
        out.end_row(kind, row);
    }

    /// A row that begins with the time since the input before.
    fn begin(&mut self, out: &mut Batch, t_ns: u64) -> BytesMut {
        let mut row = out.begin_row();
        put_u64(&mut row, zigzag(t_ns.wrapping_sub(self.table.t_ns)));
        self.table.t_ns = t_ns;
        row
    }

    fn named(&mut self, b: &mut BytesMut, id: u64) -> u32 {
        let named = self.name(id);
        if named.new {
            self.sockets += 1;
            put_u64(
                b,
                if named.slot == STRANGER {
                    SOCKET_STRANGER
                } else {
                    SOCKET_NEW
                },
            );
            put_u64(b, id);
        } else {
            put_u64(b, u64::from(named.slot) + SOCKET_SLOT);
        }
        named.slot
    }

    fn lifecycle(&mut self, b: &mut BytesMut, l: &Lifecycle, expected: u8, kind: u8) -> u8 {
        let slot = self.named(b, l.header.id);
        put_header(b, &l.header, expected);
        put_difference(b, &words(&self.table.base(slot)), &words(&l.state));
        self.table.stated(slot, &l.state);
        if kind == CLOSE {
            self.forget(l.header.id, slot);
        }
        kind
    }

    fn states(&mut self, out: &mut Batch, t_ns: u64, states: &[SockState], now_ns: u64) {
        let mut row = self.begin(out, t_ns);
        let b = &mut row;
        put_u64(b, zigzag(now_ns.wrapping_sub(t_ns)));
        put_u64(b, states.len() as u64);
        let mut run = 0u64;
        for state in states {
            let next = self.table.next_in_scan();
            let next = next.filter(|slot| self.table.slot(*slot).is_some_and(|s| s.id == state.id));
            if let Some(slot) = next
                && state.flags & STATE_CLOSED == 0
                && self.table.slot(slot).is_some_and(|s| s.state == *state)
            {
                run += 1;
                self.table.stated(slot, state);
                self.table.scanned(slot);
                continue;
            }
            if run > 0 {
                put_u64(b, run << 1);
                run = 0;
            }
            let slot = if let Some(slot) = next {
                put_u64(b, STATE_NEXT);
                slot
            } else {
                put_u64(b, STATE_NAMED);
                self.named(b, state.id)
            };
            put_difference(b, &words(&self.table.base(slot)), &words(state));
            self.table.stated(slot, state);
            self.table.scanned(slot);
            if state.flags & STATE_CLOSED != 0 {
                self.forget(state.id, slot);
            }
        }
        if run > 0 {
            put_u64(b, run << 1);
        }
        out.end_row(STATES, row);
    }

    /// 0: none; 1: a new string; else its number and 2.
    fn text(&mut self, b: &mut BytesMut, text: Option<&str>) {
        let Some(text) = text else {
            return put_u64(b, 0);
        };
        let mut end = text.len().min(LONGEST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        match self.table.number(text) {
            Some(number) => put_u64(b, number as u64 + 2),
            None => {
                put_u64(b, 1);
                put_bytes(b, text.as_bytes());
                self.table.remember(text);
            }
        }
    }
}

/// What of a header is not told otherwise: hook, CPU, and, rarely, what is odd about it.
fn put_header(b: &mut BytesMut, h: &sockmem_common::Header, expected: u8) {
    b.put_u8(h.hook);
    put_u64(b, h.cpu.into());
    put_u64(
        b,
        u64::from(h.kind ^ expected) << 16 | u64::from(h.reserved),
    );
}

fn put_truesize(b: &mut BytesMut, counts: &TruesizeCounts) {
    let TruesizeCounts { buckets, sum } = counts;
    for v in [
        sum.count,
        sum.truesize,
        sum.payload,
        sum.max,
        buckets.len() as u64,
    ] {
        put_u64(b, v);
    }
    for n in buckets {
        put_u64(b, *n);
    }
}
