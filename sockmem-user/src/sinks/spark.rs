//! A timeline in a few characters.

use crate::model::Bucket;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// The span of time that a line of cells covers; `CLOCK_MONOTONIC` nanoseconds.
/// Lines with the same axis can be compared cell by cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Start of the first cell.
    pub from: u64,
    /// End of the last.
    pub to: u64,
}

impl Axis {
    /// The axis of a whole trace of `duration_ns` whose sum has this timeline.
    #[must_use]
    pub fn of(timeline: &[Bucket], duration_ns: u64) -> Axis {
        let from = timeline.first().map_or(0, |b| b.start_ns);
        Axis {
            from,
            to: from.saturating_add(duration_ns.max(1)),
        }
    }

    /// The cell that holds `t`, the first and last also what is outside.
    fn cell(self, t: u64, cells: usize) -> usize {
        let span = u128::from(self.to.saturating_sub(self.from).max(1));
        let at = u128::from(t.saturating_sub(self.from));
        // Below `cells`, so it fits.
        ((at * cells as u128 / span) as usize).min(cells - 1)
    }
}

/// One character a cell: the highest value in it, of eight levels up to the
/// highest in the line; the lowest level is nothing at all, and a cell before
/// the first bucket is a space. A cell without a bucket of its own shows what
/// the one before ended with, so that a peak is never drawn longer than it was.
/// From `end_ns` (a socket that is gone) on, spaces.
#[must_use]
pub fn line(timeline: &[Bucket], axis: Axis, end_ns: u64, cells: usize, ascii: bool) -> String {
    if cells == 0 {
        return String::new();
    }
    let mut values: Vec<Option<u64>> = vec![None; cells];
    for b in timeline {
        let value = &mut values[axis.cell(b.start_ns, cells)];
        *value = Some(value.map_or(b.max, |v| v.max(b.max)));
    }
    let mut buckets = timeline.iter().peekable();
    let mut held = None;
    let end = axis.cell(end_ns, cells);
    for (i, value) in values.iter_mut().enumerate() {
        if i > end {
            *value = None;
            continue;
        }
        // What is held at the start of a cell is in it, too.
        *value = (*value).max(held);
        while let Some(b) = buckets.next_if(|b| axis.cell(b.start_ns, cells) <= i) {
            held = Some(b.last);
        }
    }
    let top = values.iter().flatten().max().copied().unwrap_or(0).max(1);
    let levels = if ascii { ASCII } else { BLOCKS };
    values
        .into_iter()
        .map(|value| match value {
            None => ' ',
            Some(0) => levels[0],
            // 1 to 7: any byte at all is above the lowest level.
            Some(v) => levels[1 + (u128::from(v) * 6 / u128::from(top)) as usize],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(start_ns: u64, max: u64, last: u64) -> Bucket {
        Bucket {
            start_ns,
            min: 0,
            max,
            last,
        }
    }

    const AXIS: Axis = Axis { from: 100, to: 180 };

    #[test]
    fn a_peak_is_one_cell_and_what_stays_is_drawn_on() {
        let t = [bucket(110, 600, 100), bucket(150, 0, 0)];
        assert_eq!(line(&t, AXIS, 180, 8, false), " █▃▃▃▃▁▁");
        assert_eq!(line(&t, AXIS, 180, 8, true), " #::::__");
    }

    #[test]
    fn nothing_and_almost_nothing_differ() {
        let t = [
            bucket(100, 0, 0),
            bucket(120, 1, 0),
            bucket(140, 1_000_000, 0),
        ];
        let drawn: Vec<char> = line(&t, AXIS, 180, 4, false).chars().collect();
        assert_eq!(drawn, ['▁', '▂', '█', '▁']);
    }

    #[test]
    fn a_closed_socket_ends() {
        let t = [bucket(100, 8, 8)];
        assert_eq!(line(&t, AXIS, 125, 8, false), "███     ");
    }

    #[test]
    fn empty_timelines_and_axes_do_not_fail() {
        assert_eq!(line(&[], AXIS, 180, 3, false), "   ");
        assert_eq!(
            line(&[bucket(5, 1, 1)], Axis { from: 5, to: 5 }, 5, 2, false)
                .chars()
                .count(),
            2
        );
        assert_eq!(line(&[], AXIS, 0, 0, true), "");
        assert_eq!(Axis::of(&[], 0), Axis { from: 0, to: 1 });
    }
}
