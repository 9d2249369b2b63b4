//! The binary from end to end: what its users, operators and enemies see of it. Each module says what it is about:
//! `cargo test --test e2e relay::` runs one.

#[cfg(feature = "master")]
mod api;
mod attacks;
mod auth;
#[cfg(feature = "check")]
mod check;
mod clients;
mod cross;
#[cfg(feature = "quic")]
mod fallback;
mod following;
#[cfg(feature = "master")]
mod front;
mod hostile;
mod log;
#[cfg(feature = "master")]
mod master_life;
mod metrics;
mod narrow;
mod older;
mod original;
mod pair;
mod parameters;
mod recovery;
mod relay;
mod reuse;
mod service_manager;
#[cfg(feature = "master")]
mod state;
#[cfg(all(feature = "quic", feature = "h2"))]
mod streams;
mod udp;

#[path = "../support/mod.rs"]
mod support;
