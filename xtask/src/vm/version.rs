//! Choosing kernel packages: which kernels are tested, and which of a suite's
//! package names is the newest of one of them.

use std::cmp::Ordering;

/// A Debian suite that carries a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suite {
    /// Its name in a sources list.
    pub(crate) name: &'static str,
    /// On the security mirror rather than the main one.
    pub(crate) security: bool,
}

/// A kernel to test.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What `--kernel` takes and every line of output says.
    pub(crate) name: &'static str,
    /// The version that a package's name must begin with; empty is any.
    pub(crate) series: &'static str,
    /// Where to look for it.
    pub(crate) suites: &'static [Suite],
}

const fn main_suite(name: &'static str) -> Suite {
    Suite {
        name,
        security: false,
    }
}

/// The kernels that every change is tried on, oldest first.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "5.10",
        series: "5.10.",
        suites: &[
            main_suite("bullseye"),
            Suite {
                name: "bullseye-security",
                security: true,
            },
        ],
    },
    Kernel {
        name: "6.1",
        series: "6.1.",
        suites: &[main_suite("bookworm")],
    },
    Kernel {
        name: "6.12",
        series: "6.12.",
        suites: &[main_suite("trixie"), main_suite("bookworm-backports")],
    },
    Kernel {
        name: "newest",
        series: "",
        suites: &[main_suite("unstable")],
    },
];

/// The kernel of that name.
pub(crate) fn kernel(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|kernel| kernel.name == name)
}

/// Packages that together hold one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The kernel's release, such as `6.1.0-50-cloud-amd64`.
    pub(crate) release: String,
    /// One package, or the image's, the modules' and the common files'.
    pub(crate) packages: Vec<String>,
}

/// The flavour tested: built for virtual machines, so small and with every
/// driver that QEMU needs; its socket code is that of the other flavours.
const FLAVOUR: &str = "-cloud-amd64";

/// All packages among `names` that hold a kernel of this series, the best one
/// first: newest version, and of one version the signed package before the
/// unsigned. More than one is given because a mirror may name a package that
/// it no longer (or does not yet) have.
pub(crate) fn candidates<'a>(
    series: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Vec<Candidate> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let mut found: Vec<(u8, Candidate)> = Vec::new();
    for name in &names {
        // Until Linux 6.12 Debian put image and modules into linux-image-*;
        // later linux-binary-* has the image, linux-modules-* the modules, and
        // linux-image-* nothing but dependencies on both.
        let (prefix, preference) = if name.starts_with("linux-image-") {
            ("linux-image-", 2)
        } else if name.starts_with("linux-binary-unsigned-") {
            ("linux-binary-unsigned-", 1)
        } else if name.starts_with("linux-binary-") {
            ("linux-binary-", 0)
        } else {
            continue;
        };
        let rest = &name[prefix.len()..];
        let (release, preference) = match rest.strip_suffix("-unsigned") {
            Some(release) => (release, preference + 1),
            None => (rest, preference),
        };
        let Some(version) = release.strip_suffix(FLAVOUR) else {
            continue;
        };
        // `linux-image-6.1-cloud-amd64` and `linux-image-cloud-amd64` only depend
        // on another package: an image's own name has a third number.
        let numbers = version
            .split(['.', '-', '+'])
            .take_while(|part| is_number(part))
            .count();
        if numbers < 2 || (prefix == "linux-image-" && numbers < 3) || !version.starts_with(series)
        {
            continue;
        }
        let has = |package: &String| names.binary_search(&package.as_str()).is_ok();
        let modules = Some(format!("linux-modules-{release}")).filter(has);
        // An image and its modules come either in one package or in two.
        if modules.is_some() == (prefix == "linux-image-") {
            continue;
        }
        // Of the split ones this has the list of what is built in, and the
        // kernel's configuration.
        let base = Some(format!("linux-base-{release}")).filter(has);
        let packages = [Some((*name).to_owned()), modules, base]
            .into_iter()
            .flatten()
            .collect();
        found.push((
            preference,
            Candidate {
                release: release.to_owned(),
                packages,
            },
        ));
    }
    found.sort_by(|(a_preference, a), (b_preference, b)| {
        compare(&b.release, &a.release).then(a_preference.cmp(b_preference))
    });
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Orders versions as dpkg does: runs of digits by value, other text as text,
/// with `~` before everything, even the end.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (a_text, a_rest) = split(a, |byte| !byte.is_ascii_digit());
        let (b_text, b_rest) = split(b, |byte| !byte.is_ascii_digit());
        let (a_digits, a_end) = split(a_rest, |byte| byte.is_ascii_digit());
        let (b_digits, b_end) = split(b_rest, |byte| byte.is_ascii_digit());
        let (a_value, b_value) = (
            a_digits.trim_start_matches('0'),
            b_digits.trim_start_matches('0'),
        );
        let order = compare_text(a_text, b_text)
            .then(a_value.len().cmp(&b_value.len()))
            .then(a_value.cmp(b_value));
        if order.is_ne() || (a_end.is_empty() && b_end.is_empty()) {
            return order;
        }
        (a, b) = (a_end, b_end);
    }
}

