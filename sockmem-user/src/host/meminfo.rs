//! `/proc/meminfo`: where the host's memory is reported.

use std::path::Path;
use std::{fs, io};

use crate::facts::memory::SystemMemory;

/// Reads the text of `/proc/meminfo`; `None` without `MemTotal` and `MemFree`.
#[must_use]
pub fn parse(text: &str) -> Option<SystemMemory> {
    let line = |name: &str| -> Option<u64> {
        let rest = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        let kib = rest.trim().strip_suffix("kB")?.trim_end();
        kib.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(SystemMemory {
        total: line("MemTotal")?,
        free: line("MemFree")?,
        buffers: line("Buffers"),
        cached: line("Cached"),
        swap_cached: line("SwapCached"),
        anon_pages: line("AnonPages"),
        slab: line("Slab"),
        slab_reclaimable: line("SReclaimable"),
        slab_unreclaimable: line("SUnreclaim"),
        kernel_reclaimable: line("KReclaimable"),
        kernel_stack: line("KernelStack"),
        page_tables: line("PageTables"),
        sec_page_tables: line("SecPageTables"),
        vmalloc_used: line("VmallocUsed"),
        percpu: line("Percpu"),
        hugetlb: line("Hugetlb"),
    })
}

/// Reads this host's.
///
/// # Errors
/// Of reading the file; `InvalidData` where it is not as proc(5) says.
pub fn read() -> io::Result<SystemMemory> {
    read_at(Path::new("/proc/meminfo"))
}

/// Reads a file that looks like `/proc/meminfo`.
///
/// # Errors
/// As `read`.
pub fn read_at(path: &Path) -> io::Result<SystemMemory> {
    parse(&fs::read_to_string(path)?).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} has no MemTotal and MemFree in kB", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_bytes_and_missing_ones_are_not_known() {
        let text = "MemTotal:       24684096 kB\nMemFree:         9468080 kB\nCached:  8 kB\n\
                    SwapCached:            0 kB\nHugePages_Total:       0\nSlab: 7 pages\n";
        let m = parse(text).unwrap();
        assert_eq!(m.total, 24_684_096 * 1024);
        assert_eq!(
            (m.cached, m.swap_cached, m.slab, m.buffers),
            (Some(8192), Some(0), None, None)
        );
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
        assert_eq!(
            parse("MemTotal: 18446744073709551615 kB\nMemFree: 1 kB\n"),
            None
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([A-Za-z]{0,10}:? {0,3}[0-9]{0,22} ?(kB)?\n?){0,8}|\\PC*") {
            let _ = parse(&text);
        }
    }
}
