//! One type's record: the common 12 bytes, and the kinds.

use super::BtfError;

/// `struct btf_type`, which every record starts with.
pub(super) const COMMON: usize = 12;

/// A type's number within its blob; 0 is `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u32);

/// `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// A kind that this reader does not know, of a length that the blob states.
    Foreign,
}

impl Kind {
    /// `None` for a kind that this reader does not know; 0 is never written.
    pub(super) fn from_bits(kind: u8) -> Option<Kind> {
        Some(match kind {
            1 => Kind::Int,
            2 => Kind::Ptr,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            7 => Kind::Fwd,
            8 => Kind::Typedef,
            9 => Kind::Volatile,
            10 => Kind::Const,
            11 => Kind::Restrict,
            12 => Kind::Func,
            13 => Kind::FuncProto,
            14 => Kind::Var,
            15 => Kind::Datasec,
            16 => Kind::Float,
            17 => Kind::DeclTag,
            18 => Kind::TypeTag,
            19 => Kind::Enum64,
            _ => return None,
        })
    }

    /// Bytes of the record after the common ones. `vlen` has 24 bits: no overflow.
    pub(super) fn extra_len(self, vlen: u32) -> usize {
        let vlen = vlen as usize;
        match self {
            Kind::Int | Kind::Var | Kind::DeclTag => 4,
            Kind::Array => 12,
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => vlen * 12,
            Kind::Enum | Kind::FuncProto => vlen * 8,
            _ => 0,
        }
    }

    /// Types that do not change where bytes are: `typedef`, `const`, attributes.
    pub(super) fn is_modifier(self) -> bool {
        matches!(
            self,
            Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag
        )
    }

    /// Types that can be asked for by name.
    pub(super) fn is_indexed(self) -> bool {
        matches!(
            self,
            Kind::Struct | Kind::Union | Kind::Typedef | Kind::Func | Kind::Var
        )
    }

    /// C's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Struct => "struct",
            Kind::Union => "union",
            Kind::Typedef => "typedef",
            Kind::Func => "function",
            Kind::Var => "variable",
            _ => "type",
        }
    }
}

/// The common part of a type's record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) id: TypeId,
    /// Offset in the string section; 0 where unnamed.
    pub(super) name: u32,
    pub(super) kind: Kind,
    /// `kind_flag`: for structs and unions, that member offsets carry bit-field widths.
    pub(super) flag: bool,
    /// Number of members, parameters or enumerators.
    pub(super) vlen: u32,
    /// `size` in bytes or `type`, by kind.
    pub(super) value: u32,
    /// Where the part that depends on the kind starts.
    pub(super) extra: usize,
}

impl Record {
    /// Type 0.
    pub(super) const VOID: Record = Record {
        id: TypeId(0),
        name: 0,
        kind: Kind::Void,
        flag: false,
        vlen: 0,
        value: 0,
        extra: 0,
    };

    /// `BTF_INFO_KIND` and `BTF_INFO_VLEN`. Up to 7.0 the kind had 5 bits and the
    /// length 16, and the bits that each gained since had to be zero.
    pub(super) fn kind_and_vlen(bytes: &[u8], at: usize) -> Result<(u8, u32), BtfError> {
        let info = word(bytes, at.saturating_add(4), "type section")?;
        Ok(((info >> 24) as u8 & 0x7f, info & 0x00ff_ffff))
    }

    /// Reads the common part at `at`.
    pub(super) fn read(bytes: &[u8], id: TypeId, at: usize) -> Result<Record, BtfError> {
        let (kind, vlen) = Record::kind_and_vlen(bytes, at)?;
        Ok(Record {
            id,
            name: word(bytes, at, "type section")?,
            kind: Kind::from_bits(kind).unwrap_or(Kind::Foreign),
            flag: word(bytes, at + 4, "type section")? >> 31 == 1,
            vlen,
            value: word(bytes, at + 8, "type section")?,
            extra: at + COMMON,
        })
    }

    /// Whether it has members.
    pub(super) fn is_composite(&self) -> bool {
        matches!(self.kind, Kind::Struct | Kind::Union)
    }
}

/// The little-endian word at `at`.
pub(super) fn word(bytes: &[u8], at: usize, what: &'static str) -> Result<u32, BtfError> {
    at.checked_add(4)
        .and_then(|end| bytes.get(at..end))
        .and_then(|word| <[u8; 4]>::try_from(word).ok())
        .map(u32::from_le_bytes)
        .ok_or(BtfError::Truncated {
            what,
            at: bytes.len(),
        })
}
