//! The screen as a person sees it, kept as snapshots, and what keys do.

use std::sync::Arc;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::keys::{BINDINGS, Key, Mouse};
use super::{App, Effect, Options, Picture, Recording};
use crate::model::{Limit, LimitCause, LimitChange, SocketView, View};
use crate::sinks::escape;
use crate::sinks::fixture;
use crate::sinks::look::Look;

const S: u64 = 1_000_000_000;

fn options(look: Look) -> Options {
    Options {
        target: "pid 4242".to_owned(),
        look,
        notes: vec!["sizes of sent buffers (tcp_stream_alloc_skb: not there)".to_owned()],
    }
}

fn picture(view: View) -> Arc<Picture> {
    Arc::new(Picture {
        view,
        host_tcp_bytes: Some(4_538_368),
        recording: None,
        said: None,
    })
}

fn app_with(view: View, look: Look) -> App {
    let mut app = App::new(options(look));
    app.show(&picture(view));
    app
}

fn app(view: View) -> App {
    app_with(view, Look::default())
}

fn terminal(app: &mut App, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| app.draw(frame.area(), frame.buffer_mut()))
        .unwrap();
    terminal
}

/// What is on the screen, line by line without what is blank at the end.
fn frame(app: &mut App, width: u16, height: u16) -> String {
    let terminal = terminal(app, width, height);
    let buffer = terminal.backend().buffer();
    let mut out = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // Behind a wide one there is a cell that is not seen.
            x += escape::width(symbol).max(1) as u16;
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn press(app: &mut App, keys: &str) -> Option<Effect> {
    let mut last = None;
    for c in keys.chars() {
        last = app.key(match c {
            '\n' => Key::Enter,
            '\x1b' => Key::Esc,
            '\x08' => Key::Backspace,
            c => Key::Char(c),
        });
    }
    last
}

/// `view` after `seconds` more, its first socket holding more by the second.
fn later(view: &View, seconds: u64) -> View {
    let mut view = view.clone();
    view.duration_ns += seconds * S;
    view.now_unix_ns += seconds * S;
    for s in view.sockets.iter_mut().chain(&mut view.closed) {
        s.last_seen_ns += seconds * S;
    }
    if let Some(s) = view.sockets.first_mut() {
        s.rmem_alloc = s.rmem_alloc * (1 + seconds % 10) / 8;
        s.wmem_queued = 8_960 * (seconds % 7);
        s.resident = s.rmem_alloc + s.wmem_queued + s.forward_alloc.unsigned_abs();
        s.idle = seconds > 14;
        s.limits.push(LimitChange {
            at_ns: s.first_seen_ns + 20 * S,
            what: Limit::Sndbuf,
            from: 87_040,
            to: 43_520,
            cause: LimitCause::Setsockopt,
            observed: false,
            option: None,
            asked: None,
            by: None,
        });
        s.sndbuf = Some(if seconds > 8 { 43_520 } else { 87_040 });
        s.rcvbuf = Some(524_288);
    }
    view
}

/// The details of the first socket, after half a minute of pictures.
fn detailed(look: Look, height: u16) -> App {
    let view = fixture::three_groups();
    let mut app = app_with(view.clone(), look);
    frame(&mut app, 120, height);
    press(&mut app, "\n");
    for seconds in 1..=30 {
        app.show(&picture(later(&view, seconds)));
    }
    app
}

fn paused(view: &View) -> App {
    let mut app = app(view.clone());
    press(&mut app, " ");
    app.show(&picture(later(view, 3)));
    app
}

macro_rules! snapshots {
    ($($name:ident, $app:expr, $width:literal, $height:literal;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(frame(&mut $app, $width, $height));
        }
    )*};
}

