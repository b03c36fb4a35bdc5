//! The arithmetic that the kernel programs and user space share, against
//! arithmetic that is slow and obviously right.

use proptest::prelude::*;
use sockmem_common::{
    BUCKETS, Counters, Integral, REASONS, Reason, SEQ_OFO, SEQ_VALID, Seqs, SockState, bucket,
    bucket_floor, split,
};

/// Any counters that three `int` fields can hold.
fn counters() -> impl Strategy<Value = Counters> {
    let size = prop_oneof![
        Just(0u32),
        1u32..8192,
        0u32..1 << 24,
        0u32..=i32::MAX as u32
    ];
    let forward = prop_oneof![
        Just(0i32),
        1i32..4096,
        -70_000i32..1 << 21,
        i32::MIN..=i32::MAX
    ];
    (size.clone(), size, forward).prop_map(|(rmem_alloc, wmem_queued, forward_alloc)| Counters {
        rmem_alloc,
        wmem_queued,
        forward_alloc,
        ..Counters::default()
    })
}

fn seqs() -> impl Strategy<Value = Seqs> {
    let near = 0u32..10_000;
    (
        any::<u32>(),
        near.clone(),
        any::<u32>(),
        near.clone(),
        near,
        any::<bool>(),
    )
        .prop_map(|(copied_seq, unread, snd_una, flight, unsent, ofo)| Seqs {
            copied_seq,
            rcv_nxt: copied_seq.wrapping_add(unread),
            snd_una,
            snd_nxt: snd_una.wrapping_add(flight),
            write_seq: snd_una.wrapping_add(flight).wrapping_add(unsent),
            flags: SEQ_VALID | if ofo { SEQ_OFO } else { 0 },
        })
}

/// A reading after some time; the time may also stand still or (between CPUs) go back.
fn steps() -> impl Strategy<Value = Vec<(i64, Counters, Option<Seqs>)>> {
    let span = prop_oneof![-50i64..50, 0i64..5_000_000_000, 0i64..1 << 50];
    prop::collection::vec((span, counters(), prop::option::of(seqs())), 0..40)
}

