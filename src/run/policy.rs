//! Which connections are wanted at the tunnel port, and whose they may be. Pure: the hub makes one whenever a tunnel begins or
//! ends, and workers ask it.
//!
//! ```text
//!  opened(bytes)    an opening of an authenticated tunnel, from any address: the hub looks whether it is true
//!  silent(address)  an original opens its pool connections without a word: its address names the tunnel
//! ```

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ServerConfig;

use crate::config::Transport;
use crate::logic::auth::{Opening, OPENING};
use crate::logic::terms::TunnelNo;
use crate::net::certs::{Alpn, Audience, Certs, Identity, Origin};

/// Which connections are wanted at the tunnel port.
pub struct AcceptPolicy {
    /// What pool connections show that speak TLS.
    pub tls: Option<Identity>,
    /// What handshakes show where pool connections have no TLS.
    pub handshake_tls: Arc<HandshakeTls>,
    /// A handshake of any peer may come inside TLS (the tunnel port is 443, or a proxy may stand before it).
    pub tls_handshake: bool,
    /// A handshake is a line (`wire=1.12` and older).
    pub lines: bool,
    /// What pool connections are made of.
    pub transport: Transport,
    /// Most streams that one peer may have open at once.
    pub streams: usize,
    /// Most bytes that a connection of many streams may say before one of them is a client's.
    pub trial: usize,
    /// Whether peers have no reason to speak first on a pool connection (we are the ingress).
    pub quiet: bool,
    /// The tunnels that pool connections are wanted for, the newest last.
    pub tunnels: Vec<ExpectedTunnel>,
    /// How long a connection may take to show what it is for (`NP_HANDSHAKE_TIMEOUT`).
    pub timeout: Duration,
}

/// A certificate for handshakes alone, made when the first one comes.
#[derive(Default)]
pub struct HandshakeTls(OnceLock<Option<Arc<ServerConfig>>>);

impl HandshakeTls {
    fn config(&self) -> Option<Arc<ServerConfig>> {
        let make = || match Certs::new(Origin::Memory, Audience::Pool(Alpn::Http1)) {
            Ok(certs) => Some(certs.current().config),
            Err(why) => {
                log::error!("No handshake inside TLS is possible: {why}");
                None
            }
        };
        self.0.get_or_init(make).clone()
    }
}

/// A tunnel that pool connections are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedTunnel {
    /// Its number.
    pub number: TunnelNo,
    /// The address that shook hands.
    pub peer: IpAddr,
    /// Whether its pool connections begin with an opening.
    pub authenticated: bool,
    /// Whether its handshakes come inside TLS.
    pub asks_inside_tls: bool,
    /// How many QUIC connections its client may make: none while its address is banned.
    pub connections: usize,
    /// TLS over TCP will do as well: the path for the transport may be blocked.
    pub fallback: bool,
    /// Whether an empty message is an end (WebSocket).
    pub ws_eof: bool,
}

/// What a connection is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP in the clear.
    Plain,
    /// TLS over TCP.
    Tls,
    /// A WebSocket.
    WebSocket,
    /// A stream of a QUIC or HTTP/2 connection.
    Stream,
}

/// Whose connection it is that opens with these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// More bytes will tell.
    NeedMore,
    /// It has said enough for an original, and too little for our own client: silence decides.
    Original(ExpectedTunnel),
    /// This tunnel's, an original's.
    Tunnel(ExpectedTunnel),
    /// It says so itself; whether it is true the hub knows.
    Claim(Opening),
    /// None that is known.
    Unknown,
}

impl AcceptPolicy {
    /// For a connection that speaks TLS. `None` if no certificate can be made.
    pub fn server_tls(&self) -> Option<Arc<ServerConfig>> {
        match &self.tls {
            Some(tls) => Some(tls.config.clone()),
            None => self.handshake_tls.config(),
        }
    }

