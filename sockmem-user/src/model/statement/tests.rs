use proptest::prelude::*;

use super::sample::{cache, facts, sums};
use super::*;
use crate::facts::memory::Reserve;
use crate::model::snapshot::sample::{holding, inventory, tcp};

fn all() -> Selection {
    Selection {
        all: true,
        ..Selection::default()
    }
}

fn pid(pid: u32) -> Selection {
    Selection {
        pids: [pid].into(),
        ..Selection::default()
    }
}

fn bytes(s: &Statement, name: &str) -> Known<i64> {
    s.steps
        .iter()
        .find(|step| step.name == name)
        .unwrap()
        .bytes
        .clone()
}

/// Without the UDP and unix sockets, as the statement is fed.
fn tcp_only() -> Inventory {
    let mut inventory = inventory();
    inventory.sockets.retain(|l| l.protocol == Protocol::Tcp);
    inventory
}

#[test]
fn steps_lead_from_payload_to_sockstat() {
    let s = Statement::new(&tcp_only(), &pid(11), &facts(), None);
    assert_eq!(bytes(&s, "payload"), Ok(65_536));
    assert_eq!(bytes(&s, "truesize"), Ok(69_376 + 832));
    assert_eq!(bytes(&s, "forward_alloc"), Ok(256 + 3264));
    assert_eq!(bytes(&s, "target"), Ok(18 * 4096));
    assert_eq!(bytes(&s, "all_sockets"), Ok(21 * 4096));
    assert_eq!(bytes(&s, "sockstat_mem"), Ok(99 * 4096));
    assert_eq!(bytes(&s, "memcg_sock"), Ok(77_824));
    assert!(bytes(&s, "per_cpu_reserve").is_err());
    let sum = bytes(&s, "truesize").unwrap() + bytes(&s, "forward_alloc").unwrap();
    assert_eq!(Ok(sum), bytes(&s, "target"));
    // Nothing of it is where people look for it; the objects are in Slab alone.
    for step in &s.steps {
        assert!(!step.in_res && !step.in_buff_cache, "{}", step.name);
        assert_eq!(step.in_slab, step.name == "fixed_objects", "{}", step.name);
    }
}

#[test]
fn the_hole_is_what_no_line_counts() {
    // 1024 - 700 - 10 - 100 - 60 - 50 - 1 - 2 - 3 - 4 - 1 MiB.
    let s = Statement::new(&tcp_only(), &all(), &facts(), None);
    assert_eq!(bytes(&s, "memfree_hole"), Ok(93 << 20));
}

#[test]
fn within_the_reserve_it_is_explained_and_beyond_suspected() {
    let verdict = |pages: u64| {
        let mut f = facts();
        (f.before, f.after) = (Ok(sums(pages)), Ok(sums(pages)));
        let r = Statement::new(&tcp_only(), &all(), &f, None).remainder;
        (r.verdict, r.bytes.clone().unwrap(), r.bound().unwrap())
    };
    let bound = 512 * 4096;
    assert_eq!(verdict(21), (Verdict::Explained, 0, bound));
    assert_eq!(verdict(21 + 512), (Verdict::Explained, bound, bound));
    assert_eq!(
        verdict(21 + 513),
        (Verdict::SuspectedLeak, bound + 4096, bound)
    );
    assert_eq!(verdict(0), (Verdict::Explained, -21 * 4096, bound));
}

#[test]
fn without_a_reserve_every_page_counts() {
    let mut f = facts();
    f.reserve = Reserve::Absent;
    (f.before, f.after) = (Ok(sums(21)), Ok(sums(21)));
    let s = Statement::new(&tcp_only(), &all(), &f, None);
    assert_eq!(s.remainder.verdict, Verdict::Explained);
    assert_eq!(bytes(&s, "per_cpu_reserve"), Ok(0));
    assert_eq!(s.remainder.bound(), Some(0));
    f.after = Ok(sums(22));
    f.before = Ok(sums(22));
    let r = Statement::new(&tcp_only(), &all(), &f, None).remainder;
    assert_eq!(r.verdict, Verdict::SuspectedLeak, "{}", r.text);
    f.after = Ok(sums(20));
    f.before = Ok(sums(20));
    let r = Statement::new(&tcp_only(), &all(), &f, None).remainder;
    assert_eq!(r.verdict, Verdict::MoreThanCharged, "{}", r.text);
}

