//! NodePass: a small, fast TCP/UDP tunnel.
//!
//! This file is the map. A directory is a layer, and arrows only point down:
//!
//! ```text
//!    main -> master -> run -> net -> logic          config, heap, log: leaves, read by main, master and run
//! ```
//!
//! `logic` decides, `net` moves bytes, `run` owns threads, `master` owns processes. Start with [`run::turn`] (how an instance starts and what a
//! thread repeats), [`run::hub`] (who gets what), [`run::joined`] and [`net::relay`] (how bytes move).

#![warn(missing_docs)]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod config;
pub mod heap;
pub mod log;
#[cfg(test)]
mod testing;

/// Pure decisions: no sockets, clock, threads or randomness. Time and chance are arguments.
pub mod logic {
    pub mod control;
    pub mod handshake;
    pub mod http;
    pub mod names;
    pub mod pace;
    pub mod pool;
    pub mod proxy;
    pub mod pulse;
    pub mod slab;
    pub mod sniff;
    pub mod target;
    pub mod terms;
    pub mod timers;
    pub mod upgrade;
    pub mod wire;
}

/// Bytes in motion: nothing here waits, and nothing decides.
pub mod net {
    #[cfg(not(all(feature = "quic", feature = "ws", feature = "h2")))]
    mod absent;
    pub mod certs;
    pub mod cgroup;
    pub mod connect;
    mod distrust;
    #[cfg(feature = "h2")]
    pub mod h2;
    pub mod leg;
    pub mod mux;
    #[cfg(feature = "h2")]
    pub mod nghttp2;
    pub mod pipe;
    #[cfg(feature = "quic")]
    pub mod quic;
    pub mod relay;
    pub mod resolve;
    pub mod share;
    pub mod stream;
    pub mod sys;
    pub mod tcp;
    pub mod tls;
    pub mod tunnelling;
    pub mod udp;
    #[cfg(feature = "ws")]
    pub mod ws;

    #[cfg(not(feature = "h2"))]
    pub use absent::h2;
    #[cfg(not(feature = "quic"))]
    pub use absent::quic;
    #[cfg(not(feature = "ws"))]
    pub use absent::ws;
}

/// Threads: one hub, workers, and how they talk.
pub mod run {
    mod caller;
    mod carrier;
    mod client;
    mod dialer;
    pub(crate) mod door;
    pub mod handoff;
    pub mod hub;
    pub mod joined;
    pub mod leash;
    mod plan;
    mod probe;
    pub(crate) mod room;
    mod server;
    pub mod task;
    mod tunnel;
    pub mod turn;
    mod users;
    mod visitor;
    mod way;
    mod worker;
}

/// Processes: a REST API, and instances as children.
#[cfg(feature = "master")]
pub mod master {
    pub mod api;
    pub mod call;
    pub mod child;
    pub mod events;
    mod exchange;
    mod fields;
    pub mod front;
    pub mod gob;
    mod host;
    pub mod http;
    pub mod instance;
    mod json;
    mod mcp;
    mod openapi;
    pub mod order;
    mod orders;
    pub mod record;
    pub mod start;
    pub mod state;
    mod stream;
    pub mod supervisor;
    mod tcping;
    pub mod words;
}
