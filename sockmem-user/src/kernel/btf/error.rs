//! Why type information could not be read or does not fit the need.

use std::path::PathBuf;

/// Why types cannot be read, or are not what the caller needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be opened or read.
    #[error(
        "cannot read {}: {reason}; socket fields are found in the kernel's type information, which \
         needs CONFIG_DEBUG_INFO_BTF=y (see: grep DEBUG_INFO_BTF /boot/config-$(uname -r))",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// More bytes than any kernel's types have.
    #[error("type information is larger than {limit} bytes, more than any kernel has")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The bytes do not start with the magic number.
    #[error("not kernel type information: the magic number 0xeb9f is missing")]
    NotBtf,
    /// Types of a big-endian machine.
    #[error("type information of a big-endian machine, only little-endian kernels are supported")]
    BigEndian,
    /// A version of the format that this reader does not know.
    #[error("type information in format version {0}, only version 1 is known")]
    Version(u8),
    /// A section or record ends before it should.
    #[error("type information is truncated: {what} ends at byte {at}")]
    Truncated {
        /// Section.
        what: &'static str,
        /// Where the bytes end.
        at: usize,
    },
    /// The string section is empty, or its first or last byte is not NUL.
    #[error("type information is damaged: its strings do not begin and end with NUL")]
    Strings,
    /// A kind of type whose record length is stated nowhere: nothing behind it can be read.
    #[error("type {id} is of unknown kind {kind}: this kernel is newer than sockmem-trace knows")]
    UnknownKind {
        /// Type.
        id: u32,
        /// Kind.
        kind: u8,
    },
    /// A name outside of the string section, too long, or not UTF-8.
    #[error("type information is damaged: no name at offset {offset} of its strings")]
    BadName {
        /// Offset in the string section.
        offset: u32,
    },
    /// A reference to a type that does not exist.
    #[error("type information is damaged: it refers to type {id}, which does not exist")]
    BadType {
        /// Type.
        id: u32,
    },
    /// A type that contains itself, or is nested deeper than any kernel's.
    #[error("type information is damaged: type {id} is nested too deeply")]
    TooDeep {
        /// Type where the search began.
        id: u32,
    },
    /// Numbers that contradict each other: a member outside of its struct, a bit field wider than its type.
    #[error("type information is damaged: {what} of type {id} is impossible")]
    Impossible {
        /// What is wrong.
        what: &'static str,
        /// Type.
        id: u32,
    },
    /// The kernel has no type or function of that name.
    #[error("this kernel has no {kind} `{name}`")]
    NotFound {
        /// `struct`, `function`, ….
        kind: &'static str,
        /// Name.
        name: String,
    },
    /// A struct without the member.
    #[error("this kernel has no `{part}` in `{root}.{path}`")]
    NoMember {
        /// The struct where the path starts.
        root: String,
        /// Dotted path.
        path: String,
        /// The part of the path that was not found.
        part: String,
    },
    /// A function or tracepoint has another argument at that place.
    #[error(
        "argument {index} of {function} is {found} in this kernel, needed is `struct {need} *`"
    )]
    Argument {
        /// Function or tracepoint.
        function: String,
        /// Position, from 0.
        index: usize,
        /// Struct that was needed there.
        need: String,
        /// What is there.
        found: String,
    },
}
