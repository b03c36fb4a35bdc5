//! A fair sample of a stream of connections, always the same for the same stream.

use super::Connection;
use crate::model::random::Random;

/// Keeps each of the connections offered with equal chance (Vitter's algorithm R, 1985).
#[derive(Clone, Debug)]
pub(super) struct Sample {
    kept: Vec<Connection>,
    capacity: usize,
    seen: u64,
    random: Random,
}

impl Sample {
    pub(super) fn new(capacity: usize) -> Sample {
        Sample {
            kept: Vec::new(),
            capacity,
            seen: 0,
            random: Random::new(1),
        }
    }

    pub(super) fn offer(&mut self, c: Connection) {
        self.seen += 1;
        if self.kept.len() < self.capacity {
            self.kept.push(c);
            return;
        }
        let at = self.random.below(self.seen);
        if at < self.capacity as u64 {
            self.kept[at as usize] = c;
        }
    }

    /// Those kept, and how many were offered.
    pub(super) fn into_parts(self) -> (Vec<Connection>, u64) {
        (self.kept, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::model::survey::{Class, Role};

    fn connection(peak: u64) -> Connection {
        Connection {
            class: Class {
                role: Role::Server,
                port: 1,
                remote: None,
            },
            pid: 1,
            local: IpAddr::V4(Ipv4Addr::LOCALHOST),
            peak,
            byte_ns: 0.0,
            idle_mean: None,
            life_ns: 1,
            charged: 0,
            payload: 0,
        }
    }

    #[test]
    fn early_and_late_ones_are_kept_alike() {
        let mut s = Sample::new(1000);
        for i in 0..20_000 {
            s.offer(connection(i));
        }
        let (kept, seen) = s.into_parts();
        assert_eq!((kept.len(), seen), (1000, 20_000));
        let mean = kept.iter().map(|c| c.peak).sum::<u64>() / 1000;
        // 20,000 / 2, within four standard errors of 5774 / sqrt(1000).
        assert!((9_270..=10_730).contains(&mean), "{mean}");
    }
}
