//! A value over time in bounded memory: lowest, highest and last value of each
//! bucket, with buckets that double in width whenever they no longer fit.
//!
//! Only buckets in which something changed are stored, so a socket that is
//! quiet costs a few bytes, and an hour of quiet costs the same as a week.

use super::Bucket;

/// Width of a new timeline's buckets: 2^23 ns, about 8 ms.
const FIRST_SHIFT: u8 = 23;

/// How a level of bytes is stored: `u32` for one socket, `u64` for sums.
pub(super) trait Level: Copy + Ord {
    /// From bytes; what does not fit becomes the largest value.
    fn from_bytes(bytes: u64) -> Self;
    /// In bytes.
    fn bytes(self) -> u64;
}

impl Level for u32 {
    fn from_bytes(bytes: u64) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
    fn bytes(self) -> u64 {
        u64::from(self)
    }
}

impl Level for u64 {
    fn from_bytes(bytes: u64) -> u64 {
        bytes
    }
    fn bytes(self) -> u64 {
        self
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry<L> {
    /// Position in units of the bucket width from the origin.
    index: u32,
    min: L,
    max: L,
    last: L,
}

/// The levels of one socket, group or of everything.
#[derive(Clone, Debug)]
pub(super) struct Timeline<L> {
    origin_ns: u64,
    entries: Vec<Entry<L>>,
    capacity: u16,
    shift: u8,
}

impl<L: Level> Timeline<L> {
    /// A timeline from `origin_ns` on with at most `capacity` buckets (at least 2).
    pub(super) fn new(origin_ns: u64, capacity: u16) -> Self {
        Timeline {
            origin_ns,
            entries: Vec::new(),
            capacity: capacity.max(2),
            shift: FIRST_SHIFT,
        }
    }

    /// The level is `last` from `t_ns` on; since the call before it was between `low` and `high`.
    pub(super) fn record(&mut self, t_ns: u64, low: u64, high: u64, last: u64) {
        let index = self.place(t_ns);
        let (low, high, last) = (L::from_bytes(low), L::from_bytes(high), L::from_bytes(last));
        match self.entries.last_mut() {
            Some(e) if e.index == index => {
                e.min = e.min.min(low).min(last);
                e.max = e.max.max(high).max(last);
                e.last = last;
            }
            Some(e) if e.index > index => {
                self.widen_at(index, low.min(last), high.max(last));
            }
            before => {
                // Until t_ns the level before still held, also in this bucket.
                let held = before.map_or(last, |e| e.last);
                let entry = Entry {
                    index,
                    min: low.min(last).min(held),
                    max: high.max(last).max(held),
                    last,
                };
                self.entries.push(entry);
            }
        }
    }

    /// The level was between `low` and `high` at `t_ns`, before what is already recorded.
    pub(super) fn widen(&mut self, t_ns: u64, low: u64, high: u64) {
        let index = self.place(t_ns);
        self.widen_at(index, L::from_bytes(low), L::from_bytes(high));
    }

    fn widen_at(&mut self, index: u32, low: L, high: L) {
        let found = self.entries.binary_search_by_key(&index, |e| e.index);
        let at = match found {
            Ok(at) => at,
            Err(0) => {
                // Before the first: nothing is known of what came earlier.
                if self.entries.is_empty() {
                    return;
                }
                0
            }
            Err(at) => {
                let held = self.entries[at - 1].last;
                self.entries.insert(
                    at,
                    Entry {
                        index,
                        min: held,
                        max: held,
                        last: held,
                    },
                );
                at
            }
        };
        let e = &mut self.entries[at];
        e.min = e.min.min(low);
        e.max = e.max.max(high);
    }

    /// Index of the bucket that holds `t_ns`, after doubling the width until it fits.
    fn place(&mut self, t_ns: u64) -> u32 {
        let since = t_ns.saturating_sub(self.origin_ns);
        while since >> self.shift >= u64::from(self.capacity) {
            self.coarsen();
        }
        (since >> self.shift) as u32
    }

    fn coarsen(&mut self) {
        self.shift += 1;
        let mut kept = 0;
        for i in 0..self.entries.len() {
            let mut e = self.entries[i];
            e.index >>= 1;
            if kept > 0 && self.entries[kept - 1].index == e.index {
                let k = &mut self.entries[kept - 1];
                k.min = k.min.min(e.min);
                k.max = k.max.max(e.max);
                k.last = e.last;
            } else {
                self.entries[kept] = e;
                kept += 1;
            }
        }
        self.entries.truncate(kept);
    }

    /// Frees what a timeline that will not grow does not need: at most `capacity` buckets remain.
    pub(super) fn shrink(&mut self, capacity: u16) {
        self.capacity = capacity.max(2);
        while self
            .entries
            .last()
            .is_some_and(|e| e.index >= u32::from(self.capacity))
        {
            self.coarsen();
        }
        self.entries.shrink_to_fit();
    }

    /// Writes the buckets up to `until_ns` into `out`, each of the same width, without gaps.
    pub(super) fn fill(&self, until_ns: u64, out: &mut Vec<Bucket>) {
        out.clear();
        let Some(newest) = self.entries.last() else {
            return;
        };
        let since = until_ns.saturating_sub(self.origin_ns);
        let mut shift = self.shift;
        while since >> shift >= u64::from(self.capacity) {
            shift += 1;
        }
        let fold = shift - self.shift;
        let end = ((since >> shift) as u32).max(newest.index >> fold);
        let first = self.entries[0].index >> fold;
        let mut held = self.entries[0].min.bytes();
        let mut entries = self.entries.iter().peekable();
        for index in first..=end {
            let start_ns = self.origin_ns.saturating_add(u64::from(index) << shift);
            // The first entry says itself what it held; later ones carry it over.
            let mut bucket: Option<Bucket> = None;
            while let Some(e) = entries.next_if(|e| e.index >> fold == index) {
                let (min, max, last) = (e.min.bytes(), e.max.bytes(), e.last.bytes());
                bucket = Some(match bucket {
                    None => Bucket {
                        start_ns,
                        min,
                        max,
                        last,
                    },
                    Some(b) => Bucket {
                        start_ns,
                        min: b.min.min(min),
                        max: b.max.max(max),
                        last,
                    },
                });
            }
            let bucket = bucket.unwrap_or(Bucket {
                start_ns,
                min: held,
                max: held,
                last: held,
            });
            held = bucket.last;
            out.push(bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled<L: Level>(t: &Timeline<L>, until: u64) -> Vec<Bucket> {
        let mut out = Vec::new();
        t.fill(until, &mut out);
        out
    }

    #[test]
    fn a_level_is_carried_through_quiet_buckets() {
        let w = 1u64 << FIRST_SHIFT;
        let mut t = Timeline::<u32>::new(1000, 16);
        t.record(1000, 5, 5, 5);
        t.record(1000 + 3 * w, 9, 9, 9);
        let b = filled(&t, 1000 + 5 * w);
        let seen: Vec<_> = b.iter().map(|b| (b.min, b.max, b.last)).collect();
        assert_eq!(
            seen,
            [
                (5, 5, 5),
                (5, 5, 5),
                (5, 5, 5),
                (5, 9, 9),
                (9, 9, 9),
                (9, 9, 9)
            ]
        );
        assert_eq!(b[1].start_ns, 1000 + w);
    }

    #[test]
    fn a_late_reading_widens_its_own_bucket_and_no_other() {
        let w = 1u64 << FIRST_SHIFT;
        let mut t = Timeline::<u64>::new(0, 16);
        t.record(0, 1, 1, 1);
        t.record(4 * w, 2, 2, 2);
        t.widen(2 * w, 1, 70);
        let b = filled(&t, 4 * w);
        assert_eq!(
            b.iter().map(|b| b.max).collect::<Vec<_>>(),
            [1, 1, 70, 1, 2]
        );
        assert_eq!(b[4].last, 2);
    }

    #[test]
    fn a_week_takes_no_more_buckets_than_an_hour() {
        let mut t = Timeline::<u32>::new(0, 60);
        let minute = 60_000_000_000u64;
        for i in 0..7 * 24 * 60 {
            t.record(i * minute, i, i, i);
        }
        assert!(t.entries.len() <= 60 && t.entries.capacity() <= 128);
        let b = filled(&t, 7 * 24 * 60 * minute);
        assert!((30..=60).contains(&b.len()), "{}", b.len());
        assert_eq!(b[0].min, 0);
        assert_eq!(b.last().map(|b| b.last), Some(7 * 24 * 60 - 1));
        t.shrink(16);
        let b = filled(&t, 7 * 24 * 60 * minute);
        assert!((8..=16).contains(&b.len()));
        assert_eq!(b.iter().map(|b| b.max).max(), Some(7 * 24 * 60 - 1));
    }

    proptest! {
        #[test]
        fn extremes_survive_any_order(points in prop::collection::vec((0u64..1 << 45, 0u64..1 << 30), 1..200)) {
            let mut t = Timeline::<u64>::new(0, 24);
            let first = points[0].1;
            t.record(0, first, first, first);
            for &(at, v) in &points {
                t.record(at, v, v, v);
            }
            let b = filled(&t, 1 << 45);
            prop_assert!(b.len() <= 24);
            prop_assert_eq!(b.iter().map(|b| b.max).max(), points.iter().map(|p| p.1).max());
            prop_assert_eq!(b.iter().map(|b| b.min).min(), points.iter().map(|p| p.1).min());
            for pair in b.windows(2) {
                prop_assert!(pair[0].start_ns < pair[1].start_ns);
            }
            for x in &b {
                prop_assert!(x.min <= x.last && x.last <= x.max);
            }
        }
    }
}
