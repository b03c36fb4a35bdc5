//! Which functions, tracepoints and members the running kernel has: the facts
//! that choose hooks, where the choice need not be found by trying.
//!
//! Two things cannot be seen here and are left to the loader: whether a program
//! type is allowed at all, and whether a helper may be called from it
//! (`bpf_get_socket_cookie` in tracing programs, 5.12 and later).
#![deny(unsafe_code)]

use std::fmt;

use super::btf::{Btf, Prototype};

/// The kernel's version, for people and reports. Choices are made from BTF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// As `uname -r` prints it.
    pub text: String,
    /// The 6 of 6.12, `None` where the text does not begin with two numbers.
    pub major: Option<u32>,
    /// The 12 of 6.12.
    pub minor: Option<u32>,
}

impl Release {
    /// The running kernel's.
    ///
    /// # Errors
    /// What `uname(2)` answers; it only fails for a bad pointer.
    pub fn running() -> std::io::Result<Release> {
        let names = nix::sys::utsname::uname()?;
        Ok(Release::parse(&names.release().to_string_lossy()))
    }

    /// Takes a release apart: `6.1.0-50-cloud-amd64`.
    #[must_use]
    pub fn parse(text: &str) -> Release {
        let mut parts = text
            .split(['.', '-', '+', ' '])
            .map(|part| part.parse().ok());
        let major = parts.next().flatten();
        let minor = major.and(parts.next().flatten());
        Release {
            text: text.to_owned(),
            major: major.filter(|_| minor.is_some()),
            minor,
        }
    }

    /// Whether it is known to be `major.minor` or later.
    #[must_use]
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        self.major
            .zip(self.minor)
            .is_some_and(|release| release >= (major, minor))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the running kernel has, by its type information.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    btf: &'a Btf,
}

impl<'a> Features<'a> {
    /// Answers from `btf`.
    #[must_use]
    pub fn from_btf(btf: &'a Btf) -> Features<'a> {
        Features { btf }
    }

    /// Whether function `name` exists out of line. It may still refuse a hook.
    #[must_use]
    pub fn has_func(&self, name: &str) -> bool {
        self.btf.find_func(name).is_ok()
    }

    /// The first of `names` that exists: functions that were renamed.
    #[must_use]
    pub fn first_func<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.has_func(name))
    }

    /// The arguments of tracepoint `name`, `None` where there is no such tracepoint.
    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<Prototype<'a>> {
        self.btf.find_tracepoint(name).ok()
    }

    /// Whether tracepoint `name` exists for BTF-typed programs.
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoint(name).is_some()
    }

    /// Whether `struct root` has the member, by dotted path.
    #[must_use]
    pub fn has_member(&self, root: &str, path: &str) -> bool {
        self.btf.member(root, path).is_ok()
    }

    /// Whether `release_sock` may skip `tcp_release_cb`, so that it must be hooked itself.
    ///
    /// Since 7.1 `tcp_release_cb_cond` (`include/net/tcp.h`) calls it only for
    /// deferred work. That function is inline and leaves no trace in BTF, so the
    /// release counts, and for kernels that only claim an old one the later
    /// `union { struct slock_owned; long combined; }` of `socket_lock_t` (seen in
    /// 7.2). Hooking `release_sock` is harmless where this is wrongly true.
    #[must_use]
    pub fn release_cb_is_conditional(&self, release: &Release) -> bool {
        release.is_at_least(7, 1) || self.has_member("sock", "sk_lock.combined")
    }

    /// Whether a drained socket gives its `sk_forward_alloc` back at once (6.0 and
    /// later): the release that brought `proto.per_cpu_fw_alloc` made reclaim
    /// unconditional. Before, up to 2 MiB a socket could stay charged while idle.
    #[must_use]
    pub fn forward_alloc_is_returned(&self) -> bool {
        self.has_member("proto", "per_cpu_fw_alloc")
    }

    /// Whether skbs that were read may wait in a per-CPU list, charged to nobody
    /// (`skb_attempt_defer_free`, 5.19 and later).
    #[must_use]
    pub fn skb_free_is_deferred(&self) -> bool {
        self.has_func("skb_attempt_defer_free")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fixtures;

    #[test]
    fn releases() {
        let numbers = |text| {
            let release = Release::parse(text);
            (release.major, release.minor)
        };
        assert_eq!(numbers("5.10.0-32-cloud-amd64"), (Some(5), Some(10)));
        assert_eq!(numbers("7.2.13+deb14-cloud-amd64"), (Some(7), Some(2)));
        assert_eq!(numbers("7.2+"), (Some(7), Some(2)));
        assert_eq!(numbers("6.12-rc1"), (Some(6), Some(12)));
        assert_eq!(numbers("7"), (None, None));
        assert_eq!(numbers("custom"), (None, None));
        assert_eq!(numbers(""), (None, None));
    }

    #[test]
    fn a_release_compares_by_number() {
        assert!(Release::parse("7.10").is_at_least(7, 2));
        assert!(Release::parse("7.1.3").is_at_least(7, 1));
        assert!(!Release::parse("6.18").is_at_least(7, 1));
        assert!(!Release::parse("unknown").is_at_least(0, 0));
    }

    #[test]
    fn a_conditional_release_cb_shows_by_release_or_by_the_lock() {
        let (old, new) = (fixtures::KERNELS[0].btf(), fixtures::KERNELS[4].btf());
        let old_name = Release::parse("5.10");
        assert!(Features::from_btf(&new).release_cb_is_conditional(&old_name));
        assert!(Features::from_btf(&old).release_cb_is_conditional(&Release::parse("7.1.0")));
        assert!(!Features::from_btf(&old).release_cb_is_conditional(&old_name));
    }

    #[test]
    fn the_running_release_has_numbers() {
        let release = Release::running().expect("uname");
        assert!(
            release.major.is_some() && release.minor.is_some(),
            "{release}"
        );
    }

    #[test]
    fn what_changed_between_kernels() {
        let facts = |kernel: &fixtures::Kernel| {
            let btf = kernel.btf();
            let features = Features::from_btf(&btf);
            (
                features.release_cb_is_conditional(&Release::parse(kernel.release)),
                features.forward_alloc_is_returned(),
                features.skb_free_is_deferred(),
                features.first_func(&["tcp_stream_alloc_skb", "sk_stream_alloc_skb"]),
                features.has_tracepoint("sock_send_length"),
            )
        };
        let [k5_10, k6_1, k6_12, k6_18, k7_2] = fixtures::KERNELS;
        assert_eq!(
            facts(k5_10),
            (false, false, false, Some("sk_stream_alloc_skb"), false)
        );
        assert_eq!(
            facts(k6_1),
            (false, true, true, Some("tcp_stream_alloc_skb"), false)
        );
        assert_eq!(
            facts(k6_12),
            (false, true, true, Some("tcp_stream_alloc_skb"), true)
        );
        assert_eq!(
            facts(k6_18),
            (false, true, true, Some("tcp_stream_alloc_skb"), true)
        );
        assert_eq!(
            facts(k7_2),
            (true, true, true, Some("tcp_stream_alloc_skb"), true)
        );
    }
}
