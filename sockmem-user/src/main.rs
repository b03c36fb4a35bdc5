//! The `sockmem-trace` command.
fn main() {}
