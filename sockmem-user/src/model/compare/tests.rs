//! Comparisons of made-up traces whose truth is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::metrics::{Least, Subject, measure};
use super::*;
use crate::model::random::Random;
use crate::model::survey::{Bin, Class, ClassSums, Role};
use crate::model::{Config, Model};

const S: u64 = 1_000_000_000;
const LEAST: Least = Least {
    bytes: 4096,
    share: LEAST_SHARE,
};

/// A number from the standard normal distribution (Box and Muller 1958).
fn normal(random: &mut Random) -> f64 {
    let unit = |r: &mut Random| (r.below(1 << 53) as f64 + 0.5) / (1u64 << 53) as f64;
    let (a, b) = (unit(random), unit(random));
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// `n` values of variance 1, each remembering the share `phi` of the one before.
pub(crate) fn noise(seed: u64, n: usize, phi: f64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let fresh = (1.0 - phi * phi).sqrt();
    let mut x = normal(&mut random);
    (0..n)
        .map(|_| {
            x = phi * x + fresh * normal(&mut random);
            x
        })
        .collect()
}

pub(crate) fn connection(port: u16, peak: u64) -> Connection {
    Connection {
        class: Class {
            role: Role::Server,
            port,
            remote: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9))),
        },
        pid: 7,
        local: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peak,
        byte_ns: peak as f64 * 1e9,
        idle_mean: Some(peak / 2),
        life_ns: S,
        charged: peak * 3,
        payload: 1 << 20,
    }
}

/// Everything that a trace of `connections` at these levels consists of.
pub(crate) fn survey(levels: &[f64], connections: Vec<Connection>) -> Survey {
    let mut classes: BTreeMap<Class, ClassSums> = BTreeMap::new();
    for c in &connections {
        let sums = classes.entry(c.class).or_default();
        sums.connections += 1;
        sums.byte_ns += c.byte_ns;
        sums.peak = sums.peak.max(c.peak);
    }
    Survey {
        total: levels
            .iter()
            .map(|&l| Bin {
                mean: l,
                high: l as u64,
            })
            .collect(),
        total_bin_ns: S / 100,
        groups: vec![],
        group_bin_ns: S / 100,
        connections_seen: connections.len() as u64,
        payload_bytes: Some(connections.iter().map(|c| c.payload).sum()),
        connections,
        classes,
        listeners: BTreeSet::new(),
        top_peak: vec![],
        top_idle: vec![],
    }
}

/// The view that belongs to it.
pub(crate) fn view(survey: &Survey) -> View {
    let mut model = Model::new(Config::default());
    model.process(7, crate::model::ProcessFacts::default());
    let mut view = model.view(S * 10, S * 10);
    let n = survey.total.len().max(1) as f64;
    let mean = survey.total.iter().map(|b| b.mean).sum::<f64>() / n;
    view.resident_peak_bytes = survey.total.iter().map(|b| b.high).max().unwrap_or(0);
    let idle: u64 = survey.connections.iter().filter_map(|c| c.idle_mean).sum();
    view.verdict.idle_resident_mean_bytes = Some(idle);
    view.groups = vec![crate::model::GroupView {
        owner: crate::model::OwnerView {
            pid: Some(7),
            comm: Some("server".into()),
            cgroup: None,
            kind: crate::model::OwnerKind::Process,
        },
        listener: None,
        exited: false,
        totals: view.totals,
        sockets_seen: survey.connections_seen,
        resident_peak_bytes: view.resident_peak_bytes,
        resident_mean_bytes: Some(mean as u64),
        charged_bytes: survey.connections.iter().map(|c| c.charged).sum(),
        released_bytes: 0,
        verdict: view.verdict.clone(),
        timeline: vec![],
    }];
    view
}

fn compared(a: &Survey, b: &Survey) -> Comparison {
    let (va, vb) = (view(a), view(b));
    let trace = |view, survey| Trace {
        view,
        survey,
        page_size: 4096,
    };
    compare(trace(&va, a), trace(&vb, b))
}

