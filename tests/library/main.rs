//! The library's parts on real sockets, without the binary: every kind of stream, and all that reads bytes from outside. Each module
//! says what it is about: `cargo test --test library contract::` runs one.

mod contract;
#[cfg_attr(not(all(feature = "quic", feature = "h2")), allow(dead_code))]
mod ends;
mod fuzz;
#[cfg(feature = "h2")]
mod h2;
#[cfg(feature = "quic")]
mod quic;

#[path = "../support/mod.rs"]
mod support;
