use std::ffi::OsStr;

use super::*;
use crate::cli::target::Listener;

fn run(args: &str) -> Result<Invocation, Stop> {
    parse(std::iter::once("sockmem-trace").chain(args.split_whitespace()))
}

fn live(args: &str) -> LiveArgs {
    match run(args) {
        Ok(Invocation::Live(live)) => *live,
        other => panic!("{args}: {other:?}"),
    }
}

fn trace(args: &str) -> TraceArgs {
    live(args).trace
}

fn refused(args: &str) -> String {
    let stop = run(args).unwrap_err();
    assert_eq!(stop.exit, Exit::Failed, "{args}: {}", stop.text);
    stop.text
}

#[test]
fn the_parser_is_sound() {
    command().debug_assert();
}

#[test]
fn live_is_the_default_command() {
    assert_eq!(live("--pid 4242"), live("live --pid 4242"));
    assert!(matches!(run("doctor").unwrap(), Invocation::Doctor(_)));
    refused("--pid 1 doctor");
}

#[test]
fn defaults() {
    let live = live("--pid 4242");
    let args = &live.trace;
    assert_eq!(args.interval, Duration::from_secs(1));
    assert_eq!(
        (args.idle_after_ns(), args.coalesce_ns()),
        (1_000_000_000, 100_000_000)
    );
    assert_eq!(args.duration, None);
    assert_eq!(
        (args.ring_size, args.max_sockets),
        (DEFAULT_RING_SIZE, None)
    );
    assert_eq!((args.tier.tier(), live.output.format), (None, Format::Text));
    assert!(!args.exact && !live.plain && !args.audit && !args.no_truesize);
}

#[test]
fn every_option_arrives() {
    let live_args = live(
        "live --pid 1,2 --pid 3 --follow --comm nginx --cgroup /a/b --port 443 --listener [::1]:80 \
         --listener *:81 --tcp --interval 250ms --duration 5m --exact --idle-after 3s --plain \
         --format json --color never --tier kprobe --max-sockets 10 --ring-size 64KiB \
         --no-truesize --all-sockets --ascii --audit -vv",
    );
    let args = &live_args.trace;
    let target = &args.target;
    assert_eq!(target.pids, [1, 2, 3]);
    assert_eq!(
        (target.comms.as_slice(), target.ports.as_slice()),
        (&["nginx".to_owned()][..], &[443][..])
    );
    assert_eq!(
        target.listeners[0],
        Listener {
            addr: Some("::1".parse().unwrap()),
            port: 80
        }
    );
    assert_eq!(
        target.listeners[1],
        Listener {
            addr: None,
            port: 81
        }
    );
    assert!(
        target.follow && live_args.plain && args.no_truesize && live_args.all_sockets && args.audit
    );
    assert_eq!(
        (args.interval.as_millis(), args.idle_after_ns()),
        (250, 3_000_000_000)
    );
    assert_eq!(
        (args.duration, args.coalesce_ns()),
        (Some(Duration::from_secs(300)), 0)
    );
    assert_eq!(
        (live_args.output.format, live_args.output.color),
        (Format::Json, Color::Never)
    );
    assert_eq!(
        (args.tier.tier(), args.ring_size, args.max_sockets),
        (Some(Tier::Kprobe), 65_536, Some(10))
    );
    assert_eq!(
        (live_args.output.verbose, live_args.output.ascii),
        (2, true)
    );
    assert_eq!(
        target.describe(),
        "pids 1, 2, 3; comm nginx; cgroup /a/b; port 443; listeners [::1]:80, *:81, with children"
    );
    assert_eq!(trace("--all").target.describe(), "all TCP sockets");
}

#[test]
fn no_target_names_the_choices() {
    for args in ["", "live", "live --follow", "--interval 1s", "--tcp"] {
        let text = refused(args);
        for choice in [
            "--pid PID",
            "--comm",
            "--cgroup",
            "--port",
            "--listener",
            "--all",
        ] {
            assert!(text.contains(choice), "{args}: {text}");
        }
    }
    insta::assert_snapshot!(refused("live"));
}

#[test]
fn other_kinds_are_refused_in_a_sentence() {
    for (args, what) in [
        ("--pid 1 --udp", "UDP"),
        ("--unix", "Unix"),
        ("live --tcp --udp --all", "UDP"),
    ] {
        let text = refused(args);
        assert!(
            text.contains("traces TCP only") && text.contains(what),
            "{text}"
        );
    }
}

