//! A reader of the kernel's type information (BTF, `include/uapi/linux/btf.h`).
//!
//! The bytes are treated as hostile: they may come from a file that somebody
//! handed over. Every access is bounds-checked, every chain and nesting is
//! limited, no length read from the bytes is used to allocate before it is
//! checked against the bytes that are there, and nothing panics.
//!
//! It reads a whole kernel (about 6 MB, 120 to 150 thousand types) in one pass.
//! That pass keeps the position of every record and one sorted index of the
//! types that can be asked for by name; names are compared in place, so no type
//! costs a string.
#![deny(unsafe_code)]

mod error;
mod member;
mod proto;
mod record;

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use error::BtfError;
pub use member::{Field, Shape};
pub use proto::{Param, Prototype};
pub use record::TypeId;
use record::{Kind, Record, word};

/// Where the running kernel shows its type information.
pub const SYS_FS: &str = "/sys/kernel/btf/vmlinux";

/// The most that is read: ten times the largest kernel seen. Keeps every offset within 32 bits.
const MAX_BYTES: usize = 64 << 20;
/// `BTF_MAGIC` as it stands in a little-endian file.
const MAGIC: [u8; 2] = [0x9f, 0xeb];
/// `struct btf_header` up to 7.0.
const HEADER: usize = 24;
/// `struct btf_header` with `layout_off` and `layout_len`.
const HEADER_WITH_LAYOUT: usize = 32;
/// `KSYM_NAME_LEN`: the kernel refuses longer names.
const MAX_NAME: usize = 512;
/// Longest chain of typedefs and qualifiers, and deepest nesting, that is followed.
/// The kernel's own limit (`MAX_RESOLVE_DEPTH`) is 32.
const MAX_DEPTH: u32 = 32;

