use std::borrow::Cow;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::sample::{holding, inventory, tcp};
use super::*;
use crate::facts::inventory::Holders;

fn all() -> Selection {
    Selection {
        all: true,
        ..Selection::default()
    }
}

fn pids(pids: &[u32]) -> Selection {
    Selection {
        pids: pids.iter().copied().collect(),
        ..Selection::default()
    }
}

fn cookies(s: &Snapshot<'_>) -> BTreeSet<u64> {
    s.entries().map(|e| e.socket().cookie).collect()
}

#[test]
fn each_socket_has_the_owner_that_its_state_tells() {
    let inventory = inventory();
    let s = Snapshot::new(&inventory, &all());
    let of = |cookie: u64| {
        let e = s.entries().find(|e| e.socket().cookie == cookie).unwrap();
        (e.kind(), e.pid())
    };
    assert_eq!(of(1), (OwnerKind::Process, Some(10)));
    assert_eq!(of(2), (OwnerKind::Process, Some(11)));
    assert_eq!(of(4), (OwnerKind::Listener, Some(10)));
    assert_eq!(of(5), (OwnerKind::Orphan, None));
    assert_eq!(of(6), (OwnerKind::Process, Some(20)));
    assert_eq!(s.totals.sockets, 9);
    assert_eq!(
        (s.totals.unaccepted, s.totals.unaccepted_resident),
        (1, 4096)
    );
    assert_eq!((s.totals.orphans, s.totals.orphans_resident), (1, 8192));
    assert_eq!(s.totals.listening, 1);
}

#[test]
fn what_is_meant_decides_who_of_several_owns() {
    let inventory = inventory();
    let s = Snapshot::new(&inventory, &pids(&[11]));
    // The listener is held by 10 and 11; the unaccepted connection is its.
    assert_eq!(cookies(&s), [1, 2, 4].into());
    assert!(s.entries().all(|e| e.pid() == Some(11)));
    assert_eq!(
        cookies(&Snapshot::new(&inventory, &pids(&[20]))),
        [3, 6, 8].into()
    );
    assert!(cookies(&Snapshot::new(&inventory, &pids(&[99]))).is_empty());
}

#[test]
fn ports_and_listeners_choose() {
    let inventory = inventory();
    let ports = |p: u16| Selection {
        ports: vec![p],
        ..Selection::default()
    };
    assert_eq!(
        cookies(&Snapshot::new(&inventory, &ports(443))),
        [1, 2, 3, 4, 5].into()
    );
    assert_eq!(
        cookies(&Snapshot::new(&inventory, &ports(50_003))),
        [5].into()
    );
    let listener = |addr: Option<IpAddr>| Selection {
        listeners: vec![(addr, 443)],
        ..Selection::default()
    };
    let through: BTreeSet<u64> = [1, 2, 4, 5].into();
    assert_eq!(
        cookies(&Snapshot::new(&inventory, &listener(None))),
        through
    );
    let at = Some(IpAddr::from([10, 0, 0, 1]));
    assert_eq!(cookies(&Snapshot::new(&inventory, &listener(at))), through);
    let other = Some(IpAddr::from([10, 0, 0, 2]));
    assert!(cookies(&Snapshot::new(&inventory, &listener(other))).is_empty());
}

#[test]
fn memory_is_what_each_transport_charges() {
    let inventory = inventory();
    let s = Snapshot::new(&inventory, &all());
    let of = |cookie: u64| {
        let e = s.entries().find(|e| e.socket().cookie == cookie).unwrap();
        (e.resident(), e.unread_bytes(), e.unacked_bytes())
    };
    assert_eq!(
        of(1),
        (Some(0), None, None),
        "a listener counts connections"
    );
    assert_eq!(of(2), (Some(69_632), Some(65_536), Some(0)));
    assert_eq!(of(3), (Some(4096), Some(0), Some(1000)));
    assert_eq!(of(7), (Some(4096), None, None), "UDP tells memory");
    assert_eq!(of(8), (Some(4864), Some(0), None), "unix: the sender's");
    let tcp: u64 = (1..=6).map(|c| of(c).0.unwrap()).sum();
    assert_eq!(tcp, 21 * 4096);
    assert_eq!(s.totals.resident, tcp + 4096 + 4864);
    let mut orphaned = inventory.clone();
    orphaned.sockets[1].socket.meminfo = None;
    let s = Snapshot::new(&orphaned, &all());
    let without = s.entries().find(|e| e.socket().cookie == 2).unwrap();
    assert_eq!(without.resident(), None);
}

#[test]
fn ends_are_written_as_ss_writes_them() {
    let inventory = inventory();
    let s = Snapshot::new(&inventory, &all());
    let ends = |cookie: u64| {
        let e = s.entries().find(|e| e.socket().cookie == cookie).unwrap();
        let (mut local, mut remote) = (String::new(), String::new());
        e.push_local(&mut local);
        e.push_remote(&mut remote);
        format!("{local} {remote}")
    };
    assert_eq!(ends(1), "10.0.0.1:443 0.0.0.0:*");
    assert_eq!(ends(6), "[::1]:50004 [::1]:8443");
    assert_eq!(ends(8), "/run/app.sock inode:106");
    assert_eq!(ends(9), "@abstract inode:105");
}

