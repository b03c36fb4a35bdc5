//! Payload that a connection moved, from its sequence numbers.
//!
//! TCP numbers every byte. The distance that `rcv_nxt` (received in order) and `snd_una`
//! (acknowledged by the peer) went between two readings is the payload in between, as long as it
//! is below 4 GiB: the numbers have 32 bits. SYN and FIN take a number each, so a connection may
//! count up to two bytes more in a direction.

use sockmem_common::{SEQ_VALID, SockState};

/// Where a connection's sequence numbers are, and how far they came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    rcv_nxt: u32,
    snd_una: u32,
    last_ns: u64,
    charged: u64,
    started: bool,
    /// It came through a listener.
    pub(super) accepted: bool,
    /// Bytes of payload in both directions.
    pub(super) payload: u64,
    /// More may have moved between two readings than the numbers can tell.
    pub(super) wrapped: bool,
}

/// Both directions of sequence numbers are set: not before the handshake's end, and not in
/// `TCP_LISTEN` (10). `TCP_CLOSE` (7) is after the end, and the numbers stand.
fn numbered(s: &SockState) -> bool {
    s.seqs.flags & SEQ_VALID != 0 && matches!(s.tcp_state, 1 | 4..=9 | 11)
}

impl Flow {
    /// Takes a state as the kernel gave it; older ones than the last are ignored.
    pub(super) fn take(&mut self, s: &SockState) {
        self.accepted |= s.listener_id != 0;
        if !numbered(s) || (self.started && s.last_ns < self.last_ns) {
            return;
        }
        // A socket that is closed and has no connection behind it has numbers of no meaning.
        if !self.started && s.tcp_state == 7 {
            return;
        }
        if self.started {
            let moved = |now: u32, then: u32| u64::from(now.wrapping_sub(then));
            self.payload = self
                .payload
                .saturating_add(moved(s.seqs.rcv_nxt, self.rcv_nxt))
                .saturating_add(moved(s.seqs.snd_una, self.snd_una));
            // So much memory was charged meanwhile that the numbers may have gone round.
            self.wrapped |= s.charged.saturating_sub(self.charged) > u64::from(u32::MAX);
        }
        self.rcv_nxt = s.seqs.rcv_nxt;
        self.snd_una = s.seqs.snd_una;
        self.last_ns = s.last_ns;
        self.charged = s.charged;
        self.started = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sockmem_common::Seqs;

    fn state(tcp_state: u8, t: u64, rcv: u32, una: u32) -> SockState {
        SockState {
            tcp_state,
            last_ns: t,
            seqs: Seqs {
                rcv_nxt: rcv,
                snd_una: una,
                flags: SEQ_VALID,
                ..Seqs::default()
            },
            ..SockState::default()
        }
    }

    #[test]
    fn distances_add_up_across_the_end_of_the_numbers() {
        let mut f = Flow::default();
        // The handshake's numbers are no payload.
        f.take(&state(2, 1, 0, 77));
        f.take(&state(1, 2, u32::MAX - 9, 1000));
        f.take(&state(1, 3, 90, 1500));
        // An older reading that came late.
        f.take(&state(1, 2, u32::MAX - 5, 1100));
        f.take(&state(7, 9, 95, 1500));
        assert_eq!(f.payload, 100 + 500 + 5);
        assert!(!f.wrapped);
    }

    #[test]
    fn a_socket_that_never_connected_moved_nothing() {
        let mut f = Flow::default();
        f.take(&state(7, 1, 5, 5));
        f.take(&state(10, 2, 9, 9));
        f.take(&state(2, 3, 0, 123_456));
        assert_eq!((f.payload, f.started), (0, false));
    }

    #[test]
    fn too_much_between_two_readings_is_said() {
        let mut f = Flow::default();
        f.take(&state(1, 1, 0, 0));
        let mut s = state(1, 2, 10, 10);
        s.charged = 1 << 33;
        f.take(&s);
        assert!(f.wrapped);
    }
}
