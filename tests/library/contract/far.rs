//! The other end of a stream under test, made of plain sockets, and of TLS sessions that are not ours.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, Connection, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use socket2::SockRef;

use nodepass::net::certs::provider;

/// What the other end can do. Nothing here waits.
pub trait Far {
    /// Sends as much as goes now and says how much that was.
    fn say(&mut self, bytes: &[u8]) -> usize;
    /// Appends what has come; `true` once the end has.
    fn hear(&mut self, into: &mut Vec<u8>) -> bool;
    /// Sees to what its transport has to do by itself; a kernel needs no reminder.
    fn live(&mut self) {}
    /// Ends its direction.
    fn end(&mut self) {}
    /// Closes with a reset.
    fn reset(&mut self) {}
}

/// Two connected TCP sockets; with `small` buffers they take little before they say "not now".
pub fn pair(small: bool) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    if small {
        SockRef::from(&listener).set_recv_buffer_size(SMALL).unwrap();
    }
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (two, _) = listener.accept().unwrap();
    for socket in [&one, &two] {
        socket.set_nodelay(true).unwrap();
        if small {
            SockRef::from(socket).set_send_buffer_size(SMALL).unwrap();
            SockRef::from(socket).set_recv_buffer_size(SMALL).unwrap();
        }
    }
    (one, two)
}

/// As much as goes now of something that says "not now".
fn going<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("the far end failed: {error}"),
    }
}

impl Far for TcpStream {
    fn say(&mut self, bytes: &[u8]) -> usize {
        going(self.write(bytes)).unwrap_or(0)
    }

    fn hear(&mut self, into: &mut Vec<u8>) -> bool {
        let mut part = vec![0; 64 * 1024];
        while let Some(count) = going(self.read(&mut part)) {
            into.extend_from_slice(&part[..count]);
            if count == 0 {
                return true;
            }
        }
        false
    }

    fn end(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(&mut self) {
        // The socket is closed by putting another in its place.
        SockRef::from(&*self).set_linger(Some(Duration::ZERO)).unwrap();
        *self = pair(false).0;
    }
}

/// A TLS session as another program has it.
pub struct Session {
    pub tls: Connection,
    pub socket: TcpStream,
}

impl Session {
    pub fn new(tls: Connection, socket: TcpStream) -> Session {
        Session { tls, socket }
    }

    /// Reads and writes records as far as that goes; `true` at the end of the socket.
    pub fn step(&mut self) -> bool {
        let mut over = false;
        while let Some(count) = going(self.tls.read_tls(&mut self.socket)) {
            self.tls.process_new_packets().expect("records that are right");
            over = count == 0;
            if over || self.waiting() > 0 {
                break;
            }
        }
        self.push();
        over
    }

    fn waiting(&mut self) -> usize {
        self.tls.process_new_packets().expect("records that are right").plaintext_bytes_to_read()
    }

    fn push(&mut self) {
        while self.tls.wants_write() && going(self.tls.write_tls(&mut self.socket)).is_some() {}
    }
}

impl Far for Session {
    fn say(&mut self, bytes: &[u8]) -> usize {
        self.push();
        if self.tls.wants_write() {
            return 0;
        }
        let count = self.tls.writer().write(bytes).unwrap();
        self.push();
        count
    }

    fn hear(&mut self, into: &mut Vec<u8>) -> bool {
        let mut part = vec![0; 64 * 1024];
        loop {
            let over = self.step();
            match going(self.tls.reader().read(&mut part)) {
                Some(0) => return true,
                Some(count) => into.extend_from_slice(&part[..count]),
                None if over => panic!("the socket ended without a goodbye"),
                None => return false,
            }
        }
    }

    fn end(&mut self) {
        self.tls.send_close_notify();
        self.push();
        assert!(!self.tls.wants_write());
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(&mut self) {
        self.socket.reset();
    }
}

impl Read for Session {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.step();
        self.tls.reader().read(into)
    }
}

impl Write for Session {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.flush()?;
        let count = self.tls.writer().write(from)?;
        self.push();
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.push();
        match self.tls.wants_write() {
            true => Err(ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    }
}

/// A user or a target: here frames are datagrams.
impl Far for UdpSocket {
    fn say(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let [high, low, tail @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            assert_eq!(self.send(&tail[..length]).unwrap(), length);
            rest = &tail[length..];
        }
        bytes.len()
    }

    fn hear(&mut self, into: &mut Vec<u8>) -> bool {
        let mut packet = vec![0; 64 * 1024];
        while let Some(count) = going(self.recv(&mut packet)) {
            into.extend_from_slice(&(count as u16).to_be_bytes());
            into.extend_from_slice(&packet[..count]);
        }
        false
    }
}

/// No other end: the test reaches it elsewhere.
pub struct NoFar;

impl Far for NoFar {
    fn say(&mut self, _: &[u8]) -> usize {
        unreachable!("there is no end that speaks")
    }

    fn hear(&mut self, _: &mut Vec<u8>) -> bool {
        unreachable!("there is no end that listens")
    }
}

/// A TLS client of one version that trusts every certificate.
pub fn client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What is asked for small socket buffers, in bytes; the kernel doubles it.
const SMALL: usize = 16 * 1024;