    /// Whether a handshake may come on that.
    pub fn may_ask(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Plain | Kind::Tls)
    }

    /// Whether a silent connection inside TLS may be anything but a pool connection of that tunnel.
    pub fn waits_inside_tls(&self, tunnel: &ExpectedTunnel) -> bool {
        self.tls_handshake || tunnel.asks_inside_tls || self.expects_opening(Kind::Tls)
    }

    /// Whether pool connections are made of that, for any tunnel.
    pub fn expects(&self, transport: Transport) -> bool {
        self.transport == transport && !self.tunnels.is_empty()
    }

    /// The tunnel of an original at that address, whose pool connections open without a word.
    pub fn silent(&self, from: IpAddr, kind: Kind) -> Option<ExpectedTunnel> {
        let original =
            |tunnel: &&ExpectedTunnel| !tunnel.authenticated && tunnel.peer == from && self.fits(tunnel, kind);
        self.tunnels.iter().rev().find(original).copied()
    }

    /// Whether there are tunnels whose pool connections open with bytes of their own.
    pub fn expects_opening(&self, kind: Kind) -> bool {
        self.tunnels.iter().any(|tunnel| tunnel.authenticated && self.fits(tunnel, kind))
    }

    /// Whose connection it is that begins with `bytes`, of which the first is 00.
    pub fn opened(&self, bytes: &[u8], from: IpAddr, kind: Kind) -> Opened {
        let ours = self.expects_opening(kind);
        // A stream has to say something to be one: an original says one byte.
        let original = self.silent(from, kind).filter(|_| kind == Kind::Stream && bytes == [0]);
        match (original, bytes.try_into()) {
            (Some(tunnel), _) if ours => Opened::Original(tunnel),
            (Some(tunnel), _) => Opened::Tunnel(tunnel),
            (None, Ok(opening)) if ours => Opened::Claim(opening),
            (None, Err(_)) if ours && bytes.len() < OPENING => Opened::NeedMore,
            (None, _) => Opened::Unknown,
        }
    }

    /// Whether a pool connection of that tunnel may be made of that.
    pub fn fits(&self, tunnel: &ExpectedTunnel, kind: Kind) -> bool {
        match (kind, self.transport) {
            (Kind::Plain, Transport::Tcp) => self.tls.is_none(),
            (Kind::Tls, Transport::Tcp) => self.tls.is_some(),
            (Kind::Tls, Transport::Quic) => tunnel.fallback,
            (Kind::Stream, Transport::Quic | Transport::Http2) => true,
            (Kind::WebSocket, Transport::WebSocket) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn tunnel(number: TunnelNo, peer: IpAddr, authenticated: bool) -> ExpectedTunnel {
        ExpectedTunnel {
            number,
            peer,
            authenticated,
            asks_inside_tls: false,
            connections: 1,
            fallback: false,
            ws_eof: false,
        }
    }

    fn policy(transport: Transport, tunnels: &[ExpectedTunnel]) -> AcceptPolicy {
        AcceptPolicy {
            tls: None,
            handshake_tls: Arc::default(),
            tls_handshake: false,
            lines: false,
            transport,
            streams: 10,
            trial: 1 << 16,
            quiet: true,
            tunnels: tunnels.to_vec(),
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn an_opening_claims_its_tunnel_from_any_address() {
        let policy = policy(Transport::Tcp, &[tunnel(1, HERE, true)]);
        for from in [HERE, THERE] {
            assert_eq!(policy.opened(&[0; OPENING], from, Kind::Plain), Opened::Claim([0; OPENING]));
            assert_eq!(policy.opened(&[0; OPENING - 1], from, Kind::Plain), Opened::NeedMore);
            assert_eq!(policy.opened(&[0; OPENING + 1], from, Kind::Plain), Opened::Unknown);
            assert_eq!(policy.opened(&[0; OPENING], from, Kind::Tls), Opened::Unknown, "another kind");
            assert_eq!(policy.silent(from, Kind::Plain), None);
        }
    }

    #[test]
    fn an_original_is_told_by_its_address_and_the_newest_tunnel_of_it_counts() {
        let (old, new, other) = (tunnel(1, HERE, false), tunnel(2, HERE, false), tunnel(3, THERE, true));
        let policy = policy(Transport::Tcp, &[old, new, other]);
        assert_eq!(policy.silent(HERE, Kind::Plain), Some(new));
        assert_eq!(policy.silent(THERE, Kind::Plain), None);
        assert_eq!(policy.silent(HERE, Kind::Stream), None);
        assert!(policy.expects_opening(Kind::Plain));
    }

    #[test]
    fn a_stream_of_an_original_says_one_byte_and_waits_only_where_it_might_be_another_s() {
        let (original, ours) = (tunnel(1, HERE, false), tunnel(2, THERE, true));
        let alone = policy(Transport::Quic, &[original]);
        assert_eq!(alone.opened(&[0], HERE, Kind::Stream), Opened::Tunnel(original));
        assert_eq!(alone.opened(&[0], THERE, Kind::Stream), Opened::Unknown);
        let both = policy(Transport::Quic, &[original, ours]);
        assert_eq!(both.opened(&[0], HERE, Kind::Stream), Opened::Original(original));
        assert_eq!(both.opened(&[0], THERE, Kind::Stream), Opened::NeedMore);
        assert_eq!(both.opened(&[0; OPENING], HERE, Kind::Stream), Opened::Claim([0; OPENING]));
    }

    #[test]
    fn without_tunnels_nothing_is_wanted() {
        let policy = policy(Transport::WebSocket, &[]);
        assert!(!policy.expects(Transport::WebSocket));
        assert_eq!(policy.opened(&[0], HERE, Kind::WebSocket), Opened::Unknown);
    }
}
