//! Capabilities of this process.

use std::fmt;

/// The capabilities that matter here, by their numbers in linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cap {
    /// Search directories of other users, `/proc/PID/fd` among them (and write).
    DacOverride = 1,
    /// Search directories of other users, `/proc/PID/fd` among them.
    DacReadSearch = 2,
    /// Follow the links in `/proc/PID/fd` and `/proc/PID/ns` of other users' processes.
    SysPtrace = 19,
    /// Everything below, and `setns`.
    SysAdmin = 21,
    /// Raise resource limits.
    SysResource = 24,
    /// Attach programs that read kernel memory (5.8).
    Perfmon = 38,
    /// Load programs and make maps (5.8).
    Bpf = 39,
}

impl Cap {
    /// The name in linux/capability.h.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cap::DacOverride => "CAP_DAC_OVERRIDE",
            Cap::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Cap::SysPtrace => "CAP_SYS_PTRACE",
            Cap::SysAdmin => "CAP_SYS_ADMIN",
            Cap::SysResource => "CAP_SYS_RESOURCE",
            Cap::Perfmon => "CAP_PERFMON",
            Cap::Bpf => "CAP_BPF",
        }
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// A set of the given ones.
    #[must_use]
    pub fn of(caps: &[Cap]) -> Self {
        CapSet(caps.iter().fold(0, |bits, &cap| bits | 1 << cap as u8))
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(self, cap: Cap) -> bool {
        self.0 & 1 << cap as u8 != 0
    }

    /// Which of `needed` are not in the set. CAP_SYS_ADMIN stands for CAP_BPF and
    /// CAP_PERFMON, CAP_DAC_OVERRIDE for CAP_DAC_READ_SEARCH, as in the kernel.
    #[must_use]
    pub fn missing(self, needed: &[Cap]) -> Vec<Cap> {
        let covered = |cap| {
            self.has(cap)
                || match cap {
                    Cap::Bpf | Cap::Perfmon => self.has(Cap::SysAdmin),
                    Cap::DacReadSearch => self.has(Cap::DacOverride),
                    _ => false,
                }
        };
        needed
            .iter()
            .copied()
            .filter(|&cap| !covered(cap))
            .collect()
    }
}

/// Reads the line `CapEff:` of `/proc/PID/status`; `None` where there is none.
#[must_use]
pub fn parse_effective(status: &str) -> Option<CapSet> {
    let digits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?
        .trim();
    u64::from_str_radix(digits, 16).ok().map(CapSet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        let status = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000001\n\
                      CapEff:\t000000c000000000\nCapBnd:\t000001ffffffffff\n";
        assert_eq!(
            parse_effective(status),
            Some(CapSet::of(&[Cap::Bpf, Cap::Perfmon]))
        );
        assert_eq!(parse_effective("CapEff:\t\n"), None);
        assert_eq!(parse_effective("CapEff:\txyz\n"), None);
        assert_eq!(parse_effective("Name:\tCapEff: 1\n"), None);
    }

    #[test]
    fn the_numbers_are_the_kernels() {
        let root = CapSet(0x0000_01ff_ffff_ffff);
        let bits = |cap| CapSet::of(&[cap]).0.trailing_zeros();
        assert_eq!(bits(Cap::Bpf), 39);
        assert_eq!(bits(Cap::Perfmon), 38);
        assert_eq!(bits(Cap::SysAdmin), 21);
        assert_eq!(bits(Cap::SysPtrace), 19);
        assert!(root.has(Cap::Bpf) && !CapSet::default().has(Cap::Bpf));
    }

    #[test]
    fn stronger_capabilities_stand_for_weaker_ones() {
        let needed = [Cap::Bpf, Cap::Perfmon, Cap::DacReadSearch, Cap::SysPtrace];
        assert_eq!(CapSet::default().missing(&needed), needed);
        let some = CapSet::of(&[Cap::SysAdmin, Cap::DacOverride]);
        assert_eq!(some.missing(&needed), [Cap::SysPtrace]);
        assert!(CapSet::of(&needed).missing(&needed).is_empty());
        assert_eq!(
            CapSet::of(&[Cap::Bpf]).missing(&[Cap::SysAdmin]),
            [Cap::SysAdmin]
        );
    }
}
