//! A socket's memory counters and sequence numbers, as the kernel keeps them.

/// One reading of `struct sock`'s memory counters. Bytes, except that the two
/// limits are ceilings and never usage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `sk_backlog.rmem_alloc`: truesize queued to be read (receive and out-of-order queue).
    pub rmem_alloc: u32,
    /// `sk_wmem_queued`: truesize written and not yet acknowledged.
    pub wmem_queued: u32,
    /// `sk_forward_alloc`: charged to the protocol, used by no skb now. May be
    /// negative for a moment while the kernel is between two steps.
    pub forward_alloc: i32,
    /// `sk_wmem_alloc` minus its bias of 1: truesize handed to the layers below.
    /// For TCP it overlaps `wmem_queued`; the two are never added.
    pub wmem_alloc: u32,
    /// `sk_omem_alloc`: options, filters, zerocopy notifications.
    pub optmem: u32,
    /// `sk_backlog.len`: truesize waiting because a process owns the socket.
    pub backlog: u32,
    /// `sk_rcvbuf`: a limit.
    pub rcvbuf: u32,
    /// `sk_sndbuf`: a limit.
    pub sndbuf: u32,
}

const _: () = assert!(size_of::<Counters>() == 32);

impl Counters {
    /// Not 0 where any counter differs. No branch instead of eight: cheaper to run, and fewer
    /// paths for the verifier to walk.
    #[inline(always)]
    #[must_use]
    pub fn difference(&self, other: &Counters) -> u32 {
        (self.rmem_alloc ^ other.rmem_alloc)
            | (self.wmem_queued ^ other.wmem_queued)
            | (self.forward_alloc ^ other.forward_alloc) as u32
            | (self.wmem_alloc ^ other.wmem_alloc)
            | (self.optmem ^ other.optmem)
            | (self.backlog ^ other.backlog)
            | (self.rcvbuf ^ other.rcvbuf)
            | (self.sndbuf ^ other.sndbuf)
    }

    /// What the kernel charges against `tcp_mem` for this socket:
    /// `rmem_alloc + wmem_queued + forward_alloc`, never below zero.
    #[inline(always)]
    #[must_use]
    pub fn resident(&self) -> u64 {
        // Signed, because forward_alloc may be negative while an skb is charged
        // before its page is.
        let sum = self.rmem_alloc as i64 + self.wmem_queued as i64 + self.forward_alloc as i64;
        if sum < 0 { 0 } else { sum as u64 }
    }
}

/// `Seqs::flags`: `tcp_sock.out_of_order_queue` is not empty.
pub const SEQ_OFO: u32 = 1;
/// `Seqs::flags`: the sequence numbers were read (a full TCP socket that does not listen).
pub const SEQ_VALID: u32 = 2;

/// The TCP sequence numbers that tell where payload is. `tcp_sock` fields of the same names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seqs {
    /// Next byte expected from the peer.
    pub rcv_nxt: u32,
    /// First byte the application has not read.
    pub copied_seq: u32,
    /// Tail of what the application wrote.
    pub write_seq: u32,
    /// First byte the peer has not acknowledged.
    pub snd_una: u32,
    /// Next byte to be sent.
    pub snd_nxt: u32,
    /// `SEQ_OFO`, `SEQ_VALID`.
    pub flags: u32,
}

const _: () = assert!(size_of::<Seqs>() == 24);

/// Distance between two sequence numbers, 0 where `to` is behind `from` (as
/// tcp_diag does with `max_t(int, …, 0)`, net/ipv4/tcp_diag.c, 5.10 to 7.2).
#[inline(always)]
fn ahead(to: u32, from: u32) -> u32 {
    let d = to.wrapping_sub(from);
    if (d as i32) < 0 { 0 } else { d }
}

impl Seqs {
    /// Payload received in order and not yet read: `rcv_nxt - copied_seq`. Bytes.
    #[inline(always)]
    #[must_use]
    pub fn unread(&self) -> u32 {
        ahead(self.rcv_nxt, self.copied_seq)
    }

    /// Payload written and not yet acknowledged: `write_seq - snd_una`. Bytes.
    #[inline(always)]
    #[must_use]
    pub fn unacked(&self) -> u32 {
        ahead(self.write_seq, self.snd_una)
    }

