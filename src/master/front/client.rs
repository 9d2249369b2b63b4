//! One connection from the network, and how far it has come.
//!
//! ```text
//!                                                    +------------- Proxying ------------+
//!  Securing --> Reading --whole--> Waiting --a turn--> Handing --> Awaiting --head--> Relaying
//!                ^  |                 |                   |            |                  |
//!                |  +--refused--------+--too late---------+------------+                  | all of it
//!                |  v                                                                     v
//!                |  Sending <-------------------------------------------------------------+
//!                +--kept--+--else--> Finishing --> Lingering --> (closed)
//! ```
//!
//! At most one request is under way: what a client sends meanwhile waits in its socket.

mod proxying;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Registry, Token};

use self::proxying::{answer, awaited, handed, relay, After, Left, Manner};
use super::answer::{Refusal, BROKEN, BUSY, LATE, TOO_SLOW};
use super::cors::{grant, lines};
use super::link::Link;
use super::request::{Progress, Reader, Request};
use crate::config::Cors;
use crate::net::leg::Own;
use crate::net::stream::{drain_all, ready, Buffer};

/// A client and how far it has come.
pub struct Client {
    leg: Own,
    from: IpAddr,
    reader: Reader,
    state: State,
    since: Instant,
    until: Option<Instant>,
    key: KeyShown,
}

/// What is known of the key that a client shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyShown {
    /// Nothing.
    Unknown,
    /// The last one was right.
    Right,
    /// The last one was wrong, and that was not told yet.
    Wrong,
}

enum State {
    /// The TLS handshake.
    Securing,
    /// A request is read; what has to be said meanwhile waits in the buffer.
    Reading(Buffer),
    /// A whole request waits for its turn.
    Waiting(Box<Request>),
    /// The server behind has it.
    Proxying(Link, Proxying),
    /// The rest of what there is to say is known.
    Sending(Buffer, After),
    /// Our direction is ended.
    Finishing,
    /// Closing while the client's bytes are unread would reset the connection and lose the answer on its way.
    Lingering,
}

/// How far the exchange with the server behind has come.
enum Proxying {
    /// The request is written to it.
    Handing(Buffer, Manner),
    /// The head of the answer is read.
    Awaiting(Vec<u8>, Manner),
    /// The answer's body passes through.
    Relaying(Buffer, Left),
}

/// What a client uses of what is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Nothing but its connection.
    Light,
    /// Memory for a large request.
    Large,
    /// A thread of the server behind.
    Call,
    /// The same, for as long as it likes.
    Stream,
}

/// What a client may use just now, and what it works with.
pub struct Means {
    /// Where bytes come in.
    pub scratch: Buffer,
    /// Whether one more large request is allowed.
    pub large: bool,
    /// Whether one more stream is allowed.
    pub stream: bool,
    /// For the dates of answers.
    pub time: SystemTime,
    /// Which pages may use the API.
    pub cors: Cors,
}

impl Means {
    /// Forgets the bytes that came in.
    pub fn clear(&mut self) {
        self.scratch.consume(self.scratch.bytes().len());
    }

    /// What matters of a request to its answer.
    fn manner(&self, Request { head, .. }: &Request) -> Manner {
        let origin = head.headers.iter().find(|(name, _)| name == "origin").map(|(_, value)| value.as_str());
        let grant = grant(&self.cors, origin);
        Manner { only_head: head.method == "HEAD", modern: head.modern, keep: head.keep, grant }
    }

    /// The same of a request that has not come whole.
    fn unknown(&self) -> Manner {
        Manner { only_head: false, modern: false, keep: false, grant: grant(&self.cors, None) }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Something has to happen first.
    Wait,
    /// It has had its share of this turn.
    Again,
    /// It is over.
    End,
}

/// What one step came to.
enum Step {
    Wait,
    Again,
    Moved,
    On(State),
    /// The exchange goes on.
    Further(Proxying),
    Leave,
}

impl KeyShown {
    /// What is known after an answer; most say nothing of a key.
    fn after(self, verdict: Option<bool>) -> KeyShown {
        verdict.map_or(self, |right| if right { KeyShown::Right } else { KeyShown::Wrong })
    }
}

impl Client {
    /// A client who has just come from there.
    pub fn new(leg: Own, from: IpAddr, now: Instant) -> Client {
        let state = match &leg {
            Own::Tls(_) => State::Securing,
            _ => State::Reading(Buffer::new(0)),
        };
        let until = Some(now + TIMEOUT);
        Client { leg, from, reader: Reader::default(), state, since: now, until, key: KeyShown::Unknown }
    }

