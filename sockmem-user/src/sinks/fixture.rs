//! Views for the tests of the sinks: made up, but with numbers that agree with each other.

use std::collections::BTreeMap;

use sockmem_common::Reason;

use super::HostFacts;
use crate::facts::KERNEL_COUNTERS;
use crate::model::{
    Answer, Bucket, By, Coverage, EventKind, EventSocket, EventView, GroupView, HeldBy, Limit,
    LimitCause, LimitChange, Loss, OCTAVES, OwnerKind, OwnerView, SocketView, Tier, Totals,
    TruesizeView, Verdict, View,
};

/// Start of the trace, `CLOCK_MONOTONIC`.
const T0: u64 = 1_000_000_000_000;
const S: u64 = 1_000_000_000;
const DURATION: u64 = 12 * S;

pub(super) fn host() -> HostFacts {
    HostFacts {
        kernel: "6.12.1-test".to_owned(),
        hostname: "box".to_owned(),
        boot_id: Some("11111111-2222-3333-4444-555555555555".to_owned()),
        page_size: 4096,
        cpus: 2,
    }
}

fn owner(pid: u32, comm: &str, kind: OwnerKind) -> OwnerView {
    OwnerView {
        pid: Some(pid),
        comm: Some(comm.to_owned()),
        cgroup: Some(format!("/system.slice/{comm}.service")),
        kind,
    }
}

/// A ramp up to `resident` in the first quarter, held from there on.
fn timeline(resident: u64) -> Vec<Bucket> {
    (0..12)
        .map(|i| {
            let last = if i < 3 { resident * i / 3 } else { resident };
            Bucket {
                start_ns: T0 + i * S,
                min: last / 2,
                max: last,
                last,
            }
        })
        .collect()
}

/// A stalled reader that knows everything about itself; `n` makes it another one.
pub(super) fn socket(n: u64) -> SocketView {
    let rmem_alloc = 131_072 * n + 1_792;
    let resident = rmem_alloc + 2_304;
    SocketView {
        id: n,
        cookie: Some(4_096 + n),
        inode: Some(70_000 + n),
        protocol: "tcp",
        family: "inet",
        state: "ESTABLISHED",
        local: "10.0.0.1:443".to_owned(),
        remote: format!("10.0.0.9:{}", 51_320 + n),
        netns: Some(4_026_531_840),
        owner: owner(4242, "nginx", OwnerKind::Process),
        rmem_alloc,
        rcvbuf: Some(6_291_456),
        wmem_alloc: Some(0),
        sndbuf: Some(87_040),
        forward_alloc: 2_304,
        wmem_queued: 0,
        optmem: Some(0),
        backlog: Some(0),
        drops: Some(0),
        resident,
        unread_bytes: Some(rmem_alloc / 2),
        unacked_bytes: Some(0),
        rate_bytes_per_s: Some(0),
        first_seen_ns: T0,
        last_seen_ns: T0 + DURATION,
        closed: false,
        resident_peak_bytes: resident + 4_096,
        rmem_peak_bytes: rmem_alloc + 4_096,
        wmem_queued_peak_bytes: 8_960,
        resident_mean_bytes: Some(resident * 7 / 8),
        quiet_ns: 9 * S,
        idle: true,
        idle_ns: 8 * S,
        idle_resident_mean_bytes: Some(resident),
        idle_resident_max_bytes: Some(resident),
        idle_reason: Some(Reason::Unread),
        idle_reasons: BTreeMap::from([(Reason::Unread, resident)]),
        baseline_bytes: 0,
        charged_bytes: resident + 50_000,
        released_bytes: 50_000,
        changes: 321,
        verdict: Answer::ResidentWhileIdle,
        limits: vec![LimitChange {
            at_ns: T0 + S + S / 4,
            what: Limit::Rcvbuf,
            from: 131_072,
            to: 6_291_456,
            cause: LimitCause::Autotune,
            observed: false,
            option: None,
            asked: None,
            by: None,
        }],
        timeline: timeline(resident),
    }
}

