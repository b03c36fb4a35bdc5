use proptest::prelude::*;

use super::builder::*;
use super::*;
use crate::kernel::fixtures::KERNELS;
use crate::kernel::layout;

/// Everything that can be asked, so that a damaged blob meets all of the reader.
fn ask_everything(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    drop(layout::resolve(&btf));
    for name in ["sock", "tcp_sock", "sk_buff", "socket_alloc", "absent", ""] {
        drop(btf.find_struct(name));
        drop(btf.member(name, "sk_lock.owned"));
        drop(btf.member(name, "a.b.c"));
        drop(btf.find_typedef(name));
    }
    for name in ["tcp_release_cb", "tcp_rcv_established", "release_sock"] {
        drop(btf.find_func(name));
    }
    for name in ["inet_sock_set_state", "tcp_probe"] {
        drop(btf.find_tracepoint(name));
    }
}

#[test]
fn every_kind_is_known() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    b.ptr(int);
    b.array(int, 3);
    b.structure("s", 4, &[at(0, "m", int)]);
    b.union("u", 4, &[at(0, "m", int)]);
    b.raw("e", ENUM << 24 | 2, 4, &[0, 0, 0, 1]);
    b.refer(FWD, "later", 0);
    b.typedef("t", int);
    b.refer(VOLATILE, "", int);
    b.refer(CONST, "", int);
    b.refer(RESTRICT, "", int);
    let proto = b.proto(int, &[("a", int)]);
    // A function's length field is its linkage: no elements follow.
    b.raw("f", FUNC << 24 | 1, proto, &[]);
    let var = b.raw("v", VAR << 24, int, &[1]);
    b.raw(".data", DATASEC << 24 | 1, 4, &[var, 0, 4]);
    b.refer(FLOAT, "double", 8);
    b.raw("tag", DECL_TAG << 24, int, &[u32::MAX]);
    b.refer(TYPE_TAG, "user", int);
    b.raw("e64", ENUM64 << 24 | 1, 8, &[0, 1, 0]);
    b.structure("last", 8, &[at(4, "here", int)]);
    let btf = Btf::parse(b.build()).expect("all kinds");
    assert_eq!(btf.len(), b.next() as usize - 1);
    assert_eq!(
        btf.member("last", "here")
            .expect("read to the end")
            .byte_offset,
        4
    );
    assert_eq!(btf.find_func("f").expect("function").params.len(), 1);
}

#[test]
fn an_unknown_kind_is_an_error_unless_its_length_is_stated() {
    let mut b = Builder::new();
    b.raw("new", 25 << 24 | 2, 0, &[7, 7, 7, 7, 7]);
    let int = b.int("int", 4);
    b.structure("after", 4, &[at(0, "x", int)]);
    assert_eq!(
        Btf::parse(b.build()).unwrap_err(),
        BtfError::UnknownKind { id: 1, kind: 25 }
    );
    b.state_layout(25, 4, 8);
    let btf = Btf::parse(b.build()).expect("one word, then two of 8 bytes");
    assert!(btf.member("after", "x").is_ok());
    let mut zero = Builder::new();
    zero.raw("none", 0, 0, &[]);
    assert_eq!(
        Btf::parse(zero.build()).unwrap_err(),
        BtfError::UnknownKind { id: 1, kind: 0 }
    );
}

#[test]
fn headers_that_are_none() {
    let good = KERNELS[0].bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Btf::parse(bytes).unwrap_err()
    };
    assert_eq!(Btf::parse(Vec::new()).unwrap_err(), BtfError::NotBtf);
    assert_eq!(
        Btf::parse(b"\x7fELF".to_vec()).unwrap_err(),
        BtfError::NotBtf
    );
    assert_eq!(
        Btf::parse(vec![0xeb, 0x9f, 1, 0]).unwrap_err(),
        BtfError::BigEndian
    );
    assert_eq!(with(2, 2), BtfError::Version(2));
    assert!(matches!(
        with(4, 8),
        BtfError::Truncated { what: "header", .. }
    ));
    assert!(matches!(
        with(15, 0xff),
        BtfError::Truncated {
            what: "type section",
            ..
        }
    ));
    assert!(matches!(
        with(23, 0xff),
        BtfError::Truncated {
            what: "string section",
            ..
        }
    ));
    assert_eq!(with(good.len() - 1, b'x'), BtfError::Strings);
}

