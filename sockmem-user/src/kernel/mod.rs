//! Facts about the running kernel: its BTF, and the field offsets resolved from it.
