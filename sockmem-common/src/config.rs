//! What user space tells the programs before they are loaded, and what they count.

/// Offset of a field that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! layout {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Byte offsets of kernel fields, resolved from the running kernel's BTF
        /// and patched into `.rodata`, where the verifier takes them as constants.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Layout {
            $($(#[$doc])* pub $name: u32,)*
        }
        impl Layout {
            /// Every field absent.
            pub const NONE: Layout = Layout { $($name: ABSENT,)* };
            /// The fields' names, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];
        }
    };
}

layout! {
    /// `sock.sk_backlog.rmem_alloc.counter`, 4 bytes.
    rmem_alloc,
    /// `sock.sk_backlog.len`, 4 bytes.
    backlog_len,
    /// `sock.sk_wmem_queued`, 4 bytes.
    wmem_queued,
    /// `sock.sk_forward_alloc`, 4 bytes.
    forward_alloc,
    /// `sock.sk_wmem_alloc.refs.counter`, 4 bytes, biased by 1.
    wmem_alloc,
    /// `sock.sk_omem_alloc.counter`, 4 bytes.
    omem_alloc,
    /// `sock.sk_rcvbuf`, 4 bytes.
    rcvbuf,
    /// `sock.sk_sndbuf`, 4 bytes.
    sndbuf,
    /// `sock.sk_lock.owned`, 4 bytes (`int`).
    lock_owned,
    /// `sock.sk_protocol`, 2 bytes.
    protocol,
    /// `sock.sk_socket`, pointer.
    socket,
    /// `sock.__sk_common.skc_family`, 2 bytes.
    family,
    /// `sock.__sk_common.skc_state`, 1 byte.
    state,
    /// `sock.__sk_common.skc_num`, 2 bytes, host order.
    num,
    /// `sock.__sk_common.skc_dport`, 2 bytes, network order.
    dport,
    /// `sock.__sk_common.skc_daddr`, 4 bytes.
    daddr,
    /// `sock.__sk_common.skc_rcv_saddr`, 4 bytes.
    rcv_saddr,
    /// `sock.__sk_common.skc_v6_daddr`, 16 bytes.
    v6_daddr,
    /// `sock.__sk_common.skc_v6_rcv_saddr`, 16 bytes.
    v6_rcv_saddr,
    /// `sock.__sk_common.skc_cookie.counter`, 8 bytes.
    cookie,
    /// `sock.__sk_common.skc_net.net`, pointer.
    net,
    /// `net.ns.inum`, 4 bytes.
    net_inum,
    /// From a `struct socket` to its inode number: `socket_alloc.vfs_inode.i_ino`, 8 bytes.
    socket_ino,
    /// `tcp_sock.rcv_nxt`, 4 bytes.
    rcv_nxt,
    /// `tcp_sock.copied_seq`, 4 bytes.
    copied_seq,
    /// `tcp_sock.write_seq`, 4 bytes.
    write_seq,
    /// `tcp_sock.snd_una`, 4 bytes.
    snd_una,
    /// `tcp_sock.snd_nxt`, 4 bytes.
    snd_nxt,
    /// `tcp_sock.out_of_order_queue.rb_node`, pointer.
    ofo_root,
    /// `sk_buff.sk`, pointer.
    skb_sk,
    /// `sk_buff.truesize`, 4 bytes.
    skb_truesize,
    /// `sk_buff.len`, 4 bytes.
    skb_len,
    /// `sk_buff.cb`, 48 bytes: in TCP a `struct tcp_skb_cb`.
    skb_cb,
    /// `tcp_skb_cb.seq`, 4 bytes.
    cb_seq,
    /// `tcp_skb_cb.end_seq`, 4 bytes.
    cb_end_seq,
    /// `task_struct.tgid`, 4 bytes.
    task_tgid,
    /// `task_struct.pid`, 4 bytes.
    task_pid,
    /// `sock.sk_userlocks`: byte that holds it.
    userlocks,
    /// Right shift that brings `sk_userlocks` to bit 0 of that byte (a bit field up to 6.1).
    userlocks_shift,
    /// `socket.sk`, pointer.
    socket_sk,
    /// `sock.sk_reserved_mem`, 4 bytes (5.16 and later).
    reserved_mem,
    /// `tcp_sock.window_clamp`, 4 bytes.
    window_clamp,
    /// `tcp_sock.notsent_lowat`, 4 bytes.
    notsent_lowat,
    /// `sock.__sk_common.skc_prot`, pointer.
    prot,
    /// `proto.memory_allocated`, pointer to an `atomic_long_t`.
    proto_allocated,
    /// `proto.memory_pressure`, pointer to an `unsigned long`.
    proto_pressure,
    /// `proto.sysctl_mem`, pointer to three `long`.
    proto_limits,
    /// `kiocb.ki_filp`, pointer.
    kiocb_file,
    /// `file.f_path.dentry`, pointer.
    file_dentry,
    /// `dentry.d_name.name`, pointer to characters.
    dentry_name,
    /// `task_struct.nsproxy`, pointer.
    task_nsproxy,
    /// `nsproxy.net_ns`, pointer.
    nsproxy_net,
}

const _: () = assert!(size_of::<Layout>() == 52 * 4);

