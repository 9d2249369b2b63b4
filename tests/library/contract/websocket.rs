//! WebSockets: the other end is one that is not ours.

use std::io::{ErrorKind, Read, Write};

use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

use super::far::Far;
use super::*;

#[test]
fn a_websocket_closes_properly_when_both_directions_have_ended() {
    for ours_first in [true, false] {
        let mut rig = ws(tls_client(), End::Client);
        rig.say(&message(1, 100));
        if ours_first {
            rig.finish();
        }
        rig.far.end();
        assert_eq!(rig.filled(102), message(1, 100));
        rig.their_end();
        if !ours_first {
            rig.finish();
        }
        let error = rig.until("their end", |rig| rig.far.heard(&mut Vec::new()).err());
        assert!(matches!(error, Error::ConnectionClosed), "{error}");
    }
}

#[test]
fn a_websocket_answers_a_ping_of_another_program() {
    let mut rig = ws(tcp(), End::Server);
    rig.far.ws.send(Message::Ping(b"are you there?".to_vec().into())).unwrap();
    let text = rig.until("a pong", |rig| {
        assert_eq!(rig.fill().unwrap(), None);
        match rig.far.ws.read() {
            Ok(Message::Pong(text)) => Some(text),
            Ok(other) => panic!("{other}"),
            Err(_) => None,
        }
    });
    assert_eq!(&text[..], b"are you there?");
}

/// A WebSocket over this connection.
pub fn ws<F: Far + Read + Write>(rig: Rig<F>, end: End) -> Rig<Socket<F>> {
    let Rig { poll, leg, listener, far, buffer, heard } = rig;
    let theirs = match end {
        End::Client => Role::Server,
        End::Server => Role::Client,
    };
    let LocalEnd::Own(leg) = leg else { unreachable!() };
    let (leg, far) = (Ws::over(leg.into_lower().unwrap(), end, true, b"").unwrap().into(), Socket::new(far, theirs));
    Rig { poll, leg: LocalEnd::Own(leg), listener, far, buffer, heard }
}

/// A WebSocket as another program has it, with an empty message for an end.
pub struct Socket<S> {
    pub ws: WebSocket<S>,
    /// Ends that have come.
    pub ends: usize,
    /// What the last one told.
    pub told: Option<u64>,
}

impl<S: Read + Write> Socket<S> {
    pub fn new(carrier: S, role: Role) -> Socket<S> {
        Socket { ws: WebSocket::from_raw_socket(carrier, role, None), ends: 0, told: None }
    }

    /// Whether all of it went.
    fn flush(&mut self) -> bool {
        match self.ws.flush() {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => false,
            result => result.map(|()| true).expect("the far end failed"),
        }
    }

    /// Ends with that text.
    pub fn end_with(&mut self, text: &str) {
        self.ws.write(Message::text(text)).unwrap_or_else(blocked);
        assert!(self.flush());
    }

    /// What filling it leads to, as far as it is no bytes.
    pub fn heard(&mut self, into: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            match self.ws.read() {
                Ok(Message::Text(text)) => {
                    assert!(text.is_empty() || text.len() == 16, "{text}");
                    (self.ends, self.told) = (self.ends + 1, u64::from_str_radix(&text, 16).ok());
                }
                Ok(Message::Binary(bytes)) => {
                    assert!(self.ends == 0, "bytes after the end");
                    into.extend_from_slice(&bytes);
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(self.ends > 0),
                Err(error) => return Err(error),
            }
        }
    }
}

impl<S: Read + Write + Far> Far for Socket<S> {
    fn say(&mut self, bytes: &[u8]) -> usize {
        if !self.flush() || bytes.is_empty() {
            return 0;
        }
        let message = &bytes[..bytes.len().min(LONG)];
        self.ws.write(Message::binary(message.to_vec())).unwrap_or_else(blocked);
        self.flush();
        message.len()
    }

    fn hear(&mut self, into: &mut Vec<u8>) -> bool {
        match self.heard(into) {
            Err(Error::ConnectionClosed) if self.ends > 0 => true,
            result => result.expect("a WebSocket that lives"),
        }
    }

    fn end(&mut self) {
        self.end_with("");
    }

    fn reset(&mut self) {
        self.ws.get_mut().reset();
    }
}

/// What is written is kept; only another error than "not now" is one.
fn blocked(error: Error) {
    assert!(matches!(&error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock), "the far end failed: {error}");
}

/// Longest message of a WebSocket, in bytes: longer than a frame's two-byte length can tell.
const LONG: usize = 100_000;
