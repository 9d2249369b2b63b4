//! Real files in folders of their own; processes killed while they write; disks that are full.

use std::env;
use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::master::record::{Kind, Status};

/// A folder of a test's own, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("nodepass-state-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn inner(&self) -> PathBuf {
        self.0.join("gob")
    }

    fn put(&self, name: &str, content: &[u8]) {
        fs::create_dir_all(self.inner()).unwrap();
        fs::write(self.inner().join(name), content).unwrap();
    }

    fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.inner().join(name)).unwrap()
    }

    /// The names in the state folder.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.inner())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn state(&self) -> State {
        State::new(self.inner())
    }

    fn load(&self) -> (State, Loaded) {
        let mut state = self.state();
        let loaded = state.load(NOW);
        (state, loaded)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The start of 1970, as the name of a file.
const NOW: SystemTime = UNIX_EPOCH;

const ASIDE: &str = "nodepass.gob.corrupted-0";

/// As many instances, each of which says `word`.
fn records(count: usize, word: &str) -> BTreeMap<String, Record> {
    let one = |number| {
        let (id, url) = (format!("{number:08x}"), format!("server://:1/:2?word={word}"));
        let (kind, status, alias, config) = (Kind::Server, Status::Stopped, word.to_string(), url.clone());
        (id.clone(), Record { id, alias, kind, status, url, config, ..Record::default() })
    };
    (0..count).map(one).collect()
}

fn said(loaded: &Loaded, level: Level, words: &str) -> bool {
    loaded.notes.iter().any(|(of, text)| *of == level && text.contains(words))
}

/// Mode bits.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Waits for something that must come.
fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn without_a_file_there_is_nothing_and_nothing_to_say() {
    let folder = Folder::new();
    let (_state, loaded) = folder.load();
    assert!(loaded.records.is_empty() && loaded.notes.is_empty(), "{loaded:?}");
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn what_is_saved_is_loaded_by_the_next_master() {
    let folder = Folder::new();
    let (mut state, _) = folder.load();
    for count in [1, 3, 0, 2] {
        state.save(&records(count, "x")).unwrap();
        assert_eq!(folder.names(), [FILE]);
    }
    drop(state);
    let (_state, loaded) = folder.load();
    assert_eq!(loaded.records, records(2, "x"));
    assert!(said(&loaded, Level::Info, "Loaded 2 instances from "));
}

#[test]
fn the_files_are_for_their_owner_only_whatever_was_there_before() {
    let folder = Folder::new();
    let (mut state, _) = folder.load();
    assert_eq!(mode(&folder.inner()), 0o700);
    state.save(&records(1, "a")).unwrap();
    state.backup().unwrap();
    assert_eq!((mode(&state.path()), mode(&folder.inner().join(BACKUP))), (0o600, 0o600));
    fs::set_permissions(state.path(), Permissions::from_mode(0o666)).unwrap();
    state.save(&records(1, "b")).unwrap();
    assert_eq!(mode(&state.path()), 0o600);
}

#[test]
fn what_a_crash_left_half_written_is_replaced_and_a_link_in_its_place_not_followed() {
    let folder = Folder::new();
    folder.put(NEW, b"half");
    let (mut state, _) = folder.load();
    state.save(&records(1, "a")).unwrap();
    let outside = folder.0.join("outside");
    fs::write(&outside, "precious").unwrap();
    symlink(&outside, folder.inner().join(NEW)).unwrap();
    state.save(&records(1, "b")).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
    assert_eq!(folder.names(), [FILE]);
    assert_eq!(gob::decode(&folder.get(FILE)), Ok(records(1, "b")));
}

#[test]
fn nothing_is_saved_before_something_was_loaded() {
    let folder = Folder::new();
    folder.put(FILE, b"not yet seen");
    let error = folder.state().save(&records(1, "a")).unwrap_err();
    assert_eq!(error.to_string(), "it was not loaded");
    assert_eq!(folder.get(FILE), b"not yet seen");
}

#[test]
fn a_file_that_is_no_state_is_told_kept_aside_and_the_backup_loaded_in_its_place() {
    let good = gob::encode(&records(3, "good"));
    let mut damaged = good.clone();
    let at = good.windows(6).position(|part| part == b"server").unwrap();
    damaged[at] = b'x';
    for (content, told) in [
        (&b""[..], "it is empty"),
        (&good[..good.len() / 2], "it is cut short"),
        (&damaged[..], "it is damaged (instance 00000000: type xerver is not known)"),
        (b"a text of somebody else", "it is not the state of a master"),
        (b"{\"instances\":[]}", "it is not the state of a master"),
        (include_bytes!("../../../tests/fuzz/corpus/state/numbers"), "it is not the state of a master"),
    ] {
        let folder = Folder::new();
        folder.put(FILE, content);
        folder.put(BACKUP, &good);
        let (state, loaded) = folder.load();
        assert_eq!(loaded.records, records(3, "good"));
        assert!(said(&loaded, Level::Error, told), "{loaded:?}");
        assert!(said(&loaded, Level::Error, "is loaded, 3 instances: changes made after it"), "{loaded:?}");
        assert!(said(&loaded, Level::Error, "to recover by hand: stop the master"), "{loaded:?}");
        assert!(said(&loaded, Level::Error, ASIDE));
        assert_eq!(folder.get(ASIDE), content);
        // Whatever happens next, there is a good state again.
        assert_eq!(gob::decode(&folder.get(FILE)), Ok(records(3, "good")));
        drop(state);
        assert!(folder.load().1.notes.iter().all(|(level, _)| *level == Level::Info));
        assert_eq!(folder.names(), [FILE, BACKUP, ASIDE]);
    }
}

#[test]
fn without_a_good_backup_the_master_starts_empty_and_what_was_there_is_kept() {
    for (backup, why) in [(None, "there is none"), (Some(&b"also bad"[..]), "it is not the state of a master")] {
        let folder = Folder::new();
        folder.put(FILE, b"bad");
        if let Some(backup) = backup {
            folder.put(BACKUP, backup);
        }
        let (mut state, loaded) = folder.load();
        assert!(loaded.records.is_empty());
        assert!(said(&loaded, Level::Error, why), "{loaded:?}");
        assert_eq!(folder.get(ASIDE), b"bad");
        assert!(!folder.inner().join(FILE).exists());
        state.save(&records(1, "new")).unwrap();
        assert_eq!(folder.get(ASIDE), b"bad");
    }
}

#[test]
fn files_kept_aside_in_the_same_second_do_not_replace_each_other() {
    let folder = Folder::new();
    for content in [&b"one"[..], b"two", b"three"] {
        folder.put(FILE, content);
        drop(folder.load());
    }
    assert_eq!(folder.names(), [ASIDE.to_string(), format!("{ASIDE}-2"), format!("{ASIDE}-3")]);
    assert_eq!((folder.get(ASIDE), folder.get(&format!("{ASIDE}-3"))), (b"one".to_vec(), b"three".to_vec()));
}

#[test]
fn what_cannot_be_read_is_left_alone_and_nothing_is_saved() {
    let folder = Folder::new();
    folder.put(BACKUP, &gob::encode(&records(1, "backup")));
    fs::create_dir(folder.inner().join(FILE)).unwrap();
    let (mut state, loaded) = folder.load();
    assert_eq!(loaded.records, records(1, "backup"));
    assert!(said(&loaded, Level::Error, "cannot be read: it is not a file; it is left as it is, and nothing is saved"));
    assert!(said(&loaded, Level::Error, "to recover: stop the master, make "));
    assert!(state.save(&records(2, "x")).is_err() && state.backup().is_err());
    assert_eq!(folder.names(), [FILE, BACKUP]);
    assert_eq!(gob::decode(&folder.get(BACKUP)), Ok(records(1, "backup")));
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let folder = Folder::new();
    folder.put(FILE, &gob::encode(&records(1, "x")));
    fs::set_permissions(folder.inner().join(FILE), Permissions::from_mode(0o000)).unwrap();
    if File::open(folder.inner().join(FILE)).is_ok() {
        return eprintln!("skipped: who runs this may read everything");
    }
    let (mut state, loaded) = folder.load();
    assert!(said(&loaded, Level::Error, "cannot be read"), "{loaded:?}");
    assert!(state.save(&records(2, "x")).is_err());
}

#[test]
fn a_folder_that_cannot_be_is_a_warning_and_is_tried_again() {
    let folder = Folder::new();
    fs::write(folder.inner(), "in the way").unwrap();
    let (mut state, loaded) = folder.load();
    assert!(loaded.records.is_empty());
    assert!(said(&loaded, Level::Warn, "state is not saved: "), "{loaded:?}");
    assert!(said(&loaded, Level::Warn, "instances run on, changes will be lost when the master stops"));
    assert!(state.save(&records(1, "a")).is_err());
    fs::remove_file(folder.inner()).unwrap();
    state.save(&records(1, "a")).unwrap();
    assert_eq!(gob::decode(&folder.get(FILE)), Ok(records(1, "a")));
}

#[test]
fn a_folder_that_is_removed_is_made_again() {
    let folder = Folder::new();
    let (mut state, _) = folder.load();
    state.save(&records(1, "a")).unwrap();
    fs::remove_dir_all(folder.inner()).unwrap();
    state.save(&records(1, "b")).unwrap();
    assert_eq!(gob::decode(&folder.get(FILE)), Ok(records(1, "b")));
}

#[test]
fn a_state_that_appears_later_is_not_overwritten() {
    let folder = Folder::new();
    let (mut state, _) = folder.load();
    fs::rename(folder.inner(), folder.0.join("before")).unwrap();
    folder.put(FILE, b"on a disk that was mounted late");
    for _ in 0..2 {
        let error = state.save(&records(1, "a")).unwrap_err();
        assert_eq!(error.to_string(), "a state that was not there before; restart the master to use it");
    }
    assert_eq!(folder.get(FILE), b"on a disk that was mounted late");
}

#[test]
fn two_masters_cannot_use_one_folder() {
    let folder = Folder::new();
    let (mut first, _) = folder.load();
    first.save(&records(1, "first")).unwrap();
    let mut second = folder.state();
    let told = second.lock().unwrap_err();
    assert!(told.starts_with("another master uses the state folder /") && told.contains("NP_STATE_DIR"), "{told}");
    let loaded = second.load(NOW);
    assert_eq!(loaded.records, records(1, "first"));
    assert!(second.save(&records(9, "second")).is_err() && second.backup().is_err());
    drop(first);
    // A process that another test is just starting may hold the lock for a moment, until it becomes another program.
    let free = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        folder.state().lock().is_ok()
    });
    assert!(free);
}

