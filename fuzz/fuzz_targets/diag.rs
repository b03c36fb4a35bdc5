//! Any bytes as a socket that sock_diag describes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockmem::host::sock_diag::{parse_inet_diag, parse_unix_diag};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(socket)) = parse_inet_diag(bytes) {
        // Twice the same, and never more held than counters of 32 bits can say.
        assert_eq!(parse_inet_diag(bytes), Ok(Some(socket)));
        if let Some(memory) = socket.meminfo {
            assert!(memory.resident() <= 3 * u64::from(u32::MAX));
        }
    }
    if let Ok((_, name)) = parse_unix_diag(bytes) {
        assert!(name.len() < bytes.len());
    }
});