    /// Registers its connection under `token`, once.
    pub fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        self.leg.register(registry, token)
    }

    /// Remembers an edge of its connection.
    pub fn note(&mut self, event: &Event) {
        self.leg.note(event);
    }

    /// Remembers an edge of its link to the server behind.
    pub fn note_link(&mut self, event: &Event) {
        if let State::Proxying(link, _) = &mut self.state {
            link.note(event);
        }
    }

    /// Goes on as far as it can, within its share of a turn.
    pub fn advance(&mut self, means: &mut Means, now: Instant) -> Next {
        for _ in 0..STEPS {
            match self.step(means, now).unwrap_or(Step::Leave) {
                Step::Again => {}
                Step::Moved => self.moved(now),
                Step::On(state) => self.enter(state, now),
                Step::Further(exchange) => self.go_on(exchange, now),
                Step::Leave => return Next::End,
                Step::Wait if self.until.is_some_and(|until| now >= until) => match self.late(means) {
                    Some(state) => self.enter(state, now),
                    None => return Next::End,
                },
                Step::Wait => return Next::Wait,
            }
        }
        Next::Again
    }

    /// Its turn has come: its request goes to the server behind through `link`, if that could be opened.
    pub fn hand(&mut self, link: io::Result<Link>, means: &Means, now: Instant) {
        let State::Waiting(request) = &self.state else { return };
        let manner = means.manner(request);
        let state = match link {
            Ok(link) => State::Proxying(link, Proxying::Handing(Buffer::holding(request.to_bytes()), manner)),
            Err(_) => refused(BUSY, manner, means),
        };
        self.enter(state, now);
    }

    /// When it has had its time.
    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// What it uses.
    pub fn load(&self) -> Load {
        match &self.state {
            State::Reading(_) if self.reader.held() > SMALL => Load::Large,
            State::Waiting(request) if request.body.len() > SMALL => Load::Large,
            State::Proxying(_, Proxying::Relaying(_, Left::Stream)) => Load::Stream,
            State::Proxying(..) => Load::Call,
            _ => Load::Light,
        }
    }

    /// Whether it waits for its turn.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Whether an answer is under way.
    pub fn is_busy(&self) -> bool {
        self.load() == Load::Stream
            || self.load() == Load::Call
            || matches!(self.state, State::Waiting(_) | State::Sending(..))
    }

    /// Whether its connection may be given up for a newcomer: no request of it is under way.
    pub fn may_make_room(&self) -> bool {
        matches!(self.load(), Load::Light | Load::Large) && !self.is_waiting()
    }

    /// Where it comes from.
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// Whether the key that it showed last was right.
    pub fn has_key(&self) -> bool {
        self.key == KeyShown::Right
    }

    /// Whether it has shown a wrong key since this was last asked.
    pub fn take_wrong_key(&mut self) -> bool {
        let is_wrong = self.key == KeyShown::Wrong;
        if is_wrong {
            self.key = KeyShown::Unknown;
        }
        is_wrong
    }

