//! Users: which connection each gets, which target it goes on to, and who is turned away.

use std::time::Instant;

use super::ingress::accepted;
use super::out::{Granted, PeerUser};
use super::part::Part;
use super::targets::TargetEvent;
use super::tunnel::Tunnel;
use super::Hub;
use crate::logic::metrics::{Figure, Timing};
use crate::logic::terms::TunnelNo;
use crate::run::messages::{Home, Job};
use crate::run::user::{Proto, User};

impl Hub {
    /// Users who wait get connections: of the tunnel with the fewest users among those that have one to give.
    pub(super) fn serve_waiting(&mut self, now: Instant) {
        while let Some(user) = self.ingress.waiting.first() {
            let (address, udp) = (user.address(), matches!(user, User::Udp(..)));
            let able = self.part.tunnels().filter(|tunnel| tunnel.can_serve());
            let best = able.min_by_key(|tunnel| (tunnel.is_doubtful(now), tunnel.live(), tunnel.number()));
            let Some(number) = best.map(Tunnel::number) else { return };
            let granted = self.part.tunnel(number).and_then(|tunnel| tunnel.take(address, udp, now, &mut self.out));
            let waited = self.ingress.waiting.waited(now);
            let (Some(Granted { home, framed, retried }), Some(user)) = (granted, self.ingress.waiting.pop()) else {
                return;
            };
            self.shared.stats.observe(Timing::PoolWait, waited);
            let user = self.ingress.bind(user, home);
            self.out.job(home.worker, Job::Join { key: home.key, tunnel: number, user, framed, retried });
            self.touched.push(number);
        }
    }

    /// A user of the peer's has a pool connection: may it go on to a target?
    pub(super) fn dial(&mut self, home: Home, tunnel: TunnelNo, user: PeerUser, framed: bool, now: Instant) {
        let config = &self.shared.config;
        let carried = match user.proto {
            Proto::Tcp(_) => config.tcp,
            Proto::Udp(_) => config.udp,
        };
        let nameless = user.address.is_none() && config.proxy && matches!(user.proto, Proto::Tcp(_));
        let (figure, why) = match () {
            () if !carried => (Figure::RefusedProtocol, "this protocol is switched off (notcp, noudp)"),
            () if nameless => (Figure::RefusedProtocol, "the peer did not say who it is, as proxy=1 needs"),
            () if !self.ingress.slots.enter(user.proto) => (Figure::RefusedSlots, "all slots are taken (slot)"),
            () => {
                self.shared.stats.add(accepted(user.proto, true), 1);
                return self.targets.dial(home, tunnel, user, framed, now);
            }
        };
        self.shared.stats.add(figure, 1);
        log::warn!("{} refused: {why}", user.address.map_or_else(|| "a user".into(), |address| address.to_string()));
        self.release(home, tunnel);
        self.out.close(home);
    }

    /// How to reach a target is known (or that it cannot be reached).
    pub(super) fn dispatch(&mut self, event: TargetEvent) {
        match event {
            TargetEvent::Dial { home, tunnel, request, proto } => {
                let behind = self.out.loads.is_remote(home.worker);
                self.out.job(home.worker, Job::Dial { key: home.key, tunnel, request, proto, behind });
            }
            TargetEvent::Forward { user, request } => {
                let worker = self.out.loads.quietest(matches!(user.proto(), Proto::Udp(_)));
                self.out.loads.begin(worker);
                let ticket = self.targets.sent(worker, user.proto());
                let tls = match &self.part {
                    Part::Single(single) => single.tls(),
                    _ => None,
                };
                self.out.job(worker, Job::Forward { ticket, user, request, tls });
            }
            TargetEvent::Bound { session, home } => {
                self.ingress.bind_session(&session, home);
                self.ingress.deliver(&self.workers);
            }
            TargetEvent::Probe { target, address } => self.out.job(0, Job::Probe { target, address }),
            TargetEvent::NoTarget { waiting, proto, why } => {
                self.shared.stats.add(Figure::RefusedTarget, 1);
                log::warn!(event = "target_failed"; "No target: {why}");
                if let Some((home, tunnel)) = waiting {
                    self.release(home, tunnel);
                    self.out.close(home);
                }
                self.ingress.leave(proto, None);
            }
        }
    }

    /// A user waited too long, or in vain.
    pub(super) fn refuse(&mut self, user: User) {
        let why = self.part.absence();
        let (from, waited) = (user.address(), self.shared.config.limits.pool_get);
        self.shared.stats.add(Figure::RefusedPool, 1);
        log::warn!(event = "user_refused", peer:% = from; "{from} closed after {waited:?}: {why}");
        self.ingress.leave(user.proto(), None);
    }
}
