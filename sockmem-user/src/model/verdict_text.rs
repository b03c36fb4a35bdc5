//! A group's answer, in the words of a person.

use std::collections::BTreeMap;

use sockmem_common::{REASONS, Reason};

use super::verdict::{ALL, Rules};
use super::words::{bytes, count, duration};
use super::{Answer, Bucket, Verdict};

/// What a verdict about several sockets rests on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// Connections seen, closed ones included.
    pub(super) connections: u64,
    /// Those that were idle for long enough to tell.
    pub(super) idle_connections: u64,
    /// Those of them that held memory meanwhile.
    pub(super) holding: u64,
    /// Idle time of `idle_connections`, summed.
    pub(super) idle_ns: u128,
    /// Whether there was any idle time at all.
    pub(super) any_idle: bool,
    /// Sum of the means held while idle, by reason.
    pub(super) means: [u64; REASONS],
    /// Most that one socket held while idle.
    pub(super) idle_max: u64,
    /// Highest sum of `resident`.
    pub(super) peak: u64,
    /// What is held at this moment, by reason.
    pub(super) held: [u64; REASONS],
    /// Length of the trace.
    pub(super) duration_ns: u64,
}

impl Rules {
    /// The answer for a group, or for everything.
    pub(super) fn group(&self, e: &Evidence, timeline: &[Bucket]) -> Verdict {
        let mean = e.means.iter().fold(0u64, |a, &b| a.saturating_add(b));
        let growth = self.growth(timeline, e.peak);
        let (answer, text) = if let Some((from, to)) = growth {
            (Answer::Growing, self.growing(e, from, to, mean))
        } else if e.idle_connections == 0 {
            (Answer::NotEnoughIdleTime, self.not_enough(e))
        } else if self.sum_holds(mean, e.peak, e.holding, e.idle_connections) {
            (Answer::ResidentWhileIdle, self.resident(e, mean))
        } else {
            (Answer::TrafficDriven, self.traffic(e, mean))
        };
        let mut reasons = BTreeMap::new();
        for (reason, &mean) in ALL.into_iter().zip(&e.means) {
            if mean > 0 {
                reasons.insert(reason, mean);
            }
        }
        Verdict {
            answer,
            text,
            idle_resident_mean_bytes: e.any_idle.then_some(mean),
            idle_resident_max_bytes: e.any_idle.then_some(e.idle_max),
            reasons,
        }
    }

    fn resident(&self, e: &Evidence, mean: u64) -> String {
        let mut text = format!(
            "Yes: buffers stay resident while idle. {} and held {} meanwhile (peak {}).",
            idle_clause(e),
            bytes(mean),
            bytes(e.peak),
        );
        if e.holding > 0 && e.holding < e.idle_connections {
            text += &format!(" {} of them held memory.", count(e.holding));
        }
        text += &self.because(&e.means);
        text
    }

    fn traffic(&self, e: &Evidence, mean: u64) -> String {
        let each = mean / e.idle_connections.max(1);
        let each = match e.idle_connections {
            1 => String::new(),
            _ => format!(" ({} each)", bytes(each)),
        };
        let mut text = format!(
            "No: memory follows traffic. {} and held {}{each}",
            idle_clause(e),
            bytes(mean),
        );
        text += &if e.peak == 0 {
            "; no buffer memory was used at all.".to_owned()
        } else {
            format!("; the peak of {} was under traffic.", bytes(e.peak))
        };
        if e.holding > 0 {
            text += &format!(
                " {} of them held memory while idle, {} at most.",
                count(e.holding),
                bytes(e.idle_max),
            );
        }
        text
    }

    fn growing(&self, e: &Evidence, from: u64, to: u64, mean: u64) -> String {
        let mut text = format!(
            "Growing: memory rose from {} to {} in {} and did not come back (lows of successive \
             quarters; peak {}).",
            bytes(from),
            bytes(to),
            duration(e.duration_ns),
            bytes(e.peak),
        );
        text += &self.because(&e.held);
        if e.idle_connections > 0 {
            text += &format!(" {} and held {} meanwhile.", idle_clause(e), bytes(mean));
        }
        text
    }

    fn not_enough(&self, e: &Evidence) -> String {
        let seen = match e.connections {
            0 => "No connection was seen".to_owned(),
            1 => "The only connection was not idle for long enough".to_owned(),
            n => format!(
                "None of the {} connections was idle for long enough",
                count(n)
            ),
        };
        format!(
            "Not enough idle time to tell. {seen}: needed is {} without payload in either \
             direction, and then {} of it. Trace for longer, or lower --idle-after.",
            duration(self.idle_after_ns),
            duration(self.idle_needed(0)),
        )
    }

    /// Which share has which reason, largest first, and what is to be known of it.
    fn because(&self, parts: &[u64; REASONS]) -> String {
        let total: u128 = parts.iter().map(|&p| u128::from(p)).sum();
        if total == 0 {
            return String::new();
        }
        let percent = |part: u64| (u128::from(part) * 100 + total / 2) / total;
        let mut shares: Vec<(Reason, u64)> = ALL
            .into_iter()
            .zip(*parts)
            .filter(|&(_, p)| percent(p) > 0)
            .collect();
        shares.sort_by_key(|&(reason, part)| (std::cmp::Reverse(part), reason));
        let list: Vec<String> = shares
            .iter()
            .enumerate()
            .map(|(i, &(reason, part))| match (i, percent(part)) {
                (0, 100) => format!("All of it is {}", describe(reason)),
                (0, p) => format!("{p} % of it is {}", describe(reason)),
                (_, p) => format!("{p} % is {}", describe(reason)),
            })
            .collect();
        let mut text = format!(" {}.", list.join("; "));
        if shares.iter().any(|&(reason, _)| reason == Reason::Reserved) {
            text += match self.keeps_forward_alloc {
                Some(false) => {
                    " forward_alloc is a credit that counts against tcp_mem and memcg limits; this \
                     kernel keeps it on an idle socket only where SO_RESERVE_MEM asked for it."
                }
                _ => {
                    " forward_alloc is a credit that counts against tcp_mem and memcg limits but \
                     has no pages behind it; kernels before 6.0 keep it until the socket's next \
                     data or timer."
                }
            };
        }
        text
    }
}

/// "12 of 14 connections were idle for 9.8 s on average".
fn idle_clause(e: &Evidence) -> String {
    let mean_ns = e.idle_ns / u128::from(e.idle_connections.max(1));
    let time = duration(u64::try_from(mean_ns).unwrap_or(u64::MAX));
    match (e.idle_connections, e.connections) {
        (1, 1) => format!("The only connection was idle for {time}"),
        (1, all) => format!("1 of {} connections was idle for {time}", count(all)),
        (n, all) if n == all => {
            format!(
                "All {} connections were idle for {time} on average",
                count(n)
            )
        }
        (n, all) => {
            format!(
                "{} of {} connections were idle for {time} on average",
                count(n),
                count(all)
            )
        }
    }
}

/// What the memory is that a reason holds, with the counter that shows it.
fn describe(reason: Reason) -> &'static str {
    match reason {
        Reason::Unread => "data the application has not read (rmem_alloc)",
        Reason::Unacked => "data the peer has not acknowledged (wmem_queued)",
        Reason::Unsent => "data held back by the peer's window or congestion control (wmem_queued)",
        Reason::OutOfOrder => "data that waits for a hole before it to be filled (rmem_alloc)",
        Reason::Reserved => "credit kept by the kernel (forward_alloc)",
    }
}