snapshots! {
    waiting_80, App::new(options(Look::default())), 80, 24;
    empty_80, app(fixture::empty()), 80, 24;
    empty_120, app(fixture::empty()), 120, 40;
    busy_80, app(fixture::three_groups()), 80, 24;
    busy_120, app(fixture::three_groups()), 120, 40;
    busy_very_wide, app(fixture::three_groups()), 260, 50;
    many_80, app(fixture::many(100)), 80, 24;
    lossy_80, app(fixture::lossy()), 80, 24;
    lossy_120, app(fixture::lossy()), 120, 40;
    paused_80, paused(&fixture::three_groups()), 80, 24;
    paused_120, paused(&fixture::three_groups()), 120, 40;
    detail_80, detailed(Look::default(), 24), 80, 24;
    detail_120, detailed(Look::default(), 40), 120, 40;
    detail_ascii_120, detailed(Look { ascii: true, ..Look::default() }, 40), 120, 40;
    weird_names_120, app(fixture::weird_names()), 120, 24;
    ascii_80, app_with(fixture::three_groups(), Look { ascii: true, ..Look::default() }), 80, 24;
}

#[test]
fn owners_120() {
    let mut app = app(fixture::three_groups());
    press(&mut app, "g");
    insta::assert_snapshot!(frame(&mut app, 120, 24));
}

