//! Any text as what the kernel writes into `/proc` and the control groups.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockmem::host::{cgroup, memcg, meminfo, slabinfo, sockstat, sysctl};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Some(memory) = meminfo::parse(&text) {
        // What no line counts is part of the whole.
        assert!(memory.in_no_line() <= memory.total);
    }
    for cache in slabinfo::parse(&text) {
        assert!(!cache.name.is_empty());
        let _ = cache.bytes_per_object(4096);
    }
    let _ = sockstat::parse_sockstat(&text);
    let _ = sockstat::parse_tcp6_inuse(&text);
    let _ = memcg::parse_sock(&text);
    let _ = sysctl::parse_three(&text);
    let _ = cgroup::process_path(&text);
    let _ = cgroup::parse_mounts(&text);
});
