//! A single-end user whose TLS ends here: first the handshake, then, with `block`, a look at what the user says.

use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use rustls::ServerConfig;

use super::context::{token, Context, LOCAL};
use super::dial::Dialer;
use super::task::{Next, Task};
use crate::logic::sniff::{BlockVerdict, Sniff, MAX_FIRST_BYTES};
use crate::net::leg::Leg;
use crate::net::stream::{ready, Buffer};
use crate::net::tcp::Tcp;
use crate::net::tls::Tls;
use crate::run::messages::{DialRequest, Home, Notice, Proto};

/// A single-end user whose TLS ends here: first the handshake, then, with `block`, a look at what he says.
pub struct TlsAccept {
    /// His connection.
    pub user: Option<Leg>,
    /// When he has had his time.
    pub until: Instant,
    request: Option<DialRequest>,
    /// With `block`, after the handshake: what the user says.
    look: Option<(Sniff, Buffer)>,
}

impl TlsAccept {
    /// Takes a user in, under the near socket's token of `home`.
    pub fn new(
        socket: TcpStream,
        tls: Arc<ServerConfig>,
        request: DialRequest,
        home: Home,
        context: &Context,
        now: Instant,
    ) -> std::io::Result<TlsAccept> {
        let mut tcp = Tcp::new(socket);
        tcp.register(&context.registry, token(home.key, LOCAL))?;
        let user = Some(Leg::Tls(Box::new(Tls::accept(tcp, tls)?)));
        let until = now + context.shared.config.limits.handshake;
        Ok(TlsAccept { user, until, request: Some(request), look: None })
    }

    /// Goes on.
    pub fn advance(&mut self, home: Home, context: &mut Context, now: Instant) -> Next {
        match self.step(context, now) {
            Ok(false) if now < self.until => Next::Wait,
            Ok(true) => self.dial(home, context),
            result => {
                if let (Err(error), Some(request)) = (result, &self.request) {
                    log::debug!("{} turned away: {error}", request.user);
                }
                context.hub.send(Notice::Done { home, tunnel: 0, proto: Proto::Tcp });
                Next::End
            }
        }
    }

    /// Whether the user may go on to the target.
    fn step(&mut self, context: &Context, now: Instant) -> std::io::Result<bool> {
        let block = context.shared.config.block;
        let Some(Leg::Tls(tls)) = &mut self.user else { return Ok(false) };
        let Some((sniff, said)) = &mut self.look else {
            if ready(tls.handshake())?.is_none() {
                return Ok(false);
            }
            if !block.any() {
                return Ok(true);
            }
            let sniff = Sniff::new(block, now);
            self.until = sniff.deadline();
            self.look = Some((sniff, Buffer::new(MAX_FIRST_BYTES)));
            return self.step(context, now);
        };
        loop {
            use crate::net::stream::Stream;
            let more = match said.is_full() {
                true => None,
                false => ready(tls.fill(said))?,
            };
            match sniff.judge(said.bytes(), more == Some(0), now) {
                BlockVerdict::Refuse(what) => {
                    let who = self.request.as_ref().map(|request| request.user.to_string()).unwrap_or_default();
                    log::warn!("{what} from {who} refused by block");
                    return Err(std::io::Error::other("refused"));
                }
                BlockVerdict::Pass => return Ok(true),
                BlockVerdict::NeedMore if more.is_some() => {}
                BlockVerdict::NeedMore => return Ok(false),
            }
        }
    }

    fn dial(&mut self, home: Home, context: &Context) -> Next {
        let (Some(user), Some(request)) = (self.user.take(), self.request.take()) else { return Next::End };
        let said = self.look.as_ref().map(|(_, said)| said.bytes().to_vec()).unwrap_or_default();
        Next::Become(Task::Dialer(Dialer::for_user(user, request, Proto::Tcp, home, context).having_said(said)))
    }
}
