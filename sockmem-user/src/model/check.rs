//! Limits that a recording is held against, for CI.
//!
//! A limit whose value is not known counts as exceeded: a check that passes because nothing was
//! measured is worse than none.

use std::cmp::Reverse;

use super::compare::{Answer, Comparison};
use super::survey::Survey;
use super::{Bucket, SocketView, View};

/// Sockets named behind a limit.
const NAMED: usize = 5;

/// The limits asked for; sizes in bytes, the others as shares of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Peak of all sockets together.
    pub resident: Option<u64>,
    /// Peak of each socket.
    pub peak_per_socket: Option<u64>,
    /// Most that a socket holds while idle.
    pub idle_per_socket: Option<u64>,
    /// Sum over sockets of the mean held while idle.
    pub idle_total: Option<u64>,
    /// Rise of the low of all sockets together from the first quarter to the last eighth.
    pub growth: Option<u64>,
    /// Changes that were lost.
    pub loss: Option<f64>,
    /// Increase over a baseline.
    pub increase: Option<f64>,
}

/// What a limit is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// A share of 1.
    Share(f64),
}

/// One limit and what it was held against.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The option that asks for it, without its dashes.
    pub name: &'static str,
    /// What is measured, in words.
    pub what: String,
    /// At most this.
    pub limit: Amount,
    /// What it is; `None`: not known, which is not within any limit.
    pub actual: Option<Amount>,
    /// Whether it is within the limit.
    pub ok: bool,
    /// Why it is not, beyond the numbers; or what is to be known where it is.
    pub note: Option<String>,
    /// The sockets behind it, most first; none where it is within the limit.
    pub sockets: Vec<SocketView>,
}

/// A recording that is checked.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// Its picture at the end.
    pub view: &'a View,
    /// What was gathered.
    pub survey: &'a Survey,
    /// Whether it was closed cleanly.
    pub complete: bool,
    /// Compared with the baseline, where there is one.
    pub comparison: Option<&'a Comparison>,
}

const NO_IDLE: &str = "no connection was idle long enough to be measured; let the load pause for longer \
     than --idle-after, or leave this limit out";
const TOO_SHORT: &str = "the recording is too short to tell growth from a beginning";

/// Judges every limit that is asked for, in the order of the options.
#[must_use]
pub fn check(limits: &Limits, it: Checked<'_>) -> Vec<Judged> {
    let (view, survey) = (it.view, it.survey);
    let verdict = &view.verdict;
    let peaks = || survey.top_peak.clone();
    let mut out = Vec::new();
    let mut size = |name,
                    what: &str,
                    limit: Option<u64>,
                    actual: Option<u64>,
                    unknown: &str,
                    sockets: &dyn Fn() -> Vec<SocketView>| {
        let Some(limit) = limit else { return };
        let ok = actual.is_some_and(|n| n <= limit);
        out.push(Judged {
            name,
            what: what.to_owned(),
            limit: Amount::Bytes(limit),
            actual: actual.map(Amount::Bytes),
            ok,
            note: actual.is_none().then(|| unknown.to_owned()),
            sockets: if ok { Vec::new() } else { named(sockets()) },
        });
    };
    size(
        "max-resident",
        "most that all sockets held at once",
        limits.resident,
        Some(view.resident_peak_bytes),
        "",
        &peaks,
    );
    size(
        "max-peak-per-socket",
        "most that one socket held at once",
        limits.peak_per_socket,
        Some(survey.top_peak.first().map_or(0, |s| s.resident_peak_bytes)),
        "",
        &peaks,
    );
    size(
        "max-idle-per-socket",
        "most that one socket held while idle",
        limits.idle_per_socket,
        verdict.idle_resident_max_bytes,
        NO_IDLE,
        &|| survey.top_idle.clone(),
    );
    size(
        "max-idle-total",
        "mean that idle sockets held together",
        limits.idle_total,
        verdict.idle_resident_mean_bytes,
        NO_IDLE,
        &|| {
            by(survey.top_idle.clone(), |s| {
                s.idle_resident_mean_bytes.unwrap_or(0)
            })
        },
    );
    size(
        "max-growth",
        "rise of the low of all sockets together",
        limits.growth,
        growth(&view.timeline),
        TOO_SHORT,
        &|| {
            let live = view.sockets.clone();
            by(live, |s| growth(&s.timeline).unwrap_or(s.resident))
        },
    );
    if let Some(limit) = limits.loss {
        out.push(loss(it, limit));
    }
    if let (Some(limit), Some(comparison)) = (limits.increase, it.comparison) {
        out.extend(increase(comparison, limit, survey));
    }
    out
}

