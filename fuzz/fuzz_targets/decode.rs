//! Any bytes as a record of the ring buffer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockmem::decode::{DecodeError, decode};

fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        // What follows a record is ignored, so the record alone decodes alike.
        Ok(record) => assert_eq!(decode(&[bytes, &[0; 8]].concat()), Ok(record)),
        Err(DecodeError::Short { have, need, .. }) => assert!(have < need),
        Err(DecodeError::Unknown(_)) => {}
    }
});
