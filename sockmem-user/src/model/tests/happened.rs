//! Limits that calls set, and what happens where limits are reached.

use proptest::prelude::*;
use sockmem_common::{
    LIMIT_ASKED, LIMIT_NOTSENT_LOWAT, LIMIT_RCVBUF, LimitSet, PRESSURE_COLLAPSE, PRESSURE_ENTER,
    PRESSURE_EXCEED, PRESSURE_MEM, Pressure, PressureCounts, SysctlWrite,
};

use super::*;
use crate::facts::{HostSample, NetCounters, Setting, SettingValue};

/// SO_RCVBUF `asked` of process 77, from the first to the second value, in the last millisecond.
fn set_rcvbuf(k: &Kernel, id: u64, asked: i32, from: u32, to: u32) -> Record {
    Record::Limit(LimitSet {
        header: Header {
            t_ns: k.now,
            id,
            ..Header::default()
        },
        began_ns: k.now - MS,
        asked,
        from,
        to,
        tgid: 77,
        what: LIMIT_RCVBUF,
        flags: LIMIT_ASKED,
        level: 1,
        optname: 8,
        comm: *b"tuner\0\0\0\0\0\0\0\0\0\0\0",
    })
}

/// The socket's `sk_rcvbuf` becomes `to`.
fn rcvbuf(k: &mut Kernel, id: u64, to: u32) -> Record {
    let after = Counters {
        rcvbuf: to,
        ..k.sockets[&id].counters
    };
    k.set(id, after, |_| {})
}

fn limits(k: &Kernel, m: &Model) -> Vec<LimitChange> {
    k.view(m).sockets[0].limits.clone()
}

const INITIAL: u32 = 131_072;

#[test]
fn a_call_and_the_reading_that_shows_its_change_are_one_entry() {
    for reading_first in [true, false] {
        let (mut k, mut m) = (Kernel::new(), model());
        let (id, open) = k.open(42);
        m.apply(&open);
        k.pass(S);
        let reading = rcvbuf(&mut k, id, 16_384);
        k.pass(MS / 2);
        let call = set_rcvbuf(&k, id, 8192, INITIAL, 16_384);
        if reading_first {
            m.apply(&reading);
        }
        m.apply(&call);
        // Merged in the kernel, or late.
        k.pass(S);
        k.scan(&mut m);
        let all = limits(&k, &m);
        assert_eq!(all.len(), 1, "{all:?}");
        let only = &all[0];
        assert_eq!(
            (only.from, only.to, only.asked),
            (INITIAL, 16_384, Some(8192))
        );
        assert_eq!((only.cause, only.observed), (LimitCause::Setsockopt, true));
        assert_eq!(only.option, Some("SO_RCVBUF"));
        let by = only.by.as_ref().expect("it is known by whom");
        assert_eq!((by.pid, by.comm.as_deref()), (77, Some("tuner")));
    }
}

#[test]
fn what_the_kernel_did_before_a_call_is_told_apart_from_it() {
    for reading_first in [true, false] {
        let (mut k, mut m) = (Kernel::new(), model());
        let (id, open) = k.open(42);
        m.apply(&open);
        k.pass(S);
        // Raised to 200,000 without a record of it, then set.
        let reading = rcvbuf(&mut k, id, 16_384);
        k.pass(MS / 2);
        if reading_first {
            m.apply(&reading);
        }
        m.apply(&set_rcvbuf(&k, id, 8192, 200_000, 16_384));
        let all = limits(&k, &m);
        let short: Vec<_> = all
            .iter()
            .map(|c| (c.from, c.to, c.cause, c.by.is_some()))
            .collect();
        assert_eq!(
            short,
            [
                (INITIAL, 200_000, LimitCause::Autotune, false),
                (200_000, 16_384, LimitCause::Setsockopt, true)
            ]
        );
    }
}

#[test]
fn a_call_without_effect_and_one_on_another_limit_are_entries_of_their_own() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(42);
    m.apply(&open);
    k.pass(S);
    m.apply(&set_rcvbuf(&k, id, 65_536, INITIAL, INITIAL));
    let Record::Limit(call) = set_rcvbuf(&k, id, 1000, 0, 1000) else {
        unreachable!()
    };
    m.apply(&Record::Limit(LimitSet {
        what: LIMIT_NOTSENT_LOWAT,
        level: 6,
        optname: 25,
        flags: 0,
        ..call
    }));
    // A record of a kind of limit that this version does not know.
    m.apply(&Record::Limit(LimitSet { what: 99, ..call }));
    let all = limits(&k, &m);
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!((all[0].from, all[0].to), (INITIAL, INITIAL));
    assert_eq!(all[1].what, Limit::NotsentLowat);
    assert_eq!(
        (all[1].option, all[1].asked),
        (Some("TCP_NOTSENT_LOWAT"), None)
    );
}

