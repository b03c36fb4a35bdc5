//! Numbers of variable length: seven bits a byte, the lowest first, the top bit set where more follow.

use bytes::{Buf, BufMut};

/// The bytes ended, or are no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short;

/// Writes `v`: 1 to 10 bytes.
#[inline]
pub(super) fn put_u64(out: &mut impl BufMut, mut v: u64) {
    while v >= 0x80 {
        out.put_u8(v as u8 | 0x80);
        v >>= 7;
    }
    out.put_u8(v as u8);
}

/// Reads one. `Short` where the bytes end within it or it does not fit 64 bits.
#[inline]
pub(super) fn get_u64(from: &mut &[u8]) -> Result<u64, Short> {
    let (&first, rest) = from.split_first().ok_or(Short)?;
    *from = rest;
    if first < 0x80 {
        return Ok(first.into());
    }
    let mut v = u64::from(first & 0x7f);
    for shift in (7..64).step_by(7) {
        let (&byte, rest) = from.split_first().ok_or(Short)?;
        *from = rest;
        if shift == 63 && byte > 1 {
            return Err(Short);
        }
        v |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(v);
        }
    }
    Err(Short)
}

/// A difference as a small number whatever its sign: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline]
pub(super) fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (difference as i64 >> 63) as u64
}

/// Back from `zigzag`.
#[inline]
pub(super) fn unzigzag(v: u64) -> u64 {
    (v >> 1) ^ (v & 1).wrapping_neg()
}

/// Writes a length and the bytes.
pub(super) fn put_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Reads what `put_bytes` wrote, without copying.
pub(super) fn get_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], Short> {
    let length = usize::try_from(get_u64(from)?).map_err(|_| Short)?;
    if length > from.remaining() {
        return Err(Short);
    }
    let (bytes, rest) = from.split_at(length);
    *from = rest;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(v in any::<u64>(), shift in 0u32..64) {
            let v = v >> shift;
            let mut out = Vec::new();
            put_u64(&mut out, v);
            prop_assert_eq!(out.len(), (64 - v.leading_zeros()).div_ceil(7).max(1) as usize);
            let mut from = out.as_slice();
            prop_assert_eq!(get_u64(&mut from), Ok(v));
            prop_assert!(from.is_empty());
            for cut in 0..out.len() {
                prop_assert_eq!(get_u64(&mut &out[..cut]), Err(Short));
            }
            prop_assert_eq!(unzigzag(zigzag(v)), v);
        }
    }

    #[test]
    fn differences_are_small_whatever_their_sign() {
        let of = |d: i64| zigzag(d as u64);
        assert_eq!([of(0), of(-1), of(1), of(-2), of(2)], [0, 1, 2, 3, 4]);
        assert_eq!(of(i64::MIN), u64::MAX);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut long = [0x80u8; 11];
        long[10] = 0;
        assert_eq!(get_u64(&mut long.as_slice()), Err(Short));
        let mut large = [0xffu8; 10];
        large[9] = 2;
        assert_eq!(get_u64(&mut large.as_slice()), Err(Short));
        large[9] = 1;
        assert_eq!(get_u64(&mut large.as_slice()), Ok(u64::MAX));
        assert_eq!(get_bytes(&mut [9u8, 1].as_slice()), Err(Short));
    }
}
