//! Starting the master: state, key, API, signals, and then the supervisor on this thread.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{channel, Sender};
use std::thread;

use ring::rand::SystemRandom;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::child::Program;
use super::orders;
use super::record::{Record, KEY_ID};
use super::supervisor::{Keep, Mail, Supervisor};
use crate::config::{Config, Tls};
use crate::log::Level;
use crate::net::sys;

/// Runs the master until it is told to stop. The error is for the user: one line.
pub fn start(config: Config) -> Result<ExitCode, String> {
    sys::raise_descriptor_limit();
    let (mailbox, inbox) = channel();
    listen_for_signals(mailbox.clone()).map_err(|error| format!("cannot start: {error}"))?;
    log_tls(&config);

    let (mut records, keep) = open_state()?;
    let master = records.entry(KEY_ID.into()).or_default();
    let new = orders::complete(master, &SystemRandom::new())?;
    let key = master.url.clone();

    log::info!("Master started: {}{}/v1", config.tunnel, config.prefix);
    log::info!("API Key {}: {key}", if new { "created" } else { "loaded" });
    let program = Program::own(config.log != Level::None);
    Ok(Supervisor::new(config, records, keep, program, (mailbox, inbox)).run())
}

/// Which certificate the API shows.
fn log_tls(config: &Config) {
    match &config.tls {
        Tls::Off => log::warn!("TLS code-0: unencrypted"),
        Tls::SelfSigned => log::info!("TLS code-1: self-signed certificate, made now"),
        Tls::Files { crt, key } => log::info!("TLS code-2: {} with {}", crt.display(), key.display()),
    }
}

fn open_state() -> Result<(BTreeMap<String, Record>, Box<dyn Keep>), String> {
    struct Nowhere;
    impl Keep for Nowhere {
        fn save(&mut self, _: BTreeMap<String, Record>) {}
        fn backup(&mut self, _: BTreeMap<String, Record>) {}
        fn close(self: Box<Self>) {}
    }
    Ok((BTreeMap::new(), Box::new(Nowhere)))
}

/// Signals come in as mail, from a thread that does nothing else.
fn listen_for_signals(mailbox: Sender<Mail>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let run = move || {
        for signal in signals.forever() {
            // An error means that the program is at its end.
            let _ = mailbox.send(Mail::Signal(signal));
        }
    };
    thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(run).map(drop)
}

/// The signals' thread needs little stack: nothing recurses.
const STACK: usize = 64 * 1024;
