//! Which connections are wanted at the tunnel port, and whose they are. Pure: the hub makes one whenever a tunnel begins or
//! ends, and workers ask it.
//!
//! ```text
//!  opened(bytes)    the bytes of the feature `open` name the tunnel, from any address
//!  silent(address)  an original opens its pool connections without a word: its address names the tunnel
//! ```

use std::net::IpAddr;
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::config::Transport;
use crate::logic::terms::TunnelNo;
use crate::net::certs::Identity;

/// Which connections are wanted at the tunnel port.
pub struct AcceptPolicy {
    /// For connections that speak TLS.
    pub tls: Option<Identity>,
    /// Handshakes may come inside TLS (the tunnel port is 443, or a proxy may stand before it).
    pub tls_handshake: bool,
    /// What pool connections are made of.
    pub transport: Transport,
    /// Most streams that one peer may have open at once.
    pub streams: usize,
    /// Whether peers have no reason to speak first on a pool connection (we are the ingress).
    pub quiet: bool,
    /// The tunnels that pool connections are wanted for, the newest last.
    pub tunnels: Vec<ExpectedTunnel>,
    /// How long a connection may take to show what it is for (`NP_HANDSHAKE_TIMEOUT`).
    pub timeout: Duration,
}

/// A tunnel that pool connections are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedTunnel {
    /// Its number.
    pub number: TunnelNo,
    /// The address that shook hands.
    pub peer: IpAddr,
    /// What a pool connection must open with, where the peer knows that feature.
    pub open: Option<[u8; OPENING]>,
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
    /// This tunnel's.
    Tunnel(ExpectedTunnel),
    /// None that is known.
    Unknown,
}

impl AcceptPolicy {
    /// Whether TLS is spoken at this port at all.
    pub fn wants_tls(&self) -> bool {
        let pool = self.tunnels.iter().any(|tunnel| self.fits(tunnel, Kind::Tls));
        let inside = matches!(self.transport, Transport::WebSocket | Transport::Http2) && !self.tunnels.is_empty();
        self.tls.is_some() && (self.tls_handshake || pool || inside)
    }

    /// Whether pool connections are made of that, for any tunnel.
    pub fn expects(&self, transport: Transport) -> bool {
        self.transport == transport && !self.tunnels.is_empty()
    }

    /// The tunnel of an original at that address, whose pool connections open without a word.
    pub fn silent(&self, from: IpAddr, kind: Kind) -> Option<ExpectedTunnel> {
        let original =
            |tunnel: &&ExpectedTunnel| tunnel.open.is_none() && tunnel.peer == from && self.fits(tunnel, kind);
        self.tunnels.iter().rev().find(original).copied()
    }

    /// Whether there are tunnels whose pool connections open with bytes of their own.
    pub fn expects_opening(&self, kind: Kind) -> bool {
        self.tunnels.iter().any(|tunnel| tunnel.open.is_some() && self.fits(tunnel, kind))
    }

    /// Whose connection it is that begins with `bytes`. All openings are compared, each in constant time.
    pub fn opened(&self, bytes: &[u8], from: IpAddr, kind: Kind) -> Opened {
        let mut found = None;
        for tunnel in self.tunnels.iter().filter(|tunnel| self.fits(tunnel, kind)) {
            if tunnel.open.is_some_and(|open| bool::from(bytes.ct_eq(&open))) {
                found = Some(*tunnel);
            }
        }
        let ours = self.expects_opening(kind);
        // A stream has to say something to be one: an original says one byte.
        let original = self.silent(from, kind).filter(|_| kind == Kind::Stream && bytes == [0]);
        match (found, original) {
            (Some(tunnel), _) => Opened::Tunnel(tunnel),
            (None, Some(tunnel)) if ours => Opened::Original(tunnel),
            (None, Some(tunnel)) => Opened::Tunnel(tunnel),
            (None, None) if ours && bytes.len() < OPENING => Opened::NeedMore,
            (None, None) => Opened::Unknown,
        }
    }

    fn fits(&self, tunnel: &ExpectedTunnel, kind: Kind) -> bool {
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

/// Bytes of an opening.
pub const OPENING: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn tunnel(number: TunnelNo, peer: IpAddr, open: Option<u8>) -> ExpectedTunnel {
        let open = open.map(|byte| {
            let mut bytes = [byte; OPENING];
            bytes[0] = 0;
            bytes
        });
        ExpectedTunnel { number, peer, open, fallback: false, ws_eof: false }
    }

    fn policy(transport: Transport, tunnels: &[ExpectedTunnel]) -> AcceptPolicy {
        let timeout = Duration::from_secs(5);
        let tunnels = tunnels.to_vec();
        AcceptPolicy { tls: None, tls_handshake: false, transport, streams: 10, quiet: true, tunnels, timeout }
    }

    #[test]
    fn the_opening_names_the_tunnel_from_any_address() {
        let (a, b) = (tunnel(1, HERE, Some(7)), tunnel(2, HERE, Some(8)));
        let policy = policy(Transport::Tcp, &[a, b]);
        for from in [HERE, THERE] {
            assert_eq!(policy.opened(&a.open.unwrap(), from, Kind::Plain), Opened::Tunnel(a));
            assert_eq!(policy.opened(&b.open.unwrap(), from, Kind::Plain), Opened::Tunnel(b));
            assert_eq!(policy.opened(&[0; 15], from, Kind::Plain), Opened::NeedMore);
            assert_eq!(policy.opened(&[0; 16], from, Kind::Plain), Opened::Unknown);
            assert_eq!(policy.opened(&a.open.unwrap(), from, Kind::Tls), Opened::Unknown, "in the clear");
            assert_eq!(policy.silent(from, Kind::Plain), None);
        }
    }

    #[test]
    fn an_original_is_told_by_its_address_and_the_newest_tunnel_of_it_counts() {
        let (old, new, other) = (tunnel(1, HERE, None), tunnel(2, HERE, None), tunnel(3, THERE, Some(7)));
        let policy = policy(Transport::Tcp, &[old, new, other]);
        assert_eq!(policy.silent(HERE, Kind::Plain), Some(new));
        assert_eq!(policy.silent(THERE, Kind::Plain), None);
        assert_eq!(policy.silent(HERE, Kind::Stream), None);
        assert!(policy.expects_opening(Kind::Plain));
    }

    #[test]
    fn a_stream_of_an_original_says_one_byte_and_waits_only_where_it_might_be_another_s() {
        let (original, ours) = (tunnel(1, HERE, None), tunnel(2, THERE, Some(7)));
        let alone = policy(Transport::Quic, &[original]);
        assert_eq!(alone.opened(&[0], HERE, Kind::Stream), Opened::Tunnel(original));
        assert_eq!(alone.opened(&[0], THERE, Kind::Stream), Opened::Unknown);
        let both = policy(Transport::Quic, &[original, ours]);
        assert_eq!(both.opened(&[0], HERE, Kind::Stream), Opened::Original(original));
        assert_eq!(both.opened(&[0], THERE, Kind::Stream), Opened::NeedMore);
        assert_eq!(both.opened(&ours.open.unwrap(), HERE, Kind::Stream), Opened::Tunnel(ours));
    }

    #[test]
    fn without_tunnels_nothing_is_wanted() {
        let policy = policy(Transport::WebSocket, &[]);
        assert!(!policy.wants_tls() && !policy.expects(Transport::WebSocket));
        assert_eq!(policy.opened(&[0], HERE, Kind::WebSocket), Opened::Unknown);
    }
}
