//! The table: every field of [`Layout`], once.
//!
//! Required is what a socket cannot be accounted for without: the three counters
//! that make up `resident`, what tells a TCP socket from others, its state, its
//! ports, and the way from it to its owner. Everything else is optional: the
//! tool runs without it and says what it does not know.

use sockmem_common::Layout;

use crate::kernel::btf::{Btf, Shape};

/// What a field must be.
pub(super) enum Want {
    /// An integer of so many bytes, not a bit field.
    Integer(u32),
    /// A struct or union of so many bytes, copied whole.
    Bytes(u32),
    /// An array of so many bytes.
    Array(u32),
    /// A pointer to a type of that name.
    Pointer(&'static str),
    /// A pointer to whatever it is.
    Address,
}

impl std::fmt::Display for Want {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Want::Integer(bytes) => write!(f, "an integer of {bytes} bytes"),
            Want::Bytes(bytes) => write!(f, "a struct of {bytes} bytes"),
            Want::Array(bytes) => write!(f, "an array of {bytes} bytes"),
            Want::Pointer(name) => write!(f, "a pointer to {name}"),
            Want::Address => write!(f, "a pointer"),
        }
    }
}

/// Whether the tool can do without a field, and what the field serves.
pub(super) enum Need {
    Required(&'static str),
    Optional(&'static str),
}

/// A field that is where one path leads to.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) slot: fn(&mut Layout) -> &mut u32,
    pub(super) root: &'static str,
    pub(super) path: &'static str,
    pub(super) want: Want,
    pub(super) need: Need,
}

/// A field that takes more than a path.
pub(super) struct Special {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) lost: &'static str,
    pub(super) find: fn(&Btf, &mut Layout) -> Result<(), String>,
}

/// Name and slot come from one token, so they cannot disagree.
macro_rules! rows {
    ($($name:ident = $root:literal $path:literal, $want:expr, $need:expr;)*) => {
        &[$(Row {
            name: stringify!($name),
            slot: |layout| &mut layout.$name,
            root: $root,
            path: $path,
            want: $want,
            need: $need,
        },)*]
    };
}

use Need::{Optional, Required};
use Want::{Address, Array, Bytes, Integer, Pointer};

const IPV4: &str = "IPv4 addresses of sockets";
const IPV6: &str = "IPv6 addresses of sockets";
const PAYLOAD: &str = "unread bytes, idle times and the idle reasons unread, unacked and unsent";
const TRUESIZE: &str = "the histogram of buffer sizes and the payload ratio";
const ENTER: &str = "the moment at which TCP enters memory pressure";
const ALLOCATED: &str = "pages charged to TCP, and tcp_mem, in events of memory pressure";
const WRITER: &str = "who writes a sysctl";
const FOLLOW: &str = "following the children of traced processes (--follow)";

