//! A tunnel's control connection: how it begins, what it asks for, and the certificate check with originals.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{is_shared, Side, Stage, Tunnel};
use crate::config::Transport;
use crate::logic::control::{Codec, Control, Do, Why};
use crate::logic::dialect::Dialect;
use crate::logic::fingerprint::{Judged, Statement, Verdict};
use crate::logic::pool::Grant;
use crate::logic::terms::{Direction, Feature};
use crate::logic::wire::Id;
use crate::run::hub::out::{Action, EndReason, Out, PeerUser};
use crate::run::messages::{Home, Job};
use crate::run::user::{Proto, SessionKey};

impl Tunnel {
    /// Whether the peer knows what a goodbye is.
    pub fn hears_goodbye(&self) -> bool {
        self.terms.features.contains(&Feature::Goodbye)
    }

    /// The program stops: no pool connections are opened any more, and the peer hears that it is to look for another tunnel. A client
    /// keeps what its connection carries by not saying so.
    pub fn drain(&mut self) {
        self.leaving = true;
        let is_client = self.opener.take().is_some();
        let shared = is_shared(&self.terms);
        if !(is_client && shared) {
            self.leave();
        }
    }

    /// The program ends: the peer hears that it is to look for another tunnel.
    pub fn leave(&mut self) {
        (self.opener, self.leaving) = (None, true);
        if let Stage::Up { control, .. } = &mut self.stage {
            control.goodbye();
        }
    }

    /// The client at `by` gets its place. A peer that knows the feature `taken` is told, and has a moment to hear it; it serves no
    /// more users.
    pub fn replace(&mut self, by: SocketAddr, now: Instant, out: &mut Out) {
        let same = by.ip() == self.peer.ip();
        let hint = match same {
            true => "",
            false => "; if this goes on, two clients share one key: give each a server of its own, or raise clients",
        };
        let reason = EndReason::TakenOver { why: format!("{by} takes it over{hint}"), same };
        match &mut self.stage {
            Stage::Up { control, .. } if self.terms.features.contains(&Feature::Taken) => {
                control.taken(by);
                self.replaced = Some((reason, now + GOODBYE));
            }
            _ => out.push(Action::Over(reason)),
        }
    }

    /// It is over. What the peer said before counts: users whose connections are still on their way get them.
    pub(super) fn end(&mut self, reason: EndReason, now: Instant, out: &mut Out) {
        if self.awaits() {
            let patience = if self.opener.take().is_some() { GOODBYE } else { LEAVING };
            self.over.get_or_insert((reason, now + patience));
        } else if self.over.is_none() {
            out.push(Action::Over(reason));
        }
    }

    /// Whether users of the peer's wait for connections that are on their way.
    pub fn awaits(&self) -> bool {
        self.pool.awaits()
    }

    /// That connection is the control connection; `first` goes out before all signals.
    pub fn begin_control(&mut self, home: Home, first: Vec<u8>, now: Instant, out: &mut Out) {
        let edge = self.terms.features.contains(&Feature::Edge);
        let states = self.dialect.states_certificate(self.terms.tls, self.opener.is_some());
        let proving = self.secret.is_none() && self.side == Side::Ingress && states && self.terms.tls == 1 && !edge;
        let codec = match &self.secret {
            Some(secret) => Codec::sealed(secret.keys.clone()),
            None => Codec::Masked { key: self.key.clone(), dialect: self.dialect },
        };
        let original = self.terms.features.is_empty() && self.dialect == Dialect::Json;
        let control = match (&self.secret, &self.opener) {
            // An original's handshake may be a recorded one: its server waits for a word under the key.
            (None, None) => Control::silent(codec, self.report, proving, now),
            // It may be a 1.13, which shows that by how it writes.
            (None, Some(_)) if original => Control::listening(codec, self.report, proving, now),
            _ => Control::new(codec, self.report, proving, now),
        };
        let control = control.polite(self.hears_goodbye());
        out.job(home.worker, Job::Control { key: home.key, tunnel: self.number, first });
        let proven = control.is_heard();
        self.stage = Stage::Up { control: Box::new(control), home };
        if proven {
            self.proven(out);
        }
    }

    /// The peer is who it says.
    fn proven(&self, out: &mut Out) {
        out.push(Action::Proven);
        let peer = self.peer;
        let kind = match self.is_authenticated() {
            true => "authenticated".to_owned(),
            false => format!("the wire of NodePass {}", self.dialect().name()),
        };
        log::info!(event = "tunnel_up", peer:% = peer; "Tunnel with {peer} is up: {}; {kind}", self.describe());
        if self.is_weak {
            log::warn!(
                "The tunnel with {peer} is an original NodePass's: who recorded its handshake has the key, reads and forges its signals; \
                 with this program at both ends and auth=2 there is no such tunnel"
            );
        }
        if self.terms.tls == 0 && self.opener.is_some() {
            log::warn!("The server offers tls=0: what users say travels in the clear; tls=1 there encrypts it, tls=1 here demands it");
        }
    }

