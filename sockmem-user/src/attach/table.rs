//! The one program table.
//!
//! Hooks were chosen so that every change of a TCP socket's counters is followed by at least one
//! of them before the socket lock is next taken; `docs/HOOKS.md` has the reasons and the audit's
//! figures. Selection is by presence: a program is skipped when the running kernel does not have
//! what it needs, and what that costs is said. There are no version comparisons.

use crate::facts::Tier;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At entry of a function, typed.
    Fentry,
    /// At return of a function, typed.
    Fexit,
    /// At a tracepoint, typed.
    TpBtf,
    /// At entry of a function, by breakpoint or ftrace.
    Kprobe,
    /// At return of a function; the entry probe `kp_enter` is attached with it.
    Kretprobe,
    /// At return of a function, of which another program of the table keeps the arguments.
    Return,
    /// A BPF iterator: run on demand.
    Iter,
    /// Attached to nothing: run on demand.
    Run,
}

/// What a program is for; groups can be switched off and are measured one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// rmem_alloc, wmem_queued, forward_alloc and the limits.
    Core,
    /// `sk_wmem_alloc` between sections.
    WmemAlloc,
    /// `sk_backlog.len`.
    Backlog,
    /// The truesize histogram.
    Truesize,
    /// Who owns a socket; processes.
    Ownership,
    /// Who changes a limit.
    Limits,
    /// What happens where a limit is reached.
    Pressure,
    /// Reading sockets on demand.
    Scan,
    /// The test-only audit.
    Audit,
    /// Measuring only.
    Bench,
}

