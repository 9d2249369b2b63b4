//! A connection to a target is being made, for somebody who waits: a pool connection (egress) or a user (single-end).

use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use rustls::ServerConfig;

use super::handoff::{Home, Notice, Plan, Proto, TunnelNo};
use super::joined::{Join, Joined};
use super::task::{token, Means, Next, Task, FAR, NEAR};
use crate::logic::sniff::{user, Verdict};
use crate::logic::wire::proxy_line;
use crate::net::connect::{Connect, Outcome};
use crate::net::leg::Leg;
use crate::net::stream::{now as passing, Buffer};
use crate::net::tcp::{canonical, Tcp};
use crate::net::tls::Tls;
use crate::net::udp::Session;

/// Somebody who waits, and the dialling.
pub struct Dialer {
    waiting: Option<Leg>,
    side: usize,
    plan: Plan,
    connect: Connect,
    tunnel: TunnelNo,
    proto: Proto,
    said: Vec<u8>,
}

impl Dialer {
    /// At the egress: `pool` waits at the far side, the target will be near.
    pub fn for_pool(pool: Leg, plan: Plan, tunnel: TunnelNo, proto: Proto, home: Home, means: &Means) -> Dialer {
        Dialer::new(pool, FAR, plan, tunnel, proto, home, means)
    }

    /// Single-end: the user waits at the near side, the target will be far.
    pub fn for_user(user: Leg, plan: Plan, proto: Proto, home: Home, means: &Means) -> Dialer {
        Dialer::new(user, NEAR, plan, 0, proto, home, means)
    }

    fn new(waiting: Leg, side: usize, plan: Plan, tunnel: TunnelNo, proto: Proto, home: Home, means: &Means) -> Dialer {
        let addresses = plan.candidates.iter().map(|(_, address)| *address).collect();
        let config = &means.shared.config;
        let connect = Connect::new(addresses, config.dial, config.limits.tcp_dial, token(home.key, 1 - side));
        Dialer { waiting: Some(waiting), side, plan, connect, tunnel, proto, said: Vec::new() }
    }

    /// What the user said already; it goes out first.
    fn having_said(mut self, bytes: Vec<u8>) -> Dialer {
        self.said = bytes;
        self
    }

    /// Goes on.
    pub fn advance(&mut self, home: Home, means: &mut Means, now: Instant) -> Next {
        if self.plan.udp {
            return self.connect_udp(home, means, now);
        }
        if self.waiting.as_mut().is_none_or(|leg| leg.failed(&mut means.muxes)) {
            log::debug!("{} left before target was reached", self.plan.user);
            return self.leave(home, means);
        }
        loop {
            match self.connect.advance(&means.registry, now) {
                Outcome::Wait => return Next::Wait,
                Outcome::Missed(at) => self.missed(at, self.connect.failure().to_owned(), means),
                Outcome::Failed(_) => return self.leave(home, means),
                Outcome::Reached(at, took, tcp) => {
                    if let (true, Some((target, _))) = (self.plan.report, self.plan.candidates.get(at)) {
                        means.hub.send(Notice::Reached(*target, took));
                    }
                    return self.join(at, Leg::Tcp(tcp), means, now);
                }
            }
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, side: usize, event: &Event) {
        match (side == self.side, &mut self.waiting) {
            (true, Some(leg)) => leg.note(event),
            (true, None) => {}
            (false, _) => self.connect.note(event),
        }
    }

    /// A datagram for the session that waits.
    pub fn deliver(&mut self, packet: Vec<u8>) {
        if let Some(Leg::Udp(session)) = &mut self.waiting {
            session.deliver(packet);
        }
    }

    /// Who waits.
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// When to look again.
    pub fn deadline(&self) -> Option<Instant> {
        self.connect.deadline()
    }

    fn connect_udp(&mut self, home: Home, means: &mut Means, now: Instant) -> Next {
        let config = &means.shared.config;
        for at in 0..self.plan.candidates.len() {
            let target = self.plan.candidates[at].1;
            // In single-end mode both ends are ours, so their common buffer is framed whatever a peer knows.
            let session = Session::to_target(target, config.dial, self.plan.framed, config.limits.udp_buffer).and_then(
                |mut session| {
                    session.register(&means.registry, token(home.key, 1 - self.side))?;
                    Ok(session)
                },
            );
            match session {
                Ok(session) => return self.join(at, Leg::Udp(Box::new(session)), means, now),
                Err(error) => self.missed(at, format!("{target}: {error}"), means),
            }
        }
        self.leave(home, means)
    }

    fn missed(&self, at: usize, why: String, means: &Means) {
        log::warn!("Target not reached: {why}");
        if let Some((target, _)) = self.plan.candidates.get(at) {
            means.hub.send(Notice::Missed(*target));
        }
    }

    fn leave(&mut self, home: Home, means: &Means) -> Next {
        means.hub.send(Notice::Done(home, self.tunnel, self.proto));
        Next::End
    }

    fn join(&mut self, at: usize, target: Leg, means: &Means, now: Instant) -> Next {
        let Some(waiting) = self.waiting.take() else { return Next::End };
        let address = canonical(self.plan.candidates[at].1);
        let mut prelude = match self.plan.proxy && !self.plan.udp {
            true => proxy_line(canonical(self.plan.user), address).into_bytes(),
            false => Vec::new(),
        };
        prelude.append(&mut self.said);
        let about = format!("{} <-> {address}", self.plan.user);
        let number = Some(self.plan.candidates[at].0).filter(|_| self.plan.report && self.plan.udp);
        let join = Join { tunnel: self.tunnel, proto: Some(self.proto), target: number, about };
        Next::Become(Task::Joined(match self.side {
            FAR => Joined::new(target, waiting, join, means, now).saying_near(prelude),
            _ => Joined::new(waiting, target, join, means, now).saying_far(prelude),
        }))
    }
}

/// A single-end user whose TLS ends here: first the handshake, then, with `block`, a look at what he says.
pub struct Greeter {
    /// His connection.
    pub user: Option<Leg>,
    /// When he has had his time.
    pub until: Instant,
    plan: Option<Plan>,
    said: Option<Buffer>,
    silence: Option<Instant>,
}

impl Greeter {
    /// Takes a user in, under the near socket's token of `home`.
    pub fn new(
        socket: TcpStream,
        tls: Arc<ServerConfig>,
        plan: Plan,
        home: Home,
        means: &Means,
        now: Instant,
    ) -> std::io::Result<Greeter> {
        let mut tcp = Tcp::new(socket);
        tcp.register(&means.registry, token(home.key, NEAR))?;
        let user = Some(Leg::Tls(Box::new(Tls::accept(tcp, tls)?)));
        let until = now + means.shared.config.limits.handshake;
        Ok(Greeter { user, until, plan: Some(plan), said: None, silence: None })
    }

