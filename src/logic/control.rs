//! The talk with the peer on the control connection: signals, pings, silence, the certificate check.
//!
//! ```text
//!  Unheard --a line under the key--> Proving --its fingerprint is right--> Ready     any --silence, noise, mismatch--> Over
//! ```
//!
//! An original's server begins with Unheard: who only repeats a recorded handshake hears nothing. Without a check it is Ready at once.
//!
//! In: [`heard`](Control::heard), [`tick`](Control::tick), the commands. Out: [`poll`](Control::poll) until `None`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::SessionKeys;
use super::dialect::Dialect;
use super::keepalive::{Beat, Keepalive};
use super::wire::{line_bytes, push_line, BadLine, Fingerprint, Id, Lines, Signal};

/// One side of a control connection. Both roles use the same.
pub struct Control {
    codec: Codec,
    state: State,
    proving: bool,
    lines: Lines,
    /// Lines in a row that could not be read.
    bad: u32,
    /// Lines that could not be read and were not told, and when one was told last.
    untold: (u64, Option<Instant>),
    keepalive: Keepalive,
    asked: Option<Instant>,
    /// Pings that are not answered.
    owed: u32,
    /// The peer understands a goodbye.
    polite: bool,
    /// Until then a client listens before it speaks, so that it speaks as its server does.
    listens: Option<Instant>,
    out: VecDeque<Do>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unheard,
    Proving,
    Ready,
    Ended,
}

/// How signals are written and read.
pub enum Codec {
    /// As an original does: XOR with the tunnel key.
    Masked {
        /// The tunnel key.
        key: Vec<u8>,
        /// How the peer writes signals, as far as it has shown.
        dialect: Dialect,
    },
    /// Each with a number and under the session's key (authenticated tunnels).
    Sealed {
        /// The session's keys.
        keys: Arc<SessionKeys>,
        /// The least number that the next line may have.
        next: u64,
    },
}

impl Codec {
    /// For an authenticated tunnel.
    pub fn sealed(keys: Arc<SessionKeys>) -> Codec {
        Codec::Sealed { keys, next: 0 }
    }

    /// How the peer writes signals; `None` in an authenticated tunnel.
    fn dialect(&self) -> Option<Dialect> {
        match self {
            Codec::Masked { dialect, .. } => Some(*dialect),
            Codec::Sealed { .. } => None,
        }
    }

    fn encode(&self, signal: &Signal, out: &mut Vec<u8>) {
        match self {
            Codec::Masked { key, dialect } => dialect.encode(signal, key, out),
            Codec::Sealed { keys, .. } => {
                let (number, sealed) = keys.seal(&signal.to_json());
                push_line(&[&number.to_be_bytes()[..], &sealed].concat(), out);
            }
        }
    }

    /// Numbers only rise: a line that comes again, or late, is not the peer's.
    fn decode(&mut self, line: &[u8]) -> Result<Signal, BadLine> {
        match self {
            Codec::Masked { key, dialect } => {
                let (signal, shown) = dialect.decode(line, key)?;
                *dialect = shown;
                Ok(signal)
            }
            Codec::Sealed { keys, next } => {
                let bytes = line_bytes(line).map_err(|_| BadLine::Forged)?;
                let (number, sealed) = bytes.split_first_chunk().ok_or(BadLine::Forged)?;
                let number = u64::from_be_bytes(*number);
                let json = keys.open(number, sealed).filter(|_| number >= *next).ok_or(BadLine::Forged)?;
                *next = number.saturating_add(1);
                Signal::parse(&json)
            }
        }
    }
}

/// What the owner of a [`Control`] has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Do {
    /// Send these bytes on the control connection.
    Send(Vec<u8>),
    /// The peer gave a user to pool connection `id`: dial the target.
    Launch {
        /// A UDP session, not a TCP connection.
        udp: bool,
        /// The user's address as the peer wrote it.
        remote: String,
        /// The pool connection.
        id: Id,
    },
    /// The peer states this fingerprint for that connection: see
    /// [`FingerprintCheck`](super::fingerprint::FingerprintCheck), then [`Control::trust`] or [`Control::end`].
    Verify {
        /// The pool connection that the peer took for it.
        id: Id,
        /// What the peer believes.
        fp: String,
    },
    /// Drop all idle pool connections.
    Flush,
    /// The peer finds that pool connection dead: no byte of a user's has come over it.
    Gone(Id),
    /// Bytes have come over that pool connection, which we thought dead.
    Kept(Id),
    /// Nothing of ours has come over that pool connection, and the peer's bytes are not acknowledged.
    Doubt(Id),
    /// A check point: the peer answered, after this round trip.
    Pong(Duration),
    /// The peer has said something under the key: it is who it says.
    Heard,
    /// The peer's certificate is right; users may come in.
    Ready,
    /// So many lines could not be read since this was said last.
    Unreadable {
        /// What is wrong with the last one.
        why: BadLine,
        /// How many there were.
        count: u64,
    },
    /// The server will show this certificate from now on.
    Cert(Fingerprint),
    /// The tunnel has ended.
    Over(Why),
}

