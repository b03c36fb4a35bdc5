//! Where a member of a struct is, how wide it is, and what it is.

use super::record::{Kind, Record, TypeId, word};
use super::{Btf, BtfError, MAX_DEPTH};

/// Members looked at in one search. `struct tcp_sock` with all it contains has
/// about a thousand; without a limit, unnamed members that contain each other
/// could make a search endless within any limit of depth.
const MAX_STEPS: u32 = 1 << 17;
/// Pointers in a kernel that this tool runs on.
const POINTER_BYTES: u32 = 8;

/// What sort of value a field holds, typedefs and qualifiers removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Integer, `bool` or enum.
    Integer,
    /// Floating point.
    Float,
    /// Pointer.
    Pointer,
    /// Struct or union.
    Composite,
    /// Array.
    Array,
}

/// Where a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// From the start of the struct to the byte with the field's first bit.
    pub byte_offset: u32,
    /// First bit within that byte, from the least significant; 0 unless a bit field.
    pub bit_offset_in_byte: u8,
    /// Width in bits.
    pub bits: u64,
    /// Width in bytes; of a bit field, the bytes that it touches.
    pub size_bytes: u32,
    /// Whether it is declared as a bit field.
    pub bit_field: bool,
    /// What it holds.
    pub shape: Shape,
    /// Name of the struct, union or other type that it points to; `None` for
    /// `void *`, for pointers to pointers or functions, and for what is no pointer.
    pub pointee: Option<&'a str>,
}

impl Field<'_> {
    /// Whether it is a pointer.
    #[must_use]
    pub fn is_pointer(&self) -> bool {
        self.shape == Shape::Pointer
    }
}

/// A member as its struct records it.
#[derive(Clone, Copy)]
struct Member {
    ty: TypeId,
    /// From the start of the struct that was searched.
    bit_offset: u64,
    /// Width of a bit field in the encoding with `kind_flag`.
    bit_field: Option<u32>,
}