#[test]
fn members_of_unnamed_members_are_found_whatever_their_type_is_called() {
    let btf = KERNELS[4].btf();
    let owned = btf
        .member("sock", "sk_lock.owned")
        .expect("in struct slock_owned");
    assert_eq!((owned.byte_offset, owned.size_bytes), (320, 4));
    assert_eq!(
        btf.member("sock", "sk_lock.combined")
            .expect("combined")
            .size_bytes,
        8
    );
    let error = btf.member("sock", "sk_lock.slock_owned").unwrap_err();
    assert_eq!(
        error.to_string(),
        "this kernel has no `slock_owned` in `sock.sk_lock.slock_owned`"
    );
}

#[test]
fn pointers_name_what_they_point_to() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let sock = b.refer(FWD, "sock", 0);
    let constant = b.refer(CONST, "", sock);
    let tagged = b.refer(TYPE_TAG, "rcu", constant);
    let to_sock = b.ptr(tagged);
    let unnamed = b.structure("", 4, &[at(0, "x", int)]);
    let lock = b.typedef("socket_lock_t", unnamed);
    let to_lock = b.ptr(lock);
    let to_void = b.ptr(0);
    let to_pointer = b.ptr(to_sock);
    b.structure(
        "s",
        32,
        &[
            at(0, "a", to_sock),
            at(8, "b", to_lock),
            at(16, "c", to_void),
            at(24, "d", to_pointer),
        ],
    );
    let btf = Btf::parse(b.build()).expect("parse");
    let pointee = |name| {
        let field = btf.member("s", name).expect("member");
        assert!(field.is_pointer() && field.size_bytes == 8);
        field.pointee
    };
    assert_eq!(pointee("a"), Some("sock"));
    assert_eq!(pointee("b"), Some("socket_lock_t"));
    assert_eq!(pointee("c"), None);
    assert_eq!(pointee("d"), None);
}

#[test]
fn bit_fields_in_both_encodings() {
    let mut b = Builder::new();
    let byte = b.int("unsigned char", 1);
    let word = b.int("unsigned int", 4);
    let narrow = b.narrow_int("unsigned int", 4, 0, 4);
    let shifted = b.narrow_int("unsigned int", 4, 3, 2);
    b.structure(
        "new",
        4,
        &[bits(4, 4, "low", byte), bits(14, 7, "across", word)],
    );
    b.structure(
        "old",
        8,
        &[
            bits(12, 0, "flags", narrow),
            bits(16, 0, "inner", shifted),
            at(4, "whole", word),
        ],
    );
    let btf = Btf::parse(b.build()).expect("parse");
    let place = |root, name| {
        let f = btf.member(root, name).expect("member");
        (
            f.byte_offset,
            f.bit_offset_in_byte,
            f.bits,
            f.size_bytes,
            f.bit_field,
        )
    };
    assert_eq!(place("new", "low"), (0, 4, 4, 1, true));
    assert_eq!(place("new", "across"), (1, 6, 7, 2, true));
    assert_eq!(place("old", "flags"), (1, 4, 4, 1, true));
    assert_eq!(place("old", "inner"), (2, 3, 2, 1, true));
    assert_eq!(place("old", "whole"), (4, 0, 32, 4, false));
}

#[test]
fn impossible_numbers_are_errors() {
    let mut b = Builder::new();
    let byte = b.int("unsigned char", 1);
    let word = b.int("unsigned int", 4);
    let many = b.array(word, u32::MAX);
    let broken = b.narrow_int("broken", 4, 30, 4);
    let void = b.refer(CONST, "", 0);
    b.structure("wide", 4, &[bits(0, 9, "x", byte)]);
    b.structure("outside", 4, &[at(2, "x", word)]);
    b.structure("odd", 8, &[bits(3, 0, "x", word)]);
    b.structure("array", 4, &[at(0, "x", many)]);
    b.structure("int", 4, &[at(0, "x", broken)]);
    b.structure("sizeless", 4, &[at(0, "x", void)]);
    b.structure("dangling", 4, &[at(0, "x", 999)]);
    let btf = Btf::parse(b.build()).expect("parse");
    for name in ["wide", "outside", "odd", "array", "int", "sizeless"] {
        let error = btf.member(name, "x").unwrap_err();
        assert!(
            matches!(error, BtfError::Impossible { .. }),
            "{name}: {error}"
        );
    }
    assert_eq!(
        btf.member("dangling", "x").unwrap_err(),
        BtfError::BadType { id: 999 }
    );
}

