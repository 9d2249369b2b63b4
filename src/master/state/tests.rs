//! Real files in folders of their own. Masters that are killed and disks that are full: `tests/e2e/state.rs`.

use std::env;
use std::fs::Permissions;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::records::records;
use super::*;
use crate::master::record::{Kind, Status};

mod records;

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
        (b"a text of another program", "it is not the state of a master"),
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
fn a_file_that_cannot_be_opened_is_left_alone() {
    let folder = Folder::new();
    // A file of another user is no such thing to root; a link to itself is.
    fs::create_dir_all(folder.inner()).unwrap();
    symlink(FILE, folder.inner().join(FILE)).unwrap();
    let (mut state, loaded) = folder.load();
    assert!(said(&loaded, Level::Error, "cannot be read"), "{loaded:?}");
    assert!(state.save(&records(2, "x")).is_err());
    assert!(fs::read_link(folder.inner().join(FILE)).is_ok_and(|to| to.as_os_str() == FILE));
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
    let told = told.to_string();
    assert!(
        told.starts_with("the state folder /") && told.contains(": another master uses it; NP_STATE_DIR"),
        "{told}"
    );
    let loaded = second.load(NOW);
    assert_eq!(loaded.records, records(1, "first"));
    assert!(second.save(&records(9, "second")).is_err() && second.backup().is_err());
    drop(first);
    assert_eq!(folder.state().lock(), Ok(()));
}

#[test]
fn a_folder_is_free_at_once_even_if_a_child_that_is_just_starting_has_a_copy_of_it() {
    let folder = Folder::new();
    let (state, _) = folder.load();
    let Access::Ours(held) = &state.access else { panic!("{state:?}") };
    let _copy = held.try_clone().unwrap();
    drop(state);
    assert_eq!(folder.state().lock(), Ok(()));
}

#[test]
fn a_bad_file_that_a_second_master_finds_is_not_moved() {
    let folder = Folder::new();
    let (_first, _) = folder.load();
    folder.put(FILE, b"bad");
    let (_second, loaded) = folder.load();
    assert!(said(&loaded, Level::Error, "another master uses it") && said(&loaded, Level::Error, "cannot be used"));
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

#[test]
fn a_disk_that_does_not_answer_does_not_hold_up_the_end() {
    let folder = Folder::new();
    let keeper = Keeper::start(folder.load().0);
    keeper.save(records(1, "x"));
    until(|| folder.inner().join(FILE).exists());
    // A pipe without a writer: opening it waits for ever.
    let path = std::ffi::CString::new(folder.inner().join(BACKUP).to_str().unwrap()).unwrap();
    // SAFETY: a plain system call with a string that lives through it.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    keeper.backup(records(2, "x"));
    keeper.close();
    assert_eq!(gob::decode(&folder.get(FILE)), Ok(records(2, "x")));
}