    /// Sent and not acknowledged: `snd_nxt - snd_una`. Bytes.
    #[inline(always)]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        ahead(self.snd_nxt, self.snd_una)
    }

    /// Written and not yet sent: `write_seq - snd_nxt`. Bytes.
    #[inline(always)]
    #[must_use]
    pub fn unsent(&self) -> u32 {
        ahead(self.write_seq, self.snd_nxt)
    }

    /// Whether the out-of-order queue holds something.
    #[inline(always)]
    #[must_use]
    pub fn out_of_order(&self) -> bool {
        self.flags & SEQ_OFO != 0
    }

    /// Not 0 where anything differs.
    #[inline(always)]
    #[must_use]
    pub fn difference(&self, other: &Seqs) -> u32 {
        (self.rcv_nxt ^ other.rcv_nxt)
            | (self.copied_seq ^ other.copied_seq)
            | (self.write_seq ^ other.write_seq)
            | (self.snd_una ^ other.snd_una)
            | (self.snd_nxt ^ other.snd_nxt)
            | (self.flags ^ other.flags)
    }

    /// Whether payload moved between the two readings, in either direction.
    #[inline(always)]
    #[must_use]
    pub fn moved_since(&self, before: &Seqs) -> bool {
        ((self.rcv_nxt ^ before.rcv_nxt)
            | (self.copied_seq ^ before.copied_seq)
            | (self.write_seq ^ before.write_seq)
            | (self.snd_una ^ before.snd_una)
            | (self.snd_nxt ^ before.snd_nxt))
            != 0
    }
}

/// Why memory is held: index into a split of resident bytes.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The application has not read it.
    Unread = 0,
    /// The peer has not acknowledged it.
    Unacked = 1,
    /// Window or congestion holds it: nothing is in flight.
    Unsent = 2,
    /// It waits for a hole before it to be filled.
    OutOfOrder = 3,
    /// `forward_alloc` kept by the kernel, or `SO_RESERVE_MEM`.
    Reserved = 4,
}

/// How many reasons there are.
pub const REASONS: usize = 5;

/// The largest remainder that rounding a charge up to a page leaves. Also the
/// quantum of accounting (`SK_MEM_QUANTUM` up to 5.19) on machines with 4 KiB pages.
pub const QUANTUM: u32 = 4096;

/// Splits resident bytes by the reason that holds them; the parts add up to
/// `counters.resident()`.
///
/// * `rmem_alloc` goes to `Unread` when in-order payload waits to be read, else
///   to `OutOfOrder` when only the out-of-order queue holds something. The kernel has
///   one counter for both queues, so with both filled it counts as `Unread`.
/// * `wmem_queued` goes to `Unacked` while something is in flight, else to `Unsent`.
/// * `forward_alloc` is `Reserved`, except that less than one page of it beside
///   queued data is the rounding of that data's charge and follows the data.
#[inline(always)]
#[must_use]
pub fn split(c: &Counters, s: &Seqs) -> [u64; REASONS] {
    let mut out = [0u64; REASONS];
    let rx = if s.unread() == 0 && s.out_of_order() {
        Reason::OutOfOrder
    } else {
        Reason::Unread
    };
    let tx = if s.in_flight() != 0 {
        Reason::Unacked
    } else {
        Reason::Unsent
    };
    out[rx as usize] = c.rmem_alloc as u64;
    out[tx as usize] = c.wmem_queued as u64;
    let queued = c.rmem_alloc as u64 + c.wmem_queued as u64;
    // Enum values all the way: an index that the compiler cannot bound becomes a panic, which
    // the verifier refuses.
    let (data, other) = if c.rmem_alloc >= c.wmem_queued {
        (rx as usize, tx as usize)
    } else {
        (tx as usize, rx as usize)
    };
    if c.forward_alloc >= 0 {
        let fwd = c.forward_alloc as u64;
        if queued > 0 && fwd < QUANTUM as u64 {
            out[data] += fwd;
        } else {
            out[Reason::Reserved as usize] = fwd;
        }
    } else {
        // Negative for a moment: the data's own part is what is not yet charged,
        // and where that is not enough the other queue's, so that the sum stays.
        let lack = (-(c.forward_alloc as i64)) as u64;
        let rest = lack.saturating_sub(out[data]);
        out[data] = out[data].saturating_sub(lack);
        out[other] = out[other].saturating_sub(rest);
    }
    out
}
