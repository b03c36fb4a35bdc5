//! What may not be written where, over one file's tokens. Each rule returns sentences, none where all is well.

use crate::lex::{Kind, Token};
use crate::paths::{Path, paths};

/// The layers, top first. A file may name its own layer and those after it; those in one row are
/// siblings and do not know each other.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["sinks"],
    &["recording"],
    &["model"],
    &["decode"],
    &["collect"],
    &["attach"],
    &["kernel", "host"],
    &["facts"],
];

/// Pure layers: fed with values, and knowing nothing of where those come from.
const PURE: &[&str] = &["decode", "model", "recording"];
/// The crate's own modules that a pure layer may name.
const PURE_MODULES: &[&str] = &["decode", "model", "recording", "facts"];
/// Dependencies that do nothing but compute.
const PURE_CRATES: &[&str] = &[
    "sockmem_common",
    "bytes",
    "crc32fast",
    "hashbrown",
    "hdrhistogram",
    "flate2",
    "serde",
    "serde_json",
    "thiserror",
    "unicode_width",
];
/// What of the standard library reaches outside. Addresses and durations do not.
const IMPURE_STD: &[&str] = &[
    "std::fs",
    "std::env",
    "std::os",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
];

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&layer))
}

/// Imports that point upward or sideways. `module` as for `paths`.
pub(crate) fn direction(tokens: &[Token], module: &[String]) -> Vec<String> {
    let Some(own) = module.first() else {
        return Vec::new(); // The root of the library, which only declares.
    };
    let Some(mine) = rank(own) else {
        return vec![format!(
            "module `{own}` is in no layer; give it one in tests/layers/rules.rs"
        )];
    };
    let mut wrong = Vec::new();
    for path in paths(tokens, module) {
        let Some(layer) = path.layer() else { continue };
        let Some(theirs) = rank(layer) else {
            wrong.push(format!(
                "line {}: `{}` is in no layer",
                path.line,
                path.text()
            ));
            continue;
        };
        if theirs < mine || (theirs == mine && layer != own) {
            wrong.push(format!(
                "line {}: `{own}` is below or beside `{layer}` and must not name `{}`",
                path.line,
                path.text()
            ));
        }
    }
    wrong
}

/// What a pure layer may not name. `dependencies` are the crate's own, as Rust writes them.
/// `tokens` are those outside of tests.
pub(crate) fn purity(tokens: &[Token], module: &[String], dependencies: &[String]) -> Vec<String> {
    if !module.first().is_some_and(|m| PURE.contains(&m.as_str())) {
        return Vec::new();
    }
    let why = |path: &Path| -> Option<&'static str> {
        if path.layer().is_some_and(|l| !PURE_MODULES.contains(&l)) {
            return Some("is not pure");
        }
        let root = path.segments.first()?;
        if dependencies.contains(root) && !PURE_CRATES.contains(&root.as_str()) {
            return Some("is a crate that is not pure");
        }
        if IMPURE_STD.iter().any(|p| path.within(p)) {
            return Some("reaches outside");
        }
        // A whole module imported: what is behind it is not seen.
        let whole = ["std::net", "std::time", "std::io"];
        (whole
            .iter()
            .any(|p| path.text() == *p || path.text() == p.replace("std", "core")))
        .then_some("hides what is used of it; name the item")
    };
    paths(tokens, module)
        .iter()
        .filter_map(|path| {
            Some(format!(
                "line {}: `{}` {}",
                path.line,
                path.text(),
                why(path)?
            ))
        })
        .collect()
}

/// Writing to the standard streams. `tokens` are those outside of tests.
pub(crate) fn streams(tokens: &[Token], module: &[String]) -> Vec<String> {
    let in_cli = module.first().is_none_or(|m| m == "cli");
    let mut wrong = Vec::new();
    for pair in tokens.windows(2) {
        let Some(name) = pair[0].ident() else {
            continue;
        };
        let line = pair[0].line;
        match name {
            // They panic where the reader of a pipe has gone.
            "println" | "print" if pair[1].is('!') => wrong.push(format!(
                "line {line}: `{name}!`; cli writes to stdout with error handling"
            )),
            "eprintln" | "eprint" if pair[1].is('!') && !in_cli => wrong.push(format!(
                "line {line}: `{name}!` outside of cli; return an error or log"
            )),
            "stdout" | "stderr" if pair[1].is('(') && !in_cli => {
                // A method of that name (`Command::stdout`) has an argument and a dot before it.
                let at = tokens.iter().position(|t| std::ptr::eq(t, &pair[0]));
                let method = at
                    .and_then(|at| tokens.get(at.checked_sub(1)?))
                    .is_some_and(|t| t.is('.'));
                if !method {
                    wrong.push(format!("line {line}: `{name}()` outside of cli"));
                }
            }
            _ => {}
        }
    }
    wrong
}

