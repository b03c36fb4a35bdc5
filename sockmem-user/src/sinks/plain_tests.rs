//! What a person sees, kept as snapshots.

use super::escape;
use super::fixture;
use super::look::Look;
use super::plain::{self, DEFAULT_ROWS, Options, Plain};
use crate::model::View;

fn options(look: Look) -> Options {
    Options {
        target: "pid 4242".to_owned(),
        look,
        rows: Some(DEFAULT_ROWS),
    }
}

fn wide(width: usize) -> Look {
    Look {
        width: Some(width),
        ..Look::default()
    }
}

/// The first block.
fn block(view: &View, options: Options) -> String {
    let mut out = Vec::new();
    Plain::new(options).interval(view, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn summary(view: &View, options: Options) -> String {
    let mut out = Vec::new();
    Plain::new(options).summary(view, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Block and summary.
fn both(view: &View, look: Look) -> String {
    format!(
        "{}=====\n{}",
        block(view, options(look)),
        summary(view, options(look))
    )
}

#[test]
fn empty() {
    insta::assert_snapshot!(both(&fixture::empty(), wide(100)));
}

#[test]
fn everything_closed() {
    let mut view = fixture::empty();
    view.closed = fixture::three_groups().closed;
    insta::assert_snapshot!(both(&view, wide(100)));
}

#[test]
fn stalled_reader_without_a_terminal() {
    insta::assert_snapshot!(both(&fixture::stalled_reader(), Look::default()));
}

#[test]
fn three_groups_160() {
    insta::assert_snapshot!(both(&fixture::three_groups(), wide(160)));
}

#[test]
fn three_groups_80() {
    insta::assert_snapshot!(both(&fixture::three_groups(), wide(80)));
}

#[test]
fn lossy_tracepoints_120() {
    insta::assert_snapshot!(both(&fixture::lossy(), wide(120)));
}

#[test]
fn thirty_sockets_cut_to_twenty() {
    insta::assert_snapshot!(both(&fixture::many(30), wide(120)));
}

#[test]
fn ascii_160() {
    let text = both(
        &fixture::three_groups(),
        Look {
            ascii: true,
            ..wide(160)
        },
    );
    assert!(text.is_ascii());
    insta::assert_snapshot!(text);
}

#[test]
fn weird_names_120() {
    let text = both(&fixture::weird_names(), wide(120));
    assert!(
        text.chars()
            .all(|c| escape::harmless(c) || c == '\n' || c == '\\')
    );
    insta::assert_snapshot!(text);
    assert!(
        both(
            &fixture::weird_names(),
            Look {
                ascii: true,
                ..wide(120)
            }
        )
        .is_ascii()
    );
}

#[test]
fn colour_marks_the_answer_and_the_loss() {
    let look = Look {
        color: true,
        ..wide(120)
    };
    insta::assert_snapshot!(both(&fixture::lossy(), look).replace('\x1b', "^"));
}

#[test]
fn all_sockets_are_shown_when_asked_for() {
    let view = fixture::many(30);
    let all = block(
        &view,
        Options {
            rows: None,
            ..options(wide(120))
        },
    );
    assert!(!all.contains("not shown"));
    for s in &view.sockets {
        assert!(all.contains(&s.remote), "{}", s.remote);
    }
    let cut = block(&view, options(wide(120)));
    assert!(!cut.contains(&view.sockets[DEFAULT_ROWS].remote));
}

#[test]
fn the_legend_is_printed_once() {
    let view = fixture::stalled_reader();
    let mut plain = Plain::new(options(wide(160)));
    let (mut first, mut second) = (Vec::new(), Vec::new());
    plain.interval(&view, &mut first).unwrap();
    plain.interval(&view, &mut second).unwrap();
    let legend = "sk_backlog.rmem_alloc";
    assert!(String::from_utf8(first).unwrap().contains(legend));
    assert!(!String::from_utf8(second).unwrap().contains(legend));
}

#[test]
fn columns_left_out_are_named_when_that_changes() {
    let view = fixture::stalled_reader();
    let mut plain = Plain::new(options(wide(80)));
    let mut lines = Vec::new();
    for width in [80, 80, 60] {
        plain.resize(Some(width));
        let mut out = Vec::new();
        plain.interval(&view, &mut out).unwrap();
        lines.push(String::from_utf8(out).unwrap().contains("too narrow for"));
    }
    assert_eq!(lines, [true, false, true]);
}

#[test]
fn no_line_of_a_table_is_wider_than_the_terminal() {
    for width in [60, 80, 100, 120, 160, 200] {
        for view in [fixture::three_groups(), fixture::lossy(), fixture::many(25)] {
            for line in both(&view, wide(width)).lines() {
                // The prose of the summary breaks between words only.
                assert!(escape::width(line) <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn limits_are_never_under_memory() {
    let text = block(&fixture::stalled_reader(), options(Look::default()));
    let band = text.lines().find(|l| l.contains("LIMITS")).unwrap();
    let titles = text
        .lines()
        .find(|l| l.contains("rcvbuf") && l.contains("remote"))
        .unwrap();
    let column = |line: &str, word: &str| escape::width(&line[..line.find(word).unwrap()]);
    assert!(column(titles, "rcvbuf") >= column(band, "LIMITS"));
    assert!(column(titles, "held idle") < column(band, "LIMITS"));
}

#[test]
fn explain() {
    insta::assert_snapshot!(plain::explain());
}

#[test]
fn owners_beyond_the_rows_are_summed_up() {
    let view = fixture::weird_names();
    let text = block(
        &view,
        Options {
            rows: Some(3),
            ..options(wide(120))
        },
    );
    assert!(
        text.contains("1 more owner not shown; they hold 132 KiB"),
        "{text}"
    );
}
