//! The offsets that the programs read at, resolved from the running kernel's types.
//!
//! One table says for each field of [`Layout`] where it is, what it must be, and
//! what is lost without it. A field of another width or type counts as missing:
//! reading it would yield a number that looks right and is not.
#![deny(unsafe_code)]

mod table;
#[cfg(test)]
mod tests;

use sockmem_common::Layout;

use super::btf::{Btf, BtfError, Field};
use table::{Need, Row, SPECIAL, TABLE, Want};

/// The offsets found, and what could not be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// `ABSENT` in fields that are missing.
    pub layout: Layout,
    /// In the order of the table. Empty on the kernels that the tool is tested with.
    pub missing: Vec<MissingField>,
}

/// A field that the running kernel does not have, or has as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingField {
    /// Field of [`Layout`].
    pub name: &'static str,
    /// Where it was looked for: `sock.sk_omem_alloc.counter`.
    pub path: String,
    /// What the tool cannot do without it, in a few words.
    pub feature_lost: &'static str,
    /// Why it is missing, one clause.
    pub why: String,
}

/// Why no layout can be given at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A field without which no socket can be accounted for.
    #[error(
        "sockets of this kernel cannot be read: {why}; {path} is needed for {feature_lost}, and no option does without it"
    )]
    Required {
        /// Field of [`Layout`].
        name: &'static str,
        /// Where it was looked for.
        path: String,
        /// What it is needed for.
        feature_lost: &'static str,
        /// Why it is missing.
        why: String,
    },
}

/// Resolves every field of [`Layout`].
///
/// # Errors
/// [`LayoutError::Required`] where a field is missing without which no socket
/// can be accounted for; damaged type information shows as such a field too.
pub fn resolve(btf: &Btf) -> Result<Resolved, LayoutError> {
    let mut layout = Layout::NONE;
    let mut missing = Vec::new();
    for row in TABLE {
        match find(btf, row) {
            Ok(offset) => *(row.slot)(&mut layout) = offset,
            Err(why) => note(row, why, &mut missing)?,
        }
    }
    for special in SPECIAL {
        if let Err(why) = (special.find)(btf, &mut layout) {
            missing.push(MissingField {
                name: special.name,
                path: special.path.to_owned(),
                feature_lost: special.lost,
                why,
            });
        }
    }
    Ok(Resolved { layout, missing })
}

/// The offset of a plain field, or why it is not there.
fn find(btf: &Btf, row: &Row) -> Result<u32, String> {
    let field = btf
        .member(row.root, row.path)
        .map_err(|error: BtfError| error.to_string())?;
    match mismatch(&field, &row.want) {
        None => Ok(field.byte_offset),
        Some(found) => Err(format!(
            "`{}.{}` is {found}, needed is {}",
            row.root, row.path, row.want
        )),
    }
}

/// What a field is, where it is not what it should be.
fn mismatch(field: &Field<'_>, want: &Want) -> Option<String> {
    use super::btf::Shape;
    if field.bit_field {
        return Some(format!("a bit field of {} bits", field.bits));
    }
    let fits = match want {
        Want::Integer(bytes) => field.shape == Shape::Integer && field.size_bytes == *bytes,
        Want::Bytes(bytes) => field.shape == Shape::Composite && field.size_bytes == *bytes,
        Want::Array(bytes) => field.shape == Shape::Array && field.size_bytes == *bytes,
        Want::Pointer(name) => field.is_pointer() && field.pointee == Some(*name),
        Want::Address => field.is_pointer(),
    };
    if fits {
        return None;
    }
    Some(match (field.shape, field.pointee) {
        (Shape::Pointer, Some(name)) => format!("a pointer to {name}"),
        (Shape::Pointer, None) => "an untyped pointer".to_owned(),
        (Shape::Integer, _) => format!("an integer of {} bytes", field.size_bytes),
        (Shape::Composite, _) => format!("a struct of {} bytes", field.size_bytes),
        (Shape::Array, _) => format!("an array of {} bytes", field.size_bytes),
        (Shape::Float, _) => format!("a floating-point number of {} bytes", field.size_bytes),
    })
}

fn note(row: &Row, why: String, missing: &mut Vec<MissingField>) -> Result<(), LayoutError> {
    let path = format!("{}.{}", row.root, row.path);
    match row.need {
        Need::Required(feature_lost) => Err(LayoutError::Required {
            name: row.name,
            path,
            feature_lost,
            why,
        }),
        Need::Optional(feature_lost) => {
            missing.push(MissingField {
                name: row.name,
                path,
                feature_lost,
                why,
            });
            Ok(())
        }
    }
}