impl Btf {
    /// The field at a dotted path of members, as C would write it: members of
    /// unnamed structs and unions count as the outer struct's own.
    ///
    /// In 7.x a named type may stand in an unnamed member (`-fms-extensions`:
    /// `struct slock_owned;` in `socket_lock_t`), so the member's name decides,
    /// not its type's.
    ///
    /// # Errors
    /// [`BtfError::NotFound`] and [`BtfError::NoMember`] where the kernel has no
    /// such struct or member; other variants where the types are damaged.
    pub fn member(&self, root: &str, path: &str) -> Result<Field<'_>, BtfError> {
        let root_id = self.find_struct(root)?;
        let root_size = u64::from(self.record(root_id)?.value);
        let missing = |part: &str| BtfError::NoMember {
            root: root.to_owned(),
            path: path.to_owned(),
            part: part.to_owned(),
        };
        let mut steps = MAX_STEPS;
        let mut at = Member {
            ty: root_id,
            bit_offset: 0,
            bit_field: None,
        };
        for part in path.split('.') {
            let owner = self.strip(at.ty)?;
            if part.is_empty() || !owner.is_composite() {
                return Err(missing(part));
            }
            let found = self
                .search(&owner, part.as_bytes(), 0, &mut steps)?
                .ok_or_else(|| missing(part))?;
            at = Member {
                bit_offset: at.bit_offset + found.bit_offset,
                ..found
            };
        }
        let field = self.field(at)?;
        if u64::from(field.byte_offset) + u64::from(field.size_bytes) > root_size {
            return Err(BtfError::Impossible {
                what: "a member's offset",
                id: root_id.0,
            });
        }
        Ok(field)
    }

    /// Size of a struct in bytes.
    ///
    /// # Errors
    /// [`BtfError::NotFound`] where the kernel has no such struct.
    pub fn size_of(&self, name: &str) -> Result<u32, BtfError> {
        Ok(self.record(self.find_struct(name)?)?.value)
    }

    /// Looks for `name` among the members of `owner` and of its unnamed members, in order.
    fn search(
        &self,
        owner: &Record,
        name: &[u8],
        depth: u32,
        steps: &mut u32,
    ) -> Result<Option<Member>, BtfError> {
        if depth >= MAX_DEPTH {
            return Err(BtfError::TooDeep { id: owner.id.0 });
        }
        for index in 0..owner.vlen as usize {
            *steps = steps
                .checked_sub(1)
                .ok_or(BtfError::TooDeep { id: owner.id.0 })?;
            let at = owner.extra + index * 12;
            let name_offset = word(&self.bytes, at, "type section")?;
            let member = self.member_at(owner, at)?;
            if name_offset != 0 {
                if self.is_named(name_offset, name) {
                    return Ok(Some(member));
                }
                continue;
            }
            // Unnamed bit fields pad: they have no members either.
            let inner = self.strip(member.ty)?;
            if inner.is_composite()
                && let Some(found) = self.search(&inner, name, depth + 1, steps)?
            {
                let bit_offset = member.bit_offset + found.bit_offset;
                return Ok(Some(Member {
                    bit_offset,
                    ..found
                }));
            }
        }
        Ok(None)
    }

    /// `struct btf_member` at `at`: with `kind_flag` the offset's upper 8 bits
    /// are the width of a bit field, or 0.
    fn member_at(&self, owner: &Record, at: usize) -> Result<Member, BtfError> {
        let ty = TypeId(word(&self.bytes, at + 4, "type section")?);
        let offset = word(&self.bytes, at + 8, "type section")?;
        Ok(if owner.flag {
            let bits = offset >> 24;
            Member {
                ty,
                bit_offset: u64::from(offset & 0x00ff_ffff),
                bit_field: (bits != 0).then_some(bits),
            }
        } else {
            Member {
                ty,
                bit_offset: u64::from(offset),
                bit_field: None,
            }
        })
    }

    fn field(&self, member: Member) -> Result<Field<'_>, BtfError> {
        let ty = self.strip(member.ty)?;
        let size = self.bytes_of(&ty, 0)?;
        let (bit_offset, bit_field) = self.bit_field(&member, &ty, size)?;
        let shape = shape(&ty)?;
        let bit = (bit_offset % 8) as u8;
        let bits = bit_field.map_or(u64::from(size) * 8, u64::from);
        if bit_field.is_none() && bit != 0 {
            return Err(BtfError::Impossible {
                what: "a member's offset",
                id: ty.id.0,
            });
        }
        Ok(Field {
            byte_offset: u32::try_from(bit_offset / 8).map_err(|_| BtfError::Impossible {
                what: "a member's offset",
                id: ty.id.0,
            })?,
            bit_offset_in_byte: bit,
            bits,
            // A bit field has at most 255 bits.
            size_bytes: bit_field.map_or(size, |bits| (u32::from(bit) + bits).div_ceil(8)),
            bit_field: bit_field.is_some(),
            shape,
            pointee: if ty.kind == Kind::Ptr {
                self.pointee(TypeId(ty.value))?
            } else {
                None
            },
        })
    }

    /// First bit, and width where the member is a bit field, in either encoding:
    /// in the member (`kind_flag`), or in an integer type narrower than its bytes.
    fn bit_field(
        &self,
        member: &Member,
        ty: &Record,
        size: u32,
    ) -> Result<(u64, Option<u32>), BtfError> {
        let damaged = BtfError::Impossible {
            what: "a bit field's width",
            id: ty.id.0,
        };
        let width = u64::from(size) * 8;
        if let Some(bits) = member.bit_field {
            let integer = matches!(ty.kind, Kind::Int | Kind::Enum | Kind::Enum64);
            return if integer && u64::from(bits) <= width {
                Ok((member.bit_offset, Some(bits)))
            } else {
                Err(damaged)
            };
        }
        if ty.kind != Kind::Int {
            return Ok((member.bit_offset, None));
        }
        // BTF_INT_OFFSET and BTF_INT_BITS.
        let encoding = word(&self.bytes, ty.extra, "type section")?;
        let (offset, bits) = (encoding >> 16 & 0xff, encoding & 0xff);
        if bits == 0 || u64::from(offset + bits) > width {
            return Err(damaged);
        }
        if u64::from(bits) == width {
            return Ok((member.bit_offset, None));
        }
        // `bool` has 8 bits; what is narrower than its bytes and starts at a byte
        // is still a bit field, of which only `bits` belong to the member.
        Ok((member.bit_offset + u64::from(offset), Some(bits)))
    }

    /// Size of a type in bytes.
    pub(super) fn bytes_of(&self, ty: &Record, depth: u32) -> Result<u32, BtfError> {
        match ty.kind {
            Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float => {
                Ok(ty.value)
            }
            Kind::Ptr => Ok(POINTER_BYTES),
            Kind::Array if depth < MAX_DEPTH => {
                // `struct btf_array { type, index_type, nelems }`.
                let element = self.strip(TypeId(word(&self.bytes, ty.extra, "type section")?))?;
                let count = word(&self.bytes, ty.extra + 8, "type section")?;
                self.bytes_of(&element, depth + 1)?
                    .checked_mul(count)
                    .ok_or(BtfError::Impossible {
                        what: "an array's length",
                        id: ty.id.0,
                    })
            }
            Kind::Array => Err(BtfError::TooDeep { id: ty.id.0 }),
            _ => Err(BtfError::Impossible {
                what: "the size",
                id: ty.id.0,
            }),
        }
    }

    /// Name of what a pointer points to: the type's own, or where it has none
    /// (`typedef struct { … } socket_lock_t`) the last typedef's.
    pub(super) fn pointee(&self, id: TypeId) -> Result<Option<&str>, BtfError> {
        let mut record = self.record(id)?;
        let mut typedef = 0;
        for _ in 0..MAX_DEPTH {
            if !record.kind.is_modifier() {
                let name = if record.name != 0 {
                    record.name
                } else {
                    typedef
                };
                return match record.kind {
                    Kind::Ptr | Kind::FuncProto | Kind::Void => Ok(None),
                    _ if name == 0 => Ok(None),
                    _ => self.name(name).map(Some),
                };
            }
            if record.kind == Kind::Typedef {
                typedef = record.name;
            }
            record = self.record(TypeId(record.value))?;
        }
        Err(BtfError::TooDeep { id: id.0 })
    }
}

pub(super) fn shape(ty: &Record) -> Result<Shape, BtfError> {
    match ty.kind {
        Kind::Int | Kind::Enum | Kind::Enum64 => Ok(Shape::Integer),
        Kind::Float => Ok(Shape::Float),
        Kind::Ptr => Ok(Shape::Pointer),
        Kind::Struct | Kind::Union => Ok(Shape::Composite),
        Kind::Array => Ok(Shape::Array),
        _ => Err(BtfError::Impossible {
            what: "the kind",
            id: ty.id.0,
        }),
    }
}