/// A sender at work: unacknowledged data, nothing idle.
pub(super) fn sender(n: u64, owner: OwnerView) -> SocketView {
    let wmem_queued = 43_520 * n;
    let resident = wmem_queued + 3_584;
    SocketView {
        local: format!("[2001:db8::1]:{}", 40_000 + n),
        remote: "[2001:db8::2]:8443".to_owned(),
        family: "inet6",
        owner,
        rmem_alloc: 0,
        wmem_queued,
        wmem_alloc: Some(2_304),
        forward_alloc: 3_584,
        resident,
        unread_bytes: Some(0),
        unacked_bytes: Some(wmem_queued / 2),
        rate_bytes_per_s: Some(12_288 - 20_480 * (n as i64 % 2)),
        quiet_ns: 3_000_000,
        idle: false,
        idle_ns: 0,
        idle_resident_mean_bytes: None,
        idle_resident_max_bytes: None,
        idle_reason: None,
        idle_reasons: BTreeMap::new(),
        resident_mean_bytes: Some(resident / 2),
        verdict: Answer::NotEnoughIdleTime,
        limits: vec![],
        timeline: timeline(resident).split_off(5),
        ..socket(n)
    }
}

/// A socket of which only what cannot be unknown is known.
pub(super) fn unknown_socket() -> SocketView {
    SocketView {
        cookie: None,
        inode: None,
        netns: None,
        owner: OwnerView {
            pid: None,
            comm: None,
            cgroup: None,
            kind: OwnerKind::Unknown,
        },
        rcvbuf: None,
        wmem_alloc: None,
        sndbuf: None,
        optmem: None,
        backlog: None,
        drops: None,
        unread_bytes: None,
        unacked_bytes: None,
        rate_bytes_per_s: None,
        resident_mean_bytes: None,
        idle: false,
        idle_ns: 0,
        idle_resident_mean_bytes: None,
        idle_resident_max_bytes: None,
        idle_reason: None,
        idle_reasons: BTreeMap::new(),
        verdict: Answer::NotEnoughIdleTime,
        limits: vec![],
        timeline: vec![],
        ..socket(0)
    }
}

fn totals(sockets: &[&SocketView]) -> Totals {
    let mut t = Totals {
        backlog: Some(0),
        ..Totals::default()
    };
    for s in sockets {
        t.sockets += 1;
        t.resident += s.resident;
        t.rmem_alloc += s.rmem_alloc;
        t.wmem_queued += s.wmem_queued;
        t.forward_alloc += s.forward_alloc;
        t.backlog = t.backlog.zip(s.backlog).map(|(a, b)| a + b);
        t.unread_bytes += s.unread_bytes.unwrap_or(0);
        t.unacked_bytes += s.unacked_bytes.unwrap_or(0);
        if s.idle {
            t.idle_sockets += 1;
            t.idle_resident += s.resident;
        }
    }
    t
}

fn verdict(sockets: &[&SocketView]) -> Verdict {
    let means: Vec<u64> = sockets
        .iter()
        .filter_map(|s| s.idle_resident_mean_bytes)
        .collect();
    let mean = (!means.is_empty()).then(|| means.iter().sum::<u64>());
    let mut reasons = BTreeMap::new();
    for (reason, bytes) in sockets.iter().flat_map(|s| &s.idle_reasons) {
        *reasons.entry(*reason).or_insert(0) += bytes;
    }
    let (answer, text) = match mean {
        None => (
            Answer::NotEnoughIdleTime,
            "Too little idle time was seen to tell: no connection was quiet for 1 s.".to_owned(),
        ),
        Some(n) => (
            Answer::ResidentWhileIdle,
            format!(
                "Buffers stay resident while connections are idle: idle connections ({} of \
                 them) hold {n} bytes on average, all of it data that the application has not read.",
                means.len()
            ),
        ),
    };
    Verdict {
        answer,
        text,
        idle_resident_mean_bytes: mean,
        idle_resident_max_bytes: sockets
            .iter()
            .filter_map(|s| s.idle_resident_max_bytes)
            .max(),
        reasons,
    }
}

fn group(owner: OwnerView, listener: Option<&str>, live: &[&SocketView], closed: u64) -> GroupView {
    let totals = totals(live);
    GroupView {
        owner,
        listener: listener.map(str::to_owned),
        exited: false,
        totals,
        sockets_seen: totals.sockets + closed,
        resident_peak_bytes: totals.resident + 65_536,
        resident_mean_bytes: Some(totals.resident * 3 / 4),
        charged_bytes: totals.resident + 1_000_000,
        released_bytes: 1_000_000,
        verdict: verdict(live),
        timeline: timeline(totals.resident),
    }
}

