//! The host's clocks. The trace's time is `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` has it.

use nix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock).expect("every Linux has the two clocks used here");
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub fn now_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC).unsigned_abs()
}

/// Nanoseconds of `CLOCK_REALTIME`: since 1970.
#[must_use]
pub fn now_unix_ns() -> u64 {
    u64::try_from(read(ClockId::CLOCK_REALTIME)).unwrap_or(0)
}

/// What to add to `CLOCK_MONOTONIC` to get `CLOCK_REALTIME`, nanoseconds. Changes
/// when the host's time of day is set: keep the one taken at the start of a trace.
#[must_use]
pub fn realtime_offset_ns() -> i64 {
    // One clock is read between two readings of the other; of several tries the
    // tightest is right to within half of its span, well below a microsecond.
    let attempt = || {
        let before = read(ClockId::CLOCK_MONOTONIC);
        let realtime = read(ClockId::CLOCK_REALTIME);
        let after = read(ClockId::CLOCK_MONOTONIC);
        (after - before, realtime - (before + (after - before) / 2))
    };
    (0..5)
        .map(|_| attempt())
        .min_by_key(|&(span, _)| span)
        .map_or(0, |(_, offset)| offset)
}

/// `CLOCK_MONOTONIC` nanoseconds as `CLOCK_REALTIME` ones, by an offset of `realtime_offset_ns`.
#[must_use]
pub fn to_unix_ns(monotonic_ns: u64, offset_ns: i64) -> u64 {
    monotonic_ns.saturating_add_signed(offset_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_goes_back() {
        let mut last = now_ns();
        assert!(last > 0);
        for _ in 0..1000 {
            let now = now_ns();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn the_offset_leads_from_one_clock_to_the_other() {
        let offset = realtime_offset_ns();
        let before = now_unix_ns();
        let converted = to_unix_ns(now_ns(), offset);
        let after = now_unix_ns();
        // A second of slack: the clock may be adjusted meanwhile.
        let slack = 1_000_000_000;
        assert!(
            converted + slack >= before && converted <= after + slack,
            "{before} {converted} {after}"
        );
    }

    #[test]
    fn conversion_never_wraps() {
        assert_eq!(to_unix_ns(5, -3), 2);
        assert_eq!(to_unix_ns(5, -9), 0);
        assert_eq!(to_unix_ns(u64::MAX, 1), u64::MAX);
    }
}