fn split(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| !belongs(byte))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// dpkg's order of the parts without digits: `~`, the end, letters, the rest.
fn compare_text(a: &str, b: &str) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    (0..a.len().max(b.len()))
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(series: &str, names: &[&str]) -> Candidate {
        candidates(series, names.iter().copied())
            .into_iter()
            .next()
            .expect("a candidate")
    }

    #[test]
    fn versions_are_ordered_as_dpkg_does() {
        for (smaller, larger) in [
            ("5.10.0-9-cloud-amd64", "5.10.0-10-cloud-amd64"),
            ("6.12.95+deb12-cloud-amd64", "6.12.107+deb13-cloud-amd64"),
            ("6.12.90+deb12-cloud-amd64", "6.12.90+deb12.1-cloud-amd64"),
            ("7.2~rc3", "7.2"),
            ("7.2", "7.2.1"),
            ("7.2.9", "7.10"),
        ] {
            assert_eq!(
                compare(smaller, larger),
                Ordering::Less,
                "{smaller} < {larger}"
            );
            assert_eq!(
                compare(larger, smaller),
                Ordering::Greater,
                "{larger} > {smaller}"
            );
        }
        assert_eq!(compare("6.01", "6.1"), Ordering::Equal);
    }

    #[test]
    fn the_newest_signed_image_is_first_and_the_unsigned_is_its_fallback() {
        let all = candidates(
            "5.10.",
            [
                "linux-image-5.10.0-9-cloud-amd64",
                "linux-image-5.10.0-46-cloud-amd64-unsigned",
                "linux-image-5.10.0-46-cloud-amd64-dbg",
                "linux-image-5.10.0-46-cloud-amd64",
                "linux-image-5.10.0-46-amd64",
                "linux-image-6.1.0-50-cloud-amd64",
                "linux-image-5.10-cloud-amd64",
                "linux-image-cloud-amd64",
            ],
        );
        let packages: Vec<_> = all.iter().map(|found| found.packages.join(" ")).collect();
        assert_eq!(
            packages,
            [
                "linux-image-5.10.0-46-cloud-amd64",
                "linux-image-5.10.0-46-cloud-amd64-unsigned",
                "linux-image-5.10.0-9-cloud-amd64",
            ]
        );
        assert_eq!(all[0].release, "5.10.0-46-cloud-amd64");
        assert_eq!(all[1].release, "5.10.0-46-cloud-amd64");
    }

    #[test]
    fn a_split_kernel_is_image_and_modules_of_one_release() {
        let found = first(
            "",
            &[
                "linux-image-7.2.13+deb14-cloud-amd64",
                "linux-binary-7.2.13+deb14-cloud-amd64",
                "linux-binary-unsigned-7.2.13+deb14-cloud-amd64",
                "linux-binary-7.2.13+deb14-amd64",
                "linux-modules-7.2.13+deb14-cloud-amd64",
                "linux-base-7.2.13+deb14-cloud-amd64",
                "linux-image-6.12.9-cloud-amd64",
            ],
        );
        assert_eq!(found.release, "7.2.13+deb14-cloud-amd64");
        assert_eq!(
            found.packages,
            [
                "linux-binary-7.2.13+deb14-cloud-amd64",
                "linux-modules-7.2.13+deb14-cloud-amd64",
                "linux-base-7.2.13+deb14-cloud-amd64",
            ]
        );
    }

    #[test]
    fn an_image_without_its_modules_is_no_candidate() {
        let names = ["linux-binary-7.2.13+deb14-cloud-amd64"];
        assert_eq!(candidates("", names), []);
    }

    #[test]
    fn the_first_release_of_a_series_has_two_numbers() {
        let names = [
            "linux-binary-7.3+deb14-cloud-amd64",
            "linux-modules-7.3+deb14-cloud-amd64",
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-modules-7.2.13+deb14-cloud-amd64",
        ];
        assert_eq!(first("", &names).release, "7.3+deb14-cloud-amd64");
    }

    #[test]
    fn the_series_does_not_match_a_longer_number() {
        let names = ["linux-image-6.12.95+deb12-cloud-amd64"];
        assert_eq!(candidates("6.1.", names), []);
    }
}
