//! Protocol buffers, as far as they are written here: numbers, text and nested messages.

/// A message under construction.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// Wire types: a varint, and bytes with their length before them.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    /// A field of type `uint32`, `uint64`, or of an enumeration.
    pub(super) fn number(&mut self, field: u32, n: u64) -> &mut Self {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(n);
        self
    }

    /// A field of type `int32` or `int64`: two's complement, not zigzag.
    pub(super) fn signed(&mut self, field: u32, n: i64) -> &mut Self {
        self.number(field, n as u64)
    }

    /// A field of type `string`.
    pub(super) fn text(&mut self, field: u32, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    /// A nested message.
    pub(super) fn message(&mut self, field: u32, build: impl FnOnce(&mut Message)) -> &mut Self {
        let mut inner = Message::default();
        build(&mut inner);
        self.bytes(field, &inner.0)
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// What was built.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_encoding() {
        let mut m = Message::default();
        m.number(1, 150)
            .text(2, "testing")
            .message(3, |inner| {
                inner.number(1, 150);
            })
            .signed(16, -1);
        let wanted = [
            &b"\x08\x96\x01"[..],
            b"\x12\x07testing",
            b"\x1a\x03\x08\x96\x01",
            b"\x80\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ];
        assert_eq!(m.as_bytes(), wanted.concat());
    }
}