/// Why a tunnel ended, in the user's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing was heard for three report intervals.
    Silence(Duration),
    /// Too many lines in a row could not be read.
    Noise,
    /// The peer ended it, and lets the relays go on.
    Goodbye,
    /// A line was not the peer's (authenticated tunnels).
    Forged,
    /// The peer said nothing under the key within this time.
    Unheard(Duration),
    /// The fingerprints differ: a third party sits in the middle.
    Mismatch {
        /// The peer's view.
        peer: String,
        /// Ours.
        own: Fingerprint,
    },
    /// The server gave the tunnel to another client.
    Taken {
        /// The address of that client, if the server says one.
        by: Option<SocketAddr>,
    },
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Silence(time) => write!(f, "nothing heard from the peer for {time:?}"),
            Why::Noise => f.write_str("the peer sends lines that cannot be read: is the key the same on both sides?"),
            Why::Goodbye => f.write_str("the peer says goodbye"),
            Why::Forged => f.write_str("a third party has changed the control connection"),
            Why::Unheard(time) => write!(f, "the client said nothing under the key within {time:?}: was its handshake a recorded one?"),
            Why::Mismatch { peer, own } => write!(
                f,
                "certificate fingerprint mismatch: the peer has {peer}, here it is {own}; a third party may sit in the middle"
            ),
            Why::Taken { by: Some(by) } => write!(f, "another client with this key ({by}) took the tunnel over"),
            Why::Taken { by: None } => f.write_str("another client with this key took the tunnel over"),
        }
    }
}

impl Control {
    /// A control connection that has just opened. `proving` says that users wait until the peer's fingerprint was right.
    pub fn new(codec: Codec, report: Duration, proving: bool, now: Instant) -> Control {
        let mut control = Control::silent(codec, report, proving, now);
        control.begin(now);
        control
    }

    /// The same, which says nothing before the peer has said one line under the key ([`Do::Heard`]).
    pub fn silent(codec: Codec, report: Duration, proving: bool, now: Instant) -> Control {
        Control {
            codec,
            state: State::Unheard,
            proving,
            lines: Lines::default(),
            bad: 0,
            untold: (0, None),
            keepalive: Keepalive::new(report, Duration::ZERO, now),
            asked: None,
            owed: 0,
            polite: false,
            listens: None,
            out: VecDeque::new(),
        }
    }

    /// The same, but for so long at most.
    pub fn listening(codec: Codec, report: Duration, proving: bool, now: Instant) -> Control {
        Control { listens: Some(now + LISTENING), ..Control::silent(codec, report, proving, now) }
    }

    fn begin(&mut self, now: Instant) {
        self.state = if self.proving { State::Proving } else { State::Ready };
        self.listens = None;
        self.ask(now);
    }

    /// Asks whether the peer is there.
    pub fn ask(&mut self, now: Instant) {
        self.keepalive.asked(now);
        self.asked = Some(now);
        self.say(&Signal::Ping);
    }

    /// How the peer writes signals, as far as it has shown; `None` in an authenticated tunnel.
    pub fn dialect(&self) -> Option<Dialect> {
        self.codec.dialect()
    }

    /// Whether the peer has said one line under the key, or need not.
    pub fn is_heard(&self) -> bool {
        self.state != State::Unheard
    }

    /// The peer understands a goodbye: it gets one at the end.
    pub fn polite(self, polite: bool) -> Control {
        Control { polite, ..self }
    }

    /// Whether users may come in.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether all that the peer was asked is answered: what was sent to it before, on whatever connection, has most likely arrived.
    pub fn is_answered(&self) -> bool {
        self.owed == 0
    }

