//! Datagrams of known sessions on their way to the workers: those of one session that came together go together.

use crate::net::udp::Frames;
use crate::run::messages::Home;

/// Where they go, and what goes there.
#[derive(Default)]
pub struct Mail {
    letters: Vec<(Home, Frames)>,
}

impl Mail {
    /// One more datagram for the session that lives there. It comes after all that wait for it.
    pub fn add(&mut self, home: Home, packet: &[u8]) {
        let late = self.letters.iter_mut().rev().take(SIDE_BY_SIDE);
        match late.into_iter().find(|(to, _)| *to == home) {
            Some((_, frames)) => frames.push(&[packet]),
            None => {
                let mut frames = Frames::default();
                frames.push(&[packet]);
                self.letters.push((home, frames));
            }
        }
    }

    /// The same for some, of a session that had none.
    pub fn put(&mut self, home: Home, frames: Frames) {
        if !frames.is_empty() {
            self.letters.push((home, frames));
        }
    }

    /// All of it.
    pub fn drain(&mut self) -> impl Iterator<Item = (Home, Frames)> + '_ {
        self.letters.drain(..)
    }
}

/// Sessions whose datagrams are put together though they come in turn.
const SIDE_BY_SIDE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::slab::Slab;

    #[test]
    fn datagrams_of_sessions_that_speak_in_turn_go_together_and_in_their_order() {
        let mut slab = Slab::default();
        let homes: Vec<Home> = (0..SIDE_BY_SIDE).map(|_| Home { worker: 0, key: slab.insert(()) }).collect();
        let mut mail = Mail::default();
        for round in 0..3 {
            homes.iter().for_each(|home| mail.add(*home, &[round]));
        }
        let letters: Vec<(Home, Frames)> = mail.drain().collect();
        assert!(letters.iter().map(|(home, _)| *home).eq(homes));
        assert!(letters.iter().all(|(_, frames)| frames.iter().eq([[0], [1], [2]])));
        assert_eq!(mail.drain().count(), 0);
    }
}
