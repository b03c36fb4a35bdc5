//! One metric of two traces: what it was, what it is, and how far chance reaches.

use super::over_connections::{OverConnections, PERCENTS, percentile};
use super::{over_connections, over_time};
use crate::model::survey::{Bin, Connection};

/// 97.5th percentile of the normal distribution.
const Z: f64 = 1.959_964;

/// On how many metrics the answer rests: the first ones of `METRICS`.
pub(super) const DECIDING: usize = 3;

/// What lies beyond either end of the interval that decides: 99.5 % are within. Three metrics
/// together are then wrong in at most 1.5 % of comparisons (Bonferroni), which leaves room for
/// what resampling few connections or short traces gets wrong.
const SURE_TAIL: f64 = 0.0025;

/// The names of the metrics, in order. All are bytes.
pub const METRICS: [&str; 7] = [
    "resident_peak_bytes",
    "resident_mean_bytes",
    "idle_resident_mean_bytes",
    "connection_peak_p50_bytes",
    "connection_peak_p90_bytes",
    "connection_peak_p99_bytes",
    "charged_bytes",
];

/// A metric in both traces. Bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// One of `METRICS`.
    pub name: &'static str,
    /// In the first trace; `None` where it is not known.
    pub base: Option<u64>,
    /// In the second.
    pub new: Option<u64>,
    /// Second less first.
    pub delta: Option<i64>,
    /// Second divided by first; `None` also where the first is 0.
    pub ratio: Option<f64>,
    /// Where the difference lies with 95 % confidence; `None` where chance cannot be judged.
    pub interval_95: Option<(i64, i64)>,
    /// Whether the interval excludes zero and the difference is large enough to matter.
    pub changed: bool,
    /// Whether that holds also at the stricter level that an answer resting on several metrics
    /// asks for.
    pub(super) decides: bool,
}

impl Metric {
    /// Whether it changed for the better, beyond doubt.
    #[must_use]
    pub fn reduced(&self) -> bool {
        self.decides && self.delta.is_some_and(|d| d < 0)
    }

    /// Whether it changed for the worse, beyond doubt.
    #[must_use]
    pub fn increased(&self) -> bool {
        self.decides && self.delta.is_some_and(|d| d > 0)
    }
}

/// The least difference that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least {
    /// Bytes.
    pub(super) bytes: u64,
    /// Of the first trace's value.
    pub(super) share: f64,
}

/// One trace, or one part of it, that is compared with another.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject<'a> {
    pub(super) peak: Option<u64>,
    pub(super) mean: Option<u64>,
    pub(super) idle: Option<u64>,
    pub(super) charged: Option<u64>,
    /// The level over time; empty where not known.
    pub(super) bins: Vec<Bin>,
    /// All of its connections, or a fair sample.
    pub(super) connections: Vec<&'a Connection>,
}

impl Subject<'_> {
    fn sorted_peaks(&self) -> Vec<u64> {
        let mut peaks: Vec<u64> = self.connections.iter().map(|c| c.peak).collect();
        peaks.sort_unstable();
        peaks
    }

    /// The bins without the last one, which may be incomplete.
    fn whole_bins(&self) -> &[Bin] {
        self.bins.split_last().map_or(&[], |(_, whole)| whole)
    }
}

/// Differences of resampled statistics from what was seen, and by how much to widen them.
type Spread = Option<(Vec<f64>, f64)>;

/// All metrics of two subjects. `seed` makes chance repeatable.
pub(super) fn measure(
    base: &Subject<'_>,
    new: &Subject<'_>,
    least: Least,
    seed: u64,
) -> Vec<Metric> {
    let time = [
        over_time::resample(base.whole_bins(), seed ^ 1),
        over_time::resample(new.whole_bins(), seed ^ 2),
    ];
    let conns = [
        over_connections::resample(&base.connections, seed ^ 3),
        over_connections::resample(&new.connections, seed ^ 4),
    ];
    let in_time = |pick: fn(&over_time::OverTime) -> &Vec<f64>| -> Spread {
        let [Some(b), Some(n)] = &time else {
            return None;
        };
        let spread = pick(b).iter().zip(pick(n)).map(|(b, n)| n - b).collect();
        let wider = widening(b.blocks - 1, n.blocks - 1) * b.cut.max(n.cut);
        Some((spread, wider))
    };
    let by_connection =
        |values: (Option<u64>, Option<u64>), pick: fn(&OverConnections) -> &Vec<f64>| -> Spread {
            let ([Some(b), Some(n)], (Some(base), Some(new))) = (&conns, values) else {
                return None;
            };
            let (base, new) = (base as f64, new as f64);
            let both = pick(b).iter().zip(pick(n));
            let spread = both.map(|(b, n)| new * (n - 1.0) - base * (b - 1.0));
            Some((spread.collect(), widening(b.freedom, n.freedom)))
        };
    let (base_subject, new_subject) = (base, new);
    let (base_peaks, new_peaks) = (base.sorted_peaks(), new.sorted_peaks());
    let mut out = Vec::with_capacity(METRICS.len());
    let mut add = |values: (Option<u64>, Option<u64>), spreads: [Spread; 2]| {
        out.push(metric(METRICS[out.len()], values, spreads, least));
    };
    let peak = (base.peak, new.peak);
    add(
        peak,
        [in_time(|t| &t.highs), by_connection(peak, |c| &c.peaks)],
    );
    let mean = (base.mean, new.mean);
    add(
        mean,
        [in_time(|t| &t.means), by_connection(mean, |c| &c.areas)],
    );
    let idle = (base.idle, new.idle);
    add(idle, [by_connection(idle, |c| &c.idle), None]);
    for (at, percent) in PERCENTS.into_iter().enumerate() {
        let values = (
            percentile(&base_peaks, percent),
            percentile(&new_peaks, percent),
        );
        let spread = || -> Spread {
            let ([Some(b), Some(n)], (Some(base), Some(new))) = (&conns, values) else {
                return None;
            };
            let enough = |s: &Subject<'_>| tells(s.connections.len(), percent);
            if !enough(base_subject) || !enough(new_subject) {
                return None;
            }
            let point = new as f64 - base as f64;
            let both = b.percentiles[at].iter().zip(&n.percentiles[at]);
            let spread = both.map(|(b, n)| n - b - point).collect();
            Some((spread, widening(b.freedom, n.freedom)))
        };
        add(values, [spread(), None]);
    }
    let charged = (base.charged, new.charged);
    add(charged, [by_connection(charged, |c| &c.charged), None]);
    out
}

