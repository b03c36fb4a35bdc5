//! Streams of inputs: as a kernel would send them, and as none would.

use proptest::prelude::*;
use sockmem_common::{
    Change, Counters, Header, Integral, KIND_CHANGE, KIND_CLOSE, KIND_OPEN, Lifecycle, LimitSet,
    Pressure, PressureCounts, Process, SEQ_VALID, STATE_CLOSED, Seqs, SockState, SysctlWrite,
    TruesizeSum,
};

use super::*;
use crate::facts::{HostSample, NetCounters, Setting, SettingValue};

/// A server with a few connections, each of which is asked and answers; one scan for each thousand
/// changes. Sockets come and go; one of them is idle.
pub(in super::super) fn plausible(changes: u32) -> Story {
    let mut story = Story::new();
    let mut now = 1_000u64;
    let mut sockets: Vec<SockState> = Vec::new();
    let facts = ProcessFacts {
        comm: Some("server".into()),
        cgroup: Some("/a".into()),
        cmdline: Some("server --port 1".into()),
    };
    story.push((now, Told::Process(7, facts.clone())));
    let open = |id: u64, now: u64| {
        let mut s = SockState {
            id: id << 40 | 1,
            cookie: id,
            owner_tgid: 7,
            owner_kind: 1,
            tcp_state: 1,
            family: 2,
            local_port: 80,
            remote_port: 1000 + id as u16,
            owner_comm: *b"server\0\0\0\0\0\0\0\0\0\0",
            ..SockState::default()
        };
        let counters = Counters {
            rcvbuf: 131_072,
            sndbuf: 87_040,
            ..Counters::default()
        };
        s.start(
            now,
            &counters,
            &Seqs {
                flags: SEQ_VALID,
                ..Seqs::default()
            },
        );
        let header = Header {
            t_ns: now,
            id: s.id,
            kind: KIND_OPEN,
            hook: 29,
            ..Header::default()
        };
        (s, Record::Open(Box::new(Lifecycle { header, state: s })))
    };
    for id in 0..6 {
        let (state, record) = open(id, now);
        sockets.push(state);
        story.push((now, Told::Record(record)));
        now += 777;
    }
    for n in 0..changes {
        now += 900 + u64::from(n * 7919 % 3001);
        let at = (n as usize / 3) % (sockets.len() - 1);
        let s = &mut sockets[at];
        let before = s.counters;
        let mut c = before;
        match n % 3 {
            0 => (c.rmem_alloc, c.forward_alloc) = (877, 3219),
            1 => (c.rmem_alloc, c.forward_alloc) = (0, 0),
            _ => {
                (c.wmem_queued, c.forward_alloc) = if c.wmem_queued == 0 {
                    (837, 3259)
                } else {
                    (0, 0)
                }
            }
        }
        let mut seqs = s.seqs;
        seqs.rcv_nxt = seqs.rcv_nxt.wrapping_add(45);
        seqs.copied_seq = if n % 3 == 0 {
            seqs.rcv_nxt.wrapping_sub(45)
        } else {
            seqs.rcv_nxt
        };
        s.advance(now, 1_000_000_000);
        s.take(now, &c, &seqs);
        let change = Change {
            header: Header {
                t_ns: now,
                id: s.id,
                kind: KIND_CHANGE,
                hook: 21 + (n % 3) as u8,
                reserved: 0,
                cpu: n / 500 % 2,
            },
            after: c,
            d_rmem_alloc: c.rmem_alloc.wrapping_sub(before.rmem_alloc) as i32,
            d_wmem_queued: c.wmem_queued.wrapping_sub(before.wmem_queued) as i32,
            d_forward_alloc: c.forward_alloc - before.forward_alloc,
            unread: seqs.unread(),
            unacked: seqs.unacked(),
            resident_min: s.window_min,
            resident_max: s.window_max,
            merged: s.merged,
        };
        s.reset_window(now);
        story.push((now, Told::Record(Record::Change(change))));
        if n % 1000 == 999 {
            let began = now;
            now += 50_000;
            story.push((now, Told::States(sockets.clone(), now)));
            story.push((now, Told::ScanDone(began)));
            let loss = Loss {
                seen: u64::from(n),
                sent: u64::from(n),
                ..Loss::default()
            };
            story.push((now, Told::Loss(loss)));
            let tcp_mem = SettingValue {
                setting: Setting::TcpMem,
                netns: 0,
                values: vec![1, 2, 3 + u64::from(n)],
            };
            let sample = HostSample {
                at_ns: now,
                settings: vec![tcp_mem],
                ..HostSample::default()
            };
            story.push((now, Told::Host(sample)));
        }
        if n % 1500 == 1499 {
            let mut gone = sockets.remove(0);
            gone.flags |= STATE_CLOSED;
            let header = Header {
                t_ns: now,
                id: gone.id,
                kind: KIND_CLOSE,
                hook: 10,
                ..Header::default()
            };
            let close = Record::Close(Box::new(Lifecycle {
                header,
                state: gone,
            }));
            story.push((now, Told::Record(close)));
            let (state, record) = open(u64::from(n), now);
            sockets.push(state);
            story.push((now, Told::Record(record)));
        }
    }
    story
}

