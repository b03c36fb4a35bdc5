//! Two ways to read kernel memory, one interface.

#[cfg(target_arch = "bpf")]
use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use sockmem_common::{ABSENT, CAST_PLACEHOLDER, Counters, SEQ_OFO, SEQ_VALID, Seqs};

use crate::maps::{SLOTS_AT, WINDOW, WINDOW_WORDS, off, setting};

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
    /// The same of a traced socket, which is one.
    #[inline(always)]
    fn traced_tcp_sock(sk: u64) -> u64 {
        Self::tcp_sock(sk)
    }
    /// The address as a mere number, for functions that take integers only. An entry's `sk` is
    /// the cheaper one.
    fn number(sk: u64) -> u64;
    /// `sk` minus the address of `SLOTS`, which `base` points to.
    fn distance(sk: u64, base: u64) -> u64;

    /// The memory counters of `sk`, and who has it.
    #[inline(always)]
    fn reading(sk: u64) -> Reading {
        reading(
            |off| Self::read(sk, off),
            |off| Self::read(sk, off),
            |off| Self::read(sk, off),
        )
    }

    /// The sequence numbers of a `struct tcp_sock`.
    #[inline(always)]
    fn numbers(tp: u64) -> Seqs {
        numbers(|off| Self::read(tp, off), |off| Self::read(tp, off))
    }
}

/// What is read of a `struct sock` each time.
pub struct Reading {
    /// Its memory counters.
    pub counters: Counters,
    /// Not 0 where it has a file. Here and below a number and not a `bool`: a value that was
    /// branched on once is walked twice by the verifier, from there to the end.
    pub held: u64,
    /// Not 0 where a task works on it.
    pub owned: u32,
    /// `skc_state`.
    pub state: u8,
}

/// Whether addresses can be cast (`cast()`); a constant to the verifier.
#[inline(always)]
fn casts() -> bool {
    setting!(tcp_sock_type) != 0
}

/// A `struct tcp_sock *` of an address, or of a typed `struct sock *`, for plain loads by `Typed`.
/// Costs one instruction: the verifier puts a move in the call's place.
#[inline(always)]
fn cast(sk: u64) -> u64 {
    let wanted = setting!(tcp_sock_type) as u64;
    let pointer: u64;
    // SAFETY: a call of a kernel function that only changes a pointer's type; a fault at a load
    // through it reads zero. It clobbers what every call does.
    #[cfg(target_arch = "bpf")]
    unsafe {
        asm!(
            "call {f}",
            f = const CAST_PLACEHOLDER,
            inlateout("r1") sk => _,
            inlateout("r2") wanted => _,
            lateout("r0") pointer,
            lateout("r3") _, lateout("r4") _, lateout("r5") _,
            options(nostack, pure, readonly),
        );
    }
    // Lints are run for another machine, which has no such registers.
    #[cfg(not(target_arch = "bpf"))]
    {
        pointer = sk | wanted | CAST_PLACEHOLDER as u64;
    }
    pointer
}

/// 1 where `n` is not 0, without a branch.
#[inline(always)]
fn positive(n: u32) -> u32 {
    (n | n.wrapping_neg()) >> 31
}

#[inline(always)]
fn reading(
    word: impl Fn(u32) -> u32,
    pointer: impl Fn(u32) -> u64,
    byte: impl Fn(u32) -> u8,
) -> Reading {
    let biased = word(off!(wmem_alloc));
    Reading {
        counters: Counters {
            rmem_alloc: word(off!(rmem_alloc)),
            wmem_queued: word(off!(wmem_queued)),
            forward_alloc: word(off!(forward_alloc)) as i32,
            // SK_WMEM_ALLOC_BIAS, gone once sk_free() dropped it (include/net/sock.h).
            wmem_alloc: biased - positive(biased),
            optmem: word(off!(omem_alloc)),
            backlog: word(off!(backlog_len)),
            rcvbuf: word(off!(rcvbuf)),
            sndbuf: word(off!(sndbuf)),
        },
        held: pointer(off!(socket)),
        // An int of which the first byte tells (from 7.1 a u8 in a union).
        owned: word(off!(lock_owned)) & 0xff,
        state: byte(off!(state)),
    }
}