fn metric(
    name: &'static str,
    (base, new): (Option<u64>, Option<u64>),
    spreads: [Spread; 2],
    least: Least,
) -> Metric {
    let delta = base.zip(new).map(|(base, new)| {
        let wide = i128::from(new) - i128::from(base);
        i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
    });
    let spreads: Vec<(Vec<f64>, f64)> = spreads
        .into_iter()
        .flatten()
        .map(|(mut spread, wider)| {
            spread.sort_unstable_by(f64::total_cmp);
            (spread, wider)
        })
        .collect();
    let interval = |tail: f64| {
        let delta = delta? as f64;
        let intervals = spreads.iter().map(|(spread, wider)| {
            let at = |q: f64| spread[(q * (spread.len() - 1) as f64).round() as usize];
            (
                delta + at(tail).min(0.0) * wider,
                delta + at(1.0 - tail).max(0.0) * wider,
            )
        });
        // The wider of what time and what connections leave to chance, on either side.
        intervals
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            .map(|(lo, hi)| (lo.floor() as i64, hi.ceil() as i64))
    };
    let interval_95 = interval(0.025);
    let excludes_zero = |i: Option<(i64, i64)>| i.is_some_and(|(lo, hi)| lo > 0 || hi < 0);
    let matters = base.zip(delta).is_some_and(|(base, delta)| {
        let far = delta.unsigned_abs();
        far >= least.bytes && far as f64 >= base as f64 * least.share
    });
    Metric {
        name,
        base,
        new,
        delta,
        ratio: base
            .zip(new)
            .filter(|(base, _)| *base > 0)
            .map(|(base, new)| new as f64 / base as f64),
        interval_95,
        changed: matters && excludes_zero(interval_95),
        decides: matters && excludes_zero(interval(SURE_TAIL)),
    }
}

/// Whether a percentile of `n` connections can be judged: at least five lie beyond it. Of fewer
/// it is (nearly) the largest value, which resampling takes for far too sure.
fn tells(n: usize, percent: u64) -> bool {
    n as u64 * (100 - percent) >= 500
}

/// A bootstrap of few independent parts is too narrow: it divides by their number where one less
/// is right, and it knows their spread only from themselves, which is what Student's t is for.
fn widening(base_freedom: usize, new_freedom: usize) -> f64 {
    let fewest = base_freedom.min(new_freedom).max(1) as f64;
    let spread = ((fewest + 1.0) / fewest).sqrt();
    spread * student(base_freedom + new_freedom) / Z
}

/// 97.5th percentile of Student's t. The first ones from tables, then the expansion of Fisher
/// and Cornish (within 0.1 % from five degrees on).
fn student(freedom: usize) -> f64 {
    match freedom {
        0 | 1 => 12.706_205,
        2 => 4.302_653,
        3 => 3.182_446,
        4 => 2.776_445,
        _ => {
            let v = freedom as f64;
            let (z3, z5, z7) = (Z.powi(3), Z.powi(5), Z.powi(7));
            Z + (z3 + Z) / (4.0 * v)
                + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * v * v)
                + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * Z) / (384.0 * v * v * v)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_t_is_that_of_the_tables() {
        for (freedom, t) in [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (30, 2.042)] {
            let got = student(freedom);
            assert!((got - t).abs() < t * 0.005, "{freedom}: {got}");
        }
        assert!((student(100_000) - Z).abs() < 1e-4);
    }

    #[test]
    fn a_difference_without_an_interval_is_no_change() {
        let least = Least {
            bytes: 4096,
            share: 0.02,
        };
        let m = metric("x", (Some(10_000), Some(1_000_000)), [None, None], least);
        assert_eq!(
            (m.interval_95, m.changed, m.ratio),
            (None, false, Some(100.0))
        );
        let m = metric("x", (None, Some(1)), [None, None], least);
        assert_eq!((m.delta, m.ratio, m.changed), (None, None, false));
    }

    #[test]
    fn too_little_to_matter_is_no_change() {
        let least = Least {
            bytes: 4096,
            share: 0.02,
        };
        let sure = || [Some((vec![0.0; 10], 1.0)), None];
        let changed = |base, new| metric("x", (Some(base), Some(new)), sure(), least).changed;
        assert!(!changed(10_000, 10_000));
        // Less than a page; a page; two pages of which less than 2 %.
        assert!(!changed(10_000, 14_095));
        assert!(changed(10_000, 14_096));
        assert!(!changed(1_000_000, 1_008_192));
        assert!(changed(1_000_000, 979_000));
    }
}
