//! A socket's state as a list of numbers, so that only those that differ need to be written.

use bytes::{Buf, BufMut};
use sockmem_common::{Counters, Integral, REASONS, Seqs, SockState};

use super::varint::{Short, get_u64, put_u64, unzigzag, zigzag};

/// How many numbers a state has: fewer than there are bits in a mask.
pub(super) const WORDS: usize = 61;

/// A state's numbers, in the order of docs/FORMAT.md.
pub(super) type Words = [u64; WORDS];

fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    let mut b = bytes.as_slice();
    [b.get_u64_le(), b.get_u64_le()]
}

fn whole(halves: [u64; 2]) -> [u8; 16] {
    let mut out = [0; 16];
    let mut b = out.as_mut_slice();
    b.put_u64_le(halves[0]);
    b.put_u64_le(halves[1]);
    out
}

/// From a state to its numbers. Every field by name: a new one does not compile until it is here.
#[rustfmt::skip]
pub(super) fn words(state: &SockState) -> Words {
    let SockState {
        id, cookie, inode, listener_id, first_ns, last_ns, last_activity_ns, last_emit_ns,
        baseline, charged, released, changes, idle_ns, resident_peak, idle_resident_max,
        resident_time: t, idle_time: [i0, i1, i2, i3, i4], counters: c, seqs: s,
        rmem_peak, wmem_queued_peak, window_min, window_max, merged, netns, owner_tgid, pending,
        owner_kind, tcp_state, family, flags, local_port, remote_port, local, remote, owner_comm,
    } = *state;
    let ([l0, l1], [r0, r1], [n0, n1]) = (halves(&local), halves(&remote), halves(&owner_comm));
    [
        id, cookie, inode, listener_id, first_ns, last_ns, last_activity_ns, last_emit_ns,
        baseline, charged, released, changes, idle_ns, resident_peak, idle_resident_max,
        t.high, t.low, i0.high, i0.low, i1.high, i1.low, i2.high, i2.low, i3.high, i3.low, i4.high, i4.low,
        c.rmem_alloc.into(), c.wmem_queued.into(), u64::from(c.forward_alloc as u32), c.wmem_alloc.into(),
        c.optmem.into(), c.backlog.into(), c.rcvbuf.into(), c.sndbuf.into(),
        s.rcv_nxt.into(), s.copied_seq.into(), s.write_seq.into(), s.snd_una.into(), s.snd_nxt.into(), s.flags.into(),
        rmem_peak.into(), wmem_queued_peak.into(), window_min.into(), window_max.into(),
        merged.into(), netns.into(), owner_tgid.into(), pending.into(),
        owner_kind.into(), tcp_state.into(), family.into(), flags.into(), local_port.into(), remote_port.into(),
        l0, l1, r0, r1, n0, n1,
    ]
}

/// From numbers to the state. Numbers too large for their field lose their upper bits.
#[rustfmt::skip]
pub(super) fn state(words: &Words) -> SockState {
    let mut rest = words.iter().copied();
    // The array has exactly as many as are taken here (a test walks them all).
    let mut w = || rest.next().unwrap_or(0);
    SockState {
        id: w(), cookie: w(), inode: w(), listener_id: w(),
        first_ns: w(), last_ns: w(), last_activity_ns: w(), last_emit_ns: w(),
        baseline: w(), charged: w(), released: w(), changes: w(),
        idle_ns: w(), resident_peak: w(), idle_resident_max: w(),
        resident_time: Integral { high: w(), low: w() },
        idle_time: {
            let mut parts = [Integral::default(); REASONS];
            for part in &mut parts {
                *part = Integral { high: w(), low: w() };
            }
            parts
        },
        counters: Counters {
            rmem_alloc: w() as u32, wmem_queued: w() as u32, forward_alloc: w() as u32 as i32,
            wmem_alloc: w() as u32, optmem: w() as u32, backlog: w() as u32,
            rcvbuf: w() as u32, sndbuf: w() as u32,
        },
        seqs: Seqs {
            rcv_nxt: w() as u32, copied_seq: w() as u32, write_seq: w() as u32,
            snd_una: w() as u32, snd_nxt: w() as u32, flags: w() as u32,
        },
        rmem_peak: w() as u32, wmem_queued_peak: w() as u32, window_min: w() as u32, window_max: w() as u32,
        merged: w() as u32, netns: w() as u32, owner_tgid: w() as u32, pending: w() as u32,
        owner_kind: w() as u8, tcp_state: w() as u8, family: w() as u8, flags: w() as u8,
        local_port: w() as u16, remote_port: w() as u16,
        local: whole([w(), w()]), remote: whole([w(), w()]), owner_comm: whole([w(), w()]),
    }
}

/// Writes what of `now` differs from `before`: a mask, then a difference for each bit set.
pub(super) fn put_difference(out: &mut impl BufMut, before: &Words, now: &Words) {
    let mut mask = 0u64;
    for (at, (b, n)) in before.iter().zip(now).enumerate() {
        mask |= u64::from(b != n) << at;
    }
    put_u64(out, mask);
    for (b, n) in before.iter().zip(now) {
        if b != n {
            put_u64(out, zigzag(n.wrapping_sub(*b)));
        }
    }
}

/// Reads what `put_difference` wrote, into `words`, which hold what was before.
pub(super) fn get_difference(from: &mut &[u8], words: &mut Words) -> Result<(), Short> {
    let mut mask = get_u64(from)?;
    while mask != 0 {
        let at = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        let difference = unzigzag(get_u64(from)?);
        // A bit beyond the last number belongs to a later minor version: read over.
        if let Some(word) = words.get_mut(at) {
            *word = word.wrapping_add(difference);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_number_has_its_field() {
        let mut numbers = [0u64; WORDS];
        for (n, at) in numbers.iter_mut().zip(1u64..) {
            *n = at;
        }
        assert_eq!(words(&state(&numbers)), numbers);
        assert_eq!(words(&state(&[u64::MAX; WORDS]))[0], u64::MAX);
    }

    proptest! {
        #[test]
        fn differences_come_back(
            before in prop::collection::vec(any::<u64>(), WORDS),
            now in prop::collection::vec(any::<u64>(), WORDS),
            same in any::<u64>(),
        ) {
            let before: Words = before.try_into().expect("as many as asked for");
            let mut now: Words = now.try_into().expect("as many as asked for");
            for at in 0..WORDS {
                if same >> at & 1 == 1 {
                    now[at] = before[at];
                }
            }
            let mut out = Vec::new();
            put_difference(&mut out, &before, &now);
            let (mut from, mut got) = (out.as_slice(), before);
            prop_assert_eq!(get_difference(&mut from, &mut got), Ok(()));
            prop_assert_eq!(got, now);
            prop_assert!(from.is_empty());
            for cut in 0..out.len() {
                let (mut from, mut got) = (&out[..cut], before);
                prop_assert_eq!(get_difference(&mut from, &mut got), Err(Short));
            }
        }
    }
}