/// Widths are those of 5.10 to 7.2; `atomic_t`, `refcount_t` and `atomic64_t` are
/// structs around an `int` or `s64`, hence `.counter`.
pub(super) const TABLE: &[Row] = rows! {
    rmem_alloc = "sock" "sk_backlog.rmem_alloc.counter", Integer(4),
        Required("memory queued to be read");
    wmem_queued = "sock" "sk_wmem_queued", Integer(4),
        Required("memory written and not acknowledged");
    forward_alloc = "sock" "sk_forward_alloc", Integer(4),
        Required("memory charged and not used");
    protocol = "sock" "sk_protocol", Integer(2),
        Required("telling TCP from other sockets");
    family = "sock" "__sk_common.skc_family", Integer(2),
        Required("telling TCP from other sockets");
    state = "sock" "__sk_common.skc_state", Integer(1),
        Required("the TCP state");
    socket = "sock" "sk_socket", Pointer("socket"),
        Required("telling a process's sockets from orphans");
    num = "sock" "__sk_common.skc_num", Integer(2),
        Required("local ports");
    dport = "sock" "__sk_common.skc_dport", Integer(2),
        Required("remote ports");

    backlog_len = "sock" "sk_backlog.len", Integer(4),
        Optional("backlog: memory of packets that wait while a process owns the socket");
    wmem_alloc = "sock" "sk_wmem_alloc.refs.counter", Integer(4),
        Optional("wmem_alloc: memory handed to the layers below TCP");
    omem_alloc = "sock" "sk_omem_alloc.counter", Integer(4),
        Optional("optmem: memory of options and zerocopy notifications");
    rcvbuf = "sock" "sk_rcvbuf", Integer(4),
        Optional("the limit rcvbuf and its changes");
    sndbuf = "sock" "sk_sndbuf", Integer(4),
        Optional("the limit sndbuf and its changes");
    lock_owned = "sock" "sk_lock.owned", Integer(4),
        Optional("leaving out values in the middle of a system call: peaks may be too high");
    daddr = "sock" "__sk_common.skc_daddr", Integer(4), Optional(IPV4);
    rcv_saddr = "sock" "__sk_common.skc_rcv_saddr", Integer(4), Optional(IPV4);
    // Without CONFIG_IPV6 there are none.
    v6_daddr = "sock" "__sk_common.skc_v6_daddr", Bytes(16), Optional(IPV6);
    v6_rcv_saddr = "sock" "__sk_common.skc_v6_rcv_saddr", Bytes(16), Optional(IPV6);
    cookie = "sock" "__sk_common.skc_cookie.counter", Integer(8),
        Optional("cookies: sockets in recordings cannot be matched with those of ss");
    // `possible_net_t` is empty without CONFIG_NET_NS.
    net = "sock" "__sk_common.skc_net.net", Pointer("net"),
        Optional("network namespaces");
    net_inum = "net" "ns.inum", Integer(4), Optional("network namespaces");
    rcv_nxt = "tcp_sock" "rcv_nxt", Integer(4), Optional(PAYLOAD);
    copied_seq = "tcp_sock" "copied_seq", Integer(4), Optional(PAYLOAD);
    write_seq = "tcp_sock" "write_seq", Integer(4), Optional(PAYLOAD);
    snd_una = "tcp_sock" "snd_una", Integer(4), Optional(PAYLOAD);
    snd_nxt = "tcp_sock" "snd_nxt", Integer(4), Optional(PAYLOAD);
    ofo_root = "tcp_sock" "out_of_order_queue.rb_node", Pointer("rb_node"),
        Optional("the idle reason out-of-order");
    skb_sk = "sk_buff" "sk", Pointer("sock"),
        Optional("changes seen while sending, where only tracepoints are available");
    skb_truesize = "sk_buff" "truesize", Integer(4), Optional(TRUESIZE);
    skb_len = "sk_buff" "len", Integer(4), Optional(TRUESIZE);
    skb_cb = "sk_buff" "cb", Array(48), Optional(TRUESIZE);
    cb_seq = "tcp_skb_cb" "seq", Integer(4), Optional(TRUESIZE);
    cb_end_seq = "tcp_skb_cb" "end_seq", Integer(4), Optional(TRUESIZE);
    task_tgid = "task_struct" "tgid", Integer(4), Optional(FOLLOW);
    task_pid = "task_struct" "pid", Integer(4), Optional(FOLLOW);
    socket_sk = "socket" "sk", Pointer("sock"),
        Optional("who set SO_RCVBUF, SO_SNDBUF or SO_RESERVE_MEM, and to what");
    window_clamp = "tcp_sock" "window_clamp", Integer(4), Optional("changes of TCP_WINDOW_CLAMP");
    notsent_lowat = "tcp_sock" "notsent_lowat", Integer(4),
        Optional("changes of TCP_NOTSENT_LOWAT");
    prot = "sock" "__sk_common.skc_prot", Pointer("proto"), Optional(ENTER);
    proto_allocated = "proto" "memory_allocated", Address, Optional(ALLOCATED);
    proto_pressure = "proto" "memory_pressure", Address, Optional(ENTER);
    proto_limits = "proto" "sysctl_mem", Address, Optional(ALLOCATED);
    kiocb_file = "kiocb" "ki_filp", Pointer("file"), Optional(WRITER);
    file_dentry = "file" "f_path.dentry", Pointer("dentry"), Optional(WRITER);
    dentry_name = "dentry" "d_name.name", Address, Optional(WRITER);
    task_nsproxy = "task_struct" "nsproxy", Pointer("nsproxy"), Optional(WRITER);
    nsproxy_net = "nsproxy" "net_ns", Pointer("net"), Optional(WRITER);
};

