//! Outputs: every one renders the same `model::View`.