#[test]
fn the_cgroup_is_the_sockets_own_where_the_kernel_tells() {
    let mut inventory = inventory();
    inventory.sockets[1].socket.cgroup_id = Some(1);
    inventory.sockets[4].socket.cgroup_id = Some(5000);
    let s = Snapshot::new(&inventory, &all());
    let of = |cookie: u64| {
        let e = s.entries().find(|e| e.socket().cookie == cookie).unwrap();
        e.cgroup().map(Cow::into_owned)
    };
    assert_eq!(of(3).as_deref(), Some("/made/here"));
    assert_eq!(of(2).as_deref(), Some("/web"), "the root says nothing");
    assert_eq!(of(5), None, "an id without a path, an orphan");
}

#[test]
fn groups_add_up_and_stand_in_order() {
    let inventory = inventory();
    let s = Snapshot::new(&inventory, &all());
    for by in [By::Process, By::Listener, By::Remote, By::Cgroup, By::State] {
        let groups = s.groups(by);
        let sum: u64 = groups.iter().map(|g| g.sums.resident).sum();
        assert_eq!(sum, s.totals.resident, "{by:?}");
        let count: u64 = groups.iter().map(|g| g.sums.sockets).sum();
        assert_eq!(count, s.totals.sockets, "{by:?}");
        assert!(
            groups
                .windows(2)
                .all(|w| w[0].sums.resident >= w[1].sums.resident)
        );
    }
    let keys = |by| -> Vec<String> { s.groups(by).into_iter().map(|g| g.key).collect() };
    assert_eq!(
        keys(By::Process),
        ["nginx[11]", "cl\x1bient[20]", "nginx[10]", "orphans"]
    );
    assert_eq!(keys(By::Listener), ["10.0.0.1:443", "no listener"]);
    assert_eq!(
        keys(By::Remote),
        ["10.0.0.1", "unix", "not connected", "[::1]"]
    );
    assert!(keys(By::Cgroup).contains(&"/made/here".to_owned()));
    assert_eq!(
        keys(By::State),
        ["ESTABLISHED", "FIN_WAIT1", "CLOSE", "LISTEN"]
    );
}

#[test]
fn order_is_by_what_is_asked_and_then_by_age() {
    let inventory = inventory();
    let mut s = Snapshot::new(&inventory, &all());
    let order = |s: &Snapshot<'_>| -> Vec<u64> { s.entries().map(|e| e.socket().cookie).collect() };
    s.sort(Sort::Resident);
    assert_eq!(order(&s), [2, 5, 8, 3, 4, 7, 1, 6, 9]);
    s.sort(Sort::Pid);
    assert_eq!(order(&s), [1, 4, 7, 9, 2, 3, 6, 8, 5]);
    s.sort(Sort::Number(|e| i64::from(e.socket().wqueue)));
    assert_eq!(order(&s)[..2], [3, 1]);
    s.sort(Sort::State);
    assert_eq!(order(&s).last(), Some(&1));
}

proptest! {
    /// Whatever sockets there are: sums are those of the parts, and nobody is in twice.
    #[test]
    fn sums_are_those_of_the_sockets(
        sockets in prop::collection::vec((0u64..40, 1u8..14, 0u16..4, 0u16..4, any::<u32>(), any::<u32>(), any::<i32>()), 0..60),
        pid in 1u32..4,
    ) {
        let mut inventory = Inventory {
            namespaces: vec![Default::default()],
            holders: Holders::new(
                (1..30).map(|inode| crate::facts::inventory::Holder { inode, pid: (inode % 3) as u32 + 1, fd: 0 }).collect(),
                0,
            ),
            ..Inventory::default()
        };
        for (i, (inode, state, l, r, rmem, wmem, fwd)) in sockets.into_iter().enumerate() {
            inventory.sockets.push(holding(tcp(i as u64, inode, state, l, r), rmem, wmem, fwd));
        }
        let whole = Snapshot::new(&inventory, &all());
        prop_assert_eq!(whole.entries().len(), inventory.sockets.len());
        let by_hand: u64 = inventory.sockets.iter().map(|l| l.socket.meminfo.unwrap().resident()).sum();
        prop_assert_eq!(whole.totals.resident, by_hand);
        let parts: u64 = (1..4).map(|p| Snapshot::new(&inventory, &pids(&[p])).totals.sockets).sum();
        let owned = whole.entries().filter(|e| e.pid().is_some()).count() as u64;
        prop_assert_eq!(parts, owned);
        let one = Snapshot::new(&inventory, &pids(&[pid]));
        prop_assert!(cookies(&one).is_subset(&cookies(&whole)));
    }
}
