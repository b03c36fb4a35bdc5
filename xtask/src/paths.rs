//! Where things are: the workspace, its target directory, and the files that
//! more than one command names.

use std::path::{Path, PathBuf};

/// The committed eBPF object, relative to the workspace.
pub(crate) const OBJECT: &str = "sockmem-user/ebpf/sockmem.bpf.o";
/// The committed manifest of that object, relative to the workspace.
pub(crate) const MANIFEST: &str = "sockmem-user/ebpf/sockmem.bpf.manifest";

/// The workspace's root: the folder above this crate.
pub(crate) fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .map_or_else(|| own.to_path_buf(), Path::to_path_buf)
}

/// Cargo's target directory, which `CARGO_TARGET_DIR` may have moved.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        // Cargo takes a relative value from the current directory, so do we.
        Some(dir) if !dir.is_empty() => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        _ => workspace().join("target"),
    }
}

/// The programs that `cargo xtask setup` installs for this work tree only.
pub(crate) fn tools() -> PathBuf {
    workspace().join("target/tools")
}

/// The object that `build-ebpf --verify` leaves for the virtual machines.
pub(crate) fn rebuilt_object() -> PathBuf {
    target().join("ebpf/sockmem.bpf.o")
}
