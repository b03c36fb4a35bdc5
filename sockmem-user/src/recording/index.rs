//! The last frame of a recording that was closed: its totals, and where its keyframes are.

use bytes::BufMut;

use super::Counts;
use super::varint::{Short, get_u64, put_u64};
use crate::facts::Loss;

/// Keyframes that are listed; when there are more, every second one is left out.
const MOST: usize = 1 << 14;

/// A keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The latest time of the inputs before it.
    pub(super) t_ns: u64,
    /// Where its frame begins.
    pub(super) at: u64,
}

/// Where the keyframes are, by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) entries: Vec<Entry>,
}

impl Index {
    pub(super) fn push(&mut self, t_ns: u64, at: u64) {
        if self.entries.len() == MOST {
            let mut keep = false;
            self.entries.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.entries.push(Entry { t_ns, at });
    }

    /// The last one at or before `t_ns`.
    pub(super) fn before(&self, t_ns: u64) -> Option<Entry> {
        let after = self.entries.partition_point(|e| e.t_ns <= t_ns);
        after.checked_sub(1).map(|at| self.entries[at])
    }
}

/// What the last frame says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Until when the recording tells.
    pub(super) end_mono_ns: u64,
    pub(super) counts: Counts,
    /// The kernel programs' own totals.
    pub(super) loss: Loss,
    pub(super) index: Index,
}

impl End {
    pub(super) fn put(&self, out: &mut impl BufMut) {
        let (c, l) = (&self.counts, &self.loss);
        for v in [
            self.end_mono_ns,
            c.events,
            c.inputs,
            c.bytes,
            c.sockets,
            l.seen,
            l.sent,
            l.merged,
            l.dropped_ring,
            l.dropped_map,
            l.lost_closed,
            l.recursion_misses.is_some().into(),
            l.recursion_misses.unwrap_or(0),
            self.index.entries.len() as u64,
        ] {
            put_u64(out, v);
        }
        let mut before = Entry { t_ns: 0, at: 0 };
        for e in &self.index.entries {
            put_u64(out, e.t_ns.saturating_sub(before.t_ns));
            put_u64(out, e.at.saturating_sub(before.at));
            before = *e;
        }
    }

    pub(super) fn get(mut from: &[u8]) -> Result<End, Short> {
        let b = &mut from;
        let end_mono_ns = get_u64(b)?;
        let counts = Counts {
            events: get_u64(b)?,
            inputs: get_u64(b)?,
            bytes: get_u64(b)?,
            sockets: get_u64(b)?,
        };
        let mut loss = Loss {
            seen: get_u64(b)?,
            sent: get_u64(b)?,
            merged: get_u64(b)?,
            dropped_ring: get_u64(b)?,
            dropped_map: get_u64(b)?,
            lost_closed: get_u64(b)?,
            recursion_misses: None,
        };
        let (known, misses) = (get_u64(b)? != 0, get_u64(b)?);
        loss.recursion_misses = known.then_some(misses);
        let count = get_u64(b)?;
        let mut index = Index::default();
        let (mut t_ns, mut at) = (0u64, 0u64);
        // Two bytes at least are behind each, so that what is kept is bounded by what came.
        for _ in 0..count {
            t_ns = t_ns.checked_add(get_u64(b)?).ok_or(Short)?;
            at = at.checked_add(get_u64(b)?).ok_or(Short)?;
            index.entries.push(Entry { t_ns, at });
        }
        Ok(End {
            end_mono_ns,
            counts,
            loss,
            index,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_comes_back_and_finds_keyframes() {
        let mut end = End {
            end_mono_ns: 77,
            loss: Loss {
                seen: 5,
                recursion_misses: Some(0),
                ..Loss::default()
            },
            ..End::default()
        };
        for t in 1..100 {
            end.index.push(t * 10, t * 1000);
        }
        let mut out = Vec::new();
        end.put(&mut out);
        assert_eq!(End::get(&out), Ok(end.clone()));
        for cut in 0..out.len() {
            assert_eq!(End::get(&out[..cut]), Err(Short));
        }
        let at = |t| end.index.before(t).map(|e| e.at);
        assert_eq!(
            [at(9), at(10), at(19), at(5000)],
            [None, Some(1000), Some(1000), Some(99_000)]
        );
    }

    #[test]
    fn the_index_does_not_grow_for_ever() {
        let mut index = Index::default();
        for t in 0..100_000 {
            index.push(t, t);
        }
        assert!(index.entries.len() <= MOST);
        assert_eq!(index.entries.first(), Some(&Entry { t_ns: 0, at: 0 }));
        assert!(index.entries.is_sorted_by_key(|e| e.t_ns));
    }
}
