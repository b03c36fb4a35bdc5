//! The kernel's histogram of skb sizes, as percentiles.

use hdrhistogram::Histogram;
use sockmem_common::{BUCKETS, TruesizeSum, bucket_floor};

use super::{OCTAVES, TruesizeView};

/// What the programs counted of skbs, summed over CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TruesizeCounts {
    /// skbs by bucket of their truesize (index: `sockmem_common::bucket`).
    pub buckets: Vec<u64>,
    /// Exact sums and the largest.
    pub sum: TruesizeSum,
}

impl TruesizeCounts {
    /// Buckets that hold any, and how many; of a damaged recording, no more than can be added up.
    fn counted(&self) -> impl Iterator<Item = (u32, u64)> {
        let counts = self.buckets.iter().map(|n| (*n).min(1 << 48));
        (0..BUCKETS).zip(counts).filter(|(_, n)| *n > 0)
    }

    /// Percentiles; `None` where nothing was counted.
    pub(super) fn view(&self) -> Option<TruesizeView> {
        if self.sum.count == 0 {
            return None;
        }
        // Three digits keep the kernel's buckets apart; the highest is the last bucket's floor.
        let mut sizes = Histogram::<u64>::new_with_bounds(1, 1 << 24, 3).ok()?;
        let mut octaves = [0; OCTAVES];
        for (index, count) in self.counted() {
            let octave = bucket_floor(index).max(1).ilog2() as usize;
            octaves[octave.min(OCTAVES - 1)] += count;
            sizes.saturating_record_n(u64::from(bucket_floor(index)), count);
        }
        let at = |q| sizes.value_at_quantile(q).min(self.sum.max);
        Some(TruesizeView {
            count: self.sum.count,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: self.sum.max,
            octaves,
            payload_ratio: (self.sum.payload > 0)
                .then(|| self.sum.truesize as f64 / self.sum.payload as f64),
        })
    }

    /// How many are in each range from a power of two to the next; from the first range with any
    /// to the last.
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        let mut out: Vec<(u64, u64)> = Vec::new();
        for (index, count) in self.counted() {
            let size = u64::from(bucket_floor(index));
            let floor = if size == 0 { 0 } else { 1 << size.ilog2() };
            // Ranges in between that hold none show as such.
            while let Some(&(last, _)) = out.last()
                && last < floor
            {
                out.push((if last == 0 { 1 } else { last * 2 }, 0));
            }
            match out.last_mut() {
                Some((_, sum)) => *sum += count,
                None => out.push((floor, count)),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sockmem_common::bucket;

    #[test]
    fn percentiles_lie_within_a_bucket_and_the_largest_is_exact() {
        let mut counts = TruesizeCounts {
            buckets: vec![0; BUCKETS as usize],
            sum: TruesizeSum::default(),
        };
        assert_eq!(counts.view(), None);
        for (size, payload, n) in [
            (2304u32, 1448u64, 90u64),
            (65_792, 64_000, 9),
            (131_328, 9, 1),
        ] {
            counts.buckets[bucket(size) as usize] += n;
            counts.sum.count += n;
            counts.sum.truesize += u64::from(size) * n;
            counts.sum.payload += payload * n;
            counts.sum.max = counts.sum.max.max(size.into());
        }
        let v = counts.view().expect("100 skbs were counted");
        let near = |got: u64, want: u64| got <= want * 1001 / 1000 && got * 33 >= want * 32;
        assert!(
            near(v.p50, 2304) && near(v.p90, 2304) && near(v.p99, 65_792),
            "{v:?}"
        );
        assert_eq!((v.count, v.max), (100, 131_328));
        let ranges = counts.ranges();
        assert_eq!(ranges.first(), Some(&(2048, 90)));
        assert_eq!(ranges.last(), Some(&(131_072, 1)));
        assert_eq!(ranges.iter().map(|r| r.1).sum::<u64>(), 100);
        assert!(
            ranges.windows(2).all(|w| w[1].0 == 2 * w[0].0),
            "{ranges:?}"
        );
        let filled = v.octaves.iter().enumerate().filter(|(_, n)| **n > 0);
        let filled: Vec<(usize, u64)> = filled.map(|(i, n)| (i, *n)).collect();
        assert_eq!(filled, [(11, 90), (16, 9), (17, 1)]);
        let ratio = v.payload_ratio.expect("payload was counted");
        assert!((ratio - 930_816.0 / 706_329.0).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn no_payload_is_no_ratio() {
        let counts = TruesizeCounts {
            buckets: vec![0, 3],
            sum: TruesizeSum {
                count: 3,
                truesize: 3,
                payload: 0,
                max: 1,
            },
        };
        assert_eq!(counts.view().map(|v| v.payload_ratio), Some(None));
    }
}
