//! What each thread of an instance repeats.

use std::io;
use std::process::ExitCode;

use mio::Token;
use signal_hook::consts::SIGTERM;

use super::channel::Sender;
use super::hub::{Hub, TUNNEL_TOKEN};
use super::leash::Leash;
use super::messages::Notice;
use super::poller::Poller;
use super::worker::Worker;
use crate::log as lines;

/// Waits, notes what happened, lets the hub decide and the worker work; again and again.
pub(super) fn run(
    mut poller: Poller,
    mut worker: Worker,
    hub: Option<(Hub, Sender<Notice>)>,
    leash: Option<Leash>,
) -> io::Result<ExitCode> {
    let (mut hub, post) = hub.unzip();
    loop {
        let busy = worker.is_busy() || hub.as_ref().is_some_and(Hub::is_busy);
        let due = worker.deadline().into_iter().chain(hub.as_ref().and_then(Hub::deadline)).min();
        let later = worker.later();
        let now = poller.wait(busy, due)?;
        for event in poller.events() {
            match (event.token(), &mut hub) {
                (HOME, Some(hub)) if event.is_read_closed() => {
                    log::warn!("The first process is gone");
                    hub.stop(now);
                }
                (HOME, _) => {}
                (LEASH, Some(hub)) if event.is_read_closed() && !hub.is_stopping() => {
                    log::warn!("The master is gone");
                    post.iter().for_each(|post| post.send(Notice::Signal(SIGTERM)));
                }
                // What is said is for the process that came after this one.
                (LEASH, Some(hub)) if hub.has_handed_on() => {}
                (LEASH, hub) => {
                    let heard = leash.as_ref().map(Leash::heard).unwrap_or_default();
                    heard.level.into_iter().for_each(lines::change_level);
                    if let Some(hub) = hub {
                        heard.lift.iter().for_each(|source| hub.lift(*source));
                        if let Some(url) = heard.next {
                            hub.asked_for_next(url);
                        }
                        if heard.stop {
                            hub.stop(now);
                        }
                    }
                }
                (Token(token), Some(hub)) if token >= TUNNEL_TOKEN => hub.note(event),
                _ => worker.note(event),
            }
        }
        worker.hear(now);
        // What the worker tells the hub is mostly answered at once: a second round saves a visit to the kernel.
        for _ in 0..2 {
            if let Some(code) = hub.as_mut().and_then(|hub| hub.turn(now)) {
                return Ok(code);
            }
            worker.turn(now);
            if !hub.as_ref().is_some_and(Hub::has_mail) {
                break;
            }
        }
        // The clock last: what has come is known by now, and is not late because we are.
        if let Some(hub) = &mut hub {
            hub.tick(now);
        }
        worker.say(later, now);
    }
}

/// The token of the way to the first process.
pub(super) const HOME: Token = Token(usize::MAX - 2);
/// The token of the leash.
pub(super) const LEASH: Token = Token(usize::MAX - 1);