/// In the order of [`Layout`].
pub(super) const SPECIAL: &[Special] = &[
    Special {
        name: "socket_ino",
        path: "socket_alloc.vfs_inode.i_ino",
        lost: "inode numbers: owners of sockets older than the trace",
        find: socket_ino,
    },
    Special {
        name: "userlocks",
        path: "sock.sk_userlocks",
        lost: USERLOCKS,
        find: userlocks,
    },
    Special {
        name: "userlocks_shift",
        path: "sock.sk_userlocks",
        lost: USERLOCKS,
        find: userlocks_shift,
    },
    Special {
        name: "reserved_mem",
        path: "sock.sk_reserved_mem",
        lost: "changes of SO_RESERVE_MEM",
        find: reserved_mem,
    },
];

const USERLOCKS: &str = "telling setsockopt from autotuning as the cause of a limit's change";

/// `SOCK_INODE(socket)`: both live in one `struct socket_alloc`, so the inode is
/// at a fixed distance from the socket, 8 bytes (`unsigned long`, in 7.2 `u64`).
fn socket_ino(btf: &Btf, layout: &mut Layout) -> Result<(), String> {
    let text = |error: crate::kernel::btf::BtfError| error.to_string();
    let socket = btf.member("socket_alloc", "socket").map_err(text)?;
    let ino = btf
        .member("socket_alloc", "vfs_inode.i_ino")
        .map_err(text)?;
    if ino.bit_field || ino.shape != Shape::Integer || ino.size_bytes != 8 {
        return Err("`inode.i_ino` is no integer of 8 bytes".to_owned());
    }
    layout.socket_ino = ino
        .byte_offset
        .checked_sub(socket.byte_offset)
        .ok_or("`socket_alloc.vfs_inode` lies before `socket`")?;
    Ok(())
}

fn userlocks(btf: &Btf, layout: &mut Layout) -> Result<(), String> {
    layout.userlocks = userlocks_bits(btf)?.0;
    Ok(())
}

fn userlocks_shift(btf: &Btf, layout: &mut Layout) -> Result<(), String> {
    layout.userlocks_shift = userlocks_bits(btf)?.1;
    Ok(())
}

/// Byte and shift of `sk_userlocks`: a bit field of 4 bits up to 6.1, a byte in
/// 6.12. The program reads one byte, so it must not cross into the next.
fn userlocks_bits(btf: &Btf) -> Result<(u32, u32), String> {
    let field = btf
        .member("sock", "sk_userlocks")
        .map_err(|error| error.to_string())?;
    let shift = u32::from(field.bit_offset_in_byte);
    if field.shape != Shape::Integer || field.bits < 4 || u64::from(shift) + field.bits > 8 {
        return Err(format!(
            "`sock.sk_userlocks` has {} bits from bit {shift} on, needed are 4 or more within a byte",
            field.bits
        ));
    }
    Ok((field.byte_offset, shift))
}

/// `sk_reserved_mem`. A kernel without it (before 5.16) has no SO_RESERVE_MEM, so nothing is
/// lost: the offset stays absent, and that is no failure.
fn reserved_mem(btf: &Btf, layout: &mut Layout) -> Result<(), String> {
    let Ok(field) = btf.member("sock", "sk_reserved_mem") else {
        return Ok(());
    };
    if field.bit_field || field.shape != Shape::Integer || field.size_bytes != 4 {
        return Err("`sock.sk_reserved_mem` is no integer of 4 bytes".to_owned());
    }
    layout.reserved_mem = field.byte_offset;
    Ok(())
}
