//! A client that forwards by itself, without a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::certificates::reload_certs;
use super::targets::TargetRouter;
use crate::config::Limits;
use crate::net::certs::Certs;

/// A single-end client's own state.
pub(in crate::run) struct Single {
    /// Where it ends its users' TLS.
    certs: Option<Certs>,
    report: Instant,
    reload: Instant,
    report_every: Duration,
    reload_every: Duration,
}

impl Single {
    /// One that ends its users' TLS with `certs`, if it does.
    pub fn new(certs: Option<Certs>, limits: &Limits, now: Instant) -> Single {
        let (report_every, reload_every) = (limits.report, limits.reload);
        Single { certs, report: now, reload: now + reload_every, report_every, reload_every }
    }

    /// Whether users speak TLS to it.
    pub fn ends_tls(&self) -> bool {
        self.certs.is_some()
    }

    /// Its part of their TLS.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.certs.as_ref().map(|certs| certs.current().config)
    }

    /// The certificate in use.
    pub fn certs(&self) -> Option<&Certs> {
        self.certs.as_ref()
    }

    /// Looks at the certificate files again.
    pub fn reload(&mut self) {
        match &mut self.certs {
            Some(certs) => reload_certs(certs),
            None => log::info!("SIGHUP: nothing to load again"),
        }
    }

    /// Time has passed: a target is measured for the check point, certificate files are looked at.
    pub fn tick(&mut self, targets: &mut TargetRouter, now: Instant) {
        if now >= self.report {
            self.report = now + self.report_every;
            targets.probe_any(now);
        }
        if now >= self.reload {
            self.reload = now + self.reload_every;
            self.certs.iter_mut().for_each(reload_certs);
        }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let reload = self.certs.as_ref().map(|_| self.reload);
        reload.into_iter().chain(Some(self.report)).min()
    }
}
