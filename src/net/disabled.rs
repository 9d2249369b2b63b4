//! What this build leaves out, transports above all: the same faces, so that no other file need know, and nothing behind them.
//!
//! Parameters and terms that want one of them are refused long before; a caller that asks here all the same gets the same answer.

use std::io;

use crate::error::Error;

/// QUIC (cargo feature `quic`).
#[cfg(not(feature = "quic"))]
pub mod quic {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::logic::local_end::LocalEnd;
    use crate::net::budget::Budget;
    use crate::net::certs::{Identity, Trust};
    use crate::net::inherited::Inherited;
    use crate::net::listen_addr::ListenAddr;
    use crate::net::mux::Mux;

    /// How connections are to be.
    pub struct Settings;

    impl Settings {
        /// For a client.
        pub fn client(_report: Duration, _timeout: Duration, _round: Duration, _budget: Budget) -> Settings {
            Settings
        }

        /// For a server.
        pub fn server(_report: Duration, _timeout: Duration, _streams: u64, _key: &[u8], _budget: Budget) -> Settings {
            Settings
        }

        /// The same.
        pub fn with_trial(self, _bytes: usize) -> Settings {
            self
        }

        /// The same.
        pub fn calling_from(self, _from: Option<LocalEnd>) -> Settings {
            self
        }
    }

    /// What a client accepts, and whom it asks for: none.
    pub enum ClientTls {}

    impl ClientTls {
        /// Always an error.
        pub fn new(_trust: Trust, _name: &str) -> Result<ClientTls, Error> {
            Err(left_out().into())
        }
    }

    /// No sessions that could be resumed.
    #[derive(Default)]
    pub struct Tickets {}

    /// Always an error.
    pub fn connect(
        _server: SocketAddr,
        tls: &ClientTls,
        _settings: &Settings,
        _tickets: &mut Tickets,
        _now: Instant,
    ) -> io::Result<Box<dyn Mux>> {
        match *tls {}
    }

    /// Always an error.
    pub fn listen(
        _addresses: &[ListenAddr],
        _inherited: &Inherited,
        _identity: &Identity,
        _settings: &Settings,
        _now: Instant,
    ) -> io::Result<Box<dyn Mux>> {
        Err(left_out())
    }
}

/// DNS servers that the user names (cargo feature `dns`).
#[cfg(not(feature = "dns"))]
pub mod dns {
    use super::*;
    use crate::logic::names::Found;

    /// The thread that asks them.
    pub struct NameServers;

    impl NameServers {
        /// Starts none.
        pub fn start<S>(
            _servers: S,
            _tell: impl Fn(String, Result<Found, Error>) + Send + 'static,
        ) -> io::Result<NameServers> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Asks none.
        pub fn ask(&self, _name: String) {}
    }

    /// Asks none.
    pub fn look_up<S: ?Sized>(_servers: &S, name: &str) -> Result<Found, Error> {
        Err(Error::name(name.to_owned(), io::Error::from(io::ErrorKind::Unsupported)))
    }
}

/// HTTP/2 (cargo feature `h2`).
#[cfg(not(feature = "h2"))]
pub mod h2 {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::net::budget::Budget;
    use crate::net::mux::{Mux, Trial};
    use crate::net::tls::Tls;

    /// Always an error.
    pub fn client(_tls: Tls, _authority: &str, _report: Duration, _budget: &Budget) -> io::Result<Box<dyn Mux>> {
        Err(left_out())
    }

    /// Always an error.
    pub fn server(
        _tls: Tls,
        _peer: SocketAddr,
        _streams: usize,
        _report: Duration,
        _budget: &Budget,
        _trial: Trial,
    ) -> io::Result<Box<dyn Mux>> {
        Err(left_out())
    }
}

/// WebSocket (cargo feature `ws`).
#[cfg(not(feature = "ws"))]
pub mod ws {
    use super::*;
    use crate::logic::wire::Fingerprint;
    use crate::net::lower::Lower;
    use crate::net::serial::Successive;
    use crate::net::stream::{Buffer, Stream};
    use crate::net::tcp::Tcp;

    /// Which end of a WebSocket is ours.
    pub enum End {
        /// We asked for the upgrade.
        Client,
        /// We were asked.
        Server,
    }

    /// There is none.
    pub enum Ws {}

    impl Ws {
        /// Always an error.
        pub fn over(_lower: Box<dyn Lower>, _end: End, _ws_eof: bool, _early: &[u8]) -> io::Result<Ws> {
            Err(left_out())
        }

        /// Never called, as all that follow.
        pub fn pass_ends(&mut self, _ws_eof: bool) {
            match *self {}
        }

        /// Never called.
        pub fn carry_many(&mut self) {
            match *self {}
        }

        /// Never called.
        pub fn successive(&mut self) -> Option<&mut dyn Successive> {
            match *self {}
        }

        /// Never called.
        pub fn waiting(&mut self) -> io::Result<usize> {
            match *self {}
        }

        /// Never called.
        pub fn failed(&mut self) -> bool {
            match *self {}
        }

        /// Never called.
        pub fn keep_messages(&mut self, _largest: usize) {
            match *self {}
        }

        /// Never called.
        pub fn ping(&mut self) {
            match *self {}
        }

        /// Never called.
        pub fn socket(&mut self) -> &mut Tcp {
            match *self {}
        }

        /// Never called.
        pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
            match *self {}
        }
    }

    impl Stream for Ws {
        fn fill(&mut self, _: &mut Buffer) -> io::Result<usize> {
            match *self {}
        }

        fn drain(&mut self, _: &mut Buffer) -> io::Result<usize> {
            match *self {}
        }

        fn flush(&mut self) -> io::Result<()> {
            match *self {}
        }

        fn finish(&mut self) -> io::Result<()> {
            match *self {}
        }
    }
}

fn left_out() -> io::Error {
    Error::unsupported("this build does not have that transport").into()
}
