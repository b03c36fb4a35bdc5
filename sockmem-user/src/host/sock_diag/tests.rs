use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proptest::prelude::*;

use super::wire::{NLMSGHDR, STATES, TCPDIAG_GETSOCK, read_batch, request};
use super::*;

/// One socket as Linux 6.18 sent it (x86-64): an accepted IPv4 connection with
/// 5 bytes unread, and attributes that the reader does not know.
const SAVED: &[u8] = include_bytes!("tests/established-6.18.bin");

fn saved() -> DiagSocket {
    parse_inet_diag(SAVED)
        .expect("a saved message parses")
        .expect("and is an IPv4 socket")
}

fn message(kind: u16, flags: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(((NLMSGHDR + payload.len()) as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(seq.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Reads `bytes` as the answer to request 1; cookies delivered, counts, result.
#[expect(clippy::type_complexity, reason = "a test's tuple")]
fn batch(
    bytes: &[u8],
) -> (
    Vec<u64>,
    DumpInfo,
    Result<(bool, Option<Result<(), Errno>>), String>,
) {
    let mut cookies = Vec::new();
    let mut info = DumpInfo::default();
    let result = read_batch(bytes, 1, &mut info, &mut |s: &DiagSocket, _: &[u8]| {
        cookies.push(s.cookie);
    });
    (
        cookies,
        info,
        result
            .map(|b| (b.interrupted, b.end))
            .map_err(|e| e.to_string()),
    )
}

#[test]
fn a_saved_message_is_read_field_by_field() {
    let socket = saved();
    assert_eq!(socket.family, AF_INET);
    assert_eq!(socket.state, 1);
    assert_eq!(&socket.local.0[..4], [127, 0, 0, 1]);
    assert_eq!(&socket.local.0[4..], [0; 12]);
    assert_eq!(&socket.remote.0[..4], [127, 0, 0, 1]);
    assert_eq!(socket.rqueue, 5);
    assert_eq!(socket.wqueue, 0);
    assert_eq!(socket.uid, 0);
    let meminfo = socket.meminfo.expect("SKMEMINFO was asked for");
    assert_eq!(meminfo.resident(), 4096, "one page is charged for 5 bytes");
    assert_eq!(meminfo.rmem_alloc, 837);
    assert_eq!(meminfo.forward_alloc, 3259);
    assert_eq!(meminfo.wmem_queued, 0);
    assert_eq!(meminfo.backlog, 0);
    assert_eq!(meminfo.drops, 0);
}

#[test]
fn resident_is_never_below_zero() {
    let meminfo = Meminfo {
        rmem_alloc: 100,
        forward_alloc: -4096,
        ..Meminfo::default()
    };
    assert_eq!(meminfo.resident(), 0);
    let most = Meminfo {
        rmem_alloc: u32::MAX,
        wmem_queued: u32::MAX,
        forward_alloc: i32::MAX,
        ..Meminfo::default()
    };
    assert_eq!(most.resident(), 2 * u64::from(u32::MAX) + 0x7fff_ffff);
}

#[test]
fn every_truncation_is_an_error_or_lacks_only_attributes() {
    let whole = saved();
    for len in 0..SAVED.len() {
        match parse_inet_diag(&SAVED[..len]) {
            Ok(Some(socket)) => {
                assert!(len >= 72, "{len} bytes are no socket");
                assert_eq!((socket.cookie, socket.inode), (whole.cookie, whole.inode));
            }
            Ok(None) => panic!("{len} bytes changed the family"),
            Err(_) => assert_ne!(len, 72, "a message may have no attributes"),
        }
    }
    let error = parse_inet_diag(&SAVED[..71]).unwrap_err();
    assert_eq!(error.to_string(), "inet_diag_msg has 71 bytes, needs 72");
}

#[test]
fn unknown_attributes_are_skipped_and_bad_lengths_refused() {
    let mut bytes = SAVED[..72].to_vec();
    assert_eq!(parse_inet_diag(&bytes).unwrap().unwrap().meminfo, None);
    bytes.extend([7, 0, 0xff, 0x3f, 1, 2, 3, 0]); // of 7 bytes, type 0x3fff, padded
    bytes.extend([8, 0, 7, 0, 1, 2, 3, 4]); // SKMEMINFO, but too short to be one
    bytes.extend([40, 0, 7, 0x80]); // SKMEMINFO with NLA_F_NESTED set
    (1..=9u32).for_each(|word| bytes.extend(word.to_ne_bytes()));
    let meminfo = parse_inet_diag(&bytes).unwrap().unwrap().meminfo.unwrap();
    assert_eq!(
        (meminfo.rmem_alloc, meminfo.optmem, meminfo.drops),
        (1, 7, 9)
    );

    let with = |tail: &[u8]| {
        parse_inet_diag(&[&SAVED[..72], tail].concat()).map_err(|error| error.to_string())
    };
    assert_eq!(
        with(&[3, 0, 7, 0]).unwrap_err(),
        "netlink attribute claims a length of 3 bytes, less than its header"
    );
    assert_eq!(
        with(&[9, 0, 7, 0]).unwrap_err(),
        "netlink attribute has 4 bytes, needs 9"
    );
    assert_eq!(
        with(&[9, 0]).unwrap_err(),
        "netlink attribute has 2 bytes, needs 4"
    );
}

#[test]
fn other_families_are_not_sockets_of_ours() {
    let mut bytes = SAVED.to_vec();
    bytes[0] = libc::AF_UNIX as u8;
    assert_eq!(parse_inet_diag(&bytes), Ok(None));
    bytes[0] = AF_INET6;
    let socket = parse_inet_diag(&bytes).unwrap().unwrap();
    assert_eq!(socket.local.0, SAVED[8..24]);
}

#[test]
fn the_request_asks_for_memory_of_all_full_sockets() {
    let bytes = request(STATES, 7);
    assert_eq!(bytes.len(), 76);
    assert_eq!(u32::from_ne_bytes(bytes[0..4].try_into().unwrap()), 76);
    assert_eq!(bytes[8..12], 7u32.to_ne_bytes());
    assert_eq!(bytes[16..20], [0, 0, 0, 1 << 6]);
    assert_eq!(bytes[20..68], [0; 48]);
    let states = u32::from_ne_bytes(bytes[68..72].try_into().unwrap());
    let named: Vec<u32> = (0..32).filter(|state| states & (1 << state) != 0).collect();
    assert_eq!(named, [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13]);
}

#[test]
fn a_batch_gives_its_sockets_and_its_end() {
    let mini = &SAVED[..72];
    let bytes = [
        message(TCPDIAG_GETSOCK, 2, 1, SAVED),
        message(TCPDIAG_GETSOCK, 2, 1, mini),
        message(TCPDIAG_GETSOCK, 2, 9, SAVED), // of an earlier dump
        message(99, 2, 1, &[1, 2, 3]),
        message(3, 2, 1, &0i32.to_ne_bytes()),
        message(TCPDIAG_GETSOCK, 2, 1, SAVED), // behind the end
    ]
    .concat();
    let (cookies, info, end) = batch(&bytes);
    assert_eq!(cookies, [saved().cookie]);
    assert_eq!(
        info,
        DumpInfo {
            sockets: 1,
            minis: 1,
            ..DumpInfo::default()
        }
    );
    assert_eq!(end, Ok((false, Some(Ok(())))));

    let (cookies, _, end) = batch(&message(TCPDIAG_GETSOCK, 2, 1, SAVED));
    assert_eq!(
        (cookies.len(), end),
        (1, Ok((false, None))),
        "more is to come"
    );
}

#[test]
fn interruption_and_errors_are_seen() {
    let interrupted = [
        message(TCPDIAG_GETSOCK, 2 | 16, 1, SAVED),
        message(3, 2, 1, &[]),
    ]
    .concat();
    assert_eq!(batch(&interrupted).2, Ok((true, Some(Ok(())))));

    let refused = message(2, 0, 1, &(-libc::ENOENT).to_ne_bytes());
    assert_eq!(batch(&refused).2, Ok((false, Some(Err(Errno::ENOENT)))));

    let broke_off = message(3, 2, 1, &(-libc::ENOMEM).to_ne_bytes());
    assert_eq!(batch(&broke_off).2, Ok((false, Some(Err(Errno::ENOMEM)))));
}

#[test]
fn malformed_datagrams_are_refused() {
    let short = batch(&[0; 15]).2.unwrap_err();
    assert_eq!(short, "netlink message has 15 bytes, needs 16");
    let claim = batch(&[0; 16]).2.unwrap_err();
    assert_eq!(
        claim,
        "netlink message claims a length of 0 bytes, less than its header"
    );
    let mut long = message(TCPDIAG_GETSOCK, 2, 1, SAVED);
    long.truncate(40);
    assert!(
        batch(&long)
            .2
            .unwrap_err()
            .starts_with("netlink message has 40 bytes, needs ")
    );
    let error = batch(&message(2, 0, 1, &[1, 2])).2.unwrap_err();
    assert_eq!(error, "netlink error has 2 bytes, needs 4");
}

#[test]
fn errors_name_the_fix() {
    let text = |errno| DiagError::from_errno(errno, "the request").to_string();
    for errno in [
        Errno::ENOENT,
        Errno::EINVAL,
        Errno::EOPNOTSUPP,
        Errno::EPROTONOSUPPORT,
    ] {
        let text = text(errno);
        assert!(
            text.starts_with("reading TCP sockets needs the kernel module tcp_diag"),
            "{text}"
        );
        assert!(text.ends_with("run `sudo modprobe tcp_diag`"), "{text}");
    }
    assert!(text(Errno::EACCES).contains("may not use one"));
    assert_eq!(
        text(Errno::ENOMEM),
        "reading TCP sockets: the kernel answered ENOMEM: Out of memory to the request"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        // What it makes of noise does not matter; that it returns does.
        let _ = parse_inet_diag(&bytes);
        let _ = batch(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(at in 0..SAVED.len(), byte: u8, len in 0..=SAVED.len()) {
        let mut bytes = SAVED.to_vec();
        bytes[at] = byte;
        if let Ok(Some(socket)) = parse_inet_diag(&bytes[..len]) {
            prop_assert!(socket.family == AF_INET || socket.family == AF_INET6);
        }
        let mut datagram = message(TCPDIAG_GETSOCK, 2, 1, SAVED);
        datagram[at] = byte;
        let (cookies, info, _) = batch(&datagram[..len]);
        prop_assert_eq!(cookies.len() as u64, info.sockets);
    }
}

/// `SO_COOKIE`, which nix does not have.
fn cookie(fd: &impl AsRawFd) -> u64 {
    let mut value = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `value` and `len` outlive the call and `len` is the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    assert_eq!((result, len), (0, 8), "SO_COOKIE exists since 4.12");
    value
}

fn inode(fd: &impl AsFd) -> u64 {
    let owned = fd.as_fd().try_clone_to_owned().expect("dup");
    std::fs::File::from(owned).metadata().expect("fstat").ino()
}

fn find(cookie: u64) -> Option<DiagSocket> {
    let mut found = None;
    let mut diag = SockDiag::open().expect("sock_diag opens");
    let info = diag
        .dump_tcp(|socket| {
            if socket.cookie == cookie {
                found = Some(*socket);
            }
        })
        .expect("the dump succeeds");
    assert!(!info.incomplete);
    found
}

fn wait_readable(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::NONE), Ok(1));
}

fn bytes_of(address: SocketAddr) -> [u8; 16] {
    match address {
        SocketAddr::V4(v4) => {
            let mut out = [0; 16];
            out[..4].copy_from_slice(&v4.ip().octets());
            out
        }
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

/// A listener, a client and an unaccepted then accepted child on `address`, all found as they are.
fn own_sockets_are_found(address: &str, family: u8) {
    let listener = TcpListener::bind(address).expect("bind");
    let at = listener.local_addr().expect("address");
    let mut client = TcpStream::connect(at).expect("connect");
    // The client may be connected before the listener has its third segment.
    wait_readable(&listener);

    let found = find(cookie(&listener)).expect("the listener is listed");
    assert_eq!((found.family, found.state), (family, 10));
    assert_eq!(found.local, (bytes_of(at), at.port()));
    assert_eq!(found.remote, ([0; 16], 0));
    assert_eq!(found.inode, inode(&listener));
    assert_eq!(found.rqueue, 1, "one connection waits to be accepted");

    let (mut child, _) = listener.accept().expect("accept");
    client.write_all(b"12345").expect("send");
    // Wait until the data has arrived: peek blocks for it and takes nothing.
    assert_eq!(child.peek(&mut [0; 8]).expect("peek"), 5);
    let found = find(cookie(&child)).expect("the child is listed");
    assert_eq!((found.family, found.state), (family, 1));
    assert_eq!(found.local, (bytes_of(at), at.port()));
    let remote = client.local_addr().expect("address");
    assert_eq!(found.remote, (bytes_of(remote), remote.port()));
    assert_eq!(found.inode, inode(&child));
    assert_eq!(found.rqueue, 5);
    let meminfo = found.meminfo.expect("memory was asked for");
    assert!(
        meminfo.rmem_alloc > 5,
        "an skb is larger than its 5 bytes: {meminfo:?}"
    );
    assert!(meminfo.rcvbuf > 0 && meminfo.sndbuf > 0, "{meminfo:?}");
    assert_eq!(
        meminfo.resident() % 4096,
        0,
        "charged in whole pages: {meminfo:?}"
    );

    child.read_exact(&mut [0; 5]).expect("read");
    assert_eq!(find(cookie(&child)).expect("still listed").rqueue, 0);
}

#[test]
fn own_ipv4_sockets_are_found() {
    own_sockets_are_found("127.0.0.1:0", AF_INET);
}

#[test]
fn own_ipv6_sockets_are_found() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this host has no IPv6 loopback");
        return;
    }
    own_sockets_are_found("[::1]:0", AF_INET6);
}

#[test]
fn one_open_serves_many_dumps() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let wanted = cookie(&listener);
    let mut diag = SockDiag::open().expect("sock_diag opens");
    diag.probe().expect("the probe succeeds");
    for _ in 0..3 {
        let mut seen = 0u64;
        let mut ours = 0;
        let info = diag
            .dump_tcp(|socket| {
                seen += 1;
                ours += u32::from(socket.cookie == wanted);
            })
            .expect("the dump succeeds");
        assert_eq!(info.sockets, seen);
        assert_eq!(ours, 1);
    }
}

/// A connection: the connecting side and the accepted one.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    (client, listener.accept().expect("accept").0)
}

#[test]
fn an_orphan_has_memory_and_no_inode() {
    let (client, mut server) = connection();
    server.set_nonblocking(true).expect("nonblocking");
    // Until neither the client's buffer nor the server's takes more.
    while server.write(&[0; 65536]).is_ok() {}
    let id = cookie(&server);
    assert_eq!(find(id).expect("open").inode, inode(&server));
    drop(server);
    let orphan = find(id).expect("it lives on until the client has everything");
    assert_eq!(orphan.inode, 0);
    assert_eq!(orphan.state, 4, "FIN_WAIT1");
    let meminfo = orphan.meminfo.expect("memory was asked for");
    assert!(meminfo.wmem_queued > 0, "{meminfo:?}");
    assert!(orphan.wqueue > 0 && orphan.wqueue < meminfo.wmem_queued);
    drop(client);
}

#[test]
fn an_unaccepted_connection_has_no_inode() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let at = listener.local_addr().expect("address");
    let client = TcpStream::connect(at).expect("connect");
    wait_readable(&listener);
    let peer = client.local_addr().expect("address").port();
    let mut waiting = Vec::new();
    let mut diag = SockDiag::open().expect("sock_diag opens");
    diag.dump_tcp(|socket| {
        if (socket.local.1, socket.remote.1) == (at.port(), peer) {
            waiting.push((socket.state, socket.inode));
        }
    })
    .expect("dump");
    assert_eq!(waiting, [(1, 0)]);
}

/// A socket in FIN_WAIT2 that nobody has open becomes a time-wait mini-socket,
/// which passes as FIN_WAIT2 and holds no buffers: counted, not given.
#[test]
fn mini_sockets_are_left_out() {
    let (client, mut server) = connection();
    let id = cookie(&client);
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).expect("the end"), 0);
    // The acknowledgement of the FIN may be delayed by the kernel.
    while find(id).is_some() {
        std::thread::yield_now();
    }
    let info = SockDiag::open()
        .expect("opens")
        .dump_tcp(|_| {})
        .expect("dump");
    assert!(info.minis >= 1, "{info:?}");
}