    /// Whether the peer owes the answer to a ping for longer than half of the time between two.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.saturating_duration_since(asked) > self.keepalive.report() / 2)
    }

    /// Bytes came from the peer.
    pub fn heard(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() || self.state == State::Ended {
            return;
        }
        self.keepalive.heard(now);
        self.lines.feed(bytes);
        loop {
            let before = self.dialect();
            let Some(line) = self.lines.next(|line| self.codec.decode(line)) else { break };
            if self.dialect() != before {
                self.understood(now);
            }
            if self.state == State::Unheard && matches!(line, Ok(_) | Err(BadLine::Unknown)) {
                self.out.push_back(Do::Heard);
                self.begin(now);
            }
            match line {
                Ok(signal) => {
                    self.bad = 0;
                    self.apply(signal, now);
                }
                Err(BadLine::Unknown) => self.bad = 0,
                Err(BadLine::Forged) => return self.end(Why::Forged),
                Err(why) => {
                    self.bad += 1;
                    self.tell_unreadable(why, now);
                    if self.bad >= MAX_BAD_LINES {
                        return self.end(Why::Noise);
                    }
                }
            }
        }
    }

    /// The first line that cannot be read is told at once, then how many there were.
    fn tell_unreadable(&mut self, why: BadLine, now: Instant) {
        let (count, told) = &mut self.untold;
        *count += 1;
        if told.is_none_or(|told| now >= told + UNREADABLE) {
            self.out.push_back(Do::Unreadable { why, count: std::mem::take(count) });
            *told = Some(now);
        }
    }

    /// The peer is a 1.13: it states no certificate, and has not understood what was said so far.
    fn understood(&mut self, now: Instant) {
        self.proving = false;
        self.trust();
        if self.state == State::Ready {
            self.ask(now);
        }
    }

    fn apply(&mut self, signal: Signal, now: Instant) {
        match signal {
            Signal::Tcp { remote, id } => self.out.push_back(Do::Launch { udp: false, remote, id }),
            Signal::Udp { remote, id } => self.out.push_back(Do::Launch { udp: true, remote, id }),
            Signal::Ping => self.say(&Signal::Pong),
            Signal::Pong => {
                self.owed = self.owed.saturating_sub(1);
                if let Some(asked) = self.asked.take() {
                    self.out.push_back(Do::Pong(now.saturating_duration_since(asked)));
                }
            }
            Signal::Flush => self.out.push_back(Do::Flush),
            Signal::Gone { id } => self.out.push_back(Do::Gone(id)),
            Signal::Kept { id } => self.out.push_back(Do::Kept(id)),
            Signal::Doubt { id } => self.out.push_back(Do::Doubt(id)),
            Signal::Verify { id, fp } => {
                if let Codec::Masked { dialect, .. } = &mut self.codec {
                    *dialect = dialect.after_statement(&fp);
                }
                self.out.push_back(Do::Verify { id, fp });
            }
            // Only an authenticated peer is believed.
            Signal::Cert { fp } if matches!(self.codec, Codec::Sealed { .. }) => {
                self.out.extend(fp.parse().ok().map(Do::Cert));
            }
            Signal::Cert { .. } => {}
            Signal::Taken { remote } => self.end(Why::Taken { by: remote.parse().ok() }),
            Signal::Goodbye => self.end(Why::Goodbye),
        }
    }

    /// Tells the peer that the tunnel is over and the relays are not. It is said once.
    pub fn goodbye(&mut self) {
        if std::mem::take(&mut self.polite) {
            self.say(&Signal::Goodbye);
        }
    }

    /// Tells the peer that a user took pool connection `id`.
    pub fn launch(&mut self, udp: bool, remote: String, id: Id) {
        self.say(&if udp { Signal::Udp { remote, id } } else { Signal::Tcp { remote, id } });
    }

    /// Tells the peer to drop all idle pool connections.
    pub fn flush(&mut self) {
        self.say(&Signal::Flush);
    }

    /// Tells the peer that pool connection `id` is dead.
    pub fn gone(&mut self, id: Id) {
        self.say(&Signal::Gone { id });
    }

    /// Tells the peer that bytes have come over pool connection `id`.
    pub fn kept(&mut self, id: Id) {
        self.say(&Signal::Kept { id });
    }

    /// Tells the peer that nothing has come over pool connection `id`, and that what was sent over it is not acknowledged.
    pub fn doubt(&mut self, id: Id) {
        self.say(&Signal::Doubt { id });
    }

    /// Tells the peer which certificate we know for connection `id`.
    pub fn prove(&mut self, id: Id, fp: Fingerprint) {
        let fp = self.dialect().map_or_else(|| fp.to_string(), |dialect| dialect.fingerprint(fp));
        self.say(&Signal::Verify { id, fp });
    }

    /// Tells the peer which certificate pool connections will show.
    pub fn cert(&mut self, fp: Fingerprint) {
        self.say(&Signal::Cert { fp: fp.to_string() });
    }

    /// Tells the peer that the client at `by` has its tunnel now.
    pub fn taken(&mut self, by: SocketAddr) {
        self.say(&Signal::Taken { remote: by.to_string() });
    }

    /// The peer's fingerprint is right: users may come in.
    pub fn trust(&mut self) {
        if self.state == State::Proving {
            self.state = State::Ready;
            self.out.push_back(Do::Ready);
        }
    }

    /// Time has passed: pings go out, silence ends the tunnel.
    pub fn tick(&mut self, now: Instant) {
        if self.state == State::Ended {
            return;
        }
        if self.listens.is_some_and(|until| now >= until) {
            self.out.push_back(Do::Heard);
            return self.begin(now);
        }
        match self.keepalive.beat(now) {
            Beat::Silent(time) if self.state == State::Unheard => self.end(Why::Unheard(time)),
            Beat::Ask if self.state == State::Unheard => {}
            Beat::Rest => {}
            Beat::Ask => {
                self.asked.get_or_insert(now);
                self.say(&Signal::Ping);
            }
            Beat::Silent(time) => {
                // A peer that only slept reads it when it wakes.
                self.goodbye();
                self.end(Why::Silence(time));
            }
        }
    }

    /// When to [`tick`](Control::tick) next.
    pub fn deadline(&self) -> Option<Instant> {
        let alive = (self.state != State::Ended).then(|| self.keepalive.deadline());
        alive.into_iter().chain(self.listens).min()
    }

    /// What is to be done, until `None`. Signals in a row come as one `Send`.
    pub fn poll(&mut self) -> Option<Do> {
        self.out.pop_front()
    }

    /// What is to be sent, if that comes next.
    pub fn poll_send(&mut self) -> Option<Vec<u8>> {
        match self.out.front_mut()? {
            Do::Send(bytes) => {
                let bytes = std::mem::take(bytes);
                self.out.pop_front();
                Some(bytes)
            }
            _ => None,
        }
    }

    fn say(&mut self, signal: &Signal) {
        if matches!(self.state, State::Ended | State::Unheard) {
            return;
        }
        self.owed += u32::from(*signal == Signal::Ping);
        if let Some(Do::Send(bytes)) = self.out.back_mut() {
            return self.codec.encode(signal, bytes);
        }
        let mut bytes = Vec::new();
        self.codec.encode(signal, &mut bytes);
        self.out.push_back(Do::Send(bytes));
    }

    /// Nothing is said or understood from here on.
    pub fn end(&mut self, why: Why) {
        self.state = State::Ended;
        self.listens = None;
        self.out.push_back(Do::Over(why));
    }
}

