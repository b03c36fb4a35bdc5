//! Order, loss and repetition of what the model is fed.

use super::*;
use sockmem_common::{Process, STATE_RCVBUF_LOCK};

fn one_queued(bytes: u32) -> (Kernel, Model, u64) {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, open) = k.open(7);
    m.apply(&open);
    k.pass(MS);
    let record = k.queue(id, bytes, 1000);
    m.apply(&record);
    (k, m, id)
}

#[test]
fn between_scans_changes_carry_the_totals_exactly() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    for i in 0..50u32 {
        k.pass(10 * MS);
        let record = k.queue(id, (i * 37 % 11) * 4 * KIB, i);
        m.apply(&record);
    }
    k.pass(3 * S);
    let without = k.view(&m);
    k.scan(&mut m);
    assert_eq!(without.sockets[0].timeline, k.view(&m).sockets[0].timeline);
    assert_eq!(without.sockets[0].charged_bytes, k.sockets[&id].charged);
    let with = k.view(&m);
    assert_eq!(without.sockets, with.sockets);
    assert_eq!(without.verdict, with.verdict);
}

#[test]
fn a_change_older_than_the_last_reading_adds_its_peak_and_nothing_else() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    k.pass(MS);
    let older = k.queue(id, 640 * KIB, 600_000);
    k.pass(MS);
    let newer = k.queue(id, 4 * KIB, 4000);
    m.apply(&newer);
    m.apply(&older);
    let v = k.view(&m);
    assert_eq!((v.sockets[0].resident, v.totals.resident), (4096, 4096));
    assert_eq!(v.sockets[0].resident_peak_bytes, 640 << 10);
    assert_eq!(m.oddities().late, 1);
}

#[test]
fn a_scan_overridden_by_newer_records_keeps_their_reading() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    let scan: Vec<SockState> = k.sockets.values().copied().collect();
    k.pass(MS);
    let record = k.queue(id, 64 * KIB, 60_000);
    m.apply(&record);
    m.absorb(scan.iter(), k.now);
    let v = k.view(&m);
    assert_eq!(v.sockets[0].resident, 64 << 10);
    assert_eq!(v.sockets[0].charged_bytes, 64 << 10);
    // The next scan has it too.
    k.scan(&mut m);
    assert_eq!(k.view(&m).sockets[0].charged_bytes, 64 << 10);
}

#[test]
fn lost_changes_are_put_right_by_a_scan() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    for i in 0..10u32 {
        k.pass(MS);
        drop(k.queue(id, i % 2 * 128 * KIB, 5));
    }
    k.scan(&mut m);
    let v = k.view(&m);
    let truth = &k.sockets[&id];
    assert_eq!(v.sockets[0].resident, truth.counters.resident());
    assert_eq!(v.sockets[0].charged_bytes, truth.charged);
    assert_eq!(v.sockets[0].resident_peak_bytes, 128 << 10);
    assert!(v.resident_peak_bytes >= 128 << 10 && v.groups[0].resident_peak_bytes >= 128 << 10);
}

#[test]
fn closed_sockets_are_not_brought_back() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    let old_scan: Vec<SockState> = k.sockets.values().copied().collect();
    let late = k.queue(id, 16 * KIB, 1);
    let close = k.close(id);
    m.apply(&close);
    m.apply(&late);
    m.apply(&close);
    m.absorb(old_scan.iter(), k.now);
    let v = k.view(&m);
    assert_eq!(
        (v.sockets.len(), v.closed.len(), v.totals.resident),
        (0, 1, 0)
    );
    assert_eq!(v.groups[0].sockets_seen, 1);
    assert_eq!(v.closed[0].charged_bytes, v.closed[0].released_bytes);
}

#[test]
fn a_parked_close_is_found_by_the_scan() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    k.pass(S);
    let Record::Close(l) = k.close(id) else {
        panic!("not a Close")
    };
    m.absorb([l.state].iter(), k.now);
    let v = k.view(&m);
    assert_eq!((v.sockets.len(), v.closed.len()), (0, 1));
    assert_eq!(v.loss.lost_closed, 0);
    assert_eq!(v.closed[0].released_bytes, 8192);
}

#[test]
fn a_close_without_its_open_counts() {
    let (mut k, mut m) = (Kernel::new(), model());
    let (id, _) = k.open(7);
    drop(k.queue(id, 64 * KIB, 9));
    k.pass(20 * S);
    let record = k.close(id);
    m.apply(&record);
    let v = k.view(&m);
    assert_eq!(
        (v.groups[0].sockets_seen, v.groups[0].charged_bytes),
        (1, 64 << 10)
    );
    assert_eq!(v.verdict.idle_resident_mean_bytes, Some(64 << 10));
    assert_eq!(v.resident_peak_bytes, 64 << 10);
}

#[test]
fn only_two_complete_scans_without_it_close_a_socket() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    k.scan(&mut m);
    drop(k.close(id));
    for (pass, closed) in [(1, 0), (2, 1), (3, 0)] {
        k.pass(S);
        let began = k.now;
        k.scan(&mut m);
        assert_eq!(m.close_missing(began), closed, "scan {pass}");
    }
    let v = k.view(&m);
    assert_eq!(
        (v.sockets.len(), v.closed.len(), v.loss.lost_closed),
        (0, 1, 1)
    );
    assert_eq!(v.closed[0].charged_bytes, 8192);
}

