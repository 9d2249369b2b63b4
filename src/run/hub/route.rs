//! How a client reaches its server: addresses, proxy, TLS, and what to open connections with.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::ClientConfig;

use super::fallback::{over_tcp, QuicFallback};
use crate::config::{Config, Endpoint, Host, Transport, HTTPS};
use crate::error::Error;
use crate::logic::dialect::Dialect;
use crate::logic::terms::TunnelNo;
use crate::logic::terms::{Direction, Feature, Terms};
use crate::logic::wire::Fingerprint;
use crate::net::budget::Budget;
use crate::net::certs::{client, server_name, Alpn, Pins, Trust};
use crate::net::quic::ClientTls;
use crate::run::messages::ServerRoute;

/// Makes routes; keeps the TLS configurations that they need.
#[derive(Default)]
pub(in crate::run) struct Routes {
    made: Vec<(Trust, Alpn, Arc<ClientConfig>)>,
}

impl Routes {
    /// For the handshake. `tls`: inside TLS; at port 443 the server is verified there.
    pub fn handshake(
        &mut self,
        config: &Config,
        addresses: Vec<SocketAddr>,
        tls: bool,
    ) -> Result<Arc<ServerRoute>, Error> {
        let tls = match (tls, config.tunnel.port) {
            (false, _) => None,
            (true, HTTPS) => Some((self.tls(Trust::ROOTS, Alpn::Http1)?, server_name(&peer_name(config))?)),
            (true, _) => Some((self.tls(Trust::ANY, Alpn::Http1)?, server_name(NO_NAME)?)),
        };
        let route = ServerRoute {
            tunnel: 0,
            addresses,
            from: config.bind.clone(),
            via: via(config),
            tls,
            quic: None,
            transport: Transport::Tcp,
            connections: 1,
            carriers: 1,
            dialect: config.wire.older().unwrap_or(Dialect::Json),
            authority: String::new(),
            pins: None,
            roots: false,
            ws_eof: false,
            reuse: false,
            quiet: true,
            round: Duration::ZERO,
            dial: config.limits.tcp_dial,
            timeout: config.limits.handshake,
        };
        Ok(Arc::new(route))
    }

    /// For the pool connections of a tunnel with these terms, at the address that answered.
    pub fn pool(
        &mut self,
        number: TunnelNo,
        (terms, fp, dialect): (&Terms, Option<Fingerprint>, Dialect),
        (server, round): (SocketAddr, Duration),
        (config, budget): (&Config, &Budget),
        fallback: &mut QuicFallback,
    ) -> Result<Arc<ServerRoute>, Error> {
        let transport = Transport::from_code(terms.transport).filter(|transport| transport.is_built());
        let Some(transport) = transport else {
            let why = format!("the server wants type={}, which this build does not have", terms.transport);
            return Err(Error::unsupported(why));
        };
        let has = |feature| terms.features.contains(&feature);
        let pins = fp.map(|now| Pins { now, before: None });
        let (tls, quic) = self.pool_tls(transport, terms.tls, has(Feature::Edge), pins, config)?;
        let several = transport == Transport::Http2 && has(Feature::Carriers) && round >= LONG;
        let carriers = if several { budget.h2_carriers.min(config.min).min(terms.max).max(1) } else { 1 };
        let route = Arc::new(ServerRoute {
            tunnel: number,
            addresses: vec![server],
            from: config.bind.clone(),
            via: via(config),
            tls,
            quic,
            transport,
            connections: dialect.quic_connections(terms.max.min(config.max)).max(carriers),
            carriers,
            dialect,
            authority: authority(config, transport),
            pins,
            roots: terms.tls == 2 || has(Feature::Edge),
            ws_eof: has(Feature::WsEof),
            reuse: has(Feature::Reuse),
            quiet: terms.flow == Direction::Forward,
            round,
            dial: config.limits.tcp_dial,
            timeout: config.limits.handshake,
        });
        match (transport, &route.via) {
            (Transport::Quic, Some(_)) if has(Feature::Fallback) => {
                log::info!("QUIC does not go through an HTTP proxy: going on over TCP with TLS");
                Ok(over_tcp(&route))
            }
            (Transport::Quic, Some(_)) => Err(Error::unsupported("type=1 (QUIC) does not go through an HTTP proxy")),
            _ => Ok(fallback.choose(route, has(Feature::Fallback))),
        }
    }

    /// What pool connections speak and accept: TLS over TCP, and over QUIC.
    fn pool_tls(
        &mut self,
        transport: Transport,
        mode: u8,
        edge: bool,
        pins: Option<Pins>,
        config: &Config,
    ) -> Result<(Option<TlsRoute>, Option<Arc<ClientTls>>), Error> {
        let name = peer_name(config);
        let (trust, name) = match (mode, edge) {
            (0, _) => return Ok((None, None)),
            (1, false) => (Trust { roots: false, pins }, NO_NAME),
            (1 | 2, _) => (Trust { roots: true, pins }, name.as_str()),
            (other, _) => {
                return Err(Error::unsupported(format!("the server wants tls={other}, which is not known here")))
            }
        };
        let quic = match transport {
            // It looks at the certificate itself, before anything is said.
            Transport::Quic => Some(Arc::new(ClientTls::new(Trust { pins: None, ..trust }, name)?)),
            _ => None,
        };
        Ok((Some((self.tls(trust, alpn(transport))?, server_name(name)?)), quic))
    }