#[test]
fn wrong_usage_says_what_to_write() {
    let texts: Vec<String> = [
        "--pid 0",
        "--pid nginx",
        "--all --pid 1",
        "--port 443 --follow",
        "--pid 1 --exact --coalesce 1s",
        "--pid 1 --interval 1ms",
        "--pid 1 --duration 10",
        "--pid 1 --ring-size 100KB",
        "--pid 1 --ring-size 100K",
        "--comm a-name-of-seventeen",
        "--listener 443",
        "--listener 10.0.0.1:0",
        "record --pid 1",
        "record -o x",
        "record -o x --udp -- true",
    ]
    .map(|args| format!("$ sockmem-trace {args}\n{}", refused(args)))
    .to_vec();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn explain_needs_no_target() {
    assert_eq!(run("live --explain").unwrap(), Invocation::Explain);
    assert_eq!(run("--explain").unwrap(), Invocation::Explain);
}

#[test]
fn help_and_version_are_no_failure() {
    for args in [
        "--help",
        "-h",
        "--version",
        "live --help",
        "record --help",
        "doctor --help",
    ] {
        assert_eq!(run(args).unwrap_err().exit, Exit::Done, "{args}");
    }
}

#[test]
fn commands_that_do_not_trace_need_no_target() {
    let Ok(Invocation::Snapshot(args)) = run("snapshot") else {
        panic!("snapshot");
    };
    assert!(args.target.is_empty() && args.sort == "resident" && args.top.is_none());
    let line = "snapshot --pid 4 --udp --unix --top 5 --sort drops --group cgroup --format csv";
    let Ok(Invocation::Snapshot(args)) = run(line) else {
        panic!("{line}");
    };
    assert!(args.kinds.udp && args.kinds.unix && !args.kinds.tcp);
    assert_eq!((args.top, args.sort.as_str()), (Some(5), "drops"));
    assert_eq!(args.group, Some(GroupBy::Cgroup));
    assert_eq!(args.format, SnapshotFormat::Csv);
    let Ok(Invocation::Where(args)) = run("where --pid 4 --no-ebpf --format json") else {
        panic!("where");
    };
    assert!(args.no_ebpf && args.target.pids == [4] && args.output.format == Format::Json);
    let text = refused("snapshot --sort rb");
    assert!(text.contains("write one of resident, rmem_alloc"), "{text}");
}

/// Help as on a terminal of 100 columns, whatever the test runs on.
fn help(args: &[&str]) -> String {
    let error = command()
        .term_width(100)
        .try_get_matches_from(args)
        .unwrap_err();
    error.render().to_string()
}

#[test]
fn help_texts() {
    insta::assert_snapshot!("help", help(&["sockmem-trace", "--help"]));
    insta::assert_snapshot!("help_short", help(&["sockmem-trace", "-h"]));
    insta::assert_snapshot!("help_live", help(&["sockmem-trace", "live", "--help"]));
    insta::assert_snapshot!("help_where", help(&["sockmem-trace", "where", "--help"]));
    insta::assert_snapshot!(
        "help_snapshot",
        help(&["sockmem-trace", "snapshot", "--help"])
    );
    insta::assert_snapshot!("help_record", help(&["sockmem-trace", "record", "--help"]));
    insta::assert_snapshot!("help_doctor", help(&["sockmem-trace", "doctor", "--help"]));
}

#[test]
fn help_names_the_kernels_fields() {
    let text = help(&["sockmem-trace", "live", "--help"]);
    for f in fields::FIELDS
        .iter()
        .filter(|f| f.sums || f.kind == fields::Kind::Limit)
    {
        assert!(text.contains(f.kernel), "{}", f.json);
    }
}

#[test]
fn colour_follows_option_terminal_and_environment() {
    let set = Some(OsStr::new("1"));
    assert!(Color::Auto.enabled(true, None));
    assert!(Color::Auto.enabled(true, Some(OsStr::new(""))));
    assert!(!Color::Auto.enabled(true, set));
    assert!(!Color::Auto.enabled(false, None));
    assert!(Color::Always.enabled(false, set));
    assert!(!Color::Never.enabled(true, None));
}

#[test]
fn a_recording_needs_a_file_and_a_target_or_a_command() {
    let record = |args: &str| match run(args) {
        Ok(Invocation::Record(record)) => *record,
        other => panic!("{args}: {other:?}"),
    };
    let args = record("record --pid 7 -o out.smt --exact --duration 10s --force");
    assert_eq!(args.output, std::path::Path::new("out.smt"));
    assert!(args.force && args.trace.exact && args.command.is_empty());
    let args = record("record -o - -- curl --pid 7 -o x");
    assert_eq!(args.command, ["curl", "--pid", "7", "-o", "x"]);
    assert!(args.trace.target.is_empty());
    for wrong in [
        "record --pid 7",
        "record -o x",
        "record -o x --",
        "record -o x curl",
    ] {
        refused(wrong);
    }
}