/// `Settings::flags`: trace every TCP socket, whoever owns it.
pub const SET_ALL: u32 = 1;
/// `Settings::flags`: children of traced processes are traced too.
pub const SET_FOLLOW: u32 = 2;
/// `Settings::flags`: `bpf_get_socket_cookie` works in tracing programs (5.12 and later).
pub const SET_COOKIE: u32 = 4;
/// `Settings::flags`: kprobe arguments are laid out as on aarch64 (else x86-64).
pub const SET_AARCH64: u32 = 8;
/// `Settings::flags`: sockets with a wanted port are traced, whoever owns them.
pub const SET_PORTS: u32 = 16;
/// `Settings::flags`: no event per change (state and totals only); for measuring.
pub const SET_QUIET: u32 = 32;

/// `Settings::flags`: skbs are counted by truesize.
pub const SET_TRUESIZE: u32 = 64;

/// Fixed for the life of a trace; patched into `.rodata`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// A socket is idle when no payload has moved for this long.
    pub idle_after_ns: u64,
    /// At most one event per socket in this span; 0 sends every change.
    pub coalesce_ns: u64,
    /// `SET_*`.
    pub flags: u32,
    /// The tracer's own thread-group id.
    pub self_tgid: u32,
    /// Bytes of events per CPU between two wake-ups of the reader.
    pub wakeup_bytes: u32,
    /// A resync reads only sockets that have not changed for this long: those in motion are
    /// observed anyway, and reading them outside their lock could take an older value for new.
    pub resync_quiet_ns: u32,
    /// BTF id of `struct tcp_sock` where the kernel has `bpf_rdonly_cast` (6.2 and later), which
    /// makes a typed pointer of an address; else 0. Filled in by the loader.
    pub tcp_sock_type: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Settings>() == 40);

/// `imm` of the call that stands for `bpf_rdonly_cast` in the object: no helper has this number.
/// The loader puts the function's BTF id in its place; where there is no such function
/// the call is not reached, and the verifier drops it.
pub const CAST_PLACEHOLDER: u32 = 0x534d_0001;

/// Counted per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Changes seen: `sent + merged + dropped_ring` once the trace is at rest.
    pub seen: u64,
    /// Changes sent as records of their own.
    pub sent: u64,
    /// Changes folded into a later record of the same socket (coalesced mode), or not asked for.
    pub merged: u64,
    /// Changes not sent because the ring buffer was full.
    pub dropped_ring: u64,
    /// Sockets not traced because the state map was full.
    pub dropped_map: u64,
    /// Life-cycle records that did not fit into the ring and were kept in the state maps.
    pub parked: u64,
    /// Life-cycle records that fitted nowhere: a closed socket's totals are missing.
    pub lost_closed: u64,
    /// Events' bytes since the last wake-up. Scratch.
    pub since_wakeup: u64,
    /// Serial number for `SockState::id`. Scratch.
    pub serial: u64,
    /// Sockets that waited in a full list (tracepoint tier): read at the next resync instead.
    pub pending_full: u64,
    /// Return probes whose entry was not found (kprobe tier).
    pub lost_entry: u64,
}

const _: () = assert!(size_of::<Stats>() == 88);

/// Entries in one CPU's list of touched sockets (tracepoint tier). A power of two.
pub const PENDING_SLOTS: usize = 64;

/// Sockets to read again when the section they were touched in ends (tracepoint tier).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Entries in use.
    pub len: u32,
    /// Zero.
    pub reserved: u32,
    /// `Entry::index` of each.
    pub entries: [u32; PENDING_SLOTS],
}

const _: () = assert!(size_of::<Pending>() == 8 + 4 * PENDING_SLOTS);

/// A setsockopt call on a limit, from its entry to its return.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptCall {
    /// `struct sock *`.
    pub sk: u64,
    /// As `LimitSet::began_ns`.
    pub began_ns: u64,
    /// As `LimitSet::from`.
    pub from: u32,
    /// As `LimitSet::asked`.
    pub asked: i32,
    /// As `LimitSet::optname`.
    pub optname: u32,
    /// As `LimitSet::level`.
    pub level: u16,
    /// As `LimitSet::what`.
    pub what: u8,
    /// As `LimitSet::flags`.
    pub flags: u8,
}

const _: () = assert!(size_of::<OptCall>() == 32);

/// Of which socket and kind a `Pressure` was sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureKey {
    /// `SockState::id`; 0 for all that are not traced.
    pub id: u64,
    /// `PRESSURE_*`.
    pub kind: u64,
}

const _: () = assert!(size_of::<PressureKey>() == 16);

/// When it was sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureMark {
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub sent_ns: u64,
    /// Occurrences since then.
    pub waiting: u64,
}

const _: () = assert!(size_of::<PressureMark>() == 16);

/// The audit's result, per CPU: live counters compared with the last observed ones.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditStats {
    /// Comparisons made.
    pub checks: u64,
    /// `rmem_alloc` differed.
    pub miss_rmem_alloc: u64,
    /// `wmem_queued` differed.
    pub miss_wmem_queued: u64,
    /// `forward_alloc` differed.
    pub miss_forward_alloc: u64,
    /// Comparisons with at least one difference.
    pub misses: u64,
    /// `hook::*` of the place where the last difference was found.
    pub last_miss_hook: u64,
    /// 1 while this CPU is inside `tcp_release_cb`. Scratch.
    pub in_release_cb: u64,
}

const _: () = assert!(size_of::<AuditStats>() == 56);
