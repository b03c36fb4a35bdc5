//! What is known of processes, by pid; a pid that is used again is another process.

use sockmem_common::SockState;

use super::address::comm;
use super::hash::IdMap;

/// What the collector found out about a process. `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// `comm`, unescaped.
    pub comm: Option<String>,
    /// Path in the cgroup hierarchy, unescaped.
    pub cgroup: Option<String>,
    /// Command line, its arguments joined by blanks, of bounded length; unescaped.
    pub cmdline: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    facts: ProcessFacts,
    exited_ns: Option<u64>,
    generation: u32,
}

/// All processes that own or owned a socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes {
    /// The present process of each pid.
    now: IdMap<u32, Known>,
    /// Those before it, by pid and generation.
    before: IdMap<u64, Known>,
}

fn past(pid: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(pid)
}

impl Processes {
    /// Facts about the present process of `pid`; those not known leave what was known.
    pub(super) fn learn(&mut self, pid: u32, facts: ProcessFacts) {
        let known = &mut self.now.entry(pid).or_default().facts;
        known.comm = facts.comm.or(known.comm.take());
        known.cgroup = facts.cgroup.or(known.cgroup.take());
        known.cmdline = facts.cmdline.or(known.cmdline.take());
    }

    /// The name that a socket's state carries, where no better one is known.
    pub(super) fn learn_from(&mut self, s: &SockState) {
        if s.owner_tgid != 0 {
            let known = self.now.entry(s.owner_tgid).or_default();
            if known.facts.comm.is_none() {
                known.facts.comm = comm(&s.owner_comm);
            }
        }
    }

    /// A new process has this pid.
    pub(super) fn started(&mut self, pid: u32, name: Option<String>) {
        let known = self.now.entry(pid).or_default();
        if known.exited_ns.is_some() {
            let generation = known.generation;
            let gone = std::mem::take(known);
            known.generation = generation.wrapping_add(1);
            self.before.insert(past(pid, generation), gone);
        }
        let known = self.now.entry(pid).or_default();
        if name.is_some() {
            known.facts.comm = name;
        }
    }

    /// It ended.
    pub(super) fn exited(&mut self, pid: u32, t_ns: u64) {
        self.now
            .entry(pid)
            .or_default()
            .exited_ns
            .get_or_insert(t_ns);
    }

    /// A process opened a socket at `t_ns`: if the one known had ended before, it is another.
    pub(super) fn opened(&mut self, pid: u32, t_ns: u64) {
        let ended = self.now.get(&pid).and_then(|k| k.exited_ns);
        if ended.is_some_and(|ended| ended < t_ns) {
            self.started(pid, None);
        }
    }

    /// How many processes had this pid before the present one.
    pub(super) fn generation(&self, pid: u32) -> u32 {
        self.now.get(&pid).map_or(0, |k| k.generation)
    }

    fn get(&self, pid: u32, generation: u32) -> Option<&Known> {
        let now = self.now.get(&pid).filter(|k| k.generation == generation);
        now.or_else(|| self.before.get(&past(pid, generation)))
    }

    /// What is known of one.
    pub(super) fn facts(&self, pid: u32, generation: u32) -> Option<&ProcessFacts> {
        self.get(pid, generation).map(|k| &k.facts)
    }

    /// Whether it ended.
    pub(super) fn has_exited(&self, pid: u32, generation: u32) -> bool {
        self.get(pid, generation)
            .is_some_and(|k| k.exited_ns.is_some())
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.now.len() + self.before.len()
    }

    /// Forgets processes that ended and that `needed` does not name.
    pub(super) fn forget(&mut self, needed: impl Fn(u32, u32) -> bool) {
        self.now
            .retain(|&pid, k| k.exited_ns.is_none() || needed(pid, k.generation));
        self.before
            .retain(|&key, k| needed(key as u32, k.generation));
    }
}