/// A trace of a load with chance in it: a level that wanders by `spread` of its mean and
/// remembers the past by `phi`, and connections whose peaks differ by the same spread.
fn chance(seed: u64, scale: f64, phi: f64, spread: f64) -> Survey {
    let level = 1e7 * scale;
    let levels: Vec<f64> = noise(seed, 300, phi)
        .into_iter()
        .map(|x| (level * (1.0 + spread * x)).max(0.0))
        .collect();
    let connections = noise(seed ^ 0xabcd, 60, 0.0)
        .into_iter()
        .map(|x| connection(443, (2e5 * scale * (1.0 + spread * x).max(0.01)) as u64))
        .collect();
    survey(&levels, connections)
}

#[test]
fn the_same_recording_twice_is_no_change_and_every_difference_zero() {
    let a = chance(1, 1.0, 0.9, 0.3);
    let c = compared(&a, &a);
    assert_eq!(c.outcome.answer, Answer::NoChange, "{}", c.outcome.text);
    assert!(c.load.matched && c.load.apart == 0.0);
    for m in &c.metrics {
        assert_eq!((m.delta, m.changed), (Some(0), false), "{m:?}");
        let Some((lo, hi)) = m.interval_95 else {
            assert_eq!(m.name, "connection_peak_p99_bytes");
            continue;
        };
        assert!(lo <= 0 && 0 <= hi, "{m:?}");
    }
    assert_eq!(c.processes.len(), 1);
    assert_eq!(c.listeners.len(), 1);
    assert_eq!(c.classes.len(), 1);
}

#[test]
fn results_are_the_same_in_every_run() {
    let (a, b) = (chance(1, 1.0, 0.9, 0.3), chance(2, 1.1, 0.9, 0.3));
    assert_eq!(compared(&a, &b), compared(&a, &b));
}

#[test]
fn another_load_is_not_comparable_whatever_the_memory() {
    let a = chance(1, 1.0, 0.5, 0.1);
    let mut b = chance(2, 0.1, 0.5, 0.1);
    b.payload_bytes = b.payload_bytes.map(|n| n / 2);
    let c = compared(&a, &b);
    assert_eq!(c.outcome.answer, Answer::NotComparable);
    assert!(c.outcome.text.contains("payload"), "{}", c.outcome.text);
    // The numbers are there all the same.
    assert!(c.metrics.iter().all(|m| m.delta.is_some()));
}

#[test]
fn sockets_that_were_not_traced_make_it_not_comparable() {
    let a = chance(1, 1.0, 0.5, 0.1);
    let (va, mut vb) = (view(&a), view(&a));
    vb.loss.dropped_map = 1;
    let trace = |view| Trace {
        view,
        survey: &a,
        page_size: 4096,
    };
    let c = compare(trace(&va), trace(&vb));
    assert_eq!(c.outcome.answer, Answer::NotComparable);
    assert!(c.load.why.contains("second"), "{}", c.load.why);
}

#[test]
fn too_little_recorded_is_no_answer() {
    let a = survey(&[1e6; 4], vec![connection(1, 1_000_000)]);
    let b = survey(&[1e3; 4], vec![connection(1, 1_000)]);
    let c = compared(&a, &b);
    assert_eq!(
        c.outcome.answer,
        Answer::NotComparable,
        "{}",
        c.outcome.text
    );
}

#[test]
fn a_load_that_differs_a_little_asks_for_a_larger_difference() {
    let a = chance(1, 1.0, 0.0, 0.001);
    let mut b = chance(2, 0.9, 0.0, 0.001);
    assert_eq!(compared(&a, &b).outcome.answer, Answer::Reduced);
    b.payload_bytes = b.payload_bytes.map(|n| n * 85 / 100);
    let c = compared(&a, &b);
    assert_eq!(c.outcome.answer, Answer::NoChange, "{}", c.outcome.text);
}

