//! Two tunnels play against each other on a virtual clock: the server's end and the client's (`world.rs`). A seed decides what is
//! late, what is lost and when; messages of the control connection stay in order, those of different connections do not.

mod ends;
mod things;
mod world;

use super::*;
use crate::logic::control::Why;
use crate::run::messages::Survivors;
use crate::testing::epoch;
use things::{Fault, Link, What};
use world::{World, CLIENT, SERVER, USERS};

#[test]
fn whatever_is_late_or_lost_every_user_gets_one_connection_and_one_dial() {
    for (flow, seed) in (1..=SEEDS).flat_map(|seed| [(Direction::Reverse, seed), (Direction::Forward, seed)]) {
        let mut world = World::flowing(flow, seed, Fault::Any);
        world.run();
        let of = format!("{flow:?}, seed {seed}");
        assert!(world.over.is_empty(), "{of}: {:?}", world.over);
        assert!(world.served > 0, "{of}: no user was served");
        assert!(world.given_back > 0, "{of}: no user left a connection to another");
        assert_eq!(world.served + world.cut, world.granted.len(), "{of}: a user was given a connection in vain");
    }
}

#[test]
fn a_pool_that_fails_again_and_again_comes_back_and_no_user_is_lost_when_it_is_made_anew() {
    for (flow, seed) in (1..=SEEDS).flat_map(|seed| [(Direction::Reverse, seed), (Direction::Forward, seed)]) {
        let mut world = World::flowing(flow, seed, Fault::ManyLosses);
        world.run();
        let of = format!("{flow:?}, seed {seed}: {} served", world.served);
        assert!(world.over.is_empty() && world.served > 0, "{of}, {:?}", world.over);
        assert_eq!(world.served + world.cut, world.granted.len(), "{of}: a user was given a connection in vain");
        assert_eq!(world.flushed, 0, "{of}: a user's connection was closed by a flush");
    }
}

#[test]
fn with_another_certificate_in_between_the_tunnel_ends_and_no_user_is_served() {
    for seed in 1..=SEEDS / 4 {
        let mut world = World::new(seed, Fault::OtherCertificate);
        world.run();
        let mismatch = |reason: &EndReason| matches!(reason, EndReason::Control(Why::Mismatch { .. }));
        assert!(world.over.first().is_some_and(mismatch), "seed {seed}: {:?}", world.over);
        assert_eq!(world.granted.len(), 0, "seed {seed}");
    }
}

#[test]
fn a_control_connection_that_is_silent_ends_the_tunnel() {
    for seed in 1..=SEEDS / 4 {
        let mut world = World::new(seed, Fault::Silence);
        world.run();
        let silent = |reason: &EndReason| matches!(reason, EndReason::Control(Why::Silence(_)));
        assert!(world.over.first().is_some_and(silent), "seed {seed}: {:?}", world.over);
        assert_eq!([true, false].map(|hears| world.over[0].survivors(false, hears)), [Survivors::Tcp, Survivors::Own]);
    }
}

#[test]
fn where_a_nat_forgets_all_that_waits_every_user_is_served_within_a_moment() {
    for seed in 1..=SEEDS / 4 {
        let mut world = World::new(seed, Fault::Forgets);
        world.later(19_000, What::Forget);
        world.run();
        assert!(world.over.is_empty(), "seed {seed}: {:?}", world.over);
        assert_eq!((world.served, world.cut), (USERS, 0), "seed {seed}");
        assert!(world.retried > 0, "seed {seed}: no user drew a dead connection");
        // To find out, to ask and hear, and to open another, which may fail some times in a row.
        assert!(world.longest < Duration::from_secs(3), "seed {seed}: {:?}", world.longest);
        let left = world.links.iter().filter(|link| link.forgotten && link.carries != [false; 2]).count();
        assert_eq!(left, 0, "seed {seed}: relays over dead connections");
    }
}

#[test]
fn when_a_side_stops_the_other_hears_it_and_the_relays_go_on() {
    for side in [SERVER, CLIENT] {
        for seed in 1..=SEEDS / 4 {
            let mut world = World::new(seed, Fault::SlowWorkers);
            world.later(5000, What::Stop(side));
            // So many users at that time that each waits for a connection that is just being opened.
            for millis in 0..CROWD {
                let at = 5000 - CROWD / 2 + millis;
                world.later(at, What::User(epoch() + Duration::from_millis(at)));
            }
            world.run();
            let goodbye = EndReason::Control(Why::Goodbye);
            assert_eq!(world.over.first(), Some(&goodbye), "seed {seed}");
            assert_eq!(goodbye.survivors(false, true), Survivors::All);
            let lost = |link: &&Link| link.alive && link.carries == [true, false];
            assert_eq!(world.links.iter().filter(lost).count(), 0, "seed {seed}: users whom no target hears of");
        }
    }
}

/// Worlds of the longest test.
const SEEDS: u64 = 200;
/// Users who come in as many milliseconds when a side stops.
const CROWD: u64 = 200;
