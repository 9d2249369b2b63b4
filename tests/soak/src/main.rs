//! Runs NodePass for hours: servers, clients, a master, every pool and flow, users of each kind, and faults from a seed. Afterwards every
//! byte that arrived was right, users whom no fault touched lost nothing, and processes hold what they held before.
//!
//! ```text
//!  nodepass-soak HOURS [SEED]        NODEPASS names the binary; SOAK_LOG=1 shows its logs
//! ```

mod dice;
mod faults;
mod master;
mod path;
mod process;
mod target;
mod users;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use dice::Dice;
use faults::Recoveries;
use process::Holdings;
use users::Kind;
use world::{until, Tally, World};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let hours: Option<f64> = args.get(1).and_then(|hours| hours.parse().ok()).filter(|hours| *hours > 0.0);
    let Some(hours) = hours else {
        eprintln!("usage: nodepass-soak HOURS [SEED]");
        return ExitCode::from(2);
    };
    let time = Duration::from_secs_f64(hours * 3600.0);
    let seed = args.get(2).and_then(|seed| seed.parse().ok()).unwrap_or(u64::from(std::process::id()));
    println!("seed {seed}");
    let work = std::env::temp_dir().join(format!("nodepass-soak-{}", std::process::id()));
    let mut worlds = world::all(&work);
    let failed = campaign(&mut worlds, time, seed);
    drop(worlds);
    master::end(&work);
    let _ = std::fs::remove_dir_all(&work);
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Whether something was as it must not be.
fn campaign(worlds: &mut [World], time: Duration, seed: u64) -> bool {
    for world in worlds.iter_mut() {
        if !until(Duration::from_secs(30), || users::exchange(world.tunnel.user).is_ok()) {
            world.tunnel.fail("no first user".into());
        }
    }
    thread::sleep(SETTLING);
    for world in worlds.iter_mut() {
        world.before = world.processes.iter().map(process::Process::holds).collect();
    }
    let mut lives = Vec::new();
    for (n, world) in worlds.iter().enumerate() {
        for (m, kind) in Kind::ALL.into_iter().enumerate() {
            let (tunnel, dice) = (world.tunnel.clone(), Dice::new(seed ^ (n * 100 + m + 1) as u64));
            lives.push(thread::spawn(move || users::live(&tunnel, kind, dice)));
        }
    }
    let recoveries = Recoveries::default();
    trouble(worlds, time, seed, &recoveries);
    worlds.iter().for_each(|world| world.tunnel.over.store(true, Ordering::SeqCst));
    lives.into_iter().for_each(|life| life.join().expect("users do not panic"));
    at_rest(worlds);
    report(worlds, time, seed, &recoveries)
}

/// One fault after the other on worlds that have none, for so long; then all are over.
fn trouble(worlds: &mut [World], time: Duration, seed: u64, recoveries: &Recoveries) {
    let (start, mut dice) = (Instant::now(), Dice::new(seed));
    let mut next = start;
    while start.elapsed() < time || worlds.iter().any(|world| world.fault.is_some()) {
        for world in worlds.iter_mut() {
            faults::advance(world, recoveries);
        }
        if Instant::now() >= next && start.elapsed() < time {
            next = Instant::now() + Duration::from_millis(dice.between(1000, 5000));
            let place = dice.next() as usize % worlds.len();
            if worlds[place].fault.is_none() {
                faults::begin(&mut worlds[place], &mut dice);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until no user is there, and looks at what is still held.
fn at_rest(worlds: &[World]) {
    for world in worlds {
        for process in &world.processes {
            let figure = |name| process.figure(name).unwrap_or(0);
            let free = until(Duration::from_secs(90), || figure("TCPS") + figure("UDPS") == 0);
            if !free {
                let (tcp, udp) = (figure("TCPS"), figure("UDPS"));
                world
                    .tunnel
                    .fail(format!("the {} has {tcp} TCP and {udp} UDP users, and there are none", process.name));
            }
        }
    }
    thread::sleep(SETTLING);
    for world in worlds {
        if !until(Duration::from_secs(30), || world.target.living.load(Ordering::SeqCst) == 0) {
            world.tunnel.fail("connections to the target are left".into());
        }
        for (process, before) in world.processes.iter().zip(&world.before) {
            let now = process.holds();
            if !is_back(&now, before) {
                world.tunnel.fail(format!("the {} holds {now:?}, before {before:?}", process.name));
            }
        }
    }
}

fn is_back(now: &Holdings, before: &Holdings) -> bool {
    now.threads <= before.threads
        && now.descriptors <= before.descriptors + SPARE_DESCRIPTORS
        && now.memory <= before.memory + SPARE_MEMORY
}

/// Tables for `docs/testing.md`; whether something has failed.
fn report(worlds: &[World], time: Duration, seed: u64, recoveries: &Recoveries) -> bool {
    let mut users: BTreeMap<Kind, Tally> = BTreeMap::new();
    let mut failures = Vec::new();
    for world in worlds {
        let (tally, failed) = world.tunnel.outcome();
        failures.extend(failed);
        for (kind, Tally { served, lost }) in tally {
            let sum = users.entry(kind).or_default();
            (sum.served, sum.lost) = (sum.served + served, sum.lost + lost);
        }
    }
    println!("\n{} minutes, seed {seed}\n", time.as_secs() / 60);
    println!("| users | served | lost to a fault |\n| --- | ---: | ---: |");
    for (kind, Tally { served, lost }) in users {
        println!("| {kind:?} | {served} | {lost} |");
    }
    println!("\n| fault | times | users wait: median, s | longest, s |\n| --- | ---: | ---: | ---: |");
    for (name, times) in recoveries.lock().unwrap().iter_mut() {
        times.sort();
        let seconds = |time: &Duration| format!("{:.2}", time.as_secs_f64());
        let (median, longest) = (seconds(&times[times.len() / 2]), times.last().map(seconds).unwrap_or_default());
        println!("| {name} | {} | {median} | {longest} |", times.len());
    }
    println!("\n| process | descriptors | threads | memory, KiB |\n| --- | ---: | ---: | ---: |");
    for world in worlds {
        for (process, before) in world.processes.iter().zip(&world.before) {
            let (name, now) = (&world.tunnel.name, process.holds());
            let change = |before: usize, now: usize| format!("{before} -> {now}");
            let descriptors = change(before.descriptors, now.descriptors);
            let (threads, memory) = (change(before.threads, now.threads), change(before.memory, now.memory));
            println!("| {name}: {} | {descriptors} | {threads} | {memory} |", process.name);
        }
    }
    println!("\n{} failures", failures.len());
    failures.iter().for_each(|failure| println!("- {failure}"));
    !failures.is_empty()
}

/// Until pools are full, and what was for users is given back.
const SETTLING: Duration = Duration::from_secs(20);
/// Descriptors that a pool of other size may hold.
const SPARE_DESCRIPTORS: usize = 12;
/// KiB that a process may keep of what users needed.
const SPARE_MEMORY: usize = 16 * 1024;