proptest! {
    #[test]
    fn integrals_agree_with_128_bits(spans in prop::collection::vec((0u64..1 << 34, 0u64..1 << 53), 0..60)) {
        let mut sum = Integral::default();
        let mut exact = 0u128;
        let mut time = 0u64;
        for (bytes, ns) in spans {
            sum.add(bytes, ns);
            exact += u128::from(bytes) * u128::from(ns);
            time += ns;
            prop_assert!(sum.low < 1 << 29);
        }
        prop_assert_eq!(sum.byte_ns(), exact);
        let rounded = (time > 0).then(|| ((exact + u128::from(time) / 2) / u128::from(time)) as u64);
        prop_assert_eq!(sum.mean(time), rounded);
    }

    #[test]
    fn a_split_adds_up_to_resident(c in counters(), s in seqs()) {
        let parts = split(&c, &s);
        prop_assert_eq!(parts.iter().sum::<u64>(), c.resident());
        let of = |r: Reason| parts[r as usize];
        prop_assert!(of(Reason::Unread) == 0 || of(Reason::OutOfOrder) == 0);
        prop_assert!(of(Reason::Unacked) == 0 || of(Reason::Unsent) == 0);
        if s.in_flight() == 0 {
            prop_assert_eq!(of(Reason::Unacked), 0);
        }
    }

    #[test]
    fn totals_balance_and_integrals_are_those_of_the_readings(
        start in 0u64..1 << 40, idle_after in 0u64..3_000_000_000, first in counters(), steps in steps(),
    ) {
        let mut state = SockState::default();
        state.start(start, &first, &Seqs::default());
        let (mut now, mut last, mut active) = (start, first, start);
        let (mut area, mut idle_area, mut idle, mut peak) = (0u128, 0u128, 0u64, first.resident());
        let (mut charged, mut idle_max) = (0u64, 0u64);
        for (span, after, moved) in steps {
            let t = now.saturating_add_signed(span);
            if t > now {
                let held = u128::from(last.resident());
                area += held * u128::from(t - now);
                let quiet = t.saturating_sub((active + idle_after).max(now));
                idle += quiet;
                idle_area += held * u128::from(quiet);
                if quiet > 0 {
                    idle_max = idle_max.max(last.resident());
                }
                now = t;
            }
            let seqs = moved.unwrap_or(state.seqs);
            if seqs.moved_since(&state.seqs) {
                active = t;
            }
            state.advance(t, idle_after);
            state.take(t, &after, &seqs);
            charged += after.resident().saturating_sub(last.resident());
            last = after;
            peak = peak.max(after.resident());

            prop_assert_eq!(state.baseline + state.charged - state.released, after.resident());
            prop_assert!(state.idle_ns <= now - start, "idle {} of {}", state.idle_ns, now - start);
        }
        prop_assert_eq!(state.last_ns, now);
        prop_assert_eq!(state.charged, charged);
        prop_assert_eq!(state.resident_time.byte_ns(), area);
        prop_assert_eq!(state.idle_ns, idle);
        prop_assert_eq!(state.idle_time.iter().map(Integral::byte_ns).sum::<u128>(), idle_area);
        prop_assert_eq!(state.resident_peak, peak);
        prop_assert_eq!(state.idle_resident_max, idle_max);
    }

    #[test]
    fn advancing_in_two_steps_is_advancing_in_one(
        c in counters(), s in seqs(), a in 0u64..1 << 40, b in 0u64..1 << 40, idle_after in 0u64..1 << 40,
    ) {
        let mut once = SockState::default();
        once.start(7, &c, &s);
        let mut twice = once;
        once.advance(7 + a + b, idle_after);
        twice.advance(7 + a, idle_after);
        twice.advance(7 + a + b, idle_after);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn buckets_keep_values_within_a_thirty_second(value in 0u32..1 << 22) {
        let index = bucket(value);
        prop_assert!(index < BUCKETS);
        let floor = bucket_floor(index);
        prop_assert!(floor <= value, "{floor} > {value}");
        prop_assert!((value - floor) as u64 * 32 <= value as u64, "{floor} of {value}");
        prop_assert_eq!(bucket(floor), index);
    }

    #[test]
    fn larger_values_fall_into_no_lower_bucket(a in any::<u32>(), b in any::<u32>()) {
        prop_assert!(bucket(a.min(b)) <= bucket(a.max(b)));
    }
}

#[test]
fn every_bucket_starts_where_the_one_before_ends() {
    for index in 0..BUCKETS {
        assert_eq!(bucket(bucket_floor(index)), index);
        if index > 0 {
            assert_eq!(bucket(bucket_floor(index) - 1), index - 1);
        }
    }
    assert_eq!(bucket(u32::MAX), BUCKETS - 1);
}

#[test]
fn one_unread_byte_holds_a_page_for_its_reader() {
    // A truesize of 768 charged as a page: the rounding follows the data.
    let c = Counters {
        rmem_alloc: 768,
        forward_alloc: 3328,
        ..Counters::default()
    };
    let s = Seqs {
        rcv_nxt: 1,
        flags: SEQ_VALID,
        ..Seqs::default()
    };
    let mut want = [0; REASONS];
    want[Reason::Unread as usize] = 4096;
    assert_eq!(split(&c, &s), want);
}

#[test]
fn a_drained_socket_that_keeps_its_credit_is_reserved() {
    let c = Counters {
        forward_alloc: 1 << 20,
        ..Counters::default()
    };
    let mut want = [0; REASONS];
    want[Reason::Reserved as usize] = 1 << 20;
    assert_eq!(split(&c, &Seqs::default()), want);
}

#[test]
fn sequence_numbers_wrap() {
    let s = Seqs {
        rcv_nxt: 5,
        copied_seq: u32::MAX - 4,
        ..Seqs::default()
    };
    assert_eq!(s.unread(), 10);
    // The application consumed urgent data ahead of rcv_nxt: nothing is unread.
    let s = Seqs {
        rcv_nxt: 5,
        copied_seq: 6,
        ..Seqs::default()
    };
    assert_eq!(s.unread(), 0);
}

#[test]
fn the_reasons_follow_what_is_queued() {
    let c = Counters {
        rmem_alloc: 10_000,
        wmem_queued: 20_000,
        ..Counters::default()
    };
    let ofo = Seqs {
        flags: SEQ_VALID | SEQ_OFO,
        write_seq: 9,
        ..Seqs::default()
    };
    let parts = split(&c, &ofo);
    assert_eq!(
        (
            parts[Reason::OutOfOrder as usize],
            parts[Reason::Unsent as usize]
        ),
        (10_000, 20_000)
    );
    let sent = Seqs {
        snd_nxt: 9,
        rcv_nxt: 3,
        ..ofo
    };
    let parts = split(&c, &sent);
    assert_eq!(
        (
            parts[Reason::Unread as usize],
            parts[Reason::Unacked as usize]
        ),
        (10_000, 20_000)
    );
}
