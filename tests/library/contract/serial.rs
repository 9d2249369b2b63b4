//! Connections that carry one stream after another: the other end takes the pieces apart by itself.

use std::io::{ErrorKind, Read, Write};

use super::far::Far;
#[cfg(feature = "ws")]
use super::websocket::{ws, Socket};
use super::*;
use nodepass::logic::serial::Renewed;
use nodepass::net::serial::{Serial, Successive};

/// A connection of many streams, over that one.
pub fn serial<F: Far>(rig: Rig<F>) -> Rig<Pieces<F>> {
    let Rig { poll, leg, listener, far, buffer, heard } = rig;
    let leg = match leg {
        LocalEnd::Own(Own::Tcp(tcp)) => Serial::plain(tcp),
        LocalEnd::Own(Own::Tls(tls)) => Serial::sealed(tls),
        _ => unreachable!(),
    };
    let leg = LocalEnd::Own(Own::Serial(Box::new(leg)));
    Rig {
        poll,
        leg,
        listener,
        far: Pieces { far, out: Vec::new(), raw: Vec::new(), said: Said::Nothing },
        buffer,
        heard,
    }
}

/// The other end of such a connection.
pub struct Pieces<F> {
    far: F,
    out: Vec<u8>,
    /// What has come and is no whole piece yet.
    raw: Vec<u8>,
    said: Said,
}

/// What was heard last that is no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// And how much was passed on, where that was told.
    End(Option<u64>),
    /// The rest of the connection is one stream's.
    Rest,
    Next,
}

impl<F: Far> Pieces<F> {
    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.push();
    }

    fn push(&mut self) {
        let count = self.far.say(&self.out);
        self.out.drain(..count);
    }

    /// The stream's bytes so far, and whether the connection has ended.
    fn take(&mut self, into: &mut Vec<u8>) -> bool {
        let over = self.far.hear(&mut self.raw);
        loop {
            if self.said == Said::Rest {
                into.append(&mut self.raw);
            }
            let [high, low, ..] = self.raw[..] else { return over };
            let count = usize::from(u16::from_be_bytes([high, low]));
            let behind = match count {
                0 | 0xfffe | 0xffff => 0,
                0xfffd => 8,
                count => count,
            };
            let Some(rest) = self.raw.get(2..2 + behind) else { return over };
            match count {
                0 => self.said = Said::End(None),
                0xfffd => self.said = Said::End(Some(u64::from_be_bytes(rest.try_into().unwrap()))),
                0xfffe => self.said = Said::Rest,
                0xffff => {
                    assert!(matches!(self.said, Said::End(_)), "the next stream before the end of this one");
                    self.said = Said::Next;
                }
                _ => into.extend_from_slice(rest),
            }
            self.raw.drain(..2 + behind);
        }
    }
}

impl<F: Far> Far for Pieces<F> {
    fn say(&mut self, bytes: &[u8]) -> usize {
        self.push();
        if !self.out.is_empty() || bytes.is_empty() {
            return 0;
        }
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.put(&[&(piece.len() as u16).to_be_bytes(), piece].concat());
        piece.len()
    }

    fn hear(&mut self, into: &mut Vec<u8>) -> bool {
        self.push();
        self.take(into) || matches!(self.said, Said::End(_))
    }

    fn end(&mut self) {
        self.put(&[0, 0]);
        assert!(self.out.is_empty());
    }

    fn reset(&mut self) {
        self.far.reset();
    }
}

/// The other end of a connection on which one stream follows another.
trait Partner: Far {
    /// The next stream begins.
    fn begin(&mut self);
    /// Says that it is through with a stream.
    fn next(&mut self);
    /// Whether it has heard that we are.
    fn has_next(&mut self) -> bool;
    /// Ends, and tells how much it has passed on.
    fn end_telling(&mut self, count: u64);
    /// How much our end told.
    fn told(&self) -> Option<u64>;
}

impl<F: Far> Partner for Pieces<F> {
    fn begin(&mut self) {
        self.said = Said::Nothing;
    }

    fn next(&mut self) {
        self.put(&[0xff, 0xff]);
    }

    fn has_next(&mut self) -> bool {
        self.take(&mut Vec::new());
        self.said == Said::Next
    }

    fn end_telling(&mut self, count: u64) {
        self.put(&[&[0xff, 0xfd][..], &count.to_be_bytes()].concat());
    }

    fn told(&self) -> Option<u64> {
        let Said::End(told) = self.said else { return None };
        told
    }
}

#[cfg(feature = "ws")]
impl<F: Far + Read + Write> Partner for Socket<F> {
    fn begin(&mut self) {
        (self.ends, self.told) = (0, None);
    }

    fn next(&mut self) {
        self.end();
    }

    fn has_next(&mut self) -> bool {
        self.heard(&mut Vec::new()).unwrap();
        self.ends == 2
    }

    fn end_telling(&mut self, count: u64) {
        self.end_with(&format!("{count:016x}"));
    }