#[test]
fn shares_that_were_read_leave_no_room() {
    let mut f = facts();
    f.reserve = Reserve::Exact {
        before: -78,
        after: -78,
        cpus: 2,
    };
    let s = Statement::new(&tcp_only(), &all(), &f, None);
    assert_eq!(s.remainder.bytes, Ok(0));
    assert_eq!(bytes(&s, "per_cpu_reserve"), Ok(78 * 4096));
    assert_eq!(s.remainder.bound(), Some(0));
    // The steps add up.
    let sum = bytes(&s, "all_sockets").unwrap() + bytes(&s, "per_cpu_reserve").unwrap();
    assert_eq!(Ok(sum), bytes(&s, "sockstat_mem"));
    // 0 may stand for anything below: what the shares exceed is not a leak.
    f.reserve = Reserve::Exact {
        before: 40,
        after: 40,
        cpus: 2,
    };
    (f.before, f.after) = (Ok(sums(0)), Ok(sums(0)));
    let r = Statement::new(&tcp_only(), &all(), &f, None).remainder;
    assert_eq!((r.bytes, r.verdict), (Ok(19 * 4096), Verdict::Explained));
}

#[test]
fn what_may_be_in_it_widens_the_bound() {
    let mut f = facts();
    f.reserve = Reserve::Absent;
    (f.before, f.after) = (Ok(sums(18)), Ok(sums(21)));
    let r = Statement::new(&tcp_only(), &all(), &f, None).remainder;
    assert_eq!(r.bound(), Some(3 * 4096), "it moved by three pages");
    // A socket with an error-queue skb: counted, not charged.
    let mut inventory = tcp_only();
    inventory
        .sockets
        .push(holding(tcp(50, 0, 1, 1, 2), 1280, 0, 0));
    (f.before, f.after) = (Ok(sums(21)), Ok(sums(21)));
    let r = Statement::new(&inventory, &all(), &f, None).remainder;
    assert_eq!(r.range, (Some(-1280), Some(0)));
    assert_eq!(r.verdict, Verdict::Explained);
    // A namespace that could not be read takes the upper bound away.
    inventory.namespaces[0].missing = Some("not allowed".into());
    (f.before, f.after) = (Ok(sums(9999)), Ok(sums(9999)));
    let r = Statement::new(&inventory, &all(), &f, None).remainder;
    assert_eq!((r.verdict, r.bound()), (Verdict::Unbounded, None));
    // Sockets that bypass tcp_mem take the lower one.
    inventory.namespaces[0].missing = None;
    f.limits.bypass_prot_mem = Some(true);
    (f.before, f.after) = (Ok(sums(0)), Ok(sums(0)));
    let r = Statement::new(&inventory, &all(), &f, None).remainder;
    assert_eq!((r.verdict, r.range.0), (Verdict::Unbounded, None));
}

#[test]
fn what_cannot_be_read_is_not_zero() {
    let mut f = facts();
    f.after = Err("no sockstat".into());
    f.system = Err("no meminfo".into());
    f.memcg = Err("no cgroup".into());
    f.slab = Err("not root".into());
    let s = Statement::new(&tcp_only(), &pid(11), &f, Some("not allowed to look"));
    for (name, why) in [
        ("payload", "not allowed to look"),
        ("target", "not allowed to look"),
        ("sockstat_mem", "no sockstat"),
        ("memcg_sock", "no cgroup"),
        ("fixed_objects", "not allowed to look"),
        ("memfree_hole", "no meminfo"),
    ] {
        assert_eq!(bytes(&s, name), Err(why.to_owned()), "{name}");
    }
    assert_eq!(bytes(&s, "all_sockets"), Ok(21 * 4096));
    assert_eq!(s.remainder.verdict, Verdict::Unknown);
}

#[test]
fn objects_are_found_in_merged_caches() {
    let f = facts();
    let fixed = Fixed::of(&f).unwrap();
    let of = |name: &str| fixed.objects.iter().find(|o| o.name == name).unwrap();
    assert_eq!(of("filp").cache, "pid");
    assert_eq!(of("filp").shared_with, ["pid"]);
    assert_eq!(of("dentry").cache, "dentry");
    assert_eq!(fixed.merged, 2);
    let tcp = fixed.tcp.clone().unwrap();
    assert_eq!(tcp.object_bytes, 2368 + 832 + 192 + 192);
    assert_eq!(tcp.slab_bytes, 2521 + 863 + 196 + 196);
    assert_eq!(fixed.epoll.clone().unwrap().object_bytes, 128 + 64);
    // No such cache, and nothing that it may have been merged into.
    let why = fixed.request.unwrap_err();
    assert!(why.contains("no request_sock_TCP"), "{why}");
    // Without names of merged caches it may be anywhere.
    let mut f = facts();
    if let Ok(slab) = &mut f.slab {
        slab.aliases.clear();
        slab.caches.retain(|c| c.name != "pid");
    }
    let why = Fixed::of(&f).unwrap().tcp.unwrap_err();
    assert!(
        why.contains("filp") && why.contains("/sys/kernel/slab"),
        "{why}"
    );
}

