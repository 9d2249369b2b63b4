//! How a thread waits: for edges of its sockets, for messages of other threads, and for the clock.
//!
//! An instance's threads and the API's front wait in this one place; what each does then is its own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Registry, Token};

use super::channel::Waker;

/// A poll, the waker that ends its waits, and the events of the last one.
pub struct Poller {
    poll: Poll,
    waker: Arc<Waker>,
    events: Events,
}

impl Poller {
    /// One that watches nothing yet.
    pub fn new() -> io::Result<Poller> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Poller { poll, waker, events: Events::with_capacity(MAX_EVENTS) })
    }

    /// Where sockets are registered, under any token but the greatest.
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// The waker of the queues that this thread reads.
    pub fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// Waits for an edge or a message, and no longer than until `due`; not at all if there is something to do. The time then.
    pub fn wait(&mut self, busy: bool, due: Option<Instant>) -> io::Result<Instant> {
        let timeout = match due {
            _ if busy || !self.waker.doze() => Some(Duration::ZERO),
            due => due.map(|due| due.saturating_duration_since(Instant::now())),
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => self.waker.rise(),
        }
        Ok(Instant::now())
    }

    /// What that wait brought, but for the waker's own.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.token() != WAKER)
    }
}

/// The token of a thread's waker.
const WAKER: Token = Token(usize::MAX);
/// Events taken from the kernel at once.
const MAX_EVENTS: usize = 256;
