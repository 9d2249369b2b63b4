//! The ports at which users come in.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token};

use crate::config::{Endpoint, Host};
use crate::error::Error;
use crate::net::listen::Acceptor;
use crate::net::listen_addr::ListenAddr;
use crate::net::resolve::{look_up, on_link};
use crate::net::udp::UdpListener;
use crate::run::shared::Shared;

/// What users come in through: TCP and UDP side by side on the same addresses.
pub struct Listeners {
    /// TCP listeners.
    pub tcp: Vec<Acceptor>,
    /// UDP sockets, and whether datagrams may be waiting.
    pub udp: Vec<(Arc<UdpListener>, bool)>,
}

impl Listeners {
    /// Opens `at` for the protocols of this instance; tokens count up from `first`: TCP even, UDP odd.
    pub fn open(at: &Endpoint, shared: &Shared, registry: &Registry, first: usize) -> Result<Listeners, Error> {
        let mut listeners = Listeners { tcp: Vec::new(), udp: Vec::new() };
        for (n, address) in listening_addresses(at)?.into_iter().take(MAX_ADDRESSES).enumerate() {
            if shared.config.tcp {
                let listener =
                    Acceptor::open(address, shared.keepalive, &shared.inherited, registry, Token(first + 2 * n));
                listeners.tcp.push(listener.map_err(|error| Error::listen(address, "TCP", error))?);
            }
            if shared.config.udp {
                let open = || {
                    let mut listener = UdpListener::open(address, &shared.inherited, &shared.budget)?;
                    listener.register(registry, Token(first + 2 * n + 1))?;
                    Ok::<_, std::io::Error>(listener)
                };
                listeners.udp.push((Arc::new(open().map_err(|error| Error::listen(address, "UDP", error))?), true));
            }
        }
        Ok(listeners)
    }

    /// All sockets.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let udp = self.udp.iter().map(|(listener, _)| listener.as_fd());
        self.tcp.iter().map(Acceptor::as_fd).chain(udp)
    }

    /// Another process has them from now on.
    pub fn hand_on(self, registry: &Registry) {
        self.tcp.into_iter().for_each(|listener| listener.close(registry));
        self.udp.iter().for_each(|(listener, _)| listener.close(registry));
    }

    /// A connection or a datagram came, to the listener with this number after `first`.
    pub fn note(&mut self, number: usize) {
        match number % 2 {
            0 => self.tcp.iter_mut().skip(number / 2).take(1).for_each(Acceptor::note),
            _ => self.udp.iter_mut().skip(number / 2).take(1).for_each(|(_, ready)| *ready = true),
        }
    }

    /// Whether more may be waiting.
    pub fn is_ready(&self) -> bool {
        self.tcp.iter().any(Acceptor::is_ready) || self.udp.iter().any(|(_, ready)| *ready)
    }

    /// When to try again after a lack of descriptors.
    pub fn deadline(&self) -> Option<Instant> {
        self.tcp.iter().filter_map(Acceptor::deadline).min()
    }
}

/// The addresses to listen at. A name is looked up at once: nothing works before that is known anyway.
///
/// No host is both families. `[::]` is IPv6 alone, so that another program or instance may have the same port of IPv4.
pub fn listening_addresses(at: &Endpoint) -> Result<Vec<ListenAddr>, Error> {
    let ips = match &at.host {
        Host::Ip(ip) => vec![*ip],
        Host::Any if has_ipv6() => vec![Ipv6Addr::UNSPECIFIED.into()],
        Host::Any => vec![Ipv4Addr::UNSPECIFIED.into()],
        Host::Zoned(ip, zone) => return Ok(vec![on_link(*ip, zone, at.port)?.into()]),
        Host::Name(name) => look_up(name)?,
    };
    let dual = at.host == Host::Any;
    Ok(ips.into_iter().map(|ip| ListenAddr { address: SocketAddr::new(ip, at.port), dual }).collect())
}

fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// Most addresses of one name that are listened at.
const MAX_ADDRESSES: usize = 8;
