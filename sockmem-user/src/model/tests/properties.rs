//! Whatever comes, in whatever order, the sums hold.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use sockmem_common::{Integral, OWNER_LISTENER, OWNER_ORPHAN, Process, REASONS};

/// What happens in the kernel, or to what it sends.
#[derive(Clone, Debug)]
enum Happening {
    Open {
        pid: u32,
        kind: u8,
    },
    Queue {
        socket: Index,
        rmem: u32,
        unread: u32,
    },
    Own {
        socket: Index,
        pid: u32,
        kind: u8,
    },
    Close {
        socket: Index,
    },
    Pass(u64),
    Scan,
    /// The scan's states reach the model only after the next records.
    StaleScan,
    Lose,
    Swap,
    CloseMissing,
    Exit(u32),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let pid = 0u32..4;
    let kind = 0u8..4;
    prop_oneof![
        3 => (pid.clone(), kind.clone()).prop_map(|(pid, kind)| Open { pid, kind }),
        12 => (any::<Index>(), prop_oneof![Just(0), 1u32..1 << 20], 0u32..1 << 16)
            .prop_map(|(socket, rmem, unread)| Queue { socket, rmem, unread }),
        2 => (any::<Index>(), pid.clone(), kind).prop_map(|(socket, pid, kind)| Own { socket, pid, kind }),
        1 => any::<Index>().prop_map(|socket| Close { socket }),
        8 => prop_oneof![0u64..5, 0u64..4 * S].prop_map(Pass),
        2 => Just(Scan),
        1 => Just(StaleScan),
        1 => Just(Lose),
        2 => Just(Swap),
        1 => Just(CloseMissing),
        1 => pid.prop_map(Exit),
    ]
}

/// Runs a story. With `faithful` no record is lost or swapped, and scans come in time.
fn run(story: &[Happening], faithful: bool) -> (Kernel, Model) {
    let (mut k, mut m) = (Kernel::new(), model());
    let mut pipe: Vec<Record> = Vec::new();
    let mut stale: Option<(Vec<SockState>, u64)> = None;
    for happening in story {
        let ids: Vec<u64> = k.sockets.keys().copied().collect();
        let pick = |i: &Index| (!ids.is_empty()).then(|| ids[i.index(ids.len())]);
        match happening {
            Happening::Open { pid, kind } => {
                let (_, record) = k.open_with(|s| (s.owner_tgid, s.owner_kind) = (*pid, *kind));
                pipe.push(record);
            }
            Happening::Queue {
                socket,
                rmem,
                unread,
            } => {
                if let Some(id) = pick(socket) {
                    pipe.push(k.queue(id, *rmem, *unread));
                }
            }
            Happening::Own { socket, pid, kind } => {
                if let Some(id) = pick(socket) {
                    let kind = [OWNER_PROCESS, OWNER_LISTENER, OWNER_ORPHAN][usize::from(kind % 3)];
                    pipe.push(k.own(id, |s| (s.owner_tgid, s.owner_kind) = (*pid, kind)));
                }
            }
            Happening::Close { socket } => {
                if let Some(id) = pick(socket) {
                    pipe.push(k.close(id));
                }
            }
            Happening::Pass(ns) => k.pass(*ns),
            Happening::Scan => k.scan(&mut m),
            Happening::StaleScan if !faithful => {
                stale = Some((k.sockets.values().copied().collect(), k.now));
            }
            Happening::Lose if !faithful => drop(pipe.pop()),
            Happening::Swap if !faithful && pipe.len() > 1 => {
                let last = pipe.len() - 1;
                pipe.swap(last, last / 2);
            }
            Happening::CloseMissing => {
                if faithful {
                    k.scan(&mut m);
                }
                m.close_missing(k.now);
            }
            Happening::Exit(pid) => {
                let header = Header {
                    t_ns: k.now,
                    id: u64::from(*pid),
                    ..Header::default()
                };
                m.apply(&Record::Exit(Process {
                    header,
                    ..Process::default()
                }));
            }
            Happening::StaleScan | Happening::Lose | Happening::Swap => {}
        }
        if faithful || pipe.len() > 5 || matches!(happening, Happening::CloseMissing) {
            for record in pipe.drain(..) {
                m.apply(&record);
            }
            if let Some((states, at)) = stale.take() {
                m.absorb(states.iter(), at);
            }
        }
    }
    for record in pipe.drain(..) {
        m.apply(&record);
    }
    (k, m)
}

