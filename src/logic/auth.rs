//! Authenticated tunnels: both sides prove that they know the key, and all that they say afterwards is under keys that only they
//! know and that are used once. The Noise protocol, pattern NNpsk0.
//!
//! ```text
//!  client                                            server
//!  Initiator::new --message 1 (features)---------->  Responder::read     not under this key: None
//!  Initiator::finish <--message 2 (agreement)------  Responder::answer
//!  SessionKeys  ==openings, signals, each with a number==  SessionKeys
//! ```
//!
//! Pure but for the randomness of the exchange keys.

mod agreement;
mod approach;
mod exchange;
mod numbers;
mod opening;

use std::sync::LazyLock;

use portable_atomic::{AtomicU64, Ordering};
use ring::pbkdf2;
use serde::Deserialize;
use serde_json::Value;
use snow::params::NoiseParams;
use snow::{Builder, HandshakeState, StatelessTransportState};

pub use self::agreement::{Agreement, SessionId};
pub use self::approach::{Approach, Asked, AuthMode, Outcome};
use self::exchange::Primitives;
pub use self::numbers::Numbers;
pub use self::opening::{session_of, Opening, OPENING};
use super::terms::Feature;

/// The tunnel key, stretched: what both sides have to know.
#[derive(Clone)]
pub struct Psk([u8; 32]);

impl Psk {
    /// Takes tens of milliseconds, so that guesses cost something: once a process.
    pub fn stretch(key: &[u8]) -> Psk {
        let mut psk = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, PROLOGUE, key, &mut psk);
        Psk(psk)
    }

    fn builder(&self) -> Result<Builder<'_>, snow::Error> {
        let params: &NoiseParams = PARAMS.as_ref().map_err(|()| snow::Error::Input)?;
        Builder::with_resolver(params.clone(), Box::new(Primitives::default())).psk(0, &self.0)?.prologue(PROLOGUE)
    }
}

/// The client's side of a handshake, until the answer comes.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Begins a handshake: message 1, to be sent, says which features are known. An error: the system gives no random numbers.
    pub fn new(psk: &Psk, features: &[&str]) -> Result<(Initiator, Vec<u8>), snow::Error> {
        let hello = serde_json::json!({ "features": features, "version": env!("CARGO_PKG_VERSION") }).to_string();
        Initiator::begin(psk.builder()?.build_initiator()?, &hello)
    }

    fn begin(mut noise: HandshakeState, hello: &str) -> Result<(Initiator, Vec<u8>), snow::Error> {
        let message = write(&mut noise, hello.as_bytes())?;
        Ok((Initiator(noise), message))
    }

    /// Takes message 2. The error says what is wrong with it: not under this key, or not an agreement.
    pub fn finish(mut self, message: &[u8]) -> Result<(Agreement, SessionKeys), &'static str> {
        let payload = read(&mut self.0, message).ok_or("the answer is not under this key")?;
        let agreement = Agreement::parse(&payload)?;
        let keys = SessionKeys::of(self.0).map_err(|_| "the answer ends no handshake")?;
        Ok((agreement, keys))
    }
}

/// The server's side of a handshake whose first message was right.
pub struct Responder {
    noise: HandshakeState,
    /// The features of the client that are known here.
    pub features: Vec<Feature>,
}

impl Responder {
    /// Takes message 1. `None` if it is not under this key. It may be a recorded one: its sender cannot read the answer
    /// without its keys, and is no client before the first opening.
    pub fn read(psk: &Psk, message: &[u8]) -> Option<Responder> {
        let noise = psk.builder().and_then(Builder::build_responder).ok()?;
        Responder::begin(noise, message)
    }

    fn begin(mut noise: HandshakeState, message: &[u8]) -> Option<Responder> {
        let payload = read(&mut noise, message)?;
        let hello: Hello = serde_json::from_slice(&payload).ok()?;
        let features = Feature::named(hello.features.iter().filter_map(Value::as_str));
        Some(Responder { noise, features })
    }

    /// Message 2, and the keys that both sides have from here on.
    pub fn answer(mut self, agreement: &Agreement) -> Result<(Vec<u8>, SessionKeys), snow::Error> {
        let message = write(&mut self.noise, agreement.to_json().as_bytes())?;
        Ok((message, SessionKeys::of(self.noise)?))
    }
}

/// Message 1's payload; other fields may come.
#[derive(Deserialize)]
struct Hello {
    #[serde(default)]
    features: Vec<Value>,
}

/// What both sides say after the handshake is under these: one key for each direction, and a number for each thing that is said.
pub struct SessionKeys {
    noise: StatelessTransportState,
    /// The number of what is said next. No number is ever used twice.
    next: AtomicU64,
}

impl SessionKeys {
    fn of(noise: HandshakeState) -> Result<SessionKeys, snow::Error> {
        Ok(SessionKeys { noise: noise.into_stateless_transport_mode()?, next: AtomicU64::new(0) })
    }

    /// Puts `text` under the key of our direction; its number.
    pub fn seal(&self, text: &[u8]) -> (u64, Vec<u8>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut sealed = vec![0; text.len() + TAG];
        // It fails for texts beyond 64 KiB and after 2^64 numbers: neither is ever said.
        let length = self.noise.write_message(number, text, &mut sealed).unwrap_or(0);
        sealed.truncate(length);
        (number, sealed)
    }

    /// The text that the peer said under `number`; `None` if it did not.
    pub fn open(&self, number: u64, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut text = vec![0; sealed.len().checked_sub(TAG)?];
        let length = self.noise.read_message(number, sealed, &mut text).ok()?;
        text.truncate(length);
        Some(text)
    }
}

fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, snow::Error> {
    let mut message = vec![0; payload.len() + EXCHANGE + TAG];
    let length = noise.write_message(payload, &mut message)?;
    message.truncate(length);
    Ok(message)
}

fn read(noise: &mut HandshakeState, message: &[u8]) -> Option<Vec<u8>> {
    let mut payload = vec![0; message.len()];
    let length = noise.read_message(message, &mut payload).ok()?;
    payload.truncate(length);
    Some(payload)
}

static PARAMS: LazyLock<Result<NoiseParams, ()>> = LazyLock::new(|| PATTERN.parse().map_err(|_| ()));

/// The Noise protocol in use.
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// What both sides must agree on to understand each other at all; the salt of the stretched key as well.
const PROLOGUE: &[u8] = b"nodepass auth 1";
/// Rounds of the stretching.
const ROUNDS: std::num::NonZeroU32 = std::num::NonZeroU32::new(65536).expect("not 0");
/// Bytes of an exchange key in a message.
const EXCHANGE: usize = 32;
/// Bytes that a seal adds.
const TAG: usize = 16;
/// Most bytes of message 1 or 2 that are looked at.
pub const MAX_MESSAGE: usize = 4096;

#[cfg(test)]
mod tests;
