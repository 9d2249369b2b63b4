//! Seeded games of two ends whose users fall asleep and wake greedy: however long they sleep, every byte arrives, every end
//! does, and nothing waits for ever.

use super::pair::{bare, flow, Pair};
use nodepass::net::budget::Budget;
use nodepass::net::h2::Limits;
use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::tcp::Tcp;
use std::time::Duration;

use crate::support::Dice;

/// One direction of a stream: who writes, who reads, and how far they are.
struct OneWay {
    /// The client writes.
    client_to_server: bool,
    writer: StreamNo,
    reader: StreamNo,
    sent: Vec<u8>,
    said: usize,
    finished: bool,
    heard: Vec<u8>,
    over: bool,
    /// Rounds that each still sleeps.
    asleep: [usize; 2],
}

impl OneWay {
    fn new(client_to_server: bool, writer: StreamNo, reader: StreamNo, dice: &mut Dice) -> OneWay {
        let size = [0, 1, 100, 16_384, 65_536, 300_000, 2_000_000][dice.below(7)] + dice.below(3);
        let sent = flow(dice.below(256), size);
        OneWay {
            client_to_server,
            writer,
            reader,
            sent,
            said: 0,
            finished: false,
            heard: Vec::new(),
            over: false,
            asleep: [0; 2],
        }
    }

    /// What the two do in this round; `true` if one of them slept or could do nothing.
    fn play(&mut self, pair: &mut Pair<Tcp>, dice: &mut Dice) {
        let (from, to) = match self.client_to_server {
            true => (&mut pair.client, &mut pair.server),
            false => (&mut pair.server, &mut pair.client),
        };
        if self.wakes(0, dice) && !self.finished {
            let most = 1 + dice.below(200_000);
            let end = (self.said + most).min(self.sent.len());
            self.said += from.write(self.writer, &self.sent[self.said..end]).unwrap();
            if self.said == self.sent.len() {
                from.mux.finish(self.writer).unwrap();
                self.finished = true;
            }
        }
        if self.wakes(1, dice) && !self.over {
            self.over = to.read(self.reader, &mut self.heard).unwrap();
        }
    }

    fn wakes(&mut self, who: usize, dice: &mut Dice) -> bool {
        if self.asleep[who] > 0 {
            self.asleep[who] -= 1;
            return false;
        }
        if dice.below(20) == 0 {
            self.asleep[who] = dice.below(200);
        }
        true
    }
}

#[test]
fn however_long_the_users_sleep_all_bytes_and_ends_arrive() {
    for seed in 1..=25 {
        let mut dice = Dice(seed * 0x9e37_79b9);
        // Small limits, so that they are met often; and large ones.
        let window = [1 << 16, 1 << 18, 1 << 24][dice.below(3)];
        let spare = [0, 1 << 16, 1 << 24][dice.below(3)];
        let mut pair = bare(Limits { window, spare, ..Limits::new(64, Duration::from_secs(600), &Budget::PLENTY) });
        let mut directions = Vec::new();
        for _ in 0..1 + dice.below(12) {
            let (ours, theirs) = pair.stream();
            directions.push(OneWay::new(true, ours, theirs, &mut dice));
            directions.push(OneWay::new(false, theirs, ours, &mut dice));
        }
        let mut rounds = 0;
        while directions.iter().any(|direction| !direction.over) {
            for direction in &mut directions {
                direction.play(&mut pair, &mut dice);
            }
            // The ends do not take turns evenly either.
            if dice.below(3) > 0 {
                pair.client.turn(Duration::ZERO);
            }
            if dice.below(3) > 0 {
                pair.server.turn(Duration::ZERO);
            }
            pair.check();
            rounds += 1;
            assert!(rounds < 200_000, "seed {seed}: it stands still");
        }
        for direction in &directions {
            assert!(
                direction.heard == direction.sent,
                "seed {seed}: {} bytes of {}",
                direction.heard.len(),
                direction.sent.len()
            );
        }
        for direction in directions.iter().filter(|direction| direction.client_to_server) {
            pair.client.mux.release(direction.writer);
            pair.server.mux.release(direction.reader);
        }
        // All places are free again.
        for _ in 0..64 {
            pair.stream();
        }
    }
}
