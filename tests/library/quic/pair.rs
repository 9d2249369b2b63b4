//! A client and a server of QUIC.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nodepass::net::budget::Budget;
use nodepass::net::certs::{Alpn, Audience, Certs, Identity, Origin, Trust};
use nodepass::net::mux::{AllowedPeer, Mux, StreamNo};
use nodepass::net::quic::{ClientTls, QuicClient, QuicServer, Settings, Tickets};

pub use crate::ends::{flow, End, Ends, GRACE};

pub const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub fn settings() -> Settings {
    let (report, timeout) = (Duration::from_secs(5), Duration::from_secs(10));
    Settings { streams: 64, ..Settings::client(report, timeout, Duration::ZERO, Budget::PLENTY) }
}

pub fn identity() -> Identity {
    Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current()
}

pub fn any_server() -> ClientTls {
    ClientTls::new(Trust::ANY, "").unwrap()
}

/// A client and a server.
pub type Both = Ends<QuicClient, QuicServer>;

pub fn server(settings: &Settings, identity: &Identity) -> End<QuicServer> {
    let at = SocketAddr::new(HOME, 0);
    let mut server = QuicServer::bind(&[at.into()], identity, settings, Instant::now()).unwrap();
    server.allow(&[AllowedPeer { tunnel: 1, address: HOME, connections: 1 }], identity).unwrap();
    End::new(Box::new(server))
}

pub fn client(at: SocketAddr, tls: &ClientTls, settings: &Settings, tickets: &mut Tickets) -> End<QuicClient> {
    End::new(Box::new(QuicClient::connect(at, tls, settings, tickets, Instant::now()).unwrap()))
}

impl Both {
    pub fn of(client: End<QuicClient>, server: End<QuicServer>) -> Both {
        Both { client, server, pause: Duration::from_millis(1) }
    }

    /// Two ends whose handshake is still to come.
    pub fn apart(settings: &Settings) -> Both {
        let server = server(settings, &identity());
        let at = server.mux.local().next().unwrap();
        Both::of(client(at, &any_server(), settings, &mut Tickets::default()), server)
    }

    /// Two ends with a connection between them.
    pub fn joined(settings: &Settings) -> Both {
        let mut both = Both::apart(settings);
        both.until_true(|both| both.client.mux.is_up() && both.server.mux.is_up());
        both
    }

    /// A stream with one byte sent on it, seen from both sides.
    pub fn stream(&mut self) -> (StreamNo, StreamNo) {
        self.stream_with(&[0])
    }
}
