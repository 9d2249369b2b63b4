//! Many datagrams of one session in one system call, on both sides of the frames.
//!
//! ```text
//!   socket --recvmmsg--> [ ..datagram | ..datagram | .. ]  --moved together-->  [ frame frame frame ]     one write to the pool
//!   [ frame frame frame ]  --heads taken out-->  [ datagram datagram .. ]  --sendmmsg, UDP_SEGMENT--> socket
//! ```
//!
//! Both happen where the frames lie, in the relay's buffer. A datagram that comes alone costs what it would without this.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::frames::Frames;
use crate::logic::wire::{next_frame, Frame};
use crate::net::batch::{
    cannot_segment, receive_slots, send_many, takes_all, Outgoing, Slots, MAX_BATCH, MAX_MESSAGE, MAX_SEGMENTS,
};

/// Datagrams that were received into a buffer.
pub struct Received {
    /// Bytes of whole frames at the front of the buffer.
    pub framed: usize,
    /// Bytes of payload, those that were left over included.
    pub payload: usize,
    /// Datagrams that were larger than what is carried.
    pub dropped: u64,
    /// Frames that came after one too large for its slot.
    pub left_over: Frames,
    /// Nothing is left in the socket.
    pub all: bool,
}

/// Whether a buffer with so much room takes more than one datagram of any size.
pub fn pays(room: usize, largest: usize) -> bool {
    room >= 2 * stride(largest)
}

/// Receives datagrams of at most `largest` bytes, and at most `gulp` bytes of them, from a connected socket and makes frames of them.
pub fn receive(socket: BorrowedFd<'_>, room: &mut [u8], largest: usize, gulp: usize) -> io::Result<Received> {
    let (stride, longest) = (stride(largest), (largest + 1).saturating_sub(SLOT).max(1));
    let count = (room.len() / stride).min(gulp / longest).clamp(1, MAX_BATCH);
    let mut overflow = OVERFLOW.take();
    if overflow.len() < count * longest {
        // Its pages are taken when something is written to them.
        overflow = vec![0; count * longest];
    }
    let mut lens = [0; MAX_BATCH];
    let slots = Slots {
        bytes: &mut room[..count * stride],
        stride,
        head: HEAD,
        overflow: &mut overflow[..count * longest],
        longest,
    };
    let came = receive_slots(socket, slots, &mut lens);
    let received = came.map(|came| Received {
        all: takes_all(came, count),
        ..put_together(room, stride, &overflow, longest, &lens[..came.min(MAX_BATCH)], largest)
    });
    OVERFLOW.set(overflow);
    received
}

/// Moves the datagrams to the front of the buffer, each behind its length.
fn put_together(
    room: &mut [u8],
    stride: usize,
    overflow: &[u8],
    longest: usize,
    lens: &[usize],
    largest: usize,
) -> Received {
    let mut received = Received { framed: 0, payload: 0, dropped: 0, left_over: Frames::default(), all: false };
    for (at, &len) in lens.iter().enumerate() {
        if len > largest {
            received.dropped += 1;
            continue;
        }
        received.payload += len;
        let (start, head) = (at * stride + HEAD, (len as u16).to_be_bytes());
        let fits = len.min(stride - HEAD);
        if len > fits || !received.left_over.is_empty() {
            received.left_over.push(&[&room[start..start + fits], &overflow[at * longest..][..len - fits]]);
            continue;
        }
        let end = received.framed;
        room.copy_within(start..start + len, end + HEAD);
        room[end..end + HEAD].copy_from_slice(&head);
        received.framed = end + HEAD + len;
    }
    received
}

fn stride(largest: usize) -> usize {
    HEAD + SLOT.min(largest + 1)
}

/// Datagrams that go out together: of one size but for the last, which may be shorter.
#[derive(Clone, Default)]
struct Part {
    range: Range<usize>,
    segment: usize,
    packets: u64,
}

impl Part {
    /// Whether a datagram of so many bytes may follow in the same message.
    fn takes(&self, len: usize) -> bool {
        let full = self.range.len() == self.segment * self.packets as usize;
        let few = (self.packets as usize) < MAX_SEGMENTS && self.range.len() + len <= MAX_MESSAGE;
        (1..=self.segment).contains(&len) && self.segment <= MAX_SEGMENT && full && few
    }
}