    fn told(&self) -> Option<u64> {
        self.told
    }
}

fn successive<F: Far>(rig: &mut Rig<F>) -> &mut dyn Successive {
    match &mut rig.leg {
        LocalEnd::Own(Own::Serial(serial)) => &mut **serial,
        #[cfg(feature = "ws")]
        LocalEnd::Own(Own::Ws(ws)) => {
            ws.carry_many();
            ws.successive().unwrap()
        }
        _ => unreachable!(),
    }
}

/// A stream with bytes both ways, whose ends come in either order.
fn stream<F: Far>(rig: &mut Rig<F>, round: usize, ours_first: bool) {
    assert!(!successive(rig).is_over());
    rig.say(&message(round, 300));
    assert_eq!(rig.filled(302), message(round, 300));
    rig.drain_all(&message(round + 50, 200));
    assert_eq!(rig.heard(202), message(round + 50, 200));
    if ours_first {
        rig.finish();
        rig.far.end();
        rig.their_end();
    } else {
        rig.far.end();
        rig.their_end();
        rig.finish();
    }
    assert!(successive(rig).is_over());
}

fn one_stream_follows_another<F: Partner>(mut rig: Rig<F>) {
    for round in 0..6 {
        stream(&mut rig, round, round % 2 == 0);
        if round % 3 == 0 {
            successive(&mut rig).renew().unwrap();
            rig.until("to hear that we are through", |rig| rig.far.has_next().then_some(()));
        } else {
            rig.until("our end", |rig| rig.far.hear(&mut Vec::new()).then_some(()));
            assert_eq!(successive(&mut rig).renewed().unwrap(), None, "nobody has said so");
            rig.far.next();
            rig.until("the next stream", |rig| successive(rig).renewed().unwrap());
        }
        rig.far.begin();
    }
}

#[test]
fn streams_follow_each_other_whoever_ends_first() {
    one_stream_follows_another(serial(tcp()));
    one_stream_follows_another(serial(tls_server(POOL, &TLS13)));
    one_stream_follows_another(serial(tls_client()));
    #[cfg(feature = "ws")]
    {
        one_stream_follows_another(ws(tcp(), End::Server));
        one_stream_follows_another(ws(tls_client(), End::Client));
    }
}

/// Ours is the egress, whose end tells that it has passed all on: the next stream may follow at once.
fn an_end_that_tells_all_is_the_last_word<F: Partner>(mut rig: Rig<F>) {
    for round in 0..4 {
        let (all_but, count) = ([0, 0, 7, 0][round], 300);
        rig.say(&message(round, count));
        assert_eq!(rig.filled(count + 2), message(round, count));
        successive(&mut rig).passed_on(all_but);
        // The end goes with the last bytes, or alone.
        let with_bytes = round == 1;
        if with_bytes {
            rig.leg.lend().ends_with();
        }
        rig.drain_all(&message(round + 50, 200));
        let mut heard = Vec::new();
        if !with_bytes {
            heard = rig.heard(202);
            rig.finish();
        }
        rig.until("our end", |rig| rig.far.hear(&mut heard).then_some(()));
        rig.until("our finish", |rig| ready(rig.leg.lend().finish()).unwrap());
        assert_eq!(heard, message(round + 50, 200));
        assert_eq!(rig.far.told(), Some((count + 2 - all_but) as u64));
        let told_all = all_but == 0;
        rig.far.end();
        if told_all {
            // Which comes in one piece with the end.
            rig.say(&message(round + 10, 100));
        }
        rig.their_end();
        assert!(successive(&mut rig).is_over());
        successive(&mut rig).renew().unwrap();
        if told_all {
            assert!(!rig.far.has_next(), "that was told before");
            rig.far.begin();
            assert_eq!(rig.filled(102), message(round + 10, 100));
            rig.drain_all(b"x");
            assert_eq!(rig.heard(1), b"x");
            rig.far.end();
            rig.their_end();
            rig.finish();
            rig.until("our end", |rig| rig.far.hear(&mut Vec::new()).then_some(()));
            successive(&mut rig).renew().unwrap();
        }
        rig.until("to hear that we are through", |rig| rig.far.has_next().then_some(()));
        rig.far.begin();
    }
}

/// Ours is the ingress: it goes on at once where the other end has told that it has passed all on.
fn who_is_told_all_waits_for_nothing<F: Partner>(mut rig: Rig<F>) {
    for (round, short) in [0, 0, 5, 5].into_iter().enumerate() {
        rig.drain_all(&message(round, 200));
        assert_eq!(rig.heard(202), message(round, 200));
        let behind = (round as u64 & 1) << 63;
        rig.far.end_telling((202 - short) | behind);
        rig.their_end();
        rig.finish();
        let renewed = Some(Renewed { behind: round % 2 == 1 });
        assert_eq!(successive(&mut rig).renewed().unwrap(), renewed.filter(|_| short == 0));
        rig.until("our end", |rig| rig.far.hear(&mut Vec::new()).then_some(()));
        if short > 0 {
            rig.far.next();
            assert_eq!(Some(rig.until("the next stream", |rig| successive(rig).renewed().unwrap())), renewed);
        }
        rig.far.begin();
    }
}