    /// Goes on.
    pub fn advance(&mut self, home: Home, means: &mut Means, now: Instant) -> Next {
        match self.step(means, now) {
            Ok(false) if now < self.until => Next::Wait,
            Ok(true) => self.dial(home, means),
            result => {
                if let (Err(error), Some(plan)) = (result, &self.plan) {
                    log::debug!("{} turned away: {error}", plan.user);
                }
                means.hub.send(Notice::Done(home, 0, Proto::Tcp));
                Next::End
            }
        }
    }

    /// Whether the user may go on to the target.
    fn step(&mut self, means: &Means, now: Instant) -> std::io::Result<bool> {
        let block = means.shared.blocked();
        let Some(Leg::Tls(tls)) = &mut self.user else { return Ok(false) };
        let Some(said) = &mut self.said else {
            if passing(tls.handshake())?.is_none() {
                return Ok(false);
            }
            if !block.any() {
                return Ok(true);
            }
            self.silence = Some(now + QUIET);
            self.until = now + QUIET;
            self.said = Some(Buffer::new(FIRST_WORDS));
            return self.step(means, now);
        };
        loop {
            use crate::net::stream::Stream;
            let more = match said.is_full() {
                true => None,
                false => passing(tls.fill(said))?,
            };
            match user(said.bytes(), block) {
                Verdict::Refuse(what) => {
                    let who = self.plan.as_ref().map(|plan| plan.user.to_string()).unwrap_or_default();
                    log::warn!("{what} from {who} refused by block");
                    return Err(std::io::Error::other("refused"));
                }
                Verdict::Pass => return Ok(true),
                Verdict::NeedMore if more == Some(0) => return Ok(true),
                Verdict::NeedMore if more.is_some() => {}
                // He waits for the target to speak first.
                Verdict::NeedMore => return Ok(self.silence.is_some_and(|silence| now >= silence)),
            }
        }
    }

    fn dial(&mut self, home: Home, means: &Means) -> Next {
        let (Some(user), Some(plan)) = (self.user.take(), self.plan.take()) else { return Next::End };
        let said = self.said.as_ref().map(|said| said.bytes().to_vec()).unwrap_or_default();
        Next::Become(Task::Dialer(Dialer::for_user(user, plan, Proto::Tcp, home, means).having_said(said)))
    }
}

/// A user who says nothing for this long waits for the target to speak first; nothing is refused then.
pub const QUIET: std::time::Duration = std::time::Duration::from_millis(200);
/// Bytes of a user's first words that are looked at.
const FIRST_WORDS: usize = 64;
