//! What is gathered for comparisons, against a kernel that is known.

use super::*;
use crate::model::survey::{Role, Survey};

fn surveyed() -> Model {
    let config = model().config().clone();
    Model::new(Config {
        survey: true,
        ..config
    })
}

fn survey(k: &Kernel, m: &Model) -> Survey {
    m.survey(k.now).expect("a survey was asked for")
}

#[test]
fn without_being_asked_nothing_is_gathered() {
    assert!(model().survey(START).is_none());
}

#[test]
fn levels_connections_and_payload_are_those_of_the_kernel() {
    let (mut k, mut m) = (Kernel::new(), surveyed());
    let (listener, opened) = k.open_with(|s| {
        s.tcp_state = 10;
        s.remote_port = 0;
        s.owner_tgid = 7;
    });
    m.apply(&opened);
    let (a, opened) = k.open(7);
    m.apply(&opened);
    let (b, opened) = k.open_with(|s| {
        s.owner_tgid = 7;
        s.local_port = 50_000;
        s.remote_port = 5432;
    });
    m.apply(&opened);
    // A second with 64 KiB in one, then a second with nothing.
    let (after, _) = reading(64 * KIB, 0);
    let full = k.set(a, after, |s| {
        s.rcv_nxt = 40_000;
        s.snd_una = 2_000;
        s.write_seq = 2_000;
    });
    m.apply(&full);
    k.pass(S);
    let (empty, _) = reading(0, 0);
    let drained = k.set(a, empty, |s| s.copied_seq = s.rcv_nxt);
    m.apply(&drained);
    k.scan(&mut m);
    k.pass(S);
    let closed = k.close(a);
    m.apply(&closed);

    let got = survey(&k, &m);
    assert_eq!(got.payload_bytes, Some(42_000));
    assert_eq!((got.connections_seen, got.connections.len()), (2, 2));
    let roles: Vec<(Role, u16)> = got
        .classes
        .keys()
        .map(|class| (class.role, class.port))
        .collect();
    assert_eq!(roles, [(Role::Server, 443), (Role::Client, 5432)]);
    let server = got.connections.iter().find(|c| c.class.port == 443);
    let server = server.expect("the closed one");
    assert_eq!((server.peak, server.payload), (64 * u64::from(KIB), 42_000));
    assert_eq!(server.pid, 7);
    assert_eq!(server.byte_ns, 64.0 * 1024.0 * 1e9);
    let area: f64 = got
        .total
        .iter()
        .enumerate()
        .map(|(i, bin)| {
            let from = i as u64 * got.total_bin_ns;
            bin.mean * (2 * S - from).min(got.total_bin_ns) as f64
        })
        .sum();
    assert!((area - server.byte_ns).abs() < 1.0, "{area}");
    assert_eq!(got.top_peak[0].id, a);
    assert!(got.top_peak[0].closed && got.listeners.len() == 1);
    // The live one, too, and the listener is none.
    assert!(
        got.connections
            .iter()
            .any(|c| c.class.port == 5432 && c.pid == 7)
    );
    assert!(k.sockets.contains_key(&b) && k.sockets.contains_key(&listener));
}

#[test]
fn who_came_from_a_listener_is_a_server_also_after_the_listener_is_gone() {
    let (mut k, mut m) = (Kernel::new(), surveyed());
    let (_, opened) = k.open_with(|s| {
        s.owner_tgid = 7;
        s.listener_id = 99;
    });
    m.apply(&opened);
    let classes = survey(&k, &m).classes;
    assert_eq!(
        classes.keys().map(|c| c.role).collect::<Vec<_>>(),
        [Role::Server]
    );
}

#[test]
fn the_largest_is_known_although_the_view_has_dropped_it() {
    let config = surveyed().config().clone();
    let (mut k, mut m) = (
        Kernel::new(),
        Model::new(Config {
            max_closed: 2,
            ..config
        }),
    );
    for n in 0..40u32 {
        let (id, opened) = k.open(7);
        m.apply(&opened);
        let size = if n == 3 { 900 * KIB } else { 8 * KIB };
        m.apply(&k.queue(id, size, 10));
        k.pass(MS);
        let closed = k.close(id);
        m.apply(&closed);
    }
    let view = k.view(&m);
    assert!(view.closed.iter().all(|s| s.resident_peak_bytes < 100_000));
    let got = survey(&k, &m);
    assert_eq!(got.top_peak[0].resident_peak_bytes, 900 * 1024);
    assert_eq!((got.connections_seen, got.top_peak.len()), (40, 16));
}
