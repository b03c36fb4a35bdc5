//! What of one trace is the same as what of the other.
//!
//! Pids, ports of clients and cookies change from run to run. Processes are matched by name (and
//! command line, where it is known), listeners by address, connections by class.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::metrics::{Least, Metric, Subject, measure};
use super::{Trace, scaled};
use crate::model::survey::{Bin, Class, Connection, Role, Survey};
use crate::model::{GroupView, OwnerKind};

/// Rows of each kind; those that held least are left out beyond.
const MOST: usize = 64;

/// What was matched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// All processes of one name.
    Process {
        /// As the kernel gives it; unescaped. `None`: not known.
        comm: Option<String>,
        /// Arguments joined by blanks, unescaped. `None`: not known, or not the same in both.
        command: Option<String>,
        /// How many in the first and in the second trace.
        count: (u64, u64),
    },
    /// A listener.
    Listener {
        /// `address:port`.
        address: String,
    },
    /// Connections of one kind.
    Class(Class),
}

/// One row of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    /// What.
    pub what: What,
    /// Connections (of a process: sockets) in the first and in the second trace; `None` where
    /// that trace has nothing like it.
    pub sockets: (Option<u64>, Option<u64>),
    /// The metrics.
    pub metrics: Vec<Metric>,
}

impl Matched {
    fn size(&self) -> u64 {
        let sides = |m: &Metric| m.base.unwrap_or(0).max(m.new.unwrap_or(0));
        self.metrics.iter().take(2).map(sides).max().unwrap_or(0)
    }
}

/// The largest rows, and how many were left out.
fn largest(mut rows: Vec<Matched>) -> (Vec<Matched>, u64) {
    rows.sort_by(|a, b| b.size().cmp(&a.size()).then_with(|| a.what.cmp(&b.what)));
    let left = rows.len().saturating_sub(MOST) as u64;
    rows.truncate(MOST);
    (rows, left)
}

/// Pairs what has the same key on both sides.
fn pairs<K: Ord + Clone, V>(
    base: BTreeMap<K, V>,
    mut new: BTreeMap<K, V>,
) -> Vec<(K, Option<V>, Option<V>)> {
    let mut out: Vec<_> = base
        .into_iter()
        .map(|(key, value)| {
            let other = new.remove(&key);
            (key, Some(value), other)
        })
        .collect();
    out.extend(new.into_iter().map(|(key, value)| (key, None, Some(value))));
    out
}

/// A repeatable seed of its own for each row.
fn seed(kind: u64, row: usize) -> u64 {
    (kind << 32) | ((row as u64 + 1) << 4)
}

/// Name and command line.
type Name = (Option<String>, Option<String>);
type Processes<'a> = BTreeMap<Name, Vec<&'a GroupView>>;

fn by_name<'a>(trace: Trace<'a>) -> Processes<'a> {
    let commands: BTreeMap<Option<u32>, &String> = trace
        .survey
        .groups
        .iter()
        .filter_map(|g| Some((g.owner.pid, g.command.as_ref()?)))
        .collect();
    let mut out: Processes<'a> = BTreeMap::new();
    for g in &trace.view.groups {
        if g.owner.kind == OwnerKind::Process {
            let command = commands.get(&g.owner.pid).map(|c| (*c).clone());
            let name = (g.owner.comm.clone(), command);
            out.entry(name).or_default().push(g);
        }
    }
    out
}

type Pair<'a> = (Name, Option<Vec<&'a GroupView>>, Option<Vec<&'a GroupView>>);

