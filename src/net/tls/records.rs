//! Records of TLS 1.3 once the handshake is over (RFC 8446, 5), and the few messages that still come between them.
//!
//! ```text
//!   [ plaintext | .. | record | record | begun ]   opened where they came: each plaintext moves down to the end of the last
//!   pieces of plaintext --> [ head | plaintext, type | tag ]   sealed where they are sent from
//! ```
//!
//! rustls shakes hands and keeps the secrets behind the keys: this is what it calls a kernel connection. So a byte is copied once
//! on its way out and not at all on its way in, and an idle session is small.

use std::io::IoSlice;
use std::mem;

use ring::aead::{
    Aad, Algorithm, LessSafeKey, Nonce, Tag, UnboundKey, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, NONCE_LEN,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error, InvalidMessage, PeerMisbehaved};

use super::session::Session;
use crate::net::stream::{RECORD, SEAL};

/// Both directions of a session.
pub(super) struct Records {
    theirs: Protection,
    ours: Protection,
    /// Records that may be sealed with one key.
    most: u64,
    secrets: Secrets,
    /// The beginning of a message in several records.
    message: Vec<u8>,
    /// New keys are to come before what we say next, as the other side wishes.
    is_update_due: bool,
    /// New keys that the other side may still announce before it sends data.
    updates: u8,
    /// The other side has said goodbye.
    has_ended: bool,
    /// We have.
    is_over: bool,
}

/// What came of opening.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// Bytes of plaintext, at the front.
    pub(super) given: usize,
    /// Bytes of records that are done with.
    pub(super) done: usize,
    /// The other side has said goodbye.
    pub(super) ended: bool,
}

/// What came of sealing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Bytes of plaintext that were taken.
    pub(super) taken: usize,
    /// Bytes of records that were made of them.
    pub(super) made: usize,
}

/// What the other side has done wrong, and what it is told.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    /// Nothing where it has ended the session itself.
    pub(super) alert: Option<AlertDescription>,
}

impl Fault {
    fn new(error: impl Into<Error>, alert: AlertDescription) -> Fault {
        Fault { error: error.into(), alert: Some(alert) }
    }

    fn message(fault: InvalidMessage) -> Fault {
        Fault::new(fault, AlertDescription::DecodeError)
    }

    fn unexpected() -> Fault {
        Fault::new(
            Error::General("a TLS message that does not belong here".into()),
            AlertDescription::UnexpectedMessage,
        )
    }
}

impl Records {
    /// Goes on where a handshake has ended.
    pub(super) fn after(session: Session) -> Result<Records, Error> {
        let (secrets, suite, keys) = match session {
            Session::Client(client) => {
                let (secrets, kernel) = client.dangerous_into_kernel_connection()?;
                (secrets, kernel.negotiated_cipher_suite(), Secrets::Client(kernel))
            }
            Session::Server(server) => {
                let (secrets, kernel) = server.dangerous_into_kernel_connection()?;
                (secrets, kernel.negotiated_cipher_suite(), Secrets::Server(kernel))
            }
        };
        Ok(Records {
            theirs: Protection::new(secrets.rx)?,
            ours: Protection::new(secrets.tx)?,
            most: suite.tls13().ok_or(Error::HandshakeNotComplete)?.common.confidentiality_limit,
            secrets: keys,
            message: Vec::new(),
            is_update_due: false,
            updates: MAX_UPDATES,
            has_ended: false,
            is_over: false,
        })
    }

