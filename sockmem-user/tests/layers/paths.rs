//! The paths that a source file names, `use` groups taken apart and `super` resolved.

use crate::lex::{Kind, Token};

/// A path as absolute segments: the first is `crate` or the name of another crate (or of
/// something local, which no rule is about).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl Path {
    /// As written in messages.
    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }

    /// The module below the crate's root; `None` for other crates' paths.
    pub(crate) fn layer(&self) -> Option<&str> {
        match self.segments.as_slice() {
            [root, layer, ..] if root == "crate" => Some(layer),
            _ => None,
        }
    }

    /// Whether it is `prefix` or leads into it; `std::fs` covers `std::fs::File`, and `core` counts as `std`.
    pub(crate) fn within(&self, prefix: &str) -> bool {
        let mut mine = self.segments.iter().map(|s| match s.as_str() {
            "core" => "std",
            other => other,
        });
        prefix.split("::").all(|part| mine.next() == Some(part))
    }
}

/// Every path with at least two segments, and every imported one, of a file that is the module
/// `module` (segments below the crate's root, `["host", "netns"]`).
pub(crate) fn paths(tokens: &[Token], module: &[String]) -> Vec<Path> {
    let mut out = Vec::new();
    // Inline modules, each with the depth of braces at which it ends.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        if token.is('{') {
            depth += 1;
        } else if token.is('}') {
            depth -= 1;
            if inline.last().is_some_and(|(_, end)| *end == depth) {
                inline.pop();
            }
        }
        if token.ident() == Some("mod")
            && let Some(name) = tokens.get(at + 1).and_then(Token::ident)
            && tokens.get(at + 2).is_some_and(|t| t.is('{'))
        {
            inline.push((name.to_owned(), depth));
        }
        let begins = match at.checked_sub(1).map(|before| &tokens[before]) {
            Some(before) => before.kind != Kind::PathSep && !before.is('.'),
            None => true,
        };
        let import = token.ident() == Some("use");
        let path =
            token.ident().is_some() && tokens.get(at + 1).is_some_and(|t| t.kind == Kind::PathSep);
        if begins && (import || path) {
            let here: Vec<String> = module
                .iter()
                .cloned()
                .chain(inline.iter().map(|(name, _)| name.clone()))
                .collect();
            let from = if import { at + 1 } else { at };
            let mut found = Vec::new();
            at = tree(tokens, from, &mut Vec::new(), &mut found);
            out.extend(found.into_iter().map(|p| absolute(p, &here)));
            continue;
        }
        at += 1;
    }
    out
}

/// One use-tree (or the path of an expression) from `at`; returns where it ends.
fn tree(tokens: &[Token], mut at: usize, prefix: &mut Vec<String>, out: &mut Vec<Path>) -> usize {
    let kept = prefix.len();
    let line = tokens.get(at).map_or(0, |t| t.line);
    if tokens.get(at).is_some_and(|t| t.kind == Kind::PathSep) {
        at += 1;
    }
    loop {
        match tokens.get(at).map(|t| &t.kind) {
            Some(Kind::Ident(name)) => {
                prefix.push(name.clone());
                at += 1;
            }
            Some(Kind::Punct('*')) => at += 1,
            Some(Kind::Punct('{')) => {
                at += 1;
                while tokens.get(at).is_some_and(|t| !t.is('}')) {
                    at = tree(tokens, at, prefix, out);
                    // `as name`, then the comma.
                    while tokens.get(at).is_some_and(|t| !t.is(',') && !t.is('}')) {
                        at += 1;
                    }
                    if tokens.get(at).is_some_and(|t| t.is(',')) {
                        at += 1;
                    }
                }
                prefix.truncate(kept);
                return at + 1;
            }
            _ => break,
        }
        if tokens.get(at).is_some_and(|t| t.kind == Kind::PathSep) {
            at += 1;
        } else {
            break;
        }
    }
    if prefix.len() > kept || kept > 0 {
        let segments = prefix.clone();
        out.push(Path { segments, line });
    }
    prefix.truncate(kept);
    // A group of nothing, or something that is no path at all: go on behind it.
    at
}

/// `self` and `super` replaced by what they stand for in module `here`.
fn absolute(path: Path, here: &[String]) -> Path {
    let mut rest = path.segments.iter().peekable();
    let mut base: Option<Vec<String>> = None;
    while let Some(first) = rest.peek() {
        match first.as_str() {
            "self" if base.is_none() => base = Some(here.to_vec()),
            "super" => {
                base.get_or_insert_with(|| here.to_vec()).pop();
            }
            _ => break,
        }
        rest.next();
    }
    let segments = match base {
        Some(base) => std::iter::once("crate".to_owned())
            .chain(base)
            .chain(rest.cloned())
            .collect(),
        None => path.segments,
    };
    Path { segments, ..path }
}
