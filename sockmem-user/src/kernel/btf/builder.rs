//! Builds small blobs for tests: well-formed by default, and as wrong as a test wants.

/// A member for [`Builder::composite`].
pub(crate) struct Member {
    name: &'static str,
    ty: u32,
    bit: u32,
    bits: u32,
}

/// A member at a byte offset.
pub(crate) fn at(byte: u32, name: &'static str, ty: u32) -> Member {
    Member {
        name,
        ty,
        bit: byte * 8,
        bits: 0,
    }
}

/// A bit field at a bit offset.
pub(crate) fn bits(bit: u32, bits: u32, name: &'static str, ty: u32) -> Member {
    Member {
        name,
        ty,
        bit,
        bits,
    }
}

pub(crate) const INT: u32 = 1;
pub(crate) const PTR: u32 = 2;
pub(crate) const ARRAY: u32 = 3;
pub(crate) const STRUCT: u32 = 4;
pub(crate) const UNION: u32 = 5;
pub(crate) const ENUM: u32 = 6;
pub(crate) const FWD: u32 = 7;
pub(crate) const TYPEDEF: u32 = 8;
pub(crate) const VOLATILE: u32 = 9;
pub(crate) const CONST: u32 = 10;
pub(crate) const RESTRICT: u32 = 11;
pub(crate) const FUNC: u32 = 12;
pub(crate) const FUNC_PROTO: u32 = 13;
pub(crate) const VAR: u32 = 14;
pub(crate) const DATASEC: u32 = 15;
pub(crate) const FLOAT: u32 = 16;
pub(crate) const DECL_TAG: u32 = 17;
pub(crate) const TYPE_TAG: u32 = 18;
pub(crate) const ENUM64: u32 = 19;

/// Collects types; every method answers the new type's id.
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    layout: Vec<u8>,
    count: u32,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            types: Vec::new(),
            strings: vec![0],
            layout: Vec::new(),
            count: 0,
        }
    }

    /// The id that the next type will have.
    pub(crate) fn next(&self) -> u32 {
        self.count + 1
    }

    /// Any record: `info` bits 24.. are the kind, `extra` the words after the common ones.
    pub(crate) fn raw(&mut self, name: &str, info: u32, value: u32, extra: &[u32]) -> u32 {
        let name = self.string(name);
        for word in [name, info, value].iter().chain(extra) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(crate) fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        offset
    }

    pub(crate) fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.raw(name, INT << 24, bytes, &[bytes * 8])
    }

    /// An integer of which only some bits count: bit fields before `kind_flag`.
    pub(crate) fn narrow_int(&mut self, name: &str, bytes: u32, offset: u32, bits: u32) -> u32 {
        self.raw(name, INT << 24, bytes, &[offset << 16 | bits])
    }

    /// Pointer, qualifier, typedef, tag: a kind that refers to one type.
    pub(crate) fn refer(&mut self, kind: u32, name: &str, ty: u32) -> u32 {
        self.raw(name, kind << 24, ty, &[])
    }

    pub(crate) fn ptr(&mut self, ty: u32) -> u32 {
        self.refer(PTR, "", ty)
    }

    pub(crate) fn typedef(&mut self, name: &str, ty: u32) -> u32 {
        self.refer(TYPEDEF, name, ty)
    }

    pub(crate) fn array(&mut self, ty: u32, count: u32) -> u32 {
        self.raw("", ARRAY << 24, 0, &[ty, ty, count])
    }

    /// A struct or union; with `kind_flag` where a member is a bit field.
    pub(crate) fn composite(
        &mut self,
        kind: u32,
        name: &str,
        bytes: u32,
        members: &[Member],
    ) -> u32 {
        let flag = u32::from(members.iter().any(|m| m.bits != 0));
        let mut extra = Vec::new();
        for member in members {
            extra.extend([
                self.string(member.name),
                member.ty,
                member.bits << 24 | member.bit,
            ]);
        }
        self.raw(
            name,
            flag << 31 | kind << 24 | members.len() as u32,
            bytes,
            &extra,
        )
    }

    pub(crate) fn structure(&mut self, name: &str, bytes: u32, members: &[Member]) -> u32 {
        self.composite(STRUCT, name, bytes, members)
    }

    pub(crate) fn union(&mut self, name: &str, bytes: u32, members: &[Member]) -> u32 {
        self.composite(UNION, name, bytes, members)
    }

    pub(crate) fn proto(&mut self, returns: u32, params: &[(&str, u32)]) -> u32 {
        let mut extra = Vec::new();
        for (name, ty) in params {
            extra.extend([self.string(name), *ty]);
        }
        self.raw("", FUNC_PROTO << 24 | params.len() as u32, returns, &extra)
    }

    pub(crate) fn func(&mut self, name: &str, params: &[(&str, u32)]) -> u32 {
        let proto = self.proto(0, params);
        self.refer(FUNC, name, proto)
    }

    /// `typedef void (*btf_trace_NAME)(void *, …)`.
    pub(crate) fn tracepoint(&mut self, name: &str, params: &[u32]) -> u32 {
        let implicit = self.ptr(0);
        let params: Vec<_> = [implicit]
            .iter()
            .chain(params)
            .map(|ty| ("", *ty))
            .collect();
        let proto = self.proto(0, &params);
        let pointer = self.ptr(proto);
        self.typedef(&format!("btf_trace_{name}"), pointer)
    }

    /// States the record length of `kind`, as kernels do since the header has 32 bytes.
    pub(crate) fn state_layout(&mut self, kind: u8, info_bytes: u8, element_bytes: u8) {
        let end = (usize::from(kind) + 1) * 4;
        if self.layout.len() < end {
            self.layout.resize(end, 0);
        }
        self.layout[end - 4] = info_bytes;
        self.layout[end - 3] = element_bytes;
    }

    /// The blob.
    pub(crate) fn build(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let layout = self.layout.len() as u32;
        let header = if layout == 0 { 24 } else { 32 };
        let mut out = vec![0x9f, 0xeb, 1, 0];
        let mut words = vec![header, 0, types, types, strings];
        if layout != 0 {
            words.extend([types + strings, layout]);
        }
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out.extend_from_slice(&self.layout);
        out
    }
}
