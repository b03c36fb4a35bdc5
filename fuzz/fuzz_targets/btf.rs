//! Any bytes as the kernel's types: parsed, resolved, and asked by name.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use sockmem::kernel::{Btf, Features, features::Release, resolve};

fuzz_target!(|bytes: &[u8]| {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else {
        return;
    };
    if let Ok(resolved) = resolve(&btf) {
        // What was found lies within the structs that it was found in.
        let size = btf.size_of("sock").expect("resolved without struct sock");
        assert!(
            resolved
                .layout
                .rmem_alloc
                .checked_add(4)
                .is_some_and(|end| end <= size)
        );
        assert!(
            resolved
                .layout
                .socket
                .checked_add(8)
                .is_some_and(|end| end <= size)
        );
    }
    for name in [
        "tcp_release_cb",
        "tcp_rcv_established",
        "skb_attempt_defer_free",
    ] {
        if let Ok(func) = btf.find_func(name) {
            drop(func.expect_pointer(0, "sock"));
        }
    }
    for name in ["inet_sock_set_state", "tcp_probe"] {
        drop(btf.find_tracepoint(name));
    }
    let features = Features::from_btf(&btf);
    black_box(features.release_cb_is_conditional(&Release::parse("6.1")));
    black_box(features.forward_alloc_is_returned());
});
