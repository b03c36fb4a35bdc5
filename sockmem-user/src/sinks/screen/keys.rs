//! The one table of keys: what is pressed, what it does, where. The state machine looks keys up
//! in it, the help and the footer are printed from it, and `docs/LIVE.md` is checked against it.

use std::fmt::Write as _;

/// A key, as far as the screen cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character without Ctrl.
    Char(char),
    /// A character with Ctrl.
    Ctrl(char),
    /// Arrow.
    Up,
    /// Arrow.
    Down,
    /// Arrow.
    Left,
    /// Arrow.
    Right,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// Return.
    Enter,
    /// Escape.
    Esc,
    /// Backspace.
    Backspace,
    /// Tab.
    Tab,
}

impl Key {
    /// As on a keyboard.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Key::Char(' ') => "space".to_owned(),
            Key::Char(c) => c.to_string(),
            Key::Ctrl(c) => format!("Ctrl-{}", c.to_ascii_uppercase()),
            Key::Up => "Up".to_owned(),
            Key::Down => "Down".to_owned(),
            Key::Left => "Left".to_owned(),
            Key::Right => "Right".to_owned(),
            Key::PageUp => "PgUp".to_owned(),
            Key::PageDown => "PgDn".to_owned(),
            Key::Home => "Home".to_owned(),
            Key::End => "End".to_owned(),
            Key::Enter => "Enter".to_owned(),
            Key::Esc => "Esc".to_owned(),
            Key::Backspace => "Backspace".to_owned(),
            Key::Tab => "Tab".to_owned(),
        }
    }
}

/// What the mouse did; places are cells from the top left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mouse {
    /// The left button was pressed.
    Click {
        /// Column.
        x: u16,
        /// Row.
        y: u16,
    },
    /// The wheel went towards the user.
    WheelDown,
    /// The wheel went away from the user.
    WheelUp,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Selects the row above.
    Up,
    /// Selects the row below.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// The first row, and stays there.
    First,
    /// The last row.
    Last,
    /// Into the selected row.
    Open,
    /// Back out.
    Back,
    /// Types a filter.
    Filter,
    /// Sorts by the next column.
    Sort,
    /// Turns the order round.
    Reverse,
    /// Groups by the next kind of owner.
    Group,
    /// Stops the picture, or starts it.
    Pause,
    /// The whole answer, as it will be printed at the end.
    Answer,
    /// Starts or stops recording.
    Record,
    /// Lets the terminal have the mouse, or takes it.
    Mouse,
    /// Help.
    Help,
    /// Draws everything anew.
    Redraw,
    /// Hands the terminal back to the shell for a while.
    Suspend,
    /// Ends.
    Quit,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Any of them.
    pub keys: &'static [Key],
    /// What it does.
    pub action: Action,
    /// In help.
    pub help: &'static str,
    /// In the footer, where it is named there.
    pub short: Option<&'static str>,
}

const fn binding(
    keys: &'static [Key],
    action: Action,
    short: Option<&'static str>,
    help: &'static str,
) -> Binding {
    Binding {
        keys,
        action,
        help,
        short,
    }
}