/// What it means when a program cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The tier does not work without it.
    Required,
    /// One of several that do the same; the first present one is taken.
    Either(&'static str),
    /// The trace works without it; the text says what is lost.
    Optional(&'static str),
}

/// A program.
#[derive(Clone, Copy, Debug)]
pub struct ProgramSpec {
    /// Symbol in the object; its first 15 characters are the name in `bpftool prog`.
    pub name: &'static str,
    /// Function, tracepoint or iterator.
    pub hook: &'static str,
    /// How it is attached.
    pub kind: Kind,
    /// In which tiers; all where empty.
    pub tiers: &'static [Tier],
    /// What for.
    pub group: Group,
    /// What its absence means.
    pub need: Need,
    /// Number of parameters the hooked function must have, where variants differ in it.
    pub params: Option<usize>,
    /// Only where `release_sock` may skip `tcp_release_cb` (7.1 and later, seen in BTF).
    pub if_release_cb_is_conditional: bool,
}

const FENTRY: &[Tier] = &[Tier::Fentry];
const KPROBE: &[Tier] = &[Tier::Kprobe];
const TRACEPOINT: &[Tier] = &[Tier::Tracepoint];
/// The tiers with a hook after every change. What is rare, and what fentry cannot take on every
/// kernel, is a kprobe in both.
const EXACT: &[Tier] = &[Tier::Fentry, Tier::Kprobe];
const ALL: &[Tier] = &[];

const fn p(
    name: &'static str,
    hook: &'static str,
    kind: Kind,
    tiers: &'static [Tier],
    group: Group,
    need: Need,
) -> ProgramSpec {
    ProgramSpec {
        name,
        hook,
        kind,
        tiers,
        group,
        need,
        params: None,
        if_release_cb_is_conditional: false,
    }
}

const fn conditional(mut spec: ProgramSpec) -> ProgramSpec {
    spec.if_release_cb_is_conditional = true;
    spec
}

const fn with_params(mut spec: ProgramSpec, n: usize) -> ProgramSpec {
    spec.params = Some(n);
    spec
}

use Group::{Audit, Backlog, Core, Limits, Ownership, Pressure, Scan, Truesize, WmemAlloc};
use Kind::{Fentry, Fexit, Iter, Kprobe, Kretprobe, Return, Run, TpBtf};
use Need::{Either, Optional, Required};

const NO_REAP: Need = Optional("partial reclaim by the delayed-ACK timer (kernels before 6.0)");
const NO_WFREE: Need = Optional("wmem_alloc between sections: it is sampled");
const NO_BACKLOG: Need = Optional("backlog between sections: it is sampled");
const NO_PARENT: Need =
    Optional("which of several listeners on one port a new connection belongs to");
const NO_RX_SIZE: Need = Optional("received skbs in the truesize histogram");
const NO_SPLICE: Need = Optional("reads by splice until the next sample");
const NO_SET: Need = Optional("who set a socket's limit, by which option and to what");
const NO_EXCEED: Need = Optional("charges that TCP's memory limits refused");
const NO_RCVQUEUE: Need = Optional("datagrams dropped at a full receive queue");
const NO_ENTER: Need = Optional("when TCP enters memory pressure: it is sampled");
const NO_PRUNE: Need = Optional("whose receive queue is pruned or collapsed: it is sampled");
const NO_WRITER: Need = Optional("who writes a sysctl");
const AUDIT: Need = Optional("audit");

/// Every program, in the order in which they are attached: first those of one tier, so that a
/// tier that this kernel refuses is refused by its first program.
#[rustfmt::skip] // A table: a line a program.
pub const PROGRAMS: &[ProgramSpec] = &[
    // fentry/fexit.
    p("fx_release_cb", "tcp_release_cb", Fexit, FENTRY, Core, Required),
    conditional(p("fe_release_sock", "release_sock", Fentry, FENTRY, Core, Required)),
    p("fx_rcv_established", "tcp_rcv_established", Fexit, FENTRY, Core, Required),
    p("fx_rcv_state", "tcp_rcv_state_process", Fexit, FENTRY, Core, Required),
    p("fx_write_xmit", "tcp_write_xmit", Fexit, FENTRY, Core, Required),
    p("fx_write_timer", "tcp_write_timer_handler", Fexit, FENTRY, Core, Required),
    p("fx_delack_timer", "tcp_delack_timer_handler", Fexit, FENTRY, Core, NO_REAP),
    p("fx_queue_purge", "tcp_write_queue_purge", Fexit, FENTRY, Core, Required),
    p("fx_kill_queues", "sk_stream_kill_queues", Fexit, FENTRY, Core, Required),
    p("fx_destruct", "inet_sock_destruct", Fexit, FENTRY, Core, Required),
    p("fe_reqsk_add", "inet_csk_reqsk_queue_add", Fentry, FENTRY, Ownership, NO_PARENT),
    p("fe_hashdance", "inet_csk_complete_hashdance", Fentry, FENTRY, Ownership, NO_PARENT),
    p("fx_add_backlog", "tcp_add_backlog", Fexit, FENTRY, Backlog, NO_BACKLOG),
    p("fx_backlog_done", "__release_sock", Fexit, FENTRY, Backlog, NO_BACKLOG),
    p("fx_wfree", "tcp_wfree", Fexit, FENTRY, WmemAlloc, NO_WFREE),
    p("fx_ack_wfree", "__sock_wfree", Fexit, FENTRY, WmemAlloc, NO_WFREE),
    p("fe_rfree", "sock_rfree", Fentry, FENTRY, Truesize, NO_RX_SIZE),
    with_params(p("fx_alloc3", "tcp_stream_alloc_skb", Fexit, FENTRY, Truesize, Either("tx")), 3),
    with_params(p("fx_alloc4", "tcp_stream_alloc_skb", Fexit, FENTRY, Truesize, Either("tx")), 4),
    with_params(p("fx_alloc4", "sk_stream_alloc_skb", Fexit, FENTRY, Truesize, Either("tx")), 4),
    // kprobes on the same functions, for kernels that refuse fentry.
    p("kr_release_cb", "tcp_release_cb", Kretprobe, KPROBE, Core, Required),
    conditional(p("kp_release_sock", "release_sock", Kprobe, KPROBE, Core, Required)),
    p("kr_rcv_established", "tcp_rcv_established", Kretprobe, KPROBE, Core, Required),
    p("kr_rcv_state", "tcp_rcv_state_process", Kretprobe, KPROBE, Core, Required),
    p("kr_write_xmit", "tcp_write_xmit", Kretprobe, KPROBE, Core, Required),
    p("kr_write_timer", "tcp_write_timer_handler", Kretprobe, KPROBE, Core, Required),
    p("kr_delack_timer", "tcp_delack_timer_handler", Kretprobe, KPROBE, Core, NO_REAP),
    p("kr_queue_purge", "tcp_write_queue_purge", Kretprobe, KPROBE, Core, Required),
    p("kr_kill_queues", "sk_stream_kill_queues", Kretprobe, KPROBE, Core, Required),
    p("kr_destruct", "inet_sock_destruct", Kretprobe, KPROBE, Core, Required),
    p("kp_reqsk_add", "inet_csk_reqsk_queue_add", Kprobe, KPROBE, Ownership, NO_PARENT),
    p("kp_hashdance", "inet_csk_complete_hashdance", Kprobe, KPROBE, Ownership, NO_PARENT),
    p("kr_add_backlog", "tcp_add_backlog", Kretprobe, KPROBE, Backlog, NO_BACKLOG),
    p("kr_backlog_done", "__release_sock", Kretprobe, KPROBE, Backlog, NO_BACKLOG),
    p("kr_wfree", "tcp_wfree", Kretprobe, KPROBE, WmemAlloc, NO_WFREE),
    p("kr_ack_wfree", "__sock_wfree", Kretprobe, KPROBE, WmemAlloc, NO_WFREE),
    p("kp_rfree", "sock_rfree", Kprobe, KPROBE, Truesize, NO_RX_SIZE),
    p("kr_alloc", "tcp_stream_alloc_skb", Kretprobe, KPROBE, Truesize, Either("tx")),
    p("kr_alloc", "sk_stream_alloc_skb", Kretprobe, KPROBE, Truesize, Either("tx")),
    // Tracepoints alone.
    p("tp_probe", "tcp_probe", TpBtf, TRACEPOINT, Core, Required),
    p("tp_dev_queue", "net_dev_queue", TpBtf, TRACEPOINT, Core, Required),
    p("tp_space_adjust", "tcp_rcv_space_adjust", TpBtf, TRACEPOINT, Core, NO_SPLICE),
    p("tp_retransmit", "tcp_retransmit_skb", TpBtf, TRACEPOINT, Core, Required),
    p("tp_send_length", "sock_send_length", TpBtf, TRACEPOINT, Core, NO_SEND),
    p("tp_recv_length", "sock_recv_length", TpBtf, TRACEPOINT, Core, NO_RECV),
    p("tp_destroy", "tcp_destroy_sock", TpBtf, TRACEPOINT, Core, Required),
    p("tp_softirq_exit", "softirq_exit", TpBtf, TRACEPOINT, Core, Required),
    p("tp_sched_switch", "sched_switch", TpBtf, TRACEPOINT, Core, Required),
    // Every tier: states, processes, reading on demand.
    p("tp_set_state", "inet_sock_set_state", TpBtf, ALL, Ownership, Required),
    p("tp_fork", "sched_process_fork", TpBtf, ALL, Ownership, Optional("--follow")),
    p("tp_exit", "sched_process_exit", TpBtf, ALL, Ownership, Optional("the ends of children")),
    p("it_baseline", "tcp", Iter, ALL, Scan, Required),
    p("rt_run", "on demand", Run, ALL, Scan, Required),
    p("tp_exceed_buf", "sock_exceed_buf_limit", TpBtf, ALL, Pressure, NO_EXCEED),
    p("tp_rcvqueue", "sock_rcvqueue_full", TpBtf, ALL, Pressure, NO_RCVQUEUE),
    // Rare calls: kprobes in both tiers with hooks after every change.
    p("kr_set_opt", "sock_setsockopt", Return, EXACT, Limits, NO_SET),
    p("kp_sock_opt", "sock_setsockopt", Kprobe, EXACT, Limits, NO_SET),
    p("kr_set_opt", "tcp_setsockopt", Return, EXACT, Limits, NO_SET),
    p("kp_tcp_opt", "tcp_setsockopt", Kprobe, EXACT, Limits, NO_SET),
    p("kp_sysctl", "proc_sys_write", Kprobe, EXACT, Limits, NO_WRITER),
    p("kp_enter_press", "tcp_enter_memory_pressure", Kprobe, EXACT, Pressure, NO_ENTER),
    p("kp_prune_ofo", "tcp_prune_ofo_queue", Kprobe, EXACT, Pressure, NO_PRUNE),
    p("kp_collapse", "tcp_collapse", Kprobe, EXACT, Pressure, NO_PRUNE),
    // Test-only.
    p("au_release_in", "tcp_release_cb", Fentry, ALL, Audit, AUDIT),
    p("au_release_out", "tcp_release_cb", Fexit, ALL, Audit, AUDIT),
    p("au_lock_sock", "lock_sock_nested", Fexit, ALL, Audit, AUDIT),
    p("au_rcv_established", "tcp_rcv_established", Fentry, ALL, Audit, AUDIT),
    p("au_rcv_state", "tcp_rcv_state_process", Fentry, ALL, Audit, AUDIT),
    p("au_write_timer", "tcp_write_timer_handler", Fentry, ALL, Audit, AUDIT),
    p("au_delack_timer", "tcp_delack_timer_handler", Fentry, ALL, Audit, AUDIT),
    p("be_empty", "sock_send_length", TpBtf, ALL, Group::Bench, Optional("bench")),
];

const NO_SEND: Need = Optional("what a send queued, until the next packet or sample");
const NO_RECV: Need = Optional("what a read freed, until the next packet or sample");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_covers_the_same_changes() {
        // fentry and kprobe hook the same functions for the same groups.
        let hooks = |tier: Tier| {
            let mut v: Vec<_> = PROGRAMS
                .iter()
                .filter(|p| p.tiers == [tier])
                .map(|p| (p.hook, format!("{:?}", p.group)))
                .collect();
            v.sort();
            v.dedup();
            v
        };
        assert_eq!(hooks(Tier::Fentry), hooks(Tier::Kprobe));
    }

    #[test]
    fn names_are_told_apart_in_bpftool() {
        for a in PROGRAMS {
            for b in PROGRAMS {
                if a.name != b.name {
                    let cut = |s: &'static str| &s[..s.len().min(15)];
                    assert_ne!(cut(a.name), cut(b.name));
                }
            }
        }
    }

    #[test]
    fn unused_tiers_have_a_core() {
        for tier in [Tier::Fentry, Tier::Kprobe, Tier::Tracepoint] {
            assert!(PROGRAMS.iter().any(|p| {
                p.tiers.contains(&tier) && p.group == Group::Core && p.need == Need::Required
            }));
        }
    }
}