#[test]
fn a_late_reading_does_not_undo_a_call() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(42);
    m.apply(&open);
    k.pass(S);
    let late = k.queue(id, 10 * KIB, 8000);
    k.pass(10 * MS);
    let shown = rcvbuf(&mut k, id, 16_384);
    m.apply(&set_rcvbuf(&k, id, 8192, INITIAL, 16_384));
    m.apply(&late);
    m.apply(&shown);
    k.pass(S);
    k.scan(&mut m);
    assert_eq!(limits(&k, &m).len(), 1, "{:?}", limits(&k, &m));
    assert_eq!(k.view(&m).sockets[0].rcvbuf, Some(16_384));
}

proptest! {
    /// However many of the readings are lost or merged, every call is told once, and each change
    /// begins where the one before ended.
    #[test]
    fn changes_are_a_chain(steps in prop::collection::vec((1u32..400, any::<bool>(), any::<bool>()), 1..14)) {
        let (mut k, mut m) = (Kernel::new(), model());
        let (id, open) = k.open(42);
        m.apply(&open);
        let mut value = INITIAL;
        let mut calls = 0;
        for (to, by_call, told) in steps {
            let to = to * 4096;
            k.pass(10 * MS);
            let reading = rcvbuf(&mut k, id, to);
            if told {
                m.apply(&reading);
            }
            if by_call {
                k.pass(MS / 2);
                m.apply(&set_rcvbuf(&k, id, 1, value, to));
                calls += 1;
            }
            value = to;
        }
        k.pass(S);
        k.scan(&mut m);
        let all = limits(&k, &m);
        prop_assert_eq!(all.iter().filter(|c| c.observed).count(), calls);
        let mut last = INITIAL;
        for c in &all {
            prop_assert_eq!(c.from, last, "{:?}", all);
            prop_assert!(c.from != c.to || c.observed);
            last = c.to;
        }
        prop_assert_eq!(last, value);
        prop_assert!(all.is_sorted_by_key(|c| c.at_ns));
    }
}

fn pressure(k: &Kernel, id: u64, kind: u8, count: u64) -> Record {
    Record::Pressure(Pressure {
        header: Header {
            t_ns: k.now,
            id,
            ..Header::default()
        },
        count,
        allocated: 900,
        limits: [600, 700, 800],
        rmem_alloc: 20_000,
        rcvbuf: 16_384,
        kind,
        flags: if kind == PRESSURE_COLLAPSE {
            0
        } else {
            PRESSURE_MEM
        },
        direction: 1,
        ..Pressure::default()
    })
}

#[test]
fn an_event_tells_who_held_what_at_that_moment() {
    let (mut k, mut m) = (Kernel::new(), model());
    for pid in 1..=7 {
        let (id, open) = k.open(pid);
        m.apply(&open);
        let queued = k.queue(id, pid * 10 * KIB, 100);
        m.apply(&queued);
    }
    k.pass(S);
    m.apply(&pressure(&k, 3, PRESSURE_EXCEED, 5));
    m.apply(&pressure(&k, 0, PRESSURE_EXCEED, 1));
    m.apply(&pressure(&k, 3, PRESSURE_COLLAPSE, 1));
    m.apply(&pressure(&k, 3, 200, 1));
    // What comes later does not change what was.
    for id in 1..=7 {
        let empty = k.queue(id, 0, 0);
        m.apply(&empty);
    }
    let view = k.view(&m);
    assert_eq!(view.events.len(), 3);
    assert_eq!(
        view.event_counts,
        BTreeMap::from([(EventKind::ExceedLimit, 6), (EventKind::Collapse, 1)])
    );
    let e = &view.events[0];
    assert_eq!(
        (e.kind, e.count, e.observed),
        (EventKind::ExceedLimit, 5, true)
    );
    assert_eq!(
        (e.direction, e.allocated_pages),
        (Some("receive"), Some(900))
    );
    assert_eq!(e.tcp_mem_pages, Some([600, 700, 800]));
    let socket = e.socket.as_ref().expect("it is traced");
    assert_eq!((socket.owner.pid, socket.rmem_alloc), (Some(3), 20_000));
    let charged = |pid: u64| (pid * 10_240).next_multiple_of(4096);
    assert_eq!(e.held_resident, (1..=7).map(charged).sum::<u64>());
    assert_eq!(e.held_sockets, 7);
    let top: Vec<_> = e
        .held_by
        .iter()
        .map(|h| (h.owner.pid, h.resident))
        .collect();
    let expected: Vec<_> = [7, 6, 5, 4, 3].map(|p| (Some(p), charged(p.into()))).into();
    assert_eq!(top, expected);
    assert_eq!(view.events[1].socket, None);
    let collapse = &view.events[2];
    assert_eq!((collapse.allocated_pages, collapse.direction), (None, None));
    let live = m.view_with(k.now, 0, Detail::LIVE);
    assert!(live.events.is_empty() && live.event_counts == view.event_counts);
}

