//! Known-truth workloads. Each checks its own claims (`ensure!`), so that it is a test of the
//! kernel's behaviour even without the tool; `selftest_*` runs them that way.

pub(crate) mod accept;
pub(crate) mod close;
pub(crate) mod copy;
pub(crate) mod fleet;
pub(crate) mod limit;
pub(crate) mod limit_calls;
pub(crate) mod loss;
pub(crate) mod owner;
pub(crate) mod stage;
pub(crate) mod traffic;
pub(crate) mod window;

use anyhow::{Context, Result};

use crate::net::Family;
use stage::Stage;

/// What a workload is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// All its sockets are in one process: compared at every rest, and audited.
    Rest,
    /// Like `Rest`, and repeated over IPv6.
    RestBoth,
    /// Played by one particular test.
    Special,
}

/// One workload.
pub(crate) struct Workload {
    /// Its name on the command line; with `-v6` appended it runs over IPv6.
    pub(crate) name: &'static str,
    /// Which tests use it.
    pub(crate) usage: Use,
    /// Its script.
    pub(crate) body: fn(&mut Stage) -> Result<()>,
}

const fn w(name: &'static str, usage: Use, body: fn(&mut Stage) -> Result<()>) -> Workload {
    Workload { name, usage, body }
}

/// Every workload.
pub(crate) const ALL: &[Workload] = &[
    w("pingpong", Use::RestBoth, traffic::pingpong),
    w("bulk", Use::RestBoth, traffic::bulk),
    w("stalled-reader", Use::RestBoth, traffic::stalled_reader),
    w("slow-reader", Use::Rest, traffic::slow_reader),
    w("stress", Use::Rest, traffic::stress),
    w("pacing", Use::Rest, traffic::pacing),
    w("limits", Use::Rest, traffic::limits),
    w("set-options", Use::Rest, limit_calls::set_options),
    w("autotune", Use::Special, limit_calls::autotune),
    w("overfull", Use::Special, limit_calls::overfull),
    w("overfull-hole", Use::Special, limit_calls::overfull_hole),
    w("pressure", Use::Special, limit_calls::pressure),
    w("lossy", Use::RestBoth, loss::lossy),
    w("collapse", Use::Rest, loss::collapse),
    w("prune", Use::RestBoth, loss::prune),
    w("rto", Use::Rest, loss::rto),
    w("sendfile", Use::Rest, copy::sendfile),
    w("splice", Use::Rest, copy::splice),
    w("zerocopy", Use::RestBoth, copy::zerocopy),
    w("peek", Use::Rest, copy::peek),
    w("ktls", Use::Rest, copy::ktls),
    w("close-plain", Use::RestBoth, close::plain),
    w("close-rst", Use::Rest, close::rst_on_unread),
    w("close-orphan", Use::RestBoth, close::orphan),
    w("close-linger0", Use::Rest, close::linger0),
    w("close-linger1", Use::Rest, close::linger1),
    w("close-half", Use::Rest, close::half),
    w("close-disconnect", Use::Rest, close::disconnect),
    w("orphan-rto", Use::Rest, close::orphan_rto),
    w("accept-queue", Use::RestBoth, accept::queue),
    w("fastopen", Use::RestBoth, accept::fastopen),
    w("reuseport", Use::Rest, accept::reuseport),
    w("zero-window", Use::RestBoth, window::zero_window),
    w("keepalive", Use::Rest, window::keepalive),
    w("fin-wait2", Use::Rest, window::fin_wait2),
    w("many", Use::Special, fleet::many),
    w("churn", Use::Special, fleet::churn),
    w("quiet", Use::Special, fleet::quiet),
    w("burst", Use::Special, fleet::burst),
    w("busy", Use::Special, fleet::busy),
    w("steady-fill", Use::Special, fleet::steady_fill),
    w("unread", Use::Special, window::unread),
    w("unacked", Use::Special, window::unacked),
    w("unsent", Use::Special, window::unsent),
    w("hole", Use::Special, window::hole),
    w("tiny", Use::Special, window::tiny),
    w("limit-never", Use::Special, limit::never),
    w("limit-short", Use::Special, limit::short),
    w("limit-listener", Use::Special, limit::listener),
    w("limit-accepted", Use::Special, limit::accepted),
    w("limit-queued", Use::Special, limit::queued),
    w("fork", Use::Special, owner::fork_child),
    w("fdpass", Use::Special, owner::fd_passing),
    w("exit", Use::Special, owner::exit),
];

/// Plays the workload `name`, which may end in `-v6`.
///
/// # Errors
/// When there is none of that name, or the runner's pipe broke.
pub(crate) fn play(name: &str, host: bool, scale: usize) -> Result<()> {
    let (base, family) = match name.strip_suffix("-v6") {
        Some(base) => (base, Family::V6),
        None => (name, Family::V4),
    };
    let workload = ALL
        .iter()
        .find(|w| w.name == base)
        .with_context(|| format!("no workload {base:?}; `sockmem-e2e workload` lists them"))?;
    stage::play(workload.body, family, host, scale)
}

/// The names to run for the workloads that `keep` selects, IPv6 repeats included.
pub(crate) fn names(keep: impl Fn(Use) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    for w in ALL.iter().filter(|w| keep(w.usage)) {
        out.push(w.name.to_owned());
        if w.usage == Use::RestBoth {
            out.push(format!("{}-v6", w.name));
        }
    }
    out
}