    /// Opens the records in the first `filled` bytes of `area`, all that are there whole. After a fault there is no going on; what
    /// came before it counts.
    pub(super) fn open(&mut self, area: &mut [u8], filled: usize) -> (Opened, Result<(), Fault>) {
        let mut opened = Opened::default();
        let result = loop {
            match self.open_next(area, filled, &mut opened) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        (opened, result)
    }

    /// Whether there may be more.
    fn open_next(&mut self, area: &mut [u8], filled: usize, opened: &mut Opened) -> Result<bool, Fault> {
        if self.has_ended {
            // What follows a goodbye counts for nothing.
            (opened.done, opened.ended) = (filled, true);
            return Ok(false);
        }
        let Some(length) = length_of(&area[opened.done..filled])? else { return Ok(false) };
        let (begin, end) = (opened.done + HEAD, opened.done + length);
        if end > filled {
            return Ok(false);
        }
        let head = area[opened.done..begin].try_into().unwrap_or_default();
        let text = self.theirs.open(head, &mut area[opened.given..end], begin - opened.given)?;
        opened.given += self.hear(text)?;
        opened.done = end;
        Ok(true)
    }

    /// Seals up to `most` bytes of these pieces into `into`, in records that are as long as can be.
    pub(super) fn seal(&mut self, pieces: &[IoSlice<'_>], most: usize, into: &mut [u8]) -> Result<Sealed, Error> {
        let mut left = pieces.iter().map(|piece| piece.len()).sum::<usize>().min(most);
        let (mut sealed, mut pieces) = (Sealed::default(), pieces.iter().map(|piece| &piece[..]));
        let mut piece: &[u8] = &[];
        if self.is_over {
            left = 0;
        }
        while left > 0 {
            // The last record under a key says that there is another.
            if self.is_update_due || self.ours.sequence + 1 >= self.most {
                sealed.made += self.renew(&mut into[sealed.made..])?;
            }
            let count = left.min(RECORD);
            let record = &mut into[sealed.made..][..count + SEAL];
            let mut room = &mut record[HEAD..HEAD + count];
            while !room.is_empty() {
                if piece.is_empty() {
                    piece = pieces.next().unwrap_or_default();
                    continue;
                }
                let (now, later) = piece.split_at(piece.len().min(room.len()));
                let (filled, rest) = room.split_at_mut(now.len());
                filled.copy_from_slice(now);
                (piece, room) = (later, rest);
            }
            self.ours.seal(DATA, record)?;
            sealed = Sealed { taken: sealed.taken + count, made: sealed.made + record.len() };
            left -= count;
        }
        Ok(sealed)
    }

    /// The goodbye; nothing may follow. How long it is.
    pub(super) fn goodbye(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        match mem::replace(&mut self.is_over, true) {
            true => Ok(0),
            false => self.say(ALERT, &[WARNING, AlertDescription::CloseNotify.into()], into),
        }
    }

    /// What the other side is told of a fault of its own; how long it is.
    pub(super) fn alert(&mut self, fault: AlertDescription, into: &mut [u8]) -> Result<usize, Error> {
        self.say(ALERT, &[FATAL, fault.into()], into)
    }

    /// Announces new keys, and takes them.
    fn renew(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let made = self.say(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], into)?;
        self.ours = self.secrets.next_of_ours()?;
        self.is_update_due = false;
        Ok(made)
    }

    /// A short record.
    fn say(&mut self, kind: u8, text: &[u8], into: &mut [u8]) -> Result<usize, Error> {
        let record = into.get_mut(..text.len() + SEAL).ok_or(Error::EncryptError)?;
        record[HEAD..HEAD + text.len()].copy_from_slice(text);
        self.ours.seal(kind, record)?;
        Ok(record.len())
    }

    /// Takes in what was in a record: how much of it is data.
    fn hear(&mut self, text: &[u8]) -> Result<usize, Fault> {
        let oversized = || Fault::new(Error::PeerSentOversizedRecord, AlertDescription::RecordOverflow);
        // The type is the last byte but for zeros.
        let Some(end) = text.iter().rposition(|byte| *byte != 0) else {
            return Err(Fault::new(PeerMisbehaved::IllegalTlsInnerPlaintext, AlertDescription::UnexpectedMessage));
        };
        let (text, kind) = (&text[..end], text[end]);
        if text.len() > RECORD {
            return Err(oversized());
        }
        if kind != HANDSHAKE && !self.message.is_empty() {
            return Err(Fault::unexpected());
        }
        match (kind, text) {
            (DATA, _) => {
                self.updates = MAX_UPDATES;
                return Ok(text.len());
            }
            (ALERT, &[_, alert]) => match AlertDescription::from(alert) {
                AlertDescription::CloseNotify => self.has_ended = true,
                AlertDescription::UserCanceled => {}
                other => return Err(Fault { error: Error::AlertReceived(other), alert: None }),
            },
            (ALERT, _) => return Err(Fault::message(InvalidMessage::MessageTooShort)),
            (HANDSHAKE, [_, ..]) => self.hear_messages(text)?,
            _ => return Err(Fault::unexpected()),
        }
        Ok(0)
    }

    /// Takes in messages of the handshake protocol: tickets, new keys.
    fn hear_messages(&mut self, text: &[u8]) -> Result<(), Fault> {
        let mut all = mem::take(&mut self.message);
        all.extend_from_slice(text);
        let mut rest = &all[..];
        while let &[kind, high, middle, low, ref behind @ ..] = rest {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if length > MAX_MESSAGE {
                return Err(Fault::message(InvalidMessage::HandshakePayloadTooLarge));
            }
            let Some((body, behind)) = behind.split_at_checked(length) else { break };
            match (kind, &mut self.secrets) {
                (NEW_TICKET, Secrets::Client(kernel)) => kernel
                    .handle_new_session_ticket(body)
                    .map_err(|error| Fault::new(error, AlertDescription::DecodeError))?,
                // The next record has other keys: no message may begin in this one.
                (KEY_UPDATE, _) if behind.is_empty() => self.hear_update(body)?,
                _ => return Err(Fault::unexpected()),
            }
            rest = behind;
        }
        self.message = rest.to_vec();
        Ok(())
    }

    fn hear_update(&mut self, body: &[u8]) -> Result<(), Fault> {
        match body {
            [0] => {}
            // However often it asks, we say so once, before what we say next.
            [1] => self.is_update_due = true,
            _ => return Err(Fault::new(InvalidMessage::InvalidKeyUpdate, AlertDescription::IllegalParameter)),
        }
        let too_many = || Fault::new(PeerMisbehaved::TooManyKeyUpdateRequests, AlertDescription::UnexpectedMessage);
        self.updates = self.updates.checked_sub(1).ok_or_else(too_many)?;
        let next = self.secrets.next_of_theirs();
        self.theirs = next.map_err(|error| Fault::new(error, AlertDescription::InternalError))?;
        Ok(())
    }
}

/// How long the record is that begins here, once that is known.
fn length_of(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let &[kind, major, _, high, low, ..] = bytes else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match kind {
        // After the handshake all are sealed, whatever they are inside.
        DATA if major != 3 => Err(Fault::message(InvalidMessage::UnknownProtocolVersion)),
        DATA if length > LONGEST => Err(Fault::new(Error::PeerSentOversizedRecord, AlertDescription::RecordOverflow)),
        DATA => Ok(Some(HEAD + length)),
        CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE => Err(Fault::unexpected()),
        _ => Err(Fault::message(InvalidMessage::InvalidContentType)),
    }
}

/// What keeps the secrets behind the keys, and a client's tickets.
enum Secrets {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Secrets {
    fn next_of_ours(&mut self) -> Result<Protection, Error> {
        Protection::new(match self {
            Secrets::Client(kernel) => kernel.update_tx_secret()?,
            Secrets::Server(kernel) => kernel.update_tx_secret()?,
        })
    }

