//! Two ways to read kernel memory, one interface.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use sockmem_common::{ABSENT, Counters, SEQ_OFO, SEQ_VALID, Seqs};

use crate::maps::off;

/// `TCP_LISTEN`.
pub const TCP_LISTEN: u8 = 10;
/// `TCP_CLOSE`.
pub const TCP_CLOSE: u8 = 7;
/// `TCP_NEW_SYN_RECV`.
pub const TCP_NEW_SYN_RECV: u8 = 12;
/// `IPPROTO_TCP`.
const IPPROTO_TCP: u16 = 6;
/// `AF_INET`.
pub const AF_INET: u8 = 2;
/// `AF_INET6`.
pub const AF_INET6: u8 = 10;

/// Reads fields of kernel structures. `off` is a byte offset from `LAYOUT`; an
/// `ABSENT` one reads as zero.
pub trait Memory {
    /// Whether `bpf_get_socket_cookie` may be called on the pointer.
    const TYPED: bool;
    /// The integer of `T`'s size at `base + off`.
    fn read<T: Copy + Default>(base: u64, off: u32) -> T;
    /// `sk` as a `struct tcp_sock *`; 0 where it is none.
    fn tcp_sock(sk: u64) -> u64;
    /// The address as a mere number, for functions that take integers only.
    fn number(sk: u64) -> u64;
}

/// Plain loads, for pointers whose type the verifier knows (fentry, fexit, tp_btf, iterators).
/// It checks each offset against the type; a fault reads zero.
pub struct Typed;

impl Memory for Typed {
    const TYPED: bool = true;

    #[inline(always)]
    fn read<T: Copy + Default>(base: u64, off: u32) -> T {
        if off == ABSENT {
            return T::default();
        }
        // SAFETY: the verifier admits this load only where `base` is a pointer to a
        // kernel structure that has a field of this size at `off`.
        unsafe { core::ptr::read_volatile((base + off as u64) as *const T) }
    }

    #[inline(always)]
    fn tcp_sock(sk: u64) -> u64 {
        // SAFETY: a helper call; the verifier checks that `sk` is a socket.
        unsafe { bpf_skc_to_tcp_sock(sk as *mut c_void) as u64 }
    }

    #[inline(always)]
    fn number(sk: u64) -> u64 {
        // The verifier follows a pointer through registers and through the stack; what a helper
        // copied it takes for a number.
        let mut number = 0u64;
        // SAFETY: the helper copies 8 bytes from one local variable to another.
        unsafe {
            bpf_probe_read_kernel((&raw mut number).cast(), 8, (&raw const sk).cast());
        }
        number
    }
}

/// `bpf_probe_read_kernel`, for addresses that are mere numbers (kprobes, addresses from a map).
pub struct Probed;

impl Memory for Probed {
    const TYPED: bool = false;

    #[inline(always)]
    fn read<T: Copy + Default>(base: u64, off: u32) -> T {
        let mut value = T::default();
        if off != ABSENT {
            // SAFETY: the helper writes size_of::<T>() bytes to `value`, zeroes on a fault.
            unsafe {
                bpf_probe_read_kernel(
                    (&raw mut value).cast(),
                    size_of::<T>() as u32,
                    (base + off as u64) as *const c_void,
                );
            }
        }
        value
    }

    #[inline(always)]
    fn tcp_sock(sk: u64) -> u64 {
        // struct tcp_sock begins with the struct sock; only TCP sockets get here.
        sk
    }

    #[inline(always)]
    fn number(sk: u64) -> u64 {
        sk
    }
}

/// Copies `N` bytes from `base + off`; zeroes on a fault.
#[inline(always)]
pub fn copy<const N: usize>(base: u64, off: u32, to: &mut [u8; N]) {
    if off != ABSENT {
        // SAFETY: the helper writes N bytes to `to`.
        unsafe {
            bpf_probe_read_kernel(
                to.as_mut_ptr().cast(),
                N as u32,
                (base + off as u64) as *const c_void,
            );
        }
    }
}

/// Whether `sk` is a full TCP socket over IP. Request and TIME-WAIT minisocks never come here:
/// no hook takes them for a `struct sock`.
#[inline(always)]
pub fn is_tcp<M: Memory>(sk: u64) -> bool {
    if M::read::<u16>(sk, off!(protocol)) != IPPROTO_TCP {
        return false;
    }
    let family = M::read::<u16>(sk, off!(family)) as u8;
    family == AF_INET || family == AF_INET6
}

/// The memory counters of `sk`.
#[inline(always)]
pub fn counters<M: Memory>(sk: u64) -> Counters {
    let biased: u32 = M::read(sk, off!(wmem_alloc));
    Counters {
        rmem_alloc: M::read(sk, off!(rmem_alloc)),
        wmem_queued: M::read(sk, off!(wmem_queued)),
        forward_alloc: M::read(sk, off!(forward_alloc)),
        // SK_WMEM_ALLOC_BIAS, gone once sk_free() dropped it (include/net/sock.h).
        wmem_alloc: if biased == 0 { 0 } else { biased - 1 },
        optmem: M::read(sk, off!(omem_alloc)),
        backlog: M::read(sk, off!(backlog_len)),
        rcvbuf: M::read(sk, off!(rcvbuf)),
        sndbuf: M::read(sk, off!(sndbuf)),
    }
}

/// The sequence numbers of `sk`; not valid while it listens.
#[inline(always)]
pub fn seqs<M: Memory>(sk: u64, state: u8) -> Seqs {
    let tp = M::tcp_sock(sk);
    if tp == 0 || state == TCP_LISTEN || state == TCP_NEW_SYN_RECV {
        return Seqs::default();
    }
    let root: u64 = M::read(tp, off!(ofo_root));
    Seqs {
        rcv_nxt: M::read(tp, off!(rcv_nxt)),
        copied_seq: M::read(tp, off!(copied_seq)),
        write_seq: M::read(tp, off!(write_seq)),
        snd_una: M::read(tp, off!(snd_una)),
        snd_nxt: M::read(tp, off!(snd_nxt)),
        flags: SEQ_VALID | if root != 0 { SEQ_OFO } else { 0 },
    }
}