#[inline(always)]
fn numbers(word: impl Fn(u32) -> u32, pointer: impl Fn(u32) -> u64) -> Seqs {
    let root = pointer(off!(ofo_root));
    Seqs {
        rcv_nxt: word(off!(rcv_nxt)),
        copied_seq: word(off!(copied_seq)),
        write_seq: word(off!(write_seq)),
        snd_una: word(off!(snd_una)),
        snd_nxt: word(off!(snd_nxt)),
        flags: SEQ_VALID | (SEQ_OFO * ((root | root.wrapping_neg()) >> 63) as u32),
    }
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
    fn traced_tcp_sock(sk: u64) -> u64 {
        if casts() {
            cast(sk)
        } else {
            Self::tcp_sock(sk)
        }
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

    #[inline(always)]
    fn distance(sk: u64, base: u64) -> u64 {
        // The one operation on two pointers that the verifier admits; the result is a number.
        sk.wrapping_sub(base)
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

    #[inline(always)]
    fn reading(sk: u64) -> Reading {
        if casts() {
            return Typed::reading(cast(sk));
        }
        reading(
            |off| Self::read(sk, off),
            |off| Self::read(sk, off),
            |off| Self::read(sk, off),
        )
    }

    #[inline(always)]
    fn numbers(tp: u64) -> Seqs {
        if casts() {
            return Typed::numbers(cast(tp));
        }
        numbers(|off| Self::read(tp, off), |off| Self::read(tp, off))
    }

    #[inline(always)]
    fn distance(sk: u64, _base: u64) -> u64 {
        match SLOTS_AT.get_ptr(0) {
            // SAFETY: points to a map value. 0 before there is anything to be found.
            Some(at) => sk.wrapping_sub(unsafe { *at }),
            None => sk,
        }
    }
}

/// `Probed`, with what is read of a socket each time copied in two parts; for `flush_one` alone,
/// which has the map that they are copied to for itself.
pub struct Windowed;

impl Memory for Windowed {
    const TYPED: bool = false;

    #[inline(always)]
    fn read<T: Copy + Default>(base: u64, off: u32) -> T {
        Probed::read(base, off)
    }

    #[inline(always)]
    fn tcp_sock(sk: u64) -> u64 {
        sk
    }

    #[inline(always)]
    fn number(sk: u64) -> u64 {
        sk
    }

    #[inline(always)]
    fn distance(sk: u64, base: u64) -> u64 {
        Probed::distance(sk, base)
    }

    #[inline(always)]
    fn reading(sk: u64) -> Reading {
        if casts() {
            return Typed::reading(cast(sk));
        }
        let offsets = [
            off!(rmem_alloc),
            off!(lock_owned),
            off!(wmem_alloc),
            off!(wmem_queued),
            off!(sndbuf),
        ];
        match Window::open(sk, &offsets) {
            Some(window) => reading(
                |off| window.read(off),
                |off| window.read(off),
                |off| window.read(off),
            ),
            None => Probed::reading(sk),
        }
    }

    #[inline(always)]
    fn numbers(tp: u64) -> Seqs {
        if casts() {
            return Typed::numbers(cast(tp));
        }
        let offsets = [
            off!(copied_seq),
            off!(rcv_nxt),
            off!(write_seq),
            off!(snd_una),
            off!(snd_nxt),
        ];
        match Window::open(tp, &offsets) {
            Some(window) => numbers(|off| window.read(off), |off| window.read(off)),
            None => Probed::numbers(tp),
        }
    }
}

/// A part of a structure, copied at once: a call of the helper costs about 25 ns, a byte more
/// next to nothing. What lies outside of it is read singly. The verifier knows the offsets as
/// constants and drops whichever branch is not taken.
struct Window {
    base: u64,
    start: u32,
    bytes: *const u8,
    size: u32,
}

impl Window {
    /// Copies what lies between the lowest and the highest of `offsets` of words, as far as
    /// there is room. `None` where there is no map.
    #[inline(always)]
    fn open<const N: usize>(base: u64, offsets: &[u32; N]) -> Option<Self> {
        let (mut low, mut high) = (ABSENT, 0);
        let mut i = 0;
        while i < N {
            if offsets[i] != ABSENT {
                low = if offsets[i] < low { offsets[i] } else { low };
                high = if offsets[i] > high { offsets[i] } else { high };
            }
            i += 1;
        }
        let bytes = WINDOW.get_ptr_mut(0)?.cast::<u8>();
        // Aligned, so that what is aligned in the kernel is so in the copy.
        let start = low & !7;
        let most = (8 * WINDOW_WORDS) as u32;
        let size = if high < low || high - start + 4 > most {
            most
        } else {
            high - start + 4
        };
        // SAFETY: the helper writes `size` bytes, not more than the map's value has; zeroes on
        // a fault.
        unsafe {
            bpf_probe_read_kernel(bytes.cast(), size, (base + start as u64) as *const c_void);
        }
        Some(Self {
            base,
            start,
            bytes,
            size,
        })
    }

    #[inline(always)]
    fn read<T: Copy + Default>(&self, off: u32) -> T {
        if off == ABSENT {
            return T::default();
        }
        let at = off.wrapping_sub(self.start);
        if off < self.start || at + size_of::<T>() as u32 > self.size {
            return Probed::read(self.base, off);
        }
        // SAFETY: `at` lies within `bytes`, as tested above; any bytes make an integer.
        unsafe { core::ptr::read_volatile(self.bytes.add(at as usize).cast::<T>()) }
    }
}

/// The integer that lies at `address`; zero on a fault.
#[inline(always)]
pub fn at<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: the helper writes size_of::<T>() bytes to `value`, zeroes on a fault.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            address as *const c_void,
        );
    }
    value
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

/// The sequence numbers of `sk`; not valid while it listens.
#[inline(always)]
pub fn seqs<M: Memory>(sk: u64, state: u8) -> Seqs {
    let tp = M::traced_tcp_sock(sk);
    if tp == 0 || state == TCP_LISTEN || state == TCP_NEW_SYN_RECV {
        return Seqs::default();
    }
    M::numbers(tp)
}
