//! A simulated world: two far peers that fall asleep and wake greedy, and a scheduler that pumps only when it is told to.
//!
//! ```text
//!   far peer -- arriving --> [ Fake a ] == Half x 2 == [ Fake b ] <-- arriving -- far peer
//!            <-- leaving ---                                       --- leaving -->
//! ```
//!
//! Readiness is remembered as a socket does it: `WouldBlock` clears it, and only an edge that was delivered brings it back.
//! So a wake-up that gets lost is a world in which nothing can happen any more, and the message names its seed.

use super::*;
use crate::net::stream::{would_block, LARGE};
use crate::testing::Dice;
use end::*;

mod end;

#[test]
fn every_byte_arrives_once_and_in_order_however_the_ends_sleep_and_wake() {
    for seed in 0..SEEDS {
        World::new(seed, |_| {}).run().expect("no stream breaks here");
    }
}

#[test]
fn an_end_that_takes_only_whole_frames_does_not_stop_the_relay() {
    for seed in 0..SEEDS {
        World::new(seed, |world| world.frames(4)).run().expect("no stream breaks here");
    }
}

#[test]
fn what_filling_makes_is_sent_even_when_that_direction_has_ended() {
    for seed in 0..SEEDS {
        let credits = |world: &mut World| {
            for end in [&mut world.a, &mut world.b] {
                end.credit = Some(Credit { allowed: end.window, owed: 0, outlives_finish: true });
            }
        };
        World::new(seed, credits).run().expect("no stream breaks here");
    }
}

#[test]
fn a_broken_stream_ends_the_relay_with_its_own_reason() {
    let mut broken = 0;
    for seed in 0..SEEDS {
        let breaks = |world: &mut World| {
            let when = world.chance.below(60);
            let end = if world.chance.one_in(2) { &mut world.a } else { &mut world.b };
            end.breaks_after = Some(when);
        };
        match World::new(seed, breaks).run() {
            Ok(()) => {}
            Err(kind) => {
                assert_eq!(kind, ErrorKind::ConnectionReset, "seed {seed}");
                broken += 1;
            }
        }
    }
    assert!(broken > SEEDS / 4, "only {broken} of {SEEDS} worlds broke");
}

#[test]
fn one_direction_ends_and_the_other_lives_on() {
    let (mut a, mut b) = (Fake::awake(0, 64), Fake::awake(0, 64));
    let (mut forth, mut back, mut stores) = (Half::default(), Half::default(), Stores::new(16, false));
    a.fin = true;
    forth.pump(&mut a, &mut b, 1000, &mut stores).unwrap();
    assert!(forth.is_closed() && b.finished);
    b.arriving.extend(*b"late answer");
    let pumped = back.pump(&mut b, &mut a, 1000, &mut stores).unwrap();
    assert_eq!(pumped, Pumped { moved: 11, again: false });
    assert_eq!(a.leaving, *b"late answer");
    assert!(!back.is_closed() && !a.finished);
}

#[test]
fn a_sink_that_takes_nothing_stops_the_source_from_being_asked() {
    let (mut source, mut sink) = (Fake::awake(1 << 20, 1 << 20), Fake::awake(0, 0));
    let (mut half, mut stores) = (Half::default(), Stores::new(64, false));
    source.say();
    let first = half.pump(&mut source, &mut sink, 1 << 16, &mut stores).unwrap();
    assert_eq!(first, Pumped { moved: 64, again: false });
    let asked = source.fills;
    let second = half.pump(&mut source, &mut sink, 1 << 16, &mut stores).unwrap();
    assert_eq!((second, source.fills), (Pumped::default(), asked));
}

#[test]
fn a_relay_that_is_idle_holds_no_memory() {
    let (mut a, mut b) = (Fake::awake(0, 64), Fake::awake(0, 64));
    let (mut half, mut stores) = (Half::default(), Stores::new(16, false));
    half.pump(&mut a, &mut b, 1000, &mut stores).unwrap();
    assert!(matches!(half.conduit, Conduit::Empty), "nothing came");
    a.arriving.extend([7; 40]);
    a.readable = true;
    half.pump(&mut a, &mut b, 1000, &mut stores).unwrap();
    assert_eq!(b.leaving.len(), 40);
    assert!(matches!(half.conduit, Conduit::Empty), "all has gone");
}

#[test]
fn first_bytes_that_are_known_go_first_and_do_not_make_later_reads_small() {
    let (mut a, mut b) = (Fake::awake(1 << 16, 1 << 16), Fake::awake(0, 1 << 20));
    let mut half = Half::starting_with(b"PROXY".to_vec());
    let mut stores = Stores::new(1 << 12, false);
    a.say();
    half.pump(&mut a, &mut b, 1 << 20, &mut stores).unwrap();
    assert_eq!(b.leaving.iter().take(5).copied().collect::<Vec<_>>(), *b"PROXY");
    assert_eq!(b.leaving.len(), 5 + (1 << 16));
    assert!(a.fills <= 24, "{} reads for 64 KiB through buffers of 4 KiB", a.fills);
}