/// A number of any size, small ones often.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0u64..4, 2 => any::<u32>().prop_map(u64::from), 1 => any::<u64>()]
}

/// Few ids, so that they come again.
fn id() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1u64..6, 1 => any::<u64>()]
}

fn state() -> impl Strategy<Value = SockState> {
    let words = prop::collection::vec(number(), super::super::words::WORDS);
    (words, id(), prop::option::weighted(0.2, 0u64..3)).prop_map(|(words, id, few)| {
        let mut state =
            super::super::words::state(&words.try_into().expect("as many as asked for"));
        if let Some(few) = few {
            // One that is likely to be the same as another.
            state = SockState {
                first_ns: few,
                changes: few,
                ..SockState::default()
            };
        }
        state.resident_time = Integral {
            high: u64::MAX,
            ..state.resident_time
        };
        SockState { id, ..state }
    })
}

fn head() -> impl Strategy<Value = Header> {
    (
        number(),
        id(),
        any::<u8>(),
        any::<u8>(),
        prop_oneof![Just(0), any::<u16>()],
        number(),
    )
        .prop_map(|(t_ns, id, kind, hook, reserved, cpu)| Header {
            t_ns,
            id,
            kind,
            hook,
            reserved,
            cpu: cpu as u32,
        })
}

fn change() -> impl Strategy<Value = Change> {
    let fields = prop::collection::vec(number().prop_map(|n| n as u32), 16);
    (head(), fields, any::<bool>()).prop_map(|(header, f, plain)| Change {
        header: if plain {
            Header {
                kind: KIND_CHANGE,
                reserved: 0,
                ..header
            }
        } else {
            header
        },
        after: Counters {
            rmem_alloc: f[0],
            wmem_queued: f[1],
            forward_alloc: f[2] as i32,
            wmem_alloc: f[3],
            optmem: f[4],
            backlog: f[5],
            rcvbuf: f[6],
            sndbuf: f[7],
        },
        d_rmem_alloc: f[8] as i32,
        d_wmem_queued: f[9] as i32,
        d_forward_alloc: f[10] as i32,
        unread: f[11],
        unacked: f[12],
        resident_min: f[13],
        resident_max: f[14],
        merged: f[15],
    })
}

