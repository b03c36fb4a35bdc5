//! What an eBPF object must and must not hold to be committed.

use anyhow::{Context as _, Result, bail};

/// `e_machine` of eBPF, `EM_BPF` in the kernel's `include/uapi/linux/elf-em.h`.
const EM_BPF: u16 = 247;

/// The names of an object's sections.
///
/// # Errors
/// When the bytes are not a little-endian 64-bit eBPF ELF file.
pub(crate) fn sections(bytes: &[u8]) -> Result<Vec<String>> {
    let broken = "the object is not a whole ELF file";
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("the object is not a little-endian 64-bit ELF file");
    }
    if number(bytes, 18, 2).context(broken)? != usize::from(EM_BPF) {
        bail!("the object is not for eBPF");
    }
    let table = number(bytes, 0x28, 8).context(broken)?;
    let size = number(bytes, 0x3a, 2).context(broken)?;
    let count = number(bytes, 0x3c, 2).context(broken)?;
    let names_at = number(bytes, 0x3e, 2).context(broken)?;
    let end = count
        .checked_mul(size)
        .and_then(|length| length.checked_add(table));
    if end.is_none_or(|end| end > bytes.len()) {
        bail!(broken);
    }
    let header = |index: usize| index.checked_mul(size).and_then(|at| at.checked_add(table));
    let names = header(names_at)
        .and_then(|at| number(bytes, at + 24, 8))
        .context(broken)?;
    (0..count)
        .map(|index| {
            let name = header(index)
                .and_then(|at| number(bytes, at, 4))
                .context(broken)?;
            let rest = names
                .checked_add(name)
                .and_then(|at| bytes.get(at..))
                .context(broken)?;
            let end = rest.iter().position(|byte| *byte == 0).context(broken)?;
            Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
        })
        .collect()
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let mut value = [0; 8];
    value[..size].copy_from_slice(bytes.get(at..at.checked_add(size)?)?);
    usize::try_from(u64::from_le_bytes(value)).ok()
}

/// Refuses an object that would not load or that tells of the machine it was
/// built on.
///
/// # Errors
/// When type information is missing, debug sections are left, or one of `paths`
/// is in it.
pub(crate) fn inspect(bytes: &[u8], paths: &[String]) -> Result<()> {
    let sections = sections(bytes)?;
    for needed in [".BTF", ".BTF.ext", "license"] {
        if !sections.iter().any(|name| name == needed) {
            bail!(
                "the object has no `{needed}` section; it has {}",
                sections.join(" ")
            );
        }
    }
    if let Some(debug) = sections.iter().find(|name| name.starts_with(".debug")) {
        bail!("the object still has the section `{debug}`");
    }
    for path in paths {
        if bytes
            .windows(path.len())
            .any(|window| window == path.as_bytes())
        {
            bail!("the object holds the local path {path}: a path remapping is missing");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of nothing but section headers with these names.
    fn elf(machine: u16, names: &[&str]) -> Vec<u8> {
        let mut strings = vec![0];
        let mut headers = Vec::new();
        for name in names {
            let mut header = [0; 64];
            header[..4]
                .copy_from_slice(&u32::try_from(strings.len()).expect("small").to_le_bytes());
            headers.push(header);
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        // The name table is the last section, right behind the ELF header.
        headers.last_mut().expect("a section")[24..32].copy_from_slice(&64_u64.to_le_bytes());
        let count = u16::try_from(names.len()).expect("few");
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[0x28..0x30].copy_from_slice(&(64 + strings.len() as u64).to_le_bytes());
        bytes[0x3a..0x3c].copy_from_slice(&64_u16.to_le_bytes());
        bytes[0x3c..0x3e].copy_from_slice(&count.to_le_bytes());
        bytes[0x3e..0x40].copy_from_slice(&(count - 1).to_le_bytes());
        bytes.extend_from_slice(&strings);
        bytes.extend(headers.iter().flatten());
        bytes
    }

    const SOUND: &[&str] = &[".text", "license", ".BTF", ".BTF.ext", ".strtab"];

    #[test]
    fn sections_are_read() {
        assert_eq!(sections(&elf(EM_BPF, SOUND)).expect("sections"), SOUND);
    }

    #[test]
    fn an_object_without_types_or_with_debug_sections_is_refused() {
        assert!(inspect(&elf(EM_BPF, SOUND), &[]).is_ok());
        let error = inspect(&elf(EM_BPF, &["license", ".strtab"]), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("`.BTF`"), "{error}");
        let debug = [&[".debug_info"], SOUND].concat();
        let error = inspect(&elf(EM_BPF, &debug), &[]).unwrap_err().to_string();
        assert!(error.contains(".debug_info"), "{error}");
    }

    #[test]
    fn a_local_path_is_found() {
        let mut bytes = elf(EM_BPF, SOUND);
        bytes.extend_from_slice(b"\0/home/someone/src/lib.rs\0");
        assert!(inspect(&bytes, &["/home/other".to_owned()]).is_ok());
        assert!(inspect(&bytes, &["/home/someone".to_owned()]).is_err());
    }

    #[test]
    fn no_truncation_panics() {
        let whole = elf(EM_BPF, SOUND);
        for end in 0..whole.len() {
            assert!(sections(&whole[..end]).is_err(), "cut at {end}");
        }
        assert!(sections(&elf(62, SOUND)).is_err(), "another machine");
    }
}
