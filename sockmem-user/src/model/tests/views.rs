//! What a view shows of a socket and of time.

use super::*;
use sockmem_common::{OWNER_ORPHAN, OWNER_UNKNOWN, TruesizeSum};

#[test]
fn what_is_not_known_is_none_and_never_zero() {
    let mut k = Kernel::new();
    let mut m = Model::new(Config {
        coverage: BTreeMap::new(),
        ..model().config().clone()
    });
    let (id, _) = k.open_with(|s| {
        s.cookie = 0;
        s.inode = 0;
        s.owner_kind = OWNER_UNKNOWN;
        s.owner_comm = [0; 16];
    });
    let state = k.sockets.get_mut(&id).expect("open");
    state.seqs.flags = 0;
    state.counters.rcvbuf = 0;
    k.scan(&mut m);
    let v = k.view(&m);
    let s = &v.sockets[0];
    assert_eq!(
        (s.cookie, s.inode, s.netns, s.drops),
        (None, None, None, None)
    );
    assert_eq!(
        (s.unread_bytes, s.unacked_bytes, s.rcvbuf),
        (None, None, None)
    );
    assert_eq!(
        (s.wmem_alloc, s.optmem, s.backlog, v.totals.backlog),
        (None, None, None, None)
    );
    assert_eq!((s.rate_bytes_per_s, s.resident_mean_bytes), (None, None));
    let unknown = OwnerView {
        pid: None,
        comm: None,
        cgroup: None,
        kind: OwnerKind::Unknown,
    };
    assert_eq!((&s.owner, &v.groups[0].owner), (&unknown, &unknown));
    assert_eq!((v.truesize, v.drain_ns), (None, None));
    assert_eq!(v.groups[0].resident_mean_bytes, None);
}

#[test]
fn a_view_continues_to_now_without_touching_the_model() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(7);
    m.apply(&open);
    let record = k.queue(id, 8 * KIB, 10);
    m.apply(&record);
    k.pass(10 * S);
    let v = k.view(&m);
    assert_eq!(v, k.view(&m));
    let s = &v.sockets[0];
    assert_eq!(s.resident_mean_bytes, Some(8192));
    assert_eq!(
        (s.idle, s.quiet_ns, s.idle_ns, s.last_seen_ns),
        (true, 10 * S, 9 * S, k.now)
    );
    assert_eq!(v.timeline.iter().map(|b| b.max).max(), Some(8192));
    let last = v.timeline.last().expect("ten seconds of timeline");
    assert_eq!((last.min, last.max, last.last), (8192, 8192, 8192));
    assert_eq!(
        (v.duration_ns, v.start_unix_ns),
        (10 * S, 1_700_000_000 * S)
    );
    assert_eq!(
        (s.local.as_str(), s.remote.as_str()),
        ("10.0.0.1:443", "10.0.0.9:40001")
    );
    assert_eq!(
        (s.protocol, s.family, s.state),
        ("tcp", "inet", "ESTABLISHED")
    );

    let brief = m.view_with(k.now, v.now_unix_ns, Detail::LIVE);
    assert!(brief.sockets[0].timeline.is_empty());
    assert_eq!(brief.sockets[0].verdict, s.verdict);
    assert_eq!(brief.verdict, v.verdict);
}

#[test]
fn the_rate_is_that_between_two_scans() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(7);
    m.apply(&open);
    k.scan(&mut m);
    assert_eq!(k.view(&m).sockets[0].rate_bytes_per_s, None);
    k.pass(2 * S);
    drop(k.queue(id, 64 * KIB, 5));
    k.scan(&mut m);
    assert_eq!(k.view(&m).sockets[0].rate_bytes_per_s, Some(32 << 10));
    k.pass(S / 2);
    drop(k.queue(id, 0, 0));
    k.scan(&mut m);
    assert_eq!(k.view(&m).sockets[0].rate_bytes_per_s, Some(-(128 << 10)));
}

