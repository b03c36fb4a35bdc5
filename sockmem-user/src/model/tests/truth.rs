//! Each verdict in a situation of which the answer is known.

use super::*;
use sockmem_common::{OWNER_LISTENER, OWNER_ORPHAN, Reason};

/// Everything is scanned now and shown.
fn seen(kernel: &Kernel, model: &mut Model) -> View {
    kernel.scan(model);
    kernel.view(model)
}

#[test]
fn stalled_readers_hold_unread_data_while_idle() {
    let (mut k, mut m) = (Kernel::new(), model());
    m.process(
        7,
        ProcessFacts {
            comm: Some("reader".into()),
            cgroup: None,
            ..ProcessFacts::default()
        },
    );
    let ids: Vec<u64> = (0..14)
        .map(|_| {
            let (id, open) = k.open(7);
            m.apply(&open);
            id
        })
        .collect();
    for &id in &ids[..12] {
        let record = k.queue(id, 96 * KIB, 64_000);
        m.apply(&record);
    }
    // Two connections stay busy and leave nothing behind.
    for _ in 0..100 {
        k.pass(100 * MS);
        for &id in &ids[12..] {
            for record in [k.queue(id, 2304, 1448), k.queue(id, 0, 0)] {
                m.apply(&record);
            }
        }
    }
    let v = seen(&k, &mut m);
    assert_eq!(v.verdict.answer, Answer::ResidentWhileIdle);
    assert_eq!(
        v.verdict.text,
        "Yes: buffers stay resident while idle. 12 of 14 connections were idle for 9 s on average \
         and held 1.1 MiB meanwhile (peak 1.1 MiB). All of it is data the application has not \
         read (rmem_alloc)."
    );
    assert_eq!(v.verdict.idle_resident_mean_bytes, Some(12 * 96 * 1024));
    assert_eq!(v.verdict.idle_resident_max_bytes, Some(96 * 1024));
    assert_eq!(
        v.verdict.reasons,
        BTreeMap::from([(Reason::Unread, 12 * 96 * 1024)])
    );
    assert_eq!(v.groups.len(), 1);
    assert_eq!(v.groups[0].verdict, v.verdict);
    assert_eq!(v.groups[0].owner.comm.as_deref(), Some("reader"));
    let by_answer = |a| v.sockets.iter().filter(|s| s.verdict == a).count();
    assert_eq!(by_answer(Answer::ResidentWhileIdle), 12);
    assert_eq!(by_answer(Answer::NotEnoughIdleTime), 2);
    assert_eq!((v.totals.sockets, v.totals.idle_sockets), (14, 12));
}

#[test]
fn one_unread_byte_is_a_page_held_while_idle() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(7);
    m.apply(&open);
    // Real traffic before: the page is little beside its peak, and held all the same.
    for record in [
        k.queue(id, 400 * KIB, 200_000),
        k.queue(id, 0, 0),
        k.queue(id, 768, 1),
    ] {
        m.apply(&record);
    }
    k.pass(11 * S);
    let v = seen(&k, &mut m);
    let s = &v.sockets[0];
    assert_eq!(s.verdict, Answer::ResidentWhileIdle);
    assert_eq!(
        (s.idle_ns, s.idle_resident_mean_bytes),
        (10 * S, Some(4096))
    );
    assert_eq!(
        (s.idle_reason, s.unread_bytes),
        (Some(Reason::Unread), Some(1))
    );
    assert_eq!(
        v.verdict.text,
        "Yes: buffers stay resident while idle. The only connection was idle for 10 s and held \
         4.0 KiB meanwhile (peak 400.0 KiB). All of it is data the application has not read \
         (rmem_alloc)."
    );
}

#[test]
fn a_thousand_quiet_connections_hold_nothing() {
    let (mut k, mut m) = (Kernel::new(), model());
    let ids: Vec<u64> = (0..1000)
        .map(|_| {
            let (id, open) = k.open(9);
            m.apply(&open);
            id
        })
        .collect();
    for &id in &ids {
        let record = k.queue(id, 3 * KIB, 2000);
        m.apply(&record);
    }
    k.pass(MS);
    for &id in &ids {
        let record = k.queue(id, 0, 0);
        m.apply(&record);
    }
    k.pass(10_800 * MS);
    let v = seen(&k, &mut m);
    assert_eq!(v.verdict.answer, Answer::TrafficDriven);
    assert_eq!(
        v.verdict.text,
        "No: memory follows traffic. All 1,000 connections were idle for 9.8 s on average and held \
         0 B (0 B each); the peak of 3.9 MiB was under traffic."
    );
    assert_eq!(v.verdict.idle_resident_mean_bytes, Some(0));
    assert!(v.verdict.reasons.is_empty());
    assert_eq!(v.resident_peak_bytes, 1000 * 4096);
    assert!(
        v.sockets
            .iter()
            .all(|s| s.verdict == Answer::TrafficDriven && s.idle)
    );

    // The same once they are closed.
    for id in ids {
        let record = k.close(id);
        m.apply(&record);
    }
    let v = seen(&k, &mut m);
    assert_eq!(v.verdict.answer, Answer::TrafficDriven);
    assert!(
        v.verdict
            .text
            .contains("All 1,000 connections were idle for 9.8 s")
    );
    assert_eq!(
        (v.sockets.len(), v.closed.len(), v.totals),
        (
            0,
            1000,
            Totals {
                backlog: Some(0),
                ..Totals::default()
            }
        )
    );
}

