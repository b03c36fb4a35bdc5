//! How long queues take to empty: from the moment `rmem_alloc` (or
//! `wmem_queued`) leaves 0 until it is 0 again.

use hdrhistogram::Histogram;
use sockmem_common::Change;

/// Longest time told apart: one day.
const LONGEST_NS: u64 = 86_400_000_000_000;

/// Since when a socket's queues hold something. 0: empty, or since before it was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queues {
    rx_since_ns: u64,
    tx_since_ns: u64,
}

/// The times of all queues of all sockets.
#[derive(Clone, Debug)]
pub(super) struct Drains {
    times: Histogram<u64>,
}

impl Drains {
    /// None seen yet.
    pub(super) fn new() -> Self {
        // Two significant digits: within 1 %, about 40 KiB.
        let times = Histogram::new_with_bounds(1, LONGEST_NS, 2)
            .expect("bounds and precision are constants that hdrhistogram accepts");
        Drains { times }
    }

    /// Takes a change; those of one socket come in order of time.
    pub(super) fn change(&mut self, queues: &mut Queues, c: &Change) {
        let t = c.header.t_ns;
        let rx = (c.after.rmem_alloc, c.d_rmem_alloc);
        let tx = (c.after.wmem_queued, c.d_wmem_queued);
        self.step(&mut queues.rx_since_ns, t, rx);
        self.step(&mut queues.tx_since_ns, t, tx);
    }

    fn step(&mut self, since_ns: &mut u64, t: u64, (after, delta): (u32, i32)) {
        if after == 0 {
            if *since_ns != 0 {
                self.times.saturating_record(t.saturating_sub(*since_ns));
                *since_ns = 0;
            }
        } else if *since_ns == 0 && i64::from(after) == i64::from(delta) {
            // It was 0 before. A queue found full has no known start and is not timed.
            *since_ns = t;
        }
    }

    /// p50, p99 and the longest; `None` where none was seen.
    pub(super) fn summary(&self) -> Option<(u64, u64, u64)> {
        if self.times.is_empty() {
            return None;
        }
        let max = self.times.max();
        let at = |q| self.times.value_at_quantile(q).min(max);
        Some((at(0.5), at(0.99), max))
    }

    /// How many took from 1, 3, 10, 30 ... ns to the next of these; from the first range with any
    /// to the last.
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        let mut out: Vec<(u64, u64)> = Vec::new();
        for step in self.times.iter_recorded() {
            let ns = step.value_iterated_to();
            let ten = 10u64.pow(ns.max(1).ilog10());
            let floor = if ns >= 3 * ten { 3 * ten } else { ten };
            while let Some(&(last, _)) = out.last()
                && last < floor
            {
                let leading_one = last == 10u64.pow(last.ilog10());
                out.push((if leading_one { 3 * last } else { last / 3 * 10 }, 0));
            }
            let count = step.count_at_value();
            match out.last_mut() {
                Some((_, sum)) => *sum += count,
                None => out.push((floor, count)),
            }
        }
        out
    }
}

impl Queues {
    /// A reading that is not a change: a queue that is empty now drained unseen, and is not timed.
    pub(super) fn reading(&mut self, rmem_alloc: u32, wmem_queued: u32) {
        if rmem_alloc == 0 {
            self.rx_since_ns = 0;
        }
        if wmem_queued == 0 {
            self.tx_since_ns = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sockmem_common::{Counters, Header};

    fn change(t_ns: u64, rmem: u32, delta: i32) -> Change {
        Change {
            header: Header {
                t_ns,
                ..Header::default()
            },
            after: Counters {
                rmem_alloc: rmem,
                ..Counters::default()
            },
            d_rmem_alloc: delta,
            ..Change::default()
        }
    }

    #[test]
    fn a_queue_is_timed_from_its_first_byte_to_its_last() {
        let (mut d, mut q) = (Drains::new(), Queues::default());
        assert_eq!(d.summary(), None);
        d.change(&mut q, &change(1_000, 700, 700));
        d.change(&mut q, &change(3_000, 1400, 700));
        d.change(&mut q, &change(6_000, 0, -1400));
        let (p50, p99, max) = d.summary().expect("one drain was seen");
        assert!((4_960..=5_040).contains(&p50) && p50 == p99 && max >= p50);
        assert_eq!(d.ranges(), [(3_000, 1)]);
        d.change(&mut q, &change(1_000_000, 700, 700));
        d.change(&mut q, &change(1_200_000, 0, -700));
        assert_eq!(
            d.ranges(),
            [(3_000, 1), (10_000, 0), (30_000, 0), (100_000, 1)]
        );
    }

    #[test]
    fn a_queue_found_full_or_emptied_unseen_is_not_timed() {
        let (mut d, mut q) = (Drains::new(), Queues::default());
        d.change(&mut q, &change(1_000, 1400, 700));
        d.change(&mut q, &change(2_000, 0, -1400));
        d.change(&mut q, &change(3_000, 700, 700));
        q.reading(0, 0);
        d.change(&mut q, &change(9_000, 0, 0));
        assert_eq!(d.summary(), None);
    }
}