/// The view of those sockets, grouped by equal owners in the order met.
fn view(mut sockets: Vec<SocketView>, closed: Vec<SocketView>) -> View {
    sockets.sort_by_key(|s| std::cmp::Reverse(s.resident));
    let mut owners: Vec<OwnerView> = Vec::new();
    for s in sockets.iter().chain(&closed) {
        if !owners.contains(&s.owner) {
            owners.push(s.owner.clone());
        }
    }
    let groups = owners
        .into_iter()
        .map(|o| {
            let live: Vec<&SocketView> = sockets.iter().filter(|s| s.owner == o).collect();
            let gone = closed.iter().filter(|s| s.owner == o).count() as u64;
            let listener = (o.kind == OwnerKind::Listener).then_some("0.0.0.0:443");
            group(o, listener, &live, gone)
        })
        .collect();
    let live: Vec<&SocketView> = sockets.iter().collect();
    let (totals, verdict) = (totals(&live), verdict(&live));
    View {
        start_unix_ns: 1_767_323_033 * S,
        start_mono_ns: T0,
        now_unix_ns: 1_767_323_045 * S,
        duration_ns: DURATION,
        tier: Tier::Fentry,
        coverage: [
            "rmem_alloc",
            "wmem_queued",
            "forward_alloc",
            "backlog",
            "wmem_alloc",
            "optmem",
        ]
        .into_iter()
        .map(|name| (name, Coverage::Exact))
        .collect(),
        loss: Loss {
            seen: 12_345,
            sent: 2_345,
            merged: 10_000,
            recursion_misses: Some(0),
            ..Loss::default()
        },
        idle_after_ns: S,
        keeps_forward_alloc: Some(false),
        groups,
        timeline: timeline(totals.resident),
        resident_peak_bytes: totals.resident + 65_536,
        sockets,
        closed,
        totals,
        verdict,
        events: Vec::new(),
        event_counts: BTreeMap::new(),
        events_lost: 0,
        kernel_counters: KERNEL_COUNTERS.into_iter().map(|name| (name, 0)).collect(),
        truesize: Some(TruesizeView {
            count: 12_000,
            p50: 2_304,
            p90: 4_352,
            p99: 16_640,
            max: 65_792,
            octaves: {
                let mut octaves = [0; OCTAVES];
                octaves[11] = 9_000;
                octaves[12] = 2_400;
                octaves[14] = 480;
                octaves[16] = 120;
                octaves
            },
            payload_ratio: Some(1.834),
        }),
        drain_ns: Some((830_000, 15_200_000, 2_400_000_000)),
        truesize_ranges: vec![
            (1_024, 1_000),
            (2_048, 9_000),
            (4_096, 1_500),
            (8_192, 0),
            (16_384, 480),
            (32_768, 0),
            (65_536, 20),
        ],
        drain_ranges: vec![
            (300_000, 40),
            (1_000_000, 30),
            (3_000_000, 0),
            (10_000_000, 9),
            (30_000_000, 0),
            (100_000_000, 0),
            (300_000_000, 0),
            (1_000_000_000, 1),
        ],
    }
}

/// Nothing seen.
pub(super) fn empty() -> View {
    View {
        loss: Loss::default(),
        truesize: None,
        drain_ns: None,
        truesize_ranges: vec![],
        drain_ranges: vec![],
        keeps_forward_alloc: None,
        kernel_counters: BTreeMap::new(),
        ..view(vec![], vec![])
    }
}

/// One socket whose application does not read.
pub(super) fn stalled_reader() -> View {
    view(vec![socket(1)], vec![])
}

/// A process, what its listener has not accepted, what it has closed; and another process.
pub(super) fn three_groups() -> View {
    let mut waiting = socket(2);
    waiting.owner.kind = OwnerKind::Listener;
    waiting.inode = None;
    let orphan = SocketView {
        state: "FIN_WAIT1",
        inode: None,
        ..sender(3, owner(4242, "nginx", OwnerKind::Orphan))
    };
    let gone = SocketView {
        closed: true,
        state: "CLOSE",
        remote: "10.0.0.9:50000".to_owned(),
        last_seen_ns: T0 + 6 * S,
        ..socket(4)
    };
    view(
        vec![
            socket(1),
            socket(3),
            sender(2, owner(4242, "nginx", OwnerKind::Process)),
            waiting,
            orphan,
            sender(1, owner(977, "postgres", OwnerKind::Process)),
        ],
        vec![gone],
    )
}

