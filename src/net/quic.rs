//! QUIC (pool `type=1`): many streams on one connection, over UDP, with quiche.
//!
//! ```text
//!   QuicClient --+                              +-- QuicServer
//!                +-- Connection(s) -- Streams --+        Mux, both
//!                +-- Port: Socket, Inbox, Outbox         many packets a system call
//!
//!   C: Initial            S: Retry(token)                nothing is kept for an unproven address
//!   C: Initial(token)     S: TLS 1.3, ALPN np-quic
//!   C: streams 0, 4, 8..  S: answers on them             a stream is a pool connection; its opener writes 00 first
//! ```
//!
//! - *Verification*: `tls=1` sends no name and verifies nothing here, the fingerprint check follows on the control
//!   connection; `tls=2` verifies chain and name against the system's roots or those of `SSL_CERT_FILE`.
//! - *Resumption*: a client that comes back offers its last ticket ([`Tickets`]); that saves the server's signature and
//!   the certificates. *0-RTT is not used*: what a client says first (00 on a stream) makes the server number a pool
//!   connection, the very first one the control connection, so a replay would not be harmless. Nothing is sent early.
//! - *Amplification*: a server answers an unproven address with at most one packet that is smaller than the one that came,
//!   and only the address that made the HTTP handshake.
//! - *Migration*: a client whose address changes, behind its NAT or on its own machine, keeps its connection; the server
//!   validates the new path before it sends more than it received there.
//! - *Keep-alive*: each side sends a PING if it heard nothing for `report`; after three of those the connection is over. A
//!   client to whom the network says that no socket listens there asks at once, and again within a second.
//! - *Restart*: a server answers a packet of a connection that it does not know with a stateless reset. Its token is made of
//!   the tunnel key ([`Resets`]), so that a server that was started anew ends the connections of the one before.
//! - *Packet size*: what the kernel knows of the path, and quiche's probes, down to 1200 bytes (`packet_size.rs`).
//! - *Windows*: a stream starts with a small one, which grows as fast as it is read, until it fills 1 Gbit/s at 50 ms
//!   ([`super::budget`]). Windows are promises, not memory: only bytes that are not read take memory.

mod client;
mod connection;
mod packet_size;
mod passing;
mod port;
mod reset;
mod server;
mod socket;
mod streams;
mod tls;
mod token;

pub use client::QuicClient;
pub use reset::Resets;
pub use server::QuicServer;
pub use socket::Tally;
pub use tls::{ClientTls, Tickets};

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boring::ssl::SslContextBuilder;
use quiche::{BbrParams, CongestionControlAlgorithm};

use super::budget::Budget;
use super::certs::Identity;
use super::inherited::Inherited;
use super::listen_addr::ListenAddr;
use super::mux::Mux;
use super::random;
use crate::logic::keepalive::QUIC_SILENCE;
use crate::logic::local_end::LocalEnd;

/// How connections are to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `NP_REPORT_INTERVAL`: a PING after so long a silence, the end after three times that.
    pub report: Duration,
    /// A handshake that is not over by then has failed.
    pub timeout: Duration,
    /// A client's: the round trip to the server, as far as known. A server measures it by its Retry.
    pub round: Duration,
    /// How many streams a client may have open at a server at a time, at least.
    pub streams: u64,
    /// Many packets a system call. `false` is for measuring what that gains.
    pub batched: bool,
    /// A server's: what ends connections that it does not know.
    pub resets: Resets,
    /// Its windows.
    pub budget: Budget,
    /// A server's: most bytes that a connection may say before it is a client's, which has to be before `timeout` is over. `None`: all of
    /// them are clients' from the start.
    pub trial: Option<usize>,
    /// A client's: where calls begin, if that is said.
    pub from: Option<LocalEnd>,
}

impl Settings {
    /// For a client.
    pub fn client(report: Duration, timeout: Duration, round: Duration, budget: Budget) -> Settings {
        Settings {
            report,
            timeout,
            round,
            streams: 0,
            batched: true,
            resets: Resets::default(),
            budget,
            trial: None,
            from: None,
        }
    }

