//! Settings and counters of the host that are read again and again while a trace runs.
//!
//! The settings' files are opened once, in their network namespace, and read again through the
//! open files: that costs some microseconds, and no change of namespace. An open file below
//! `/proc/sys` does not keep its namespace alive; one below `/proc/net` would, so those are
//! opened anew each time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::netns::in_netns_of;
use super::netstat::{parse_netstat, parse_pressure};
use super::sockstat::parse_sockstat;
use crate::facts::{HostSample, NetCounters, Setting, SettingValue};

/// Namespaces that are watched. Where there are more, those with the lowest numbers are: each
/// costs some system calls an interval.
const MOST_NAMESPACES: usize = 32;

/// A setting's open file.
struct Open {
    setting: Setting,
    file: File,
}

impl Open {
    fn at(root: &Path, setting: Setting) -> Option<Open> {
        let file = File::open(root.join(setting.name().replace('.', "/"))).ok()?;
        Some(Open { setting, file })
    }

    /// Its numbers now; `None` where it cannot be read any more.
    fn values(&self) -> Option<Vec<u64>> {
        let mut buffer = [0; 128];
        let n = self.file.read_at(&mut buffer, 0).ok()?;
        parse_values(std::str::from_utf8(&buffer[..n]).ok()?)
    }
}

/// Numbers between blanks, at least one; `None` for anything else.
fn parse_values(text: &str) -> Option<Vec<u64>> {
    let values: Option<Vec<u64>> = text
        .split_ascii_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    values.filter(|v| !v.is_empty())
}

/// One network namespace.
struct Space {
    /// A process in it.
    pid: u32,
    settings: Vec<Open>,
}

/// What is watched.
pub struct Watch {
    proc: PathBuf,
    host: Vec<Open>,
    spaces: BTreeMap<u32, Space>,
}

impl Watch {
    /// Nothing but the host's own settings, as the calling thread sees them.
    #[must_use]
    pub fn new() -> Watch {
        Watch::at(Path::new("/proc"))
    }

    /// The same below a directory that looks like `/proc`.
    #[must_use]
    pub fn at(proc: &Path) -> Watch {
        let host = Setting::ALL.into_iter().filter(|s| !s.is_of_namespace());
        Watch {
            host: host
                .filter_map(|s| Open::at(&proc.join("sys"), s))
                .collect(),
            proc: proc.to_owned(),
            spaces: BTreeMap::new(),
        }
    }

    /// From now on these network namespaces are watched, each by its inode number with a process
    /// that is in it. What cannot be entered is left out: its settings are then not known.
    pub fn follow(&mut self, namespaces: &BTreeMap<u64, u32>) {
        let wanted: BTreeMap<u32, u32> = namespaces
            .iter()
            .filter_map(|(inode, pid)| Some((u32::try_from(*inode).ok()?, *pid)))
            .take(MOST_NAMESPACES)
            .collect();
        self.spaces.retain(|netns, _| wanted.contains_key(netns));
        for (netns, pid) in wanted {
            if let Some(space) = self.spaces.get_mut(&netns) {
                space.pid = pid;
                continue;
            }
            let sys = self.proc.join("sys");
            let open = move || -> Vec<Open> {
                let own = Setting::ALL.into_iter().filter(|s| s.is_of_namespace());
                own.filter_map(|s| Open::at(&sys, s)).collect()
            };
            let settings = in_netns_of(pid, open).unwrap_or_default();
            self.spaces.insert(netns, Space { pid, settings });
        }
    }

    /// Reads everything, at `at_ns`.
    #[must_use]
    pub fn sample(&self, at_ns: u64) -> HostSample {
        let read = |open: &Open, netns: u32| {
            Some(SettingValue {
                setting: open.setting,
                netns,
                values: open.values()?,
            })
        };
        let mut settings: Vec<SettingValue> =
            self.host.iter().filter_map(|open| read(open, 0)).collect();
        let mut counters = Vec::with_capacity(self.spaces.len());
        for (&netns, space) in &self.spaces {
            settings.extend(space.settings.iter().filter_map(|open| read(open, netns)));
            let path = self.proc.join(space.pid.to_string()).join("net/netstat");
            // A process that has ended meanwhile: another one is found at the next look.
            if let Ok(text) = fs::read_to_string(path) {
                counters.push(NetCounters {
                    netns,
                    values: parse_netstat(&text),
                });
            }
        }
        let own = |name: &str| fs::read_to_string(self.proc.join("thread-self/net").join(name));
        HostSample {
            at_ns,
            settings,
            counters,
            tcp_pages: own("sockstat")
                .ok()
                .and_then(|text| Some(parse_sockstat(&text)?.tcp.mem_pages)),
            under_pressure: own("protocols").ok().and_then(|text| parse_pressure(&text)),
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Watch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        assert_eq!(
            parse_values("4096\t131072\t6291456\n"),
            Some(vec![4096, 131_072, 6_291_456])
        );
        assert_eq!(parse_values("212992\n"), Some(vec![212_992]));
        for broken in ["", "\n", "1 -2 3", "1 x", "18446744073709551616"] {
            assert_eq!(parse_values(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_change_is_seen_through_the_open_file_and_absent_files_are_not_known() {
        let proc = tempfile::tempdir().unwrap();
        let core = proc.path().join("sys/net/core");
        fs::create_dir_all(&core).unwrap();
        fs::write(core.join("rmem_max"), "212992\n").unwrap();
        let watch = Watch::at(proc.path());
        let values = |watch: &Watch| {
            let sample = watch.sample(7);
            assert_eq!(
                (sample.at_ns, sample.tcp_pages, sample.under_pressure),
                (7, None, None)
            );
            assert!(sample.counters.is_empty());
            sample.settings
        };
        let expected = |n| SettingValue {
            setting: Setting::RmemMax,
            netns: 0,
            values: vec![n],
        };
        assert_eq!(values(&watch), [expected(212_992)]);
        fs::write(core.join("rmem_max"), "4096\n").unwrap();
        assert_eq!(values(&watch), [expected(4096)]);
        fs::write(core.join("rmem_max"), "?\n").unwrap();
        assert_eq!(values(&watch), []);
    }

    #[test]
    fn this_host_is_read_in_full() {
        let own = fs::metadata("/proc/self/ns/net").unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&own);
        let mut watch = Watch::new();
        watch.follow(&BTreeMap::from([(inode, std::process::id())]));
        let sample = watch.sample(1);
        let rmem = sample
            .settings
            .iter()
            .find(|s| s.setting == Setting::TcpRmem);
        assert_eq!(rmem.map(|s| s.values.len()), Some(3), "{sample:?}");
        assert_eq!(sample.counters.len(), 1);
        assert!(sample.counters[0].values[0].is_some() && sample.tcp_pages.is_some());
        watch.follow(&BTreeMap::new());
        assert!(watch.sample(2).counters.is_empty());
    }
}