/// What must hold of any view.
fn check(v: &View) -> Result<(), TestCaseError> {
    let mut sum = Totals {
        backlog: Some(0),
        ..Totals::default()
    };
    for g in &v.groups {
        let t = &g.totals;
        sum.sockets += t.sockets;
        sum.idle_sockets += t.idle_sockets;
        sum.resident += t.resident;
        sum.rmem_alloc += t.rmem_alloc;
        sum.wmem_queued += t.wmem_queued;
        sum.forward_alloc += t.forward_alloc;
        sum.backlog = sum.backlog.zip(t.backlog).map(|(a, b)| a + b);
        sum.unread_bytes += t.unread_bytes;
        sum.unacked_bytes += t.unacked_bytes;
        sum.idle_resident += t.idle_resident;
        prop_assert!(g.resident_peak_bytes >= t.resident);
        prop_assert!(
            g.timeline
                .iter()
                .all(|b| b.min <= b.last && b.last <= b.max)
        );
        prop_assert_eq!(g.timeline.last().map(|b| b.last), Some(t.resident));
        prop_assert!(g.sockets_seen >= t.sockets);
    }
    prop_assert_eq!(sum, v.totals);
    prop_assert!(v.resident_peak_bytes >= v.totals.resident);
    prop_assert_eq!(v.timeline.last().map(|b| b.last), Some(v.totals.resident));
    prop_assert_eq!(
        v.totals.resident,
        v.sockets.iter().map(|s| s.resident).sum::<u64>()
    );
    for s in v.sockets.iter().chain(&v.closed) {
        prop_assert!(s.resident_peak_bytes >= s.resident);
        prop_assert!(v.resident_peak_bytes >= s.resident_peak_bytes);
        prop_assert!(s.idle_ns <= s.last_seen_ns - s.first_seen_ns);
        for b in &s.timeline {
            prop_assert!(b.min <= b.last && b.last <= b.max);
        }
        if let Some(mean) = s.resident_mean_bytes {
            prop_assert!(mean <= s.resident_peak_bytes);
        }
        if let Some(mean) = s.idle_resident_mean_bytes {
            // Each reason's mean is rounded by itself.
            prop_assert!(mean <= s.idle_resident_max_bytes.unwrap_or(0) + REASONS as u64);
            prop_assert_eq!(mean, s.idle_reasons.values().sum::<u64>());
        }
        prop_assert!(s.timeline.iter().all(|b| b.max <= s.resident_peak_bytes));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_order_and_loss_leaves_the_sums_right(story in prop::collection::vec(happening(), 0..120)) {
        let (k, mut m) = run(&story, false);
        check(&k.view(&m))?;
        k.scan(&mut m);
        let v = k.view(&m);
        check(&v)?;
        // After a scan, every live socket's totals are the kernel's.
        for s in &v.sockets {
            if let Some(truth) = k.sockets.get(&s.id) {
                let mut truth = *truth;
                truth.advance(k.now, S);
                prop_assert_eq!(s.resident, truth.counters.resident());
                prop_assert_eq!(s.charged_bytes, truth.charged);
                prop_assert_eq!(s.released_bytes, truth.released);
                prop_assert_eq!(s.idle_ns, truth.idle_ns);
                prop_assert_eq!(s.resident_mean_bytes, truth.resident_time.mean(k.now - truth.first_ns));
            }
        }
    }

    #[test]
    fn with_every_record_the_model_is_the_kernel(story in prop::collection::vec(happening(), 0..120)) {
        let (k, m) = run(&story, true);
        let v = k.view(&m);
        check(&v)?;
        prop_assert_eq!(v.sockets.len(), k.sockets.len());
        let mut low = BTreeMap::new();
        for s in &v.sockets {
            let mut truth = k.sockets[&s.id];
            truth.advance(k.now, S);
            prop_assert_eq!(s.charged_bytes, truth.charged);
            prop_assert_eq!(s.changes, truth.changes);
            prop_assert_eq!(s.resident_peak_bytes, truth.resident_peak);
            prop_assert_eq!(s.resident_mean_bytes, truth.resident_time.mean(k.now - truth.first_ns));
            let min = s.timeline.iter().map(|b| b.min).min().unwrap_or(0);
            low.insert(s.id, min);
            if let Some(mean) = s.resident_mean_bytes {
                prop_assert!(min <= mean, "{min} > {mean}");
            }
        }
        // Charges are counted once, whoever owned the socket then.
        let all = v.sockets.iter().chain(&v.closed);
        let charged: u64 = all.map(|s| s.charged_bytes).sum();
        let hidden: u64 = v.groups.iter().map(|g| g.charged_bytes).sum();
        prop_assert_eq!(charged, hidden);
    }

    #[test]
    fn a_damaged_recording_does_no_harm(
        words in prop::collection::vec(any::<u64>(), 60..400), close in any::<bool>(),
    ) {
        let mut m = model();
        for w in words.chunks_exact(30) {
            let counters = Counters {
                rmem_alloc: w[0] as u32,
                wmem_queued: w[1] as u32,
                forward_alloc: w[2] as i32,
                ..Counters::default()
            };
            let state = SockState {
                id: w[3] % 3,
                listener_id: w[3] % 5,
                first_ns: w[4],
                last_ns: w[5],
                last_activity_ns: w[6],
                baseline: w[7],
                charged: w[8],
                released: w[9],
                changes: w[10],
                idle_ns: w[11],
                resident_peak: w[12],
                idle_resident_max: w[13],
                resident_time: Integral { high: w[14], low: w[15] },
                idle_time: [Integral { high: w[16], low: w[17] }; REASONS],
                counters,
                owner_tgid: (w[18] % 3) as u32,
                owner_kind: w[19] as u8,
                tcp_state: w[20] as u8,
                remote_port: w[21] as u16,
                window_max: w[22] as u32,
                merged: w[22] as u32,
                ..SockState::default()
            };
            let header = Header { t_ns: w[23], id: w[24] % 3, ..Header::default() };
            m.apply(&Record::Open(Box::new(Lifecycle { header, state })));
            m.apply(&Record::Change(Change {
                header: Header { t_ns: w[25], id: w[26] % 3, ..Header::default() },
                after: Counters { rmem_alloc: w[27] as u32, ..counters },
                unread: w[28] as u32,
                merged: w[29] as u32,
                ..Change::default()
            }));
            m.absorb([state].iter(), w[23]);
            m.close_missing(w[29]);
            let v = m.view(w[28], w[27]);
            prop_assert_eq!(v.groups.iter().map(|g| g.totals.resident).sum::<u64>(), v.totals.resident);
            if close {
                m.apply(&Record::Close(Box::new(Lifecycle { header, state })));
            }
        }
        let v = m.view(u64::MAX, u64::MAX);
        prop_assert!(v.resident_peak_bytes >= v.totals.resident);
    }
}