/// A `struct unix_diag_msg` with these attributes.
fn unix_message(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![AF_UNIX, 1, 1, 0];
    bytes.extend(4711u32.to_ne_bytes());
    bytes.extend(7u64.to_ne_bytes());
    for (kind, payload) in attributes {
        bytes.extend((payload.len() as u16 + 4).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[test]
fn a_unix_socket_is_read_field_by_field() {
    let memory: Vec<u8> = (1..=9u32).flat_map(u32::to_ne_bytes).collect();
    let queues: Vec<u8> = [3u32, 4].iter().flat_map(|n| n.to_ne_bytes()).collect();
    let bytes = unix_message(&[
        (0, b"\0name"),
        (2, &9u32.to_ne_bytes()),
        (4, &queues),
        (5, &memory),
        (99, b"unknown"),
    ]);
    let (socket, name) = parse_unix_diag(&bytes).expect("it parses");
    assert_eq!(name, b"\0name");
    assert_eq!((socket.inode, socket.cookie), (4711, 7));
    assert_eq!((socket.state, socket.kind, socket.peer_inode), (1, 1, 9));
    assert_eq!((socket.rqueue, socket.wqueue), (3, 4));
    let m = socket.meminfo.expect("asked for");
    assert_eq!((m.rmem_alloc, m.wmem_alloc, m.drops), (1, 3, 9));
    for len in 0..16 {
        assert!(parse_unix_diag(&bytes[..len]).is_err(), "{len}");
    }
    for len in 16..bytes.len() {
        // Lacks attributes at most.
        if let Ok((socket, _)) = parse_unix_diag(&bytes[..len]) {
            assert_eq!(socket.cookie, 7);
        }
    }
}

#[test]
fn the_cgroup_comes_where_the_kernel_gives_it() {
    let mut bytes = SAVED[..72].to_vec();
    assert_eq!(parse_inet_diag(&bytes).unwrap().unwrap().cgroup_id, None);
    bytes.extend([8, 0, 21, 0, 1, 2, 3, 4]); // too short to be one
    assert_eq!(parse_inet_diag(&bytes).unwrap().unwrap().cgroup_id, None);
    bytes.extend([12, 0, 21, 0]);
    bytes.extend(6170u64.to_ne_bytes());
    assert_eq!(
        parse_inet_diag(&bytes).unwrap().unwrap().cgroup_id,
        Some(6170)
    );
}

#[test]
fn own_udp_and_unix_sockets_are_listed() {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
    let port = udp.local_addr().expect("address").port();
    let (mut a, b) = std::os::unix::net::UnixStream::pair().expect("pair");
    a.write_all(&[1; 3000]).expect("write");
    let inode = std::fs::File::from(std::os::fd::OwnedFd::from(b.try_clone().expect("dup")))
        .metadata()
        .expect("fstat")
        .ino();
    let mut diag = SockDiag::open().expect("sock_diag opens");
    let mut found = 0;
    diag.dump_udp(|s| found += u32::from(s.local.1 == port && s.meminfo.is_some()))
        .expect("udp_diag");
    assert_eq!(found, 1);
    let mut reader = None;
    diag.dump_unix(|s, _| {
        if s.inode == inode {
            reader = Some(*s);
        }
    })
    .expect("unix_diag");
    let reader = reader.expect("the own socket is listed");
    assert_eq!((reader.rqueue, reader.kind), (3000, 1));
}

proptest! {
    #[test]
    fn no_bytes_make_the_unix_reader_fail_otherwise(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = parse_unix_diag(&bytes);
    }
}
