//! TLS sessions that a client can resume: tickets of the server that it calls.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::NamedGroup;

/// Tickets of one server, the one that was called last. Each is good for one handshake, which brings the next: a pool that is
/// refilled all at once needs as many as it has handshakes under way.
#[derive(Default)]
pub struct Sessions {
    server: Mutex<Server>,
}

#[derive(Default)]
struct Server {
    name: Option<ServerName<'static>>,
    group: Option<NamedGroup>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of that name; of the one before nothing is kept.
    fn named(&self, name: ServerName<'static>) -> MutexGuard<'_, Server> {
        let mut server = self.server();
        if server.name.as_ref() != Some(&name) {
            *server = Server { name: Some(name), ..Server::default() };
        }
        server
    }
}

/// Tickets are secret.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// TLS 1.3 alone.
impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.named(name).group = Some(group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        let server = self.server();
        server.group.filter(|_| server.name.as_ref() == Some(name))
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut server = self.named(name);
        if server.tickets.len() == MOST {
            server.tickets.pop_front();
        }
        server.tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut server = self.server();
        match server.name.as_ref() == Some(name) {
            true => server.tickets.pop_back(),
            false => None,
        }
    }
}

/// Most tickets that are kept, of some hundred bytes each.
pub const MOST: usize = 32;