#[test]
fn a_bad_file_that_a_second_master_finds_is_not_moved() {
    let folder = Folder::new();
    let (_first, _) = folder.load();
    folder.put(FILE, b"bad");
    let (_second, loaded) = folder.load();
    assert!(said(&loaded, Level::Error, "another master uses") && said(&loaded, Level::Error, "cannot be used"));
    assert_eq!(folder.names(), [FILE]);
}

#[test]
fn a_backup_is_a_copy_of_a_good_state_only_and_not_written_twice() {
    let folder = Folder::new();
    let (mut state, _) = folder.load();
    state.backup().unwrap();
    assert_eq!(folder.names(), [""; 0]);
    state.save(&records(2, "x")).unwrap();
    state.backup().unwrap();
    assert_eq!(folder.get(BACKUP), folder.get(FILE));
    let written = || fs::metadata(folder.inner().join(BACKUP)).unwrap().ino();
    let before = written();
    state.backup().unwrap();
    assert_eq!(written(), before);
    folder.put(FILE, b"bad");
    assert_eq!(state.backup().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(gob::decode(&folder.get(BACKUP)), Ok(records(2, "x")));
}

#[test]
fn the_folder_is_the_one_asked_for_or_beside_the_executable() {
    assert_eq!(State::folder(Some(Path::new("/var/lib/np"))), Path::new("/var/lib/np"));
    let exe = env::current_exe().unwrap();
    assert_eq!(State::folder(None), exe.parent().unwrap().join("gob"));
}

#[test]
fn a_full_or_read_only_disk_keeps_the_old_state_and_saving_goes_on_when_it_can() {
    let folder = Folder::new();
    fs::create_dir(folder.inner()).unwrap();
    let mount = |words: &[&str]| Command::new("mount").args(words).arg(folder.inner()).stderr(Stdio::null()).status();
    if !mount(&["-t", "tmpfs", "-o", "size=64k", "none"]).is_ok_and(|status| status.success()) {
        return eprintln!("skipped: who runs this may not mount");
    }
    let tested = std::panic::catch_unwind(|| {
        let (mut state, _) = folder.load();
        state.save(&records(10, "small")).unwrap();
        let error = state.save(&records(1000, "large")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(folder.names(), [FILE]);
        assert_eq!(gob::decode(&folder.get(FILE)), Ok(records(10, "small")));
        state.save(&records(11, "small")).unwrap();
        assert!(mount(&["-o", "remount,ro"]).unwrap().success());
        assert_eq!(state.save(&records(12, "small")).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(mount(&["-o", "remount,rw"]).unwrap().success());
        folder.put(FILE, b"bad");
        assert!(mount(&["-o", "remount,ro"]).unwrap().success());
        drop(state);
        let (mut state, loaded) = folder.load();
        assert!(said(&loaded, Level::Warn, "could not be kept aside"), "{loaded:?}");
        assert!(mount(&["-o", "remount,rw"]).unwrap().success());
        assert!(state.save(&records(1, "x")).is_err());
        assert_eq!(folder.get(FILE), b"bad");
    });
    assert!(Command::new("umount").arg(folder.inner()).status().unwrap().success());
    tested.unwrap();
}

/// Not a test but a child of the next one: saves one state after the other and says so, until it is killed.
#[test]
fn child_that_saves_until_it_is_killed() {
    let Some(folder) = env::var_os(CHILD) else { return };
    let mut state = State::new(folder.into());
    let loaded = state.load(NOW);
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

/// Starts the child, lets it save for a while that `pause` is long, kills it. What it said it had saved last.
fn killed(folder: &Folder, pause: Duration) -> u64 {
    let name = "master::state::tests::child_that_saves_until_it_is_killed";
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.inner())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let number = |line: &str| {
        let words = line.strip_prefix("saved ").or(line.strip_prefix("loaded "));
        words.and_then(|number| number.parse().ok())
    };
    let mut last = lines.by_ref().find_map(|line| number(&line)).expect("the child has loaded");
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
        for _ in 0..KILLS / LANES {
            // A Weyl sequence: every moment of the first milliseconds gets its turn.
            chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let said = killed(&folder, Duration::from_micros(chance >> 32 & 0x1fff));
            let found = match fs::read(folder.inner().join(FILE)) {
                Ok(file) => {
                    let found = gob::decode(&file).unwrap();
                    let number: u64 = found["00000000"].alias.parse().unwrap();
                    assert_eq!(found, records(CHILDS, &number.to_string()));
                    number
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::NotFound);
                    0
                }
            };
            // The last one that was reported, or the one after it.
            assert!((said..=said + 1).contains(&found), "said {said}, found {found}");
            if let Ok(backup) = fs::read(folder.inner().join(BACKUP)) {
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

#[test]
fn a_keeper_has_written_everything_when_it_is_closed() {
    let folder = Folder::new();
    let keeper = Keeper::start(folder.load().0);
    for count in 0..200 {
        keeper.save(records(count, "x"));
    }
    keeper.close();
    assert_eq!(gob::decode(&folder.get(FILE)), Ok(records(199, "x")));
    assert_eq!(folder.names(), [FILE]);
}

#[test]
fn a_keeper_writes_without_being_closed_and_backs_up_what_it_wrote() {
    let folder = Folder::new();
    let keeper = Keeper::start(folder.load().0);
    let holds = |name: &str, count: usize| {
        fs::read(folder.inner().join(name)).is_ok_and(|file| gob::decode(&file) == Ok(records(count, "x")))
    };
    keeper.save(records(1, "x"));
    until(|| holds(FILE, 1));
    assert!(!folder.inner().join(BACKUP).exists());
    keeper.backup(records(2, "x"));
    until(|| holds(FILE, 2) && holds(BACKUP, 2));
    keeper.save(records(3, "x"));
    drop(keeper);
    assert!(holds(FILE, 3) && holds(BACKUP, 2));
}

#[test]
fn a_keeper_lives_on_when_nothing_can_be_written_and_writes_when_it_can() {
    let folder = Folder::new();
    fs::write(folder.inner(), "in the way").unwrap();
    let keeper = Keeper::start(folder.load().0);
    keeper.backup(records(1, "x"));
    keeper.save(records(2, "x"));
    // Long enough for a failed attempt, most of the time; it makes no difference to what must come.
    thread::sleep(2 * TOGETHER);
    fs::remove_file(folder.inner()).unwrap();
    keeper.close();
    assert_eq!(gob::decode(&folder.get(FILE)), Ok(records(2, "x")));
}
