//! A session that rustls carries itself: the handshake of any, and all of one that agreed on TLS 1.2.

use std::io::IoSlice;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, Error, ProtocolVersion};

use super::SessionOutput;

/// Either side.
pub(super) enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl Session {
    pub(super) fn state(&self) -> &CommonState {
        match self {
            Session::Client(client) => client,
            Session::Server(server) => server,
        }
    }

    /// Whether nothing is left for it to do, as records of TLS 1.3 are not its business.
    pub(super) fn is_done(&self) -> bool {
        let state = self.state();
        let is_over = !state.is_handshaking() && !state.wants_write();
        is_over && state.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Goes on until more than `came` is needed; how much of that is done with. After an error there is no going on.
    pub(super) fn go_on(&mut self, came: &mut [u8], turn: &mut Turn<'_>) -> (usize, Result<(), Error>) {
        let mut done = 0;
        while !self.is_done() {
            let (count, more) = self.step(&mut came[done..], turn);
            done += count;
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // What is wrong is for the other side to know too.
                    while self.state().wants_write() {
                        done += self.step(&mut came[done..], turn).0;
                    }
                    return (done, Err(error));
                }
            }
        }
        (done, Ok(()))
    }

    fn step(&mut self, came: &mut [u8], turn: &mut Turn<'_>) -> (usize, Result<bool, Error>) {
        match self {
            Session::Client(client) => turn.take(client.process_tls_records(came)),
            Session::Server(server) => turn.take(server.process_tls_records(came)),
        }
    }
}

/// One going-on of a session: what it may write to, and what it is to say.
pub(super) struct Turn<'a> {
    pub(super) output: &'a mut SessionOutput,
    /// For plaintext, and how much is there.
    pub(super) into: &'a mut [u8],
    pub(super) given: usize,
    pub(super) words: Words<'a>,
    /// For the records of these words; how much of the words they are, and how long.
    pub(super) records: &'a mut [u8],
    pub(super) taken: usize,
    pub(super) made: usize,
}

/// What is to be said.
#[derive(Clone, Copy)]
pub(super) enum Words<'a> {
    /// Only what the session has to say by itself.
    None,
    Plaintext(&'a [IoSlice<'a>]),
    /// No more will come.
    Goodbye,
}

impl<'a> Turn<'a> {
    /// One that has no room and nothing to say.
    pub(super) fn at(output: &'a mut SessionOutput) -> Turn<'a> {
        Turn { output, into: &mut [], given: 0, words: Words::None, records: &mut [], taken: 0, made: 0 }
    }

    /// Takes what the session has put out: how many bytes it is done with, and whether there is more.
    fn take<D>(&mut self, status: UnbufferedStatus<'_, '_, D>) -> (usize, Result<bool, Error>) {
        let UnbufferedStatus { mut discard, state } = status;
        let handle = || {
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        self.given += self.output.give(record.payload, &mut self.into[self.given..]);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    // Its length is told where there is no room.
                    if let Err(EncodeError::InsufficientSize(least)) = data.encode(&mut []) {
                        let room = self.output.held.room(least.required_size);
                        data.encode(room).map_err(|error| Error::General(error.to_string()))?;
                    }
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.output.ended = true,
                ConnectionState::WriteTraffic(traffic) => {
                    self.write(traffic).map_err(|_| Error::EncryptError)?;
                    return Ok(false);
                }
                _ => return Ok(false),
            }
            Ok(true)
        };
        let more = handle();
        (discard, more)
    }

    /// Makes records of the words, as many as may wait for the socket.
    fn write<D>(&mut self, mut traffic: WriteTraffic<'_, D>) -> Result<(), EncryptError> {
        match self.words {
            Words::None => {}
            Words::Goodbye => self.made = traffic.queue_close_notify(self.records)?,
            Words::Plaintext(pieces) => {
                for piece in pieces {
                    let piece = &piece[..piece.len().min(self.output.at_once - self.taken)];
                    if !piece.is_empty() {
                        self.made += traffic.encrypt(piece, &mut self.records[self.made..])?;
                        self.taken += piece.len();
                    }
                }
            }
        }
        Ok(())
    }
}
