//! The arguments of functions and tracepoints, so that a program that reads
//! argument 0 as a `struct sock *` is refused where it is something else.

use super::member::{Shape, shape};
use super::record::{Kind, Record, TypeId, word};
use super::{Btf, BtfError};

/// C compilers must take 127 parameters; the kernel's longest list has about 15.
const MAX_PARAMS: usize = 255;

/// One argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Name; empty for tracepoints, whose prototypes have none.
    pub name: &'a str,
    /// Width in bytes.
    pub size_bytes: u32,
    /// What it holds.
    pub shape: Shape,
    /// Name of the type that it points to, see [`super::Field::pointee`].
    pub pointee: Option<&'a str>,
}

/// The arguments of a function or tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prototype<'a> {
    /// Function or tracepoint.
    pub name: String,
    /// Arguments; for a tracepoint without the implicit `void *` that comes first.
    pub params: Vec<Param<'a>>,
    /// Whether more arguments may follow (`...`).
    pub variadic: bool,
}

impl Prototype<'_> {
    /// Checks that argument `index` is a pointer to `struct need`.
    ///
    /// # Errors
    /// [`BtfError::Argument`] where it is something else, or missing.
    pub fn expect_pointer(&self, index: usize, need: &str) -> Result<(), BtfError> {
        let found = match self.params.get(index) {
            Some(param) if param.shape == Shape::Pointer && param.pointee == Some(need) => {
                return Ok(());
            }
            Some(Param {
                shape: Shape::Pointer,
                pointee: Some(name),
                ..
            }) => format!("`{name} *`"),
            Some(Param {
                shape: Shape::Pointer,
                ..
            }) => "`void *`".to_owned(),
            Some(_) => "no pointer".to_owned(),
            None => "absent".to_owned(),
        };
        Err(BtfError::Argument {
            function: self.name.clone(),
            index,
            need: need.to_owned(),
            found,
        })
    }
}

impl Btf {
    /// The arguments of function `name`; of the first where several static
    /// functions share the name.
    ///
    /// That BTF names a function does not prove that it can be hooked: the
    /// compiler may have left only `name.part.0` (`tcp_tsq_write` on 6.12).
    ///
    /// # Errors
    /// [`BtfError::NotFound`] where the kernel has no such function, or it was inlined.
    pub fn find_func(&self, name: &str) -> Result<Prototype<'_>, BtfError> {
        let func = self.record(self.find(Kind::Func, name)?)?;
        let proto = self.record(TypeId(func.value))?;
        self.prototype(name, &proto)
    }

    /// The arguments of tracepoint `name` as BTF-typed programs see them: those
    /// of `typedef void (*btf_trace_NAME)(void *, …)` without the first.
    ///
    /// # Errors
    /// [`BtfError::NotFound`] where the kernel has no such tracepoint.
    pub fn find_tracepoint(&self, name: &str) -> Result<Prototype<'_>, BtfError> {
        let id = self
            .find_typedef(&format!("btf_trace_{name}"))
            .map_err(|error| match error {
                BtfError::NotFound { .. } => BtfError::NotFound {
                    kind: "tracepoint",
                    name: name.to_owned(),
                },
                other => other,
            })?;
        let pointer = self.strip(id)?;
        if pointer.kind != Kind::Ptr {
            return Err(BtfError::Impossible {
                what: "the prototype",
                id: id.0,
            });
        }
        let mut prototype = self.prototype(name, &self.strip(TypeId(pointer.value))?)?;
        if prototype
            .params
            .first()
            .is_none_or(|param| param.shape != Shape::Pointer)
        {
            return Err(BtfError::Impossible {
                what: "the prototype",
                id: id.0,
            });
        }
        prototype.params.remove(0);
        Ok(prototype)
    }

    fn prototype(&self, name: &str, proto: &Record) -> Result<Prototype<'_>, BtfError> {
        let count = proto.vlen as usize;
        if proto.kind != Kind::FuncProto || count > MAX_PARAMS {
            return Err(BtfError::Impossible {
                what: "the prototype",
                id: proto.id.0,
            });
        }
        let mut params = Vec::with_capacity(count);
        let mut variadic = false;
        for index in 0..count {
            let at = proto.extra + index * 8;
            let param_name = word(&self.bytes, at, "type section")?;
            let ty = TypeId(word(&self.bytes, at + 4, "type section")?);
            if ty.0 == 0 {
                // `...` is a last parameter of type void.
                if index + 1 != count {
                    return Err(BtfError::Impossible {
                        what: "the prototype",
                        id: proto.id.0,
                    });
                }
                variadic = true;
                continue;
            }
            let ty = self.strip(ty)?;
            params.push(Param {
                name: self.name(param_name)?,
                size_bytes: self.bytes_of(&ty, 0)?,
                shape: shape(&ty)?,
                pointee: if ty.kind == Kind::Ptr {
                    self.pointee(TypeId(ty.value))?
                } else {
                    None
                },
            });
        }
        Ok(Prototype {
            name: name.to_owned(),
            params,
            variadic,
        })
    }
}
