//! The rules, tried on code of which the answer is known.

use crate::lex::{Kind, lex, without_tests};
use crate::paths::paths;
use crate::{dependencies, rules};

fn module(path: &str) -> Vec<String> {
    path.split("::").map(str::to_owned).collect()
}

fn texts(source: &str, at: &str) -> Vec<String> {
    paths(&lex(source), &module(at))
        .iter()
        .map(crate::paths::Path::text)
        .collect()
}

#[test]
fn comments_and_strings_are_no_code() {
    let source = r##"
        // use crate::cli::a;
        /* use crate::cli::b; /* nested crate::cli::c */ still */
        let s = "crate::cli::d \" crate::cli::e";
        let r = r#"crate::cli::f " crate::cli::g"#;
        let c = '"'; let l: &'static str = b"crate::cli::h"; let q = '\'';
        use crate::model::Real;
    "##;
    assert_eq!(texts(source, "sinks"), ["crate::model::Real"]);
    let strings = lex(source)
        .into_iter()
        .filter(|t| matches!(t.kind, Kind::Str(_)))
        .count();
    assert_eq!(strings, 3);
}

#[test]
fn lines_are_counted_through_comments_and_strings() {
    let source = "/* 1\n2 */ let a = \"3\n\";\nuse crate::cli::X;";
    let found = paths(&lex(source), &module("host"));
    assert_eq!(found[0].line, 4);
}

#[test]
fn groups_globs_and_renames_are_taken_apart() {
    assert_eq!(
        texts(
            "use crate::{cli::{A as B, c::*}, model, self as me};",
            "host"
        ),
        [
            "crate::cli::A",
            "crate::cli::c",
            "crate::model",
            "crate::self"
        ]
    );
    assert_eq!(
        texts("pub(crate) use std::{fs, net::IpAddr};", "model"),
        ["std::fs", "std::net::IpAddr"]
    );
    assert_eq!(
        texts("let x = crate::cli::run::<u8>(1);", "host"),
        ["crate::cli::run"]
    );
}

#[test]
fn super_is_resolved_also_within_inline_modules() {
    assert_eq!(texts("use super::b;", "model::a"), ["crate::model::b"]);
    assert_eq!(
        texts("use super::super::cli::X;", "model::a"),
        ["crate::cli::X"]
    );
    assert_eq!(
        texts("mod tests { use super::X; } use super::Y;", "host"),
        ["crate::host::X", "crate::Y"]
    );
    assert_eq!(texts("use self::x::Y;", "host"), ["crate::host::x::Y"]);
}

#[test]
fn upward_and_sideways_imports_are_found() {
    for (at, source) in [
        ("model::verdict", "use crate::sinks::json;"),
        ("host", "use crate::attach::Trace;"),
        ("host::netns", "use crate::kernel::Btf;"),
        ("kernel", "fn f() { crate::host::clock::now_ns() }"),
        ("facts", "use crate::kernel;"),
        ("collect", "use crate::{attach::Trace, decode::decode};"),
        ("decode", "use super::model::View;"),
        ("attach::table", "use super::super::cli::args;"),
        ("sinks", "use crate::unheard_of::Thing;"),
        ("unheard_of", ""),
    ] {
        let found = rules::direction(&lex(source), &module(at));
        assert_eq!(found.len(), 1, "{at}: {source}: {found:?}");
    }
}

#[test]
fn downward_imports_are_fine() {
    for (at, source) in [
        (
            "cli::live",
            "use crate::{sinks::json, attach::Options, host, facts::Tier};",
        ),
        (
            "model::feed",
            "use crate::decode::Record; use super::groups::Group;",
        ),
        ("host::netns", "use crate::host::procfs::Procfs;"),
        ("attach", "pub(crate) struct S; use aya::cli::NotOurs;"),
    ] {
        assert_eq!(
            rules::direction(&lex(source), &module(at)),
            [""; 0],
            "{at}: {source}"
        );
    }
}

#[test]
fn impure_names_are_found_in_pure_layers_only() {
    let known: Vec<String> = ["aya", "tokio", "nix", "libc", "log", "hdrhistogram"]
        .map(str::to_owned)
        .to_vec();
    let bad = [
        "use aya::maps::HashMap;",
        "use std::fs::File;",
        "use std::{collections::HashMap, fs};",
        "let t = std::time::Instant::now();",
        "use std::time::SystemTime;",
        "use std::net::TcpStream;",
        "use std::net;",
        "use std::net::*;",
        "fn f() { libc::getpid(); }",
        "use tokio::time::sleep;",
        "use nix::unistd;",
        "use crate::host::clock;",
        "use crate::attach::Trace;",
    ];
    for source in bad {
        for at in ["model", "decode::x"] {
            let found = rules::purity(&lex(source), &module(at), &known);
            assert_eq!(found.len(), 1, "{at}: {source}: {found:?}");
        }
        assert_eq!(
            rules::purity(&lex(source), &module("collect"), &known),
            [""; 0],
            "{source}"
        );
    }
    for source in [
        "use std::net::{IpAddr, Ipv4Addr}; use std::time::Duration;",
        "use hdrhistogram::Histogram; use sockmem_common::SockState;",
        "use crate::decode::Record; use crate::facts::Loss;",
        "let fs = 1; let r = Reason::Unread; // std::fs::File",
    ] {
        assert_eq!(
            rules::purity(&lex(source), &module("model"), &known),
            [""; 0],
            "{source}"
        );
    }
}

