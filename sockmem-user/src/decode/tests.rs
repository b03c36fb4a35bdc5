//! Decoding against the ABI structs' own memory layout.
#![allow(
    unsafe_code,
    reason = "the test views ABI structs as the bytes the kernel writes"
)]

use super::*;
use aya::Pod;
use proptest::prelude::*;
use sockmem_common::{KIND_CHANGE, KIND_CLOSE, KIND_EXIT};

/// The bytes of `body` after a header of `kind`.
fn record(kind: u8, header: Header, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&header.t_ns.to_ne_bytes());
    out.extend_from_slice(&header.id.to_ne_bytes());
    out.extend_from_slice(&[kind, header.hook]);
    out.extend_from_slice(&header.reserved.to_ne_bytes());
    out.extend_from_slice(&header.cpu.to_ne_bytes());
    out.extend_from_slice(body);
    out
}

#[test]
fn state_is_decoded_as_it_lies_in_memory() {
    // A pattern in which every byte is told from its neighbours.
    let body: Vec<u8> = (0..size_of::<SockState>())
        .map(|i| (i * 7 + i / 251) as u8)
        .collect();
    let bytes = record(KIND_CLOSE, Header::default(), &body);
    let Ok(Record::Close(got)) = decode(&bytes) else {
        panic!("not a Close")
    };
    fn plain<T: Pod>(bytes: &[u8]) -> T {
        assert_eq!(bytes.len(), size_of::<T>());
        // SAFETY: T is Pod and the slice has its size; the read is unaligned.
        unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
    }
    assert_eq!(got.state, plain::<SockState>(&body));
}

#[test]
fn limits_pressure_and_sysctls_are_decoded_as_they_lie_in_memory() {
    fn plain<T: Pod>(bytes: &[u8]) -> T {
        assert_eq!(bytes.len(), size_of::<T>());
        // SAFETY: T is Pod and the slice has its size; the read is unaligned.
        unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
    }
    let make = |kind: u8, size: usize| {
        let body: Vec<u8> = (0..size - size_of::<Header>())
            .map(|i| (i * 7 + 3) as u8)
            .collect();
        record(kind, Header::default(), &body)
    };
    let bytes = make(KIND_LIMIT, size_of::<LimitSet>());
    assert_eq!(decode(&bytes), Ok(Record::Limit(plain(&bytes))));
    assert!(decode(&bytes[..bytes.len() - 1]).is_err());
    let bytes = make(KIND_PRESSURE, size_of::<Pressure>());
    assert_eq!(decode(&bytes), Ok(Record::Pressure(plain(&bytes))));
    assert!(decode(&bytes[..bytes.len() - 1]).is_err());
    let bytes = make(KIND_SYSCTL, size_of::<SysctlWrite>());
    assert_eq!(decode(&bytes), Ok(Record::Sysctl(plain(&bytes))));
    assert!(decode(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn short_and_unknown_records_are_errors() {
    assert_eq!(
        decode(&[0; 5]),
        Err(DecodeError::Short {
            kind: 0,
            have: 5,
            need: 24
        })
    );
    let bytes = record(KIND_CHANGE, Header::default(), &[0; 63]);
    assert_eq!(
        decode(&bytes),
        Err(DecodeError::Short {
            kind: KIND_CHANGE,
            have: 87,
            need: 88
        })
    );
    let bytes = record(99, Header::default(), &[0; 64]);
    assert_eq!(decode(&bytes), Err(DecodeError::Unknown(99)));
    let bytes = record(
        KIND_EXIT,
        Header {
            id: 7,
            ..Header::default()
        },
        &[0; 24],
    );
    assert!(matches!(decode(&bytes), Ok(Record::Exit(p)) if p.header.id == 7));
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn change_round_trips(t in any::<u64>(), id in any::<u64>(), words in prop::array::uniform16(any::<u32>())) {
        let body: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let bytes = record(KIND_CHANGE, Header { t_ns: t, id, hook: 3, ..Header::default() }, &body);
        let Ok(Record::Change(c)) = decode(&bytes) else { panic!("not a Change") };
        prop_assert_eq!((c.header.t_ns, c.header.id, c.header.hook), (t, id, 3));
        prop_assert_eq!(c.after.rmem_alloc, words[0]);
        prop_assert_eq!(c.after.sndbuf, words[7]);
        prop_assert_eq!(c.d_forward_alloc, words[10] as i32);
        prop_assert_eq!(c.merged, words[15]);
    }
}
