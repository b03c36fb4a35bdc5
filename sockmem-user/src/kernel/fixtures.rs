//! Five kernels in miniature: the structs that the tool reads, in the shapes and
//! at the offsets that they have in the stock x86-64 kernels named in `release`
//! (Debian's cloud kernels; 6.18 is another build). The offsets were read from
//! those kernels' BTF with bpftool, not with the reader under test.

use sockmem_common::{ABSENT, Layout};

use super::btf::Btf;
use super::btf::builder::{Builder, CONST, VOLATILE, at, bits};

/// One kernel.
pub(crate) struct Kernel {
    /// `uname -r`.
    pub(crate) release: &'static str,
    /// What must be resolved.
    pub(crate) layout: Layout,
    /// Bytes of `struct sock` and `struct tcp_sock`.
    sizes: (u32, u32),
    /// Offset of `inum` in `struct ns_common`.
    inum: u32,
    /// `combined` in `socket_lock_t`.
    combined_lock: bool,
    /// `proto.per_cpu_fw_alloc` and all that 6.0 brought.
    since_6_0: bool,
    /// Tracepoints `sock_send_length` and `sock_recv_length`.
    length_tracepoints: bool,
}

macro_rules! layouts {
    ($($name:ident: $a:tt $b:tt $c:tt $d:tt $e:tt;)*) => {
        const LAYOUTS: [Layout; 5] = [
            Layout { $($name: $a,)* },
            Layout { $($name: $b,)* },
            Layout { $($name: $c,)* },
            Layout { $($name: $d,)* },
            Layout { $($name: $e,)* },
        ];
    };
}

layouts! {
    // 5.10 6.1 6.12 6.18 7.2
    rmem_alloc: 232 240 192 192 192;
    backlog_len: 236 244 196 196 196;
    wmem_queued: 336 336 376 376 376;
    forward_alloc: 256 264 356 356 356;
    wmem_alloc: 340 340 380 380 380;
    omem_alloc: 328 328 368 368 368;
    rcvbuf: 268 280 244 244 244;
    sndbuf: 332 332 372 568 584;
    lock_owned: 140 156 324 324 320;
    protocol: 540 516 574 532 540;
    socket: 640 624 288 288 288;
    family: 16 16 16 16 16;
    state: 18 18 18 18 18;
    num: 14 14 14 14 14;
    dport: 12 12 12 12 12;
    daddr: 0 0 0 0 0;
    rcv_saddr: 4 4 4 4 4;
    v6_daddr: 56 56 56 56 56;
    v6_rcv_saddr: 72 72 72 72 72;
    cookie: 88 88 88 88 88;
    net: 48 48 48 48 48;
    net_inum: 144 144 136 176 280;
    socket_ino: 192 192 192 192 192;
    rcv_nxt: 1424 1424 1712 1664 1768;
    copied_seq: 1428 1428 1520 1464 1504;
    write_seq: 1812 1812 1636 1576 1668;
    snd_una: 1468 1468 1720 1672 1776;
    snd_nxt: 1436 1436 1716 1668 1772;
    ofo_root: 1976 1976 1576 1520 1560;
    skb_sk: 24 24 24 24 24;
    skb_truesize: 208 216 216 208 216;
    skb_len: 112 112 112 112 112;
    skb_cb: 40 40 40 40 40;
    cb_seq: 0 0 0 0 0;
    cb_end_seq: 4 4 4 4 4;
    task_tgid: 2236 2420 2436 1268 2812;
    task_pid: 2232 2416 2432 1264 2808;
    userlocks: 536 512 243 243 243;
    userlocks_shift: 4 4 0 0 0;
    socket_sk: 24 24 24 24 24;
    reserved_mem: ABSENT 268 352 352 352;
    window_clamp: 1544 1544 1724 1676 1780;
    notsent_lowat: 1816 1816 1460 1412 1444;
    prot: 40 40 40 40 40;
    proto_allocated: 240 272 264 256 256;
    proto_pressure: 256 296 288 280 280;
    proto_limits: 264 304 296 288 288;
    kiocb_file: 0 0 0 0 0;
    file_dentry: 24 24 72 72 72;
    dentry_name: 40 40 40 40 40;
    task_nsproxy: 2824 3064 3064 1840 3440;
    nsproxy_net: 40 40 40 40 40;
}

