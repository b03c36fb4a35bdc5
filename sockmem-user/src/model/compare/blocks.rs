//! How long the blocks of a block bootstrap should be, and how many there are then.
//!
//! A level of memory is not independent from one millisecond to the next. Resampling blocks keeps
//! what is dependent together, if the blocks are long enough. The length is found from the
//! series itself: Politis and White, "Automatic block-length selection for the dependent
//! bootstrap", Econometric Reviews 23 (2004), with the correction by Patton, Politis and White,
//! ibid. 28 (2009); here for circular blocks.

/// Fewer bins than this say nothing about chance.
pub(super) const LEAST_BINS: usize = 16;

/// The blocks for a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Blocks {
    /// Bins in a block: from 1 to `longest`.
    pub(super) length: usize,
    /// By how much the spread of resampled means is too small, because what two blocks have in
    /// common is cut: at least 1.
    pub(super) cut: f64,
}

/// A spread is never made wider than this for what blocks cut.
const MOST_CUT: f64 = 2.0;

/// The blocks for `x`.
pub(super) fn choose(x: &[f64]) -> Blocks {
    let n = x.len();
    let longest = longest(n);
    let mean = x.iter().sum::<f64>() / n.max(1) as f64;
    let covariance = |lag: usize| -> f64 {
        let pairs = x.iter().zip(x.iter().skip(lag));
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n as f64
    };
    let variance = covariance(0);
    // A level that never moved, save for rounding, has no dependence to keep together.
    let all_alike = variance <= mean * mean * 1e-24;
    if n < LEAST_BINS || all_alike {
        return Blocks {
            length: 1,
            cut: 1.0,
        };
    }
    // The first lag from which on `calm` correlations in a row are not told from zero.
    let n_f = n as f64;
    let calm = (n_f.log10().sqrt().ceil() as usize).max(5);
    let noise = 2.0 * (n_f.log10() / n_f).sqrt();
    let most = (n_f.sqrt().ceil() as usize + calm).min(n - 1);
    let mut quiet = 0;
    let mut cutoff = most;
    for lag in 1..=most {
        quiet = if (covariance(lag) / variance).abs() < noise {
            quiet + 1
        } else {
            0
        };
        if quiet == calm {
            cutoff = lag + 1 - calm;
            break;
        }
    }
    // Beyond twice that lag the window is zero; up to it, all of it counts.
    let window = (2 * cutoff.max(1)).min(n - 1);
    let (mut spectrum, mut slope) = (variance, 0.0);
    for lag in 1..=window {
        let share = lag as f64 / window as f64;
        let weight = if share <= 0.5 {
            1.0
        } else {
            2.0 * (1.0 - share)
        };
        let c = covariance(lag);
        spectrum += 2.0 * weight * c;
        slope += 2.0 * weight * lag as f64 * c;
    }
    if spectrum <= 0.0 {
        return Blocks {
            length: longest,
            cut: 1.0,
        };
    }
    let ideal = (1.5 * slope * slope / (spectrum * spectrum) * n_f).cbrt();
    let length = (ideal.ceil() as usize).clamp(1, longest);
    // The variance that blocks of this length show is the true one less slope / length.
    let shown = 1.0 - slope / spectrum / length as f64;
    let cut = (1.0 / shown.max(1.0 / (MOST_CUT * MOST_CUT))).sqrt();
    Blocks {
        length,
        cut: cut.max(1.0),
    }
}

/// The longest blocks of `n` bins: three times the square root, and at least eight blocks.
fn longest(n: usize) -> usize {
    let root = (3.0 * (n as f64).sqrt()).ceil() as usize;
    root.min(n / 8).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    #[test]
    fn more_memory_of_the_past_needs_longer_blocks() {
        let lengths = [0.0, 0.5, 0.9, 0.99].map(|phi| choose(&noise(11, 2048, phi)).length);
        assert!(lengths.windows(2).all(|w| w[0] <= w[1]), "{lengths:?}");
        assert!(lengths[0] <= 6 && lengths[2] >= 20, "{lengths:?}");
        assert!(lengths[3] <= longest(2048));
        let cut = |phi| choose(&noise(11, 500, phi)).cut;
        assert!(cut(0.0) < 1.1 && cut(0.95) > 1.05 && cut(0.999) <= MOST_CUT);
    }

    #[test]
    fn a_level_that_never_moved_and_a_short_series_have_blocks_of_one() {
        for x in [&[5.0; 500][..], &[1.0, 2.0, 3.0], &[]] {
            let blocks = choose(x);
            assert_eq!((blocks.length, blocks.cut), (1, 1.0));
        }
    }
}
