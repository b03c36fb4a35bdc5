//! A value over time in bounded memory: lowest, highest and last value of each
//! bucket, with buckets that double in width whenever they no longer fit.
//!
//! Only buckets in which something changed are stored, so a socket that is
//! quiet costs a few bytes, and an hour of quiet costs the same as a week.

use super::Bucket;

/// How a level of bytes is stored: `u32` for one socket, `u64` for sums.
pub(super) trait Level: Copy + Ord {
    /// Width of a new timeline's buckets: 2 to the power of this, in ns.
    const FIRST_SHIFT: u8;
    /// From bytes; what does not fit becomes the largest value.
    fn from_bytes(bytes: u64) -> Self;
    /// In bytes.
    fn bytes(self) -> u64;
}

impl Level for u32 {
    /// About 67 ms: finer than any picture of a socket, and a new bucket is no frequent thing.
    const FIRST_SHIFT: u8 = 26;
    fn from_bytes(bytes: u64) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
    fn bytes(self) -> u64 {
        u64::from(self)
    }
}

impl Level for u64 {
    /// About 8 ms.
    const FIRST_SHIFT: u8 = 23;
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

impl<L: Level> Entry<L> {
    fn widen(&mut self, low: L, high: L) {
        self.min = self.min.min(low);
        self.max = self.max.max(high);
    }
}

/// The levels of one socket, group or of everything.
#[derive(Clone, Debug)]
pub(super) struct Timeline<L> {
    origin_ns: u64,
    /// The bucket that most changes fall into: at hand, without a look at the others.
    newest: Entry<L>,
    older: Vec<Entry<L>>,
    capacity: u16,
    shift: u8,
}

impl<L: Level> Timeline<L> {
    /// A timeline of a level that is `level` at `origin_ns`, with at most `capacity` buckets
    /// (at least 2).
    pub(super) fn new(origin_ns: u64, capacity: u16, level: u64) -> Self {
        let level = L::from_bytes(level);
        Timeline {
            origin_ns,
            newest: Entry {
                index: 0,
                min: level,
                max: level,
                last: level,
            },
            older: Vec::new(),
            capacity: capacity.max(2),
            shift: L::FIRST_SHIFT,
        }
    }

    /// The level is `last` from `t_ns` on; since the call before it was between `low` and `high`.
    pub(super) fn record(&mut self, t_ns: u64, low: u64, high: u64, last: u64) {
        let index = self.place(t_ns);
        let (low, high, last) = (L::from_bytes(low), L::from_bytes(high), L::from_bytes(last));
        let (low, high) = (low.min(last), high.max(last));
        let newest = &mut self.newest;
        if index == newest.index {
            newest.widen(low, high);
            newest.last = last;
        } else if index < newest.index {
            self.widen_at(index, low, high);
        } else if low != high || last != newest.last {
            // Until t_ns the level before still held, also in this bucket.
            let held = newest.last;
            self.older.push(*newest);
            *newest = Entry {
                index,
                min: low.min(held),
                max: high.max(held),
                last,
            };
        }
    }

    /// The level was between `low` and `high` at `t_ns`, before what is already recorded.
    pub(super) fn widen(&mut self, t_ns: u64, low: u64, high: u64) {
        let index = self.place(t_ns);
        self.widen_at(index, L::from_bytes(low), L::from_bytes(high));
    }

    fn widen_at(&mut self, index: u32, low: L, high: L) {
        if index >= self.newest.index || self.older.is_empty() {
            self.newest.widen(low, high);
            return;
        }
        let at = match self.older.binary_search_by_key(&index, |e| e.index) {
            Ok(at) => at,
            // Before the first: nothing is known of what came earlier.
            Err(0) => 0,
            Err(at) => {
                let held = self.older[at - 1].last;
                let quiet = Entry {
                    index,
                    min: held,
                    max: held,
                    last: held,
                };
                self.older.insert(at, quiet);
                at
            }
        };
        self.older[at].widen(low, high);
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
        self.older.dedup_by(|e, kept| {
            let same = e.index >> 1 == kept.index >> 1;
            if same {
                kept.widen(e.min, e.max);
                kept.last = e.last;
            }
            same
        });
        for e in &mut self.older {
            e.index >>= 1;
        }
        self.newest.index >>= 1;
        if let Some(e) = self.older.pop_if(|e| e.index == self.newest.index) {
            self.newest.widen(e.min, e.max);
        }
    }

    /// Frees what a timeline that will not grow does not need: at most `capacity` buckets remain.
    pub(super) fn shrink(&mut self, capacity: u16) {
        self.capacity = capacity.max(2);
        while self.newest.index >= u32::from(self.capacity) {
            self.coarsen();
        }
        self.older.shrink_to_fit();
    }

    /// Writes the buckets up to `until_ns` into `out`, each of the same width, without gaps.
    pub(super) fn fill(&self, until_ns: u64, out: &mut Vec<Bucket>) {
        out.clear();
        let since = until_ns.saturating_sub(self.origin_ns);
        let mut shift = self.shift;
        while since >> shift >= u64::from(self.capacity) {
            shift += 1;
        }
        let fold = shift - self.shift;
        let end = ((since >> shift) as u32).max(self.newest.index >> fold);
        let oldest = self.older.first().unwrap_or(&self.newest);
        let first = oldest.index >> fold;
        let mut held = oldest.min.bytes();
        let mut entries = self.older.iter().chain([&self.newest]).peekable();
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
        let w = 1u64 << u32::FIRST_SHIFT;
        let mut t = Timeline::<u32>::new(1000, 16, 5);
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
        let w = 1u64 << u64::FIRST_SHIFT;
        let mut t = Timeline::<u64>::new(0, 16, 1);
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
        let mut t = Timeline::<u32>::new(0, 60, 0);
        let minute = 60_000_000_000u64;
        for i in 0..7 * 24 * 60 {
            t.record(i * minute, i, i, i);
        }
        assert!(t.older.len() < 60 && t.older.capacity() <= 128);
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
            let mut t = Timeline::<u64>::new(0, 24, points[0].1);
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