#[test]
fn much_at_a_time_goes_through_a_large_buffer_and_little_through_a_usual_one() {
    let (mut a, mut b) = (Fake::awake(1 << 20, 1 << 20), Fake::awake(0, 2 << 20));
    let (mut half, mut stores) = (Half::default(), Stores::new(1 << 10, false).with_large(1));
    a.say();
    a.fin = false;
    half.pump(&mut a, &mut b, 2 << 20, &mut stores).unwrap();
    assert!(a.fills <= 1 + (1 << 20) / LARGE + 1, "{} reads for a megabyte", a.fills);
    assert!(matches!(half.conduit, Conduit::Empty) && half.bulk);

    a.arriving.extend([7; 100]);
    a.readable = true;
    half.pump(&mut a, &mut b, 2 << 20, &mut stores).unwrap();
    assert!(!half.bulk, "a hundred bytes are little");
}

#[test]
fn large_buffers_are_few_and_relays_beyond_them_go_on_with_usual_ones() {
    let mut stores = Stores::new(1 << 10, false).with_large(1);
    let mut stuck = [(); 2].map(|()| {
        let (mut source, mut sink) = (Fake::awake(1 << 20, 1 << 20), Fake::awake(0, 1 << 10));
        let mut half = Half::default();
        source.say();
        let pumped = half.pump(&mut source, &mut sink, 1 << 19, &mut stores).unwrap();
        (half, pumped.moved)
    });
    assert_eq!(stuck.each_ref().map(|(_, moved)| *moved), [(1 << 10) + LARGE, 2 << 10]);
    // One whose relay ends, while its bytes wait, is another's.
    stuck[0].0 = Half::default();
    assert!(matches!(stores.conduit(false, true), Conduit::Memory(buffer) if buffer.size() == LARGE));
}

#[test]
fn a_budget_that_ran_out_is_told_and_one_that_did_not_is_not() {
    let (mut a, mut b) = (Fake::awake(100, 1000), Fake::awake(0, 1000));
    let (mut half, mut stores) = (Half::default(), Stores::new(16, false));
    a.say();
    a.fin = false;
    let first = half.pump(&mut a, &mut b, 50, &mut stores).unwrap();
    assert!(first.again && (50..66).contains(&first.moved), "{first:?}");
    let second = half.pump(&mut a, &mut b, 1000, &mut stores).unwrap();
    assert_eq!(second, Pumped { moved: 100 - first.moved, again: false });
}

#[test]
fn a_flood_of_tiny_pieces_and_one_without_any_leave_the_others_their_turn() {
    for (piece, moved) in [(Some(b'x'), MAX_FILLS), (None, 0)] {
        let (mut flood, mut sink) = (Flood { piece, fills: 0 }, Fake::awake(0, 1 << 20));
        let (mut half, mut stores) = (Half::default(), Stores::new(16, false));
        let pumped = half.pump(&mut flood, &mut sink, 1 << 20, &mut stores).unwrap();
        assert_eq!(pumped, Pumped { moved, again: true });
        assert!(flood.fills <= MAX_FILLS && sink.leaving.len() == moved, "{} fills", flood.fills);
    }
}

/// A source that never runs dry: of single bytes, or of what has no byte in it.
struct Flood {
    piece: Option<u8>,
    fills: usize,
}

