//! TLS over a TCP socket, as a [`Stream`] whose two directions end independently.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::distrust::explain;
use super::share::share;
use super::stream::{now, would_block, Buffer, Stream};
use super::tcp::Tcp;
use crate::logic::wire::Fingerprint;

/// A TLS session and the socket that carries it.
pub struct Tls {
    session: Connection,
    carrier: Tcp,
}

impl Tls {
    /// The side that was dialled.
    pub fn accept(carrier: Tcp, config: Arc<ServerConfig>) -> io::Result<Tls> {
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Tls::over(carrier, session.into()))
    }

    /// The side that dials. `name` is who must answer, where the configuration verifies that.
    pub fn connect(carrier: Tcp, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Tls> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Tls::over(carrier, session.into()))
    }

    fn over(carrier: Tcp, mut session: Connection) -> Tls {
        session.set_buffer_limit(Some(share().held_back));
        Tls { session, carrier }
    }

    /// Goes on with the handshake; `WouldBlock` until it is over. Not to be called after that.
    ///
    /// No relay may start before: an end passed on during the handshake would overtake buffered bytes.
    pub fn handshake(&mut self) -> io::Result<()> {
        loop {
            self.push()?;
            if !self.session.is_handshaking() {
                return Ok(());
            }
            if self.pull()? == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ended during the TLS handshake"));
            }
        }
    }

    /// The fingerprint of the certificate that the other side showed.
    pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.session.peer_certificates()?.first().map(|leaf| Fingerprint::of(leaf))
    }

    /// Whether both sides chose HTTP/2 (ALPN).
    pub fn speaks_h2(&self) -> bool {
        self.session.alpn_protocol() == Some(b"h2")
    }

    /// As [`Tcp::waiting`], for plaintext: 0 at an end, with or without a proper goodbye.
    pub fn waiting(&mut self) -> io::Result<usize> {
        loop {
            let state = self.session.process_new_packets().map_err(io::Error::other)?;
            match state.plaintext_bytes_to_read() {
                0 if state.peer_has_closed() => return Ok(0),
                0 => {}
                count => return Ok(count),
            }
            if self.pull()? == 0 {
                return Ok(0);
            }
        }
    }

    /// The socket underneath.
    pub fn carrier(&mut self) -> &mut Tcp {
        &mut self.carrier
    }

    /// Reads records; 0 at the end of the carrier. What they make us say (alerts, key updates) is sent.
    fn pull(&mut self) -> io::Result<usize> {
        let count = self.session.read_tls(&mut self.carrier)?;
        if let Err(error) = self.session.process_new_packets() {
            let _ = self.push();
            return Err(io::Error::new(ErrorKind::InvalidData, explain(&error)));
        }
        now(self.push())?;
        Ok(count)
    }

    /// Sends records.
    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut self.carrier)? == 0 {
                return would_block();
            }
        }
        Ok(())
    }
}

/// Plaintext in; 0 is the end, and `WouldBlock` owes an edge.
impl Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(io::Error::new(error.kind(), "the TLS session was cut off without a goodbye"));
                }
                result => return result,
            }
            self.pull()?;
        }
    }
}

/// Plaintext out: what was held back first, then as much as there is room for. No room is `WouldBlock`.
impl Write for Tls {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.push()?;
        let count = self.session.writer().write_vectored(from)?;
        now(self.push())?;
        match count {
            0 => would_block(),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

impl Stream for Tls {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let count = self.read(into.room(1))?;
        into.advance(count);
        Ok(count)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let count = self.write(from.bytes())?;
        from.consume(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.push()?;
        self.carrier.finish()
    }
}