/// By how much the lows rose: from that of the first quarter to that of the last eighth. 0 where
/// they fell; `None` where there is too little to tell.
#[must_use]
pub fn growth(timeline: &[Bucket]) -> Option<u64> {
    let n = timeline.len();
    if n < 8 {
        return None;
    }
    let low = |part: &[Bucket]| part.iter().map(|b| b.min).min().unwrap_or(0);
    Some(low(&timeline[n * 7 / 8..]).saturating_sub(low(&timeline[..n / 4])))
}

fn by(mut sockets: Vec<SocketView>, key: impl Fn(&SocketView) -> u64) -> Vec<SocketView> {
    sockets.sort_by_key(|s| (Reverse(key(s)), s.id));
    sockets
}

/// The first ones, without the timelines that nobody prints.
fn named(mut sockets: Vec<SocketView>) -> Vec<SocketView> {
    sockets.truncate(NAMED);
    sockets
}

fn loss(it: Checked<'_>, limit: f64) -> Judged {
    let loss = &it.view.loss;
    let share = if loss.seen > 0 {
        loss.dropped_ring as f64 / loss.seen as f64
    } else {
        0.0
    };
    let mut notes = Vec::new();
    if loss.dropped_map > 0 {
        notes.push(format!(
            "sockets were not traced: the state map was full {} times",
            loss.dropped_map
        ));
    }
    if loss.lost_closed > 0 {
        notes.push(format!(
            "totals of {} closed sockets are missing",
            loss.lost_closed
        ));
    }
    if !it.complete {
        notes.push("the recording was not closed: its end is missing".to_owned());
    }
    Judged {
        name: "max-loss",
        what: "changes that were seen and not recorded".to_owned(),
        limit: Amount::Share(limit),
        actual: Some(Amount::Share(share)),
        // What is missing altogether is in no share, and spoils every other number.
        ok: share <= limit && notes.is_empty(),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
        sockets: Vec::new(),
    }
}

