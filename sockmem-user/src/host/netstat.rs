//! `/proc/net/netstat` and `/proc/net/protocols`: what the kernel counts of memory pressure.

use crate::facts::KERNEL_COUNTERS;

/// The counters of [`KERNEL_COUNTERS`] in the text of `/proc/net/netstat`; `None` for one that
/// this kernel does not have. The file has pairs of lines: names, then numbers
/// (`netstat_seq_show`, net/ipv4/proc.c).
#[must_use]
pub fn parse_netstat(text: &str) -> [Option<u64>; KERNEL_COUNTERS.len()] {
    let mut found = [None; KERNEL_COUNTERS.len()];
    let mut lines = text.lines();
    while let Some(names) = lines.next() {
        let Some(names) = names.strip_prefix("TcpExt:") else {
            continue;
        };
        let Some(numbers) = lines.next().and_then(|l| l.strip_prefix("TcpExt:")) else {
            return found;
        };
        let numbers = numbers.split_ascii_whitespace();
        for (name, number) in names.split_ascii_whitespace().zip(numbers) {
            if let Some(at) = KERNEL_COUNTERS.iter().position(|known| *known == name) {
                found[at] = number.parse().ok();
            }
        }
    }
    found
}

/// Whether TCP is under memory pressure, from the text of `/proc/net/protocols`; `None` where it
/// does not say. The column `press` is `yes`, `no`, or `NI` where a protocol has no such thing
/// (`proto_seq_printf`, net/core/sock.c).
#[must_use]
pub fn parse_pressure(text: &str) -> Option<bool> {
    let mut lines = text.lines();
    let title = lines.next()?;
    let column = title.split_ascii_whitespace().position(|t| t == "press")?;
    let row = lines.find(|l| l.split_ascii_whitespace().next() == Some("TCP"))?;
    match row.split_ascii_whitespace().nth(column)? {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Shortened, from Linux 6.18.
    const NETSTAT: &str = "\
TcpExt: SyncookiesSent PruneCalled RcvPruned OfoPruned TW TCPRcvCollapsed TCPMemoryPressures TCPMemoryPressuresChrono TCPPLBRehash
TcpExt: 0 11 12 13 14 15 16 17 18
IpExt: InNoRoutes InTruncatedPkts
IpExt: 1 2
MPTcpExt: MPCapableSYNRX
MPTcpExt: 3
";
    /// From Linux 5.10.
    const PROTOCOLS_5_10: &str = "\
protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh gp em
UNIX-STREAM 1024     12      -1   NI       0   yes  kernel      n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n
TCPv6     2432      2       5   yes    304   yes  kernel      y  y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y
TCP       2240      3       5   yes    304   yes  kernel      y  y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y
";
    /// From Linux 6.18.
    const PROTOCOLS: &str = "\
protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp em
MPTCPv6   2064      0     301   no       0   yes  kernel      y  y  y  n  y  y  y  y  y  y  y  y  n  n  y  y  y  n
TCP       2304      1     301   no     192   yes  kernel      y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y
";

    #[test]
    fn saved_text_is_read() {
        assert_eq!(parse_netstat(NETSTAT), [11, 12, 13, 15, 16, 17].map(Some));
        assert_eq!(parse_pressure(PROTOCOLS_5_10), Some(true));
        assert_eq!(parse_pressure(PROTOCOLS), Some(false));
    }

    #[test]
    fn what_is_missing_or_broken_is_not_known() {
        assert_eq!(parse_netstat(""), [None; 6]);
        assert_eq!(parse_netstat("TcpExt: PruneCalled\n"), [None; 6]);
        assert_eq!(parse_netstat("TcpExt: PruneCalled\nIpExt: 4\n"), [None; 6]);
        let old = NETSTAT
            .replace(" TCPMemoryPressuresChrono", "")
            .replace(" 17 18", " 18");
        assert_eq!(parse_netstat(&old)[4..], [Some(16), None]);
        let broken = NETSTAT.replace(" 12 ", " x ");
        assert_eq!(parse_netstat(&broken)[..3], [Some(11), None, Some(13)]);
        // Fewer numbers than names.
        let short = NETSTAT.replace(" 15 16 17 18", "");
        assert_eq!(parse_netstat(&short)[2..4], [Some(13), None]);

        assert_eq!(parse_pressure(""), None);
        assert_eq!(parse_pressure(&PROTOCOLS.replace("press", "stress")), None);
        assert_eq!(parse_pressure(&PROTOCOLS.replace("\nTCP ", "\nTCQ ")), None);
        assert_eq!(parse_pressure(&PROTOCOLS_5_10.replace("yes ", "NI ")), None);
        assert_eq!(parse_pressure("protocol press\nTCP\n"), None);
    }

    #[test]
    fn this_host_counts() {
        let text = std::fs::read_to_string("/proc/self/net/netstat").expect("every Linux has it");
        assert!(parse_netstat(&text)[0].is_some(), "{text}");
        let text = std::fs::read_to_string("/proc/self/net/protocols").expect("likewise");
        assert!(parse_pressure(&text).is_some(), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in ".{0,300}", words in "(TcpExt:|press|TCP|[0-9 ]|\n){0,80}") {
            let _ = (parse_netstat(&text), parse_pressure(&text));
            let _ = (parse_netstat(&words), parse_pressure(&words));
        }
    }
}
