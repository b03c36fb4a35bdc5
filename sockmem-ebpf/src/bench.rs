//! Measuring only: what a program costs that does nothing.

use crate::program;

program!("tp_btf/sock_send_length", be_empty, |_ctx| ());
