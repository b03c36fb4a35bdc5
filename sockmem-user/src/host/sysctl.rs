//! Kernel settings that limit socket memory or decide what may be traced: `/proc/sys`.

use std::fs;
use std::path::Path;

/// The settings; `None` where this kernel has none of that name, or does not show
/// it in this network namespace (`tcp_mem` and `net.core.*` only in the initial one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// `net.ipv4.tcp_mem`: low, pressure, high. Pages, of the whole host.
    pub tcp_mem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_rmem`: minimum, initial `sk_rcvbuf`, ceiling of autotuning. Bytes, of the namespace.
    pub tcp_rmem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_wmem`: the same for `sk_sndbuf`. Bytes, of the namespace.
    pub tcp_wmem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_moderate_rcvbuf`: whether the kernel tunes `sk_rcvbuf`.
    pub tcp_moderate_rcvbuf: Option<u64>,
    /// `net.core.rmem_max`: ceiling of SO_RCVBUF. Bytes.
    pub rmem_max: Option<u64>,
    /// `net.core.wmem_max`: ceiling of SO_SNDBUF. Bytes.
    pub wmem_max: Option<u64>,
    /// `net.core.mem_pcpu_rsv`: pages that each CPU may keep in reserve (a setting from 6.5;
    /// 6.0 to 6.4 have a fixed 1 MiB, older kernels none).
    pub mem_pcpu_rsv: Option<u64>,
    /// `net.core.bpf_jit_enable`: 0 interprets; fentry programs need more.
    pub bpf_jit_enable: Option<u64>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u64>,
    /// `kernel.perf_event_paranoid`; -1 to 4.
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.bpf_stats_enabled`: whether run times of programs are counted.
    pub bpf_stats_enabled: Option<u64>,
}

impl Sysctls {
    /// Reads them as the calling thread's network namespace has them.
    #[must_use]
    pub fn read() -> Self {
        Sysctls::read_at(Path::new("/proc/sys"))
    }

    /// Reads them from a directory that looks like `/proc/sys`.
    #[must_use]
    pub fn read_at(root: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(root.join(name)).ok();
        let three = |name: &str| text(name).as_deref().and_then(parse_three);
        let one = |name: &str| text(name)?.trim().parse::<u64>().ok();
        Sysctls {
            tcp_mem: three("net/ipv4/tcp_mem"),
            tcp_rmem: three("net/ipv4/tcp_rmem"),
            tcp_wmem: three("net/ipv4/tcp_wmem"),
            tcp_moderate_rcvbuf: one("net/ipv4/tcp_moderate_rcvbuf"),
            rmem_max: one("net/core/rmem_max"),
            wmem_max: one("net/core/wmem_max"),
            mem_pcpu_rsv: one("net/core/mem_pcpu_rsv"),
            bpf_jit_enable: one("net/core/bpf_jit_enable"),
            unprivileged_bpf_disabled: one("kernel/unprivileged_bpf_disabled"),
            perf_event_paranoid: text("kernel/perf_event_paranoid")
                .and_then(|text| text.trim().parse().ok()),
            bpf_stats_enabled: one("kernel/bpf_stats_enabled"),
        }
    }
}

/// One setting that is a number, by its path below `/proc/sys`; `None` where this kernel has none of
/// that name, or does not show it.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(name))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Three numbers between blanks; `None` for anything else.
#[must_use]
pub fn parse_three(text: &str) -> Option<[u64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let three = [words.next()?, words.next()?, words.next()?];
    if words.next().is_some() {
        return None;
    }
    let [a, b, c] = three.map(|word| word.parse().ok());
    Some([a?, b?, c?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_are_read_exactly() {
        assert_eq!(
            parse_three("287901\t383868\t575802\n"),
            Some([287_901, 383_868, 575_802])
        );
        assert_eq!(parse_three(" 1  2 3"), Some([1, 2, 3]));
        for broken in [
            "",
            "1 2",
            "1 2 3 4",
            "1 2 x",
            "1 -2 3",
            "1 2 18446744073709551616",
        ] {
            assert_eq!(parse_three(broken), None, "{broken}");
        }
    }

    #[test]
    fn what_is_missing_is_not_known() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Sysctls::read_at(root.path()), Sysctls::default());
        fs::create_dir_all(root.path().join("net/ipv4")).unwrap();
        fs::create_dir_all(root.path().join("kernel")).unwrap();
        fs::write(
            root.path().join("net/ipv4/tcp_rmem"),
            "4096\t131072\t33554432\n",
        )
        .unwrap();
        fs::write(root.path().join("kernel/perf_event_paranoid"), "-1\n").unwrap();
        fs::write(root.path().join("kernel/bpf_stats_enabled"), "on\n").unwrap();
        let expected = Sysctls {
            tcp_rmem: Some([4096, 131_072, 33_554_432]),
            perf_event_paranoid: Some(-1),
            ..Sysctls::default()
        };
        assert_eq!(Sysctls::read_at(root.path()), expected);
    }

    #[test]
    fn this_host_has_limits_in_order() {
        let [min, initial, max] = Sysctls::read()
            .tcp_rmem
            .expect("every namespace has tcp_rmem");
        assert!(
            min > 0 && initial > 0 && max >= min,
            "{min} {initial} {max}"
        );
    }
}