/// What happened beside counters.
fn happened() -> impl Strategy<Value = Told> {
    let words = || prop::array::uniform8(any::<u32>());
    let name = || any::<[u8; 16]>();
    let host =
        (number(), words(), prop::collection::vec(any::<u32>(), 0..4)).prop_map(|(n, w, v)| {
            let values = v.iter().map(|v| u64::from(*v)).collect();
            Told::Host(HostSample {
                at_ns: n,
                settings: vec![SettingValue {
                    setting: Setting::TcpRmem,
                    netns: w[0],
                    values,
                }],
                counters: vec![NetCounters {
                    netns: w[1],
                    values: [Some(n >> 1), None, Some(7), None, Some(0), Some(9)],
                }],
                tcp_pages: v.first().map(|v| u64::from(*v)),
                under_pressure: [None, Some(false), Some(true)][w[2] as usize % 3],
            })
        });
    prop_oneof![
        (head(), number(), words(), name()).prop_map(|(header, n, w, comm)| {
            Told::Record(Record::Limit(LimitSet {
                header,
                began_ns: n,
                asked: w[0] as i32,
                from: w[1],
                to: w[2],
                tgid: w[3],
                what: w[4] as u8,
                flags: w[5] as u8,
                level: w[6] as u16,
                optname: w[7],
                comm,
            }))
        }),
        (head(), number(), words()).prop_map(|(header, n, w)| {
            Told::Record(Record::Pressure(Pressure {
                header,
                count: n,
                allocated: n / 2,
                limits: [n, 1, 2],
                rmem_alloc: w[0],
                rcvbuf: w[1],
                kind: w[2] as u8,
                flags: w[3] as u8,
                direction: w[4] as u8,
                reserved: [0; 5],
            }))
        }),
        (head(), name(), name(), any::<u32>()).prop_map(|(header, name, comm, netns)| {
            Told::Record(Record::Sysctl(SysctlWrite {
                header,
                name,
                comm,
                netns,
                reserved: 0,
            }))
        }),
        host,
        (number(), number()).prop_map(|(n, lost)| {
            Told::Pressure(PressureCounts {
                seen: [0, n, 1, 2, n / 3, 4, 5],
                lost,
            })
        }),
    ]
}

fn told() -> impl Strategy<Value = Told> {
    let life =
        || (head(), state()).prop_map(|(header, state)| Box::new(Lifecycle { header, state }));
    let process = || {
        (head(), number(), any::<[u8; 16]>()).prop_map(|(header, n, comm)| Process {
            header,
            parent: n as u32,
            reserved: (n >> 32) as u32,
            comm,
        })
    };
    let text = || prop::option::of(prop_oneof![Just("a".to_owned()), ".*"]);
    prop_oneof![
        3 => happened(),
        20 => change().prop_map(|c| Told::Record(Record::Change(c))),
        2 => life().prop_map(|l| Told::Record(Record::Open(l))),
        2 => life().prop_map(|l| Told::Record(Record::Close(l))),
        2 => life().prop_map(|l| Told::Record(Record::Owner(l))),
        1 => process().prop_map(|p| Told::Record(Record::Fork(p))),
        1 => process().prop_map(|p| Told::Record(Record::Exit(p))),
        3 => (prop::collection::vec(state(), 0..6), number()).prop_map(|(s, n)| Told::States(s, n)),
        3 => number().prop_map(Told::ScanDone),
        1 => (any::<u32>(), text(), text(), text()).prop_map(|(pid, comm, cgroup, cmdline)| {
            Told::Process(pid, ProcessFacts { comm, cgroup, cmdline })
        }),
        1 => (any::<u32>(), number()).prop_map(|(pid, t)| Told::Exited(pid, t)),
        1 => (number(), number(), prop::option::of(number())).prop_map(|(seen, sent, misses)| {
            Told::Loss(Loss { seen, sent, merged: 3, dropped_ring: seen, dropped_map: 1, lost_closed: sent, recursion_misses: misses })
        }),
        1 => (prop::collection::vec(number(), 0..9), number()).prop_map(|(buckets, n)| {
            let sum = TruesizeSum { count: n, truesize: n / 2, payload: n / 3, max: n / 4 };
            Told::Truesize(TruesizeCounts { buckets, sum })
        }),
    ]
}

/// Anything at all.
pub(in super::super) fn any_story() -> impl Strategy<Value = Story> {
    prop::collection::vec((number(), told()), 0..120).prop_map(|mut story| {
        // A scan that repeats the one before, as idle sockets do.
        for at in (1..story.len()).rev() {
            if let (Told::States(..), Told::States(states, _)) =
                (&story[at].1.clone(), &story[at - 1].1.clone())
            {
                story[at].1 = Told::States(states.clone(), 9);
            }
        }
        story
    })
}
