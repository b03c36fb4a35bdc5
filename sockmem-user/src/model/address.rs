//! Addresses, families and TCP states in the words of `ss`.

use std::net::Ipv6Addr;

use sockmem_common::SockState;

/// `TCP_CLOSE` (`include/net/tcp_states.h`; the numbers never changed).
pub(super) const TCP_CLOSE: u8 = 7;
/// `TCP_LISTEN`.
pub(super) const TCP_LISTEN: u8 = 10;

/// `AF_INET6` (`include/linux/socket.h`).
pub(super) const AF_INET6: u8 = 10;

/// The kernel's name of a TCP state, without its prefix.
pub(super) fn state_name(state: u8) -> &'static str {
    match state {
        1 => "ESTABLISHED",
        2 => "SYN_SENT",
        3 => "SYN_RECV",
        4 => "FIN_WAIT1",
        5 => "FIN_WAIT2",
        6 => "TIME_WAIT",
        TCP_CLOSE => "CLOSE",
        8 => "CLOSE_WAIT",
        9 => "LAST_ACK",
        TCP_LISTEN => "LISTEN",
        11 => "CLOSING",
        12 => "NEW_SYN_RECV",
        13 => "BOUND_INACTIVE",
        _ => "UNKNOWN",
    }
}

/// `"inet"` or `"inet6"`.
pub(super) fn family_name(family: u8) -> &'static str {
    if family == AF_INET6 { "inet6" } else { "inet" }
}

/// Whether the socket is or was one end of a connection: not a listener, not fresh and unused.
pub(super) fn is_connection(s: &SockState) -> bool {
    s.remote_port != 0 || !matches!(s.tcp_state, 0 | TCP_CLOSE | TCP_LISTEN)
}

/// Whether it waits for connections.
#[must_use]
pub fn listens(s: &SockState) -> bool {
    s.tcp_state == TCP_LISTEN
}

/// The local end.
#[must_use]
pub fn local(s: &SockState) -> String {
    endpoint(s.family, &s.local, s.local_port)
}

/// The remote end; a listener's is `0.0.0.0:*` or `[::]:*`.
#[must_use]
pub fn remote(s: &SockState) -> String {
    endpoint(s.family, &s.remote, s.remote_port)
}

fn endpoint(family: u8, address: &[u8; 16], port: u16) -> String {
    let mut out = String::new();
    push_endpoint(&mut out, family, address, port);
    out
}

/// Appends an address and a port. Written out rather than formatted: a snapshot has two for each
/// of its sockets.
pub(super) fn push_endpoint(out: &mut String, family: u8, address: &[u8; 16], port: u16) {
    push_address(out, family, address);
    out.push(':');
    if port == 0 {
        out.push('*');
    } else {
        push_number(out, u64::from(port));
    }
}

/// Appends an address, IPv6 in brackets.
pub(super) fn push_address(out: &mut String, family: u8, address: &[u8; 16]) {
    use std::fmt::Write as _;
    if family == AF_INET6 {
        // Writing to a String cannot fail.
        let _ = write!(out, "[{}]", Ipv6Addr::from(*address));
    } else {
        for (i, byte) in address[..4].iter().enumerate() {
            if i > 0 {
                out.push('.');
            }
            push_number(out, u64::from(*byte));
        }
    }
}

/// Appends a number in decimal.
pub(super) fn push_number(out: &mut String, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Text of a NUL-padded name; `None` where it is empty.
#[must_use]
pub fn comm(bytes: &[u8; 16]) -> Option<String> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn addresses_read_as_ss_prints_them() {
        let mut s = SockState {
            family: 2,
            local_port: 80,
            tcp_state: TCP_LISTEN,
            ..Default::default()
        };
        assert_eq!(
            (local(&s).as_str(), remote(&s).as_str()),
            ("0.0.0.0:80", "0.0.0.0:*")
        );
        s.local[..4].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(local(&s), "10.0.0.1:80");
        s.family = AF_INET6;
        s.local = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(
            (local(&s).as_str(), remote(&s).as_str()),
            ("[::1]:80", "[::]:*")
        );
        s.remote = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
        s.remote_port = 443;
        assert_eq!(remote(&s), "[::ffff:192.0.2.7]:443");
    }

    #[test]
    fn a_connection_stays_one_after_it_was_closed() {
        let mut s = SockState {
            tcp_state: TCP_LISTEN,
            ..Default::default()
        };
        assert!(!is_connection(&s));
        s.tcp_state = 1;
        assert!(is_connection(&s));
        s = SockState {
            tcp_state: TCP_CLOSE,
            remote_port: 9,
            ..Default::default()
        };
        assert!(is_connection(&s));
    }

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        for n in [0, 7, 10, 255, 65_535, u64::MAX] {
            let mut out = String::new();
            push_number(&mut out, n);
            assert_eq!(out, n.to_string());
        }
    }

    #[test]
    fn names() {
        assert_eq!(comm(&[0; 16]), None);
        assert_eq!(
            comm(b"nginx\0\0\0\0\0\0\0\0\0\0\0").as_deref(),
            Some("nginx")
        );
        assert_eq!(
            comm(b"0123456789abcdef").as_deref(),
            Some("0123456789abcdef")
        );
        assert_eq!(state_name(8), "CLOSE_WAIT");
    }
}