/// Every key, in the order of help.
pub static BINDINGS: &[Binding] = &[
    binding(
        &[Key::Up, Key::Char('k')],
        Action::Up,
        None,
        "select the row above; in a text, scroll up",
    ),
    binding(
        &[Key::Down, Key::Char('j')],
        Action::Down,
        None,
        "select the row below; in a text, scroll down",
    ),
    binding(
        &[Key::PageUp, Key::Ctrl('b')],
        Action::PageUp,
        None,
        "a page up; scrolls the details where they are open",
    ),
    binding(
        &[Key::PageDown, Key::Ctrl('f')],
        Action::PageDown,
        None,
        "a page down; scrolls the details where they are open",
    ),
    binding(
        &[Key::Home],
        Action::First,
        None,
        "the first row, and whichever will be first later",
    ),
    binding(
        &[Key::End, Key::Char('G')],
        Action::Last,
        None,
        "the last row",
    ),
    binding(
        &[Key::Enter, Key::Right],
        Action::Open,
        Some("details"),
        "open: the details of a socket, the sockets of a group",
    ),
    binding(
        &[Key::Esc, Key::Left, Key::Backspace],
        Action::Back,
        Some("back"),
        "back: closes what is open, leaves a group, drops the filter",
    ),
    binding(
        &[Key::Char('/')],
        Action::Filter,
        Some("filter"),
        "filter: rows that hold every word; !word: that do not hold it",
    ),
    binding(
        &[Key::Char('s')],
        Action::Sort,
        Some("sort"),
        "sort by the next column (or click on its title)",
    ),
    binding(
        &[Key::Char('S')],
        Action::Reverse,
        None,
        "turn the order round",
    ),
    binding(
        &[Key::Char('g')],
        Action::Group,
        Some("group"),
        "group by process, listener, remote address, cgroup; then sockets again",
    ),
    binding(
        &[Key::Char(' ')],
        Action::Pause,
        Some("pause"),
        "pause the picture, or go on; the trace always goes on",
    ),
    binding(
        &[Key::Char('a')],
        Action::Answer,
        Some("answer"),
        "the whole answer so far, as it is printed at the end",
    ),
    binding(
        &[Key::Char('r')],
        Action::Record,
        None,
        "record into a file of the current folder, or stop recording",
    ),
    binding(
        &[Key::Char('m')],
        Action::Mouse,
        None,
        "leave the mouse to the terminal (to select text), or take it",
    ),
    binding(
        &[Key::Ctrl('l')],
        Action::Redraw,
        None,
        "draw everything anew",
    ),
    binding(
        &[Key::Ctrl('z')],
        Action::Suspend,
        None,
        "suspend: back to the shell; fg returns",
    ),
    binding(
        &[Key::Char('?'), Key::Char('h')],
        Action::Help,
        Some("help"),
        "this help",
    ),
    binding(
        &[Key::Char('q'), Key::Ctrl('c')],
        Action::Quit,
        Some("quit"),
        "quit, and print the answer",
    ),
];

/// What the key does.
#[must_use]
pub fn action(key: Key) -> Option<Action> {
    BINDINGS
        .iter()
        .find(|b| b.keys.contains(&key))
        .map(|b| b.action)
}

/// The key and its word in the footer.
pub(super) fn short(action: Action) -> Option<(String, &'static str)> {
    let b = BINDINGS.iter().find(|b| b.action == action)?;
    Some((b.keys.first()?.name(), b.short?))
}

fn names(b: &Binding) -> String {
    let names: Vec<String> = b.keys.iter().map(|k| k.name()).collect();
    names.join(", ")
}

/// One line a row: keys, and what they do.
pub(super) fn help() -> Vec<(String, &'static str)> {
    BINDINGS.iter().map(|b| (names(b), b.help)).collect()
}

/// The table as Markdown, as in `docs/LIVE.md`.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from("| Key | What it does |\n|---|---|\n");
    for b in BINDINGS {
        let keys: Vec<String> = b.keys.iter().map(|k| format!("`{}`", k.name())).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} | {} |", keys.join(" "), b.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things() {
        let mut seen: Vec<Key> = Vec::new();
        for b in BINDINGS {
            assert!(!b.keys.is_empty() && !b.help.is_empty());
            for key in b.keys {
                assert!(!seen.contains(key), "{key:?}");
                seen.push(*key);
                assert_eq!(action(*key), Some(b.action));
            }
        }
        assert_eq!(action(Key::Char('Z')), None);
    }

    #[test]
    fn the_keys_that_people_know_are_there() {
        for (key, wanted) in [
            (Key::Char('j'), Action::Down),
            (Key::Char('k'), Action::Up),
            (Key::Char('/'), Action::Filter),
            (Key::Char(' '), Action::Pause),
            (Key::Char('q'), Action::Quit),
            (Key::Ctrl('c'), Action::Quit),
            (Key::Esc, Action::Back),
        ] {
            assert_eq!(action(key), Some(wanted));
        }
    }
}