    /// For how long it has held up a thread of the server behind that has nothing left to do but write.
    pub fn holds_up(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Proxying(_, Proxying::Relaying(_, Left::Bytes(..))) => {
                Some(now.saturating_duration_since(self.since))
            }
            _ => None,
        }
    }

    fn step(&mut self, means: &mut Means, now: Instant) -> io::Result<Step> {
        let Client { leg, reader, state, key, .. } = self;
        match state {
            State::Securing => match leg {
                Own::Tls(tls) => match ready(tls.handshake())? {
                    Some(()) => Ok(Step::On(State::Reading(Buffer::new(0)))),
                    None => Ok(Step::Wait),
                },
                _ => Ok(Step::Leave),
            },
            State::Reading(notice) => {
                let was_empty = reader.is_empty();
                let step = read(leg, reader, notice, means)?;
                // The clock of a request runs from its first byte.
                if was_empty && !reader.is_empty() && !matches!(step, Step::On(_)) {
                    (self.since, self.until) = (now, Some(now + TIMEOUT));
                }
                Ok(step)
            }
            State::Waiting(_) => Ok(Step::Wait),
            State::Proxying(link, Proxying::Handing(buffer, manner)) => Ok(match ready(handed(link, buffer)) {
                Ok(None) => Step::Wait,
                Ok(Some(())) => Step::Further(Proxying::Awaiting(Vec::new(), *manner)),
                Err(_) => Step::On(refused(BROKEN, *manner, means)),
            }),
            State::Proxying(link, Proxying::Awaiting(head, manner)) => {
                Ok(match ready(awaited(link, head, &mut means.scratch)) {
                    Ok(None) => Step::Wait,
                    Ok(Some(None)) => Step::Again,
                    Ok(Some(Some((answered, body)))) => {
                        *key = key.after(answered.verdict);
                        answer(answered, body, *manner, means)
                    }
                    Err(_) => Step::On(refused(BROKEN, *manner, means)),
                })
            }
            State::Proxying(_, Proxying::Relaying(..)) => self.relayed(means, now),
            State::Sending(..) => self.sent(),
            State::Finishing => match ready(leg.stream().finish())? {
                Some(()) => Ok(Step::On(State::Lingering)),
                None => Ok(Step::Wait),
            },
            State::Lingering => {
                let more = ready(leg.stream().fill(&mut means.scratch))?;
                means.clear();
                match more {
                    Some(0) => Ok(Step::Leave),
                    Some(_) => Ok(Step::Again),
                    None => Ok(Step::Wait),
                }
            }
        }
    }

    /// The body passes through; a stream lasts until its reader leaves.
    fn relayed(&mut self, means: &mut Means, now: Instant) -> io::Result<Step> {
        let Client { leg, reader, state, .. } = self;
        let State::Proxying(link, Proxying::Relaying(buffer, left)) = state else { return Ok(Step::Leave) };
        let step = relay(leg, link, buffer, left)?;
        if let (Step::Wait, Left::Stream) = (&step, left) {
            // A stream whose reader has left is not read; one that lasts may end at any time.
            if gone(leg, reader, means)? {
                return Ok(Step::Leave);
            }
            // Only a stream that has something to say can stall.
            let idle = buffer.is_empty() && ready(leg.stream().flush())?.is_some();
            self.until = if idle { None } else { self.until.or(Some(now + STALL)) };
        }
        Ok(step)
    }

    fn sent(&mut self) -> io::Result<Step> {
        let State::Sending(buffer, after) = &mut self.state else { return Ok(Step::Leave) };
        let stream = self.leg.stream();
        let mut moved = false;
        while !buffer.is_empty() {
            match ready(stream.drain(buffer))? {
                Some(_) => moved = true,
                None => return Ok(if moved { Step::Moved } else { Step::Wait }),
            }
        }
        match after {
            After::Closing => Ok(Step::On(State::Finishing)),
            After::Reading => match ready(stream.flush())? {
                Some(()) => Ok(Step::On(State::Reading(Buffer::new(0)))),
                None => Ok(Step::Wait),
            },
        }
    }

    /// A new state begins, and with it its time.
    fn enter(&mut self, state: State, now: Instant) {
        let timeout = match &state {
            State::Reading(_) if self.reader.is_empty() => {
                self.reader.shrink();
                match self.state {
                    State::Securing => TIMEOUT,
                    _ => IDLE,
                }
            }
            State::Securing | State::Reading(_) | State::Waiting(_) => TIMEOUT,
            State::Proxying(_, exchange) => exchange.timeout(),
            State::Sending(..) | State::Finishing => STALL,
            State::Lingering => LINGER,
        };
        (self.state, self.since, self.until) = (state, now, Some(now + timeout));
    }

    /// The exchange has come further, and has its time for that.
    fn go_on(&mut self, exchange: Proxying, now: Instant) {
        let State::Proxying(_, present) = &mut self.state else { return };
        (self.since, self.until) = (now, Some(now + exchange.timeout()));
        *present = exchange;
    }

    /// The client took bytes: it has not stalled.
    fn moved(&mut self, now: Instant) {
        self.until = Some(now + STALL);
    }

    /// Its time is up; what follows, unless it is closed without a word.
    fn late(&self, means: &Means) -> Option<State> {
        match &self.state {
            State::Reading(_) if !self.reader.is_empty() => Some(refused(TOO_SLOW, means.unknown(), means)),
            State::Waiting(request) => Some(refused(BUSY, means.manner(request), means)),
            State::Proxying(_, Proxying::Handing(_, manner) | Proxying::Awaiting(_, manner)) => {
                Some(refused(LATE, *manner, means))
            }
            _ => None,
        }
    }
}

