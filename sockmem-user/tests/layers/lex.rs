//! Rust source as tokens: enough to tell code from comments and strings.

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or keyword.
    Ident(String),
    /// A literal that starts with a digit.
    Number(String),
    /// The inside of a string literal of any sort.
    Str(String),
    /// `::`
    PathSep,
    /// Any other single character.
    Punct(char),
}

/// A token and the line it starts on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn ident(&self) -> Option<&str> {
        match &self.kind {
            Kind::Ident(s) => Some(s),
            _ => None,
        }
    }

    pub(crate) fn is(&self, c: char) -> bool {
        self.kind == Kind::Punct(c)
    }
}

/// Takes source apart. Comments vanish; lifetimes and character literals too.
pub(crate) fn lex(source: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        chars: source.chars().collect(),
        at: 0,
        line: 1,
        out: Vec::new(),
    };
    while lexer.step() {}
    lexer.out
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    out: Vec<Token>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn next(&mut self) -> char {
        let c = self.peek(0);
        if c == '\n' {
            self.line += 1;
        }
        self.at += 1;
        c
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.out.push(Token { kind, line });
    }

    fn step(&mut self) -> bool {
        if self.at >= self.chars.len() {
            return false;
        }
        let line = self.line;
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.next();
                }
            }
            ('/', '*') => self.block_comment(),
            (':', ':') => {
                self.at += 2;
                self.push(Kind::PathSep, line);
            }
            ('"', _) => self.string(),
            ('\'', _) => self.quote(),
            (c, _) if c.is_whitespace() => {
                self.next();
            }
            (c, _) if c.is_ascii_digit() => {
                let text = self.word();
                self.push(Kind::Number(text), line);
            }
            (c, _) if c == '_' || c.is_alphabetic() => self.name(),
            (c, _) => {
                self.next();
                self.push(Kind::Punct(c), line);
            }
        }
        true
    }

    fn word(&mut self) -> String {
        let mut text = String::new();
        while self.peek(0) == '_' || self.peek(0).is_alphanumeric() {
            text.push(self.next());
        }
        text
    }

    /// An identifier, or the prefix of a string (`r"`, `br#"`, `c"`, `b'`).
    fn name(&mut self) {
        let line = self.line;
        let text = self.word();
        let prefix = matches!(text.as_str(), "r" | "b" | "br" | "c" | "cr");
        match self.peek(0) {
            '"' if prefix && text.ends_with('r') => self.raw_string(),
            '"' if prefix => self.string(),
            '\'' if text == "b" => self.quote(),
            '#' if prefix && text.ends_with('r') && matches!(self.peek(1), '#' | '"') => {
                self.raw_string();
            }
            _ => self.push(Kind::Ident(text), line),
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.next();
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let line = self.line;
        let mut text = String::new();
        self.next();
        while self.at < self.chars.len() {
            match self.next() {
                '"' => break,
                '\\' => {
                    self.next();
                }
                c => text.push(c),
            }
        }
        self.push(Kind::Str(text), line);
    }

    fn raw_string(&mut self) {
        let line = self.line;
        let mut hashes = 0;
        while self.peek(0) == '#' {
            self.next();
            hashes += 1;
        }
        self.next();
        let mut text = String::new();
        while self.at < self.chars.len() {
            if self.peek(0) == '"' && (1..=hashes).all(|n| self.peek(n) == '#') {
                self.at += 1 + hashes;
                break;
            }
            text.push(self.next());
        }
        self.push(Kind::Str(text), line);
    }

    /// A lifetime or a character literal.
    fn quote(&mut self) {
        self.next();
        if self.peek(0) == '\\' {
            self.at += 2;
            while self.at < self.chars.len() && self.next() != '\'' {}
        } else if self.peek(1) == '\'' {
            self.at += 2;
        } else {
            self.word();
        }
    }
}

/// The tokens without items under `#[cfg(test)]` that have a body in braces, and the names of the
/// modules that are declared under it (`#[cfg(test)] mod tests;`).
pub(crate) fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let mut out = Vec::new();
    let mut declared = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !is_cfg_test(&tokens[at..]) {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // To the item's end: a `;`, or the brace that closes its body.
        let (mut depth, mut name) = (0i32, None);
        while at < tokens.len() {
            let token = &tokens[at];
            if depth == 0 && token.ident() == Some("mod") {
                name = tokens.get(at + 1).and_then(Token::ident).map(str::to_owned);
            }
            at += 1;
            if token.is('{') {
                depth += 1;
            } else if token.is('}') {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            } else if token.is(';') && depth == 0 {
                declared.extend(name);
                break;
            }
        }
    }
    (out, declared)
}

fn is_cfg_test(tokens: &[Token]) -> bool {
    const SHAPE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    tokens.len() >= SHAPE.len()
        && SHAPE.iter().zip(tokens).all(|(want, token)| {
            token.ident() == Some(want) || want.chars().next().is_some_and(|c| token.is(c))
        })
}
