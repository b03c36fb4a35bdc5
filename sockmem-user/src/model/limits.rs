//! Changes of one socket's limits: what observations show, and what calls explain.
//!
//! A reading shows that `sk_rcvbuf` or `sk_sndbuf` changed, and the lock flags whether the
//! application ever set it. A `LimitSet` tells which call did it, to what and by whom. Both tell
//! of the same change, in whatever order they arrive; it is listed once.

use sockmem_common::{
    LIMIT_ASKED, LIMIT_NOTSENT_LOWAT, LIMIT_RCVBUF, LIMIT_RESERVED_MEM, LIMIT_SNDBUF,
    LIMIT_WINDOW_CLAMP, LimitSet,
};

use super::address::comm;
use super::{By, Limit, LimitCause, LimitChange};

/// How many changes of limits are kept from either end.
const KEPT: usize = 16;

/// The limits that readings show, too.
const READ: usize = 2;

/// A limit as last told of.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    value: u32,
    /// 0: nothing was told.
    ns: u64,
}

/// Changes of one socket's limits: the first and the last ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    first: Vec<LimitChange>,
    last: Vec<LimitChange>,
    told: [Told; READ],
}

/// Place in `told`.
fn read(what: Limit) -> Option<usize> {
    match what {
        Limit::Rcvbuf => Some(0),
        Limit::Sndbuf => Some(1),
        _ => None,
    }
}

/// What a field is that a record names.
pub(super) fn limit_of(what: u8) -> Option<Limit> {
    Some(match what {
        LIMIT_RCVBUF => Limit::Rcvbuf,
        LIMIT_SNDBUF => Limit::Sndbuf,
        LIMIT_RESERVED_MEM => Limit::ReservedMem,
        LIMIT_WINDOW_CLAMP => Limit::WindowClamp,
        LIMIT_NOTSENT_LOWAT => Limit::NotsentLowat,
        _ => return None,
    })
}

/// Name of an option that sets a limit; numbers as on x86-64 and aarch64.
fn option_name(level: u16, optname: u32) -> Option<&'static str> {
    Some(match (level, optname) {
        (1, 7) => "SO_SNDBUF",
        (1, 8) => "SO_RCVBUF",
        (1, 18) => "SO_RCVLOWAT",
        (1, 32) => "SO_SNDBUFFORCE",
        (1, 33) => "SO_RCVBUFFORCE",
        (1, 73) => "SO_RESERVE_MEM",
        (6, 10) => "TCP_WINDOW_CLAMP",
        (6, 25) => "TCP_NOTSENT_LOWAT",
        _ => return None,
    })
}

/// What the kernel does of its own accord.
fn unasked(from: u32, to: u32) -> LimitCause {
    if to > from {
        LimitCause::Autotune
    } else {
        LimitCause::Clamp
    }
}

impl Limits {
    fn push(&mut self, change: LimitChange) {
        if self.first.len() < KEPT {
            self.first.push(change);
            return;
        }
        if self.last.len() == KEPT {
            self.last.remove(0);
        }
        self.last.push(change);
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LimitChange> {
        self.first.iter().chain(&self.last)
    }

    fn newest(&mut self, what: Limit) -> Option<&mut LimitChange> {
        let all = self.last.iter_mut().rev();
        all.chain(self.first.iter_mut().rev())
            .find(|c| c.what == what)
    }

    fn derived(&mut self, at_ns: u64, what: Limit, from: u32, to: u32, cause: LimitCause) {
        self.push(LimitChange {
            at_ns,
            what,
            from,
            to,
            cause,
            observed: false,
            option: None,
            asked: None,
            by: None,
        });
    }

    /// A reading of `at_ns` shows `to` where the one before showed `from`; `locked`: the
    /// application has set this limit at some time.
    pub(super) fn shown(&mut self, what: Limit, from: u32, to: u32, at_ns: u64, locked: bool) {
        let Some(at) = read(what) else { return };
        let told = self.told[at];
        let from = if told.ns == 0 { from } else { told.value };
        // A reading older than what a call told, which arrived late.
        if from == to || at_ns < told.ns {
            return;
        }
        self.told[at] = Told {
            value: to,
            ns: at_ns,
        };
        let cause = if locked {
            LimitCause::Setsockopt
        } else {
            unasked(from, to)
        };
        self.derived(at_ns, what, from, to, cause);
    }

    /// The lock flag of `what` turned out to be set: the newest change since `after_ns` set it.
    pub(super) fn locked(&mut self, what: Limit, after_ns: u64) {
        if let Some(change) = self.newest(what)
            && !change.observed
            && change.at_ns >= after_ns
        {
            change.cause = LimitCause::Setsockopt;
        }
    }

    /// A call set a limit. `shown` is the newest reading of it, where readings show it. Returns
    /// whether this is the newest that is known of the limit.
    pub(super) fn set(&mut self, what: Limit, l: &LimitSet, shown: Option<u32>) -> bool {
        let (began_ns, t_ns) = (l.began_ns, l.header.t_ns);
        let known = read(what).map(|at| self.told[at]);
        let newest = known.is_none_or(|told| told.ns <= t_ns);
        let mut done = false;
        if l.from != l.to
            && let Some(change) = self.newest(what)
            && !change.observed
            && (began_ns..=t_ns).contains(&change.at_ns)
            && change.to == l.to
        {
            // A reading within the call showed its change.
            if change.from == l.from {
                explain(change, l);
                done = true;
            } else {
                // And with it one of before, which the kernel had made.
                change.to = l.from;
                change.cause = unasked(change.from, l.from);
                change.at_ns = began_ns;
            }
        } else if let (Some(told), Some(shown)) = (known, shown) {
            let last = if told.ns == 0 { shown } else { told.value };
            // No reading has shown yet what the call found.
            if last != l.from && last != 0 && l.from != 0 && told.ns <= began_ns {
                self.derived(began_ns, what, last, l.from, unasked(last, l.from));
            }
        }
        if !done {
            let mut change = LimitChange {
                at_ns: t_ns,
                what,
                from: l.from,
                to: l.to,
                cause: LimitCause::Setsockopt,
                observed: true,
                option: None,
                asked: None,
                by: None,
            };
            explain(&mut change, l);
            self.push(change);
        }
        if newest && let Some(at) = read(what) {
            self.told[at] = Told {
                value: l.to,
                ns: t_ns.max(1),
            };
        }
        newest
    }
}

/// Adds what a call tells of its change.
fn explain(change: &mut LimitChange, l: &LimitSet) {
    change.cause = LimitCause::Setsockopt;
    change.observed = true;
    change.option = option_name(l.level, l.optname);
    change.asked = (l.flags & LIMIT_ASKED != 0).then_some(l.asked);
    change.by = Some(By {
        pid: l.tgid,
        comm: comm(&l.comm),
    });
}