/// Tracepoints only, and everything lost that can be lost.
pub(super) fn lossy() -> View {
    let mut v = three_groups();
    v.tier = Tier::Tracepoint;
    v.coverage.insert("wmem_queued", Coverage::Sampled);
    v.coverage.insert("forward_alloc", Coverage::Sampled);
    v.loss.dropped_ring = 1_234;
    v.loss.dropped_map = 17;
    v.loss.lost_closed = 1;
    v.loss.recursion_misses = Some(4);
    v.keeps_forward_alloc = Some(true);
    v
}

/// A limit set by a call, and events of several kinds, known and unknown.
pub(super) fn pressed() -> View {
    let mut v = three_groups();
    let set = LimitChange {
        at_ns: T0 + 2 * S,
        what: Limit::Rcvbuf,
        from: 6_291_456,
        to: 16_384,
        cause: LimitCause::Setsockopt,
        observed: true,
        option: Some("SO_RCVBUF"),
        asked: Some(8192),
        by: Some(By {
            pid: 977,
            comm: Some("tu\x1bner".to_owned()),
        }),
    };
    v.sockets[0].limits.push(LimitChange {
        at_ns: T0 + 3 * S,
        what: Limit::NotsentLowat,
        from: 0,
        to: 131_072,
        option: Some("TCP_NOTSENT_LOWAT"),
        asked: None,
        by: Some(By {
            pid: 978,
            comm: None,
        }),
        ..set.clone()
    });
    v.sockets[0].limits.insert(1, set);
    let held_by = v.groups.iter().take(2).map(|g| HeldBy {
        owner: g.owner.clone(),
        listener: g.listener.clone(),
        resident: g.totals.resident,
        sockets: g.totals.sockets,
    });
    let base = EventView {
        at_ns: T0 + 4 * S,
        kind: EventKind::ExceedLimit,
        observed: true,
        count: 17,
        socket: Some(EventSocket {
            cookie: v.sockets[0].cookie,
            local: v.sockets[0].local.clone(),
            remote: v.sockets[0].remote.clone(),
            owner: v.sockets[0].owner.clone(),
            rmem_alloc: 20_000,
            rcvbuf: 16_384,
        }),
        direction: Some("receive"),
        allocated_pages: Some(900),
        tcp_mem_pages: Some([600, 700, 800]),
        lasted_ns: None,
        name: None,
        netns: None,
        from: Vec::new(),
        to: Vec::new(),
        by: None,
        held_resident: v.totals.resident,
        held_sockets: v.totals.sockets,
        held_by: held_by.collect(),
    };
    let plain = EventView {
        socket: None,
        direction: None,
        allocated_pages: None,
        tcp_mem_pages: None,
        count: 1,
        ..base.clone()
    };
    v.events = vec![
        EventView {
            at_ns: T0 + S,
            kind: EventKind::Sysctl,
            name: Some("net.ipv4.tcp_mem"),
            from: vec![1, 2, 3],
            to: vec![600, 700, 800],
            by: Some(By {
                pid: 88,
                comm: Some("sysctl".to_owned()),
            }),
            ..plain.clone()
        },
        EventView {
            at_ns: T0 + S,
            kind: EventKind::Sysctl,
            observed: false,
            name: Some("net.ipv4.tcp_rmem"),
            netns: Some(4_026_531_840),
            from: vec![4096, 131_072, 6_291_456],
            to: vec![4096, 16_384, 65_536],
            ..plain.clone()
        },
        base,
        EventView {
            at_ns: T0 + 9 * S,
            kind: EventKind::LeavePressure,
            observed: false,
            lasted_ns: Some(5 * S),
            allocated_pages: Some(321),
            held_by: Vec::new(),
            held_resident: 0,
            held_sockets: 0,
            ..plain
        },
    ];
    v.event_counts = [
        (EventKind::Sysctl, 2),
        (EventKind::ExceedLimit, 17),
        (EventKind::LeavePressure, 1),
    ]
    .into();
    v.events_lost = 2;
    v
}

/// `n` sockets of one process.
pub(super) fn many(n: u64) -> View {
    view((1..=n).map(socket).collect(), vec![])
}

/// Names that try to steer the terminal, and one that merely is not English.
pub(super) fn weird_names() -> View {
    let names = [
        "\x1b[2J\x1b[31mroot",
        "a\u{202e}txt.exe",
        "tab\tnew\nline",
        "żółw サーバ",
    ];
    let sockets = names.iter().zip(1..).map(|(name, n)| SocketView {
        owner: owner(100 + n as u32, name, OwnerKind::Process),
        ..socket(n)
    });
    view(sockets.collect(), vec![])
}
