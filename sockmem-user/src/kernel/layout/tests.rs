use std::path::Path;

use sockmem_common::ABSENT;

use super::*;
use crate::kernel::btf::SYS_FS;
use crate::kernel::btf::builder::{Builder, at, bits};
use crate::kernel::features::Release;
use crate::kernel::fixtures::{KERNELS, Kernel};

#[test]
fn every_field_occurs_once() {
    let mut names: Vec<_> = TABLE
        .iter()
        .map(|row| row.name)
        .chain(SPECIAL.iter().map(|s| s.name))
        .collect();
    let mut fields = Layout::NAMES.to_vec();
    names.sort_unstable();
    fields.sort_unstable();
    assert_eq!(names, fields);
}

#[test]
fn every_kernel_resolves_in_full() {
    for kernel in KERNELS {
        let resolved = resolve(&kernel.btf()).expect(kernel.release);
        assert_eq!(resolved.missing, [], "{}", kernel.release);
        assert_eq!(resolved.layout, kernel.layout, "{}", kernel.release);
    }
}

/// A fixture in which a member has another name, so that it is missing.
fn without(kernel: &Kernel, member: &str) -> Btf {
    let mut bytes = kernel.bytes();
    let needle = [b"\0", member.as_bytes(), b"\0"].concat();
    let found: Vec<_> = (0..bytes.len())
        .filter(|i| bytes[*i..].starts_with(&needle))
        .collect();
    assert!(!found.is_empty(), "{member}");
    for at in found {
        bytes[at + 1] = b'?';
    }
    Btf::parse(bytes).expect("still well-formed")
}

#[test]
fn a_missing_required_field_is_an_error_in_one_sentence() {
    let error = resolve(&without(KERNELS[2], "sk_wmem_queued")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sockets of this kernel cannot be read: this kernel has no `sk_wmem_queued` in \
         `sock.sk_wmem_queued`; sock.sk_wmem_queued is needed for memory written and not \
         acknowledged, and no option does without it"
    );
    for member in [
        "sk_backlog",
        "sk_forward_alloc",
        "sk_protocol",
        "skc_family",
        "skc_state",
        "sk_socket",
        "skc_num",
        "skc_dport",
        "sock",
    ] {
        assert!(resolve(&without(KERNELS[2], member)).is_err(), "{member}");
    }
}

#[test]
fn a_missing_optional_field_costs_its_feature() {
    let cases = [
        ("copied_seq", vec!["copied_seq"], "idle reasons"),
        ("sk_omem_alloc", vec!["omem_alloc"], "optmem"),
        ("owned", vec!["lock_owned"], "peaks"),
        ("i_ino", vec!["socket_ino"], "inode"),
        (
            "sk_userlocks",
            vec!["userlocks", "userlocks_shift"],
            "autotuning",
        ),
        ("skc_v6_daddr", vec!["v6_daddr"], "IPv6"),
        ("out_of_order_queue", vec!["ofo_root"], "out-of-order"),
        (
            "sk_buff",
            vec!["skb_sk", "skb_truesize", "skb_len", "skb_cb"],
            "while sending",
        ),
    ];
    for (member, names, feature) in cases {
        let resolved = resolve(&without(KERNELS[2], member)).expect(member);
        let missing: Vec<_> = resolved.missing.iter().map(|m| m.name).collect();
        assert_eq!(missing, names, "{member}");
        assert!(
            resolved.missing[0].feature_lost.contains(feature),
            "{:?}",
            resolved.missing[0]
        );
        let whole = KERNELS[2].layout;
        assert_ne!(resolved.layout, whole);
        assert_eq!(resolved.layout.rmem_alloc, whole.rmem_alloc);
    }
    let resolved = resolve(&without(KERNELS[2], "i_ino")).expect("optional");
    assert_eq!(resolved.layout.socket_ino, ABSENT);
    assert!(
        resolved.missing[0].why.contains("`i_ino`"),
        "{}",
        resolved.missing[0].why
    );
}

/// What the table says of one field that stands in an otherwise empty `sock`.
fn why(member: impl FnOnce(&mut Builder) -> (u32, u32)) -> String {
    let mut b = Builder::new();
    let (bytes, ty) = member(&mut b);
    b.structure("sock", bytes, &[at(0, "sk_rcvbuf", ty)]);
    let btf = Btf::parse(b.build()).expect("parse");
    let row = TABLE.iter().find(|row| row.name == "rcvbuf").expect("row");
    find(&btf, row).unwrap_err()
}