impl Proxying {
    /// How long it may take.
    fn timeout(&self) -> Duration {
        match self {
            Proxying::Handing(..) => TIMEOUT,
            Proxying::Awaiting(..) => ANSWER,
            Proxying::Relaying(..) => STALL,
        }
    }
}

fn refused(refusal: Refusal, manner: Manner, means: &Means) -> State {
    let cors = lines(&means.cors, manner.grant);
    State::Sending(Buffer::holding(refusal.into_bytes(&cors, means.time, manner.only_head)), After::Closing)
}

/// Reads a request.
fn read(leg: &mut Own, reader: &mut Reader, notice: &mut Buffer, means: &mut Means) -> io::Result<Step> {
    let held = reader.held();
    match reader.take_request() {
        Err(refusal) => return Ok(Step::On(refused(refusal, means.unknown(), means))),
        Ok(Progress::Whole(request)) => return Ok(Step::On(State::Waiting(request))),
        Ok(Progress::Expected) => *notice = Buffer::holding(GO_AHEAD.to_vec()),
        Ok(Progress::More) => {}
    }
    if held <= SMALL && reader.held() > SMALL && !means.large {
        return Ok(Step::On(refused(BUSY, means.unknown(), means)));
    }
    ready(drain_all(leg.stream(), notice))?;
    match ready(leg.stream().fill(&mut means.scratch))? {
        Some(0) => Ok(Step::Leave),
        Some(count) => {
            reader.feed(means.scratch.bytes());
            means.scratch.consume(count);
            Ok(Step::Again)
        }
        None => {
            ready(leg.stream().flush())?;
            Ok(Step::Wait)
        }
    }
}

/// Whether the reader of a stream has left. What it says meanwhile is kept for later, within limits.
fn gone(leg: &mut Own, reader: &mut Reader, means: &mut Means) -> io::Result<bool> {
    while reader.has_room() {
        match ready(leg.stream().fill(&mut means.scratch))? {
            Some(0) => return Ok(true),
            Some(count) => {
                reader.feed(means.scratch.bytes());
                means.scratch.consume(count);
            }
            None => break,
        }
    }
    Ok(false)
}

/// What a client that asks before it sends a body is told.
const GO_AHEAD: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A handshake, a whole request, and a request's turn each have to come within this time.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests a client may be silent for so long.
const IDLE: Duration = Duration::from_secs(60);
/// The server behind has so long to begin its answer: more than any route takes.
const ANSWER: Duration = Duration::from_secs(60);
/// A client that takes nothing of its answer for so long has gone.
pub const STALL: Duration = Duration::from_secs(30);
/// After the last answer, what the client still sends is read and thrown away for so long.
const LINGER: Duration = Duration::from_secs(2);
/// Requests of more bytes are large: only a few may come in at once.
pub const SMALL: usize = 16 * 1024;
/// Steps of one client in one turn, each of at most one buffer.
const STEPS: usize = 16;
