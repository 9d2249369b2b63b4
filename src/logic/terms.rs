//! What a server decides for a tunnel, as text and as meaning; and the features that two of this project's binaries share.

use serde::Deserialize;
use serde_json::Value;

use super::http::response;
use crate::error::Error;

/// Numbers the tunnels of a process; no number is used twice. 0 is none: single-end users, connections whose tunnel is not known.
pub type TunnelNo = u32;

/// What the server decides for a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who listens for users.
    pub flow: Direction,
    /// Most idle pool connections, 1 to [`MAX_POOL`].
    pub max: usize,
    /// 0 plain, 1 self-signed certificate, 2 certificate files.
    pub tls: u8,
    /// 0 TCP, 1 QUIC, 2 WebSocket, 3 HTTP/2.
    pub transport: u8,
    /// The features in force, in the order of [`Feature::ALL`].
    pub features: Vec<Feature>,
}

impl Terms {
    /// The answer to an original's handshake, whole. `knows_auth`: it tells our own client that there is a better one.
    pub fn to_bytes(&self, knows_auth: bool) -> Vec<u8> {
        let start = if knows_auth { concat!("200 OK\r\n", "NodePass-Auth: 1\r\n") } else { "200 OK\r\n" };
        response(start, "application/json", &format!("{{{}}}", self.to_fields()))
    }

    /// The fields of its JSON object.
    pub(super) fn to_fields(&self) -> String {
        let flow = match self.flow {
            Direction::Reverse => '-',
            Direction::Forward => '+',
        };
        let names: Vec<_> = self.features.iter().map(|feature| format!("\"{}\"", feature.name())).collect();
        let features = match names.is_empty() {
            true => String::new(),
            false => format!(",\"features\":[{}]", names.join(",")),
        };
        let Terms { max, tls, transport, .. } = self;
        format!("\"flow\":\"{flow}\",\"max\":{max},\"tls\":\"{tls}\",\"type\":\"{transport}\"{features}")
    }

    /// Refuses terms with less TLS than the client wants, whatever has written them.
    pub fn require_tls(&self, least: u8) -> Result<(), Error> {
        match self.tls < least {
            true => {
                let cause = format!("the server offers tls={}, this client wants at least {least}", self.tls);
                Err(Error::tls(cause).with_hint("set tls at the server"))
            }
            false => Ok(()),
        }
    }

    /// The terms in the body of an answer; the error says what is wrong with it.
    pub(super) fn parse(json: &[u8]) -> Result<Terms, &'static str> {
        let wire: Wire = serde_json::from_slice(json).map_err(|_| {
            "the server's answer is not a tunnel's terms; NodePass 1.12 has others, and its wire is not spoken here"
        })?;
        let flow = match wire.flow.as_str() {
            "-" => Direction::Reverse,
            "+" => Direction::Forward,
            _ => return Err("the server announces a flow that is neither - nor +"),
        };
        let tls = digit(&wire.tls, 2).ok_or("the server announces a tls mode that is not known here")?;
        let transport = digit(&wire.transport, 3).ok_or("the server announces a pool type that is not known here")?;
        if wire.max == 0 {
            return Err("the server announces a pool of no connections");
        }
        let max = usize::try_from(wire.max).unwrap_or(MAX_POOL).min(MAX_POOL);
        let features = Feature::named(wire.features.iter().flatten().filter_map(Value::as_str));
        Ok(Terms { flow, max, tls, transport, features })
    }
}

/// Who listens for users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `-`: the server is the ingress.
    Reverse,
    /// `+`: the client is the ingress.
    Forward,
}

/// What two of this project's binaries can do beyond the 1.14 wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `udp-frame`: datagrams travel with their length on UDP pool connections.
    UdpFrame,
    /// `ws-eof`: an empty binary message is the end of stream in that direction of a WebSocket pool connection.
    WsEof,
    /// `edge`: a reverse proxy that ends TLS may stand between the two; there is no certificate check on the control
    /// connection, since it would find the proxy's certificate. The client verifies who answers by chain and name.
    Edge,
    /// `fallback`: where the tunnel's UDP port cannot be reached, pool connections of type 1 may come over TCP with TLS.
    Fallback,
    /// `taken`: a client whose tunnel goes to another client is told so.
    Taken,
    /// `goodbye`: a side that ends the tunnel, and not its users' relays, says so.
    Goodbye,
    /// `gone`: a side that finds a pool connection dead says so; a user of it gets another.
    Gone,
    /// `carriers`: the streams of a pool of type 3 may come on several connections.
    Carriers,
    /// `reuse`: pool connections of types 0 and 2 carry one user after another.
    Reuse,
}

impl Feature {
    /// All of them, in the order in which lists name them.
    pub const ALL: [Feature; 9] = [
        Feature::UdpFrame,
        Feature::WsEof,
        Feature::Edge,
        Feature::Fallback,
        Feature::Taken,
        Feature::Goodbye,
        Feature::Gone,
        Feature::Carriers,
        Feature::Reuse,
    ];

    /// Whether it depends on nothing: this program has it in every tunnel with one of its own.
    pub fn is_unconditional(self) -> bool {
        matches!(self, Feature::UdpFrame | Feature::Taken | Feature::Goodbye | Feature::Gone)
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Feature::UdpFrame => "udp-frame",
            Feature::WsEof => "ws-eof",
            Feature::Edge => "edge",
            Feature::Fallback => "fallback",
            Feature::Taken => "taken",
            Feature::Goodbye => "goodbye",
            Feature::Gone => "gone",
            Feature::Carriers => "carriers",
            Feature::Reuse => "reuse",
        }
    }

    /// Those features that both lists have, in the order of [`Feature::ALL`], each once.
    pub fn common(local: &[Feature], remote: &[Feature]) -> Vec<Feature> {
        Feature::ALL.into_iter().filter(|feature| local.contains(feature) && remote.contains(feature)).collect()
    }

    /// The features that `names` has, in the order of [`Feature::ALL`]; unknown names are passed over.
    pub(super) fn named<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Feature> {
        Feature::ALL.into_iter().filter(|feature| names.clone().any(|name| name == feature.name())).collect()
    }
}

/// The terms as JSON.
#[derive(Deserialize)]
struct Wire {
    flow: String,
    max: u64,
    tls: String,
    #[serde(rename = "type")]
    transport: String,
    features: Option<Vec<Value>>,
}

fn digit(text: &str, most: u8) -> Option<u8> {
    match text.as_bytes() {
        [digit @ b'0'..=b'9'] => Some(digit - b'0').filter(|digit| *digit <= most),
        _ => None,
    }
}

/// Largest pool that a server's terms are taken at their word for, in connections; more becomes this.
pub const MAX_POOL: usize = 65535;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_with_less_tls_than_the_client_wants_are_refused_and_all_others_taken() {
        for (offered, least) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
            let terms = Terms { flow: Direction::Reverse, max: 1, tls: offered, transport: 0, features: Vec::new() };
            let refusal = format!("TLS: the server offers tls={offered}, this client wants at least {least}");
            match terms.require_tls(least) {
                Ok(()) => assert!(offered >= least, "{offered} for {least}"),
                Err(error) => assert!(offered < least && error.to_string().starts_with(&refusal), "{error}"),
            }
        }
    }
}