/// What has no partner by name and command line, by name alone: a limit is often lowered in the
/// command line itself.
fn by_name_alone(pairs: Vec<Pair<'_>>) -> Vec<Pair<'_>> {
    let (both, single): (Vec<_>, Vec<_>) = pairs
        .into_iter()
        .partition(|(_, b, n)| b.is_some() && n.is_some());
    let mut names: BTreeMap<Option<String>, Vec<Pair<'_>>> = BTreeMap::new();
    for pair in single {
        names.entry(pair.0.0.clone()).or_default().push(pair);
    }
    let mut out = both;
    for (comm, pairs) in names {
        let in_both = pairs.iter().any(|p| p.1.is_some()) && pairs.iter().any(|p| p.2.is_some());
        if !in_both {
            out.extend(pairs);
            continue;
        }
        let (mut base, mut new) = (Vec::new(), Vec::new());
        for (_, b, n) in pairs {
            base.extend(b.unwrap_or_default());
            new.extend(n.unwrap_or_default());
        }
        out.push(((comm, None), Some(base), Some(new)));
    }
    out
}

/// All processes of one name, as one subject.
fn process<'a>(trace: Trace<'a>, groups: &[&'a GroupView], idle: bool) -> Subject<'a> {
    let pids: BTreeSet<u32> = groups.iter().filter_map(|g| g.owner.pid).collect();
    let mut bins: Vec<Bin> = Vec::new();
    for series in &trace.survey.groups {
        if series.owner.kind != OwnerKind::Process
            || !series.owner.pid.is_some_and(|pid| pids.contains(&pid))
        {
            continue;
        }
        if bins.len() < series.bins.len() {
            bins.resize(series.bins.len(), Bin::default());
        }
        for (sum, bin) in bins.iter_mut().zip(&series.bins) {
            sum.mean += bin.mean;
            sum.high += bin.high;
        }
    }
    let sum =
        |of: fn(&GroupView) -> Option<u64>| -> Option<u64> { groups.iter().map(|g| of(g)).sum() };
    let idle_known = groups
        .iter()
        .filter_map(|g| g.verdict.idle_resident_mean_bytes);
    Subject {
        // The peaks of several processes need not have come at once, and then their sum is none.
        peak: match groups {
            [one] => Some(one.resident_peak_bytes),
            _ => None,
        },
        mean: sum(|g| g.resident_mean_bytes),
        idle: idle_known.reduce(u64::saturating_add).filter(|_| idle),
        charged: sum(|g| Some(g.charged_bytes)),
        bins,
        connections: trace
            .survey
            .connections
            .iter()
            .filter(|c| pids.contains(&c.pid))
            .collect(),
    }
}

pub(super) fn processes(
    base: Trace<'_>,
    new: Trace<'_>,
    least: Least,
    idle: bool,
) -> (Vec<Matched>, u64) {
    let rows = by_name_alone(pairs(by_name(base), by_name(new)))
        .into_iter()
        .enumerate()
        .map(|(row, ((comm, command), b, n))| {
            let subject = |trace, groups: &Option<Vec<_>>| {
                groups
                    .as_ref()
                    .map_or_else(Subject::default, |g| process(trace, g, idle))
            };
            let count = |groups: &Option<Vec<_>>| groups.as_ref().map_or(0, |g| g.len() as u64);
            let sockets = |groups: &Option<Vec<&GroupView>>| {
                let all = groups.as_ref()?.iter();
                Some(all.map(|g| g.sockets_seen).sum())
            };
            Matched {
                sockets: (sockets(&b), sockets(&n)),
                metrics: measure(&subject(base, &b), &subject(new, &n), least, seed(1, row)),
                what: What::Process {
                    comm,
                    command,
                    count: (count(&b), count(&n)),
                },
            }
        });
    largest(rows.collect())
}

/// Sums over connections without a level of their own over time: no peak of the sum is known.
fn connected<'a>(trace: Trace<'a>, connections: Vec<&'a Connection>) -> Subject<'a> {
    let survey = trace.survey;
    let area = scaled(&connections, survey, |c| c.byte_ns);
    let idle = connections.iter().any(|c| c.idle_mean.is_some());
    let duration = trace.view.duration_ns;
    Subject {
        peak: None,
        mean: (duration > 0).then(|| (area / duration as f64).round() as u64),
        idle: (idle && duration > 0).then(|| {
            // Weighted by their share of the trace: connections one after the other do not add up.
            let held = scaled(&connections, survey, |c| {
                c.idle_mean.unwrap_or(0) as f64 * c.life_ns as f64
            });
            (held / duration as f64).round() as u64
        }),
        charged: Some(scaled(&connections, survey, |c| c.charged as f64).round() as u64),
        bins: Vec::new(),
        connections,
    }
}

fn matched<'a>(
    what: What,
    sides: [Option<(Trace<'a>, Vec<&'a Connection>, u64)>; 2],
    least: Least,
    seed: u64,
) -> Matched {
    let [b, n] = sides;
    let seen = |side: &Option<(_, _, u64)>| side.as_ref().map(|(_, _, seen)| *seen);
    let sockets = (seen(&b), seen(&n));
    let subject = |side: Option<(Trace<'a>, Vec<&'a Connection>, u64)>| {
        side.map_or_else(Subject::default, |(trace, c, _)| connected(trace, c))
    };
    Matched {
        what,
        sockets,
        metrics: measure(&subject(b), &subject(n), least, seed),
    }
}

/// The listener that a server's connection came from: that of its address, or of all addresses.
fn listener_of(c: &Connection, survey: &Survey) -> Option<(IpAddr, u16)> {
    if c.class.role != Role::Server {
        return None;
    }
    let port = c.class.port;
    let exact = (c.local, port);
    if survey.listeners.contains(&exact) {
        return Some(exact);
    }
    let any = survey
        .listeners
        .iter()
        .find(|(ip, p)| *p == port && ip.is_unspecified());
    // A listener that was closed before the trace: its connections' own address stands for it.
    Some(any.copied().unwrap_or(exact))
}

fn by_listener<'a>(trace: Trace<'a>) -> BTreeMap<(IpAddr, u16), Vec<&'a Connection>> {
    let mut out: BTreeMap<_, Vec<&Connection>> = BTreeMap::new();
    for c in &trace.survey.connections {
        if let Some(key) = listener_of(c, trace.survey) {
            out.entry(key).or_default().push(c);
        }
    }
    out
}

