//! Kernel modules for the guest: which files, in which order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::apt::Unpacked;
use crate::exec;

/// The modules that the tests use; what they depend on comes with them.
pub(crate) const WANTED: &[&str] = &[
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "sch_netem",
    "veth",
    "tls",
];

/// The cipher that the kTLS tests use, gcm(aes), which kernels put together from different
/// modules; one that a kernel does not have is built in or not needed there.
const CIPHER: &[&str] = &["aes_generic", "ctr", "ghash_generic", "gcm", "aesni_intel"];

/// A module, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its name with underscores, as the kernel lists it.
    pub(crate) name: String,
    /// The ELF file, decompressed.
    pub(crate) content: Vec<u8>,
}

/// The modules that a kernel's guest needs.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    /// In load order.
    pub(crate) files: Vec<Module>,
    /// Those of [`WANTED`] that this kernel neither has built in nor as a file.
    pub(crate) absent: Vec<&'static str>,
}

/// Reads the wanted modules of an unpacked kernel.
///
/// # Errors
/// When `depmod` or `xz` is missing or a module cannot be read.
pub(crate) fn read(kernel: &Unpacked) -> Result<Modules> {
    let folder = folder(kernel)?;
    let index_path = folder.join("modules.dep");
    if !index_path.is_file() {
        exec::capture(
            exec::tool("depmod", "kmod")?
                .arg("-b")
                .arg(&kernel.root)
                .arg(&kernel.release),
        )?;
    }
    let index = String::from_utf8_lossy(&exec::read(&index_path)?).into_owned();
    let builtin_text = exec::read(&folder.join("modules.builtin"))?;
    let builtin_text = String::from_utf8_lossy(&builtin_text);
    let builtin: BTreeSet<String> = builtin_text.lines().map(module_name).collect();

    let mut modules = Modules::default();
    let both: Vec<&'static str> = WANTED.iter().chain(CIPHER).copied().collect();
    let (order, missing) = load_order(&index, &both);
    modules.absent = missing
        .into_iter()
        .filter(|name| !builtin.contains(*name) && !CIPHER.contains(name))
        .collect();
    for path in order {
        let content = decompressed(&folder.join(&path))?;
        modules.files.push(Module {
            name: module_name(&path),
            content,
        });
    }
    Ok(modules)
}

/// The folder of the modules, made reachable for depmod as `lib/modules`.
fn folder(kernel: &Unpacked) -> Result<PathBuf> {
    let lib = kernel.root.join("lib");
    if !lib.exists() {
        std::os::unix::fs::symlink("usr/lib", &lib)
            .with_context(|| format!("cannot link {}", lib.display()))?;
    }
    Ok(lib.join("modules").join(&kernel.release))
}

/// `kernel/net/ipv4/tcp_diag.ko.xz` is `tcp_diag`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split(".ko").next().unwrap_or(file);
    stem.replace('-', "_")
}

/// The files to load for `wanted`, each after those it depends on and none
/// twice, and the wanted ones that the index does not have.
///
/// A line of `modules.dep` is a file, a colon, and all files it needs, direct
/// or not, those to be loaded first at the end.
pub(crate) fn load_order<'w>(index: &str, wanted: &[&'w str]) -> (Vec<String>, Vec<&'w str>) {
    let mut order: Vec<String> = Vec::new();
    let mut missing = Vec::new();
    for name in wanted {
        let line = index
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| module_name(path) == *name);
        let Some((path, needs)) = line else {
            missing.push(*name);
            continue;
        };
        for file in needs.split_whitespace().rev().chain([path]) {
            if !order.iter().any(|had| had == file) {
                order.push(file.to_owned());
            }
        }
    }
    (order, missing)
}

/// A module's ELF file. `finit_module` of older kernels cannot decompress.
fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let (program, package) = match path.extension().and_then(|ext| ext.to_str()) {
        Some("xz") => ("xz", "xz-utils"),
        Some("zst") => ("zstd", "zstd"),
        Some("gz") => ("gzip", "gzip"),
        _ => return exec::read(path),
    };
    exec::capture(exec::tool(program, package)?.args(["-d", "-c"]).arg(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
kernel/net/ipv4/inet_diag.ko.xz:
kernel/net/ipv4/tcp_diag.ko.xz: kernel/net/ipv4/inet_diag.ko.xz
kernel/net/tls/tls.ko.xz: kernel/b/second.ko.xz kernel/a/first-one.ko.xz
kernel/drivers/net/veth.ko.xz:
";

    #[test]
    fn modules_come_after_what_they_need_and_only_once() {
        let (order, missing) = load_order(INDEX, &["tcp_diag", "inet_diag", "tls"]);
        let names: Vec<_> = order.iter().map(|path| module_name(path)).collect();
        assert_eq!(
            names,
            ["inet_diag", "tcp_diag", "first_one", "second", "tls"]
        );
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn a_module_that_is_not_in_the_index_is_named() {
        let (order, missing) = load_order(INDEX, &["veth", "sch_netem"]);
        assert_eq!(order, ["kernel/drivers/net/veth.ko.xz"]);
        assert_eq!(missing, ["sch_netem"]);
    }
}
