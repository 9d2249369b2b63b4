//! How an instance gets another process while the one before lets its users finish.
//!
//! ```text
//!   Running --restart, another URL--> Handing --done--> Taken --> Running, as after a start
//!                                        |
//!                                        +--failed, silence--> Stopping, as without all this
//! ```
//!
//! It has one process for its supervisor all the time: the first one stays until the last one has gone.

use std::time::{Duration, Instant};

use super::{Health, Instance, Life, Step, Then};
use crate::logic::next_notice::NextNotice;
use crate::master::record::Status;

impl Instance {
    /// Has its process start the next one.
    pub(super) fn hand_on(&mut self, now: Instant) {
        self.life = Life::Handing { until: now + HANDING, again: false };
        self.steps.push_back(Step::HandOn);
    }

    /// Its process told something of the next one.
    pub fn told_of_next(&mut self, notice: NextNotice, now: Instant) {
        match (notice, &self.life) {
            (NextNotice::Can, _) => self.can_hand_on = self.has_process(),
            (NextNotice::Done { .. }, Life::Handing { again, .. }) => {
                self.life = Life::Taken { again: *again };
                self.quiet();
                self.turn(Status::Stopped);
                self.steps.extend([Step::Settled, Step::TakenOver]);
            }
            (NextNotice::Failed, Life::Handing { .. }) => self.terminate(Then::Start, now),
            (NextNotice::Rest(bytes), _) if self.has_process() => self.add(bytes),
            (NextNotice::Done { .. } | NextNotice::Failed | NextNotice::Rest(_), _) => {}
        }
    }

    /// What follows [`Step::TakenOver`]: it runs again.
    pub fn taken_over(&mut self, now: Instant) {
        let Life::Taken { again } = self.life else { return };
        self.begin(now);
        if again {
            self.hand_on(now);
        }
    }

    /// A process has begun.
    pub(super) fn begin(&mut self, now: Instant) {
        self.life = Life::Running(Health::Fresh);
        self.began = Some(now);
        self.said = [0; 4];
        let shown = self.shown();
        let figures = &mut self.record.figures;
        (figures.base, figures.reset) = (shown, [0; 4]);
        self.turn(Status::Running);
    }

    /// What was counted beside the process that tells of check points.
    fn add(&mut self, bytes: [u64; 4]) {
        let base = &mut self.record.figures.base;
        base.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum = sum.saturating_add(bytes));
        self.show();
    }
}

/// Time for the next process to have the ports: more than it is given by the one before it.
const HANDING: Duration = Duration::from_secs(12);
