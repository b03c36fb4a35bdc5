//! Counting tests from what test programs print.

use std::iter::Sum;

/// How many tests passed, failed, and were not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, next| Self {
            passed: sum.passed + next.passed,
            failed: sum.failed + next.failed,
            ignored: sum.ignored + next.ignored,
        })
    }
}

/// The counts on one `test result:` line of a Rust test program, such as
/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out`.
pub(crate) fn libtest_line(line: &str) -> Option<Tally> {
    let (_, counts) = line
        .trim()
        .strip_prefix("test result: ")?
        .split_once(". ")?;
    let count = |what: &str| -> Option<u64> {
        counts
            .split(';')
            .find_map(|part| part.trim().strip_suffix(what)?.trim_end().parse().ok())
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
        ignored: count("ignored")?,
    })
}

/// The counts on the last line of `sockmem-e2e`: `3 passed, 0 failed`, possibly
/// followed by `, 2 skipped`.
pub(crate) fn e2e_summary(line: &str) -> Option<Tally> {
    let mut parts = line.trim().split(", ");
    let mut count = |what: &str| -> Option<u64> {
        parts
            .next()?
            .strip_suffix(what)?
            .strip_suffix(' ')?
            .parse()
            .ok()
    };
    let (passed, failed) = (count("passed")?, count("failed")?);
    let ignored = count("skipped").unwrap_or(0);
    Some(Tally {
        passed,
        failed,
        ignored,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_lines_are_summed() {
        let output = "\
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s

     Running unittests src/lib.rs
test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s
";
        let sum: Tally = output.lines().filter_map(libtest_line).sum();
        assert_eq!(
            sum,
            Tally {
                passed: 13,
                failed: 2,
                ignored: 1
            }
        );
    }

    #[test]
    fn other_lines_have_no_counts() {
        for line in [
            "test result: ok",
            "3 passed; 0 failed",
            "note: test result: ok. x",
        ] {
            assert_eq!(libtest_line(line), None, "{line}");
        }
        for line in [
            "passed, 0 failed",
            "1 passed",
            "1 passed, many failed",
            "",
            "x 1 passed, 0 failed",
        ] {
            assert_eq!(e2e_summary(line), None, "{line}");
        }
    }

    #[test]
    fn the_end_to_end_summary_may_name_skips() {
        assert_eq!(
            e2e_summary("2 passed, 1 failed"),
            Some(Tally {
                passed: 2,
                failed: 1,
                ignored: 0
            })
        );
        assert_eq!(
            e2e_summary("2 passed, 0 failed, 4 skipped\r"),
            Some(Tally {
                passed: 2,
                failed: 0,
                ignored: 4
            })
        );
    }
}
