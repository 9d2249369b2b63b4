//! How peers come in: handshakes and openings at a server, the answer to its handshake at a client.

use std::net::SocketAddr;
use std::time::Instant;

use super::out::EndReason;
use super::part::Part;
use super::server::Reception;
use super::stopping::succession::Succession;
use super::tunnel::Side;
use super::Hub;
use crate::error::Error;
use crate::logic::auth::Opening;
use crate::logic::handshake::Request;
use crate::logic::metrics::Figure;
use crate::logic::terms::TunnelNo;
use crate::run::messages::{Answered, Home, Job, Reply, TunnelEvent};
use crate::run::policy::Kind;

impl Hub {
    /// A handshake. A server that stops answers none.
    pub(super) fn handshake(&mut self, home: Home, from: SocketAddr, request: &Request, tls: bool, now: Instant) {
        let (number, workers) = (self.next_number(), self.workers.len());
        let (Part::Server(server), None) = (&mut self.part, self.stopping) else { return self.out.close(home) };
        let Reception { answer, begun, surplus } = server.asked((number, from), request, tls, workers, now);
        self.touched.extend(begun.then_some(number));
        if let Some(surplus) = surplus {
            self.end_tunnel(surplus, &EndReason::NoConnection, now);
        }
        self.out.job(home.worker, Job::Answer { key: home.key, bytes: answer });
    }

    /// A handshake in the manner of 1.12 and older.
    pub(super) fn key_line(&mut self, home: Home, from: SocketAddr, line: &[u8], now: Instant) {
        let (number, workers) = (self.next_number(), self.workers.len());
        let (Part::Server(server), None) = (&mut self.part, self.stopping) else { return self.out.close(home) };
        let surplus = server.surplus_candidate();
        let Some(answer) = server.asked_with_line((number, from), line, workers, now) else {
            return self.out.close(home);
        };
        if let Some(tunnel) = server.tunnel(number) {
            tunnel.begin_control(home, answer, now, &mut self.out);
        }
        self.touched.push(number);
        self.flush(number, now);
        if let Some(surplus) = surplus {
            self.end_tunnel(surplus, &EndReason::NoConnection, now);
        }
    }

    /// A connection says that it belongs to an authenticated tunnel.
    pub(super) fn opening(&mut self, home: Home, from: SocketAddr, kind: Kind, opening: &Opening, now: Instant) {
        match self.part.server().and_then(|server| server.opened(opening, from.ip(), kind, now)) {
            Some(number) => self.tunnel_event(number, TunnelEvent::Arrived { home, fp: None }, now),
            None => {
                log::debug!("Pool connection from {from} closed: its opening is of no tunnel that is");
                self.out.close(home);
                self.flush(0, now);
            }
        }
    }

    /// The client of that tunnel has proven who it is: others may have to make room for it.
    pub(super) fn promote(&mut self, number: TunnelNo, now: Instant) {
        let Part::Server(server) = &mut self.part else { return };
        let Some(from) = server.tunnel(number).map(|tunnel| tunnel.peer()) else { return };
        server.at_home(number);
        match server.replaced_by(number) {
            Ok(replaced) => {
                for other in replaced {
                    self.part.tunnel(other).into_iter().for_each(|tunnel| tunnel.replace(from, now, &mut self.out));
                    self.touched.push(other);
                    self.flush(other, now);
                }
            }
            Err(reason) => self.end_tunnel(number, &reason, now),
        }
    }

    /// The server's answer to our handshake.
    pub(super) fn answered(&mut self, answer: Result<Answered, Error>, now: Instant) {
        if self.stopping.is_some() || self.succession.as_ref().is_some_and(Succession::is_over) {
            return;
        }
        if let Err(why) = &answer {
            let refused = matches!(why, Error::Refused(_));
            self.shared.stats.add(if refused { Figure::HandshakesRefused } else { Figure::HandshakesFailed }, 1);
        }
        let number = self.next_number();
        let Part::Client(client) = &mut self.part else { return };
        // Where the handshake was made, if that connection stays.
        let control = match &answer {
            Ok(Answered { reply: Reply::Line(_, home), .. }) => Some(*home),
            _ => None,
        };
        match client.answered(answer, number, &mut self.targets, self.workers.len(), now) {
            Some(Side::Ingress) => self.ingress.open(&self.shared.config.targets[0], &self.registry, now),
            Some(Side::Egress) => self.ingress.close(),
            None => return control.into_iter().for_each(|home| self.out.close(home)),
        }
        // What users come in through is known now.
        self.shared.inherited.close();
        if let (Some(home), Some(tunnel)) = (control, client.tunnel_mut(number)) {
            tunnel.begin_control(home, Vec::new(), now, &mut self.out);
            self.flush(number, now);
        }
        self.touched.push(number);
    }
}
