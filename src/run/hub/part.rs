//! What an instance is: a tunnel's server, its client, or a client by itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::client::Client;
use super::out::EndReason;
use super::server::Server;
use super::single::Single;
use super::tunnel::{Side, Tunnel};
use crate::logic::terms::TunnelNo;
use crate::net::certs::Certs;

/// What this instance is.
pub(in crate::run) enum Part {
    /// A tunnel's server.
    Server(Box<Server>),
    /// A tunnel's client.
    Client(Client),
    /// A client that forwards by itself.
    Single(Single),
}

impl Part {
    /// The tunnel of that number: the one place where numbers are looked up.
    pub fn tunnel(&mut self, number: TunnelNo) -> Option<&mut Tunnel> {
        match self {
            Part::Server(server) => server.tunnel(number),
            Part::Client(client) => client.tunnel_mut(number),
            Part::Single(_) => None,
        }
    }

    /// Whether there is no tunnel.
    pub fn is_single(&self) -> bool {
        matches!(self, Part::Single(_))
    }

    /// The client's state, if it is one.
    pub fn client(&mut self) -> Option<&mut Client> {
        match self {
            Part::Client(client) => Some(client),
            Part::Server(_) | Part::Single(_) => None,
        }
    }

    /// The server's state, if it is one.
    pub fn server(&mut self) -> Option<&mut Server> {
        match self {
            Part::Server(server) => Some(server),
            Part::Client(_) | Part::Single(_) => None,
        }
    }

    /// Takes a tunnel out that is over; its peer.
    pub fn end(&mut self, number: TunnelNo, reason: &EndReason, now: Instant) -> Option<SocketAddr> {
        match self {
            Part::Server(server) => server.end(number).map(|tunnel| tunnel.peer()),
            Part::Client(client) => client.end(number, reason, now).map(|tunnel| tunnel.peer()),
            Part::Single(_) => None,
        }
    }

    /// SIGHUP: certificate files are looked at again.
    pub fn reload(&mut self, now: Instant) {
        match self {
            Part::Server(server) => server.reload(now),
            Part::Single(single) => single.reload(),
            Part::Client(_) => log::info!("SIGHUP: nothing to load again"),
        }
    }

    /// Why a user waits in vain.
    pub fn absence(&self) -> String {
        match (self.tunnels().next(), self) {
            (Some(tunnel), _) => tunnel.absence(),
            (None, Part::Server(_)) => "no client is connected: is it started, and with this key?".into(),
            (None, _) => "the server is not reached: the line \"Client error\" says why".into(),
        }
    }

    /// All tunnels in being.
    pub fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        let (server, client) = match self {
            Part::Server(server) => (Some(server.tunnels()), None),
            Part::Client(client) => (None, client.tunnel()),
            Part::Single(_) => (None, None),
        };
        server.into_iter().flatten().chain(client)
    }

    /// Sources that a server has banned.
    pub fn bans(&self) -> usize {
        match self {
            Part::Server(server) => server.bans(),
            Part::Client(_) | Part::Single(_) => 0,
        }
    }

    /// Whether a server closes users from there.
    pub fn bars(&mut self, from: IpAddr, now: Instant) -> bool {
        self.server().is_some_and(|server| server.bars(from, now))
    }

    /// When the certificate in use ends, in seconds since 1970; 0 without one.
    pub fn certificate_end(&self) -> u64 {
        let certs = match self {
            Part::Server(server) => server.certs(),
            Part::Single(single) => single.certs(),
            Part::Client(_) => None,
        };
        certs.and_then(Certs::end).unwrap_or(0)
    }

    /// The run mode in force, as a check point says it: 1 where users come in at a server, or without one.
    pub fn mode(&self) -> u64 {
        match self {
            Part::Single(_) => 1,
            Part::Server(server) if server.tunnels().any(|tunnel| tunnel.side() == Side::Ingress) => 1,
            Part::Server(_) | Part::Client(_) => 2,
        }
    }
}
