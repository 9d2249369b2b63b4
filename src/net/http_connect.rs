//! Through an HTTP proxy: between dialling it and the first byte for the server behind it.

use std::io::{self, Read, Write};

use super::stream::would_block;
use super::tcp::Tcp;
use crate::error::Error;
use crate::logic::proxy::{parse_answer, Answer};

/// A CONNECT on its way: say it, read the answer, and not a byte more: what follows is the server's.
pub struct HttpConnect {
    request: Vec<u8>,
    said: usize,
    reply: Vec<u8>,
}

impl HttpConnect {
    /// With this request, made by [`Proxy::connect`](crate::logic::proxy::Proxy::connect).
    pub fn new(request: Vec<u8>) -> HttpConnect {
        HttpConnect { request, said: 0, reply: Vec::new() }
    }

    /// Goes on; `WouldBlock` until the connection stands. Not to be called after that. An error says what the proxy said.
    pub fn advance(&mut self, tcp: &mut Tcp) -> io::Result<()> {
        while self.said < self.request.len() {
            match tcp.write(&self.request[self.said..])? {
                0 => return would_block(),
                count => self.said += count,
            }
        }
        loop {
            let mut part = [0; PART];
            let count = tcp.peek(&mut part)?;
            if count == 0 {
                return Err(Error::proxy("it closed the connection without an answer").into());
            }
            let old = self.reply.len();
            self.reply.extend_from_slice(&part[..count]);
            let (take, over) = match parse_answer(&self.reply) {
                Answer::NeedMore => (count, false),
                Answer::Done(end) => (end - old, true),
                Answer::Bad(error) => return Err(error.into()),
            };
            tcp.read_exact(&mut part[..take])?;
            if over {
                return Ok(());
            }
        }
    }
}

/// Bytes looked at a time. The answer as a whole is bounded by its reader.
const PART: usize = 512;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;
    use crate::net::tcp::{SocketKeepalive, KEEPALIVE_AFTER};

    #[test]
    fn the_request_goes_out_and_the_answer_is_taken_in_to_its_last_byte_and_no_further() {
        for pieces in [1, 7, 4096] {
            let (mut tcp, mut proxy, mut poll) = pair();
            let mut http_connect = HttpConnect::new(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n".to_vec());
            assert_eq!(http_connect.advance(&mut tcp).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let mut heard = [0; 34];
            proxy.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"CONNECT a.example:443 HTTP/1.1\r\n\r\n");

            let answer = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 1000], b"\r\n\r\n"].concat();
            for piece in answer[..answer.len() - 1].chunks(pieces) {
                proxy.write_all(piece).unwrap();
            }
            proxy.write_all(b"\nthe server's").unwrap();
            while let Err(error) = http_connect.advance(&mut tcp) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                wait(&mut poll, &mut tcp);
            }
            let mut rest = [0; 12];
            tcp.read_exact(&mut rest).unwrap();
            assert_eq!(&rest, b"the server's");
        }
    }

    #[test]
    fn a_refusal_and_an_end_are_errors() {
        for (said, expected) in [(&b"HTTP/1.1 407 No\r\n\r\n"[..], "407"), (b"HTTP/1.1 200", "without an answer")] {
            let (mut tcp, mut proxy, mut poll) = pair();
            proxy.write_all(said).unwrap();
            drop(proxy);
            let mut http_connect = HttpConnect::new(Vec::new());
            let error = loop {
                match http_connect.advance(&mut tcp) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(&mut poll, &mut tcp),
                    result => break result.unwrap_err(),
                }
            };
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    fn wait(poll: &mut Poll, tcp: &mut Tcp) {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
        assert!(!events.is_empty(), "no edge came");
        events.iter().for_each(|event| tcp.note(event));
    }

    fn pair() -> (Tcp, TcpStream, Poll) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut tcp = Tcp::dial(listener.local_addr().unwrap(), None, SocketKeepalive::after(KEEPALIVE_AFTER)).unwrap();
        let (proxy, _) = listener.accept().unwrap();
        let poll = Poll::new().unwrap();
        tcp.register(&crate::testing::registry(&poll), Token(0)).unwrap();
        tcp.connected().unwrap();
        (tcp, proxy, poll)
    }
}
