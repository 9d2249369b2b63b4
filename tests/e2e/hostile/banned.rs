//! A source that shows wrong keys is closed at every port of the server for a while; others are not, and neither is a client's.

use super::peer;
use crate::support::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A server whose ports are open to all addresses of this machine, its target behind a client at `from`, and where users come in.
struct Stage {
    server: Process,
    _client: Process,
    _target: Target,
    tunnel: u16,
    users: u16,
}

impl Stage {
    fn start(from: IpAddr, query: &str, client: &str) -> Stage {
        let (tunnel, users, target) = (free_port(), free_port(), Target::echo());
        let url = format!("server://{}@0.0.0.0:{tunnel}/0.0.0.0:{users}?mode=1&{query}", peer::KEY);
        let server = Process::nodepass_with(&[&url], &[("NP_BAN_FAILURES", "3")]);
        let url = format!("client://{}@{from}:{tunnel}/{}?mode=2&{client}", peer::KEY, target.addr());
        let client = Process::nodepass(&url);
        let stage = Stage { server, _client: client, _target: target, tunnel, users };
        until("a user", GRACE, || exchange(stage.users(Ipv4Addr::LOCALHOST.into()), b"hello"));
        stage
    }

    fn users(&self, at: IpAddr) -> SocketAddr {
        SocketAddr::from((at, self.users))
    }

    /// Shows so many wrong keys from that address.
    fn show_wrong_keys(&self, from: IpAddr, count: usize) {
        (0..count).for_each(|_| drop(peer::handshake(SocketAddr::from((from, self.tunnel)), "another-key")));
    }

    fn ban(&self, from: IpAddr) {
        self.show_wrong_keys(from, 3);
        self.server.says(&format!("{from} is banned for "), GRACE);
    }
}

#[test]
fn a_banned_source_is_closed_at_the_public_port_over_tcp_and_udp_and_others_are_served() {
    let Some(own) = own_address() else { return skip(OUTSIDE) };
    let home = Ipv4Addr::LOCALHOST.into();
    let stage = Stage::start(home, "tls=0", "");
    echoed(stage.users(own), b"before");
    udp_echo(stage.users(own), b"before").expect("an answer");
    let mut known = udp_user(stage.users(own));
    exchanged(&mut known).expect("an answer");
    stage.ban(own);
    assert_eq!(rest(&connect(stage.users(own))), b"");
    // Known sessions go on as connections do; a new one is none.
    let mut fresh = udp_user(stage.users(own));
    until("an answer to the known session", GRACE, || exchanged(&mut known));
    fresh.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a timeout");
    assert!((0..3).all(|_| exchanged(&mut fresh).is_err()), "a banned source has a new session");
    echoed(stage.users(home), b"others");
    udp_echo(stage.users(home), b"others").expect("an answer");
}

#[test]
fn the_address_of_an_authenticated_client_is_not_banned_for_what_others_do_there() {
    let Some(own) = own_address() else { return skip(OUTSIDE) };
    let stage = Stage::start(own, "tls=0", "");
    stage.show_wrong_keys(own, 10);
    echoed(stage.users(own), b"served all the same");
    assert!(!stage.server.said("is banned"));
}

#[cfg(feature = "quic")]
#[test]
fn a_banned_source_makes_no_quic_connection_and_the_tunnel_of_its_address_goes_on() {
    let Some(own) = own_address() else { return skip(OUTSIDE) };
    // An original: its address is no proof.
    let stage = Stage::start(own, "tls=1&type=1", "auth=0");
    let port = SocketAddr::from((own, stage.tunnel));
    assert!(quic_gets_in(port));
    stage.ban(own);
    assert!(!quic_gets_in(port));
    echoed(stage.users(Ipv4Addr::LOCALHOST.into()), b"after");
}

/// Whether a QUIC connection is let in, before its maker gives up.
#[cfg(feature = "quic")]
fn quic_gets_in(port: SocketAddr) -> bool {
    use mio::{Events, Poll, Token};
    use nodepass::net::budget::Budget;
    use nodepass::net::certs::Trust;
    use nodepass::net::mux::Mux;
    use nodepass::net::quic::{ClientTls, QuicClient, Settings, Tickets};
    use std::time::{Duration, Instant};

    let trusting = ClientTls::new(Trust::ANY, "").expect("a configuration");
    let settings = Settings::client(Duration::from_secs(1), Duration::from_secs(4), Duration::ZERO, Budget::PLENTY);
    let made = QuicClient::connect(port, &trusting, &settings, &mut Tickets::default(), Instant::now());
    let mut made = made.expect("a socket");
    let (mut poll, mut events) = (Poll::new().expect("a poll"), Events::with_capacity(64));
    made.register(&registry(&poll), Token(0)).expect("a poll");
    let mut ended = false;
    let so = eventually(GRACE, || {
        let _ = poll.poll(&mut events, Some(Duration::from_millis(20)));
        events.iter().for_each(|event| made.note(event));
        ended |= made.advance(Instant::now()).is_err();
        made.is_up() || ended
    });
    assert!(so, "it is neither up nor given up");
    made.is_up()
}

/// A datagram and its answer.
fn exchanged(user: &mut std::net::UdpSocket) -> std::io::Result<()> {
    user.send(b"datagram")?;
    user.recv(&mut [0; 64]).map(drop)
}

/// What a machine may lack.
const OUTSIDE: &str = "an address that is not loopback";
