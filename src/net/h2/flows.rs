//! The streams of one HTTP/2 connection: what waits in each, how each of its directions stands, and who is told.
//!
//! ```text
//!   H2Send  Open --finish--> Ending --END_STREAM sent--> Ended
//!   H2Recv  Open --END_STREAM--> Ended --reset without a complaint--> Left
//!             |---- reset without a complaint -------------------------^
//!             |---- reset with one, refusal, refused answer ---------> Broken
//! ```

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};

use mio::Token;

use super::queue::{Queue, Spares};
use crate::logic::slab::{Key, Slab};
use crate::net::nghttp2::{Handler, Ready, Refused, HEAD, PAYLOAD};
use crate::net::stream::{would_block, Buffer};

/// All streams of a connection, and its output.
pub struct H2Streams {
    table: Slab<H2Stream>,
    /// Streams that the library knows, by their number.
    numbers: HashMap<i32, Key>,
    changed: VecDeque<Key>,
    accepted: VecDeque<Key>,
    /// Requests that are answered with an error: the stream and the status.
    pub refused: Vec<(i32, &'static str)>,
    /// Those that have their answer and have not ended.
    pub answered: VecDeque<i32>,
    /// Streams on which nothing more is to be said: to be reset with this code once all has been sent.
    pub done: Vec<(i32, u32)>,
    pub spares: Spares,
    /// Frames on their way to the socket; of no size while there are none.
    pub out: Buffer,
    /// Bytes that came and whose credit the connection has not given back yet.
    pub withheld: usize,
    /// Streams that we opened and that are not over.
    pub open: usize,
    /// Bytes of the head that is coming in.
    head: usize,
    pub goodbye: Option<u32>,
    complaint: String,
    is_client: bool,
    window: u32,
    /// Bytes by which windows may still grow.
    spare: usize,
    /// Bytes that may wait in one stream to be sent.
    outbox: usize,
}

/// One stream.
pub struct H2Stream {
    pub id: i32,
    token: Option<Token>,
    /// Its key waits in `changed`.
    noted: bool,
    pub inbox: Queue,
    pub outbox: Queue,
    pub send: H2Send,
    pub recv: H2Recv,
    /// The end of the direction from the peer was read: nobody will ask for it again.
    end_read: bool,
    /// A writer was told that there is no room and is owed an edge.
    pub blocked: bool,
    /// The library waits to be told that there is something to send.
    pub deferred: bool,
    /// Our head is on its way: a server's comes with its first byte.
    pub answered: bool,
    /// What the request asked for, while it is coming in.
    asked: SeenHeaders,
    /// It is in use no more; what it still has to say is being said.
    pub released: bool,
    /// Its window, and how many bytes were read since that was set.
    pub window: u32,
    pub read: usize,
}

/// How far the direction to the peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2Send {
    /// Bytes may be added.
    Open,
    /// The end follows the last byte.
    Ending,
    /// The end was sent.
    Ended,
}

/// How far the direction from the peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2Recv {
    /// Bytes may come.
    Open,
    /// The last byte has come.
    Ended,
    /// The last byte has come, and the peer takes no more. `true`: that end was read.
    Left(bool),
    /// Reset: what came is void.
    Broken(ErrorKind),
}

/// What a request asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SeenHeaders {
    method: bool,
    path: bool,
}

impl H2Streams {
    /// No streams yet; a new one has a window of `window` bytes, and all together may have `spare` more.
    pub fn new(is_client: bool, window: u32, spare: usize, outbox: usize) -> H2Streams {
        H2Streams {
            table: Slab::new(),
            numbers: HashMap::new(),
            changed: VecDeque::new(),
            accepted: VecDeque::new(),
            refused: Vec::new(),
            answered: VecDeque::new(),
            done: Vec::new(),
            outbox,
            spares: Spares::default(),
            out: Buffer::new(0),
            withheld: 0,
            open: 0,
            head: 0,
            goodbye: None,
            complaint: String::new(),
            is_client,
            window,
            spare,
        }
    }

    /// Takes in a stream that is open in both directions.
    pub fn insert(&mut self, id: i32) -> Key {
        let key = self.table.insert(H2Stream {
            id,
            token: None,
            noted: false,
            inbox: Queue::default(),
            outbox: Queue::default(),
            send: H2Send::Open,
            recv: H2Recv::Open,
            end_read: false,
            blocked: false,
            deferred: false,
            answered: self.is_client,
            asked: SeenHeaders::default(),
            released: false,
            window: self.window,
            read: 0,
        });
        self.numbers.insert(id, key);
        key
    }

    /// A stream in use.
    pub fn get(&mut self, key: Key) -> io::Result<&mut H2Stream> {
        let gone = || io::Error::new(ErrorKind::NotConnected, "the stream has been released");
        self.table.get_mut(key).filter(|flow| !flow.released).ok_or_else(gone)
    }

