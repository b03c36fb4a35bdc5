//! The ABI between the eBPF programs and user space, declared once.
//!
//! Everything that crosses the kernel boundary lives here: `repr(C)`,
//! fixed-width integers, explicit padding, sizes asserted at compile time. The
//! arithmetic that both sides must do alike (integrals over time, peaks, the
//! split of resident bytes by reason) lives here as well, so that the kernel's
//! figures and user space's continuation of them cannot drift apart, and so
//! that the arithmetic is tested on the host.
#![no_std]

mod config;
mod counters;
mod event;
mod histogram;
pub mod hook;
mod integral;
mod state;

pub use config::*;
pub use counters::*;
pub use event::*;
pub use histogram::*;
pub use integral::*;
pub use state::*;

/// Declares which ABI structs may be copied as plain bytes across the kernel boundary.
#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($t:ty),* $(,)?) => {$(
            // SAFETY: repr(C), made only of integers and arrays of integers, without
            // implicit padding (sizes are asserted where each struct is declared), so
            // every bit pattern is a valid value.
            unsafe impl aya::Pod for $t {}
        )*};
    }
    pod!(
        crate::Layout,
        crate::Settings,
        crate::SockState,
        crate::Entry,
        crate::Owner,
        crate::Stats,
        crate::TruesizeSum,
        crate::Pending,
        crate::AuditStats,
        crate::PressureCounts,
        crate::LimitSet,
        crate::Pressure,
        crate::SysctlWrite,
    );
}
