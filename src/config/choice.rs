//! What there is to choose from: roles, and the parameters that take one of a few values.

use std::fmt;
use std::path::PathBuf;

/// What the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Owns the tunnel port.
    Server,
    /// Forwards alone, or is the other half of a tunnel.
    Client,
    /// Runs servers and clients as children, and an API.
    Master,
}

/// TLS of the pool (server), of the API (master); at a client of its single-end listener, and in a tunnel the least that the
/// server may offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// `tls=0`.
    Off,
    /// `tls=1`: a certificate made in memory.
    SelfSigned,
    /// `tls=2`: PEM files.
    Files {
        /// The certificate chain, leaf first.
        crt: PathBuf,
        /// The leaf's private key.
        key: PathBuf,
    },
    /// `tls=2` at a client without PEM files: the server's certificate is verified, and there is nothing to listen with.
    Verified,
}

/// Who listens for users (`mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `mode=0`: decided by trying to listen.
    Auto,
    /// `mode=1`: this process.
    One,
    /// `mode=2`: at a server, the client; at a client, as the server says.
    Two,
}

/// What pool connections are made of (`type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `type=0`.
    Tcp,
    /// `type=1`.
    Quic,
    /// `type=2`.
    WebSocket,
    /// `type=3`.
    Http2,
}

/// Which web pages of other origins may use the master's API (`cors`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// `*`: all of them; the API key is needed all the same.
    All,
    /// Those of these origins, in lower case.
    Origins(Vec<String>),
    /// `none`.
    None,
}

impl Role {
    pub(super) const ALL: [Role; 3] = [Role::Server, Role::Client, Role::Master];

    /// The word in the URL.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Client => "client",
            Role::Master => "master",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// What the URL's host and port are to this role.
    pub(super) fn address(self) -> &'static str {
        match self {
            Role::Master => "API address",
            Role::Server | Role::Client => "tunnel address",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Tls {
    /// The digit in the URL and on the wire.
    pub fn code(&self) -> u8 {
        match self {
            Tls::Off => 0,
            Tls::SelfSigned => 1,
            Tls::Files { .. } | Tls::Verified => 2,
        }
    }
}

impl Mode {
    /// In the order of their digits.
    pub(super) const ALL: [Mode; 3] = [Mode::Auto, Mode::One, Mode::Two];

    /// The digit in the URL.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl Transport {
    /// In the order of their digits.
    pub(super) const ALL: [Transport; 4] = [Transport::Tcp, Transport::Quic, Transport::WebSocket, Transport::Http2];

    /// The digit in the URL and on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::Quic => "QUIC",
            Transport::WebSocket => "WebSocket",
            Transport::Http2 => "HTTP/2",
        }
    }

    /// The transport of that digit.
    pub fn from_code(code: u8) -> Option<Transport> {
        Transport::ALL.into_iter().find(|transport| transport.code() == code)
    }

    /// The cargo feature that brings it, where it is one.
    pub fn feature(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Quic => "quic",
            Transport::WebSocket => "ws",
            Transport::Http2 => "h2",
        }
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Transport::Tcp => true,
            Transport::Quic => cfg!(feature = "quic"),
            Transport::WebSocket => cfg!(feature = "ws"),
            Transport::Http2 => cfg!(feature = "h2"),
        }
    }

    /// Whether all pool connections are streams of one connection.
    pub fn is_shared(self) -> bool {
        matches!(self, Transport::Quic | Transport::Http2)
    }
}
