//! An instance in worlds whose events come in any order, by seeds.

use super::*;
use crate::logic::next_notice::NextNotice;
use crate::testing::Dice;

/// A world in which processes start late, end when they like, and ignore signals; it checks what must hold in all of them.
struct World {
    instance: Instance,
    now: Instant,
    process: bool,
    terminated: bool,
    births: usize,
    told: Vec<What>,
}

impl World {
    fn new() -> World {
        let instance = Instance::new(record(), TIMES);
        World { instance, now: Instant::now(), process: false, terminated: false, births: 0, told: Vec::new() }
    }

    fn settle(&mut self, why: u64) {
        for step in steps(&mut self.instance) {
            match step {
                Step::Spawn => self.births += 1,
                Step::Terminate | Step::Kill => {
                    assert!(self.process, "nothing there to end, after {why}");
                    self.terminated = true;
                }
                Step::Publish(what, _) => {
                    assert!(!self.told.contains(&What::Delete), "an event after delete, after {why}");
                    assert_eq!(what == What::Create, self.told.is_empty(), "create comes first and once");
                    self.told.push(what);
                }
                Step::Settled => {
                    let taken = matches!(self.instance.life, Life::Taken { .. });
                    assert!(!self.process || taken, "not settled as long as the old process is there");
                }
                Step::HandOn => assert!(self.process, "nothing there to be followed, after {why}"),
                Step::TakenOver => self.instance.taken_over(self.now),
                Step::Save => {}
            }
        }
        assert_eq!(self.instance.has_process(), self.process, "after {why}: {:?}", self.instance.life);
        assert_eq!(self.instance.is_gone(), self.told.contains(&What::Delete));
        let status = self.instance.record().status;
        assert!(self.process || status != Status::Running, "runs without a process, after {why}");
    }

    fn step(&mut self, dice: &mut Dice) {
        let (now, instance) = (self.now, &mut self.instance);
        let what = dice.below(15);
        match what {
            0 => instance.start(),
            1 => instance.stop(now),
            2 => instance.restart(now),
            3 => instance.replace(asked(&dice.below(9).to_string()), now),
            4 if dice.below(20) == 0 => instance.delete(now),
            5 => instance.reset(),
            6 => instance.said(point([dice.below(1000); 4]), now),
            7 => instance.said(trouble(), now),
            8 | 9 if self.births > 0 => {
                self.births -= 1;
                if instance.wants_process() {
                    assert!(!self.process, "a second process");
                    match dice.below(5) {
                        0 => instance.unspawnable(now),
                        _ => {
                            instance.spawned(Instant::now());
                            (self.process, self.terminated) = (true, false);
                        }
                    }
                }
            }
            10 | 11 if self.process && (self.terminated || dice.below(4) == 0) => {
                self.process = false;
                instance.ended(dice.below(2) == 0, now);
            }
            12 if self.process => {
                let notices = [NextNotice::Can, DONE, NextNotice::Failed, NextNotice::Rest([1; 4])];
                instance.said(ChildLine::Next(notices[dice.below(4) as usize]), now);
            }
            13 => instance.amend(&Patch { alias: Some(dice.below(3).to_string()), ..Patch::default() }),
            _ => {
                self.now += Duration::from_secs(dice.below(2000));
                instance.tick(self.now);
            }
        }
        self.settle(what);
    }
}

#[test]
fn no_order_of_events_makes_two_processes_or_brings_back_what_was_deleted() {
    let mut deleted = 0;
    for seed in 1..=2000 {
        let (mut world, mut dice) = (World::new(), Dice(seed));
        world.settle(99);
        for _ in 0..200 {
            world.step(&mut dice);
        }
        world.instance.delete(world.now);
        world.settle(98);
        if world.process {
            world.process = false;
            world.instance.ended(true, world.now);
            world.settle(97);
        }
        assert!(world.instance.is_gone(), "seed {seed}");
        deleted += 1;
    }
    assert_eq!(deleted, 2000);
}