#[test]
fn a_process_whose_command_line_changed_is_matched_by_its_name() {
    let with_command = |command: &str| {
        let mut s = chance(1, 1.0, 0.5, 0.1);
        s.groups = vec![crate::model::survey::GroupSeries {
            owner: view(&s).groups[0].owner.clone(),
            command: Some(command.to_owned()),
            listener: None,
            bins: s.total.clone(),
        }];
        s
    };
    let (a, b) = (with_command("server -r 8k"), with_command("server"));
    let names =
        |c: &Comparison| -> Vec<What> { c.processes.iter().map(|p| p.what.clone()).collect() };
    let matched = |command: Option<&str>| {
        vec![What::Process {
            comm: Some("server".to_owned()),
            command: command.map(str::to_owned),
            count: (1, 1),
        }]
    };
    assert_eq!(names(&compared(&a, &b)), matched(None));
    assert_eq!(names(&compared(&a, &a)), matched(Some("server -r 8k")));
}

#[test]
fn what_rose_counts_more_than_what_fell() {
    let a = survey(&[1e6; 100], vec![connection(1, 400_000); 20]);
    // Lower on most of the time and while idle, but far higher now and then.
    let mut spiky = vec![5e5; 100];
    for at in (0..100).filter(|at| at % 10 < 4) {
        spiky[at] = 9e6;
    }
    let c = compared(&a, &survey(&spiky, vec![connection(1, 400_000); 20]));
    assert_eq!(c.outcome.answer, Answer::Increased, "{}", c.outcome.text);
}

#[test]
fn a_percentile_of_few_connections_has_no_interval() {
    let a = chance(1, 1.0, 0.0, 0.3);
    let intervals = compared(&a, &a).metrics;
    // 60 connections: six beyond the 90th percentile, none beyond the 99th.
    assert!(intervals[4].interval_95.is_some());
    assert_eq!(
        (intervals[5].interval_95, intervals[5].changed),
        (None, false)
    );
}

/// The answer, and the number of metrics that are called changed; without the rows.
fn judged(a: &Survey, b: &Survey) -> (Answer, Vec<bool>) {
    let (va, vb) = (view(a), view(b));
    let trace = |view, survey| Trace {
        view,
        survey,
        page_size: 4096,
    };
    let subject = |view, survey| whole(trace(view, survey), true);
    let metrics = measure(&subject(&va, a), &subject(&vb, b), LEAST, 0);
    let load = load::load(Sums::of(&va, a), Sums::of(&vb, b), &[]);
    let changed = metrics.iter().map(|m| m.changed).collect();
    (verdict::outcome(&load, &metrics).answer, changed)
}

#[test]
fn of_200_pairs_alike_at_most_5_percent_are_called_different() {
    for (phi, spread) in [(0.0, 0.3), (0.9, 0.3)] {
        let (mut alarms, mut changed) = (0, [0; METRICS.len()]);
        for i in 0..200 {
            let (a, b) = (
                chance(1000 + 2 * i, 1.0, phi, spread),
                chance(1001 + 2 * i, 1.0, phi, spread),
            );
            let (answer, flags) = judged(&a, &b);
            alarms += u32::from(answer != Answer::NoChange);
            for (sum, flag) in changed.iter_mut().zip(flags) {
                *sum += u32::from(flag);
            }
        }
        assert!(alarms <= 10, "phi {phi}: {alarms} of 200, {changed:?}");
        // Each for itself, with three standard errors of what 200 pairs can tell.
        assert!(changed.iter().all(|n| *n <= 19), "phi {phi}: {changed:?}");
    }
}

#[test]
fn the_interval_of_the_mean_over_time_covers_the_truth() {
    // Of time alone, without what connections add to it. The true difference is zero.
    for phi in [0.0, 0.9] {
        let mut missed = 0;
        for i in 0..100u64 {
            let subject = |seed| {
                let s = chance(seed, 1.0, phi, 0.4);
                let mean = s.total.iter().map(|b| b.mean).sum::<f64>() / s.total.len() as f64;
                Subject {
                    mean: Some(mean as u64),
                    bins: s.total,
                    ..Subject::default()
                }
            };
            let all = measure(&subject(5000 + 2 * i), &subject(5001 + 2 * i), LEAST, i);
            let (lo, hi) = all[1].interval_95.expect("enough bins");
            missed += u32::from(lo > 0 || hi < 0);
        }
        assert!(missed <= 11, "phi {phi}: {missed} of 100");
    }
}

