//! An inventory made up for tests: a server with a listener, connections, an unaccepted one and an
//! orphan; a client; a UDP and two unix sockets.

use crate::facts::inventory::{Holder, Holders, Inventory, Listed, NamespaceFact, ProcessFact};
use crate::facts::socket::{AF_INET, AF_INET6, AF_UNIX, DiagSocket, Meminfo, Protocol};

/// A TCP socket on IPv4.
pub(crate) fn tcp(cookie: u64, inode: u64, state: u8, local: u16, remote: u16) -> Listed {
    let address = |port: u16| {
        let mut a = [0; 16];
        if port != 0 {
            a[..4].copy_from_slice(&[10, 0, 0, 1]);
        }
        (a, port)
    };
    Listed {
        socket: DiagSocket {
            cookie,
            inode,
            family: AF_INET,
            state,
            local: address(local),
            remote: address(remote),
            meminfo: Some(Meminfo {
                rcvbuf: 131_072,
                sndbuf: 87_040,
                ..Meminfo::default()
            }),
            ..DiagSocket::default()
        },
        protocol: Protocol::Tcp,
        namespace: 0,
        name: None,
    }
}

/// Sets counters: `rmem_alloc`, `wmem_queued`, `forward_alloc`.
pub(crate) fn holding(mut l: Listed, rmem: u32, wmem: u32, forward: i32) -> Listed {
    if let Some(m) = &mut l.socket.meminfo {
        (m.rmem_alloc, m.wmem_queued, m.forward_alloc) = (rmem, wmem, forward);
    }
    l
}

/// The sample. Together its TCP sockets hold 86,016 bytes: 21 pages.
pub(crate) fn inventory() -> Inventory {
    let mut listener = tcp(1, 100, 10, 443, 0);
    (listener.socket.rqueue, listener.socket.wqueue) = (1, 128);
    let mut reading = holding(tcp(2, 101, 1, 443, 50_001), 69_376, 0, 256);
    reading.socket.rqueue = 65_536;
    let mut sending = holding(tcp(3, 102, 1, 50_001, 443), 0, 2304, 1792);
    sending.socket.wqueue = 1000;
    sending.socket.cgroup_id = Some(77);
    let unaccepted = holding(tcp(4, 0, 1, 443, 50_002), 832, 0, 3264);
    let orphan = holding(tcp(5, 0, 4, 443, 50_003), 0, 8000, 192);
    let mut v6 = tcp(6, 103, 1, 50_004, 8443);
    v6.socket.family = AF_INET6;
    v6.socket.local.0 = std::net::Ipv6Addr::LOCALHOST.octets();
    v6.socket.remote.0 = std::net::Ipv6Addr::LOCALHOST.octets();
    let mut udp = holding(tcp(7, 104, 7, 53, 0), 832, 0, 3264);
    udp.protocol = Protocol::Udp;
    let unix = |cookie, inode, peer, name: Option<&[u8]>, sent| Listed {
        socket: DiagSocket {
            cookie,
            inode,
            family: AF_UNIX,
            state: 1,
            kind: 1,
            peer_inode: peer,
            meminfo: Some(Meminfo {
                wmem_alloc: sent,
                sndbuf: 212_992,
                ..Meminfo::default()
            }),
            ..DiagSocket::default()
        },
        protocol: Protocol::Unix,
        namespace: 0,
        name: name.map(Into::into),
    };
    let process = |comm: &str, cgroup: &str| ProcessFact {
        comm: Some(comm.into()),
        cgroup: Some(cgroup.into()),
    };
    let holder = |inode, pid, fd| Holder { inode, pid, fd };
    Inventory {
        sockets: vec![
            listener,
            reading,
            sending,
            unaccepted,
            orphan,
            v6,
            udp,
            unix(8, 105, 106, Some(b"/run/app.sock"), 4864),
            unix(9, 106, 105, Some(b"\0abstract"), 0),
        ],
        holders: Holders::new(
            vec![
                holder(100, 10, 3),
                holder(100, 11, 3),
                holder(101, 11, 7),
                holder(102, 20, 4),
                holder(103, 20, 5),
                holder(104, 10, 9),
                holder(105, 20, 6),
                holder(106, 10, 6),
            ],
            0,
        ),
        processes: [
            (10, process("nginx", "/web")),
            (11, process("nginx", "/web")),
            (20, process("cl\x1bient", "/user")),
        ]
        .into(),
        cgroups: [(77, "/made/here".to_owned())].into(),
        namespaces: vec![NamespaceFact {
            inode: 4_026_531_840,
            via: "process 1".into(),
            missing: None,
        }],
        taken_unix_ns: (1_767_312_245_000_000_000, 1_767_312_245_001_000_000),
    }
}
