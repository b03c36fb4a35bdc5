//! What is kept of a socket that holds memory, held some, or has payload under way. A quiet
//! socket that never did has none of it.

use sockmem_common::{Counters, Integral, REASONS, SEQ_OFO, Seqs, SockState, split};

use super::drain::Queues;
use super::timeline::Timeline;

/// Counters, totals, peaks and integrals; the fields of `SockState` of the same names.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) rmem_alloc: u32,
    pub(super) wmem_queued: u32,
    pub(super) forward_alloc: i32,
    wmem_alloc: u32,
    optmem: u32,
    backlog: u32,
    /// The distances of `Seqs`: where data lies nobody asks.
    pub(super) unread: u32,
    pub(super) unacked: u32,
    pub(super) in_flight: u32,
    pub(super) rmem_peak: u32,
    pub(super) wmem_queued_peak: u32,
    pub(super) queues: Queues,
    pub(super) resident_peak: u64,
    baseline: u64,
    charged: u64,
    resident_time: Integral,
    pub(super) timeline: Timeline<u32>,
    idle_resident_max: u64,
    /// `None`: all zero.
    idle_time: Option<Box<[Integral; REASONS]>>,
    /// Change of `resident` per second between the last two scans, and what the last one saw.
    pub(super) rate: i64,
    pub(super) rate_resident: u64,
}

/// A distance between sequence numbers: `Seqs` takes one that is not below 2^31 for negative.
pub(super) fn distance(bytes: u32) -> u32 {
    if bytes > i32::MAX as u32 { 0 } else { bytes }
}

impl Held {
    /// That of a socket of which nothing was to tell since `first_ns`.
    pub(super) fn nothing(first_ns: u64, buckets: u16) -> Held {
        Held {
            rmem_alloc: 0,
            wmem_queued: 0,
            forward_alloc: 0,
            wmem_alloc: 0,
            optmem: 0,
            backlog: 0,
            unread: 0,
            unacked: 0,
            in_flight: 0,
            rmem_peak: 0,
            wmem_queued_peak: 0,
            queues: Queues::default(),
            resident_peak: 0,
            baseline: 0,
            charged: 0,
            resident_time: Integral::default(),
            timeline: Timeline::new(first_ns, buckets, 0),
            idle_resident_max: 0,
            idle_time: None,
            rate: 0,
            rate_resident: 0,
        }
    }

    /// Whether `s` says anything that is kept here.
    pub(super) fn tells(s: &SockState) -> bool {
        let (c, q) = (&s.counters, &s.seqs);
        (c.rmem_alloc | c.wmem_queued | c.wmem_alloc | c.optmem | c.backlog) != 0
            || c.forward_alloc != 0
            || (q.unread() | q.unacked() | q.in_flight()) != 0
            || (s.rmem_peak | s.wmem_queued_peak) != 0
            || (s.resident_peak | s.baseline | s.charged | s.idle_resident_max) != 0
            || s.resident_time != Integral::default()
            || s.idle_time != [Integral::default(); REASONS]
    }

    /// Takes over what `s` says.
    pub(super) fn store(&mut self, s: &SockState) {
        self.reading(&s.counters);
        self.unread = s.seqs.unread();
        self.unacked = s.seqs.unacked();
        self.in_flight = s.seqs.in_flight();
        self.rmem_peak = s.rmem_peak;
        self.wmem_queued_peak = s.wmem_queued_peak;
        self.resident_peak = s.resident_peak;
        self.baseline = s.baseline;
        self.charged = s.charged;
        self.resident_time = s.resident_time;
        self.idle_resident_max = s.idle_resident_max;
        if s.idle_time == [Integral::default(); REASONS] {
            self.idle_time = None;
        } else {
            **self.idle_time.get_or_insert_default() = s.idle_time;
        }
    }

    /// Writes it into `s`, limits and `Seqs::flags` of which are there already.
    pub(super) fn load(&self, s: &mut SockState) {
        s.counters = self.counters(s.counters.rcvbuf, s.counters.sndbuf);
        s.seqs = self.seqs(s.seqs.flags);
        s.rmem_peak = self.rmem_peak;
        s.wmem_queued_peak = self.wmem_queued_peak;
        s.resident_peak = self.resident_peak;
        s.baseline = self.baseline;
        s.charged = self.charged;
        s.resident_time = self.resident_time;
        s.idle_resident_max = self.idle_resident_max;
        if let Some(times) = self.idle_time.as_deref() {
            s.idle_time = *times;
        }
    }

    fn counters(&self, rcvbuf: u32, sndbuf: u32) -> Counters {
        Counters {
            rmem_alloc: self.rmem_alloc,
            wmem_queued: self.wmem_queued,
            forward_alloc: self.forward_alloc,
            wmem_alloc: self.wmem_alloc,
            optmem: self.optmem,
            backlog: self.backlog,
            rcvbuf,
            sndbuf,
        }
    }

    /// Sequence numbers with these distances.
    fn seqs(&self, flags: u32) -> Seqs {
        Seqs {
            rcv_nxt: self.unread,
            copied_seq: 0,
            write_seq: self.unacked,
            snd_una: 0,
            snd_nxt: self.in_flight,
            flags,
        }
    }

    fn reading(&mut self, c: &Counters) {
        self.rmem_alloc = c.rmem_alloc;
        self.wmem_queued = c.wmem_queued;
        self.forward_alloc = c.forward_alloc;
        self.wmem_alloc = c.wmem_alloc;
        self.optmem = c.optmem;
        self.backlog = c.backlog;
    }

    /// `Counters::resident` of the last reading.
    pub(super) fn resident(&self) -> u64 {
        let sum = i64::from(self.rmem_alloc)
            + i64::from(self.wmem_queued)
            + i64::from(self.forward_alloc);
        u64::try_from(sum).unwrap_or(0)
    }

    /// The last reading held for `ns` more, the last `idle_ns` of them idle. As
    /// `SockState::advance`.
    pub(super) fn advance(&mut self, ns: u64, idle_ns: u64, flags: u32) {
        let resident = self.resident();
        if resident == 0 {
            return;
        }
        self.resident_time.add(resident, ns);
        if idle_ns == 0 {
            return;
        }
        let parts = split(&self.counters(0, 0), &self.seqs(flags));
        let times = self.idle_time.get_or_insert_default();
        for (time, part) in times.iter_mut().zip(parts) {
            time.add(part, idle_ns);
        }
        self.idle_resident_max = self.idle_resident_max.max(resident);
    }

    /// Takes a new reading. As `SockState::take`.
    pub(super) fn take(&mut self, c: &Counters) {
        let (before, after) = (self.resident(), c.resident());
        self.charged += after.saturating_sub(before);
        if self.baseline + self.charged < after {
            self.charged = after - self.baseline;
        }
        self.reading(c);
    }

    /// Raises the peaks.
    pub(super) fn reached(&mut self, resident: u64, rmem_alloc: u32, wmem_queued: u32) {
        self.resident_peak = self.resident_peak.max(resident);
        self.rmem_peak = self.rmem_peak.max(rmem_alloc);
        self.wmem_queued_peak = self.wmem_queued_peak.max(wmem_queued);
    }
}

/// The flags of `Seqs` that are kept: those it has.
pub(super) fn flags(seqs: &Seqs) -> u8 {
    (seqs.flags & (SEQ_OFO | sockmem_common::SEQ_VALID)) as u8
}