#[test]
fn one_holder_among_a_thousand_is_told_but_is_not_the_answer() {
    let (mut k, mut m) = (Kernel::new(), model());
    for i in 0..1000 {
        let (id, open) = k.open(9);
        m.apply(&open);
        let record = k.queue(id, 60 * KIB, 50_000);
        m.apply(&record);
        let left = k.queue(id, if i == 0 { 768 } else { 0 }, u32::from(i == 0));
        m.apply(&left);
    }
    k.pass(20 * S);
    let v = seen(&k, &mut m);
    assert_eq!(v.verdict.answer, Answer::TrafficDriven);
    assert!(
        v.verdict
            .text
            .ends_with("1 of them held memory while idle, 4.0 KiB at most."),
        "{}",
        v.verdict.text
    );
}

#[test]
fn unread_data_that_piles_up_is_growth() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(7);
    m.apply(&open);
    for i in 1..=100u32 {
        k.pass(100 * MS);
        let record = k.queue(id, i * 16 * KIB, i * 10_000);
        m.apply(&record);
    }
    let v = seen(&k, &mut m);
    assert_eq!(v.verdict.answer, Answer::Growing);
    assert_eq!(v.sockets[0].verdict, Answer::Growing);
    assert!(
        v.verdict
            .text
            .starts_with("Growing: memory rose from 0 B to 1.")
            && v.verdict.text.contains("in 10 s and did not come back")
            && v.verdict
                .text
                .contains("All of it is data the application has not read"),
        "{}",
        v.verdict.text
    );
}

#[test]
fn a_burst_that_stays_is_a_plateau_not_growth() {
    for filled_at in [1, 10, 25, 60, 80] {
        let (mut k, mut m) = (Kernel::new(), model());
        let (id, open) = k.open(7);
        m.apply(&open);
        for i in 1..=100u32 {
            k.pass(100 * MS);
            if i <= filled_at {
                let record = k.queue(id, i * 640 * KIB / filled_at, i * 10_000);
                m.apply(&record);
            }
        }
        let v = seen(&k, &mut m);
        assert_ne!(
            v.verdict.answer,
            Answer::Growing,
            "{filled_at}: {}",
            v.verdict.text
        );
    }
}

#[test]
fn traffic_that_comes_and_goes_is_not_growth() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(7);
    m.apply(&open);
    for i in 1..=200u32 {
        k.pass(50 * MS);
        let record = k.queue(id, i * 8 * KIB, i * 5000);
        m.apply(&record);
        k.pass(MS);
        let record = k.queue(id, 0, 0);
        m.apply(&record);
    }
    let v = seen(&k, &mut m);
    assert_eq!(v.verdict.answer, Answer::NotEnoughIdleTime);
    assert_eq!(
        v.verdict.text,
        "Not enough idle time to tell. The only connection was not idle for long enough: needed \
         is 1 s without payload in either direction, and then 1 s of it. Trace for longer, or \
         lower --idle-after."
    );
    assert_eq!(v.verdict.idle_resident_mean_bytes, None);
    assert_eq!(v.sockets[0].idle_resident_max_bytes, None);
}

#[test]
fn nothing_seen_is_no_answer() {
    let v = Kernel::new().view(&model());
    assert_eq!(v.verdict.answer, Answer::NotEnoughIdleTime);
    assert!(
        v.verdict.text.contains("No connection was seen: needed is"),
        "{}",
        v.verdict.text
    );
    assert_eq!(v.groups.len(), 0);
}

#[test]
fn a_lone_listener_is_not_a_connection() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (_, open) = k.open_with(|s| {
        s.owner_tgid = 7;
        s.tcp_state = 10;
        s.remote_port = 0;
    });
    m.apply(&open);
    k.pass(60 * S);
    let v = seen(&k, &mut m);
    assert_eq!(v.verdict.answer, Answer::NotEnoughIdleTime);
    assert!(v.verdict.text.contains("No connection was seen"));
    assert_eq!(v.sockets[0].unread_bytes, None);
}

/// `credit` bytes of forward_alloc stay on a drained socket for ten idle seconds.
fn kept_credit(keeps: Option<bool>) -> View {
    let mut k = Kernel::new();
    let mut m = Model::new(Config {
        keeps_forward_alloc: keeps,
        ..model().config().clone()
    });
    let (id, open) = k.open(7);
    m.apply(&open);
    let credit = Counters {
        forward_alloc: 1 << 20,
        ..reading(0, 0).0
    };
    for record in [
        k.queue(id, 1 << 20, 700_000),
        k.set(id, credit, |s| s.copied_seq = s.rcv_nxt),
    ] {
        m.apply(&record);
    }
    k.pass(11 * S);
    seen(&k, &mut m)
}