#[test]
fn storms_are_counted_and_the_first_and_the_last_kept() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(1);
    m.apply(&open);
    for _ in 0..1000 {
        k.pass(MS);
        m.apply(&pressure(&k, id, PRESSURE_COLLAPSE, 2));
    }
    m.apply(&pressure(&k, id, PRESSURE_ENTER, 1));
    let view = k.view(&m);
    assert_eq!(view.event_counts[&EventKind::Collapse], 2000);
    assert_eq!(view.events.len(), 33);
    assert_eq!(view.events[0].at_ns, START + MS);
    assert!(
        view.events
            .iter()
            .any(|e| e.kind == EventKind::EnterPressure)
    );
    assert!(view.events.is_sorted_by_key(|e| e.at_ns));
    // The programs saw more than they sent.
    let mut counts = PressureCounts::default();
    counts.seen[usize::from(PRESSURE_COLLAPSE)] = 2017;
    counts.lost = 3;
    m.feed(Input::Pressure(&counts));
    let view = k.view(&m);
    assert_eq!(view.event_counts[&EventKind::Collapse], 2017);
    assert_eq!(view.events_lost, 3);
}

fn sample(k: &Kernel, rmem: u64, counters: [u64; 6], under: bool) -> HostSample {
    HostSample {
        at_ns: k.now,
        settings: vec![
            SettingValue {
                setting: Setting::TcpRmem,
                netns: 5,
                values: vec![4096, rmem, 6_291_456],
            },
            SettingValue {
                setting: Setting::RmemMax,
                netns: 0,
                values: vec![212_992],
            },
        ],
        counters: vec![NetCounters {
            netns: 5,
            values: counters.map(Some),
        }],
        tcp_pages: Some(321),
        under_pressure: Some(under),
    }
}

fn written(k: &Kernel, name: &[u8; 8], netns: u32) -> Record {
    let mut w = SysctlWrite {
        header: Header {
            t_ns: k.now,
            id: 88,
            ..Header::default()
        },
        comm: *b"sysctl\0\0\0\0\0\0\0\0\0\0",
        netns,
        ..SysctlWrite::default()
    };
    w.name[..8].copy_from_slice(name);
    Record::Sysctl(w)
}

#[test]
fn a_changed_sysctl_is_an_event_with_its_writer_where_one_was_seen() {
    let (mut k, mut m) = (Kernel::new(), model());
    let zero = [0; 6];
    m.feed(Input::Host(&sample(&k, 100_000, zero, false)));
    k.pass(S);
    m.feed(Input::Host(&sample(&k, 100_001, zero, false)));
    k.pass(S);
    // Of another namespace, and of another setting.
    m.apply(&written(&k, b"tcp_rmem", 6));
    m.apply(&written(&k, b"tcp_wmem", 5));
    m.apply(&written(&k, b"nonsense", 5));
    m.feed(Input::Host(&sample(&k, 100_002, zero, false)));
    k.pass(S);
    m.apply(&written(&k, b"tcp_rmem", 5));
    let written_ns = k.now;
    k.pass(S);
    m.feed(Input::Host(&sample(&k, 100_003, zero, false)));
    // The writer of one change is not that of the next.
    k.pass(S);
    m.feed(Input::Host(&sample(&k, 100_004, zero, false)));
    let view = k.view(&m);
    let told: Vec<_> = view
        .events
        .iter()
        .map(|e| (e.from[1], e.to[1], e.observed, e.by.as_ref().map(|b| b.pid)))
        .collect();
    assert_eq!(
        told,
        [
            (100_000, 100_001, false, None),
            (100_001, 100_002, false, None),
            (100_002, 100_003, true, Some(88)),
            (100_003, 100_004, false, None),
        ]
    );
    let e = &view.events[2];
    assert_eq!(
        (e.name, e.netns, e.at_ns),
        (Some("net.ipv4.tcp_rmem"), Some(5), written_ns)
    );
    assert_eq!(view.event_counts, BTreeMap::from([(EventKind::Sysctl, 4)]));
}