    /// For a server with this tunnel key.
    pub fn server(report: Duration, timeout: Duration, streams: u64, key: &[u8], budget: Budget) -> Settings {
        Settings {
            report,
            timeout,
            round: Duration::ZERO,
            streams,
            batched: true,
            resets: Resets::new(key),
            budget,
            trial: None,
            from: None,
        }
    }

    /// The same, whose connections are on trial.
    pub fn with_trial(self, bytes: usize) -> Settings {
        Settings { trial: Some(bytes), ..self }
    }

    /// The same, which calls from there.
    pub fn calling_from(self, from: Option<LocalEnd>) -> Settings {
        Settings { from, ..self }
    }
}

/// A client's connection: [`QuicClient::connect`].
pub fn connect(
    server: SocketAddr,
    tls: &ClientTls,
    settings: &Settings,
    tickets: &mut Tickets,
    now: Instant,
) -> io::Result<Box<dyn Mux>> {
    Ok(Box::new(QuicClient::connect(server, tls, settings, tickets, now)?))
}

/// A server's port: [`QuicServer::open`].
pub fn listen(
    addresses: &[ListenAddr],
    inherited: &Inherited,
    identity: &Identity,
    settings: &Settings,
    now: Instant,
) -> io::Result<Box<dyn Mux>> {
    Ok(Box::new(QuicServer::open(addresses, inherited, identity, settings, now)?))
}

/// What both sides ask of quiche.
fn config(settings: &Settings, context: SslContextBuilder, largest: usize) -> io::Result<quiche::Config> {
    let make = || {
        let mut config = quiche::Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, context)?;
        config.set_application_protos(&[ALPN])?;
        config.set_max_idle_timeout(u64::from(QUIC_SILENCE) * settings.report.as_millis() as u64);
        config.set_max_recv_udp_payload_size(largest);
        config.set_max_send_udp_payload_size(largest);
        config.discover_pmtu(true);
        // The count goes up again when half of it is used up, so twice as many let `streams` be open at any time.
        config.set_initial_max_streams_bidi(settings.streams.saturating_mul(2));
        config.set_initial_max_streams_uni(0);
        let budget = &settings.budget;
        config.set_initial_max_data(budget.quic_connection);
        config.set_max_connection_window(budget.quic_connection);
        config.set_initial_max_stream_data_bidi_local(budget.quic_start);
        config.set_initial_max_stream_data_bidi_remote(budget.quic_start);
        config.set_max_stream_window(budget.quic_stream);
        config.set_active_connection_id_limit(PATHS);
        config.set_custom_bbr_params(BbrParams { loss_threshold: Some(LOSSES), ..BbrParams::default() });
        config.grease(false);
        Ok::<_, quiche::Error>(config)
    };
    make().map_err(io::Error::other)
}

/// What to do about losses, on a path with this round trip. All users of a tunnel share one window.
///
/// On a long path BBR, which goes by what arrives: an algorithm that takes every loss for a full path carries next to nothing
/// where one packet of a hundred is lost (`docs/benchmarks.md`). On a short one CUBIC: BBR has to pace, our timers are no
/// finer than a millisecond, and a path of less than that would stand still between two of them.
fn congestion(round: Duration) -> CongestionControlAlgorithm {
    match round < LONG {
        true => CongestionControlAlgorithm::CUBIC,
        false => CongestionControlAlgorithm::Bbr2Gcongestion,
    }
}

/// A connection id of ours.
type Id = [u8; ID];

/// An id that cannot be guessed.
fn random_id() -> io::Result<Id> {
    random::bytes()
}

/// The share of a round trip's bytes that BBR takes for chance, like losses over radio; more means that the path is full. With the 1.5 % of quiche a
/// small window of a path that loses 1 % at random stays small: two packets of a hundred are often lost.
const LOSSES: f32 = 0.05;
/// A path is a long one from this round trip on: several times the fineness of timers.
const LONG: Duration = Duration::from_millis(5);
/// The name of the protocol inside.
const ALPN: &[u8] = b"np-quic";
/// Bytes of a connection id of ours.
const ID: usize = 8;
/// Most addresses that one connection may have had. quiche forgets none of them, and each keeps an id: after so many
/// changes the connection times out, and a new one follows.
const PATHS: u64 = 64;
/// Ids that the other side has in hand for its next addresses.
const SPARE_IDS: usize = 3;