#[test]
fn types_that_contain_themselves_end() {
    let mut b = Builder::new();
    let first = b.typedef("a", 2);
    b.typedef("b", first);
    let itself = b.next();
    // Two unnamed members of its own type: 2^32 paths within the limit of depth.
    b.structure("knot", 8, &[at(0, "", itself), at(0, "", itself)]);
    let array = b.next();
    b.array(array, 2);
    let pointer = b.next();
    b.ptr(pointer);
    b.structure(
        "s",
        16,
        &[
            at(0, "typedef", first),
            at(0, "array", array),
            at(0, "ptr", pointer),
        ],
    );
    b.func("f", &[("x", first)]);
    let btf = Btf::parse(b.build()).expect("parse");
    let deep = |result: Result<Field<'_>, BtfError>| {
        assert!(
            matches!(result, Err(BtfError::TooDeep { .. })),
            "{result:?}"
        );
    };
    deep(btf.member("knot", "x"));
    deep(btf.member("s", "typedef"));
    deep(btf.member("s", "array"));
    assert_eq!(
        btf.member("s", "ptr")
            .expect("a pointer to itself is C")
            .pointee,
        None
    );
    assert!(matches!(btf.find_func("f"), Err(BtfError::TooDeep { .. })));
}

#[test]
fn a_wide_knot_ends_by_the_number_of_steps() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let mut inner = b.structure("leaf", 4, &[at(0, "x", int)]);
    for _ in 0..20 {
        inner = b.structure("", 4, &[at(0, "", inner), at(0, "", inner)]);
    }
    b.structure("top", 4, &[at(0, "", inner)]);
    let btf = Btf::parse(b.build()).expect("parse");
    assert!(btf.member("top", "x").is_ok(), "the first leaf is near");
    assert!(matches!(
        btf.member("top", "y"),
        Err(BtfError::TooDeep { .. })
    ));
}

#[test]
fn prototypes_show_a_moved_argument() {
    let btf = KERNELS[3].btf();
    let func = btf.find_func("tcp_rcv_established").expect("function");
    assert_eq!(
        func.params.iter().map(|p| p.name).collect::<Vec<_>>(),
        ["sk", "skb"]
    );
    assert_eq!(func.expect_pointer(0, "sock"), Ok(()));
    assert_eq!(
        func.expect_pointer(1, "sock").unwrap_err().to_string(),
        "argument 1 of tcp_rcv_established is `sk_buff *` in this kernel, needed is `struct sock *`"
    );
    assert!(
        func.expect_pointer(2, "sock")
            .unwrap_err()
            .to_string()
            .contains("is absent")
    );
    let set_state = btf
        .find_tracepoint("inet_sock_set_state")
        .expect("tracepoint");
    assert_eq!(set_state.params.len(), 3, "without the implicit void *");
    assert_eq!(set_state.expect_pointer(0, "sock"), Ok(()));
    assert!(
        set_state
            .expect_pointer(1, "sock")
            .unwrap_err()
            .to_string()
            .contains("no pointer")
    );
    assert_eq!(
        btf.find_tracepoint("absent").unwrap_err().to_string(),
        "this kernel has no tracepoint `absent`"
    );
}

#[test]
fn variadic_functions() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    b.func("printk", &[("fmt", int), ("", 0)]);
    b.func("wrong", &[("", 0), ("x", int)]);
    let btf = Btf::parse(b.build()).expect("parse");
    let func = btf.find_func("printk").expect("function");
    assert_eq!((func.params.len(), func.variadic), (1, true));
    assert!(matches!(
        btf.find_func("wrong"),
        Err(BtfError::Impossible { .. })
    ));
}

#[test]
fn of_types_with_one_name_the_kind_and_then_the_first_counts() {
    let mut b = Builder::new();
    let int = b.int("int", 4);
    let wide = b.int("long", 8);
    b.typedef("dup", int);
    b.refer(FWD, "dup", 0);
    b.structure("dup", 4, &[at(0, "x", int)]);
    b.structure("dup", 8, &[at(0, "x", wide)]);
    let btf = Btf::parse(b.build()).expect("parse");
    assert_eq!(btf.find_typedef("dup"), Ok(TypeId(3)));
    assert_eq!(btf.find_struct("dup"), Ok(TypeId(5)));
    assert_eq!(btf.size_of("dup"), Ok(4));
}