    fn by_id(&mut self, id: i32) -> Option<(Key, &mut H2Stream)> {
        let key = *self.numbers.get(&id)?;
        Some((key, self.table.get_mut(key)?))
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The next stream that was asked for and still is.
    pub fn accept(&mut self) -> Option<Key> {
        while let Some(key) = self.accepted.pop_front() {
            match self.table.get(key) {
                Some(flow) if matches!(flow.recv, H2Recv::Open | H2Recv::Ended) => return Some(key),
                _ => self.forget(key),
            }
        }
        None
    }

    /// Tells edges of a stream under `token`, and one at once.
    pub fn watch(&mut self, key: Key, token: Token) {
        if let Some(flow) = self.table.get_mut(key) {
            flow.token = Some(token);
            self.note(key);
        }
    }

    /// The next token that is owed.
    pub fn changed(&mut self) -> Option<Token> {
        while let Some(key) = self.changed.pop_front() {
            if let Some(flow) = self.table.get_mut(key) {
                flow.noted = false;
                if let Some(token) = flow.token {
                    return Some(token);
                }
            }
        }
        None
    }

    /// Owes the stream's token, once.
    pub fn note(&mut self, key: Key) {
        if let Some(flow) = self.table.get_mut(key).filter(|flow| !flow.noted && flow.token.is_some()) {
            flow.noted = true;
            self.changed.push_back(key);
        }
    }

    /// Takes out of an inbox what fits; what is to be said of an empty one.
    pub fn read(&mut self, key: Key, into: &mut Buffer) -> io::Result<usize> {
        self.get(key)?;
        let Some(flow) = self.table.get_mut(key) else { return would_block() };
        if !flow.inbox.is_empty() {
            let count = flow.inbox.pop(into, usize::MAX, &mut self.spares);
            flow.read += count;
            return Ok(count);
        }
        match flow.recv {
            H2Recv::Open => would_block(),
            H2Recv::Ended => {
                flow.end_read = true;
                Ok(0)
            }
            H2Recv::Left(_) => {
                flow.recv = H2Recv::Left(true);
                if std::mem::take(&mut flow.blocked) {
                    self.note(key);
                }
                Ok(0)
            }
            H2Recv::Broken(kind) => Err(kind.into()),
        }
    }

    /// Adds bytes to an outbox. The caller knows the limit.
    pub fn write(&mut self, key: Key, bytes: &[u8]) {
        if let Some(flow) = self.table.get_mut(key) {
            flow.outbox.push(bytes, &mut self.spares);
        }
    }

    /// Whether the library knows that stream: it is not over.
    pub fn is_known(&self, id: i32) -> bool {
        self.numbers.contains_key(&id)
    }

    /// Forgets a stream and what waits in it.
    pub fn forget(&mut self, key: Key) {
        if let Some(mut flow) = self.table.remove(key) {
            self.spare += (flow.window - self.window) as usize;
            flow.inbox.clear(&mut self.spares);
            flow.outbox.clear(&mut self.spares);
            self.numbers.remove(&flow.id);
        }
    }

    /// This stream is read no more: what came and what comes is void.
    pub fn deafen(&mut self, key: Key) {
        if let Some(flow) = self.table.get_mut(key) {
            (flow.released, flow.token) = (true, None);
            flow.inbox.clear(&mut self.spares);
        }
    }

    /// Whether that stream is in use no more and still has to say something.
    pub fn is_lingering(&self, key: Key) -> bool {
        self.table.get(key).is_some_and(|flow| flow.released)
    }

    /// Doubles the window of a stream, up to `most`, if a whole window was read, nothing is left, and there is enough to
    /// spare: which stream, and its window from now on.
    pub fn widen(&mut self, key: Key, most: u32) -> Option<(i32, u32)> {
        let flow = self.table.get_mut(key)?;
        if flow.read < flow.window as usize || !flow.inbox.is_empty() {
            return None;
        }
        flow.read = 0;
        let wanted = flow.window.saturating_mul(2).min(most);
        let more = wanted.saturating_sub(flow.window) as usize;
        if more == 0 || more > self.spare / 2 {
            return None;
        }
        (flow.window, self.spare) = (wanted, self.spare - more);
        Some((flow.id, wanted))
    }

    /// The last complaint, in words.
    pub fn complaint(&self) -> &str {
        &self.complaint
    }

    fn breaks(&mut self, key: Key, kind: ErrorKind) {
        if let Some(flow) = self.table.get_mut(key) {
            flow.recv = H2Recv::Broken(kind);
            flow.inbox.clear(&mut self.spares);
            flow.outbox.clear(&mut self.spares);
        }
    }
}

impl Handler for H2Streams {
    fn begun(&mut self, id: i32, request: bool) {
        self.head = 0;
        if request {
            self.insert(id);
        }
    }