#[test]
fn the_kernels_counters_are_told_as_growth_and_absent_ones_not() {
    let (mut k, mut m) = (Kernel::new(), model());
    assert!(k.view(&m).kernel_counters.is_empty(), "not known, not 0");
    m.feed(Input::Host(&sample(&k, 1, [10, 20, 30, 40, 0, 0], false)));
    k.pass(S);
    let mut second = sample(&k, 1, [13, 20, 31, 45, 0, 0], false);
    second.counters[0].values[1] = None;
    m.feed(Input::Host(&second));
    k.pass(S);
    m.feed(Input::Host(&sample(&k, 1, [13, 22, 31, 45, 0, 0], false)));
    let view = k.view(&m);
    assert_eq!(view.kernel_counters["PruneCalled"], 3);
    assert_eq!(view.kernel_counters["RcvPruned"], 2);
    assert_eq!(view.kernel_counters["TCPRcvCollapsed"], 5);
    assert!(
        view.events.is_empty(),
        "with hooks, records tell: {:?}",
        view.events
    );
}

#[test]
fn with_tracepoints_alone_the_counters_make_the_events() {
    let (mut k, base) = (Kernel::new(), model());
    let mut m = Model::new(Config {
        tier: Tier::Tracepoint,
        ..base.config().clone()
    });
    m.feed(Input::Host(&sample(&k, 1, [0; 6], false)));
    k.pass(S);
    m.feed(Input::Host(&sample(&k, 1, [9, 1, 2, 3, 0, 0], false)));
    let view = k.view(&m);
    assert_eq!(
        view.event_counts,
        BTreeMap::from([
            (EventKind::PruneRcv, 1),
            (EventKind::PruneOfo, 2),
            (EventKind::Collapse, 3)
        ])
    );
    assert!(
        view.events
            .iter()
            .all(|e| !e.observed && e.socket.is_none())
    );
}

#[test]
fn pressure_that_ended_is_told_with_the_kernels_own_duration() {
    let (mut k, mut m) = (Kernel::new(), model());
    m.feed(Input::Host(&sample(&k, 1, [0; 6], false)));
    k.pass(S);
    m.apply(&pressure(&k, 0, PRESSURE_ENTER, 1));
    let entered_ns = k.now;
    k.pass(S);
    m.feed(Input::Host(&sample(&k, 1, [0, 0, 0, 0, 1, 0], true)));
    k.pass(S);
    m.feed(Input::Host(&sample(&k, 1, [0, 0, 0, 0, 1, 1500], false)));
    let view = k.view(&m);
    let told: Vec<_> = view
        .events
        .iter()
        .map(|e| (e.kind, e.observed, e.at_ns, e.lasted_ns))
        .collect();
    assert_eq!(
        told,
        [
            (EventKind::EnterPressure, true, entered_ns, None),
            (
                EventKind::LeavePressure,
                false,
                entered_ns + 1500 * MS,
                Some(1500 * MS)
            ),
        ]
    );
}

#[test]
fn pressure_between_two_samples_and_at_the_start_is_not_missed() {
    let (mut k, mut m) = (Kernel::new(), model());
    // Under pressure when the trace began.
    m.feed(Input::Host(&sample(&k, 1, [0, 0, 0, 0, 7, 900], true)));
    k.pass(S);
    // Left, entered and left again.
    m.feed(Input::Host(&sample(&k, 1, [0, 0, 0, 0, 8, 1000], false)));
    k.pass(S);
    // Entered and left.
    m.feed(Input::Host(&sample(&k, 1, [0, 0, 0, 0, 9, 1001], false)));
    let view = k.view(&m);
    assert_eq!(
        view.event_counts,
        BTreeMap::from([(EventKind::EnterPressure, 3), (EventKind::LeavePressure, 3)])
    );
    assert!(view.events.iter().all(|e| !e.observed));
}
