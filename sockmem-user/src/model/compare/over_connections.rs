//! What chance does to sums and percentiles over connections: which ones came by.
//!
//! Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979). Drawn
//! within strata, connections of one role and port: how many there are of each is part of the
//! load, which is compared before.

use std::collections::BTreeMap;

use super::RESAMPLES;
use crate::model::random::Random;
use crate::model::survey::{Connection, Role};

/// Smaller strata are put together.
const LEAST_STRATUM: usize = 5;

/// The percentiles that are looked at.
pub(super) const PERCENTS: [u64; 3] = [50, 90, 99];

/// Results of resampling one set of connections. Sums are relative: 1 is what was seen.
#[derive(Clone, Debug)]
pub(super) struct OverConnections {
    /// Sum of the peaks.
    pub(super) peaks: Vec<f64>,
    /// Sum of what was held over time.
    pub(super) areas: Vec<f64>,
    /// Sum of what was held while idle.
    pub(super) idle: Vec<f64>,
    /// Sum of what was charged.
    pub(super) charged: Vec<f64>,
    /// Percentiles of the peak of a connection; bytes.
    pub(super) percentiles: [Vec<f64>; 3],
    /// How many are free to vary: connections less strata.
    pub(super) freedom: usize,
}

/// The percentile of peaks that are in order: the smallest that is not below `percent` of them.
pub(super) fn percentile(sorted: &[u64], percent: u64) -> Option<u64> {
    let n = sorted.len() as u64;
    let rank = (n * percent).div_ceil(100).max(1);
    sorted.get(rank as usize - 1).copied()
}

/// Resamples; `None` where every connection is the only one of its kind.
pub(super) fn resample(connections: &[&Connection], seed: u64) -> Option<OverConnections> {
    let mut all: Vec<&Connection> = connections.to_vec();
    all.sort_by_key(|c| c.peak);
    let strata = strata(&all);
    let freedom = all.len() - strata.len();
    if freedom == 0 {
        return None;
    }
    let columns: [Vec<f64>; 4] = [
        all.iter().map(|c| c.peak as f64).collect(),
        all.iter().map(|c| c.byte_ns).collect(),
        all.iter()
            .map(|c| c.idle_mean.unwrap_or(0) as f64 * c.life_ns as f64)
            .collect(),
        all.iter().map(|c| c.charged as f64).collect(),
    ];
    let seen: [f64; 4] = std::array::from_fn(|i| columns[i].iter().sum());
    let mut random = Random::new(seed);
    let room = || Vec::with_capacity(RESAMPLES);
    let mut relative: [Vec<f64>; 4] = std::array::from_fn(|_| room());
    let mut percentiles: [Vec<f64>; 3] = std::array::from_fn(|_| room());
    let mut times = vec![0u32; all.len()];
    for _ in 0..RESAMPLES {
        times.fill(0);
        for stratum in &strata {
            for _ in 0..stratum.len() {
                let at = random.below(stratum.len() as u64) as usize;
                times[stratum[at]] += 1;
            }
        }
        let (mut sums, mut passed, mut next) = ([0.0; 4], 0u64, 0);
        for (at, &n) in times.iter().enumerate().filter(|(_, n)| **n > 0) {
            for (sum, column) in sums.iter_mut().zip(&columns) {
                *sum += column[at] * f64::from(n);
            }
            passed += u64::from(n);
            while next < PERCENTS.len()
                && passed * 100 >= (all.len() as u64 * PERCENTS[next]).max(1)
            {
                percentiles[next].push(all[at].peak as f64);
                next += 1;
            }
        }
        for ((out, sum), seen) in relative.iter_mut().zip(sums).zip(seen) {
            out.push(if seen > 0.0 { sum / seen } else { 1.0 });
        }
    }
    let [peaks, areas, idle, charged] = relative;
    Some(OverConnections {
        peaks,
        areas,
        idle,
        charged,
        percentiles,
        freedom,
    })
}

/// Positions by role and port; those of small strata together.
fn strata(all: &[&Connection]) -> Vec<Vec<usize>> {
    let mut by_kind: BTreeMap<(Role, u16), Vec<usize>> = BTreeMap::new();
    for (at, c) in all.iter().enumerate() {
        let kind = (c.class.role, c.class.port);
        by_kind.entry(kind).or_default().push(at);
    }
    let (mut out, mut rest) = (Vec::new(), Vec::new());
    for stratum in by_kind.into_values() {
        if stratum.len() < LEAST_STRATUM {
            rest.extend(stratum);
        } else {
            out.push(stratum);
        }
    }
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::connection;
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let sorted: Vec<u64> = (1..=200).collect();
        let at = |p| percentile(&sorted, p);
        assert_eq!((at(50), at(90), at(99)), (Some(100), Some(180), Some(198)));
        assert_eq!(percentile(&[7], 99), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn resampled_percentiles_use_the_same_definition() {
        let all: Vec<Connection> = (1..=40).map(|i| connection(80, i * 100)).collect();
        let refs: Vec<&Connection> = all.iter().collect();
        let r = resample(&refs, 5).expect("forty of a kind");
        assert_eq!(r.freedom, 39);
        for p in &r.percentiles {
            assert_eq!(p.len(), RESAMPLES);
        }
        let mean = r.percentiles[0].iter().sum::<f64>() / RESAMPLES as f64;
        assert!((1700.0..2300.0).contains(&mean), "{mean}");
        assert!(r.percentiles[0].iter().all(|p| *p % 100.0 == 0.0));
    }

    #[test]
    fn how_many_there_are_of_each_kind_is_not_left_to_chance() {
        // Ten that hold much and a hundred that hold little, each kind all alike.
        let mut all: Vec<Connection> = (0..10).map(|_| connection(80, 1_000_000)).collect();
        all.extend((0..100).map(|_| connection(443, 1000)));
        let refs: Vec<&Connection> = all.iter().collect();
        let r = resample(&refs, 5).expect("many of a kind");
        assert!(r.peaks.iter().all(|p| (p - 1.0).abs() < 1e-9));
        assert_eq!(r.freedom, 108);
    }

    #[test]
    fn one_connection_says_nothing_about_chance() {
        assert!(resample(&[&connection(80, 5)], 1).is_none());
        assert!(resample(&[], 1).is_none());
    }
}