    /// Says once which certificate we know, soon after there is a connection to name.
    pub(super) fn state_certificate(&mut self, now: Instant, out: &mut Out) {
        let Stage::Up { control, .. } = &mut self.stage else { return };
        if !control.is_heard() || control.dialect() == Some(Dialect::Url) {
            return;
        }
        match self.check.poll(&mut self.pool, &out.loads, now) {
            Some(Statement::Ping) => control.ask(now),
            Some(Statement::Verify(id, fp)) => control.prove(id, fp),
            None => {}
        }
    }

    pub(super) fn judge(&mut self, judged: Judged<Home>, out: &mut Out) {
        if let Some(home) = judged.close {
            out.close(home);
        }
        let Stage::Up { control, .. } = &mut self.stage else { return };
        match judged.verdict {
            Verdict::Right => control.trust(),
            Verdict::Wrong { peer, own } => control.end(Why::Mismatch { peer, own }),
            Verdict::Unknown => {}
        }
    }

    /// Does what the control connection asks for.
    pub(super) fn follow_control(&mut self, now: Instant, out: &mut Out) {
        while let Stage::Up { control, home } = &mut self.stage {
            let home = *home;
            let Some(thing) = control.poll() else { break };
            match thing {
                Do::Send(bytes) => out.job(home.worker, Job::Say { key: home.key, bytes }),
                Do::Launch { udp, remote, id } => self.launched(udp, &remote, id, now),
                Do::Verify { id, fp } => {
                    if let Some(judged) = self.check.asked(id, fp, &mut self.pool, now) {
                        self.judge(judged, out);
                    }
                }
                Do::Flush => self.renew(now, out),
                Do::Gone(id) => self.told_gone(id, now, out),
                Do::Kept(id) => self.told_kept(id, out),
                Do::Doubt(id) => self.told_doubt(id, out),
                Do::Pong(rtt) => {
                    self.rtt = rtt;
                    out.push(Action::CheckPoint);
                }
                Do::Heard => self.proven(out),
                Do::Cert(fp) => out.push(Action::Pin(fp)),
                Do::Ready => log::info!("Certificate fingerprint verified"),
                Do::Unreadable { why, count: 1 } => {
                    log::warn!("A line of {} on the control connection cannot be read: {why}", self.peer);
                }
                Do::Unreadable { why, count } => {
                    log::warn!(
                        "{count} more lines of {} on the control connection cannot be read, the last: {why}",
                        self.peer
                    );
                }
                Do::Over(why) => {
                    self.grant(now, out);
                    self.end(EndReason::Control(why), now, out);
                }
            }
        }
    }

    /// The peer gave a user to connection `id`.
    fn launched(&mut self, udp: bool, remote: &str, id: Id, now: Instant) {
        if self.is_launched_in_vain(id) {
            return;
        }
        let address: Option<SocketAddr> = remote.parse().ok();
        let session = SessionKey { user: address.unwrap_or_else(|| SocketAddr::from(([0; 4], 0))), asked: None };
        let proto = if udp { Proto::Udp(session) } else { Proto::Tcp(None) };
        if self.pool.claim(id, PeerUser { address, proto }, now).is_err() {
            log::debug!("A user for connection {id}, too many or twice: ignored");
        }
    }

    /// Launches whose connections are there go on to targets.
    pub(super) fn grant(&mut self, now: Instant, out: &mut Out) {
        while let Some(Grant { id, home, worker, launch }) = self.pool.poll() {
            if self.side == Side::Ingress {
                log::warn!("{:?} refused: users come in here, the peer must not send any", launch.address);
                out.close(home);
                continue;
            }
            out.loads.begin(worker);
            self.live += 1;
            self.launched.given(id, home, now);
            out.push(Action::Dial { home, user: launch, framed: self.framed() });
        }
    }

    /// The peer asks for a new pool. It closes what it has of the old one; of a connection that was given back meanwhile a launch may still
    /// come, so the egress lets it linger where the peer knows such.
    fn renew(&mut self, now: Instant, out: &mut Out) {
        let idle = self.pool.idle();
        // A peer that says it again and again does not fill the log.
        if idle > 0 {
            log::info!("The peer asks for a new pool: {idle} idle connections closed");
        }
        let late = self.side == Side::Egress && self.terms.features.contains(&Feature::Reuse);
        self.drop_idle(late, now, out);
    }

    /// The terms in the user's words, with the transport that is really used.
    fn describe(&self) -> String {
        let features: Vec<&str> = self.terms.features.iter().map(|feature| feature.name()).collect();
        let extra = if features.is_empty() { String::new() } else { format!(", with {}", features.join(" ")) };
        let flow = match self.terms.flow {
            Direction::Reverse => "users at the server, targets at the client",
            Direction::Forward => "users at the client, targets at the server",
        };
        let used = self.opener.as_ref().map(|opener| opener.route.transport);
        let agreed = || Transport::from_code(self.terms.transport);
        let transport = used.or_else(agreed).map_or("unknown", Transport::name);
        format!("{flow}; {transport} pool of at most {}, tls={}{extra}", self.terms.max, self.terms.tls)
    }
}

/// Time for a client to hear that another has its place, and for connections on their way where another tunnel is to follow.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long one that has said goodbye itself, and so calls nobody after it, waits for the connections of its last users.
const LEAVING: Duration = Duration::from_secs(5);