    fn header(&mut self, id: i32, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        let is_client = self.is_client;
        // RFC 9113, 6.5.2: a field counts 32 bytes more than its text.
        self.head += name.len() + value.len() + 32;
        if self.head > MAX_HEAD {
            self.complaint = "a head that is too large".into();
            return Err(Refused);
        }
        let Some((key, flow)) = self.by_id(id) else { return Ok(()) };
        match name {
            b":method" => flow.asked.method = value == b"POST",
            b":path" => flow.asked.path = value == b"/stream",
            // 1xx is no answer yet.
            b":status" if is_client && value != b"200" && !value.starts_with(b"1") => {
                self.breaks(key, ErrorKind::ConnectionRefused);
                self.note(key);
            }
            _ => {}
        }
        Ok(())
    }

    fn requested(&mut self, id: i32) {
        let Some((key, flow)) = self.by_id(id) else { return };
        match flow.asked {
            SeenHeaders { path: false, .. } => self.refused.push((id, "404")),
            SeenHeaders { method: false, .. } => self.refused.push((id, "405")),
            _ => return self.accepted.push_back(key),
        }
        self.forget(key);
    }

    fn data(&mut self, id: i32, bytes: &[u8]) {
        self.withheld += bytes.len();
        let Some(&key) = self.numbers.get(&id) else { return };
        let Some(flow) = self.table.get_mut(key) else { return };
        if flow.recv == H2Recv::Open && !flow.released {
            flow.inbox.push(bytes, &mut self.spares);
            self.note(key);
        }
    }

    fn ended(&mut self, id: i32) {
        let Some((key, flow)) = self.by_id(id) else { return };
        if flow.recv == H2Recv::Open {
            flow.recv = H2Recv::Ended;
            self.note(key);
        }
    }

    fn closed(&mut self, id: i32, code: u32) {
        if self.is_client && id % 2 == 1 {
            self.open = self.open.saturating_sub(1);
        }
        let Some(&key) = self.numbers.get(&id) else {
            return self.answered.retain(|answered| *answered != id);
        };
        let Some(flow) = self.table.get_mut(key) else { return };
        if flow.released {
            return self.forget(key);
        }
        match (code, flow.send, flow.recv) {
            (_, _, H2Recv::Broken(_)) | (_, H2Send::Ended, H2Recv::Ended) => {}
            (NO_ERROR | CANCEL, ..) => {
                flow.recv = H2Recv::Left(flow.end_read);
                flow.outbox.clear(&mut self.spares);
            }
            (REFUSED, ..) => self.breaks(key, ErrorKind::ConnectionRefused),
            _ => self.breaks(key, ErrorKind::ConnectionReset),
        }
        self.numbers.remove(&id);
        self.note(key);
    }

    fn goodbye(&mut self, code: u32) {
        self.goodbye = Some(code);
    }

    fn complaint(&mut self, text: &str) {
        self.complaint = text.chars().take(MAX_COMPLAINT).collect();
    }

    fn ready(&mut self, id: i32, most: usize) -> Ready {
        if OUTPUT - self.out.bytes().len() < HEAD + PAYLOAD {
            return Ready::Full;
        }
        let Some((_, flow)) = self.by_id(id) else { return Ready::Nothing };
        let count = flow.outbox.len().min(most).min(DATA);
        if flow.send == H2Send::Ending && count == flow.outbox.len() {
            return Ready::Last(count);
        }
        if count == 0 {
            flow.deferred = true;
            return Ready::Nothing;
        }
        Ready::Bytes(count)
    }

    fn take(&mut self, id: i32, head: &[u8], count: usize) {
        self.out.append(head);
        let Some(&key) = self.numbers.get(&id) else { return };
        let Some(flow) = self.table.get_mut(key) else { return };
        flow.outbox.pop(&mut self.out, count, &mut self.spares);
        if flow.send == H2Send::Ending && flow.outbox.is_empty() {
            flow.send = H2Send::Ended;
            if flow.released {
                self.done.push((id, CANCEL));
            }
        }
        if flow.outbox.len() <= self.outbox / 2 && std::mem::take(&mut flow.blocked) {
            self.note(key);
        }
    }
}

/// RFC 9113, 7: the codes that are told apart here.
pub const NO_ERROR: u32 = 0x0;
/// The other side has had enough of a request that we refuse to serve.
const REFUSED: u32 = 0x7;
/// The stream is not needed any more: no complaint.
pub const CANCEL: u32 = 0x8;
/// What the stream carries was cut off.
pub const CONNECT_ERROR: u32 = 0xa;
/// The peer asks for too much.
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// About so many bytes of data, in frames that are full. A few bytes more would be a frame, a record and a system call of their own,
/// each time, at either side.
pub fn whole_frames(bytes: usize) -> usize {
    (bytes / DATA).max(1) * DATA
}

/// Bytes of frames that wait for the socket: four TLS records, and room for a frame of the largest size behind three.
pub const OUTPUT: usize = 4 * (HEAD + PAYLOAD);
/// Most bytes of data in a frame: with its header they are one TLS record.
const DATA: usize = PAYLOAD - HEAD;
/// Bytes of a head, as RFC 9113 counts them.
pub const MAX_HEAD: usize = 16 * 1024;
/// Characters of a complaint that are kept for the log.
const MAX_COMPLAINT: usize = 200;