/// Where datagrams go, and what has become of them.
pub struct Departure<'a> {
    /// The socket.
    pub socket: BorrowedFd<'a>,
    /// To whom, and from which address; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    pub from: Option<IpAddr>,
    /// The largest payload that is carried.
    pub largest: usize,
    /// Whether the kernel makes datagrams of one message here.
    pub segments: bool,
    /// Bytes of payload that were sent.
    pub sent: u64,
    /// Datagrams that were not.
    pub dropped: u64,
    /// Whether the network has said that no socket listens there.
    pub refused: bool,
}

impl Departure<'_> {
    /// Sends the whole frames at the front of `bytes`, as many as one call takes; how many bytes they were. What the kernel
    /// does not take now is lost, as on any network.
    pub fn send(&mut self, bytes: &mut [u8]) -> usize {
        let mut parts: [Part; MAX_BATCH] = Default::default();
        let (mut read, mut write, mut count) = (0, 0, 0);
        while let Frame::Whole(payload) = next_frame(&bytes[read..]) {
            let (start, len) = (read + payload.start, payload.len());
            if len > self.largest {
                self.dropped += 1;
                read = start + len;
                continue;
            }
            let joins = self.segments && count > 0 && parts[count - 1].takes(len);
            if !joins && count == MAX_BATCH {
                break;
            }
            bytes.copy_within(start..start + len, write);
            if joins {
                parts[count - 1].range.end += len;
                parts[count - 1].packets += 1;
            } else {
                parts[count] = Part { range: write..write + len, segment: len, packets: 1 };
                count += 1;
            }
            (read, write) = (start + len, write + len);
        }
        self.send_parts(&bytes[..write], &parts[..count]);
        read
    }

    fn send_parts(&mut self, bytes: &[u8], parts: &[Part]) {
        let message = |part: &Part| Outgoing {
            bytes: &bytes[part.range.clone()],
            segment: part.segment,
            to: self.to,
            from: self.from,
        };
        let Some(first) = parts.first() else { return };
        let mut messages = [message(first); MAX_BATCH];
        messages.iter_mut().zip(parts).for_each(|(place, part)| *place = message(part));
        let (mut at, mut again) = (0, true);
        while at < parts.len() {
            match send_many(self.socket, &messages[at..parts.len()]) {
                Ok(gone) => {
                    let gone = gone.max(1);
                    self.sent += messages[at..at + gone].iter().map(|message| message.bytes.len() as u64).sum::<u64>();
                    (at, again) = (at + gone, true);
                }
                // What the network says of earlier datagrams comes in place of sending, once.
                Err(error) if again && error.kind() == io::ErrorKind::ConnectionRefused => {
                    (self.refused, again) = (true, false);
                }
                Err(error) => {
                    self.not_sent(&error, &messages[at], parts[at].packets);
                    (at, again) = (at + 1, true);
                }
            }
        }
    }

    /// A message that the kernel did not take. One of several datagrams may be sent one by one, on paths whose packets are
    /// smaller than they are among others.
    fn not_sent(&mut self, error: &io::Error, message: &Outgoing<'_>, packets: u64) {
        let apart = packets > 1 && (cannot_segment(error) || error.raw_os_error() == Some(libc::EMSGSIZE));
        if !apart {
            self.dropped += packets;
            return;
        }
        self.segments = false;
        for packet in message.bytes.chunks(message.segment) {
            match send_many(self.socket, &[Outgoing { bytes: packet, ..*message }]) {
                Ok(_) => self.sent += packet.len() as u64,
                Err(_) => self.dropped += 1,
            }
        }
    }
}

thread_local! {
    /// Where those parts of datagrams go that are too long for their slots.
    static OVERFLOW: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of a frame's head.
const HEAD: usize = 2;
/// Bytes of a slot: a datagram that fits into a packet of Ethernet, and some more. Larger ones come one at a time.
pub const SLOT: usize = 2048;
/// Largest datagrams that are sent as one message: what Ethernet carries in a packet.
const MAX_SEGMENT: usize = 1472;