    fn next_of_theirs(&mut self) -> Result<Protection, Error> {
        Protection::new(match self {
            Secrets::Client(kernel) => kernel.update_rx_secret()?,
            Secrets::Server(kernel) => kernel.update_rx_secret()?,
        })
    }
}

/// One direction: its key, and how many records have been under it.
struct Protection {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Protection {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Protection, Error> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher that is unknown here".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::EncryptError)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::EncryptError)?;
        Ok(Protection { key: LessSafeKey::new(key), iv, sequence })
    }

    /// What no other record under this key has (RFC 8446, 5.3).
    fn nonce(&mut self) -> Option<Nonce> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Opens the record behind `begin`; the text with its type, now at the front.
    fn open<'a>(&mut self, head: [u8; HEAD], area: &'a mut [u8], begin: usize) -> Result<&'a [u8], Fault> {
        let wrong = || Fault::new(Error::DecryptError, AlertDescription::BadRecordMac);
        let nonce = self.nonce().ok_or_else(wrong)?;
        let text = self.key.open_within(nonce, Aad::from(head), area, begin..);
        text.map(|text| &*text).map_err(|_| wrong())
    }

    /// Seals the text in the midst of `record`.
    fn seal(&mut self, kind: u8, record: &mut [u8]) -> Result<(), Error> {
        let (head, sealed) = record.split_at_mut(HEAD);
        let [high, low] = u16::try_from(sealed.len()).map_err(|_| Error::EncryptError)?.to_be_bytes();
        head.copy_from_slice(&[DATA, 3, 3, high, low]);
        let (text, tag) = sealed.split_at_mut(sealed.len() - TAG);
        text[text.len() - 1] = kind;
        let nonce = self.nonce().ok_or(Error::EncryptError)?;
        let made: Tag =
            self.key.seal_in_place_separate_tag(nonce, Aad::from(&*head), text).map_err(|_| Error::EncryptError)?;
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }
}

/// Bytes of a record before what is sealed: type, version, length.
pub(super) const HEAD: usize = 5;
/// Bytes of what shows that a record is whole.
const TAG: usize = SEAL - HEAD - 1;
/// The longest that may be sealed (RFC 8446, 5.2).
const LONGEST: usize = RECORD + 256;
/// The longest message of the handshake protocol.
const MAX_MESSAGE: usize = 64 * 1024;
/// Most times that the other side announces new keys without any data between them.
const MAX_UPDATES: u8 = 32;

// Types of records, of messages, and how bad an alert is.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const NEW_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

#[cfg(test)]
mod tests;
