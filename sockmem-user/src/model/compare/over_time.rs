//! What chance does to a level over time: circular block bootstrap.
//!
//! Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of
//! Statistics 17 (1989), resamples blocks; Politis and Romano, "A circular block-resampling
//! procedure for stationary data" (1992), lets them run over the end, so that every bin
//! counts alike.

use std::collections::VecDeque;

use super::RESAMPLES;
use super::blocks::{LEAST_BINS, choose};
use crate::model::random::Random;
use crate::model::survey::Bin;

/// The highest of as many values as were seen is hardly ever different from resample to
/// resample: the bootstrap is too sure of it. With fewer draws it is not: Bickel, Götze and van
/// Zwet, "Resampling fewer than n observations", Statistica Sinica 7 (1997). One in this many.
const FEWER: usize = 4;
/// But not fewer draws than this: a level that is reached half of the time must not be missed.
const LEAST_DRAWS: usize = 16;

/// Results of resampling one series.
#[derive(Clone, Debug)]
pub(super) struct OverTime {
    /// The mean of each resample less that of the series.
    pub(super) means: Vec<f64>,
    /// The high of each resample less that of the series: never above 0.
    pub(super) highs: Vec<f64>,
    /// How many blocks a resample has.
    pub(super) blocks: usize,
    /// See `Blocks::cut`.
    pub(super) cut: f64,
}

/// Resamples `bins`; `None` where there are too few.
pub(super) fn resample(bins: &[Bin], seed: u64) -> Option<OverTime> {
    let n = bins.len();
    if n < LEAST_BINS {
        return None;
    }
    let means: Vec<f64> = bins.iter().map(|b| b.mean).collect();
    let chosen = choose(&means);
    let length = chosen.length;
    let blocks = n.div_ceil(length);
    // Sums and highs of the block that starts at each bin.
    let mut before = vec![0.0; 2 * n + 1];
    for at in 0..2 * n {
        before[at + 1] = before[at] + means[at % n];
    }
    let sums: Vec<f64> = (0..n).map(|at| before[at + length] - before[at]).collect();
    let highs = block_highs(bins, length);
    let mean = before[n] / n as f64;
    let high = bins.iter().map(|b| b.high).max().unwrap_or(0);
    let mut random = Random::new(seed);
    let mut out = OverTime {
        means: Vec::with_capacity(RESAMPLES),
        highs: Vec::with_capacity(RESAMPLES),
        blocks,
        cut: chosen.cut,
    };
    for _ in 0..RESAMPLES {
        let (mut sum, mut top) = (0.0, 0);
        for _ in 0..blocks {
            let at = random.below(n as u64) as usize;
            sum += sums[at];
        }
        for _ in 0..blocks.div_ceil(FEWER).max(LEAST_DRAWS.min(blocks)) {
            top = top.max(highs[random.below(n as u64) as usize]);
        }
        out.means.push(sum / (blocks * length) as f64 - mean);
        out.highs.push(top as f64 - high as f64);
    }
    Some(out)
}

/// The highest of each `length` bins in a row, the series closed to a ring.
fn block_highs(bins: &[Bin], length: usize) -> Vec<u64> {
    let n = bins.len();
    let mut falling: VecDeque<usize> = VecDeque::new();
    let mut out = Vec::with_capacity(n);
    for at in 0..n + length - 1 {
        let high = bins[at % n].high;
        while falling.back().is_some_and(|&i| bins[i % n].high <= high) {
            falling.pop_back();
        }
        falling.push_back(at);
        if at + 1 >= length {
            let start = at + 1 - length;
            while falling.front().is_some_and(|&i| i < start) {
                falling.pop_front();
            }
            out.push(bins[falling[0] % n].high);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_blocks_high_is_the_highest_of_its_bins(
            levels in prop::collection::vec(0u64..50, 1..60), length in 1usize..20
        ) {
            let bins: Vec<Bin> = levels.iter().map(|&l| Bin { mean: l as f64, high: l }).collect();
            let length = length.min(bins.len());
            let highs = block_highs(&bins, length);
            prop_assert_eq!(highs.len(), levels.len());
            for (start, high) in highs.iter().enumerate() {
                let brute = (start..start + length).map(|i| levels[i % levels.len()]).max();
                prop_assert_eq!(Some(*high), brute);
            }
        }
    }

    #[test]
    fn a_level_that_never_moved_leaves_nothing_to_chance() {
        let bins = vec![
            Bin {
                mean: 4096.0,
                high: 5000
            };
            300
        ];
        let r = resample(&bins, 3).expect("enough bins");
        assert!(r.means.iter().all(|d| d.abs() < 1e-6));
        assert!(r.highs.iter().all(|d| *d == 0.0));
        assert!(resample(&bins[..4], 3).is_none());
    }
}