#[test]
fn a_socket_that_a_scan_passed_over_once_stays() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    for _ in 0..3 {
        k.pass(S);
        assert_eq!(m.close_missing(k.now), 0);
        k.pass(S);
        k.scan(&mut m);
        assert_eq!(m.close_missing(k.now), 0);
    }
    assert_eq!(k.view(&m).sockets[0].id, id);
}

#[test]
fn changes_of_limits_have_their_cause() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    let limit = |k: &mut Kernel, m: &mut Model, rcvbuf, sndbuf| {
        k.pass(MS);
        let after = Counters {
            rcvbuf,
            sndbuf,
            ..k.sockets[&id].counters
        };
        let record = k.set(id, after, |_| ());
        m.apply(&record);
    };
    limit(&mut k, &mut m, 262_144, 87_040);
    limit(&mut k, &mut m, 262_144, 46_080);
    k.scan(&mut m);
    // The flag comes with the next scan only.
    limit(&mut k, &mut m, 16_384, 46_080);
    k.sockets.get_mut(&id).expect("open").flags |= STATE_RCVBUF_LOCK;
    k.scan(&mut m);
    limit(&mut k, &mut m, 32_768, 46_080);
    let v = k.view(&m);
    let seen: Vec<_> = v.sockets[0]
        .limits
        .iter()
        .map(|l| (l.what, l.from, l.to, l.cause))
        .collect();
    assert_eq!(
        seen,
        [
            (Limit::Rcvbuf, 131_072, 262_144, LimitCause::Autotune),
            (Limit::Sndbuf, 87_040, 46_080, LimitCause::Clamp),
            (Limit::Rcvbuf, 262_144, 16_384, LimitCause::Setsockopt),
            (Limit::Rcvbuf, 16_384, 32_768, LimitCause::Setsockopt),
        ]
    );
    assert_eq!(v.sockets[0].limits[0].at_ns, START + 2 * MS);
}

#[test]
fn of_many_changes_of_limits_the_first_and_last_are_kept() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    for i in 1..=100u32 {
        k.pass(MS);
        let after = Counters {
            rcvbuf: 131_072 + i,
            ..k.sockets[&id].counters
        };
        let record = k.set(id, after, |_| ());
        m.apply(&record);
    }
    let to: Vec<u32> = k.view(&m).sockets[0]
        .limits
        .iter()
        .map(|l| l.to - 131_072)
        .collect();
    assert_eq!(to, (1..=16).chain(85..=100).collect::<Vec<u32>>());
}

#[test]
fn a_pid_used_again_is_another_process() {
    let (mut k, mut m, id) = one_queued(8 * KIB);
    let process = |k: &Kernel, comm: &[u8; 16]| Process {
        header: Header {
            t_ns: k.now,
            id: 7,
            ..Header::default()
        },
        comm: *comm,
        ..Process::default()
    };
    k.pass(S);
    m.apply(&Record::Exit(process(&k, &[0; 16])));
    k.pass(S);
    let close = k.close(id);
    m.apply(&close);
    m.apply(&Record::Fork(process(&k, b"second\0\0\0\0\0\0\0\0\0\0")));
    let (_, open) = k.open(7);
    m.apply(&open);
    let v = k.view(&m);
    let seen: Vec<_> = v
        .groups
        .iter()
        .map(|g| (g.owner.comm.as_deref(), g.exited, g.totals.sockets))
        .collect();
    assert_eq!(
        seen,
        [(Some("server"), true, 0), (Some("second"), false, 1)]
    );
    assert_eq!(v.closed[0].owner.comm.as_deref(), Some("server"));

    // Without a Fork record, a socket opened after the end tells the same.
    let (mut k, mut m, _) = one_queued(8 * KIB);
    m.process_exited(7, k.now);
    k.pass(S);
    let (_, open) = k.open(7);
    m.apply(&open);
    assert_eq!(
        k.view(&m)
            .groups
            .iter()
            .map(|g| g.exited)
            .collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn groups_beyond_the_bound_go_into_the_sums_of_the_unknown() {
    let mut k = Kernel::new();
    let mut m = Model::new(Config {
        max_groups: 8,
        max_closed: 3,
        ..model().config().clone()
    });
    for pid in 1..=40 {
        let (id, open) = k.open(pid);
        m.apply(&open);
        let record = k.queue(id, 8 * KIB, 5);
        m.apply(&record);
        k.pass(MS);
        let close = k.close(id);
        m.apply(&close);
    }
    let v = k.view(&m);
    assert!(v.groups.len() <= 8, "{}", v.groups.len());
    assert_eq!(v.groups.iter().map(|g| g.sockets_seen).sum::<u64>(), 40);
    assert_eq!(
        v.groups.iter().map(|g| g.charged_bytes).sum::<u64>(),
        40 * 8192
    );
    assert_eq!(v.closed.len(), 3);
}

#[test]
fn synthetic_records_are_those_of_a_consistent_kernel() {
    let mut m = model();
    for record in synthetic::opens(10, START).chain(synthetic::changes(10, START, 5000)) {
        m.apply(&record);
    }
    assert_eq!(m.oddities(), Oddities::default());
    let v = m.view(START + S, S);
    assert_eq!(v.totals.sockets, 10);
    assert_eq!(v.sockets.iter().map(|s| s.changes).sum::<u64>(), 5000);
    assert!(v.drain_ns.is_some());
    assert_eq!(v.groups.len(), 8);
}