impl Stream for Flood {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        self.fills += 1;
        match self.piece {
            Some(byte) => Ok(into.append(&[byte])),
            None => Err(ErrorKind::Interrupted.into()),
        }
    }

    fn drain(&mut self, _: &mut Buffer) -> io::Result<usize> {
        would_block()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// ---- the world ------------------------------------------------------------------------------------------------------

/// Two far peers, the relay between them, and what a worker would know of it.
struct World {
    seed: u64,
    chance: Dice,
    a: Fake,
    b: Fake,
    forth: Half,
    back: Half,
    stores: Stores,
    size: usize,
    /// The relay is to be pumped: a budget ran out, or there was none.
    ready: bool,
}

impl World {
    /// A world that follows from its seed; `change` makes it a special one.
    fn new(seed: u64, change: impl FnOnce(&mut World)) -> World {
        let mut chance = Dice::of(seed);
        let size = 1 + chance.below(64);
        let (mut a, mut b) = (Fake::new(&mut chance), Fake::new(&mut chance));
        match chance.below(4) {
            0 => a.answers = true,
            1 => b.answers = true,
            _ => {}
        }
        let mut half = |from: &mut Fake| {
            let known = if chance.one_in(3) { chance.below(20).min(from.to_say) } else { 0 };
            (from.said, from.taken) = (known, known);
            Half::starting_with((0..known).map(pattern).collect())
        };
        let (forth, back) = (half(&mut a), half(&mut b));
        let stores = Stores::new(size, false);
        let mut world = World { seed, chance, a, b, forth, back, stores, size, ready: true };
        change(&mut world);
        world
    }

    /// `b` takes whole frames of that many bytes only, as a UDP session does.
    fn frames(&mut self, grain: usize) {
        self.size = self.size.max(grain);
        self.stores = Stores::new(self.size, false);
        self.b.grain = grain;
        self.b.hold = 0;
        self.b.window = self.b.window.max(grain);
        self.a.to_say = self.a.to_say.next_multiple_of(grain);
        // Known first bytes are never part of a datagram.
        self.forth = Half::default();
        (self.a.said, self.a.taken) = (0, 0);
    }

    /// Lets things happen, in any order, until both directions have ended; the error if a stream broke.
    fn run(mut self) -> Result<(), ErrorKind> {
        for _ in 0..MAX_STEPS {
            if self.is_over() {
                self.check_the_end();
                return Ok(());
            }
            assert!(self.can_go_on(), "seed {}: it hangs: {}", self.seed, self.story());
            self.step()?;
        }
        panic!("seed {}: it never ends: {}", self.seed, self.story());
    }

    fn step(&mut self) -> Result<(), ErrorKind> {
        match self.chance.below(8) {
            0 | 1 => self.a.live(),
            2 | 3 => self.b.live(),
            4 | 5 if self.a.deliver() | self.b.deliver() => self.pump()?,
            6 if self.ready => self.pump()?,
            // An edge may be spurious.
            7 if self.chance.one_in(8) => {
                let end = if self.chance.one_in(2) { &mut self.a } else { &mut self.b };
                (end.readable, end.writable) = (true, true);
                self.pump()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What a worker does when it is told: both directions, once.
    fn pump(&mut self) -> Result<(), ErrorKind> {
        let mut budget = || if self.chance.one_in(10) { 0 } else { 1 + self.chance.below(200) };
        let budgets = [budget(), budget()];
        let forth = self.forth.pump(&mut self.a, &mut self.b, budgets[0], &mut self.stores);
        let forth = forth.map_err(|error| error.kind())?;
        let back = self.back.pump(&mut self.b, &mut self.a, budgets[1], &mut self.stores);
        let back = back.map_err(|error| error.kind())?;
        self.ready = forth.again || back.again || budgets.contains(&0);
        self.check([(forth, budgets[0]), (back, budgets[1])]);
        Ok(())
    }

    /// What must be true after every pump.
    fn check(&self, pumped: [(Pumped, usize); 2]) {
        for (pumped, budget) in pumped {
            assert!(budget > 0 || pumped.moved == 0, "seed {}: {pumped:?} of nothing", self.seed);
            assert!(pumped.moved < budget.max(1) + self.size.max(KNOWN), "seed {}: {pumped:?} of {budget}", self.seed);
            assert!(!pumped.again || pumped.moved >= budget, "seed {}: {pumped:?} of {budget}", self.seed);
        }
        for (half, from, to) in [(&self.forth, &self.a, &self.b), (&self.back, &self.b, &self.a)] {
            let waiting = from.taken - to.given;
            assert!(waiting <= self.size.max(KNOWN), "seed {}: {waiting} bytes wait", self.seed);
            let rests = matches!(half.conduit, Conduit::Empty);
            assert_eq!(rests, waiting == 0, "seed {}: {waiting} bytes wait and memory is held: {}", self.seed, !rests);
        }
    }

    fn check_the_end(&self) {
        for (from, to) in [(&self.a, &self.b), (&self.b, &self.a)] {
            assert_eq!(to.heard, from.to_say, "seed {}: bytes were lost", self.seed);
        }
    }

    fn is_over(&self) -> bool {
        self.forth.is_closed() && self.back.is_closed() && self.a.heard_end && self.b.heard_end
    }

    fn can_go_on(&self) -> bool {
        self.ready || [&self.a, &self.b].iter().any(|end| end.can_act() || end.has_edges())
    }

    fn story(&self) -> String {
        let (forth, back) = (self.forth.state, self.back.state);
        format!("forth {forth:?}, back {back:?}\n  buffers of {}\n  a {}\n  b {}", self.size, self.a, self.b)
    }
}

/// How many worlds each test lives through.
const SEEDS: u64 = 2000;
/// A world that has not ended after so many steps goes round in circles.
const MAX_STEPS: usize = 1_000_000;
/// Most first bytes that a direction of these worlds knows.
const KNOWN: usize = 20;