#[test]
fn where_nothing_is_on_its_way_at_the_end_the_next_stream_follows_at_once() {
    an_end_that_tells_all_is_the_last_word(serial(tcp()));
    an_end_that_tells_all_is_the_last_word(serial(tls_server(POOL, &TLS13)));
    who_is_told_all_waits_for_nothing(serial(tcp()));
    who_is_told_all_waits_for_nothing(serial(tls_client()));
    #[cfg(feature = "ws")]
    {
        an_end_that_tells_all_is_the_last_word(many(ws(tcp(), End::Server)));
        an_end_that_tells_all_is_the_last_word(many(ws(tls_client(), End::Client)));
        who_is_told_all_waits_for_nothing(many(ws(tcp(), End::Server)));
        who_is_told_all_waits_for_nothing(many(ws(tls_client(), End::Client)));
    }
}

/// A WebSocket on which streams follow each other.
#[cfg(feature = "ws")]
fn many<F: Far>(mut rig: Rig<F>) -> Rig<F> {
    successive(&mut rig);
    rig
}

#[test]
fn the_last_bytes_take_their_end_along_and_what_has_come_tells_of_one() {
    let mut rig = serial(tls_client());
    assert!(!rig.leg.lend().is_ending());
    let bytes = message(1, 200);
    rig.far.put(&[&[0, 202][..], &bytes, &[0, 0]].concat());
    assert_eq!(rig.filled(202), bytes);
    assert!(rig.leg.lend().is_ending());
    rig.their_end();

    rig.leg.lend().ends_with();
    rig.drain_all(&message(2, 200));
    let mut heard = Vec::new();
    rig.until("the end with them", |rig| rig.far.hear(&mut heard).then_some(()));
    assert_eq!(heard, message(2, 200));
    rig.until("our finish", |rig| ready(rig.leg.lend().finish()).unwrap());
    assert!(successive(&mut rig).is_over());
    // The next stream's bytes do not.
    successive(&mut rig).renew().unwrap();
    rig.until("to hear that we are through", |rig| rig.far.has_next().then_some(()));
    rig.far.begin();
    stream(&mut rig, 3, true);
}

#[test]
fn what_comes_between_two_streams_and_is_no_next_one_ends_the_connection() {
    fn ends(act: impl FnOnce(&mut Pieces<far::Session>), kind: ErrorKind) {
        let mut rig = serial(tls_client());
        stream(&mut rig, 1, true);
        act(&mut rig.far);
        let error = rig.until("an error", |rig| successive(rig).renewed().err());
        assert_eq!(error.kind(), kind, "{error}");
    }
    ends(|far| assert_eq!(far.say(b"too early"), 9), ErrorKind::InvalidData);
    ends(|far| far.put(&[0, 0]), ErrorKind::InvalidData);
    ends(|far| far.far.end(), ErrorKind::UnexpectedEof);
    ends(|far| far.far.reset(), ErrorKind::ConnectionReset);
    #[cfg(feature = "ws")]
    {
        let mut rig = ws(tcp(), End::Server);
        stream(&mut rig, 1, true);
        assert_eq!(rig.far.say(b"too early"), 9);
        let error = rig.until("an error", |rig| successive(rig).renewed().err());
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    }
}

#[test]
fn nobody_follows_where_one_side_is_not_through_or_the_connection_has_ended() {
    let mut rig = serial(tls_server(POOL, &TLS13));
    rig.finish();
    assert_eq!(successive(&mut rig).renew().unwrap_err().kind(), ErrorKind::InvalidData);
    // An end of all is an end of the stream, too.
    rig.far.far.end();
    rig.their_end();
    assert!(!successive(&mut rig).is_over());
}

#[test]
fn much_in_the_clear_and_datagrams_have_the_rest_of_the_connection() {
    fn said<F: Far>(mut rig: Rig<Pieces<F>>, count: usize) -> Said {
        for bytes in flow(0, count).chunks(PIECE) {
            rig.drain_all(bytes);
            assert_eq!(rig.heard(bytes.len()), bytes);
        }
        rig.far.said
    }
    assert_eq!(said(serial(tcp()), 64 * 1024), Said::Nothing);
    assert_eq!(said(serial(tcp()), 200 * 1024), Said::Rest);
    assert_eq!(said(serial(tls_client()), 200 * 1024), Said::Nothing);
    let mut rig = serial(tls_client());
    successive(&mut rig).keep_to_one();
    assert_eq!(said(rig, 1), Said::Rest);
}

/// Bytes of a piece: not those of a record, nor of a buffer.
const PIECE: usize = 10_000;
