//! The shape of the code, kept by a test: imports point down, pure layers stay pure, the ABI is
//! declared once, and no kernel offset is a number. `ARCHITECTURE.md` says why.
//!
//! * `layers/lex.rs`: source as tokens. * `layers/paths.rs`: the paths a file names.
//! * `layers/rules.rs`: the rules. * `layers/snippets.rs`: tests of the rules themselves.

#[path = "layers/lex.rs"]
mod lex;
#[path = "layers/paths.rs"]
mod paths;
#[path = "layers/rules.rs"]
mod rules;
#[path = "layers/snippets.rs"]
mod snippets;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use lex::{Token, lex, without_tests};

/// `repr(C)` outside of `sockmem-common`: file, type, and why it is no part of the ABI.
/// The list may only shrink: an entry that is not needed fails.
const REPR_C: &[(&str, &str, &str)] = &[
    (
        "sockmem-ebpf/src/maps.rs",
        "ListenKey",
        "key of a map that only the programs read and write; without padding, as a hash key must be",
    ),
    (
        "sockmem-ebpf/src/maps.rs",
        "Listener",
        "value of the same map",
    ),
    (
        "sockmem-ebpf/src/maps.rs",
        "Slot",
        "value of a map that user space never reads",
    ),
];

/// Where `register!` (offsets in `struct pt_regs`) may be used.
const REGISTERS: &str = "sockmem-ebpf/src/tier_kprobe.rs";

/// A source file.
struct Source {
    /// Relative to the workspace, with `/`.
    name: String,
    /// Module path below the crate's root.
    module: Vec<String>,
    tokens: Vec<Token>,
    /// Without what is under `#[cfg(test)]`; empty if the whole file is.
    shipped: Vec<Token>,
}

fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("the crate is in a workspace")
        .to_owned()
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry.expect("directory entry").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Module path of `relative`, a file below `src`.
fn module_of(relative: &Path) -> Vec<String> {
    let mut parts: Vec<String> = relative
        .with_extension("")
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    if parts
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str()))
    {
        parts.pop();
    }
    parts
}

/// Every source file of a crate of this workspace.
fn sources(krate: &str) -> Vec<Source> {
    let root = workspace();
    let src = root.join(krate).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    let mut tests: HashSet<Vec<String>> = HashSet::new();
    let mut all: Vec<Source> = files
        .iter()
        .map(|file| {
            let text =
                fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let tokens = lex(&text);
            let (shipped, declared) = without_tests(&tokens);
            let module = module_of(file.strip_prefix(&src).expect("below src"));
            tests.extend(declared.into_iter().map(|name| {
                let mut path = module.clone();
                path.push(name);
                path
            }));
            Source {
                name: format!(
                    "{krate}/src/{}",
                    file.strip_prefix(&src).expect("below src").display()
                ),
                module,
                tokens,
                shipped,
            }
        })
        .collect();
    for source in &mut all {
        if tests.iter().any(|t| source.module.starts_with(t)) {
            source.shipped.clear();
        }
    }
    assert!(all.len() > 5, "{krate} has sources");
    all
}

/// The names in `[dependencies]` of a manifest, as Rust writes them, and whether each is optional.
fn dependencies(manifest: &str) -> Vec<(String, bool)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            // [dependencies.name]
            if let Some(name) = section.strip_prefix("dependencies.") {
                found.push((name.replace('-', "_"), false));
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let key = key.trim();
            if section == "dependencies" && !key.starts_with('#') {
                let name = key.split('.').next().unwrap_or(key).replace('-', "_");
                let flat: String = value.split_whitespace().collect();
                found.push((name, flat.contains("optional=true")));
            } else if section.starts_with("dependencies.")
                && key == "optional"
                && value.trim() == "true"
                && let Some(last) = found.last_mut()
            {
                last.1 = true;
            }
        }
    }
    found
}

fn manifest(krate: &str) -> String {
    let path = workspace().join(krate).join("Cargo.toml");
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Fails with every complaint at once.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn complaints(krate: &str, rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources(krate)
        .iter()
        .flat_map(|s| {
            rule(s)
                .into_iter()
                .map(|what| format!("{}: {what}", s.name))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn imports_point_down() {
    none(&complaints("sockmem-user", |s| {
        rules::direction(&s.tokens, &s.module)
    }));
}

#[test]
fn decode_and_model_are_pure() {
    let known: Vec<String> = dependencies(&manifest("sockmem-user"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in ["aya", "tokio", "nix", "libc"] {
        assert!(
            known.iter().any(|k| k == name),
            "{name} is read from Cargo.toml"
        );
    }
    none(&complaints("sockmem-user", |s| {
        rules::purity(&s.shipped, &s.module, &known)
    }));
}

#[test]
fn only_cli_writes_to_the_standard_streams() {
    none(&complaints("sockmem-user", |s| {
        rules::streams(&s.shipped, &s.module)
    }));
}

#[test]
fn the_abi_crate_is_bare() {
    let manifest = manifest("sockmem-common");
    for (name, optional) in dependencies(&manifest) {
        assert!(optional, "sockmem-common depends on {name} by default");
    }
    let default = manifest.lines().any(|line| {
        line.split('=')
            .next()
            .is_some_and(|key| key.trim() == "default")
    });
    assert!(!default, "sockmem-common has default features");
    let root = workspace().join("sockmem-common/src/lib.rs");
    let text = fs::read_to_string(root).expect("lib.rs");
    assert!(text.contains("#![no_std]"));
}

#[test]
fn the_abi_is_declared_in_one_crate() {
    let mut wrong = Vec::new();
    let mut used = HashSet::new();
    for krate in ["sockmem-ebpf", "sockmem-user"] {
        for source in sources(krate) {
            for (name, line) in rules::repr_c(&source.tokens) {
                match REPR_C
                    .iter()
                    .position(|(file, what, _)| *file == source.name && *what == name)
                {
                    Some(entry) => {
                        used.insert(entry);
                    }
                    None => wrong.push(format!(
                        "{}:{line}: `{name}` is repr(C); declare it in sockmem-common, or list it \
                         here with the reason",
                        source.name
                    )),
                }
            }
        }
    }
    for (entry, (file, what, why)) in REPR_C.iter().enumerate() {
        assert!(!why.is_empty());
        if !used.contains(&entry) {
            wrong.push(format!(
                "{file}: `{what}` is no longer repr(C); drop it from the list"
            ));
        }
    }
    none(&wrong);
}

#[test]
fn no_kernel_offset_is_a_number() {
    none(&complaints("sockmem-ebpf", |s| {
        rules::offsets(&s.tokens, s.name == REGISTERS)
    }));
}