#[test]
fn another_width_or_type_is_missing() {
    let text = why(|b| (8, b.int("long", 8)));
    assert_eq!(
        text,
        "`sock.sk_rcvbuf` is an integer of 8 bytes, needed is an integer of 4 bytes"
    );
    assert!(why(|b| (8, b.ptr(0))).contains("an untyped pointer"));
    assert!(
        why(|b| {
            let int = b.int("int", 4);
            (4, b.structure("atomic_t", 4, &[at(0, "counter", int)]))
        })
        .contains("a struct of 4 bytes")
    );
    let mut b = Builder::new();
    let int = b.int("int", 4);
    b.structure("sock", 4, &[bits(0, 31, "sk_rcvbuf", int)]);
    let btf = Btf::parse(b.build()).expect("parse");
    let row = TABLE.iter().find(|row| row.name == "rcvbuf").expect("row");
    assert!(
        find(&btf, row)
            .unwrap_err()
            .contains("a bit field of 31 bits")
    );
}

#[test]
fn a_pointer_to_another_struct_is_missing() {
    let mut b = Builder::new();
    let other = b.structure("file", 8, &[]);
    let ptr = b.ptr(other);
    b.structure("sock", 8, &[at(0, "sk_socket", ptr)]);
    let btf = Btf::parse(b.build()).expect("parse");
    let row = TABLE.iter().find(|row| row.name == "socket").expect("row");
    let text = find(&btf, row).unwrap_err();
    assert_eq!(
        text,
        "`sock.sk_socket` is a pointer to file, needed is a pointer to socket"
    );
}

#[test]
fn userlocks_must_lie_within_a_byte() {
    let special = SPECIAL.iter().find(|s| s.name == "userlocks").expect("row");
    let place = |bit, width| {
        let mut b = Builder::new();
        let int = b.int("unsigned int", 4);
        b.structure("sock", 4, &[bits(bit, width, "sk_userlocks", int)]);
        let btf = Btf::parse(b.build()).expect("parse");
        let mut layout = Layout::NONE;
        (special.find)(&btf, &mut layout).map(|()| layout.userlocks)
    };
    assert_eq!(place(12, 4), Ok(1));
    assert_eq!(place(16, 8), Ok(2));
    assert!(place(6, 4).unwrap_err().contains("4 bits from bit 6"));
    assert!(place(0, 2).is_err());
}

#[test]
fn the_running_kernel() {
    if !Path::new(SYS_FS).exists() {
        println!("skipped: this kernel shows no types in {SYS_FS} (CONFIG_DEBUG_INFO_BTF)");
        return;
    }
    let btf = Btf::from_sys_fs().expect("this kernel's types");
    let resolved = resolve(&btf).expect("this kernel's sockets");
    let release = Release::running().expect("uname").text;
    match KERNELS.iter().find(|kernel| kernel.release == release) {
        Some(kernel) => assert_eq!(resolved.layout, kernel.layout),
        None => println!("skipped: no offsets are on record for {release}"),
    }
    assert_eq!(resolved.missing, [], "{release}");
    for func in [
        "tcp_release_cb",
        "release_sock",
        "tcp_rcv_established",
        "inet_sock_destruct",
    ] {
        assert_eq!(
            btf.find_func(func)
                .and_then(|f| f.expect_pointer(0, "sock")),
            Ok(())
        );
    }
    let set_state = btf
        .find_tracepoint("inet_sock_set_state")
        .expect("tracepoint");
    assert_eq!(set_state.expect_pointer(0, "sock"), Ok(()));
}

/// The kernels that the fixtures imitate, from their own type information.
#[test]
#[ignore = "needs SOCKMEM_BTF_DIR: a directory with raw BTF in <uname -r>.btf, e.g. from objcopy --dump-section .BTF"]
fn stock_kernels() {
    let dir = std::env::var_os("SOCKMEM_BTF_DIR").expect("SOCKMEM_BTF_DIR");
    for kernel in KERNELS {
        let path = Path::new(&dir).join(format!("{}.btf", kernel.release));
        let btf = Btf::from_file(&path).expect(kernel.release);
        let resolved = resolve(&btf).expect(kernel.release);
        assert_eq!(resolved.missing, [], "{}", kernel.release);
        assert_eq!(resolved.layout, kernel.layout, "{}", kernel.release);
    }
}