const K5_10: Kernel = Kernel {
    release: "5.10.0-46-cloud-amd64",
    layout: LAYOUTS[0],
    sizes: (760, 2224),
    inum: 16,
    combined_lock: false,
    since_6_0: false,
    length_tracepoints: false,
};
const K6_1: Kernel = Kernel {
    release: "6.1.0-50-cloud-amd64",
    layout: LAYOUTS[1],
    sizes: (776, 2240),
    since_6_0: true,
    ..K5_10
};
const K6_12: Kernel = Kernel {
    release: "6.12.117+deb13-cloud-amd64",
    layout: LAYOUTS[2],
    sizes: (776, 2368),
    length_tracepoints: true,
    ..K6_1
};
const K6_18: Kernel = Kernel {
    release: "6.18.44-fc-v657",
    layout: LAYOUTS[3],
    sizes: (784, 2304),
    inum: 24,
    ..K6_12
};
const K7_2: Kernel = Kernel {
    release: "7.2.13+deb14-cloud-amd64",
    layout: LAYOUTS[4],
    sizes: (800, 2432),
    inum: 88,
    combined_lock: true,
    ..K6_18
};

/// Oldest first.
pub(crate) const KERNELS: [&Kernel; 5] = [&K5_10, &K6_1, &K6_12, &K6_18, &K7_2];

/// Types that most structs use.
struct Common {
    int: u32,
    u8: u32,
    u16: u32,
    u32: u32,
    ulong: u32,
    atomic: u32,
    refcount: u32,
    atomic64: u32,
}

impl Kernel {
    /// The parsed fixture.
    pub(crate) fn btf(&self) -> Btf {
        Btf::parse(self.bytes()).expect("a well-formed fixture")
    }

