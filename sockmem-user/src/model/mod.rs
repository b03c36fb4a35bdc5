//! Sockets, owners, timelines, idle residency and verdicts. Pure: fed with
//! records, states and facts, told the time.
//!
//! The truth about a socket is the kernel's `SockState`: its totals, peaks and
//! integrals are exact whatever becomes of events. Scans and the records of a
//! socket's life bring it here whole; a `Change` in between moves a local copy
//! forward with the same arithmetic (`sockmem_common`), until the next scan
//! overrides it. Sums of deltas are never used. Sums over sockets are kept
//! as changes arrive, so that peaks of sums have the events' resolution.
#![forbid(unsafe_code)]

pub mod address;
pub mod check;
pub mod compare;
mod drain;
mod ends;
mod events;
mod feed;
mod groups;
mod hash;
mod held;
mod index;
mod input;
mod limits;
mod processes;
mod random;
mod render;
pub mod snapshot;
mod sockets;
pub mod statement;
pub mod survey;
pub mod synthetic;
mod timeline;
mod totals;
mod truesize;
mod verdict;
mod verdict_text;
mod view;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

pub use groups::owner_kind;
pub use input::Input;
pub use processes::ProcessFacts;
pub use render::Detail;
pub use totals::SocketTotals;
pub use truesize::TruesizeCounts;
pub use view::*;

use drain::Drains;
use events::Events;
use groups::{Group, GroupKey};
use hash::{IdMap, IdSet};
use index::Index;
use processes::Processes;
use sockets::Socket;
use survey::{GROUP_BINS, Series, Surveyor, TOTAL_BINS};
use verdict::Rules;

/// Ids of closed sockets that are remembered, so that a late record or an older scan
/// does not bring one back.
const REMEMBERED: usize = 8192;

/// What a model must know before the first record.
#[derive(Clone, Debug)]
pub struct Config {
    /// Start of the trace; `CLOCK_MONOTONIC`.
    pub start_mono_ns: u64,
    /// Start of the trace; `CLOCK_REALTIME`.
    pub start_unix_ns: u64,
    /// A socket is idle when no payload has moved for this long. As in `Settings::idle_after_ns`.
    pub idle_after_ns: u64,
    /// Bytes.
    pub page_size: u64,
    /// Kind of hooks.
    pub tier: Tier,
    /// How each counter is obtained, by name; a counter without an entry is not known.
    pub coverage: BTreeMap<&'static str, Coverage>,
    /// Whether this kernel keeps `forward_alloc` on idle sockets; `None` where not known.
    pub keeps_forward_alloc: Option<bool>,
    /// Closed sockets kept for the view; older ones live on in the sums only.
    pub max_closed: usize,
    /// Groups kept; beyond, those without sockets are added to the unknown owner's, oldest first.
    pub max_groups: usize,
    /// Buckets of one socket's timeline.
    pub socket_buckets: u16,
    /// Buckets of a group's and of the whole timeline.
    pub sum_buckets: u16,
    /// Whether to gather what a comparison needs: see [`Model::survey`].
    pub survey: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            start_mono_ns: 0,
            start_unix_ns: 0,
            idle_after_ns: 1_000_000_000,
            page_size: 4096,
            tier: Tier::Fentry,
            coverage: BTreeMap::new(),
            keeps_forward_alloc: None,
            max_closed: 4096,
            max_groups: 1024,
            socket_buckets: 60,
            sum_buckets: 120,
            survey: false,
        }
    }
}

/// What a model was fed and could not use as it stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Changes older than a reading that was already known: they added detail only.
    pub late: u64,
    /// Changes of sockets whose `Open` has not come (a scan will bring them) or that are closed.
    pub unmatched: u64,
    /// Sockets that went without their closing totals; those of the last reading stand.
    pub closed_unseen: u64,
}

/// A socket that was destroyed.
#[derive(Clone, Debug)]
struct Closed {
    socket: Socket,
    /// Whose it was: its group may have been given up since.
    key: GroupKey,
}

/// Everything that is known of the trace.
#[derive(Clone, Debug)]
pub struct Model {
    config: Config,
    rules: Rules,
    sockets: Vec<Socket>,
    /// Position in `sockets` by id.
    index: Index,
    groups: Vec<Group>,
    group_index: IdMap<GroupKey, u32>,
    total: Group,
    closed: VecDeque<Closed>,
    gone: IdSet,
    gone_order: VecDeque<u64>,
    processes: Processes,
    drains: Drains,
    events: Events,
    loss: Loss,
    truesize: Option<TruesizeView>,
    truesize_ranges: Vec<(u64, u64)>,
    oddities: Oddities,
    survey: Option<Box<Surveyor>>,
}

impl Model {
    /// An empty one.
    #[must_use]
    pub fn new(mut config: Config) -> Model {
        config.idle_after_ns = config.idle_after_ns.min(sockets::LATEST_NS);
        config.start_mono_ns = config.start_mono_ns.min(sockets::LATEST_NS);
        let rules = Rules {
            idle_after_ns: config.idle_after_ns,
            page_size: if config.page_size == 0 {
                4096
            } else {
                config.page_size
            },
            keeps_forward_alloc: config.keeps_forward_alloc,
        };
        let start = config.start_mono_ns;
        let mut unknown = Group::new(GroupKey::UNKNOWN, start, config.sum_buckets);
        let mut total = unknown.clone();
        if config.survey {
            unknown.series = Some(Box::new(Series::new(start, GROUP_BINS)));
            total.series = Some(Box::new(Series::new(start, TOTAL_BINS)));
        }
        Model {
            rules,
            sockets: Vec::new(),
            index: Index::default(),
            groups: vec![unknown],
            group_index: IdMap::from_iter([(GroupKey::UNKNOWN, 0)]),
            total,
            closed: VecDeque::new(),
            gone: IdSet::default(),
            gone_order: VecDeque::new(),
            processes: Processes::default(),
            drains: Drains::new(),
            events: Events::default(),
            loss: Loss::default(),
            truesize: None,
            truesize_ranges: Vec::new(),
            oddities: Oddities::default(),
            survey: config.survey.then(|| Box::new(Surveyor::new())),
            config,
        }
    }

    /// What it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What did not fit.
    #[must_use]
    pub fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// Live sockets known.
    #[must_use]
    pub fn live(&self) -> usize {
        self.sockets.len()
    }

    /// Facts about a process; those not known leave what was known.
    pub fn process(&mut self, pid: u32, facts: ProcessFacts) {
        self.processes.learn(pid, facts);
    }

    /// A process ended at `t_ns`.
    pub fn process_exited(&mut self, pid: u32, t_ns: u64) {
        self.processes.exited(pid, t_ns);
    }

    /// What became of the changes so far.
    pub fn set_loss(&mut self, loss: Loss) {
        self.loss = loss;
    }

    /// What was counted of skb sizes so far.
    pub fn set_truesize(&mut self, counts: &TruesizeCounts) {
        self.truesize = counts.view();
        self.truesize_ranges = counts.ranges();
    }
}
