//! Drains the ring buffer and reads the state maps.
