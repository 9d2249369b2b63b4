//! A single-end user whose TLS ends here: first the handshake, then, with `block`, the user's first bytes.
//!
//! ```text
//!  Securing --with block--> Reading --allowed--> Dialer
//!     +-----------------------------------------^
//! ```

use std::io;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use rustls::ServerConfig;

use super::context::{token, Context, Side};
use super::dial::Dialer;
use super::next::Next;
use crate::logic::metrics::Figure;
use crate::logic::sniff::{BlockVerdict, Sniff, MAX_FIRST_BYTES};
use crate::net::leg::Own;
use crate::net::stream::{ready, Buffer, Stream};
use crate::net::tcp::Tcp;
use crate::net::tls::Tls;
use crate::run::messages::{DialRequest, Home, Notice};
use crate::run::user::Proto;

/// A single-end user whose TLS ends here.
pub struct TlsAccept {
    user: Box<Tls>,
    state: State,
    /// The state must be over by then.
    until: Instant,
    request: DialRequest,
}

enum State {
    Securing,
    /// The first bytes, of which `block` may refuse some.
    Reading(Sniff, Buffer),
}

impl TlsAccept {
    /// Takes a user in, under the local token of `home`.
    pub fn new(
        socket: TcpStream,
        tls: Arc<ServerConfig>,
        request: DialRequest,
        home: Home,
        context: &Context,
        now: Instant,
    ) -> io::Result<TlsAccept> {
        let mut tcp = Tcp::new(socket);
        tcp.register(&context.registry, token(home.key, Side::Local))?;
        let user = Box::new(Tls::accept(tcp, tls, &context.shared.budget)?);
        let until = now + context.shared.config.limits.handshake;
        Ok(TlsAccept { user, state: State::Securing, until, request })
    }

    /// Goes on.
    pub fn advance(mut self, home: Home, context: &mut Context, now: Instant) -> Next<TlsAccept, Dialer> {
        match self.step(context, now) {
            Ok(true) => return Next::Become(self.dial(home, context)),
            Ok(false) if now < self.until => return Next::Wait(self),
            Ok(false) => {}
            Err(error) => log::debug!("{} refused: {error}", self.request.user),
        }
        context.hub.send(Notice::Done { home, tunnel: 0, proto: self.proto() });
        Next::End
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        self.user.socket().note(event);
    }

    /// What the user speaks.
    pub fn proto(&self) -> Proto {
        Proto::Tcp(Some(self.request.user.ip()))
    }

    /// When it goes on even without an edge.
    pub fn deadline(&self) -> Instant {
        self.until
    }

    /// Whether the user may go on to the target.
    fn step(&mut self, context: &Context, now: Instant) -> io::Result<bool> {
        let block = context.shared.config.block;
        loop {
            let (sniff, first) = match &mut self.state {
                State::Reading(sniff, first) => (sniff, first),
                State::Securing if ready(self.user.handshake())?.is_none() => return Ok(false),
                State::Securing if !block.any() => return Ok(true),
                State::Securing => {
                    let sniff = Sniff::new(block, now);
                    self.until = sniff.deadline();
                    self.state = State::Reading(sniff, Buffer::new(MAX_FIRST_BYTES));
                    continue;
                }
            };
            let more = match first.is_full() {
                true => None,
                false => ready(self.user.fill(first))?,
            };
            match sniff.judge(first.bytes(), more == Some(0), now) {
                BlockVerdict::Refuse(what) => {
                    context.shared.stats.add(Figure::RefusedBlock, 1);
                    log::warn!(event = "user_refused", peer:% = self.request.user; "{what} from {} refused by block", self.request.user);
                    return Err(io::Error::other("refused"));
                }
                BlockVerdict::Pass => return Ok(true),
                BlockVerdict::NeedMore if more.is_some() => {}
                BlockVerdict::NeedMore => return Ok(false),
            }
        }
    }

    fn dial(self, home: Home, context: &Context) -> Dialer {
        let proto = self.proto();
        let first = match self.state {
            State::Securing => Vec::new(),
            State::Reading(_, first) => first.bytes().to_vec(),
        };
        Dialer::for_user(Own::Tls(self.user), self.request, proto, home, context).sending(first)
    }
}
