//! Two ends of an HTTP/2 connection, over TLS or not.

use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token};

use nodepass::net::budget::Budget;
use nodepass::net::certs::{self, Alpn, Audience, Certs, Origin, Trust};
use nodepass::net::h2::{Limits, H2};
use nodepass::net::lower::Lower;
use nodepass::net::mux::StreamNo;
use nodepass::net::stream::ready;
use nodepass::net::tcp::Tcp;
use nodepass::net::tls::Tls;

use crate::ends::sockets;
pub use crate::ends::{flow, nonblocking, End, Ends, GRACE};

/// A client's end and a server's.
pub type Pair<C> = Ends<H2<C>, H2<C>>;

impl<C: Lower> Pair<C> {
    fn of(client: End<H2<C>>, server: End<H2<C>>) -> Pair<C> {
        Pair { client, server, pause: Duration::ZERO }
    }

    /// A new stream, as each end knows it.
    pub fn stream(&mut self) -> (StreamNo, StreamNo) {
        self.stream_with(&[])
    }
}

/// Over bare sockets.
pub fn bare(limits: Limits) -> Pair<Tcp> {
    let (one, two) = sockets();
    let peer = two.peer().unwrap();
    let client = H2::client(one, "a.example", limits).unwrap();
    Pair::of(End::new(Box::new(client)), End::new(Box::new(H2::server(two, peer, limits).unwrap())))
}

/// Over TLS.
pub fn over_tls(limits: Limits) -> Pair<Tls> {
    let [(one, first), (two, second)] = sessions();
    let peer = "127.0.0.1:1".parse().unwrap();
    let client = H2::client(one, "a.example", limits).unwrap();
    let server = H2::server(two, peer, limits).unwrap();
    Pair::of(End::registered(Box::new(client), first), End::registered(Box::new(server), second))
}

/// Two TLS sessions whose handshake is over, each registered with a loop of its own.
pub fn sessions() -> [(Tls, Poll); 2] {
    let (one, two) = sockets();
    let name = certs::server_name("127.0.0.1").unwrap();
    let mut client = certs::client(Trust::ANY, Alpn::Http2).unwrap();
    Arc::get_mut(&mut client).unwrap().alpn_protocols = vec![b"h2".to_vec()];
    let mut ends =
        [Tls::connect(one, client, name, &Budget::PLENTY), Tls::accept(two, server_config(), &Budget::PLENTY)]
            .map(|tls| (tls.unwrap(), Poll::new().unwrap(), false));
    for (tls, poll, _) in &mut ends {
        tls.socket().register(&crate::support::registry(poll), Token(0)).unwrap();
    }
    while ends.iter().any(|(.., done)| !done) {
        for (tls, poll, done) in ends.iter_mut().filter(|(.., done)| !done) {
            let mut events = Events::with_capacity(8);
            poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
            events.iter().for_each(|event| tls.socket().note(event));
            *done = ready(tls.handshake()).unwrap().is_some();
        }
    }
    ends.map(|(tls, poll, _)| (tls, poll))
}

/// A server's configuration that agrees on HTTP/2.
pub fn server_config() -> Arc<rustls::ServerConfig> {
    let mut config = Certs::new(Origin::Memory, Audience::Pool(Alpn::Http2)).unwrap().current().config;
    Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What both sides allow, in these tests.
pub fn limits() -> Limits {
    Limits::new(100, Duration::from_secs(5), &Budget::PLENTY)
}
