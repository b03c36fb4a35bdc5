//! What must be put into the object before aya reads it: the call of a kernel function (kfunc),
//! for which aya 0.14 knows no relocation.

use std::borrow::Cow;

use aya::Btf;
use aya_obj::btf::BtfKind;
use sockmem_common::CAST_PLACEHOLDER;

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL` as source register, in the upper half of the registers' byte.
const KFUNC: u8 = 2 << 4;
/// Bytes of an instruction.
const INSTRUCTION: usize = 8;

/// BTF ids of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cast {
    /// Of the function `bpf_rdonly_cast`.
    function: u32,
    /// Of `struct tcp_sock`.
    pub(super) tcp_sock: u32,
}

/// `None` where the kernel has no `bpf_rdonly_cast`.
pub(super) fn cast(btf: &Btf) -> Option<Cast> {
    let id = |name, kind| btf.id_by_type_name_kind(name, kind).ok();
    Some(Cast {
        function: id("bpf_rdonly_cast", BtfKind::Func)?,
        tcp_sock: id("tcp_sock", BtfKind::Struct)?,
    })
}

/// The object with every placeholder made a call of the function; as it is without one.
pub(super) fn with_cast(object: &[u8], cast: Option<Cast>) -> Cow<'_, [u8]> {
    let Some(cast) = cast else {
        return Cow::Borrowed(object);
    };
    let mut placeholder = [CALL, 0, 0, 0, 0, 0, 0, 0];
    placeholder[4..].copy_from_slice(&CAST_PLACEHOLDER.to_le_bytes());
    let mut call = [CALL, KFUNC, 0, 0, 0, 0, 0, 0];
    call[4..].copy_from_slice(&cast.function.to_le_bytes());
    let mut patched = object.to_vec();
    // Sections of instructions begin at multiples of an instruction's length.
    for bytes in patched.chunks_exact_mut(INSTRUCTION) {
        if bytes == placeholder {
            bytes.copy_from_slice(&call);
        }
    }
    Cow::Owned(patched)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: Option<Cast> = Some(Cast {
        function: 0x0001_0203,
        tcp_sock: 7,
    });

    #[test]
    fn only_the_placeholder_becomes_a_call_of_the_function() {
        let helper = [CALL, 0, 0, 0, 113, 0, 0, 0];
        let placeholder = [CALL, 0, 0, 0, 1, 0, 0x4d, 0x53];
        let object = [helper, placeholder, helper].concat();
        let call = [CALL, 0x20, 0, 0, 3, 2, 1, 0];
        assert_eq!(*with_cast(&object, FOUND), [helper, call, helper].concat());
    }

    #[test]
    fn without_the_function_the_object_stays_as_it_is() {
        assert!(matches!(
            with_cast(super::super::loader::OBJECT, None),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn the_built_in_object_has_placeholders_and_loses_them() {
        let object = super::super::loader::OBJECT;
        let patched = with_cast(object, FOUND);
        let count = |bytes: &[u8]| {
            let number = CAST_PLACEHOLDER.to_le_bytes();
            bytes.windows(4).filter(|w| **w == number).count()
        };
        assert!(count(object) > 0);
        assert_eq!(count(&patched), 0);
        assert_eq!(patched.len(), object.len());
    }
}
