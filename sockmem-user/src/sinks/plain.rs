//! The view without a full screen: one block of lines per interval, for a pipe,
//! a log, or a terminal with `--plain`.
//!
//! ```text
//! sockmem-trace · pid 4242 · 12s · 2026-01-02 03:04:05Z · fentry hooks · every counter exact · lost 0 of 12,345 changes
//! RESIDENT 1.3 MiB = rmem_alloc 1.2 MiB + wmem_queued 88.0 KiB + forward_alloc 4096 B · peak 2.0 MiB
//! 12 sockets, 7 of them idle holding 1.2 MiB · payload: unread 800 KiB, unacked 12.0 KiB · backlog 0 B
//!
//! OWNER        sockets  idle  RESIDENT … peak  mean  held idle  timeline  answer
//! nginx[4242]       12     7   1.3 MiB …
//!
//! local  remote  state  RESIDENT  rmem_alloc … unread  unacked  peak  timeline  idle for  held idle │ rcvbuf  sndbuf
//! …                                                                             (limits apart, never among usage)
//! ```

use std::io::{self, Write};

use super::header::{coverage_fact, loss_facts, tier_words};
use super::look::{Look, Style};
use super::{columns, groups, summary, text};
use crate::model::{SocketView, View};

/// Rows of sockets on a terminal, unless asked for more.
pub const DEFAULT_ROWS: usize = 20;

/// How to print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is traced, in words; unescaped.
    pub target: String,
    /// Width, character set, colour.
    pub look: Look,
    /// At most so many sockets, and owners, in a table; `None`: all.
    pub rows: Option<usize>,
}

/// Prints the blocks of one trace.
#[derive(Debug)]
pub struct Plain {
    options: Options,
    /// Columns left out of the last block's table; `None` before the first.
    dropped: Option<Vec<String>>,
}

impl Plain {
    /// A printer that has printed nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Plain {
            options,
            dropped: None,
        }
    }

    /// The terminal has another width from now on.
    pub fn resize(&mut self, width: Option<usize>) {
        self.options.look.width = width;
    }

    /// Prints the interval that ends now. The first block also says which kernel
    /// field each column is.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn interval(&mut self, view: &View, out: &mut impl Write) -> io::Result<()> {
        let look = &self.options.look;
        let mut block = header(view, &self.options);
        block.push_str(&totals(view, look));
        if self.dropped.is_none() {
            block.push_str(&legend(look));
        }
        if view.totals.sockets == 0 {
            block.push('\n');
            let seen = view.groups.iter().any(|g| g.sockets_seen > 0);
            let nothing = if view.closed.is_empty() && !seen {
                "No TCP socket of the target has been seen yet."
            } else {
                "No TCP socket of the target is open now; all that were seen have closed."
            };
            block.push_str(&look.prose(nothing, 0));
            block.push_str("\n\n");
            self.dropped.get_or_insert_default();
            return out.write_all(block.as_bytes());
        }
        block.push('\n');
        block.push_str(&groups::now(view, self.options.rows, look).text);
        block.push('\n');
        let rows = self
            .options
            .rows
            .unwrap_or(usize::MAX)
            .min(view.sockets.len());
        let shown: Vec<&SocketView> = view.sockets[..rows].iter().collect();
        let table = columns::now(view, &shown, look);
        block.push_str(&table.text);
        // The view may hold no more than are shown.
        let rest = view.totals.sockets.saturating_sub(rows as u64);
        if rest > 0 {
            let held: u64 = shown.iter().map(|s| s.resident).sum();
            let held = view.totals.resident.saturating_sub(held);
            let line = format!(
                "{} not shown; they hold {} (--all-sockets shows every one)",
                text::counted(rest, "more socket", "more sockets"),
                text::bytes(held)
            );
            block.push_str(&look.paint(Style::Faint, &look.prose(&line, 2)));
            block.push('\n');
        }
        if !table.dropped.is_empty() && self.dropped.as_ref() != Some(&table.dropped) {
            let line = format!(
                "too narrow for: {} (a wider terminal or --format json shows them)",
                table.dropped.join(", ")
            );
            block.push_str(&look.paint(Style::Faint, &look.prose(&line, 2)));
            block.push('\n');
        }
        block.push('\n');
        self.dropped = Some(table.dropped);
        out.write_all(block.as_bytes())
    }

    /// Prints the closing summary: the answer, then what it rests on.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn summary(&self, view: &View, out: &mut impl Write) -> io::Result<()> {
        out.write_all(summary::render(view, &self.options).as_bytes())
    }
}

/// What `--explain` prints: every field with its kernel field, unit and meaning, who is said
/// to own a socket, and which columns a narrow table keeps.
#[must_use]
pub fn explain() -> String {
    let order = text::wrap(&columns::kept_order().join(", "), 78, 2);
    format!(
        "{}\nNARROW TERMINALS\n  Columns are kept in this order, as far as they fit:\n  {order}\n",
        super::fields::explain()
    )
}

/// What is traced, for how long, and how complete the numbers are.
fn header(view: &View, options: &Options) -> String {
    let look = &options.look;
    let mut facts = vec![
        (Style::Strong, "sockmem-trace".to_owned()),
        (Style::Strong, look.foreign(&options.target).into_owned()),
        (Style::Plain, text::span(view.duration_ns)),
        (Style::Plain, text::moment(view.now_unix_ns)),
        (Style::Plain, tier_words(view.tier).to_owned()),
        coverage_fact(view),
    ];
    facts.extend(loss_facts(&view.loss));
    look.facts(&facts) + "\n"
}

fn totals(view: &View, look: &Look) -> String {
    let t = &view.totals;
    let fact = |s: String| (Style::Plain, s);
    let term = |name: &str, size: String| format!("{} {size}", groups::marked(view, name, name));
    let memory = [
        (
            Style::Strong,
            format!(
                "{} {} = {} + {} + {}",
                groups::marked(view, "RESIDENT", "resident"),
                text::bytes(t.resident),
                term("rmem_alloc", text::bytes(t.rmem_alloc)),
                term("wmem_queued", text::bytes(t.wmem_queued)),
                term("forward_alloc", text::signed_bytes(t.forward_alloc))
            ),
        ),
        fact(format!("peak {}", text::bytes(view.resident_peak_bytes))),
    ];
    let rest = [
        fact(format!(
            "{}, {} idle holding {}",
            text::counted(t.sockets, "socket", "sockets"),
            text::count(t.idle_sockets),
            text::bytes(t.idle_resident)
        )),
        fact(format!(
            "payload: unread {}, unacked {}",
            text::bytes(t.unread_bytes),
            text::bytes(t.unacked_bytes)
        )),
        fact(format!("backlog {}", text::maybe_bytes(t.backlog))),
    ];
    format!("{}\n{}\n", look.facts(&memory), look.facts(&rest))
}

/// Which kernel field each column is.
fn legend(look: &Look) -> String {
    let mut facts: Vec<(Style, String)> = columns::legend()
        .into_iter()
        .map(|entry| (Style::Faint, entry))
        .collect();
    facts.push((
        Style::Faint,
        "each timeline is drawn to its own peak".to_owned(),
    ));
    for words in [
        "unaccepted: waits for the listener's accept()",
        "orphan: closed by its process, not freed by the kernel",
        "- is not known",
        "--explain says more",
    ] {
        facts.push((Style::Faint, words.to_owned()));
    }
    // One line of it would be unreadable in a log, too.
    Look {
        width: look.width.or(Some(120)),
        ..*look
    }
    .facts(&facts)
        + "\n"
}