#[test]
fn the_intervals_over_connections_cover_the_truth() {
    let mut missed = [0u32; 4];
    for i in 0..100u64 {
        let surveys = [9000 + 2 * i, 9001 + 2 * i].map(|seed| chance(seed, 1.0, 0.0, 0.4));
        let subject = |s: &Survey| {
            let idle = s.connections.iter().filter_map(|c| c.idle_mean).sum();
            let charged = s.connections.iter().map(|c| c.charged).sum();
            (Some(idle), Some(charged))
        };
        let [a, b] = &surveys;
        let of = |s: &'static str, all: &[Metric]| all.iter().find(|m| m.name == s).cloned();
        let make = |s| {
            let (idle, charged) = subject(s);
            Subject {
                idle,
                charged,
                connections: s.connections.iter().collect(),
                ..Subject::default()
            }
        };
        let all = measure(&make(a), &make(b), LEAST, i);
        let names = [
            "idle_resident_mean_bytes",
            "charged_bytes",
            "connection_peak_p50_bytes",
            "connection_peak_p90_bytes",
        ];
        for (missed, name) in missed.iter_mut().zip(names) {
            let m = of(name, &all).expect("a metric");
            let (lo, hi) = m.interval_95.expect("enough connections");
            *missed += u32::from(lo > 0 || hi < 0);
        }
    }
    // 5 % of 100, and three standard errors (2.2) more.
    assert!(missed.iter().all(|m| *m <= 11), "{missed:?} of 100");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn twice_as_much_is_increased_and_half_is_reduced(seed in 1u64..1 << 40, phi in 0.0f64..0.9, spread in 0.0f64..0.3) {
        let a = chance(seed, 1.0, phi, spread);
        let b = chance(seed ^ 0x5555_5555, 2.0, phi, spread);
        let up = compared(&a, &b);
        prop_assert_eq!(up.outcome.answer, Answer::Increased, "{}", up.outcome.text);
        let down = compared(&b, &a);
        prop_assert_eq!(down.outcome.answer, Answer::Reduced, "{}", down.outcome.text);
        // Exactly twice is exactly that in every metric.
        let mut exact = a.clone();
        for bin in &mut exact.total { bin.mean *= 2.0; bin.high *= 2; }
        for c in &mut exact.connections {
            c.peak *= 2; c.byte_ns *= 2.0; c.charged *= 2; c.idle_mean = c.idle_mean.map(|m| 2 * m);
        }
        for m in compared(&a, &exact).metrics {
            let ratio = m.ratio.expect("both are known");
            prop_assert!((ratio - 2.0).abs() < 1e-3, "{:?}", m);
            prop_assert!(m.increased() || m.interval_95.is_none(), "{:?}", m);
        }
    }

    #[test]
    fn whatever_was_recorded_nothing_fails(
        levels in prop::collection::vec(0f64..1e12, 0..80),
        peaks in prop::collection::vec((any::<u16>(), 0u64..1 << 34), 0..40),
        other in prop::collection::vec((any::<u16>(), 0u64..1 << 34), 0..40),
    ) {
        let make = |peaks: &[(u16, u64)]| {
            survey(&levels, peaks.iter().map(|&(port, peak)| connection(port, peak)).collect())
        };
        let c = compared(&make(&peaks), &make(&other));
        for m in &c.metrics {
            if let Some((lo, hi)) = m.interval_95 {
                let delta = m.delta.expect("an interval is about a difference");
                prop_assert!(lo <= delta && delta <= hi, "{:?}", m);
            }
            prop_assert_eq!(m.ratio.is_some(), m.base.is_some_and(|b| b > 0) && m.new.is_some());
        }
        prop_assert!(c.load.matched || c.outcome.answer == Answer::NotComparable);
    }
}
