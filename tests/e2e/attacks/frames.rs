//! What an attacker inside TLS finds lines in: the bytes themselves, messages of WebSockets, DATA of HTTP/2. What it changes keeps its length,
//! so that no header and no window has to be changed with it.

/// The pieces that one direction of a connection is made of.
pub enum Frames {
    /// Bytes as they come (TCP, a stream of QUIC).
    Plain,
    /// The head of the upgrade, then messages.
    WebSocket { upgraded: bool, rest: Vec<u8> },
    /// The preface of a client, then frames.
    Http2 { begun: bool, rest: Vec<u8> },
}

impl Frames {
    /// Of a pool of that transport (`type`).
    pub fn of(transport: u8) -> Frames {
        match transport {
            2 => Frames::WebSocket { upgraded: false, rest: Vec::new() },
            3 => Frames::Http2 { begun: false, rest: Vec::new() },
            _ => Frames::Plain,
        }
    }

    /// What passes for these bytes, where `change` says what becomes of what is said in them. The part of a frame waits for its rest.
    pub fn pass(&mut self, bytes: &[u8], mut change: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let (rest, begun) = match self {
            Frames::Plain => return change(bytes),
            Frames::WebSocket { rest, upgraded } => (rest, upgraded),
            Frames::Http2 { rest, begun } => (rest, begun),
        };
        rest.extend_from_slice(bytes);
        let rest = std::mem::take(rest);
        let mut passed = Vec::new();
        let mut left = &rest[..];
        if !*begun {
            let head = match self {
                Frames::Http2 { .. } if left.starts_with(b"PRI ") => {
                    (left.len() >= PREFACE.len()).then_some(PREFACE.len())
                }
                // A server's frames, or the handshake, which is of HTTP/1.1 whatever the pool speaks.
                Frames::Http2 { .. } => (left.len() >= 4).then_some(0),
                _ => left.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4),
            };
            let Some(head) = head else { return self.keep(left, passed) };
            if !self.follow(left, head) {
                *self = Frames::Plain;
                return change(left);
            }
            change(&left[..head]);
            passed.extend_from_slice(&left[..head]);
            left = &left[head..];
            self.begin();
        }
        while let Some((payload, mask)) = self.frame(left) {
            let mut said = left[payload.clone()].to_vec();
            mask_with(&mut said, mask);
            let mut changed = change(&said);
            assert_eq!(changed.len(), said.len(), "what is changed keeps its length");
            mask_with(&mut changed, mask);
            passed.extend_from_slice(&left[..payload.start]);
            passed.extend_from_slice(&changed);
            left = &left[payload.end..];
        }
        self.keep(left, passed)
    }

    /// Whether frames follow that head.
    fn follow(&self, said: &[u8], head: usize) -> bool {
        match self {
            Frames::Http2 { .. } => !said.starts_with(b"GET ") && !said.starts_with(b"HTTP"),
            _ => said[..head].to_ascii_lowercase().windows(18).any(|line| line == b"upgrade: websocket"),
        }
    }

    fn begin(&mut self) {
        match self {
            Frames::WebSocket { upgraded: begun, .. } | Frames::Http2 { begun, .. } => *begun = true,
            Frames::Plain => {}
        }
    }

    fn keep(&mut self, left: &[u8], passed: Vec<u8>) -> Vec<u8> {
        if let Frames::WebSocket { rest, .. } | Frames::Http2 { rest, .. } = self {
            *rest = left.to_vec();
        }
        passed
    }

    /// Where the payload of the first frame is, if that is whole, and what masks it.
    fn frame(&self, bytes: &[u8]) -> Option<(std::ops::Range<usize>, [u8; 4])> {
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        let (start, length, mask) = match self {
            Frames::WebSocket { .. } => {
                let second = *bytes.get(1)?;
                let (after, length) = match second & 0x7f {
                    126 => (4, big_endian(bytes.get(2..4)?)),
                    127 => (10, big_endian(bytes.get(2..10)?)),
                    short => (2, usize::from(short)),
                };
                match second & 0x80 {
                    0 => (after, length, [0; 4]),
                    _ => (after + 4, length, bytes.get(after..after + 4)?.try_into().ok()?),
                }
            }
            _ => (9, big_endian(bytes.get(..3)?), [0; 4]),
        };
        bytes.get(start..start + length).map(|_| (start..start + length, mask))
    }
}

fn mask_with(bytes: &mut [u8], mask: [u8; 4]) {
    bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= mask[at % 4]);
}

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