#[test]
fn remote_addresses_80() {
    let mut app = app(fixture::three_groups());
    press(&mut app, "ggg");
    insta::assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn help_80() {
    let mut app = app(fixture::lossy());
    press(&mut app, "?");
    insta::assert_snapshot!(frame(&mut app, 80, 50));
}

#[test]
fn answer_80() {
    let mut app = app(fixture::three_groups());
    press(&mut app, "a");
    insta::assert_snapshot!(frame(&mut app, 80, 40));
}

#[test]
fn filter_is_typed_kept_and_dropped() {
    let mut app = app(fixture::three_groups());
    press(&mut app, "/postgresx\x08");
    let typed = frame(&mut app, 80, 24);
    assert!(typed.contains("filter /postgres"), "{typed}");
    assert!(typed.contains("SOCKETS 1, by RESIDENT, filter /postgres"));
    assert_eq!(press(&mut app, "q"), None, "a letter of the filter");
    assert!(frame(&mut app, 80, 24).contains("No row fits the filter"));
    press(&mut app, "\x08\n");
    assert!(frame(&mut app, 80, 24).contains("q quit"));
    press(&mut app, "\x1b");
    let all = frame(&mut app, 80, 24);
    assert!(all.contains("SOCKETS 6, by RESIDENT ─"), "{all}");
}

/// The row that is marked.
fn marked(app: &mut App) -> String {
    let frame = frame(app, 120, 40);
    let mut lines = frame.lines().filter(|l| l.starts_with('>'));
    let line = lines.next().unwrap_or_default().to_owned();
    assert_eq!(lines.next(), None, "one row is selected");
    line
}

#[test]
fn the_selected_socket_stays_selected_when_the_order_changes() {
    let view = fixture::many(5);
    let mut app = app(view.clone());
    assert!(marked(&mut app).contains("10.0.0.9:51325"), "the first");
    press(&mut app, "j");
    assert!(marked(&mut app).contains("10.0.0.9:51324"));
    press(&mut app, "S");
    assert!(marked(&mut app).contains("10.0.0.9:51324"));
    // Back to the first row, whichever that is.
    app.key(Key::Home);
    press(&mut app, "S");
    assert!(marked(&mut app).contains("10.0.0.9:51325"));
    // It goes away: what took its place is selected.
    press(&mut app, "jj");
    assert!(marked(&mut app).contains("10.0.0.9:51323"));
    let mut less = view;
    less.sockets.retain(|s| s.id != 3);
    app.show(&picture(less));
    assert!(marked(&mut app).contains("10.0.0.9:51322"));
}

#[test]
fn an_open_socket_that_goes_away_stays_open() {
    let view = fixture::many(5);
    let mut app = app(view.clone());
    press(&mut app, "j\n");
    let mut gone = view;
    gone.duration_ns += S;
    gone.sockets.retain(|s| s.id != 4);
    app.show(&picture(gone));
    let seen = frame(&mut app, 120, 40);
    assert!(seen.contains("10.0.0.9:51324 (gone)"), "{seen}");
    assert!(!seen.lines().any(|l| l.starts_with('>')), "{seen}");
    press(&mut app, "\x1b");
    assert!(marked(&mut app).contains("10.0.0.9:51323"));
}

#[test]
fn a_paused_screen_does_not_change_and_goes_on_with_the_newest() {
    let view = fixture::three_groups();
    let mut app = paused(&view);
    let first = frame(&mut app, 80, 24);
    assert!(first.contains("PAUSED 3s ago"), "{first}");
    app.show(&picture(later(&view, 9)));
    let second = frame(&mut app, 80, 24);
    assert_eq!(first.replace("3s ago", "9s ago"), second);
    press(&mut app, " ");
    let on = frame(&mut app, 80, 24);
    assert!(!on.contains("PAUSED") && on.contains("21s"), "{on}");
}

#[test]
fn groups_are_gone_into_and_left() {
    let mut app = app(fixture::three_groups());
    press(&mut app, "g\n");
    let inside = frame(&mut app, 120, 24);
    assert!(inside.contains("SOCKETS 3 of nginx[4242]"), "{inside}");
    press(&mut app, "\n");
    assert!(frame(&mut app, 120, 24).contains("cookie"));
    press(&mut app, "\x1b\x1b");
    assert!(marked(&mut app).contains("nginx[4242]"));
    press(&mut app, "gggg");
    assert!(frame(&mut app, 120, 24).contains("SOCKETS 6"));
}

#[test]
fn keys_that_only_the_terminals_owner_can_obey() {
    let mut app = app(fixture::three_groups());
    for (key, effect) in [
        (Key::Char('q'), Effect::Quit),
        (Key::Ctrl('c'), Effect::Quit),
        (Key::Ctrl('z'), Effect::Suspend),
        (Key::Ctrl('l'), Effect::Redraw),
        (Key::Char('r'), Effect::Record),
        (Key::Char('m'), Effect::Mouse(false)),
        (Key::Char('m'), Effect::Mouse(true)),
    ] {
        assert_eq!(app.key(key), Some(effect), "{key:?}");
    }
    // Also while a filter is typed or a text is read.
    press(&mut app, "/x");
    assert_eq!(app.key(Key::Ctrl('c')), Some(Effect::Quit));
    press(&mut app, "\n?");
    assert_eq!(press(&mut app, "q"), None, "closes the help");
    assert_eq!(press(&mut app, "q"), Some(Effect::Quit));
}

#[test]
fn a_click_selects_a_second_one_opens_and_titles_sort() {
    let mut app = app(fixture::many(5));
    let seen = frame(&mut app, 120, 40);
    let at = |words: &str| {
        let (y, line) = seen
            .lines()
            .enumerate()
            .find(|(_, l)| l.contains(words))
            .unwrap();
        let x = line[..line.find(words).unwrap()].chars().count();
        Mouse::Click {
            x: x as u16,
            y: y as u16,
        }
    };
    app.mouse(at("10.0.0.9:51322"));
    assert!(marked(&mut app).contains("10.0.0.9:51322"));
    app.mouse(at("idle for"));
    assert!(frame(&mut app, 120, 40).contains("by idle for"));
    app.mouse(at("idle for"));
    assert!(frame(&mut app, 120, 40).contains("by idle for, turned round"));
    app.mouse(Mouse::WheelDown);
    let selected = marked(&mut app);
    let seen = frame(&mut app, 120, 40);
    let y = seen.lines().position(|l| l == selected).unwrap() as u16;
    app.mouse(Mouse::Click { x: 5, y });
    assert!(frame(&mut app, 120, 40).contains("cookie"), "opened");
}

#[test]
fn details_scroll_to_their_end_and_no_further() {
    let mut app = detailed(Look::default(), 24);
    let mut last = frame(&mut app, 80, 24);
    for _ in 0..20 {
        app.key(Key::PageDown);
        last = frame(&mut app, 80, 24);
    }
    assert!(
        last.contains("p50 2304 B") && !last.contains("more rows"),
        "{last}"
    );
    app.key(Key::Char('j'));
    assert!(
        frame(&mut app, 80, 24).contains("cookie"),
        "the next from its top"
    );
}

#[test]
fn loss_is_red_and_said_and_without_colour_said() {
    for color in [true, false] {
        let look = Look {
            color,
            ..Look::default()
        };
        let mut app = app_with(fixture::lossy(), look);
        let text = frame(&mut app, 80, 24);
        let y = text.lines().position(|l| l.contains("LOST 1,234")).unwrap();
        let terminal = terminal(&mut app, 80, 24);
        let cell = &terminal.backend().buffer()[(0, y as u16)];
        assert!(cell.modifier.contains(Modifier::BOLD));
        let wanted = if color { Color::Red } else { Color::Reset };
        assert_eq!(cell.fg, wanted);
    }
}

#[test]
fn backgrounds_are_the_terminals_own_and_colours_are_few() {
    let color = Look {
        color: true,
        ..Look::default()
    };
    for mut app in [
        app_with(fixture::lossy(), color),
        detailed(color, 40),
        app_with(fixture::empty(), color),
    ] {
        let terminal = terminal(&mut app, 120, 40);
        for cell in &terminal.backend().buffer().content {
            assert_eq!(cell.bg, Color::Reset);
            assert!(
                matches!(
                    cell.fg,
                    Color::Reset | Color::Red | Color::Green | Color::Magenta
                ),
                "{:?}",
                cell.fg
            );
        }
    }
}

#[test]
fn a_recording_is_seen() {
    let mut app = app(fixture::three_groups());
    let mut view = picture(fixture::three_groups());
    let inner = Arc::get_mut(&mut view).expect("one owner");
    inner.recording = Some(Recording {
        file: "a\x1bb.smt".to_owned(),
        bytes: 20_480,
    });
    inner.said = Some("else".to_owned());
    app.show(&view);
    let seen = frame(&mut app, 120, 24);
    assert!(
        seen.contains("RECORDING 20.0 KiB into a\\x1bb.smt · else"),
        "{seen}"
    );
}

#[test]
fn help_names_every_key() {
    let mut app = app(fixture::empty());
    press(&mut app, "?");
    let help = frame(&mut app, 100, 90);
    for b in BINDINGS {
        for key in b.keys {
            assert!(help.contains(&key.name()), "{key:?}");
        }
    }
    assert!(help.contains("rmem_alloc = sk_backlog.rmem_alloc"));
    assert!(help.contains("Not available on this kernel: sizes of sent"));
}

fn any_key() -> impl Strategy<Value = Key> {
    let listed: Vec<Key> = BINDINGS
        .iter()
        .flat_map(|b| b.keys.iter().copied())
        .collect();
    prop_oneof![
        4 => prop::sample::select(listed),
        1 => any::<char>().prop_map(Key::Char),
    ]
}

fn any_view() -> impl Strategy<Value = View> {
    prop::sample::select(vec![
        fixture::empty(),
        fixture::three_groups(),
        fixture::lossy(),
        fixture::many(40),
        fixture::weird_names(),
        {
            let mut view = fixture::many(1);
            view.sockets.push(SocketView {
                resident: u64::MAX / 2,
                ..fixture::unknown_socket()
            });
            view
        },
    ])
}

#[derive(Clone, Debug)]
enum Event {
    Key(Key),
    Mouse(Mouse),
    Show(Box<View>),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any_key().prop_map(Event::Key),
        2 => (0u16..200, 0u16..60).prop_map(|(x, y)| Event::Mouse(Mouse::Click { x, y })),
        1 => Just(Event::Mouse(Mouse::WheelDown)),
        1 => (any_view(), 0u64..50).prop_map(|(v, t)| Event::Show(Box::new(later(&v, t)))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nothing_makes_it_fail_and_nothing_harmful_is_drawn(
        events in prop::collection::vec((any_event(), 1u16..200, 1u16..60), 1..40),
        ascii: bool,
    ) {
        let look = Look { ascii, ..Look::default() };
        let mut app = App::new(options(look));
        for (event, width, height) in events {
            match event {
                Event::Key(key) => drop(app.key(key)),
                Event::Mouse(mouse) => drop(app.mouse(mouse)),
                Event::Show(view) => app.show(&picture(*view)),
            }
            let terminal = terminal(&mut app, width, height);
            for cell in &terminal.backend().buffer().content {
                let symbol = cell.symbol();
                prop_assert!(symbol.chars().all(escape::harmless) || symbol.contains('\\'), "{symbol:?}");
                prop_assert!(!ascii || symbol.is_ascii(), "{symbol:?}");
            }
        }
    }
}