/// Names of the types that are `repr(C)`, with their lines.
pub(crate) fn repr_c(tokens: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, window) in tokens.windows(3).enumerate() {
        let is = window[0].ident() == Some("repr")
            && window[1].is('(')
            && window[2].ident() == Some("C");
        if !is {
            continue;
        }
        let name = tokens[at..]
            .windows(2)
            .find(|w| matches!(w[0].ident(), Some("struct" | "union" | "enum")))
            .and_then(|w| w[1].ident());
        found.push((name.unwrap_or("?").to_owned(), window[0].line));
    }
    found
}

/// Numbers where the offset of a kernel field belongs. `LAYOUT` has them, resolved from the
/// running kernel; none is known when the programs are compiled.
///
/// Not meant: arguments of a program's context (`arg!`: an array of 8-byte words, by the
/// verifier's rules), and with `registers` the saved registers of a kprobe
/// (`register!`): the layout of `struct pt_regs` belongs to the ABI of the architecture
/// (uapi/asm/ptrace.h), does not change between kernels, and must be an immediate.
pub(crate) fn offsets(tokens: &[Token], registers: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut complain = |line: usize, what: &str| {
        wrong.push(format!(
            "line {line}: {what}; name the field: `off!(field)`"
        ));
    };
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|i| &tokens[i]);
        match token.ident() {
            // M::read(base, off), M::read::<T>(base, off), copy::<N>(base, off, to)
            Some(name @ ("read" | "copy")) if before.is_none_or(|t| t.ident() != Some("fn")) => {
                let Some(args) = call(tokens, at + 1) else {
                    continue;
                };
                if args.get(1).is_some_and(|arg| has_number(arg)) {
                    complain(token.line, &format!("`{name}` at a number"));
                }
            }
            Some(name @ ("add" | "byte_add" | "offset" | "byte_offset"))
                if before.is_some_and(|t| t.is('.')) =>
            {
                let args = call(tokens, at + 1).unwrap_or_default();
                if args.first().is_some_and(|arg| has_number(arg)) {
                    complain(token.line, &format!("`.{name}` by a number"));
                }
            }
            Some("register") if tokens.get(at + 1).is_some_and(|t| t.is('!')) && !registers => {
                complain(token.line, "`register!` outside of the kprobe tier");
            }
            Some("asm") => {
                let args = call(tokens, at + 2).unwrap_or_default();
                let template = args.first().copied().unwrap_or_default();
                let text: String = template
                    .iter()
                    .filter_map(|t| match &t.kind {
                        Kind::Str(s) => Some(s.as_str()),
                        _ => None,
                    })
                    .collect();
                let number = text.split('+').skip(1).any(|s| {
                    s.trim_start()
                        .starts_with(|c: char| ('1'..='9').contains(&c))
                });
                if number {
                    complain(token.line, "`asm!` with a number added to an address");
                }
            }
            // (base + 24) as *const T
            Some("as")
                if tokens.get(at + 1).is_some_and(|t| t.is('*'))
                    && before.is_some_and(|t| t.is(')'))
                    && has_number(group_before(tokens, at - 1)) =>
            {
                complain(token.line, "a pointer made from a number");
            }
            _ => {}
        }
    }
    wrong
}

fn has_number(tokens: &[Token]) -> bool {
    tokens.iter().any(|t| matches!(t.kind, Kind::Number(_)))
}

/// The arguments of the call whose turbofish or parenthesis is at `at`; `None` where there is no call.
fn call(tokens: &[Token], mut at: usize) -> Option<Vec<&[Token]>> {
    if tokens.get(at)?.kind == Kind::PathSep {
        let mut angle = 0;
        loop {
            at += 1;
            let token = tokens.get(at)?;
            if token.is('<') {
                angle += 1;
            } else if token.is('>') {
                angle -= 1;
                if angle == 0 {
                    at += 1;
                    break;
                }
            }
        }
    }
    if !tokens.get(at)?.is('(') {
        return None;
    }
    let (mut depth, mut from) = (0, at + 1);
    let mut args = Vec::new();
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.kind {
            Kind::Punct('(' | '[' | '{') => depth += 1,
            Kind::Punct(')' | ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    args.push(&tokens[from..i]);
                    return Some(args);
                }
            }
            Kind::Punct(',') if depth == 1 => {
                args.push(&tokens[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    None
}

/// The inside of the parentheses that close at `end`.
fn group_before(tokens: &[Token], end: usize) -> &[Token] {
    let mut depth = 0;
    for i in (0..=end).rev() {
        if tokens[i].is(')') {
            depth += 1;
        } else if tokens[i].is('(') {
            depth -= 1;
            if depth == 0 {
                return &tokens[i..end];
            }
        }
    }
    &[]
}