/// So many lines in a row that cannot be read end the tunnel.
const MAX_BAD_LINES: u32 = 64;
/// Lines that cannot be read are told at most this often.
const UNREADABLE: Duration = Duration::from_secs(60);
/// A client waits so long for the first line of an original, which says how it writes.
const LISTENING: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::wire::encode;

    const REPORT: Duration = Duration::from_secs(5);

    fn masked() -> Codec {
        Codec::Masked { key: b"key".to_vec(), dialect: Dialect::Json }
    }

    fn masked_line(signal: &Signal) -> Vec<u8> {
        let mut line = Vec::new();
        masked().encode(signal, &mut line);
        line
    }

    fn pair(proving: bool) -> (Control, Control, Instant) {
        let now = Instant::now();
        (Control::new(masked(), REPORT, proving, now), Control::new(masked(), REPORT, proving, now), now)
    }

    fn drain(control: &mut Control) -> (Vec<u8>, Vec<Do>) {
        let (mut sent, mut rest) = (Vec::new(), Vec::new());
        while let Some(thing) = control.poll() {
            match thing {
                Do::Send(bytes) => sent.extend(bytes),
                other => rest.push(other),
            }
        }
        (sent, rest)
    }

    /// Carries what both say until both are silent; what each has to do.
    fn talk(a: &mut Control, b: &mut Control, now: Instant) -> (Vec<Do>, Vec<Do>) {
        let (mut for_a, mut for_b) = (Vec::new(), Vec::new());
        loop {
            let ((from_a, mut do_a), (from_b, mut do_b)) = (drain(a), drain(b));
            for_a.append(&mut do_a);
            for_b.append(&mut do_b);
            if from_a.is_empty() && from_b.is_empty() {
                return (for_a, for_b);
            }
            b.heard(&from_a, now);
            a.heard(&from_b, now);
        }
    }

    #[test]
    fn the_first_line_that_cannot_be_read_is_told_and_then_counts() {
        let now = Instant::now();
        let mut control = Control::new(masked(), REPORT, false, now);
        let told = |control: &mut Control, lines: usize, now| {
            for _ in 0..lines {
                control.heard(b"!!!\n", now);
            }
            control.heard(&masked_line(&Signal::Ping), now);
            let counts = std::iter::from_fn(|| control.poll()).filter_map(|thing| match thing {
                Do::Unreadable { count, .. } => Some(count),
                _ => None,
            });
            counts.collect::<Vec<u64>>()
        };
        assert_eq!(told(&mut control, 10, now), [1]);
        assert!(told(&mut control, 10, now + UNREADABLE - REPORT).is_empty());
        assert_eq!(told(&mut control, 1, now + UNREADABLE), [20]);
    }

    #[test]
    fn all_is_answered_when_the_last_ping_is() {
        let now = Instant::now();
        let mut control = Control::new(masked(), REPORT, false, now);
        control.ask(now);
        control.heard(&masked_line(&Signal::Pong), now);
        assert!(!control.is_answered());
        control.heard(&masked_line(&Signal::Pong), now);
        assert!(control.is_answered());
    }

    #[test]
    fn both_sides_ping_at_once_and_then_every_report_interval() {
        let (mut a, mut b, now) = pair(false);
        let (for_a, for_b) = talk(&mut a, &mut b, now + Duration::from_millis(7));
        assert_eq!(for_a, [Do::Pong(Duration::from_millis(7))]);
        assert_eq!(for_b, for_a);
        assert_eq!(a.deadline(), Some(now + REPORT));
        a.tick(now + REPORT / 2);
        assert_eq!(a.poll(), None);
        a.tick(now + REPORT);
        assert!(matches!(a.poll(), Some(Do::Send(_))));
    }

    #[test]
    fn three_report_intervals_of_silence_end_the_tunnel_and_pings_alone_do_not_prevent_it() {
        let (mut a, _, now) = pair(false);
        for n in 1..3 {
            a.tick(now + n * REPORT);
        }
        a.tick(now + 3 * REPORT);
        assert_eq!(drain(&mut a).1, [Do::Over(Why::Silence(3 * REPORT))]);
        assert_eq!(a.deadline(), None);
        a.heard(b"x\n", now + 4 * REPORT);
        assert_eq!(a.poll(), None);
    }

    #[test]
    fn a_launch_reaches_the_other_side() {
        let (mut a, mut b, now) = pair(false);
        a.launch(true, "[::1]:9".into(), Id([1, 2, 3, 4]));
        let (_, for_b) = talk(&mut a, &mut b, now);
        assert!(for_b.contains(&Do::Launch { udp: true, remote: "[::1]:9".into(), id: Id([1, 2, 3, 4]) }));
    }

    #[test]
    fn a_wrong_key_is_noise_and_ends_the_tunnel_only_after_many_lines() {
        let now = Instant::now();
        let mut a = Control::new(masked(), REPORT, false, now);
        drain(&mut a);
        for _ in 1..MAX_BAD_LINES {
            a.heard(b"!!!\n", now);
        }
        assert_eq!(a.poll(), Some(Do::Unreadable { why: BadLine::Encoding, count: 1 }));
        assert_eq!(a.poll(), None);
        a.heard(b"!!!\n", now);
        assert_eq!(a.poll(), Some(Do::Over(Why::Noise)));
    }

    #[test]
    fn users_are_served_once_the_fingerprint_is_right_and_a_mismatch_ends_the_tunnel() {
        let (mut a, _, _) = pair(true);
        drain(&mut a);
        assert!(!a.is_ready());
        a.trust();
        a.trust();
        assert_eq!((a.poll(), a.poll(), a.is_ready()), (Some(Do::Ready), None, true));
        let why = Why::Mismatch { peer: "x".into(), own: Fingerprint::of(b"own") };
        a.end(why.clone());
        assert_eq!((a.poll(), a.poll(), a.deadline()), (Some(Do::Over(why)), None, None));
    }

    #[test]
    fn a_client_whose_tunnel_was_taken_over_is_told_by_whom() {
        let (mut a, mut b, now) = pair(false);
        let by = "192.0.2.7:5000".parse().unwrap();
        a.taken(by);
        let (_, for_b) = talk(&mut a, &mut b, now);
        assert!(for_b.contains(&Do::Over(Why::Taken { by: Some(by) })));
    }

    #[test]
    fn a_side_that_gives_up_says_goodbye_to_a_peer_that_understands_it() {
        for polite in [false, true] {
            let (a, mut b, now) = pair(false);
            let mut a = a.polite(polite);
            (1..=3).for_each(|n| a.tick(now + n * REPORT));
            b.heard(&drain(&mut a).0, now + 4 * REPORT);
            let said = drain(&mut b).1.contains(&Do::Over(Why::Goodbye));
            assert_eq!(said, polite);
        }
    }

    #[test]
    fn a_client_listens_first_and_writes_as_its_server_does() {
        let now = Instant::now();
        let said = |control: &mut Control| match control.poll() {
            Some(Do::Send(bytes)) => bytes,
            other => panic!("{other:?}"),
        };
        let line = |signal: &Signal, dialect: Dialect| {
            let mut line = Vec::new();
            dialect.encode(signal, b"key", &mut line);
            line
        };
        let mut client = Control::listening(masked(), REPORT, true, now);
        assert_eq!((client.poll(), client.deadline()), (None, Some(now)));
        client.tick(now);
        assert_eq!(client.poll(), None, "it listens");
        client.heard(&line(&Signal::Ping, Dialect::Url), now);
        assert_eq!(client.poll(), Some(Do::Heard));
        let ping_and_pong = [line(&Signal::Ping, Dialect::Url), line(&Signal::Pong, Dialect::Url)].concat();
        assert_eq!(said(&mut client), ping_and_pong);
        assert!(client.is_ready(), "no certificate is stated");

        let mut client = Control::listening(masked(), REPORT, true, now);
        client.tick(now + LISTENING);
        assert_eq!(client.poll(), Some(Do::Heard));
        assert_eq!(said(&mut client), line(&Signal::Ping, Dialect::Json));
        client.heard(&line(&Signal::Ping, Dialect::Url), now + REPORT);
        assert_eq!(client.poll(), Some(Do::Ready));
        assert_eq!(said(&mut client), ping_and_pong, "once more, in the right form");
    }

    #[test]
    fn a_server_of_an_original_says_nothing_before_the_client_has_said_a_line_under_the_key() {
        let now = Instant::now();
        let mut server = Control::silent(masked(), REPORT, true, now);
        server.tick(now + REPORT);
        server.prove(Id([1; 4]), Fingerprint::of(b"own"));
        server.heard(b"AAAA\n", now);
        assert_eq!(server.poll(), Some(Do::Unreadable { why: BadLine::Json, count: 1 }));
        assert!(server.poll().is_none() && !server.is_heard());
        let mut line = Vec::new();
        encode(&Signal::Ping, b"key", &mut line);
        server.heard(&line, now + REPORT);
        assert_eq!((server.poll(), server.is_heard(), server.is_ready()), (Some(Do::Heard), true, false));
        let Some(Do::Send(said)) = server.poll() else { panic!("nothing said") };
        assert_eq!(said.split(|byte| *byte == b'\n').count(), 2 + 1, "a ping of its own, at once, and the pong");
        let mut silent = Control::silent(masked(), REPORT, false, now);
        silent.tick(now);
        silent.tick(now + REPORT);
        silent.tick(now + 2 * REPORT);
        silent.tick(now + 3 * REPORT);
        assert_eq!(silent.poll(), Some(Do::Over(Why::Unheard(3 * REPORT))));
    }

    #[test]
    fn a_flood_of_pongs_makes_one_check_point_a_ping() {
        let (mut a, _, now) = pair(false);
        drain(&mut a);
        let mut flood = Vec::new();
        for _ in 0..1000 {
            encode(&Signal::Pong, b"key", &mut flood);
        }
        a.heard(&flood, now);
        assert_eq!(drain(&mut a).1.len(), 1);
    }
}