    /// The same route to a server that says under the key that it shows another certificate.
    pub fn pinned(&mut self, route: &ServerRoute, fp: Fingerprint) -> Result<Option<ServerRoute>, Error> {
        let (Some(Pins { now, .. }), Some((_, name))) = (route.pins, &route.tls) else { return Ok(None) };
        if now == fp {
            return Ok(None);
        }
        let pins = Some(Pins { now: fp, before: Some(now) });
        let tls = self.tls(Trust { roots: route.roots, pins }, alpn(route.transport))?;
        Ok(Some(ServerRoute { tls: Some((tls, name.clone())), pins, ..route.clone() }))
    }

    /// TLS for that, made once.
    fn tls(&mut self, trust: Trust, alpn: Alpn) -> Result<Arc<ClientConfig>, Error> {
        if let Some((_, _, config)) = self.made.iter().find(|made| (made.0, made.1) == (trust, alpn)) {
            return Ok(config.clone());
        }
        let config = client(trust, alpn)?;
        // Only the newest certificates will be seen again.
        self.made.retain(|made| made.0.pins.is_none());
        self.made.push((trust, alpn, config.clone()));
        Ok(config)
    }
}

/// The names of the features that a client offers.
pub(crate) fn features(config: &Config) -> Vec<&'static str> {
    let offered = |feature: &Feature| match feature {
        Feature::WsEof => Transport::WebSocket.is_built(),
        Feature::Edge => config.tunnel.port == HTTPS,
        Feature::Fallback => Transport::Quic.is_built(),
        Feature::Carriers => Transport::Http2.is_built(),
        Feature::Reuse => true,
        other => other.is_unconditional(),
    };
    Feature::ALL.into_iter().filter(offered).map(Feature::name).collect()
}

/// What is spoken inside the TLS of a transport.
pub(in crate::run) fn alpn(transport: Transport) -> Alpn {
    match transport {
        Transport::Tcp | Transport::Quic => Alpn::Raw,
        Transport::WebSocket => Alpn::Http1,
        Transport::Http2 => Alpn::Http2,
    }
}

/// Who is called, as the handshake's `Host` says it: `sni`, else the host's name; `none` for a bare address.
pub(crate) fn named(config: &Config) -> &str {
    match (&config.sni, &config.tunnel.host) {
        (Some(sni), _) => sni,
        (None, Host::Name(name)) => name,
        (None, _) => "none",
    }
}

/// Who is called, as pool connections in HTTP say it: an original's HTTP/2 as in the handshake, its WebSocket by address.
fn authority(config: &Config, transport: Transport) -> String {
    match (transport, &config.sni, config.tunnel.host.without_zone()) {
        (Transport::WebSocket, None, Host::Ip(IpAddr::V6(ip))) => format!("[{ip}]"),
        (Transport::WebSocket, None, Host::Ip(ip)) => ip.to_string(),
        _ => named(config).to_owned(),
    }
}

/// Whom to dial: the server, or the proxy before it. All connections of a tunnel go the same fallback, since the server takes pool
/// connections from the address that shook hands.
pub(crate) fn first_hop(config: &Config) -> &Endpoint {
    config.https_proxy.as_ref().map_or(&config.tunnel, |(proxy, _)| proxy)
}

/// What to say to a proxy.
pub(crate) fn via(config: &Config) -> Option<Vec<u8>> {
    let (_, proxy) = config.https_proxy.as_ref()?;
    Some(proxy.connect(&config.tunnel.to_string()))
}

/// Who must answer where certificates are verified: `sni`, else the tunnel's host.
pub(crate) fn peer_name(config: &Config) -> String {
    match (&config.sni, &config.tunnel.host) {
        (Some(sni), _) => sni.clone(),
        (None, Host::Any) => "localhost".into(),
        (None, host) => host.without_zone().to_string(),
    }
}

/// TLS over TCP, and who must answer.
type TlsRoute = (Arc<ClientConfig>, ServerName<'static>);

/// From this round trip on the path is what bounds a TCP connection, where the processor was before.
const LONG: Duration = Duration::from_millis(5);
/// Who must answer where no name is verified.
const NO_NAME: &str = "nodepass.invalid";

#[cfg(all(test, feature = "h2"))]
mod tests {
    use super::*;
    use crate::config::{parse, Command};

    #[test]
    fn several_connections_carry_http2_only_over_a_long_path_to_a_server_that_takes_them() {
        let Ok(parsed) = parse(&["client://h:1/t:2?min=8".into()], &|_| None) else { panic!("no URL") };
        let Command::Run(config) = parsed.command else { panic!("no instance") };
        let carriers = |features: &[Feature], (transport, max), millis, budget: Budget| {
            let features = features.to_vec();
            let terms = Terms { flow: Direction::Reverse, max, tls: 1, transport, features };
            let path = (SocketAddr::from(([192, 0, 2, 1], 1)), Duration::from_millis(millis));
            let (agreed, here) = ((&terms, None, Dialect::Json), (&*config, &budget));
            let route = Routes::default().pool(1, agreed, path, here, &mut QuicFallback::default());
            route.map(|route| (route.carriers, route.connections)).unwrap()
        };
        let (new, old) = ([Feature::Gone, Feature::Carriers], [Feature::Gone]);
        let little = Budget::scarce(12 << 20, 80, 30, 1, 131_076);
        assert_eq!(carriers(&new, (3, 64), 50, Budget::PLENTY), (4, 4));
        assert_eq!(carriers(&new, (3, 2), 50, Budget::PLENTY), (2, 2), "no more than pool connections");
        assert_eq!(carriers(&old, (3, 64), 50, Budget::PLENTY), (1, 1), "an older peer, an original");
        assert_eq!(carriers(&new, (3, 64), 1, Budget::PLENTY), (1, 1), "a short path");
        assert_eq!(carriers(&new, (3, 64), 50, little), (1, 1), "little memory");
        assert_eq!(carriers(&new, (0, 64), 50, Budget::PLENTY), (1, 1), "another transport");
    }
}