#[test]
fn peaks_of_sums_have_the_resolution_of_events() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (a, open_a) = k.open(7);
    let (b, open_b) = k.open(8);
    for record in [
        open_a,
        open_b,
        k.queue(a, 64 * KIB, 1),
        k.queue(b, 32 * KIB, 1),
    ] {
        m.apply(&record);
    }
    for record in [k.queue(a, 0, 0), k.queue(b, 48 * KIB, 1), k.queue(b, 0, 0)] {
        m.apply(&record);
    }
    let v = k.view(&m);
    assert_eq!(v.resident_peak_bytes, 96 << 10);
    let peaks: Vec<u64> = v.groups.iter().map(|g| g.resident_peak_bytes).collect();
    assert_eq!(peaks, [64 << 10, 48 << 10]);
}

#[test]
fn what_goes_the_usual_way_is_its_process_and_what_lingers_is_an_orphan() {
    let (mut k, mut m) = (Kernel::new(), model());
    for lingers in [10 * MS, 30 * S] {
        let (id, open) = k.open(7);
        m.apply(&open);
        k.pass(S);
        let record = k.own(id, |s| s.owner_kind = OWNER_ORPHAN);
        m.apply(&record);
        k.pass(lingers);
        let record = k.close(id);
        m.apply(&record);
    }
    let v = k.view(&m);
    let kinds: Vec<_> = v
        .closed
        .iter()
        .map(|s| (s.id, s.owner.kind, s.owner.pid))
        .collect();
    assert_eq!(
        kinds,
        [
            (1, OwnerKind::Process, Some(7)),
            (2, OwnerKind::Orphan, Some(7))
        ]
    );
    assert!(
        v.closed
            .iter()
            .all(|s| s.closed && !s.idle && s.state == "CLOSE")
    );
    // Orphans that never held anything need no row.
    assert_eq!(v.groups.len(), 1);
}

#[test]
fn loss_truesize_and_facts_are_passed_on() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (_, open) = k.open(7);
    m.apply(&open);
    m.set_loss(Loss {
        seen: 10,
        sent: 8,
        dropped_ring: 2,
        lost_closed: 3,
        ..Loss::default()
    });
    m.set_truesize(&TruesizeCounts {
        buckets: vec![0, 5],
        sum: TruesizeSum {
            count: 5,
            truesize: 5,
            payload: 5,
            max: 1,
        },
    });
    m.process(
        7,
        ProcessFacts {
            comm: None,
            cgroup: Some("/a".into()),
            ..ProcessFacts::default()
        },
    );
    let v = k.view(&m);
    assert_eq!(
        (v.loss.seen, v.loss.dropped_ring, v.loss.lost_closed),
        (10, 2, 3)
    );
    assert_eq!(
        v.truesize.map(|t| (t.count, t.p50, t.payload_ratio)),
        Some((5, 1, Some(1.0)))
    );
    // The name that the kernel gave stays where the collector knows none.
    let owner = &v.groups[0].owner;
    assert_eq!(
        (owner.comm.as_deref(), owner.cgroup.as_deref()),
        (Some("server"), Some("/a"))
    );
    m.process(
        7,
        ProcessFacts {
            comm: Some("renamed".into()),
            cgroup: None,
            ..ProcessFacts::default()
        },
    );
    let owner = k.view(&m).groups.swap_remove(0).owner;
    assert_eq!(
        (owner.comm.as_deref(), owner.cgroup.as_deref()),
        (Some("renamed"), Some("/a"))
    );
}

#[test]
fn a_quiet_socket_stays_within_its_budget() {
    // With the list of its place in it (up to 10 bytes) and its inode (8), well below 300 bytes.
    assert!(size_of::<sockets::Socket>() <= 176);
    // One that held something needs this once more, and a timeline.
    assert!(size_of::<held::Held>() <= 192);
    let (mut k, mut m) = (Kernel::new(), model());
    k.open(7);
    k.scan(&mut m);
    k.pass(10 * S);
    k.scan(&mut m);
    assert!(m.sockets[0].held.is_none());
    assert_eq!(k.view(&m).sockets[0].rate_bytes_per_s, Some(0));
}