    /// The fixture's blob.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut b = Builder::new();
        let common = common(&mut b);
        let proto = self.proto(&mut b, &common);
        let (sock_common, net) = self.sock_common(&mut b, &common, proto);
        // `struct socket` and `struct sock` point to each other: the former to a type that only
        // has the latter's name.
        let named = b.structure("", 0, &[]);
        let named = b.typedef("sock", named);
        let named = b.ptr(named);
        let socket = b.structure("socket", 128, &[at(self.layout.socket_sk, "sk", named)]);
        let sock = self.sock(&mut b, &common, sock_common, socket);
        let sock_ptr = b.ptr(sock);
        self.writers(&mut b);
        self.tcp_sock(&mut b, &common);
        let skb = self.sk_buff(&mut b, &common, sock_ptr);
        self.inode_and_task(&mut b, &common, socket, net);
        self.hooks(&mut b, &common, sock, sock_ptr, skb);
        b.build()
    }

    /// `struct sock_common`, and `struct net`, to which it points.
    fn sock_common(&self, b: &mut Builder, c: &Common, proto: u32) -> (u32, u32) {
        let l = &self.layout;
        let ns = b.structure("ns_common", self.inum + 8, &[at(self.inum, "inum", c.u32)]);
        let net = b.structure("net", 4096, &[at(l.net_inum - self.inum, "ns", ns)]);
        let net_ptr = b.ptr(net);
        let possible = b.structure("", 8, &[at(0, "net", net_ptr)]);
        let possible = b.typedef("possible_net_t", possible);
        let octets = b.array(c.u8, 16);
        let in6 = b.union("", 16, &[at(0, "u6_addr8", octets)]);
        let in6 = b.structure("in6_addr", 16, &[at(0, "in6_u", in6)]);
        let addresses = b.structure(
            "",
            8,
            &[at(0, "skc_daddr", c.u32), at(4, "skc_rcv_saddr", c.u32)],
        );
        let addresses = b.union(
            "",
            8,
            &[at(0, "skc_addrpair", c.ulong), at(0, "", addresses)],
        );
        let ports = b.structure("", 4, &[at(0, "skc_dport", c.u16), at(2, "skc_num", c.u16)]);
        let ports = b.union("", 4, &[at(0, "skc_portpair", c.u32), at(0, "", ports)]);
        let state = b.refer(VOLATILE, "", c.u8);
        let proto_ptr = b.ptr(proto);
        let common = b.structure(
            "sock_common",
            136,
            &[
                at(l.daddr, "", addresses),
                at(l.dport, "", ports),
                at(l.family, "skc_family", c.u16),
                at(l.state, "skc_state", state),
                at(l.net, "skc_net", possible),
                at(l.v6_daddr, "skc_v6_daddr", in6),
                at(l.v6_rcv_saddr, "skc_v6_rcv_saddr", in6),
                at(l.cookie, "skc_cookie", c.atomic64),
                at(l.prot, "skc_prot", proto_ptr),
            ],
        );
        (common, net)
    }

    fn proto(&self, b: &mut Builder, c: &Common) -> u32 {
        let l = &self.layout;
        let counted = b.ptr(c.atomic64);
        let words = b.ptr(c.ulong);
        let mut members = vec![
            at(l.proto_allocated, "memory_allocated", counted),
            at(l.proto_pressure, "memory_pressure", words),
            at(l.proto_limits, "sysctl_mem", words),
        ];
        if self.since_6_0 {
            let per_cpu = b.ptr(c.int);
            members.push(at(l.proto_allocated + 8, "per_cpu_fw_alloc", per_cpu));
        }
        b.structure("proto", 464, &members)
    }

    /// From the file that is written to its name.
    fn writers(&self, b: &mut Builder) {
        let l = &self.layout;
        let characters = b.int("char", 1);
        let characters = b.refer(CONST, "", characters);
        let characters = b.ptr(characters);
        let name = b.structure("qstr", 16, &[at(8, "name", characters)]);
        let dentry = b.structure("dentry", 192, &[at(l.dentry_name - 8, "d_name", name)]);
        let dentry = b.ptr(dentry);
        let path = b.structure("path", 16, &[at(8, "dentry", dentry)]);
        let file = b.structure("file", 256, &[at(l.file_dentry - 8, "f_path", path)]);
        let file = b.ptr(file);
        b.structure("kiocb", 48, &[at(l.kiocb_file, "ki_filp", file)]);
    }

    /// `socket_lock_t` and where its `sk_lock` lies.
    fn lock(&self, b: &mut Builder, c: &Common) -> (u32, u32) {
        let spinlock = b.structure("spinlock", 4, &[at(0, "rlock", c.u32)]);
        let spinlock = b.typedef("spinlock_t", spinlock);
        let owned = self.layout.lock_owned;
        if self.combined_lock {
            let named = b.structure(
                "slock_owned",
                8,
                &[at(0, "owned", c.int), at(4, "slock", spinlock)],
            );
            let both = b.union("", 8, &[at(0, "", named), at(0, "combined", c.ulong)]);
            let lock = b.structure("", 32, &[at(0, "", both)]);
            (b.typedef("socket_lock_t", lock), owned)
        } else {
            let lock = b.structure("", 32, &[at(0, "slock", spinlock), at(4, "owned", c.int)]);
            (b.typedef("socket_lock_t", lock), owned - 4)
        }
    }

    fn sock(&self, b: &mut Builder, c: &Common, sock_common: u32, socket: u32) -> u32 {
        let l = &self.layout;
        let socket_ptr = b.ptr(socket);
        let backlog = b.structure(
            "",
            24,
            &[at(0, "rmem_alloc", c.atomic), at(4, "len", c.int)],
        );
        let (lock, lock_at) = self.lock(b, c);
        let userlocks = if l.userlocks_shift == 0 {
            at(l.userlocks, "sk_userlocks", c.u8)
        } else {
            bits(l.userlocks * 8 + l.userlocks_shift, 4, "sk_userlocks", c.u8)
        };
        b.structure(
            "sock",
            self.sizes.0,
            &[
                at(0, "__sk_common", sock_common),
                at(lock_at, "sk_lock", lock),
                at(l.rmem_alloc, "sk_backlog", backlog),
                at(l.forward_alloc, "sk_forward_alloc", c.int),
                at(l.rcvbuf, "sk_rcvbuf", c.int),
                at(l.omem_alloc, "sk_omem_alloc", c.atomic),
                at(l.sndbuf, "sk_sndbuf", c.int),
                at(l.wmem_queued, "sk_wmem_queued", c.int),
                at(l.wmem_alloc, "sk_wmem_alloc", c.refcount),
                userlocks,
                at(l.protocol, "sk_protocol", c.u16),
                at(l.socket, "sk_socket", socket_ptr),
            ]
            .into_iter()
            .chain((l.reserved_mem != ABSENT).then(|| at(l.reserved_mem, "sk_reserved_mem", c.u32)))
            .collect::<Vec<_>>(),
        )
    }

    fn tcp_sock(&self, b: &mut Builder, c: &Common) {
        let l = &self.layout;
        let node = b.structure("rb_node", 24, &[at(0, "__rb_parent_color", c.ulong)]);
        let node = b.ptr(node);
        let root = b.structure("rb_root", 8, &[at(0, "rb_node", node)]);
        b.structure(
            "tcp_sock",
            self.sizes.1,
            &[
                at(l.rcv_nxt, "rcv_nxt", c.u32),
                at(l.copied_seq, "copied_seq", c.u32),
                at(l.write_seq, "write_seq", c.u32),
                at(l.snd_una, "snd_una", c.u32),
                at(l.snd_nxt, "snd_nxt", c.u32),
                at(l.ofo_root, "out_of_order_queue", root),
                at(l.window_clamp, "window_clamp", c.u32),
                at(l.notsent_lowat, "notsent_lowat", c.u32),
            ],
        );
    }

    fn sk_buff(&self, b: &mut Builder, c: &Common, sock_ptr: u32) -> u32 {
        let l = &self.layout;
        let owner = b.union(
            "",
            8,
            &[at(0, "sk", sock_ptr), at(0, "ip_defrag_offset", c.int)],
        );
        b.structure(
            "tcp_skb_cb",
            48,
            &[
                at(l.cb_seq, "seq", c.u32),
                at(l.cb_end_seq, "end_seq", c.u32),
            ],
        );
        let cb = b.array(c.u8, 48);
        b.structure(
            "sk_buff",
            232,
            &[
                at(l.skb_sk, "", owner),
                at(l.skb_cb, "cb", cb),
                at(l.skb_len, "len", c.u32),
                at(l.skb_truesize, "truesize", c.u32),
            ],
        )
    }

    fn inode_and_task(&self, b: &mut Builder, c: &Common, socket: u32, net: u32) {
        let l = &self.layout;
        let inode = b.structure("inode", 560, &[at(64, "i_ino", c.ulong)]);
        b.structure(
            "socket_alloc",
            768,
            &[
                at(0, "socket", socket),
                at(l.socket_ino - 64, "vfs_inode", inode),
            ],
        );
        let pid = b.typedef("__kernel_pid_t", c.int);
        let pid = b.typedef("pid_t", pid);
        let net_ptr = b.ptr(net);
        let nsproxy = b.structure("nsproxy", 72, &[at(l.nsproxy_net, "net_ns", net_ptr)]);
        let nsproxy = b.ptr(nsproxy);
        b.structure(
            "task_struct",
            9792,
            &[
                at(l.task_pid, "pid", pid),
                at(l.task_tgid, "tgid", pid),
                at(l.task_nsproxy, "nsproxy", nsproxy),
            ],
        );
    }

    fn hooks(&self, b: &mut Builder, c: &Common, sock: u32, sock_ptr: u32, skb: u32) {
        let skb_ptr = b.ptr(skb);
        let const_sock = b.refer(CONST, "", sock);
        let const_sock = b.ptr(const_sock);
        b.func("tcp_release_cb", &[("sk", sock_ptr)]);
        b.func("release_sock", &[("sk", sock_ptr)]);
        b.func("tcp_rcv_established", &[("sk", sock_ptr), ("skb", skb_ptr)]);
        let alloc = if self.since_6_0 {
            "tcp_stream_alloc_skb"
        } else {
            "sk_stream_alloc_skb"
        };
        b.func(
            alloc,
            &[("sk", sock_ptr), ("gfp", c.u32), ("force_schedule", c.u8)],
        );
        if self.since_6_0 {
            b.func("skb_attempt_defer_free", &[("skb", skb_ptr)]);
        }
        b.tracepoint("inet_sock_set_state", &[const_sock, c.int, c.int]);
        b.tracepoint("tcp_probe", &[sock_ptr, skb_ptr]);
        if self.length_tracepoints {
            b.tracepoint("sock_send_length", &[sock_ptr, c.int, c.int]);
        }
    }
}

fn common(b: &mut Builder) -> Common {
    let int = b.int("int", 4);
    let u8 = b.int("unsigned char", 1);
    let u8 = b.typedef("__u8", u8);
    let u8 = b.typedef("u8", u8);
    let u16 = b.int("short unsigned int", 2);
    let u32 = b.int("unsigned int", 4);
    let ulong = b.int("long unsigned int", 8);
    let s64 = b.int("long long int", 8);
    let atomic = b.structure("", 4, &[at(0, "counter", int)]);
    let atomic = b.typedef("atomic_t", atomic);
    let refcount = b.structure("refcount_struct", 4, &[at(0, "refs", atomic)]);
    let refcount = b.typedef("refcount_t", refcount);
    let atomic64 = b.structure("", 8, &[at(0, "counter", s64)]);
    let atomic64 = b.typedef("atomic64_t", atomic64);
    Common {
        int,
        u8,
        u16,
        u32,
        ulong,
        atomic,
        refcount,
        atomic64,
    }
}