#[test]
fn the_targets_objects_count_both_families() {
    let s = Statement::new(&tcp_only(), &pid(20), &facts(), None);
    // Client 20 has one IPv4 and one IPv6 socket, which here cost the same.
    assert_eq!(bytes(&s, "fixed_objects"), Ok(2 * (2521 + 863 + 196 + 196)));
    assert_eq!(cache("x", 100, 0, 1).bytes_per_object(4096), 100);
}

#[test]
fn ceilings_are_summed_apart() {
    let s = Statement::new(&tcp_only(), &all(), &facts(), None);
    assert_eq!(s.ceilings.sockets, 6);
    assert_eq!(s.ceilings.rcvbuf_sum, 6 * 131_072);
    assert_eq!(s.ceilings.sndbuf_max, 87_040);
}

fn lint_names(s: &Statement) -> Vec<&'static str> {
    s.lints.iter().map(|l| l.name).collect()
}

#[test]
fn lints_fit_the_numbers() {
    let names = lint_names(&Statement::new(&tcp_only(), &all(), &facts(), None));
    assert_eq!(
        names,
        [
            "limits-are-not-usage",
            "t-is-not-the-send-queue",
            "sockstat-is-not-exact",
            "slab-names-are-merged"
        ]
    );
    let mut f = facts();
    f.gives_back = Some(false);
    f.reserve = Reserve::Absent;
    (f.before, f.after) = (Ok(sums(2500)), Ok(sums(2500)));
    if let Ok(after) = &mut f.after {
        after.alloc = 2620;
    }
    let mut inventory = tcp_only();
    inventory.sockets = vec![holding(tcp(1, 0, 1, 1, 2), 0, 0, 2500 * 4096)];
    let names = lint_names(&Statement::new(&inventory, &all(), &f, None));
    assert_eq!(
        names,
        [
            "not-in-res-or-cache",
            "forward-alloc-stays",
            "sockstat-mixes-scopes",
            "under-pressure",
            "slab-names-are-merged"
        ]
    );
    let mut quiet = facts();
    quiet.slab = Err("no".into());
    quiet.after = Ok(sums(0));
    inventory.sockets = vec![tcp(1, 0, 1, 1, 2)];
    assert!(lint_names(&Statement::new(&inventory, &all(), &quiet, None)).is_empty());
    // Two bytes for which a page is charged.
    let mut one = holding(tcp(1, 0, 1, 1, 2), 832, 0, 3264);
    one.socket.rqueue = 2;
    inventory.sockets = vec![one];
    quiet.after = Ok(sums(1));
    assert_eq!(
        lint_names(&Statement::new(&inventory, &all(), &quiet, None)),
        ["recv-q-is-payload"]
    );
}

proptest! {
    /// Whatever is charged within what may be, nothing is suspected; the text is there.
    #[test]
    fn nothing_is_suspected_within_the_bound(
        held in prop::collection::vec(0u32..200, 0..20),
        off in -512i64..=512,
    ) {
        let mut inventory = tcp_only();
        inventory.sockets = held
            .iter()
            .enumerate()
            .map(|(i, pages)| holding(tcp(i as u64, 0, 1, 1, 2), pages * 4096, 0, 0))
            .collect();
        let pages: i64 = held.iter().map(|p| i64::from(*p)).sum();
        let shown = u64::try_from(pages + off).unwrap_or(0);
        let mut f = facts();
        (f.before, f.after) = (Ok(sums(shown)), Ok(sums(shown)));
        let r = Statement::new(&inventory, &all(), &f, None).remainder;
        let left = shown as i64 - pages;
        prop_assert_eq!(r.bytes.clone(), Ok(left * 4096));
        prop_assert_eq!(r.verdict == Verdict::Explained, left.abs() <= 512);
        prop_assert!(!r.text.is_empty());
    }
}
