//! What the queues of the connections on screen held over time: one reading a picture, bounded.

use std::collections::HashMap;

use crate::model::SocketView;

/// Readings of one socket. When there are more, neighbours are merged.
const READINGS: usize = 96;
/// Sockets whose readings are kept.
const SOCKETS: usize = 64;

/// One reading, or several neighbours as one: highest usage, last limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// From the reading before; `CLOCK_MONOTONIC`.
    pub(super) from_ns: u64,
    /// When it was read.
    pub(super) to_ns: u64,
    pub(super) rmem_alloc: u32,
    pub(super) wmem_queued: u32,
    /// 0: not known.
    pub(super) rcvbuf: u32,
    pub(super) sndbuf: u32,
    /// Idle at each of them.
    pub(super) idle: bool,
}

fn narrow(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Reading {
    fn of(s: &SocketView, from_ns: u64) -> Reading {
        Reading {
            from_ns,
            to_ns: s.last_seen_ns,
            rmem_alloc: narrow(s.rmem_alloc),
            wmem_queued: narrow(s.wmem_queued),
            rcvbuf: narrow(s.rcvbuf.unwrap_or(0)),
            sndbuf: narrow(s.sndbuf.unwrap_or(0)),
            idle: s.idle,
        }
    }

    fn merge(self, next: Reading) -> Reading {
        Reading {
            from_ns: self.from_ns,
            to_ns: next.to_ns,
            rmem_alloc: self.rmem_alloc.max(next.rmem_alloc),
            wmem_queued: self.wmem_queued.max(next.wmem_queued),
            rcvbuf: next.rcvbuf,
            sndbuf: next.sndbuf,
            idle: self.idle && next.idle,
        }
    }
}

/// The readings of one socket, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    readings: Vec<Reading>,
    /// Readings that the next ones are merged into one of.
    each: u32,
    /// Readings in the last one.
    last: u32,
}

impl Series {
    pub(super) fn readings(&self) -> &[Reading] {
        &self.readings
    }

    fn push(&mut self, s: &SocketView) {
        let before = self.readings.last().map(|r| r.to_ns);
        if before.is_some_and(|t| t >= s.last_seen_ns) {
            return;
        }
        let reading = Reading::of(s, before.unwrap_or(s.last_seen_ns));
        let each = self.each.max(1);
        match self.readings.last_mut() {
            Some(last) if self.last < each => {
                *last = last.merge(reading);
                self.last += 1;
            }
            _ => {
                if self.readings.len() == READINGS {
                    self.halve();
                }
                self.readings.push(reading);
                self.last = 1;
            }
        }
    }

    /// Merges neighbours two by two.
    fn halve(&mut self) {
        self.readings = self
            .readings
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => a.merge(*b),
                other => other[0],
            })
            .collect();
        self.each = self.each.max(1) * 2;
    }
}

/// The readings of the sockets that were on screen.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    series: HashMap<u64, (u64, Series)>,
    round: u64,
}

impl Watched {
    /// Reads these sockets. Those not read for longest are forgotten where there are too many.
    pub(super) fn read<'a>(&mut self, sockets: impl Iterator<Item = &'a SocketView>) {
        self.round += 1;
        for s in sockets.take(SOCKETS) {
            let (round, series) = self.series.entry(s.id).or_default();
            *round = self.round;
            series.push(s);
        }
        while self.series.len() > SOCKETS {
            let oldest = self
                .series
                .iter()
                .min_by_key(|(id, (round, _))| (*round, **id));
            let Some(id) = oldest.map(|(id, _)| *id) else {
                return;
            };
            self.series.remove(&id);
        }
    }

    /// The readings of that socket.
    pub(super) fn of(&self, id: u64) -> &[Reading] {
        self.series.get(&id).map_or(&[], |(_, s)| s.readings())
    }

    /// Forgets everything: time went backwards (a replay was sought).
    pub(super) fn clear(&mut self) {
        self.series.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::fixture;

    fn at(t: u64, rmem: u64) -> SocketView {
        SocketView {
            last_seen_ns: t,
            rmem_alloc: rmem,
            idle: rmem == 0,
            ..fixture::socket(1)
        }
    }

    #[test]
    fn a_peak_survives_any_number_of_readings() {
        let mut s = Series::default();
        for t in 1..=10_000u64 {
            s.push(&at(t, if t == 777 { 5_000 } else { 1 }));
        }
        assert!(s.readings().len() <= READINGS);
        assert!(s.readings().len() >= READINGS / 2);
        let peaks: Vec<_> = s
            .readings()
            .iter()
            .filter(|r| r.rmem_alloc == 5_000)
            .collect();
        assert_eq!(peaks.len(), 1);
        assert!(peaks[0].from_ns < 777 && 777 <= peaks[0].to_ns);
        // Without a gap, to the end.
        for pair in s.readings().windows(2) {
            assert_eq!(pair[0].to_ns, pair[1].from_ns);
        }
        assert_eq!(s.readings().last().map(|r| r.to_ns), Some(10_000));
    }

    #[test]
    fn idle_is_only_what_was_idle_throughout() {
        let mut s = Series::default();
        for t in 1..=(READINGS as u64 + 1) {
            s.push(&at(t, u64::from(t == 2)));
        }
        assert!(!s.readings()[0].idle, "the second reading was not idle");
        assert!(s.readings()[1].idle);
    }

    #[test]
    fn the_same_moment_is_one_reading() {
        let mut s = Series::default();
        s.push(&at(5, 1));
        s.push(&at(5, 9));
        assert_eq!(s.readings().len(), 1);
    }

    #[test]
    fn only_so_many_sockets_are_watched_and_the_latest_stay() {
        let mut w = Watched::default();
        for id in 0..500u64 {
            let s = SocketView {
                id,
                ..at(id + 1, 1)
            };
            w.read(std::iter::once(&s));
        }
        assert_eq!(w.series.len(), SOCKETS);
        assert!(w.of(0).is_empty() && w.of(499).len() == 1);
    }
}
