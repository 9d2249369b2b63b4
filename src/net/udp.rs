//! Datagrams as a [`Stream`]: each travels as a 2-byte big-endian length and its bytes, so a relay keeps boundaries.
//!
//! ```text
//!   listener (one socket, many users) --Packet--> Session.inbox -- fill --> frames --> pool connection
//!                                 <----------- send ---------- drain <-- frames <--
//! ```
//!
//! With a 1.14 peer there are no frames: each datagram is written as it is, and one read is taken for one datagram.

mod burst;
mod frames;
mod listener;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use mio::event::{Event, Source};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use self::burst::Departure;
pub use self::frames::Frames;
use self::frames::Inbox;
pub use self::listener::{sender, UdpListener};
use super::bind::source;
use super::budget::Budget;
use super::stream::{would_block, Buffer, Stream};
use super::sys;
use crate::logic::wire::{next_frame, Frame};

/// One user's datagrams as a stream: at the ingress through the shared listener, at the egress through a socket of its own.
pub struct Session {
    end: End,
    framed: bool,
    largest: usize,
    tally: Tally,
    refused: bool,
    /// Whether the kernel makes many datagrams of one message here.
    segments: bool,
}

enum End {
    UdpListener {
        listener: Arc<UdpListener>,
        user: SocketAddr,
        asked: Option<IpAddr>,
        inbox: Inbox,
        over: bool,
    },
    /// Connected to its target; or, where `group` is many machines, to none: any of them may answer.
    Own {
        socket: UdpSocket,
        group: Option<SocketAddr>,
        readable: bool,
        waiting: Waiting,
        gulp: usize,
    },
}

/// What came in a burst and did not fit.
#[derive(Default)]
struct Waiting {
    frames: Frames,
    /// Datagrams are large here: one at a time.
    large: bool,
}

/// What passed through a session since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Payload bytes received from the user or target.
    pub received: u64,
    /// Payload bytes sent to the user or target.
    pub sent: u64,
    /// Datagrams that were dropped: too large, no room, or refused by the kernel.
    pub dropped: u64,
}

impl Session {
    /// The ingress side: a user of the listener. `largest` is the largest payload that is carried.
    pub fn of_user(
        listener: Arc<UdpListener>,
        user: SocketAddr,
        asked: Option<IpAddr>,
        framed: bool,
        largest: usize,
    ) -> Session {
        let end = End::UdpListener { listener, user, asked, inbox: Inbox::default(), over: false };
        Session::over(end, framed, largest)
    }

    /// The egress side: a socket connected to the target, from the local address `from` if one is given.
    pub fn to_target(
        target: SocketAddr,
        from: Option<IpAddr>,
        framed: bool,
        largest: usize,
        budget: &Budget,
    ) -> io::Result<Session> {
        let socket =
            Socket::new(Domain::for_address(target), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        if let Some(from) = from {
            socket.bind(&source(from, target).into())?;
        }
        let group = join(&socket, target, from)?;
        let (socket, waiting) = (UdpSocket::from_std(socket.into()), Waiting::default());
        let end = End::Own { socket, group, readable: true, waiting, gulp: budget.gulp };
        Ok(Session::over(end, framed, largest))
    }

    fn over(end: End, framed: bool, largest: usize) -> Session {
        Session { end, framed, largest, tally: Tally::default(), refused: false, segments: true }
    }

    /// Registers its own socket, where it has one.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.end {
            End::Own { socket, .. } => socket.register(registry, token, Interest::READABLE),
            End::UdpListener { .. } => Ok(()),
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, _: &Event) {
        self.note_edge();
    }

    fn note_edge(&mut self) {
        if let End::Own { readable, .. } = &mut self.end {
            *readable = true;
        }
    }

    /// Datagrams from the listener. A full inbox drops them, as the network would.
    pub fn deliver(&mut self, frames: Frames) {
        let lost = match &mut self.end {
            End::UdpListener { listener, inbox, .. } => inbox.add(frames, self.largest, listener.budget().inbox),
            End::Own { .. } => frames.count(),
        };
        self.tally.dropped += lost as u64;
    }

    /// Ends the stream: what waits is still sent on, then `fill` answers the end.
    pub fn end(&mut self) {
        if let End::UdpListener { over, .. } = &mut self.end {
            *over = true;
        }
    }