#[test]
fn code_under_cfg_test_is_set_apart() {
    let source = "
        fn shipped() { a() }
        #[cfg(test)]
        mod tests { use std::fs; fn t() { println!(\"x\") } }
        #[cfg(test)]
        mod fixture;
        #[cfg(test)]
        #[path = \"other.rs\"]
        pub(crate) mod others;
        #[cfg(not(test))]
        fn also_shipped() {}
    ";
    let (shipped, declared) = without_tests(&lex(source));
    assert_eq!(declared, ["fixture", "others"]);
    let names: Vec<_> = shipped.iter().filter_map(|t| t.ident()).collect();
    assert!(names.contains(&"shipped") && names.contains(&"also_shipped"));
    assert!(!names.contains(&"println") && !names.contains(&"fs"));
    assert!(rules::streams(&shipped, &module("sinks")).is_empty());
}

#[test]
fn writing_to_the_standard_streams_is_found() {
    for (at, source, wrong) in [
        ("sinks", "println!(\"x\");", 1),
        ("cli::run", "print!(\"x\");", 1),
        ("cli::run", "eprintln!(\"x\"); io::stdout().lock();", 0),
        ("host", "eprintln!(\"x\");", 1),
        ("host", "let o = std::io::stdout().lock();", 1),
        ("host", "command.stdout(Stdio::null());", 0),
        (
            "sinks",
            "// println!\nlet s = \"println!(x)\"; writeln!(out, \"x\")",
            0,
        ),
    ] {
        let found = rules::streams(&lex(source), &module(at));
        assert_eq!(found.len(), wrong, "{at}: {source}: {found:?}");
    }
}

#[test]
fn repr_c_is_found_with_its_type() {
    let source = "
        // #[repr(C)] struct No;
        #[repr(C)] #[derive(Clone)] pub struct One { a: u32 }
        #[repr(C, packed)] union Two { a: u32 }
        #[repr(u8)] enum Three { A }
    ";
    let names: Vec<String> = rules::repr_c(&lex(source))
        .into_iter()
        .map(|f| f.0)
        .collect();
    assert_eq!(names, ["One", "Two"]);
}

#[test]
fn numbers_as_offsets_are_found() {
    for source in [
        "let x: u32 = M::read(sk, 232);",
        "let x = Typed::read::<u32>(sk, 0xe8);",
        "copy::<16>(sk, 56, &mut to);",
        "let p = (sk + 24) as *const u32;",
        "let p = unsafe { (sk as *const u8).add(24) };",
        "let p = ptr.byte_add(off as usize + 8);",
        "asm!(\"{v} = *(u64 *)({c} + 112)\", v = out(reg) v);",
        "let x = register!(ctx, 112, 0);",
    ] {
        let found = rules::offsets(&lex(source), false);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
    }
}

#[test]
fn offsets_by_name_are_fine() {
    for source in [
        "let x: u32 = M::read(sk, off!(rmem_alloc)); if x & 0xff == 0 {}",
        "copy::<16>(sk, off!(v6_daddr), &mut st.remote);",
        "let p = (base + off as u64) as *const T;",
        "asm!(\"lock *(u64 *)({p} + 0) += {n}\", p = in(reg) p);",
        "add(&raw mut audit.checks, 1);",
        "let c = arg!(ctx, 2);",
        "fn read<T: Copy>(base: u64, off: u32) -> T;",
    ] {
        assert_eq!(rules::offsets(&lex(source), false), [""; 0], "{source}");
    }
    let registers = "let x = register!(ctx, 112, 0);";
    assert_eq!(rules::offsets(&lex(registers), true), [""; 0]);
}

#[test]
fn dependencies_are_read_from_a_manifest() {
    let manifest = "
        [package]
        name = \"x\"
        [dependencies]
        # comment = 1
        aya.workspace = true
        serde-json = { version = \"1\", optional = true }
        [dependencies.long-name]
        version = \"1\"
        optional = true
        [dev-dependencies]
        proptest = \"1\"
    ";
    let expected: Vec<(String, bool)> = [("aya", false), ("serde_json", true), ("long_name", true)]
        .map(|(name, optional)| (name.to_owned(), optional))
        .to_vec();
    assert_eq!(dependencies(manifest), expected);
}
