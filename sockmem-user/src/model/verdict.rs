//! The answers: do buffers stay resident while idle, or grow only with traffic?
//! `docs/VERDICTS.md` gives the rules with their reasons.

use sockmem_common::{REASONS, Reason, SockState};

use super::groups::Segment;
use super::{Answer, Bucket};

/// Idle time that tells enough of any socket, however long it was seen. ns.
const IDLE_MIN_NS: u64 = 1_000_000_000;
/// With a shorter `--idle-after` less is enough, down to this. ns.
const IDLE_LEAST_NS: u64 = 100_000_000;
/// Of a longer life at least this share (1/20 = 5 %) must be idle ...
const IDLE_SHARE: u64 = 20;
/// ... but a minute is always enough. ns.
const IDLE_ENOUGH_NS: u64 = 60_000_000_000;

/// Less than a page counts as held from this mean on ...
const HELD_LEAST: u64 = 512;
/// ... where it is at least this share (1/4) of the peak: a page for a part of the time.
const HELD_SHARE: u64 = 4;

/// Growth below this is not called so. Bytes.
pub(super) const GROWTH_LEAST: u64 = 64 * 1024;
/// Growth is at least this share (1/4) of the peak.
const GROWTH_SHARE: u64 = 4;
/// From each low to the next the level rises by at least this share (1/10) of the growth.
const GROWTH_STEP: u64 = 10;
/// Growth is looked for over at least four seconds, or four times `--idle-after`. ns.
const GROWTH_MIN_NS: u64 = 4_000_000_000;
/// Sums count as held from this many bytes on ...
const SUM_HELD: u64 = 64 * 1024;
/// ... or from this share (1/10) of their peak, or where this share of the connections held some.
const SUM_SHARE: u64 = 10;

/// The reasons, in order of their index.
pub(super) const ALL: [Reason; REASONS] = [
    Reason::Unread,
    Reason::Unacked,
    Reason::Unsent,
    Reason::OutOfOrder,
    Reason::Reserved,
];

/// What all rules need to know of the trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) idle_after_ns: u64,
    pub(super) page_size: u64,
    pub(super) keeps_forward_alloc: Option<bool>,
}

impl Rules {
    /// Least idle time that tells something of a socket seen for `life_ns`.
    pub(super) fn idle_needed(&self, life_ns: u64) -> u64 {
        let base = self.idle_after_ns.clamp(IDLE_LEAST_NS, IDLE_MIN_NS);
        base.max((life_ns / IDLE_SHARE).min(IDLE_ENOUGH_NS))
    }

    /// Whether a segment was idle for long enough.
    pub(super) fn told(&self, s: &Segment) -> bool {
        s.idle_ns >= self.idle_needed(s.life_ns)
    }

    /// Whether a mean while idle is memory held, beside a peak. Bytes.
    pub(super) fn holds(&self, mean: u64, peak: u64) -> bool {
        mean >= self.page_size || (mean >= HELD_LEAST && mean.saturating_mul(HELD_SHARE) >= peak)
    }

    /// Whether a segment held memory while idle.
    pub(super) fn segment_holds(&self, s: &Segment, peak: u64) -> bool {
        s.idle_means()
            .is_some_and(|m| self.holds(m.iter().copied().fold(0, u64::saturating_add), peak))
    }
    /// Whether several connections held memory while idle: `mean` bytes at once beside a peak of
    /// `peak`, `holding` of `idle` connections by themselves.
    pub(super) fn sum_holds(&self, mean: u64, peak: u64, holding: u64, idle: u64) -> bool {
        (holding > 0 || self.holds(mean, peak))
            && (mean >= SUM_HELD
                || mean.saturating_mul(SUM_SHARE) >= peak
                || holding.saturating_mul(SUM_SHARE) >= idle)
    }

    /// One socket's answer. `state` is complete up to now (or its end), `timeline` its levels.
    pub(super) fn socket(
        &self,
        state: &SockState,
        mean: Option<u64>,
        timeline: &[Bucket],
    ) -> Answer {
        if self.growth(timeline, state.resident_peak).is_some() {
            return Answer::Growing;
        }
        let life_ns = state.last_ns.saturating_sub(state.first_ns);
        match mean {
            Some(mean) if state.idle_ns >= self.idle_needed(life_ns) => {
                if self.holds(mean, state.resident_peak) {
                    Answer::ResidentWhileIdle
                } else {
                    Answer::TrafficDriven
                }
            }
            _ => Answer::NotEnoughIdleTime,
        }
    }

    /// From and to what the level grew without coming back, if it did.
    ///
    /// The lows of the four quarters and of the last eighth must rise one after
    /// the other: traffic that comes and goes returns to a low, one burst that
    /// stays is a plateau and adds nothing from quarter to quarter.
    pub(super) fn growth(&self, timeline: &[Bucket], peak: u64) -> Option<(u64, u64)> {
        let n = timeline.len();
        if peak < GROWTH_LEAST || n < 8 {
            return None;
        }
        // The last bucket is not complete: its width counts as that of the one before.
        let width = timeline[1].start_ns - timeline[0].start_ns;
        let span = width * n as u64;
        if span < GROWTH_MIN_NS.max(self.idle_after_ns.saturating_mul(4)) {
            return None;
        }
        let low = |from: usize, to: usize| {
            timeline[from..to]
                .iter()
                .map(|b| b.min)
                .min()
                .unwrap_or_default()
        };
        let lows = [
            low(0, n / 4),
            low(n / 4, n / 2),
            low(n / 2, n * 3 / 4),
            low(n * 3 / 4, n),
            low(n * 7 / 8, n),
        ];
        let rise = lows[4].checked_sub(lows[0])?;
        if rise < GROWTH_LEAST || rise.saturating_mul(GROWTH_SHARE) < peak {
            return None;
        }
        let steady = lows.windows(2).all(|w| {
            w[1].checked_sub(w[0])
                .is_some_and(|step| step.saturating_mul(GROWTH_STEP) >= rise)
        });
        steady.then_some((lows[0], lows[4]))
    }
}
