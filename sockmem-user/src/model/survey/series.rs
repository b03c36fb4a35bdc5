//! A level over time as means and highs of equal bins, in bounded memory.
//!
//! A timeline keeps the extremes of each bucket, for drawing; a comparison needs what was held
//! on average, and over bins of one width. The width doubles whenever the bins no longer fit.

use super::Bin;

/// Width of the first bins: 2^20 ns, about 1 ms.
const FIRST_SHIFT: u8 = 20;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// byte·ns.
    area: f64,
    high: u64,
}

/// A step function, summed up bin by bin.
#[derive(Clone, Debug)]
pub(in crate::model) struct Series {
    origin_ns: u64,
    shift: u8,
    capacity: usize,
    cells: Vec<Cell>,
    level: u64,
    last_ns: u64,
}

impl Series {
    /// Nothing held from `origin_ns` on; at most `capacity` bins (at least 2).
    pub(in crate::model) fn new(origin_ns: u64, capacity: usize) -> Series {
        Series {
            origin_ns,
            shift: FIRST_SHIFT,
            capacity: capacity.max(2),
            cells: Vec::new(),
            level: 0,
            last_ns: origin_ns,
        }
    }

    /// From `t_ns` on it is `level`; at `t_ns` it was as high as `high`. Times do not go back.
    pub(in crate::model) fn step(&mut self, t_ns: u64, high: u64, level: u64) {
        self.pass(t_ns);
        let at = self.place(self.last_ns);
        let cell = &mut self.cells[at];
        cell.high = cell.high.max(high).max(level);
        self.level = level;
    }

    /// The level held up to `t_ns`.
    fn pass(&mut self, t_ns: u64) {
        if t_ns <= self.last_ns {
            return;
        }
        let last = self.place(t_ns);
        // Only now, for the line before may have made the bins wider.
        let mut from_ns = self.last_ns;
        let first = ((from_ns - self.origin_ns) >> self.shift) as usize;
        for at in first..=last {
            let end_ns = (self.origin_ns + ((at as u64 + 1) << self.shift)).min(t_ns);
            let cell = &mut self.cells[at];
            cell.area += self.level as f64 * (end_ns - from_ns) as f64;
            if end_ns > from_ns {
                cell.high = cell.high.max(self.level);
            }
            from_ns = end_ns;
        }
        self.last_ns = t_ns;
    }

    fn place(&mut self, t_ns: u64) -> usize {
        let since = t_ns.saturating_sub(self.origin_ns);
        while since >> self.shift >= self.capacity as u64 {
            self.coarsen();
        }
        let at = (since >> self.shift) as usize;
        if self.cells.len() <= at {
            self.cells.resize(at + 1, Cell::default());
        }
        at
    }

    fn coarsen(&mut self) {
        self.shift += 1;
        let half = self.cells.len().div_ceil(2);
        for at in 0..half {
            let mut cell = self.cells[2 * at];
            if let Some(other) = self.cells.get(2 * at + 1) {
                cell.area += other.area;
                cell.high = cell.high.max(other.high);
            }
            self.cells[at] = cell;
        }
        self.cells.truncate(half);
    }

    /// Adds what another one of the same origin and capacity held so far, and no more holds.
    pub(in crate::model) fn take_over(&mut self, gone: &Series) {
        let mut gone = gone.clone();
        let until = self.last_ns.max(gone.last_ns);
        self.pass(until);
        gone.pass(until);
        while self.shift < gone.shift {
            self.coarsen();
        }
        while gone.shift < self.shift {
            gone.coarsen();
        }
        if self.cells.len() < gone.cells.len() {
            self.cells.resize(gone.cells.len(), Cell::default());
        }
        for (cell, other) in self.cells.iter_mut().zip(&gone.cells) {
            cell.area += other.area;
            // The two highs need not have come at once; the sum of both bounds it from above.
            cell.high = cell.high.max(other.high);
        }
    }

    /// The bins up to `until_ns` and their width. The last one may be incomplete: its mean is
    /// over the part that was seen.
    pub(in crate::model) fn bins(&self, until_ns: u64) -> (Vec<Bin>, u64) {
        let mut whole = self.clone();
        let until_ns = until_ns.max(self.last_ns);
        whole.pass(until_ns);
        let width = 1u64 << whole.shift;
        let bins = whole.cells.iter().enumerate().filter_map(|(at, cell)| {
            let from_ns = whole.origin_ns + ((at as u64) << whole.shift);
            let seen = until_ns.saturating_sub(from_ns).min(width);
            (seen > 0).then(|| Bin {
                mean: cell.area / seen as f64,
                high: cell.high,
            })
        });
        (bins.collect(), width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W: u64 = 1 << FIRST_SHIFT;

    #[test]
    fn a_mean_is_over_time_and_a_high_is_not_lost() {
        let mut s = Series::new(1000, 16);
        s.step(1000 + W / 4, 100, 100);
        s.step(1000 + W / 2, 900, 0);
        s.step(1000 + 2 * W, 8, 8);
        let (bins, width) = s.bins(1000 + 2 * W + W / 2);
        assert_eq!(width, W);
        assert_eq!(bins.len(), 3);
        assert!((bins[0].mean - 25.0).abs() < 1e-9, "{bins:?}");
        assert_eq!((bins[0].high, bins[1].high, bins[2].high), (900, 0, 8));
        assert!((bins[2].mean - 8.0).abs() < 1e-9, "{bins:?}");
    }

    #[test]
    fn what_another_held_is_added() {
        let (mut a, mut b) = (Series::new(0, 8), Series::new(0, 8));
        a.step(0, 10, 10);
        b.step(0, 4, 4);
        b.step(3 * W, 0, 0);
        a.take_over(&b);
        let (bins, _) = a.bins(4 * W);
        let means: Vec<f64> = bins.iter().map(|b| b.mean).collect();
        assert_eq!(means, [14.0, 14.0, 14.0, 10.0]);
    }

    proptest! {
        #[test]
        fn the_area_is_kept_however_wide_the_bins(
            steps in prop::collection::vec((1u64..1 << 34, 0u64..1 << 30), 1..80)
        ) {
            let mut s = Series::new(0, 32);
            let (mut t, mut level, mut area, mut high) = (0u64, 0u64, 0f64, 0u64);
            for (ns, next) in steps {
                area += level as f64 * ns as f64;
                t += ns;
                level = next;
                high = high.max(level);
                s.step(t, level, level);
            }
            let (bins, width) = s.bins(t);
            prop_assert!(bins.len() <= 32);
            let seen: f64 = bins.iter().enumerate().map(|(i, b)| {
                b.mean * (t - i as u64 * width).min(width) as f64
            }).sum();
            prop_assert!((seen - area).abs() <= area * 1e-9, "{seen} {area}");
            // The last step lasts no time; its high is in the last bin if that bin has any.
            let top = bins.iter().map(|b| b.high).max().unwrap_or(0);
            prop_assert!(top <= high);
        }
    }
}
