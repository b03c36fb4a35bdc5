//! What every document says about the host that it came from.

use std::path::Path;
use std::{fs, io};

/// The `"host"` of every JSON document and recording.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostInfo {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// As `hostname` prints it.
    pub hostname: String,
    /// Differs after every boot; `None` where the kernel does not show it.
    pub boot_id: Option<String>,
    /// Bytes.
    pub page_size: u64,
    /// CPUs that are online; `None` where not known.
    pub cpus: Option<u32>,
}

impl HostInfo {
    /// Asks this host.
    ///
    /// # Errors
    /// Errors of reading `/proc/sys/kernel`: without `/proc` nothing here works.
    pub fn read() -> io::Result<Self> {
        HostInfo::read_at(Path::new("/proc"), Path::new("/sys"))
    }

    /// Reads it from trees that look like `/proc` and `/sys`; the page size is this host's.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_at(proc: &Path, sys: &Path) -> io::Result<Self> {
        let line = |name: &str| -> io::Result<String> {
            let path = proc.join("sys/kernel").join(name);
            let text = fs::read(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("reading {}: {error}", path.display()))
            })?;
            Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
        };
        let online = fs::read_to_string(sys.join("devices/system/cpu/online")).ok();
        Ok(HostInfo {
            kernel: line("osrelease")?,
            hostname: line("hostname")?,
            boot_id: line("random/boot_id").ok(),
            page_size: page_size(),
            cpus: online.as_deref().and_then(parse_cpu_list),
        })
    }
}

/// Bytes in a page.
#[must_use]
pub fn page_size() -> u64 {
    // SAFETY: sysconf takes a number and reads no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // POSIX has no way for this to be unknown; 4096 is what every tested machine has.
    u64::try_from(size).unwrap_or(4096)
}

/// How many CPUs a list such as `0-3,8` names; `None` where it is not such a list.
#[must_use]
pub fn parse_cpu_list(text: &str) -> Option<u32> {
    let mut count = 0u32;
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// Major and minor version in a kernel release; `None` where it has none.
#[must_use]
pub fn parse_release(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let end = rest
        .bytes()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..end].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        let cases = [("0\n", 1), ("0-1", 2), ("0-3,8,10-11\n", 7)];
        for (text, count) in cases {
            assert_eq!(parse_cpu_list(text), Some(count), "{text}");
        }
        for broken in ["", "a", "3-1", "0-", "0,,2", "0-4294967295"] {
            assert_eq!(parse_cpu_list(broken), None, "{broken}");
        }
    }

    #[test]
    fn releases_are_read() {
        let cases = [
            ("6.18.44-fc-v657", Some((6, 18))),
            ("5.10.0-33-cloud-amd64", Some((5, 10))),
            ("7.2-rc1", Some((7, 2))),
            ("4.18", Some((4, 18))),
            ("6", None),
            ("6.x", None),
            ("", None),
            ("six.1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_release(text), expected, "{text}");
        }
    }

    #[test]
    fn it_survives_json_with_the_names_of_the_contract() {
        let host = HostInfo {
            kernel: "6.1.0".into(),
            hostname: "web".into(),
            boot_id: None,
            page_size: 4096,
            cpus: Some(2),
        };
        let json = serde_json::to_string(&host).unwrap();
        assert_eq!(
            json,
            r#"{"kernel":"6.1.0","hostname":"web","boot_id":null,"page_size":4096,"cpus":2}"#
        );
        assert_eq!(serde_json::from_str::<HostInfo>(&json).unwrap(), host);
    }

    #[test]
    fn a_tree_without_a_kernel_is_refused_by_name() {
        let empty = tempfile::tempdir().unwrap();
        let error = HostInfo::read_at(empty.path(), empty.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("sys/kernel/osrelease"), "{error}");
    }

    #[test]
    fn this_host_answers() {
        let host = HostInfo::read().expect("every Linux has /proc");
        assert!(parse_release(&host.kernel).is_some(), "{}", host.kernel);
        assert!(host.page_size.is_power_of_two());
        assert!(host.cpus.is_none_or(|cpus| cpus >= 1));
    }
}
