//! `/proc/slabinfo` and the names of merged caches in `/sys/kernel/slab`.
//!
//! SLUB puts objects of one size and alike flags into one cache, whatever they were made for, and
//! slabinfo shows it under the name that came first. `/sys/kernel/slab` has the other names as
//! links to the same directory (mm/slub.c, `sysfs_slab_alias`).

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use crate::facts::memory::{Slab, SlabCache};

/// Reads the text of `/proc/slabinfo`, version 2.1; lines that are not such are skipped.
#[must_use]
pub fn parse(text: &str) -> Vec<SlabCache> {
    text.lines().filter_map(cache).collect()
}

/// `name active_objs num_objs objsize objperslab pagesperslab : tunables …`.
fn cache(line: &str) -> Option<SlabCache> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    if name.starts_with('#') {
        return None;
    }
    let mut number = || words.next()?.parse::<u64>().ok();
    let cache = SlabCache {
        name: name.to_owned(),
        active: number()?,
        total: number()?,
        object_size: number()?,
        per_slab: number()?,
        pages_per_slab: number()?,
    };
    (words.next()? == ":").then_some(cache)
}

/// Reads this host's. Root's alone, as a rule.
///
/// # Errors
/// Of reading `/proc/slabinfo`.
pub fn read() -> io::Result<Slab> {
    read_at(Path::new("/proc/slabinfo"), Path::new("/sys/kernel/slab"))
}

/// Reads files that look like `/proc/slabinfo` and `/sys/kernel/slab`.
///
/// # Errors
/// As `read`.
pub fn read_at(slabinfo: &Path, sys: &Path) -> io::Result<Slab> {
    Ok(Slab {
        caches: parse(&fs::read_to_string(slabinfo)?),
        aliases: aliases(sys),
    })
}

/// The names of merged caches: what each stands for, by name. Empty where the kernel has no
/// such directory.
fn aliases(sys: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(sys).into_iter().flatten().flatten() {
        if let Ok(target) = fs::read_link(entry.path()) {
            let text = |s: &std::ffi::OsStr| s.to_string_lossy().into_owned();
            if let Some(target) = target.file_name() {
                found.insert(text(&entry.file_name()), text(target));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
TCP                   53    130   2368   13    8 : tunables    0    0    0 : slabdata     10     10      0
filp                1092   1092    192   21    1 : tunables    0    0    0 : slabdata     52     52      0
broken 1 2 3
broken 1 2 x 4 5 : tunables
";

    #[test]
    fn caches_are_read_and_the_rest_skipped() {
        let caches = parse(TEXT);
        assert_eq!(caches.len(), 2);
        assert_eq!(
            caches[0],
            SlabCache {
                name: "TCP".into(),
                active: 53,
                total: 130,
                object_size: 2368,
                per_slab: 13,
                pages_per_slab: 8
            }
        );
    }

    #[test]
    fn links_are_the_names_of_merged_caches() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("slabinfo"), TEXT).unwrap();
        let sys = dir.path().join("slab");
        fs::create_dir_all(sys.join(":A-0000192")).unwrap();
        fs::create_dir_all(sys.join("TCP")).unwrap();
        symlink(":A-0000192", sys.join("filp")).unwrap();
        symlink(":A-0000192", sys.join("pid")).unwrap();
        let slab = read_at(&dir.path().join("slabinfo"), &sys).unwrap();
        assert_eq!(slab.aliases.len(), 2);
        assert_eq!(slab.aliases["pid"], ":A-0000192");
        let none = read_at(&dir.path().join("slabinfo"), &dir.path().join("none")).unwrap();
        assert!(none.aliases.is_empty() && none.caches.len() == 2);
        assert!(read_at(&dir.path().join("none"), &sys).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-z#-]{0,6}( [0-9]{1,21}){0,7}( :)?\n){0,5}|\\PC*") {
            for cache in parse(&text) {
                let _ = cache.bytes_per_object(4096);
            }
        }
    }
}