/// One for each of the metrics that decide.
fn increase(c: &Comparison, limit: f64, survey: &Survey) -> Vec<Judged> {
    let judged = |what: &str, actual, ok, note| Judged {
        name: "max-increase",
        what: what.to_owned(),
        limit: Amount::Share(limit),
        actual,
        ok,
        note,
        sockets: if ok {
            Vec::new()
        } else {
            named(survey.top_peak.clone())
        },
    };
    if c.outcome.answer == Answer::NotComparable {
        return vec![judged(
            "increase over the baseline",
            None,
            false,
            Some(c.outcome.text.clone()),
        )];
    }
    let whats = [
        "increase of the peak of all sockets over the baseline",
        "increase of the mean over time over the baseline",
        "increase of what is held while idle over the baseline",
    ];
    whats
        .into_iter()
        .zip(&c.metrics)
        .filter_map(|(what, m)| {
            // Idle residency that neither has is not asked for here: it has limits of its own.
            let (base, new) = m.base.zip(m.new)?;
            let share = match m.ratio {
                Some(ratio) => ratio - 1.0,
                None if new == 0 => 0.0,
                None => f64::INFINITY,
            };
            let within = share <= limit;
            let note = if !within && !m.increased() {
                Some("within chance, or too little to matter".to_owned())
            } else if !within && base == 0 {
                Some(format!("the baseline held nothing; now {new} bytes"))
            } else {
                None
            };
            let ok = within || !m.increased();
            let actual = share.is_finite().then_some(Amount::Share(share));
            Some(judged(what, actual, ok, note))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::{connection, survey, view};
    use super::super::compare::{Trace, compare};
    use super::*;

    fn parts() -> (View, Survey) {
        let s = survey(&[1e6; 100], vec![connection(443, 50_000); 20]);
        (view(&s), s)
    }

    fn judged(limits: &Limits, view: &View, survey: &Survey, complete: bool) -> Vec<Judged> {
        check(
            limits,
            Checked {
                view,
                survey,
                complete,
                comparison: None,
            },
        )
    }

    #[test]
    fn a_value_equal_to_the_limit_is_within_it() {
        let (v, s) = parts();
        for (limit, ok) in [(999_999, false), (1_000_000, true)] {
            let limits = Limits {
                resident: Some(limit),
                ..Limits::default()
            };
            let all = judged(&limits, &v, &s, true);
            assert_eq!((all.len(), all[0].ok), (1, ok));
            assert_eq!(all[0].actual, Some(Amount::Bytes(1_000_000)));
        }
        assert!(judged(&Limits::default(), &v, &s, true).is_empty());
    }

    #[test]
    fn what_was_not_measured_is_not_within_the_limit() {
        let (mut v, s) = parts();
        v.verdict.idle_resident_mean_bytes = None;
        v.verdict.idle_resident_max_bytes = None;
        v.timeline.clear();
        let limits = Limits {
            idle_per_socket: Some(u64::MAX),
            idle_total: Some(u64::MAX),
            growth: Some(u64::MAX),
            ..Limits::default()
        };
        for j in judged(&limits, &v, &s, true) {
            assert!(!j.ok && j.actual.is_none() && j.note.is_some(), "{j:?}");
        }
    }

    #[test]
    fn any_kind_of_loss_fails_a_check_of_loss() {
        let (v, s) = parts();
        let limits = Limits {
            loss: Some(0.01),
            ..Limits::default()
        };
        let ok = |change: &dyn Fn(&mut View), complete| {
            let mut v = v.clone();
            change(&mut v);
            judged(&limits, &v, &s, complete)[0].ok
        };
        assert!(ok(&|_| {}, true));
        assert!(!ok(&|_| {}, false));
        assert!(!ok(&|v| v.loss.dropped_map = 1, true));
        assert!(!ok(&|v| v.loss.lost_closed = 1, true));
        let lossy =
            |dropped| move |v: &mut View| (v.loss.seen, v.loss.dropped_ring) = (1000, dropped);
        assert!(ok(&lossy(10), true));
        assert!(!ok(&lossy(11), true));
    }

    #[test]
    fn growth_is_that_of_the_lows() {
        let bucket = |i: u64, min, max| Bucket {
            start_ns: i,
            min,
            max,
            last: min,
        };
        // Traffic that comes and goes, on a floor that rises by 30.
        let line: Vec<Bucket> = (0..16).map(|i| bucket(i, 2 * i, 1000)).collect();
        assert_eq!(growth(&line), Some(28));
        let fell: Vec<Bucket> = (0..16).map(|i| bucket(i, 100 - i, 1000)).collect();
        assert_eq!(growth(&fell), Some(0));
        assert_eq!(growth(&line[..7]), None);
    }

    #[test]
    fn an_increase_beyond_chance_fails_and_one_within_does_not() {
        let (v, s) = parts();
        let doubled = survey(&[2e6; 100], vec![connection(443, 100_000); 20]);
        let dv = view(&doubled);
        let trace = |view, survey| Trace {
            view,
            survey,
            page_size: 4096,
        };
        let limits = Limits {
            increase: Some(0.1),
            ..Limits::default()
        };
        let run = |c: &Comparison| {
            check(
                &limits,
                Checked {
                    view: &dv,
                    survey: &doubled,
                    complete: true,
                    comparison: Some(c),
                },
            )
        };
        let up = run(&compare(trace(&v, &s), trace(&dv, &doubled)));
        assert_eq!(up.len(), 3);
        assert!(up.iter().all(|j| !j.ok), "{up:?}");
        let same = run(&compare(trace(&v, &s), trace(&v, &s)));
        assert!(same.iter().all(|j| j.ok), "{same:?}");
        let mut other = s.clone();
        other.connections_seen = 1;
        let not = run(&compare(trace(&v, &other), trace(&v, &s)));
        assert!(
            not.len() == 1 && !not[0].ok && not[0].note.is_some(),
            "{not:?}"
        );
    }
}
