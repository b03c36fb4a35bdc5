//! Recordings of every version of the format, kept for ever under `tests/golden`.
