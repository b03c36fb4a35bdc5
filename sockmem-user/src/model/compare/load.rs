//! Whether two traces saw the same load: before that is known, a difference says nothing.

use crate::model::survey::Survey;
use crate::model::{View, words};

/// How far apart connections, payload and duration may be, as a share of the larger.
const TOLERANCE: f64 = 0.2;

/// One trace's load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums {
    /// Connections seen.
    pub connections: u64,
    /// Payload in both directions at every traced socket. Bytes; `None` where not known.
    pub payload_bytes: Option<u64>,
    /// Length of the trace.
    pub duration_ns: u64,
}

/// Both loads, and whether they can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The first trace's.
    pub base: Sums,
    /// The second's.
    pub new: Sums,
    /// Whether they match.
    pub matched: bool,
    /// What matches, or what does not, in words.
    pub why: String,
    /// The largest of the differences, as a share of the larger value.
    pub apart: f64,
}

/// How far apart, as a share of the larger; 0 where both are 0.
fn apart(a: u64, b: u64) -> f64 {
    let most = a.max(b);
    if most == 0 {
        return 0.0;
    }
    a.abs_diff(b) as f64 / most as f64
}

impl Sums {
    pub(super) fn of(view: &View, survey: &Survey) -> Sums {
        Sums {
            connections: survey.connections_seen,
            payload_bytes: survey.payload_bytes,
            duration_ns: view.duration_ns,
        }
    }
}

/// Compares; `spoiled` are other reasons why the two cannot be compared.
pub(super) fn load(base: Sums, new: Sums, spoiled: &[String]) -> Load {
    let mut against: Vec<String> = spoiled.to_vec();
    let mut most = 0.0f64;
    for (sums, which) in [(&base, "the first"), (&new, "the second")] {
        if sums.connections == 0 {
            against.push(format!("{which} recording has no connection"));
        }
    }
    let mut judge = |a: u64, b: u64, what: &str, show: &dyn Fn(u64) -> String| {
        let far = apart(a, b);
        most = most.max(far);
        if far > TOLERANCE {
            against.push(format!("{what} {} against {}", show(a), show(b)));
        }
    };
    judge(base.connections, new.connections, "connections:", &|n| {
        words::count(n)
    });
    if let (Some(a), Some(b)) = (base.payload_bytes, new.payload_bytes) {
        judge(a, b, "payload:", &|n| words::bytes(n));
    }
    judge(base.duration_ns, new.duration_ns, "duration:", &|n| {
        words::duration(n)
    });
    let payload_known = base.payload_bytes.is_some() && new.payload_bytes.is_some();
    let matched = against.is_empty();
    let why = if matched {
        let payload = if payload_known {
            "payload"
        } else {
            "(payload is not known of both)"
        };
        format!(
            "connections, {payload} and duration differ by {:.0} % at most",
            (most * 100.0).ceil()
        )
    } else {
        against.join("; ")
    };
    Load {
        base,
        new,
        matched,
        why,
        apart: most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(connections: u64, payload: u64, s: u64) -> Sums {
        Sums {
            connections,
            payload_bytes: Some(payload),
            duration_ns: s * 1_000_000_000,
        }
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let l = load(sums(100, 1 << 20, 10), sums(95, 1 << 20, 10), &[]);
        assert!(l.matched && (l.apart - 0.05).abs() < 1e-9, "{l:?}");
        let l = load(sums(100, 1 << 20, 10), sums(200, 1 << 20, 30), &[]);
        assert!(!l.matched);
        assert_eq!(
            l.why,
            "connections: 100 against 200; duration: 10 s against 30 s"
        );
        let l = load(sums(0, 0, 10), sums(0, 0, 10), &[]);
        assert!(!l.matched && l.why.contains("no connection"), "{}", l.why);
    }

    #[test]
    fn unknown_payload_is_said_and_not_taken_for_zero() {
        let mut a = sums(10, 0, 5);
        a.payload_bytes = None;
        let l = load(a, sums(10, 1 << 30, 5), &[]);
        assert!(l.matched && l.why.contains("not known"), "{}", l.why);
    }
}
