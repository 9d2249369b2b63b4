//! Starting the master: state, key, API, signals, supervisor; and the way back.
//!
//! Threads: this one (signals), the supervisor, the front and those it needs to answer, one reader for each child.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{channel, Sender};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::api::Api;
use super::child::Program;
use super::front::admission::Admission;
use super::front::Front;
use super::handlers;
use super::http;
use super::mail::Mail;
use super::record::{Record, KEY_ID};
use super::requests::SupervisorHandle;
use super::state::{Keeper, Loaded, State};
use super::supervisor::{Keep, Supervisor};
use crate::config::{needs_files, Config, Tls};
use crate::error::Error;
use crate::heap;
use crate::log as lines;
use crate::logic::guard::Guard;
use crate::net::certs::{Audience, Certs, Origin};
use crate::net::sys;
use crate::run::resources::Resources;

/// Runs the master until it is told to stop. The error is for the user: one line.
pub fn start(config: Config) -> Result<ExitCode, Error> {
    let failed = |error: io::Error| Error::system("cannot start", error);
    sys::raise_descriptor_limit();
    if Resources::here().wants_one_heap() {
        heap::share();
    }
    // The HTTP server's own threads; the standard library's 2 MiB each are much where memory is little.
    std::env::set_var("RUST_MIN_STACK", http::STACK.to_string());
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]).map_err(failed)?;
    let (mailbox, inbox) = channel();

    let certs = certs(&config.tls)?;
    let (mut records, keeper) = open_state(&config)?;
    let master = records.entry(KEY_ID.into()).or_default();
    let new = handlers::complete(master).map_err(|refusal| Error::system("cannot start", refusal.text))?;
    let key = master.url.clone();

    // The listener before the children: if it does not open, nothing has happened.
    let api = Api::new(SupervisorHandle::<Mail>::new(mailbox.clone()), keeper.saving(), &config);
    let guard = Guard::new(config.limits.ban_failures, config.limits.ban_time);
    let post = mailbox.clone();
    // An error means that the supervisor has left.
    let tell = Box::new(move |notice| drop(post.send(Mail::Banned(notice))));
    let admission = Admission::new(config.users.clone(), guard, tell);
    let cors = config.cors.clone();
    let front = Front::start(&config.tunnel, certs, config.limits.reload, admission, cors, Arc::new(api))?;
    log::info!("Master started: {}{}/v1", config.tunnel, config.prefix);
    log::info!("{}", about_key(&key, new, config.limits.show_key));

    let program = Program::own(config.limits.log_format);
    let supervisor = Supervisor::new(config, records, Box::new(keeper), program, (mailbox.clone(), inbox));
    let supervisor = supervisor.behind(front.lifter());
    let handle = signals.handle();
    let run = move || {
        let code = supervisor.run();
        handle.close();
        code
    };
    let supervisor = thread::Builder::new().name("supervisor".into()).stack_size(STACK).spawn(run).map_err(failed)?;
    pass_on(signals, &mailbox, &front);
    let code = supervisor.join().map_err(|_| Error::system("", "the supervisor has failed"))?;
    front.close();
    log::info!("Master shutdown complete");
    Ok(code)
}

/// What the log says of the API key: all of it when it is made, later only how it begins.
fn about_key(key: &str, new: bool, show: bool) -> String {
    let start: String = key.chars().take(KEY_START).collect();
    match (new, show) {
        (true, _) => format!("API Key created: {key}"),
        (false, true) => format!("API Key loaded: {key}"),
        (false, false) => format!("API Key loaded: {start}... (NP_SHOW_KEY=1 shows all of it)"),
    }
}

/// Hands signals on, until the supervisor has ended.
fn pass_on(mut signals: Signals, mailbox: &Sender<Mail>, front: &Front) {
    // An error means that the supervisor is at its end.
    let tell = |signal| drop(mailbox.send(Mail::Signal(signal)));
    for signal in signals.forever() {
        match signal {
            SIGHUP => {
                front.reload();
                tell(signal);
            }
            SIGUSR1 => lines::change_level(lines::level().louder()),
            SIGUSR2 => lines::change_level(lines::level().quieter()),
            _ => tell(signal),
        }
    }
}

/// The certificate of the API, and a word about it.
fn certs(tls: &Tls) -> Result<Option<Certs>, Error> {
    let origin = match tls {
        Tls::Off => {
            log::warn!("TLS code-0: unencrypted");
            return Ok(None);
        }
        Tls::SelfSigned => {
            log::info!("TLS code-1: self-signed certificate, made in memory");
            Origin::Memory
        }
        Tls::Files { crt, key } => {
            log::info!("TLS code-2: {} with {}", crt.display(), key.display());
            Origin::Files { crt: crt.clone(), key: key.clone() }
        }
        Tls::Verified => return Err(needs_files()),
    };
    Certs::new(origin, Audience::Users).map(Some)
}

/// The records of earlier lives, and who keeps them from now on. What was found is logged.
fn open_state(config: &Config) -> Result<(BTreeMap<String, Record>, Keeper), Error> {
    let mut state = State::new(State::folder(config.limits.state.as_deref()));
    state.lock()?;
    let Loaded { records, notes } = state.load(SystemTime::now());
    for (level, note) in notes {
        log::log!(level, "{note}");
    }
    Ok((records, Keeper::start(state)))
}

impl Keep for Keeper {
    fn save(&mut self, records: BTreeMap<String, Record>) {
        Keeper::save(self, records);
    }

    fn changed(&mut self) {
        self.saving().changed();
    }

    fn backup(&mut self, records: BTreeMap<String, Record>) {
        Keeper::backup(self, records);
    }

    fn close(self: Box<Self>) {
        Keeper::close(*self);
    }
}

/// The supervisor needs little stack: nothing recurses.
const STACK: usize = 256 * 1024;

/// Digits of the API key that are shown when it is not new: enough to tell it from others.
const KEY_START: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_key_is_told_whole_when_it_is_made_or_asked_for() {
        let key = "0123456789abcdef0123456789abcdef";
        assert_eq!(about_key(key, true, false), format!("API Key created: {key}"));
        assert_eq!(about_key(key, false, true), format!("API Key loaded: {key}"));
        assert_eq!(about_key(key, false, false), "API Key loaded: 0123... (NP_SHOW_KEY=1 shows all of it)");
    }
}
