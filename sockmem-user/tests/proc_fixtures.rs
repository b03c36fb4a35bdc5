//! The readers of `/proc` and `/sys/kernel/slab` against files that five kernels wrote.
//!
//! `tests/fixtures/proc/VERSION` was saved in the virtual machines by the end-to-end test
//! `inspect_procfiles` (6.18: on a developer's machine).

use std::fs;
use std::path::{Path, PathBuf};

use sockmem::facts::memory::Slab;
use sockmem::host::{meminfo, slabinfo, sockstat};

fn kernels() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/proc");
    let mut found: Vec<_> = fs::read_dir(&root)
        .expect("the fixtures are there")
        .map(|entry| {
            let entry = entry.expect("an entry");
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    found.sort();
    assert!(found.len() >= 5, "{found:?}");
    found
}

fn read(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `slab-links` has a line `NAME TARGET` for each link in `/sys/kernel/slab`.
fn slab(folder: &Path) -> Slab {
    let links = read(folder, "slab-links");
    Slab {
        caches: slabinfo::parse(&read(folder, "slabinfo")),
        aliases: links
            .lines()
            .filter_map(|l| l.split_once(' '))
            .map(|(name, target)| (name.to_owned(), target.to_owned()))
            .collect(),
    }
}

#[test]
fn meminfo_of_every_kernel_adds_up() {
    for (kernel, folder) in kernels() {
        let m = meminfo::parse(&read(&folder, "meminfo")).unwrap_or_else(|| panic!("{kernel}"));
        assert!(m.total > m.free, "{kernel}");
        let (r, u, whole) = (m.slab_reclaimable, m.slab_unreclaimable, m.slab);
        assert_eq!(r.zip(u).map(|(r, u)| r + u), whole, "{kernel}");
        assert!(
            whole.is_some() && m.percpu.is_some() && m.kernel_reclaimable.is_some(),
            "{kernel}"
        );
        // What no line counts is a small part of a quiet machine.
        assert!(m.in_no_line() < m.total / 2, "{kernel}: {}", m.in_no_line());
    }
}

#[test]
fn every_kernel_has_the_caches_of_a_socket_under_some_name() {
    for (kernel, folder) in kernels() {
        let slab = slab(&folder);
        let caches = read(&folder, "slabinfo").lines().count() - 2;
        assert_eq!(
            slab.caches.len(),
            caches,
            "{kernel}: a line was not understood"
        );
        for name in [
            "TCP",
            "TCPv6",
            "sock_inode_cache",
            "filp",
            "dentry",
            "tw_sock_TCP",
        ] {
            let named = |n: &str| slab.caches.iter().any(|c| c.name == n);
            let target = slab.aliases.get(name);
            let merged = slab
                .aliases
                .iter()
                .any(|(other, t)| Some(t) == target && named(other));
            assert!(named(name) || merged, "{kernel} has no {name}");
        }
        let tcp = slab.caches.iter().find(|c| c.name == "TCP").unwrap();
        // struct tcp_sock of the tested kernels, and what its slab adds.
        assert!((2200..2600).contains(&tcp.object_size), "{kernel}: {tcp:?}");
        let share = tcp.bytes_per_object(4096);
        assert!(
            (tcp.object_size..tcp.object_size * 11 / 10).contains(&share),
            "{kernel}: {share}"
        );
    }
}

#[test]
fn sockstat_of_every_kernel_is_read() {
    for (kernel, folder) in kernels() {
        let s = sockstat::parse_sockstat(&read(&folder, "sockstat"));
        let s = s.unwrap_or_else(|| panic!("{kernel}"));
        assert!(s.used.is_some() && s.udp_mem_pages.is_some(), "{kernel}");
        assert!(
            sockstat::parse_tcp6_inuse(&read(&folder, "sockstat6")).is_some(),
            "{kernel}"
        );
    }
}

/// Cut anywhere, or with a byte changed, a file is read as less or refused, and nothing panics.
#[test]
fn broken_files_are_refused_or_read_in_part() {
    for (kernel, folder) in kernels() {
        for name in ["meminfo", "slabinfo", "sockstat"] {
            let text = read(&folder, name);
            for cut in (0..text.len()).step_by(97) {
                let Some(part) = text.get(..cut) else {
                    continue;
                };
                if let Some(m) = meminfo::parse(part) {
                    assert!(m.in_no_line() <= m.total, "{kernel}");
                }
                assert!(slabinfo::parse(part).len() <= slabinfo::parse(&text).len());
                let _ = sockstat::parse_sockstat(part);
                let broken = format!("{part}\u{0}x{}", &text[cut..]);
                let _ = (meminfo::parse(&broken), slabinfo::parse(&broken));
                let _ = sockstat::parse_sockstat(&broken);
            }
        }
    }
}