#[test]
fn credit_kept_by_old_kernels_is_explained() {
    let v = kept_credit(Some(true));
    assert_eq!(v.verdict.answer, Answer::ResidentWhileIdle);
    assert_eq!(
        v.verdict.reasons,
        BTreeMap::from([(Reason::Reserved, 1 << 20)])
    );
    assert!(
        v.verdict.text.ends_with(
            "All of it is credit kept by the kernel (forward_alloc). forward_alloc is a credit \
             that counts against tcp_mem and memcg limits but has no pages behind it; kernels \
             before 6.0 keep it until the socket's next data or timer."
        ),
        "{}",
        v.verdict.text
    );
    assert!(
        kept_credit(Some(false))
            .verdict
            .text
            .contains("SO_RESERVE_MEM")
    );
}

#[test]
fn unacknowledged_and_unsent_data_have_their_own_reasons() {
    let (mut k, mut m) = (Kernel::new(), model());
    for (in_flight, wmem) in [(9000u32, 300 * KIB), (0, 100 * KIB)] {
        let (id, open) = k.open(7);
        m.apply(&open);
        let after = Counters {
            wmem_queued: wmem,
            ..reading(0, 0).0
        };
        let record = k.set(id, after, |s| {
            s.write_seq = 9000;
            s.snd_nxt = in_flight;
        });
        m.apply(&record);
    }
    k.pass(11 * S);
    let v = seen(&k, &mut m);
    assert_eq!(
        v.verdict.reasons,
        BTreeMap::from([(Reason::Unacked, 300 << 10), (Reason::Unsent, 100 << 10)])
    );
    assert!(
        v.verdict.text.ends_with(
            "75 % of it is data the peer has not acknowledged (wmem_queued); 25 % is data held \
             back by the peer's window or congestion control (wmem_queued)."
        ),
        "{}",
        v.verdict.text
    );
    assert_eq!(v.sockets[0].unacked_bytes, Some(9000));
}

#[test]
fn connections_one_after_the_other_do_not_add_up() {
    let (mut k, mut m) = (Kernel::new(), model());
    for _ in 0..50 {
        let (id, open) = k.open(7);
        m.apply(&open);
        let record = k.queue(id, 96 * KIB, 64_000);
        m.apply(&record);
        k.pass(4 * S);
        let record = k.close(id);
        m.apply(&record);
    }
    let v = seen(&k, &mut m);
    // At any time one of them held 96 KiB.
    assert_eq!(v.verdict.idle_resident_mean_bytes, Some(96 << 10));
    assert_eq!(v.groups[0].sockets_seen, 50);
    assert_eq!(v.groups[0].resident_mean_bytes, Some(96 << 10));
    assert_eq!(
        (v.groups[0].charged_bytes, v.groups[0].released_bytes),
        (50 * 98_304, 50 * 98_304)
    );
}

#[test]
fn what_a_socket_did_stays_with_the_owner_it_had() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (listener, open) = k.open_with(|s| {
        s.owner_tgid = 7;
        s.tcp_state = 10;
        s.remote_port = 0;
        s.local_port = 8080;
    });
    m.apply(&open);
    let (id, open) = k.open_with(|s| {
        s.owner_tgid = 7;
        s.owner_kind = OWNER_LISTENER;
        s.listener_id = listener;
    });
    m.apply(&open);
    let record = k.queue(id, 8 * KIB, 8000);
    m.apply(&record);
    k.pass(2 * S);
    let v = k.view(&m);
    let waiting = v
        .groups
        .iter()
        .find(|g| g.owner.kind == OwnerKind::Listener);
    let waiting = waiting.expect("the child waits for accept");
    assert_eq!(waiting.listener.as_deref(), Some("10.0.0.1:8080"));
    assert_eq!(waiting.totals.resident, 8192);

    let record = k.own(id, |s| s.owner_kind = OWNER_PROCESS);
    m.apply(&record);
    let record = k.queue(id, 32 * KIB, 30_000);
    m.apply(&record);
    k.pass(6 * S);
    let record = k.own(id, |s| {
        s.owner_kind = OWNER_ORPHAN;
        s.inode = 0;
    });
    m.apply(&record);
    k.pass(2 * S);
    let v = seen(&k, &mut m);
    let of = |kind| {
        let g = v
            .groups
            .iter()
            .find(|g| g.owner.kind == kind)
            .expect("a group of each kind");
        (g.totals.resident, g.charged_bytes, g.resident_mean_bytes)
    };
    // Two seconds of 8 KiB, six of 32 KiB, two of 32 KiB, in a trace of ten.
    assert_eq!(of(OwnerKind::Listener), (0, 8192, Some(1638)));
    assert_eq!(of(OwnerKind::Process), (0, 24_576, Some(19_661)));
    assert_eq!(of(OwnerKind::Orphan), (32_768, 0, Some(6554)));
    let process = v.groups.iter().find(|g| g.owner.kind == OwnerKind::Process);
    assert_eq!(
        process.map(|g| g.verdict.answer),
        Some(Answer::ResidentWhileIdle)
    );
}
