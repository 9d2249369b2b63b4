//! Faults of every kind: how each begins, ends, and how long users then wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::master;
use crate::process::children;
use crate::users::exchange;
use crate::world::{until, World};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of the process with this place, which is started again at once.
    Kill(usize),
    /// SIGTERM and a new start.
    Stop(usize),
    /// SIGSTOP for a while.
    Pause(usize),
    /// Every connection of the path ends.
    Cut,
    /// Nothing goes through the path for a while.
    Silence,
    /// The path takes long.
    Delay,
    /// The path loses datagrams.
    Loss,
    /// The path loses large datagrams.
    Narrow,
    /// The path has another address.
    Move,
    /// The target takes no connections.
    TargetAway,
    /// The logs are not read.
    Unread,
    /// A master's instance is killed.
    KillInstance,
    /// A master's disk is full.
    FullDisk,
}

/// A fault that is on.
pub struct Active {
    fault: Fault,
    until: Instant,
    /// Undone; users are not served again yet.
    undone: bool,
    /// They are.
    over: Arc<AtomicBool>,
}

/// How many faults there were of a kind, and how long users waited afterwards.
pub type Recoveries = Arc<Mutex<BTreeMap<String, Vec<Duration>>>>;

impl Fault {
    /// One that this world can have.
    fn any(world: &World, dice: &mut Dice) -> Fault {
        let place = dice.next() as usize % world.processes.len();
        let mut some = vec![Fault::Stop(place), Fault::Pause(place), Fault::TargetAway, Fault::Unread];
        if world.path.is_some() {
            some.extend([Fault::Cut, Fault::Silence, Fault::Delay, Fault::Loss, Fault::Narrow, Fault::Move]);
        }
        match world.state {
            Some(_) => some.extend([Fault::KillInstance, Fault::FullDisk]),
            None => some.push(Fault::Kill(place)),
        }
        some[dice.next() as usize % some.len()]
    }

    /// Whether users may suffer from it.
    fn hurts(self) -> bool {
        !matches!(self, Fault::Delay | Fault::Unread | Fault::FullDisk)
    }

    fn name(self, world: &World) -> String {
        let who = |place: usize| &world.processes[place].name;
        match self {
            Fault::Kill(place) => format!("kill -9 of the {}", who(place)),
            Fault::Stop(place) => format!("SIGTERM and start of the {}", who(place)),
            Fault::Pause(place) => format!("SIGSTOP of the {}", who(place)),
            Fault::Cut => "connections cut".into(),
            Fault::Silence => "a silent path".into(),
            Fault::Delay => "a slow path".into(),
            Fault::Loss => "datagrams lost".into(),
            Fault::Narrow => "a narrow path".into(),
            Fault::Move => "another address".into(),
            Fault::TargetAway => "the target away".into(),
            Fault::Unread => "a log that is not read".into(),
            Fault::KillInstance => "kill -9 of an instance".into(),
            Fault::FullDisk => "a full disk".into(),
        }
    }
}

/// Begins a fault on this world.
pub fn begin(world: &mut World, dice: &mut Dice) {
    let fault = Fault::any(world, dice);
    let ids: Vec<u32> = world.processes.iter().map(crate::process::Process::id).collect();
    println!("{}: {} (processes {ids:?})", world.tunnel.name, fault.name(world));
    if fault.hurts() {
        world.tunnel.touch();
    }
    let lasts = Duration::from_millis(match fault {
        Fault::Pause(_) | Fault::Silence => dice.between(200, 20_000),
        _ => dice.between(1000, 8000),
    });
    match fault {
        Fault::Kill(place) => world.processes[place].again(libc::SIGKILL),
        Fault::Stop(place) => world.processes[place].again(libc::SIGTERM),
        Fault::Pause(place) => world.processes[place].signal(libc::SIGSTOP),
        Fault::TargetAway => world.target.away.store(true, Ordering::SeqCst),
        Fault::Unread => world.processes.iter().for_each(|process| process.read_log(false)),
        Fault::KillInstance => {
            for id in children(world.processes[0].id()) {
                // SAFETY: a plain system call; the number is that of a living child of our own child.
                unsafe { libc::kill(id as i32, libc::SIGKILL) };
            }
        }
        Fault::FullDisk => fill_disk(world),
        _ => on_path(world, fault, dice),
    }
    // What ends by itself is over when it has begun.
    let lasting = !matches!(fault, Fault::Kill(_) | Fault::Stop(_) | Fault::Cut | Fault::KillInstance);
    let until = Instant::now() + if lasting { lasts } else { Duration::ZERO };
    world.fault = Some(Active { fault, until, undone: false, over: Arc::default() });
}

fn on_path(world: &World, fault: Fault, dice: &mut Dice) {
    let Some(path) = &world.path else { return };
    match fault {
        Fault::Cut => path.cut(),
        Fault::Silence => path.silent.store(true, Ordering::SeqCst),
        Fault::Delay => path.delay.store(dice.between(5, 60), Ordering::SeqCst),
        Fault::Loss => path.loss.store(dice.between(5, 80), Ordering::SeqCst),
        Fault::Narrow => path.largest.store(dice.between(1252, 1400), Ordering::SeqCst),
        _ => path.source.store(dice.between(2, 250) as u8, Ordering::SeqCst),
    }
}

fn fill_disk(world: &World) {
    let Some(work) = &world.state else { return };
    if master::fill(work) {
        match master::tells_of_full_disk(work) {
            Ok(true) => {}
            Ok(false) => world.tunnel.fail("the API does not tell of a full disk".into()),
            Err(error) => world.tunnel.fail(format!("the API with a full disk: {error}")),
        }
    }
}

/// Goes on with the fault that is on this world; takes it away when users are served again.
pub fn advance(world: &mut World, recoveries: &Recoveries) {
    let Some(active) = &mut world.fault else { return };
    if active.over.load(Ordering::SeqCst) {
        world.fault = None;
        return;
    }
    if active.undone || Instant::now() < active.until {
        return;
    }
    active.undone = true;
    let (fault, over) = (active.fault, active.over.clone());
    undo(world, fault);
    let (tunnel, recoveries, name) = (world.tunnel.clone(), recoveries.clone(), fault.name(world));
    thread::spawn(move || {
        let start = Instant::now();
        let served = until(RECOVERY, || exchange(tunnel.user).is_ok());
        let took = start.elapsed();
        match served {
            true => recoveries.lock().unwrap().entry(name).or_default().push(took),
            false => tunnel.fail(format!("no user is served {RECOVERY:?} after {name}")),
        }
        // Users who began in the middle of it, and whom it has not reached yet, are its own.
        thread::sleep(MARGIN);
        tunnel.well();
        over.store(true, Ordering::SeqCst);
    });
}

fn undo(world: &World, fault: Fault) {
    match fault {
        Fault::Pause(place) => world.processes[place].signal(libc::SIGCONT),
        Fault::TargetAway => world.target.away.store(false, Ordering::SeqCst),
        Fault::Unread => world.processes.iter().for_each(|process| process.read_log(true)),
        Fault::FullDisk => world.state.iter().for_each(|work| master::clear(work)),
        _ => world.path.iter().for_each(|path| path.heal()),
    }
}

/// Longest time from the end of a fault to the first user who is served.
const RECOVERY: Duration = Duration::from_secs(60);
/// A fault's effects on users who were there may show so long after others are served again.
const MARGIN: Duration = Duration::from_secs(20);
