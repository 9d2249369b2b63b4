//! The master's state on real disks: masters killed while they write, and disks that are full or cannot be written.
//!
//! What the state does with good and bad files is tested beside it; here is what needs processes of its own.

#[path = "../../src/master/state/tests/records.rs"]
mod records;

use crate::support::*;
use log::Level;
use nodepass::master::gob;
use nodepass::master::record::{Kind, Record, Status};
use nodepass::master::state::{Loaded, State};
use records::records;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs, thread};

/// The state file and its backup, the original's names.
const FILE: &str = "nodepass.gob";
const BACKUP: &str = "nodepass.gob.backup";

fn load(folder: &Path) -> (State, Loaded) {
    let mut state = State::new(folder.to_owned());
    let loaded = state.load(UNIX_EPOCH);
    (state, loaded)
}

#[test]
fn a_full_or_read_only_disk_keeps_the_old_state_and_saving_goes_on_when_it_can() {
    let disk = Folder::new();
    let mount = |words: &[&str]| {
        let mut mount = Command::new("mount");
        mount.args(words).arg(disk.path());
        finished(mount).is_ok_and(|output| output.status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=64k", "none"]) {
        return skip("mounts");
    }
    let tested = std::panic::catch_unwind(|| {
        let (mut state, _) = load(disk.path());
        state.save(&records(10, "small")).unwrap();
        let error = state.save(&records(1000, "large")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let names: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
        assert_eq!(gob::decode(&fs::read(disk.file(FILE)).unwrap()), Ok(records(10, "small")));
        state.save(&records(11, "small")).unwrap();
        assert!(mount(&["-o", "remount,ro"]));
        assert_eq!(state.save(&records(12, "small")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        assert!(mount(&["-o", "remount,rw"]));
        disk.write(FILE, "bad");
        assert!(mount(&["-o", "remount,ro"]));
        drop(state);
        let (mut state, loaded) = load(disk.path());
        let told = |(level, text): &(Level, String)| *level == Level::Warn && text.contains("could not be kept aside");
        assert!(loaded.notes.iter().any(told), "{loaded:?}");
        assert!(mount(&["-o", "remount,rw"]));
        assert!(state.save(&records(1, "x")).is_err());
        assert_eq!(fs::read(disk.file(FILE)).unwrap(), b"bad");
    });
    let mut umount = Command::new("umount");
    umount.arg(disk.path());
    assert!(finished(umount).unwrap().status.success());
    tested.unwrap();
}

/// Not a test but a child of the next one: saves one state after the other and says so, until it is killed.
#[test]
fn child_that_saves_until_it_is_killed() {
    let Some(folder) = env::var_os(CHILD) else { return };
    let (mut state, loaded) = load(folder.as_ref());
    let mut number = loaded.records.values().next().map_or(0, |record| record.alias.parse::<u64>().unwrap());
    println!("\nloaded {number}");
    loop {
        number += 1;
        state.save(&records(CHILDS, &number.to_string())).unwrap();
        println!("\nsaved {number}");
        if number.is_multiple_of(8) {
            state.backup().unwrap();
        }
    }
}

const CHILD: &str = "NODEPASS_TEST_STATE_CHILD";
/// Instances that the child keeps: some kilobytes.
const CHILDS: usize = 50;

/// Starts the child, lets it save for a while that `pause` is long, beginning when it has first said `word`, kills it. What it
/// said it had saved last.
fn killed(folder: &Folder, word: &str, pause: Duration) -> u64 {
    let name = "state::child_that_saves_until_it_is_killed";
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, folder.path());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = start_child(command).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let number = |line: &str| {
        let words = line.strip_prefix("saved ").or(line.strip_prefix("loaded "));
        words.and_then(|number| number.parse().ok())
    };
    let first = lines.by_ref().find(|line| line.starts_with(word)).and_then(|line| number(&line));
    let mut last = first.expect("the child has got so far");
    thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        last = number(&line).unwrap_or(last);
    }
    last
}

#[test]
fn a_thousand_kills_at_any_moment_leave_the_old_or_the_new_state() {
    let lane = |seed: u64| {
        let folder = Folder::new();
        let mut chance = seed;
        let mut moved = 0;
        for round in 0..KILLS / LANES {
            // Wherever the disk is slow: within the first saving, or after it.
            let word = ["loaded ", "saved "][round as usize % 2];
            // A Weyl sequence: every moment of the first milliseconds gets its turn.
            chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let said = killed(&folder, word, Duration::from_micros(chance >> 32 & 0x1fff));
            let found = match fs::read(folder.file(FILE)) {
                Ok(file) => {
                    let found = gob::decode(&file).unwrap();
                    let number: u64 = found["00000000"].alias.parse().unwrap();
                    assert_eq!(found, records(CHILDS, &number.to_string()));
                    number
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    0
                }
            };
            // The last one that was reported, or the one after it.
            assert!((said..=said + 1).contains(&found), "said {said}, found {found}");
            if let Ok(backup) = fs::read(folder.file(BACKUP)) {
                assert_eq!(gob::decode(&backup).unwrap().len(), CHILDS);
            }
            moved = found;
        }
        assert!(moved > 0, "no child has saved anything");
    };
    thread::scope(|scope| (0..LANES).for_each(|seed| drop(scope.spawn(move || lane(seed << 40)))));
}

const KILLS: u64 = 1000;
/// Kills side by side.
const LANES: u64 = 4;