pub(super) fn listeners(base: Trace<'_>, new: Trace<'_>, least: Least) -> (Vec<Matched>, u64) {
    let rows = pairs(by_listener(base), by_listener(new))
        .into_iter()
        .enumerate()
        .map(|(row, ((ip, port), b, n))| {
            let side = |trace, connections: Option<Vec<_>>| {
                let connections = connections?;
                let seen = scaled_count(trace, connections.len());
                Some((trace, connections, seen))
            };
            let address = std::net::SocketAddr::new(ip, port).to_string();
            matched(
                What::Listener { address },
                [side(base, b), side(new, n)],
                least,
                seed(2, row),
            )
        });
    largest(rows.collect())
}

/// How many connections `kept` of a sample stand for.
fn scaled_count(trace: Trace<'_>, kept: usize) -> u64 {
    let all = trace.survey.connections.len().max(1) as f64;
    (kept as f64 * trace.survey.connections_seen as f64 / all).round() as u64
}

/// How many connections of each class, and those that were kept.
fn by_class<'a>(trace: Trace<'a>) -> BTreeMap<Class, (u64, Vec<&'a Connection>)> {
    let sums = trace.survey.classes.iter();
    let mut out: BTreeMap<Class, (u64, Vec<&Connection>)> = sums
        .map(|(class, sums)| (*class, (sums.connections, Vec::new())))
        .collect();
    for c in &trace.survey.connections {
        // Those of classes beyond the bound are in no row; the sums of the whole have them.
        if let Some((_, kept)) = out.get_mut(&c.class) {
            kept.push(c);
        }
    }
    out
}

pub(super) fn classes(base: Trace<'_>, new: Trace<'_>, least: Least) -> (Vec<Matched>, u64) {
    // Resampling takes time: only the classes that may be shown are worth it.
    let mut rows = pairs(by_class(base), by_class(new));
    let held = |class: &Class| {
        let of = |t: Trace<'_>| t.survey.classes.get(class).map_or(0.0, |s| s.byte_ns);
        of(base).max(of(new))
    };
    rows.sort_by(|(a, ..), (b, ..)| held(b).total_cmp(&held(a)).then_with(|| a.cmp(b)));
    let left = rows.len().saturating_sub(MOST) as u64;
    rows.truncate(MOST);
    let rows = rows.into_iter().enumerate().map(|(row, (class, b, n))| {
        let b = b.map(|(seen, kept)| (base, kept, seen));
        let n = n.map(|(seen, kept)| (new, kept, seen));
        matched(What::Class(class), [b, n], least, seed(3, row))
    });
    (largest(rows.collect()).0, left)
}
