//! The program table and the one loader that walks it.
