//! Medians of runs, and ratios of runs that belong together.

/// What several runs of the same thing gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The value in the middle (of an even number the mean of the two).
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
    /// How many there were.
    pub(crate) runs: usize,
}

impl Sample {
    /// Of these values; `None` where there is none, or one that is no number.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let n = values.len();
        let median = if n.is_multiple_of(2) {
            f64::midpoint(values[n / 2 - 1], values[n / 2])
        } else {
            values[n / 2]
        };
        Some(Self {
            median,
            min,
            max,
            runs: n,
        })
    }

    /// Of the ratios of values measured one right after the other.
    pub(crate) fn of_ratios(of: &[f64], to: &[f64]) -> Option<Self> {
        if of.len() != to.len() {
            return None;
        }
        Self::of(of.iter().zip(to).map(|(a, b)| a / b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_numbers() {
        let odd = Sample::of([3.0, 1.0, 10.0]).unwrap();
        assert_eq!(
            (odd.median, odd.min, odd.max, odd.runs),
            (3.0, 1.0, 10.0, 3)
        );
        assert_eq!(Sample::of([1.0, 2.0, 4.0, 100.0]).unwrap().median, 3.0);
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Sample::of([]), None);
        assert_eq!(Sample::of([1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_those_of_pairs() {
        // The machine was half as fast in the second pair: the ratio is the same.
        let ratio = Sample::of_ratios(&[90.0, 45.0], &[100.0, 50.0]).unwrap();
        assert_eq!((ratio.min, ratio.max), (0.9, 0.9));
        assert_eq!(Sample::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Sample::of_ratios(&[1.0], &[1.0, 2.0]), None);
    }
}