    /// Its listener, where it is a user's; what waits for it goes behind what is in `frames`.
    pub fn release(mut self, frames: &mut Frames) -> Option<Arc<UdpListener>> {
        match &mut self.end {
            End::UdpListener { listener, inbox, .. } => {
                inbox.empty_into(frames);
                Some(listener.clone())
            }
            End::Own { .. } => None,
        }
    }

    /// Whether the other side is a target.
    pub fn is_target(&self) -> bool {
        matches!(self.end, End::Own { .. })
    }

    /// What passed since the last call.
    pub fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// After an error of the socket: nothing more for now, or for ever.
    fn no_more<T>(&mut self, error: io::Error) -> io::Result<T> {
        if let (End::Own { readable, .. }, ErrorKind::WouldBlock) = (&mut self.end, error.kind()) {
            *readable = false;
        }
        Err(error)
    }

    /// Whether the target has said since the last call that no socket listens there.
    pub fn refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Bytes before each datagram.
    fn head(&self) -> usize {
        if self.framed {
            2
        } else {
            0
        }
    }

    /// Receives one datagram into `room`, which has space for a header and the largest payload and one byte more.
    fn receive(&mut self, room: &mut [u8]) -> io::Result<Received> {
        match &mut self.end {
            End::UdpListener { inbox, over, .. } => match inbox.pop(room) {
                Some(len) => Ok(Received::Datagram(len)),
                None if *over => Ok(Received::End),
                None => would_block(),
            },
            End::Own { readable: false, .. } => would_block(),
            End::Own { socket, readable, waiting, .. } => match socket.recv(room) {
                Ok(count) if count <= self.largest => {
                    waiting.large = count > burst::SLOT;
                    Ok(Received::Datagram(count))
                }
                Ok(_) => {
                    self.tally.dropped += 1;
                    Ok(Received::Nothing)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    *readable = false;
                    Err(error)
                }
                Err(error) if is_passing(&error) => {
                    self.passed(&error);
                    Ok(Received::Nothing)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Takes as many datagrams as there are and fit, where that is worth it. `None`: one at a time.
    fn fill_many(&mut self, into: &mut Buffer) -> io::Result<Option<usize>> {
        let (need, largest) = (HEAD + self.largest + 1, self.largest);
        match &mut self.end {
            End::UdpListener { inbox, .. } => {
                let (moved, payload) = inbox.take(into);
                self.tally.received += payload as u64;
                Ok((moved > 0).then_some(moved))
            }
            End::Own { waiting, .. } if !waiting.frames.is_empty() => Ok(Some(waiting.frames.take(into))),
            End::Own { socket, readable: readable @ true, waiting, gulp, .. } if !waiting.large => {
                let room = into.room(need);
                if !burst::pays(room.len(), largest) {
                    return Ok(None);
                }
                let received = match burst::receive(socket.as_fd(), room, largest, *gulp) {
                    Ok(received) => received,
                    Err(error) if is_passing(&error) => {
                        self.passed(&error);
                        return Ok(Some(0));
                    }
                    Err(error) => return Err(error),
                };
                *readable = !received.all;
                into.advance(received.framed);
                self.tally.received += received.payload as u64;
                self.tally.dropped += received.dropped;
                (waiting.large, waiting.frames) = (!received.left_over.is_empty(), received.left_over);
                Ok(Some(received.framed + if received.framed == 0 { waiting.frames.take(into) } else { 0 }))
            }
            End::Own { .. } => Ok(None),
        }
    }

    /// The network has said something of an earlier datagram: the target may be back for the next one.
    fn passed(&mut self, error: &io::Error) {
        self.refused |= error.kind() == ErrorKind::ConnectionRefused;
        self.tally.dropped += 1;
    }

    /// Sends the whole frames at the front of `bytes`: how many bytes they were.
    fn send_many(&mut self, bytes: &mut [u8]) -> usize {
        let (socket, to, from) = match &self.end {
            End::UdpListener { listener, user, asked, .. } => {
                let (to, from) = listener.as_asked(*user, *asked);
                (listener.as_fd(), Some(to), from)
            }
            End::Own { socket, group, .. } => (socket.as_fd(), *group, None),
        };
        let (largest, segments) = (self.largest, self.segments);
        let mut departure = Departure { socket, to, from, largest, segments, sent: 0, dropped: 0, refused: false };
        let gone = departure.send(bytes);
        let Departure { segments, sent, dropped, refused, .. } = departure;
        (self.segments, self.refused) = (segments, self.refused | refused);
        self.tally.sent += sent;
        self.tally.dropped += dropped;
        gone
    }

    /// Sends one datagram. What the kernel does not take now is lost, as on any network.
    fn send(&mut self, packet: &[u8]) {
        let result = match &self.end {
            End::UdpListener { listener, user, asked, .. } => listener.answer(packet, *user, *asked),
            End::Own { socket, group: Some(group), .. } => socket.send_to(packet, *group),
            End::Own { socket, .. } => match socket.send(packet) {
                // The first answer may be the refusal of an earlier datagram.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.refused = true;
                    socket.send(packet)
                }
                result => result,
            },
        };
        match result {
            Ok(count) => self.tally.sent += count as u64,
            Err(_) => self.tally.dropped += 1,
        }
    }
}

/// What one attempt to receive came to.
enum Received {
    /// A datagram of so many bytes.
    Datagram(usize),
    /// One that is too large, or the refusal of an earlier one: there may be more.
    Nothing,
    /// No datagram will come any more.
    End,
}

/// Connects a socket to its target. A broadcast or multicast address is many machines and is given back instead: what goes there leaves
/// by the interface that has the address `from`, where one is given.
fn join(socket: &Socket, target: SocketAddr, from: Option<IpAddr>) -> io::Result<Option<SocketAddr>> {
    if target.ip().is_multicast() {
        match from {
            Some(IpAddr::V4(from)) => socket.set_multicast_if_v4(&from)?,
            Some(from) => match sys::interface_of(from) {
                Some(index) => socket.set_multicast_if_v6(index)?,
                None => return Err(ErrorKind::AddrNotAvailable.into()),
            },
            None => {}
        }
        return Ok(Some(target));
    }
    match socket.connect(&target.into()) {
        // Only the kernel knows which addresses are a network's broadcast address.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && target.is_ipv4() => {
            socket.set_broadcast(true)?;
            Ok(Some(target))
        }
        result => result.map(|()| None),
    }
}

fn is_passing(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | Interrupted | NetworkUnreachable)
}

/// Whether more than one datagram waits to be sent.
fn has_two_frames(bytes: &[u8]) -> bool {
    match next_frame(bytes) {
        Frame::Whole(first) => matches!(next_frame(&bytes[first.end..]), Frame::Whole(_)),
        Frame::Partial => false,
    }
}

impl Stream for Session {
    /// Datagrams, whole; one without frames. A buffer without room for the largest one has to be drained first.
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let (head, need) = (self.head(), self.head() + self.largest + 1);
        if !self.framed && !into.is_empty() || into.room(need).len() < need {
            return would_block();
        }
        for _ in 0..MAX_SKIPPED {
            if self.framed {
                match self.fill_many(into) {
                    Ok(Some(0)) => continue,
                    Ok(Some(count)) => return Ok(count),
                    Ok(None) => {}
                    Err(error) => return self.no_more(error),
                }
            }
            let count = match self.receive(&mut into.room(need)[head..])? {
                // An empty datagram without a frame moves nothing; it cannot be told from the end, so it is skipped.
                Received::Datagram(0) if !self.framed => continue,
                Received::Datagram(count) => count,
                Received::Nothing => continue,
                Received::End => return Ok(0),
            };
            if self.framed {
                into.room(need)[..head].copy_from_slice(&(count as u16).to_be_bytes());
            }
            into.advance(head + count);
            self.tally.received += count as u64;
            return Ok(head + count);
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Every whole datagram in the buffer. Part of one is `WouldBlock`: the rest is still to come.
    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let mut gone = 0;
        while !from.is_empty() {
            let bytes = from.bytes_mut();
            if self.framed && has_two_frames(bytes) {
                let sent = self.send_many(bytes);
                from.consume(sent);
                gone += sent;
                continue;
            }
            let (skip, len) = match self.framed {
                false => (0, bytes.len()),
                true => match next_frame(bytes) {
                    Frame::Whole(payload) => (payload.start, payload.len()),
                    Frame::Partial => break,
                },
            };
            if len > self.largest {
                self.tally.dropped += 1;
            } else {
                let packet = &bytes[skip..skip + len];
                self.send(packet);
            }
            from.consume(skip + len);
            gone += skip + len;
        }
        match gone {
            0 => would_block(),
            gone => Ok(gone),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Datagrams have no end: the idle deadline closes a session.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of a frame's head.
const HEAD: usize = 2;
/// Receive buffer asked of the kernel for each target's socket, in bytes.
const SOCKET_BUFFER: usize = 1024 * 1024;
/// Most datagrams that one `fill` passes over: empty ones, too large ones, refusals.
const MAX_SKIPPED: usize = 64;
/// Most bytes of a conduit that carries datagrams: a header, the largest payload, one byte to notice a larger one.
pub const fn conduit_size(largest: usize) -> usize {
    2 * (2 + largest + 1)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Plain;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::frames::INBOX;
    use super::listener::LISTENER_BUFFER;
    use super::*;
    use crate::net::batch::PacketQueue;
    use crate::net::inherited::Inherited;
    use crate::net::listen_addr::ListenAddr;
    use crate::net::stream::ready;
    use crate::testing::skip;

    #[test]
    fn a_wildcard_listener_answers_from_the_address_that_was_asked() {
        let listener = listener(any("0.0.0.0")).unwrap();
        for asked in ["127.0.0.1", "127.0.0.2", "127.8.9.10"] {
            speaks_through(&listener, "127.0.0.1", asked);
        }
    }

    #[test]
    fn a_wildcard_ipv6_listener_serves_both_families_from_the_address_that_was_asked() {
        let Ok(listener) = listener(ListenAddr { address: any("[::]"), dual: true }) else {
            return skip("IPv6");
        };
        speaks_through(&listener, "::1", "::1");
        speaks_through(&listener, "127.0.0.1", "127.0.0.1");
        speaks_through(&listener, "127.0.0.1", "127.0.0.2");
    }

    #[test]
    fn a_listener_of_one_address_serves_that_address() {
        speaks_through(&listener(any("127.0.0.3")).unwrap(), "127.0.0.1", "127.0.0.3");
        match listener(any("[::1]")) {
            Ok(listener) => speaks_through(&listener, "::1", "::1"),
            Err(_) => skip("IPv6"),
        }
    }

    #[test]
    fn a_user_on_the_local_link_is_answered_on_that_link() {
        let (Ok(listener), Some(here)) = (listener(ListenAddr { address: any("[::]"), dual: true }), on_the_link())
        else {
            return skip("a link-local address");
        };
        let user = Plain::bind(SocketAddr::V6(here)).unwrap();
        let mut asked = here;
        asked.set_port(listener.local().unwrap().port());
        user.connect(SocketAddr::V6(asked)).unwrap();
        user.set_read_timeout(Some(GRACE)).unwrap();
        user.send(b"question").unwrap();
        let (_, from, to) = received(&listener);
        assert_eq!(from, user.local_addr().unwrap(), "without its interface the address means nothing");
        listener.answer(b"answer", from, to).unwrap();
        assert_eq!(heard(&user), b"answer");
    }

    #[test]
    fn frames_are_put_together_wherever_they_were_cut() {
        let sent: [&[u8]; 4] = [b"a", b"", b"hello", &[9; 300]];
        let bytes = frames(&sent);
        for cut in 0..=bytes.len() {
            let (mut session, target) = to_target(1000);
            let mut buffer = Buffer::new(conduit_size(1000));
            for part in [&bytes[..cut], &bytes[cut..]] {
                assert_eq!(buffer.append(part), part.len());
                while !buffer.is_empty() && ready(session.drain(&mut buffer)).unwrap().is_some() {}
            }
            assert!(buffer.is_empty(), "cut at {cut}");
            assert_eq!(sent.map(|_| heard(&target)), sent.map(<[u8]>::to_vec), "cut at {cut}");
        }
    }

    #[test]
    fn a_part_of_a_frame_waits_and_is_not_sent() {
        let (mut session, target) = to_target(100);
        let mut buffer = Buffer::holding(frames(&[b"first", b"second"])[..10].to_vec());
        assert_eq!(session.drain(&mut buffer).unwrap(), 7);
        assert_eq!(heard(&target), b"first");
        assert_eq!(session.drain(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(buffer.bytes(), [0, 6, b's']);
    }

    #[test]
    fn datagrams_of_every_size_become_frames_and_the_largest_fits() {
        let (mut session, target) = to_target(500);
        let sent: [&[u8]; 4] = [b"", b"x", &[5; 499], &[6; 500]];
        for packet in sent {
            target.send(packet).unwrap();
        }
        let mut buffer = Buffer::new(conduit_size(500));
        let mut bytes = Vec::new();
        while bytes.len() < frames(&sent).len() {
            filled(&mut session, &mut buffer);
            bytes.extend_from_slice(buffer.bytes());
            buffer.consume(usize::MAX / 2);
        }
        assert_eq!(bytes, frames(&sent));
        assert_eq!(session.tally(), Tally { received: 1000, sent: 0, dropped: 0 });
    }

    #[test]
    fn datagrams_that_wait_at_a_socket_are_taken_together() {
        let (mut session, target) = to_target(65535);
        let sent: Vec<Vec<u8>> = (0..10).map(|number| vec![number; 1200]).collect();
        for packet in &sent {
            target.send(packet).unwrap();
        }
        let mut buffer = Buffer::new(conduit_size(65535));
        assert_eq!(filled(&mut session, &mut buffer), 10 * 1202);
        assert_eq!(buffer.bytes(), frames(&sent.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    }

    #[test]
    fn a_large_datagram_among_small_ones_arrives_whole_and_in_its_place() {
        let (mut session, target) = to_target(65535);
        let sent: [&[u8]; 9] =
            [b"a", &[2; 2047], &[3; 2048], &[4; 2049], b"e", &[6; 60_000], &[7; 60_000], b"", &[9; 30_000]];
        let (mut buffer, mut bytes) = (Buffer::new(conduit_size(65535)), Vec::new());
        for packet in sent {
            target.send(packet).unwrap();
        }
        while bytes.len() < frames(&sent).len() {
            filled(&mut session, &mut buffer);
            bytes.extend_from_slice(buffer.bytes());
            buffer.consume(usize::MAX / 2);
        }
        assert!(bytes == frames(&sent));
        assert_eq!(session.tally().dropped, 0);
    }

    #[test]
    fn frames_that_wait_together_leave_as_the_datagrams_they_hold() {
        let sizes = [1200, 1200, 1200, 300, 0, 0, 1400, 5000, 5000, 1200, 1201, 1, 1, 1].into_iter().cycle().take(100);
        let sent: Vec<Vec<u8>> = sizes.enumerate().map(|(number, len)| vec![number as u8; len]).collect();
        let bytes = frames(&sent.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for mut pair in [to_target(65535), of_user(true, 65535)] {
            let (session, other) = (&mut pair.0, &pair.1);
            socket2::SockRef::from(other).set_recv_buffer_size(SOCKET_BUFFER).unwrap();
            let mut buffer = Buffer::holding(bytes.clone());
            for packet in &sent {
                if !buffer.is_empty() {
                    session.drain(&mut buffer).unwrap();
                }
                assert!(heard(other) == *packet, "{} bytes", packet.len());
            }
            assert_eq!(session.tally().dropped, 0);
        }
    }

    #[test]
    fn a_buffer_without_room_for_the_largest_datagram_is_to_be_drained_first() {
        let (mut session, target) = to_target(100);
        target.send(b"waits").unwrap();
        let mut buffer = Buffer::new(conduit_size(100));
        assert_eq!(buffer.append(&[0; 104]), 104);
        assert_eq!(session.fill(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        buffer.consume(104);
        assert_eq!(filled(&mut session, &mut buffer), 7, "it was not lost");
    }

    #[test]
    fn datagrams_that_are_too_large_are_dropped_and_counted_both_ways() {
        let (mut session, target) = to_target(100);
        target.send(&[1; 101]).unwrap();
        target.send(&[2; 5000]).unwrap();
        target.send(b"after").unwrap();
        let mut buffer = Buffer::new(conduit_size(100));
        assert_eq!(filled(&mut session, &mut buffer), 7);
        assert_eq!(buffer.bytes(), b"\0\x05after");
        assert_eq!(session.tally(), Tally { received: 5, sent: 0, dropped: 2 });

        let mut buffer = Buffer::holding(frames(&[&[1; 101], b"after"]));
        while !buffer.is_empty() {
            session.drain(&mut buffer).unwrap();
        }
        assert_eq!(heard(&target), b"after");
        assert_eq!(session.tally(), Tally { received: 0, sent: 5, dropped: 1 });
    }

    #[test]
    fn a_users_datagram_that_is_too_large_is_dropped_and_counted_too() {
        let (mut session, _user) = of_user(true, 100);
        deliver(&mut session, &[1; 101]);
        deliver(&mut session, &[2; 5000]);
        deliver(&mut session, b"after");
        let mut buffer = Buffer::new(conduit_size(100));
        assert_eq!(session.fill(&mut buffer).unwrap(), 7);
        assert_eq!(buffer.bytes(), b"\0\x05after");
        assert_eq!(session.tally(), Tally { received: 5, sent: 0, dropped: 2 });
    }

    #[test]
    fn a_users_full_inbox_drops_the_newest() {
        let (mut session, _user) = of_user(true, 100);
        for number in 0..INBOX + 3 {
            deliver(&mut session, &[number as u8]);
        }
        let mut buffer = Buffer::new(conduit_size(100));
        let mut bytes = Vec::new();
        while let Some(count) = ready(session.fill(&mut buffer)).unwrap() {
            bytes.extend_from_slice(buffer.bytes());
            buffer.consume(count);
        }
        assert!(bytes.chunks(3).map(|frame| frame[2] as usize).eq(0..INBOX), "{} bytes", bytes.len());
        assert_eq!(session.fill(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(session.tally(), Tally { received: INBOX as u64, sent: 0, dropped: 3 });
    }

    #[test]
    fn a_users_session_that_is_ended_sends_on_what_waits_and_then_tells_the_end() {
        let (mut session, _user) = of_user(true, 100);
        deliver(&mut session, b"last");
        session.end();
        let mut buffer = Buffer::new(conduit_size(100));
        assert_eq!(session.fill(&mut buffer).unwrap(), 6);
        assert_eq!(session.fill(&mut buffer).unwrap(), 0);
        assert_eq!(session.fill(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn without_frames_a_datagram_is_its_bytes_and_an_empty_one_is_skipped() {
        let (mut session, user) = of_user(false, 100);
        deliver(&mut session, b"");
        deliver(&mut session, b"one");
        deliver(&mut session, b"two");
        let mut buffer = Buffer::new(conduit_size(100));
        assert_eq!(session.fill(&mut buffer).unwrap(), 3);
        assert_eq!(buffer.bytes(), b"one");
        let next = session.fill(&mut buffer).unwrap_err();
        assert_eq!(next.kind(), ErrorKind::WouldBlock, "two datagrams would become one");
        assert_eq!(session.drain(&mut buffer).unwrap(), 3);
        assert_eq!(heard(&user), b"one");
        assert_eq!(session.fill(&mut buffer).unwrap(), 3);
        assert_eq!(buffer.bytes(), b"two");
    }

    #[test]
    fn a_flood_of_datagrams_without_a_byte_for_the_relay_is_passed_over_a_bounded_number_at_a_time() {
        for (flood, framed) in [(&[][..], false), (&[1; 101][..], true)] {
            let (mut session, target) = to_target(100);
            session.framed = framed;
            // More than fit into the socket: the rest is lost before it gets here.
            for _ in 0..10 * MAX_SKIPPED {
                target.send(flood).unwrap();
            }
            let mut buffer = Buffer::new(conduit_size(100));
            let mut calls = 0;
            while session.fill(&mut buffer).unwrap_err().kind() == ErrorKind::Interrupted {
                calls += 1;
            }
            assert!((2..=10).contains(&calls), "{calls} calls");
            target.send(b"after").unwrap();
            session.note_edge();
            assert_eq!(filled(&mut session, &mut buffer), 5 + session.head());
        }
    }

    #[test]
    fn a_target_that_refuses_is_survived_and_heard_when_it_is_back() {
        // An address of this process, and a port that no socket is given by chance.
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = SocketAddr::from(([127, 7, high, low], 7171));
        let mut session = Session::to_target(address, None, true, 100, &Budget::PLENTY).unwrap();
        let mut poll = Poll::new().unwrap();
        session.register(poll.registry(), Token(0)).unwrap();
        let mut buffer = Buffer::new(conduit_size(100));

        assert_eq!(session.fill(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        session.drain(&mut Buffer::holding(frames(&[b"before", b"there"]))).unwrap();
        wait(&mut poll, &mut session);
        assert_eq!(session.fill(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);

        let target = Plain::bind(address).unwrap();
        target.set_read_timeout(Some(GRACE)).unwrap();
        session.drain(&mut Buffer::holding(frames(&[b"you are back"]))).unwrap();
        let mut packet = [0; 100];
        let (count, from) = target.recv_from(&mut packet).unwrap();
        assert_eq!(&packet[..count], b"you are back");
        target.send_to(b"yes", from).unwrap();
        wait(&mut poll, &mut session);
        assert_eq!(session.fill(&mut buffer).unwrap(), 5);
    }

    #[test]
    fn a_session_goes_out_from_the_address_that_is_asked_for_or_not_at_all() {
        let target = Plain::bind(any("127.0.0.1")).unwrap();
        target.set_read_timeout(Some(GRACE)).unwrap();
        let address = target.local_addr().unwrap();
        let mut session = Session::to_target(address, Some([127, 0, 0, 9].into()), true, 100, &Budget::PLENTY).unwrap();
        session.drain(&mut Buffer::holding(frames(&[b"hello"]))).unwrap();
        let (_, from) = target.recv_from(&mut [0; 100]).unwrap();
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 9]));
        assert!(Session::to_target(address, Some([203, 0, 113, 77].into()), true, 100, &Budget::PLENTY).is_err());
    }

    #[test]
    fn a_broadcast_or_multicast_target_hears_and_any_of_its_machines_may_answer() {
        let from = IpAddr::from([127, 0, 0, 1]);
        for (host, from) in [("127.255.255.255", None), ("239.255.77.1", Some(from))] {
            let target = Plain::bind(any("0.0.0.0")).unwrap();
            target.set_read_timeout(Some(GRACE)).unwrap();
            if from.is_some() {
                target.join_multicast_v4(&[239, 255, 77, 1].into(), &[127, 0, 0, 1].into()).unwrap();
            }
            let address = format!("{host}:{}", target.local_addr().unwrap().port()).parse().unwrap();
            let mut session = Session::to_target(address, from, true, 100, &Budget::PLENTY).unwrap();
            session.drain(&mut Buffer::holding(frames(&[b"wake up"]))).unwrap();
            let mut packet = [0; 100];
            let (count, user) = target.recv_from(&mut packet).unwrap();
            assert_eq!(&packet[..count], b"wake up", "{host}");
            session.drain(&mut Buffer::holding(frames(&[b"both", b"together"]))).unwrap();
            assert_eq!([heard(&target), heard(&target)], [b"both".to_vec(), b"together".to_vec()], "{host}");
            target.send_to(b"yes", user).unwrap();
            assert_eq!(filled(&mut session, &mut Buffer::new(conduit_size(100))), 5);
        }
        let none = Session::to_target(
            "239.255.77.1:9".parse().unwrap(),
            Some([203, 0, 113, 77].into()),
            true,
            100,
            &Budget::PLENTY,
        );
        assert!(none.is_err(), "no interface has that address");
    }

    #[test]
    fn what_a_full_receive_buffer_loses_is_told_at_first_and_when_it_has_doubled() {
        let listener = listener(any("127.0.0.1")).unwrap();
        let user = Plain::bind(any("127.0.0.1")).unwrap();
        user.connect(listener.local().unwrap()).unwrap();
        let mut batch = PacketQueue::default();
        let mut flood = |datagrams: usize| {
            (0..datagrams).for_each(|_| assert_eq!(user.send(&[0; 60_000]).unwrap(), 60_000));
            let mut told = Vec::new();
            let mut come = 0;
            while let Some(count) = ready(listener.receive(&mut batch, 65535)).unwrap() {
                come += count;
                told.extend(listener.lost(batch.messages(count)));
            }
            (come, told)
        };
        assert_eq!(flood(1), (1, vec![]));
        // Twice what may wait.
        let many = 4 * LISTENER_BUFFER / 60_000;
        let (come, _) = flood(many);
        assert!(come < many, "all of them had room");
        // The kernel tells with a datagram that came after those that were lost.
        let (_, told) = flood(1);
        assert!(told.len() == 1 && told[0] as usize == many - come, "{told:?} of {}", many - come);
        assert_eq!(flood(1), (1, vec![]), "it is said once");
    }

    /// A user at `user` asks the listener at `asked` and is answered from there.
    fn speaks_through(listener: &UdpListener, user: &str, asked: &str) {
        let (user, asked): (IpAddr, IpAddr) = (user.parse().unwrap(), asked.parse().unwrap());
        let port = listener.local().unwrap().port();
        let user = Plain::bind((user, 0)).unwrap();
        // A connected socket hears only the address that it asked.
        user.connect((asked, port)).unwrap();
        user.set_read_timeout(Some(GRACE)).unwrap();
        user.send(b"question").unwrap();
        let (packet, from, to) = received(listener);
        assert_eq!((&packet[..], from), (&b"question"[..], user.local_addr().unwrap()));
        assert_eq!(to, Some(asked));
        assert_eq!(listener.answer(b"answer", from, to).unwrap(), 6);
        assert_eq!(heard(&user), b"answer");
    }

    /// The next datagram at the listener, as soon as it is there.
    fn received(listener: &UdpListener) -> (Vec<u8>, SocketAddr, Option<IpAddr>) {
        let mut batch = PacketQueue::default();
        loop {
            let Some(count) = ready(listener.receive(&mut batch, 64)).unwrap() else {
                std::thread::yield_now();
                continue;
            };
            let (message, packet) = batch.packets(count).next().unwrap();
            let (from, to) = sender(&message);
            return (packet.to_vec(), from, to);
        }
    }

    /// An address of this machine that is only good with its interface.
    fn on_the_link() -> Option<std::net::SocketAddrV6> {
        let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
        let words = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = words.into_iter().find(|words| words.first().is_some_and(|ip| ip.starts_with("fe80")))?;
        let (ip, index) = (u128::from_str_radix(found[0], 16).ok()?, u32::from_str_radix(found[1], 16).ok()?);
        Some(std::net::SocketAddrV6::new(ip.into(), 0, 0, index))
    }

    /// A framed session whose target is a plain socket of ours.
    fn to_target(largest: usize) -> (Session, Plain) {
        let target = Plain::bind(any("127.0.0.1")).unwrap();
        target.set_read_timeout(Some(GRACE)).unwrap();
        let session = Session::to_target(target.local_addr().unwrap(), None, true, largest, &Budget::PLENTY).unwrap();
        let End::Own { socket, .. } = &session.end else { unreachable!() };
        target.connect(socket.local_addr().unwrap()).unwrap();
        (session, target)
    }

    /// A listener with a socket of its own.
    fn listener(at: impl Into<ListenAddr>) -> io::Result<UdpListener> {
        UdpListener::open(at.into(), &Inherited::default(), &Budget::PLENTY)
    }

    /// A session of a user who is a plain socket of ours.
    fn of_user(framed: bool, largest: usize) -> (Session, Plain) {
        let listener = Arc::new(listener(any("127.0.0.1")).unwrap());
        let user = Plain::bind(any("127.0.0.1")).unwrap();
        user.connect(listener.local().unwrap()).unwrap();
        user.set_read_timeout(Some(GRACE)).unwrap();
        let (address, asked) = (user.local_addr().unwrap(), Some([127, 0, 0, 1].into()));
        (Session::of_user(listener, address, asked, framed, largest), user)
    }

    /// A datagram of the session's user.
    fn deliver(session: &mut Session, packet: &[u8]) {
        let mut frames = Frames::default();
        frames.push(&[packet]);
        session.deliver(frames);
    }

    fn any(host: &str) -> SocketAddr {
        format!("{host}:0").parse().unwrap()
    }

    fn frames(packets: &[&[u8]]) -> Vec<u8> {
        packets.iter().flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat()).collect()
    }

    fn heard(socket: &Plain) -> Vec<u8> {
        let mut packet = vec![0; 65536];
        let count = socket.recv(&mut packet).expect("a datagram");
        packet.truncate(count);
        packet
    }

    /// Fills as soon as there is something to fill.
    fn filled(session: &mut Session, buffer: &mut Buffer) -> usize {
        let mut poll = Poll::new().unwrap();
        session.register(poll.registry(), Token(0)).unwrap();
        let count = loop {
            match ready(session.fill(buffer)).unwrap() {
                Some(count) => break count,
                None => wait(&mut poll, session),
            }
        };
        if let End::Own { socket, .. } = &mut session.end {
            socket.deregister(poll.registry()).unwrap();
        }
        count
    }

    /// Waits for an edge and notes it.
    fn wait(poll: &mut Poll, session: &mut Session) {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(GRACE)).unwrap();
        assert!(!events.is_empty(), "no edge came");
        events.iter().for_each(|event| session.note(event));
    }

    /// Far longer than anything here takes.
    const GRACE: Duration = Duration::from_secs(20);
}