#[test]
fn truncation_at_every_byte() {
    for kernel in KERNELS {
        let bytes = kernel.bytes();
        for end in 0..bytes.len() {
            assert!(
                Btf::parse(bytes[..end].to_vec()).is_err(),
                "{end} of {}",
                bytes.len()
            );
        }
    }
}

#[test]
fn truncated_sections() {
    // Consistent headers around a type section that ends too early.
    let bytes = KERNELS[4].bytes();
    let types = word(&bytes, 12, "").expect("type_len") as usize;
    for end in 0..types {
        let mut cut = bytes[..24 + end].to_vec();
        cut.extend_from_slice(&bytes[24 + types..]);
        cut[12..16].copy_from_slice(&(end as u32).to_le_bytes());
        cut[16..20].copy_from_slice(&(end as u32).to_le_bytes());
        ask_everything(cut);
    }
}

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/btf")
}

#[test]
fn fuzzing_seeds_never_panic() {
    let mut whole = 0;
    for entry in std::fs::read_dir(seeds()).expect("fuzz/seeds/btf") {
        let bytes = std::fs::read(entry.expect("entry").path()).expect("seed");
        whole += usize::from(Btf::parse(bytes.clone()).is_ok());
        ask_everything(bytes);
    }
    assert!(
        whole > KERNELS.len(),
        "the kernels and more are readable seeds"
    );
}

#[test]
#[ignore = "writes fuzz/seeds/btf: run it when the fixtures change"]
fn write_fuzzing_seeds() {
    let save = |name: &str, bytes: &[u8]| {
        std::fs::write(seeds().join(name), bytes).expect("writable seeds");
    };
    for kernel in KERNELS {
        let version = kernel.release.split(['-', '+']).next().unwrap_or_default();
        save(&format!("kernel-{version}"), &kernel.bytes());
    }
    let bytes = KERNELS[4].bytes();
    for end in [
        0,
        2,
        4,
        16,
        23,
        24,
        30,
        36,
        bytes.len() / 2,
        bytes.len() - 1,
    ] {
        save(&format!("truncated-{end}"), &bytes[..end]);
    }
    let mut b = Builder::new();
    let itself = b.next();
    b.structure("sock", 8, &[at(0, "", itself), at(0, "", itself)]);
    let cycle = b.next();
    b.typedef("btf_trace_tcp_probe", cycle);
    save("knots", &b.build());
    let mut b = Builder::new();
    b.state_layout(25, 4, 8);
    b.raw("new", 25 << 24 | 1, 0, &[0, 0, 0]);
    save("stated-kind", &b.build());
    assert!(Btf::from_file(&seeds().join("stated-kind")).is_ok());
}

#[test]
fn an_absent_file_says_what_is_needed() {
    let error = Btf::from_file(Path::new("/nonexistent/btf"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent/btf") && error.contains("CONFIG_DEBUG_INFO_BTF=y"));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        ask_everything(bytes);
    }

    #[test]
    fn random_sections_never_panic(
        types in proptest::collection::vec(prop_oneof![0_u32..64, any::<u32>(), Just(4 << 24 | 3)], 0..128),
        strings in "[a-c\u{0}]{0,32}",
    ) {
        let mut b = Builder::new();
        b.string("sock");
        b.string(&strings);
        let mut bytes = b.build();
        let at = bytes.len();
        for word in &types {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes[8..12].copy_from_slice(&(at as u32 - 24).to_le_bytes());
        bytes[12..16].copy_from_slice(&(types.len() as u32 * 4).to_le_bytes());
        ask_everything(bytes);
    }

    #[test]
    fn mutations_never_panic(
        kernel in 0_usize..5,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
    ) {
        let mut bytes = KERNELS[kernel].bytes();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        ask_everything(bytes);
    }

    #[test]
    fn mutated_words_never_panic(
        kernel in 0_usize..5,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0_u32..256), 1..8),
    ) {
        // Type ids and lengths that exist, in the wrong place: knots and overlaps.
        let mut bytes = KERNELS[kernel].bytes();
        let types = (word(&bytes, 12, "").expect("type_len") / 4) as usize;
        for (index, value) in changes {
            let at = 24 + index.index(types) * 4;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        ask_everything(bytes);
    }
}
