//! `/proc/net/sockstat` and `/proc/net/sockstat6`: the kernel's own sums.

use std::path::Path;
use std::{fs, io};

/// What `/proc/net/sockstat` says (net/ipv4/proc.c, `sockstat_seq_show`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockstat {
    /// Sockets of all kinds in this network namespace.
    pub used: Option<u64>,
    /// TCP.
    pub tcp: TcpStat,
    /// `UDP: mem`: pages charged to UDP, all network namespaces together.
    pub udp_mem_pages: Option<u64>,
}

/// The line `TCP:`. Two of its numbers are the namespace's, three the whole host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStat {
    /// IPv4 sockets in use in this network namespace. IPv6 has a line of its own: `tcp6_inuse`.
    pub inuse: u64,
    /// Orphans of the whole host.
    pub orphan: u64,
    /// Time-wait sockets of this network namespace, IPv4 and IPv6.
    pub tw: u64,
    /// TCP sockets of the whole host, IPv4 and IPv6, in whatever state.
    pub alloc: u64,
    /// `tcp_memory_allocated`, pages, of the whole host, IPv4 and IPv6: what `tcp_mem`
    /// limits. From 6.0 the CPUs' reserves are missing in it: it may be off by
    /// `net.core.mem_pcpu_rsv` pages for each CPU, either way.
    pub mem_pages: u64,
}

/// Reads the text of `/proc/net/sockstat`; `None` without a complete line `TCP:`.
#[must_use]
pub fn parse_sockstat(text: &str) -> Option<Sockstat> {
    let tcp = |key| value(text, "TCP", key);
    Some(Sockstat {
        used: value(text, "sockets", "used"),
        tcp: TcpStat {
            inuse: tcp("inuse")?,
            orphan: tcp("orphan")?,
            tw: tcp("tw")?,
            alloc: tcp("alloc")?,
            mem_pages: tcp("mem")?,
        },
        udp_mem_pages: value(text, "UDP", "mem"),
    })
}

/// Reads the text of `/proc/net/sockstat6` for `TCP6: inuse`: IPv6 sockets in use
/// in this network namespace.
#[must_use]
pub fn parse_tcp6_inuse(text: &str) -> Option<u64> {
    value(text, "TCP6", "inuse")
}

/// The number behind `key` in the line that starts with `line:`.
fn value(text: &str, line: &str, key: &str) -> Option<u64> {
    let fields = text
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))?;
    let mut words = fields.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let number = words.next();
        if word == key {
            return number?.parse().ok();
        }
    }
    None
}

/// Both files, of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// `/proc/net/sockstat`.
    pub v4: Sockstat,
    /// `TCP6: inuse`; `None` where the kernel has no IPv6.
    pub tcp6_inuse: Option<u64>,
}

impl Sums {
    /// Reads both in the calling thread's network namespace.
    ///
    /// # Errors
    /// Errors of reading `/proc/net/sockstat`; `InvalidData` where it has no complete line `TCP:`.
    pub fn read() -> io::Result<Self> {
        // Not /proc/net, which is the main thread's.
        Sums::read_at(Path::new("/proc/thread-self/net"))
    }

    /// Reads both from a directory such as `/proc/PID/net`.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_at(net: &Path) -> io::Result<Self> {
        let path = net.join("sockstat");
        let v4 = parse_sockstat(&fs::read_to_string(&path)?).ok_or_else(|| {
            let what = format!("{} has no complete line \"TCP:\"", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        let v6 = fs::read_to_string(net.join("sockstat6")).ok();
        Ok(Sums {
            v4,
            tcp6_inuse: v6.as_deref().and_then(parse_tcp6_inuse),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Linux 6.18.
    const TEXT: &str = "\
sockets: used 21
TCP: inuse 3 orphan 1 tw 2 alloc 4 mem 95
UDP: inuse 0 mem 7
UDPLITE: inuse 0
RAW: inuse 0
FRAG: inuse 0 memory 0
";
    const TEXT6: &str = "TCP6: inuse 5\nUDP6: inuse 0\nUDPLITE6: inuse 0\n";

    #[test]
    fn saved_text_is_read() {
        let expected = Sockstat {
            used: Some(21),
            tcp: TcpStat {
                inuse: 3,
                orphan: 1,
                tw: 2,
                alloc: 4,
                mem_pages: 95,
            },
            udp_mem_pages: Some(7),
        };
        assert_eq!(parse_sockstat(TEXT), Some(expected));
        assert_eq!(parse_tcp6_inuse(TEXT6), Some(5));
    }

    #[test]
    fn unknown_words_are_skipped_and_missing_ones_told() {
        let more = TEXT.replace("mem 95", "future 1 mem 95 more 2");
        assert_eq!(parse_sockstat(&more), parse_sockstat(TEXT));
        let without_udp = TEXT.replace("UDP:", "UDQ:");
        assert_eq!(
            parse_sockstat(&without_udp)
                .expect("TCP is there")
                .udp_mem_pages,
            None
        );
        for broken in ["mem", "mem -1", "mem 1x", "", "mem 99999999999999999999"] {
            assert_eq!(
                parse_sockstat(&TEXT.replace("mem 95", broken)),
                None,
                "{broken}"
            );
        }
        assert_eq!(parse_sockstat(""), None);
        assert_eq!(parse_tcp6_inuse("TCP6: inuse\n"), None);
    }

    #[test]
    fn a_host_without_ipv6_has_no_second_file() {
        let net = tempfile::tempdir().unwrap();
        assert_eq!(
            Sums::read_at(net.path()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        fs::write(net.path().join("sockstat"), TEXT).unwrap();
        assert_eq!(Sums::read_at(net.path()).unwrap().tcp6_inuse, None);
        fs::write(net.path().join("sockstat6"), TEXT6).unwrap();
        assert_eq!(Sums::read_at(net.path()).unwrap().tcp6_inuse, Some(5));
        fs::write(net.path().join("sockstat"), "TCP: inuse 3\n").unwrap();
        let error = Sums::read_at(net.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("sockstat has no complete line \"TCP:\""),
            "{error}"
        );
    }

    #[test]
    fn this_host_counts_an_own_socket() {
        let _socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let sums = Sums::read().expect("sockstat is there on every Linux");
        assert!(sums.v4.tcp.inuse >= 1 && sums.v4.tcp.alloc >= 1, "{sums:?}");
    }
}
