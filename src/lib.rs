//! NodePass: a small, fast TCP/UDP tunnel.
//!
//! This file is the map. A directory is a layer, and arrows only point down:
//!
//! ```text
//!    main -> master -> run -> net -> logic          code_pages, config, heap, log, notify: leaves, read by main, master and run; error: read by all
//!       \-> check -----^-----^------^                check also reads the master's records
//! ```
//!
//! `logic` decides, `net` moves bytes, `run` owns threads, `master` owns processes, `check` looks at all that from outside. Start with [`run::start`] (how an instance starts),
//! [`run::event_loop`] (what a thread repeats), [`run::hub`] (who gets what), `run::worker::relay` and [`net::relay`] (how bytes move).

#![warn(missing_docs)]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod code_pages;
pub mod config;
pub mod error;
pub mod heap;
pub mod log;
pub mod notify;
#[cfg(test)]
mod testing;

/// Pure decisions: no sockets, clock, threads or randomness. Time and chance are arguments.
pub mod logic {
    pub mod auth;
    pub mod backoff;
    pub mod bans;
    pub mod checkpoint;
    pub mod control;
    pub mod deadlines;
    #[cfg(feature = "quic")]
    pub mod delayed_ack;
    pub mod dialect;
    #[cfg(feature = "dns")]
    pub mod dns;
    pub mod encoding;
    pub mod expiring;
    pub mod fingerprint;
    pub mod guard;
    pub mod handshake;
    pub mod http;
    pub mod keepalive;
    pub mod launched;
    pub mod loads;
    pub mod local_end;
    pub mod metrics;
    pub mod names;
    pub mod networks;
    pub mod next_notice;
    pub mod pool;
    pub mod program;
    pub mod proxy;
    pub mod refill;
    pub mod reminder;
    pub mod scheduler;
    pub mod secret_hash;
    pub mod serial;
    pub mod slab;
    pub mod sniff;
    pub mod strangers;
    pub mod target;
    pub mod terms;
    pub mod timers;
    pub mod upgrade;
    pub mod wire;
    pub mod x509;
}

/// Bytes in motion: nothing here waits, and nothing decides.
pub mod net {
    pub mod batch;
    pub mod bind;
    pub mod budget;
    mod cert_errors;
    pub mod certs;
    pub mod cgroup;
    pub mod connect;
    #[cfg(not(all(feature = "quic", feature = "ws", feature = "h2", feature = "dns")))]
    mod disabled;
    #[cfg(feature = "dns")]
    pub mod dns;
    #[cfg(feature = "h2")]
    pub mod h2;
    pub mod http_connect;
    pub mod inherited;
    pub mod leg;
    pub mod listen;
    pub mod listen_addr;
    pub mod lower;
    #[cfg(any(feature = "quic", feature = "check"))]
    pub mod mtu;
    pub mod mux;
    #[cfg(feature = "h2")]
    pub mod nghttp2;
    pub mod pipe;
    #[cfg(feature = "quic")]
    pub mod quic;
    pub mod random;
    pub mod relay;
    pub mod resolve;
    mod rest;
    pub mod serial;
    mod sessions;
    pub mod stream;
    pub mod sys;
    pub mod tcp;
    pub mod tls;
    pub mod udp;
    #[cfg(feature = "ws")]
    pub mod ws;

    #[cfg(not(feature = "dns"))]
    pub use disabled::dns;
    #[cfg(not(feature = "h2"))]
    pub use disabled::h2;
    #[cfg(not(feature = "quic"))]
    pub use disabled::quic;
    #[cfg(not(feature = "ws"))]
    pub use disabled::ws;
}

/// Threads: one hub, workers, and how they talk.
pub mod run {
    pub mod channel;
    pub mod cmdline;
    #[cfg(feature = "dns")]
    pub mod dns;
    #[cfg(not(feature = "dns"))]
    pub use super::net::dns;
    pub mod event_loop;
    pub mod following;
    pub mod hub;
    pub mod leash;
    pub mod messages;
    pub mod metrics;
    pub mod policy;
    pub mod poller;
    pub mod process;
    pub(crate) mod resources;
    pub mod shared;
    pub mod start;
    pub mod stats;
    pub mod user;
    pub mod worker;
}

/// Looking at a set-up from outside: what is wrong with it, and what its instances do.
#[cfg(feature = "check")]
pub mod check {
    mod api;
    mod certificates;
    mod dial;
    pub mod finding;
    #[cfg(feature = "master")]
    mod folder;
    mod handshake;
    mod holders;
    mod instance;
    mod lookups;
    mod machine;
    mod managed;
    mod peer;
    mod ports;
    mod quic;
    mod report;
    mod server;
    mod setup;
    mod show;
    pub mod start;
    mod status;
    mod targets;
    #[cfg(test)]
    mod testing;
    pub mod words;
}

/// Processes: a REST API, and instances as children.
#[cfg(feature = "master")]
pub mod master {
    pub mod api;
    mod bans;
    mod bounds;
    pub mod call;
    mod checks;
    pub mod child;
    pub mod child_log;
    pub mod events;
    mod export;
    mod fields;
    pub mod front;
    pub mod gob;
    mod handlers;
    mod host;
    pub mod http;
    mod ids;
    pub mod instance;
    mod json;
    pub mod mail;
    mod mcp;
    pub mod metrics;
    mod openapi;
    #[cfg(feature = "page")]
    mod page;
    pub mod record;
    pub mod requests;
    mod routes;
    mod semaphore;
    pub mod start;
    pub mod state;
    mod stream;
    pub mod supervisor;
    mod tcping;
}
