//! The maps, and what user space fixed before loading.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, Stack},
};
use sockmem_common::{
    AuditStats, BUCKETS, Entry, Layout, OptCall, Owner, Pending, PressureCounts, PressureKey,
    PressureMark, Settings, SockState, Stats, TruesizeSum,
};

pub const NOEXIST: u64 = BPF_NOEXIST as u64;

/// Field offsets of the running kernel. Volatile loads of frozen `.rodata`:
/// the verifier takes each as a constant.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout::NONE;

/// What the user asked for.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings {
    idle_after_ns: 0,
    coalesce_ns: 0,
    flags: 0,
    self_tgid: 0,
    wakeup_bytes: 0,
    resync_quiet_ns: 0,
    tcp_sock_type: 0,
    reserved: 0,
};

/// `struct sock *` → index into `STATES`. Keyed by address, because every hook has it; the
/// entry goes when the socket is destroyed. Sized by the loader.
#[map]
pub static SOCKS: HashMap<u64, u64> = HashMap::with_max_entries(16384, 0);

/// The states. An array, because the verifier turns a look-up in one into a few instructions.
/// Sized by the loader.
#[map]
pub static STATES: Array<Entry> = Array::with_max_entries(16384, 0);

/// How many of each block of `STATES` are in use. Sized by the loader.
#[map]
pub static USED: Array<u64> = Array::with_max_entries(256, 0);

/// Indices of free entries.
#[map]
pub static FREE: Stack<u32> = Stack::with_max_entries(16384, 0);

/// What is known of the sockets that fall into each slot (`observe::slot`).
#[map]
pub static SLOTS: Array<Slot> = Array::with_max_entries(SLOT_COUNT, 0);

/// A power of two.
pub const SLOT_COUNT: u32 = 8192;

/// Address of `SLOTS`, as a number.
#[map]
pub static SLOTS_AT: Array<u64> = Array::with_max_entries(1, 0);

/// Value of `SLOTS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// Traced sockets: spares the sockets of everybody else the hash look-up. Never below the
    /// truth; an entry that user space removes stays counted, which costs a look-up now and then.
    pub count: u64,
    /// Index of the last one looked up: spares it the hash look-up the next time. The entry
    /// tells whether it is the one meant.
    pub hint: u64,
}

/// Final states whose life-cycle record did not fit into the ring, by `SockState::id`.
#[map]
pub static GRAVES: HashMap<u64, SockState> = HashMap::with_max_entries(4096, 0);

/// Thread-group ids whose sockets are traced.
#[map]
pub static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(8192, 0);

/// One bit for each `tgid % 4096` in `TARGETS`: spares everybody else the hash look-up.
#[map]
pub static TARGET_BITS: Array<u64> = Array::with_max_entries(64, 0);

/// Ports whose sockets are traced (`SET_PORTS`), host byte order.
#[map]
pub static PORTS: HashMap<u32, u32> = HashMap::with_max_entries(256, 0);

/// Where a traced process listens: network namespace and port → listener.
#[map]
pub static LISTENERS: HashMap<ListenKey, Listener> = HashMap::with_max_entries(1024, 0);

/// Sockets that the next baseline run adopts, by cookie. User space runs it more than once where
/// they are more.
#[map]
pub static WANTED: HashMap<u64, Owner> = HashMap::with_max_entries(8192, 0);

/// Everything that is streamed.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Counters of the tracer itself.
#[map]
pub static STATS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(1, 0);

/// Touched sockets, to be read when their section ends (tracepoint tier).
#[map]
pub static PENDING: PerCpuArray<Pending> = PerCpuArray::with_max_entries(1, 0);

/// Where `flush_one` copies parts of a socket to; the stack has no room. One at a time: it runs
/// where a softirq ends and where tasks are switched, and neither interrupts the other.
#[map]
pub static WINDOW: PerCpuArray<[u64; WINDOW_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// 8-byte words in a window. On 5.10 to 7.2 all memory counters with the limits lie within so
/// many of each other, and on 6.8 and later all sequence numbers.
pub const WINDOW_WORDS: usize = 48;

/// Stack pointer at a kretprobe's return → first argument (kprobe tier).
#[map]
pub static ENTERED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4096, 0);

/// skbs by truesize: received ones first, then allocated ones.
#[map]
pub static TRUESIZE: PerCpuArray<u64> = PerCpuArray::with_max_entries(2 * BUCKETS, 0);

/// Sums beside it: received, allocated.
#[map]
pub static TRUESIZE_SUM: PerCpuArray<TruesizeSum> = PerCpuArray::with_max_entries(2, 0);

/// The audit's result.
#[map]
pub static AUDIT: PerCpuArray<AuditStats> = PerCpuArray::with_max_entries(1, 0);

/// setsockopt calls under way, by thread (pid and tgid).
#[map]
pub static OPT_CALLS: LruHashMap<u64, OptCall> = LruHashMap::with_max_entries(1024, 0);

/// When a `Pressure` of a socket and kind was last sent.
#[map]
pub static PRESSURE_MARKS: LruHashMap<PressureKey, PressureMark> =
    LruHashMap::with_max_entries(2048, 0);

/// All occurrences of pressure.
#[map]
pub static PRESSURE_COUNTS: PerCpuArray<PressureCounts> = PerCpuArray::with_max_entries(1, 0);

/// Key of `LISTENERS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ListenKey {
    /// `struct net *`.
    pub net: u64,
    /// Host byte order.
    pub port: u64,
}

/// Value of `LISTENERS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Listener {
    /// `struct sock *` of the listener.
    pub sk: u64,
    /// Its `SockState::id`.
    pub id: u64,
    /// Its owner.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// Reads one field of `LAYOUT`; a constant to the verifier.
macro_rules! off {
    ($field:ident) => {
        // SAFETY: a volatile read of an initialised static; it must not be folded
        // at compile time, because the loader patches the value.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::LAYOUT.$field) }
    };
}

/// Reads one field of `SETTINGS`; a constant to the verifier.
macro_rules! setting {
    ($field:ident) => {
        // SAFETY: as for `off!`.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::SETTINGS.$field) }
    };
}

pub(crate) use {off, setting};