/// The types of one kernel.
///
/// Little-endian only, as are the programs this tool loads.
pub struct Btf {
    bytes: Vec<u8>,
    strings: Range<usize>,
    /// Position in `bytes` of the record of type `id`, at `id - 1`. Type 0 is `void`.
    records: Vec<u32>,
    /// `hash(name) << 32 | id` of every named struct, union, typedef, function and variable, ascending.
    index: Vec<u64>,
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf")
            .field("bytes", &self.bytes.len())
            .field("types", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl Btf {
    /// Reads the running kernel's types from [`SYS_FS`].
    ///
    /// # Errors
    /// [`BtfError::Unreadable`] where the kernel shows none (it needs
    /// `CONFIG_DEBUG_INFO_BTF=y`), else as [`Btf::parse`].
    pub fn from_sys_fs() -> Result<Btf, BtfError> {
        Btf::from_file(Path::new(SYS_FS))
    }

    /// Reads the types in a file of raw BTF (not in an ELF section).
    ///
    /// # Errors
    /// [`BtfError::Unreadable`] where the file cannot be read, else as [`Btf::parse`].
    pub fn from_file(path: &Path) -> Result<Btf, BtfError> {
        let unreadable = |source: io::Error| BtfError::Unreadable {
            path: PathBuf::from(path),
            reason: source.to_string(),
        };
        let file = File::open(path).map_err(unreadable)?;
        // The size is only a hint: sysfs states it rightly, a pipe states 0.
        let hint = file.metadata().map_or(0, |m| m.len());
        let mut bytes = Vec::with_capacity(usize::try_from(hint).unwrap_or(0).min(MAX_BYTES) + 1);
        file.take(MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Btf::parse(bytes)
    }

    /// Reads a whole BTF blob: header, sections, and every type's record.
    ///
    /// Names, references between types and members are checked when they are used.
    ///
    /// # Errors
    /// A [`BtfError`] that says what is wrong and where: not BTF, big-endian,
    /// truncated, or a kind of type whose length is not known.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, BtfError> {
        if bytes.len() > MAX_BYTES {
            return Err(BtfError::TooLarge { limit: MAX_BYTES });
        }
        let header = Header::read(&bytes)?;
        let strings = bytes.get(header.strings.clone()).unwrap_or_default();
        if strings.first() != Some(&0) || strings.last() != Some(&0) {
            return Err(BtfError::Strings);
        }
        let (records, index) = scan(&bytes, &header, strings)?;
        Ok(Btf {
            strings: header.strings,
            bytes,
            records,
            index,
        })
    }

    /// Number of types, `void` not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no type at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The struct `name`; the first where several have the name.
    ///
    /// # Errors
    /// [`BtfError::NotFound`] where the kernel has no such struct.
    pub fn find_struct(&self, name: &str) -> Result<TypeId, BtfError> {
        self.find(Kind::Struct, name)
    }

    /// The typedef `name`; the first where several have the name.
    ///
    /// # Errors
    /// [`BtfError::NotFound`] where the kernel has no such typedef.
    pub fn find_typedef(&self, name: &str) -> Result<TypeId, BtfError> {
        self.find(Kind::Typedef, name)
    }

    /// The variable `name`. Before 7.x only per-CPU variables are listed (from 6.1).
    ///
    /// # Errors
    /// [`BtfError::NotFound`] where the kernel lists no such variable.
    pub fn find_var(&self, name: &str) -> Result<TypeId, BtfError> {
        self.find(Kind::Var, name)
    }

    fn find(&self, kind: Kind, name: &str) -> Result<TypeId, BtfError> {
        let hash = hash(name.as_bytes());
        let from = self
            .index
            .partition_point(|entry| entry >> 32 < u64::from(hash));
        self.index
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|entry| *entry >> 32 == u64::from(hash))
            .filter_map(|entry| self.record(TypeId(*entry as u32)).ok())
            .find(|record| record.kind == kind && self.is_named(record.name, name.as_bytes()))
            .map(|record| record.id)
            .ok_or_else(|| BtfError::NotFound {
                kind: kind.word(),
                name: name.to_owned(),
            })
    }

    /// The record of a type. `void`, which has no bytes, is made up.
    fn record(&self, id: TypeId) -> Result<Record, BtfError> {
        let Some(slot) = (id.0 as usize).checked_sub(1) else {
            return Ok(Record::VOID);
        };
        let at = *self
            .records
            .get(slot)
            .ok_or(BtfError::BadType { id: id.0 })?;
        Record::read(&self.bytes, id, at as usize)
    }

    /// Follows typedefs and qualifiers to the type itself.
    fn strip(&self, id: TypeId) -> Result<Record, BtfError> {
        let mut record = self.record(id)?;
        for _ in 0..MAX_DEPTH {
            if !record.kind.is_modifier() {
                return Ok(record);
            }
            record = self.record(TypeId(record.value))?;
        }
        Err(BtfError::TooDeep { id: id.0 })
    }

    /// The name at `offset` in the string section; empty for an unnamed type.
    fn name(&self, offset: u32) -> Result<&str, BtfError> {
        self.raw_name(offset)
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or(BtfError::BadName { offset })
    }

    fn raw_name(&self, offset: u32) -> Option<&[u8]> {
        name_in(self.bytes.get(self.strings.clone())?, offset)
    }

    /// Whether the name at `offset` is `name`, at the cost of `name`'s length.
    fn is_named(&self, offset: u32, name: &[u8]) -> bool {
        let strings = self.bytes.get(self.strings.clone()).unwrap_or_default();
        strings
            .get(offset as usize..)
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// The bytes of a name up to its NUL, `None` where it starts outside of the
/// section or is longer than the kernel allows.
fn name_in(strings: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = strings.get(offset as usize..)?;
    let rest = rest.get(..MAX_NAME).unwrap_or(rest);
    rest.iter()
        .position(|byte| *byte == 0)
        .and_then(|end| rest.get(..end))
}

/// FNV-1a. Only speeds the search up: names are compared in full.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |h, byte| {
        (h ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// `struct btf_header`, checked, as ranges of the blob.
struct Header {
    types: Range<usize>,
    strings: Range<usize>,
    /// `struct btf_layout { u8 info_sz; u8 elem_sz; u16 flags; }` by kind (7.1 and later): the
    /// length of records of kinds that this reader does not know. Empty where absent.
    layout: Range<usize>,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, BtfError> {
        let magic = bytes.get(..2).ok_or(BtfError::NotBtf)?;
        if magic == [MAGIC[1], MAGIC[0]] {
            return Err(BtfError::BigEndian);
        }
        if magic != MAGIC {
            return Err(BtfError::NotBtf);
        }
        match bytes.get(2) {
            Some(1) => {}
            Some(version) => return Err(BtfError::Version(*version)),
            None => {
                return Err(BtfError::Truncated {
                    what: "header",
                    at: 2,
                });
            }
        }
        let header_len = word(bytes, 4, "header")? as usize;
        if header_len < HEADER || header_len > bytes.len() {
            return Err(BtfError::Truncated {
                what: "header",
                at: bytes.len().min(header_len),
            });
        }
        let section = |at: usize, what: &'static str| {
            let from = header_len.checked_add(word(bytes, at, what)? as usize);
            let len = word(bytes, at + 4, what)? as usize;
            let range = from.and_then(|from| Some(from..from.checked_add(len)?));
            range
                .filter(|range| range.end <= bytes.len())
                .ok_or(BtfError::Truncated {
                    what,
                    at: bytes.len(),
                })
        };
        Ok(Header {
            types: section(8, "type section")?,
            strings: section(16, "string section")?,
            layout: if header_len >= HEADER_WITH_LAYOUT {
                section(24, "layout section")?
            } else {
                0..0
            },
        })
    }

    /// Bytes after the common 12 of a record of a kind that this reader does not know.
    fn foreign_len(&self, bytes: &[u8], kind: u8, vlen: u32) -> Option<usize> {
        let layout = bytes.get(self.layout.clone())?;
        let entry = layout.get(usize::from(kind) * 4..)?.get(..4)?;
        (usize::from(entry[1]))
            .checked_mul(vlen as usize)?
            .checked_add(usize::from(entry[0]))
    }
}

/// The one pass: where each record is, and the index of names.
fn scan(bytes: &[u8], header: &Header, strings: &[u8]) -> Result<(Vec<u32>, Vec<u64>), BtfError> {
    // A record has 12 bytes at least and about 25 on average; the section is within `bytes`.
    let mut records = Vec::with_capacity(header.types.len() / 24);
    let mut index = Vec::with_capacity(header.types.len() / 48);
    let section = bytes.get(..header.types.end).unwrap_or_default();
    let mut at = header.types.start;
    while at < header.types.end {
        let id = records.len() as u32 + 1;
        let (kind, vlen) = Record::kind_and_vlen(section, at)?;
        let extra = match Kind::from_bits(kind) {
            Some(kind) => kind.extra_len(vlen),
            None => header
                .foreign_len(bytes, kind, vlen)
                .ok_or(BtfError::UnknownKind { id, kind })?,
        };
        let name = word(section, at, "type section")?;
        if name as usize >= strings.len() {
            return Err(BtfError::BadName { offset: name });
        }
        if name != 0
            && Kind::from_bits(kind).is_some_and(Kind::is_indexed)
            && let Some(name) = name_in(strings, name)
        {
            index.push(u64::from(hash(name)) << 32 | u64::from(id));
        }
        records.push(at as u32);
        at = at
            .checked_add(record::COMMON)
            .and_then(|at| at.checked_add(extra))
            .filter(|end| *end <= header.types.end)
            .ok_or(BtfError::Truncated {
                what: "type section",
                at: header.types.end,
            })?;
    }
    index.sort_unstable();
    Ok((records, index))
}
