//! Where the master keeps its instances: one folder, one file, its backup, and what could not be read.
//!
//! ```text
//!  nodepass.gob                     the state; replaced as a whole, never changed
//!  nodepass.gob.backup              a copy of a good one
//!  nodepass.gob.corrupted-<time>    one that could not be used, kept for the user
//!  nodepass.gob.new                 the next one while it is written
//! ```
//!
//! A crash or a power cut at any moment leaves the old state or the new one. The folder is locked while a master uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use log::Level;

use super::gob::{self, GobError};
use super::record::{Record, KEY_ID};
use crate::error::Error;

mod disk;
mod keeper;
mod saving;
use disk::{content, same, written, Held};
pub use keeper::{Keeper, TOGETHER};
pub use saving::{Saving, Unsaved};

/// A state folder, and what may be done with it.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    access: Access,
}

/// What a state folder holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The instances by their ids, the master's own record included; empty if there are none.
    pub records: BTreeMap<String, Record>,
    /// Lines for the log: what was found and done, and how to recover by hand.
    pub notes: Vec<(Level, String)>,
}

/// What may be done with the folder.
#[derive(Debug)]
enum Access {
    /// Nothing yet: it has not been looked at.
    Unknown,
    /// It is not there, or cannot be opened; this may pass.
    Missing,
    /// It is ours as long as this, the folder itself, is held.
    Ours(Held),
    /// It must not be written, since something in it would be lost. Says why.
    Closed(String),
}

impl State {
    /// The state in that folder, which need not exist. Nothing is touched before [`State::lock`] or [`State::load`].
    pub fn new(folder: PathBuf) -> State {
        State { folder, access: Access::Unknown }
    }

    /// The folder that was asked for (`NP_STATE_DIR`), else `gob` beside the executable.
    pub fn folder(asked: Option<&Path>) -> PathBuf {
        let beside = || std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(FOLDER)));
        asked.map(Path::to_owned).or_else(beside).unwrap_or_else(|| FOLDER.into())
    }

    /// What a folder holds, without touching it; nothing if there is no state in it. The error says why it cannot be used.
    pub fn peek(folder: &Path) -> Result<BTreeMap<String, Record>, Error> {
        let path = folder.join(FILE);
        read(&path).or_else(|unread| match unread {
            Unread::Missing => Ok(BTreeMap::new()),
            Unread::Failed(error) => Err(Error::file(path.display().to_string(), error)),
            Unread::Bad(fault) => Err(Error::file(path.display().to_string(), fault.to_string())),
        })
    }

    /// The state file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Makes the folder if it is missing and takes it for this process, until the `State` is dropped. A folder that cannot
    /// be made or opened is no error here: [`State::load`] tells of it, and saving is tried all the same.
    ///
    /// # Errors
    ///
    /// Another master uses the folder: a line for the user. A master should not start then.
    pub fn lock(&mut self) -> Result<(), Error> {
        if matches!(self.access, Access::Ours(_) | Access::Closed(_)) {
            return Ok(());
        }
        self.access = match self.open() {
            Ok(handle) => Access::Ours(handle),
            Err(NoAccess::Busy) => {
                let folder = self.folder.display();
                let error = Error::file(format!("the state folder {folder}"), "another master uses it")
                    .with_hint(format!("{VARIABLE} can name another"));
                self.access = Access::Closed(error.to_string());
                return Err(error);
            }
            Err(NoAccess::Failed(_)) => Access::Missing,
        };
        Ok(())
    }

    /// Reads the state. A file that cannot be used is kept aside, and the backup loaded instead; one that cannot even be
    /// read or kept aside stays where it is, and nothing is saved. `now` is for the name of what is kept aside.
    pub fn load(&mut self, now: SystemTime) -> Loaded {
        let mut loaded = Loaded::default();
        if let Err(busy) = self.lock() {
            loaded.notes.push((Level::Error, format!("{busy}; nothing is saved")));
        }
        match read(&self.path()) {
            Ok(records) => {
                let text = format!("Loaded {} from {}", instances(&records), self.path().display());
                loaded.notes.push((Level::Info, text));
                loaded.records = records;
            }
            Err(Unread::Missing) => {}
            Err(Unread::Failed(error)) => self.unreadable(&error, &mut loaded),
            Err(Unread::Bad(fault)) => self.unusable(&fault, now, &mut loaded),
        }
        if matches!(self.access, Access::Missing) {
            let reason = self.opened().err().map(|error| error.to_string()).unwrap_or_default();
            loaded.notes.push((Level::Warn, self.unsaved(&reason)));
        }
        loaded
    }

    /// Replaces the state: afterwards it is on the disk.
    ///
    /// # Errors
    ///
    /// It could not be written, and the old state is still there; or it must not be written; or nothing was loaded yet.
    pub fn save(&mut self, records: &BTreeMap<String, Record>) -> io::Result<()> {
        let file = gob::encode(records);
        if file.len() > gob::MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, GobError::TooLarge));
        }
        self.opened()?;
        self.replace(FILE, &file)
    }

    /// Copies the state to the backup, if it is good and differs from it: afterwards the copy is on the disk.
    ///
    /// # Errors
    ///
    /// As for [`State::save`]; or the state file is not good, and the backup is left alone.
    pub fn backup(&mut self) -> io::Result<()> {
        self.opened()?;
        let file = match content(&self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        gob::decode(&file).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        // Flash wears out by writing, not by reading.
        match content(&self.folder.join(BACKUP)) {
            Ok(there) if there == file => Ok(()),
            _ => self.replace(BACKUP, &file),
        }
    }

    /// The ids of what is otherwise on the disk than here, figures and health aside.
    fn stale(&self, records: &BTreeMap<String, Record>) -> BTreeSet<String> {
        let kept = |record: &Record| (record.url.clone(), record.alias.clone(), record.restart, record.meta.clone());
        let there = read(&self.path()).unwrap_or_default();
        let ids: BTreeSet<&String> = records.keys().chain(there.keys()).collect();
        let stale = |id: &&String| records.get(*id).map(kept) != there.get(*id).map(kept);
        ids.into_iter().filter(stale).cloned().collect()
    }

    /// The warning of a state that is not saved.
    fn unsaved(&self, reason: &str) -> String {
        let path = self.path();
        let path = path.display();
        format!("state is not saved: {path}: {reason}; instances run on, changes will be lost when the master stops")
    }

    /// A state file that is there and cannot be read.
    fn unreadable(&mut self, error: &io::Error, loaded: &mut Loaded) {
        let path = self.path();
        let path = path.display();
        let text = format!("state file {path} cannot be read: {error}; it is left as it is, and nothing is saved");
        loaded.notes.push((Level::Error, text));
        self.load_backup(loaded);
        let text =
            format!("to recover: stop the master, make {path} a file that it can read and write, start it again");
        loaded.notes.push((Level::Error, text));
        self.access = Access::Closed("the file there could not be read when the master started".into());
    }

    /// A state file that can be read and is none.
    fn unusable(&mut self, fault: &GobError, now: SystemTime, loaded: &mut Loaded) {
        let path = self.path();
        let shown = path.display();
        loaded.notes.push((Level::Error, format!("state file {shown} cannot be used: {fault}")));
        self.load_backup(loaded);
        if !matches!(self.access, Access::Ours(_)) {
            return;
        }
        match self.keep_aside(now) {
            Ok(aside) => {
                let text = format!(
                    "the unusable state is kept as {}; to recover by hand: stop the master, put a good state in the place \
                     of {shown}, start it again",
                    aside.display()
                );
                loaded.notes.push((Level::Error, text));
                // Until this is done, the file in place is the bad one and the backup the only good one.
                let made = match loaded.records.is_empty() {
                    false => self.save(&loaded.records),
                    true => fs::remove_file(&path).or_else(missing_is_fine),
                };
                if let Err(error) = made {
                    loaded.notes.push((Level::Warn, self.unsaved(&error.to_string())));
                }
            }
            Err(error) => {
                let reason = format!("the unusable file there could not be kept aside: {error}");
                loaded.notes.push((Level::Warn, self.unsaved(&reason)));
                self.access = Access::Closed(reason);
            }
        }
    }

    /// Takes the records from the backup, if it is good.
    fn load_backup(&self, loaded: &mut Loaded) {
        let path = self.folder.join(BACKUP);
        let shown = path.display();
        let note = match read(&path) {
            Ok(records) => {
                loaded.records = records;
                let count = instances(&loaded.records);
                format!("the backup {shown} is loaded, {count}: changes made after it was written are missing")
            }
            Err(why) => {
                let why = match why {
                    Unread::Missing => "there is none".into(),
                    Unread::Failed(error) => error.to_string(),
                    Unread::Bad(fault) => fault.to_string(),
                };
                format!(
                    "the backup {shown} cannot be loaded: {why}; the master starts without instances, with a new key"
                )
            }
        };
        loaded.notes.push((Level::Error, note));
    }

    /// Gives the state file a second name under which it stays.
    fn keep_aside(&self, now: SystemTime) -> io::Result<PathBuf> {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let names = std::iter::once(String::new()).chain((2..=MAX_ASIDE).map(|number| format!("-{number}")));
        for more in names {
            let aside = self.folder.join(format!("{FILE}.corrupted-{seconds}{more}"));
            if aside.symlink_metadata().is_ok() {
                continue;
            }
            // Some file systems know one name a file only. There it is moved, and for a moment there is no state.
            return fs::hard_link(self.path(), &aside).or_else(|_| fs::rename(self.path(), &aside)).map(|()| aside);
        }
        Err(io::Error::other("there are too many of them"))
    }

    /// Makes sure that the folder is there and ours.
    fn opened(&mut self) -> io::Result<()> {
        match &self.access {
            Access::Closed(why) => return Err(io::Error::other(why.clone())),
            Access::Unknown => return Err(io::Error::other("it was not loaded")),
            Access::Ours(handle) if same(handle, &self.folder) => return Ok(()),
            Access::Ours(_) | Access::Missing => {}
        }
        // The folder has come, or is another one than before: what is in it we have never seen.
        let handle = self.open().map_err(|refused| match refused {
            NoAccess::Busy => io::Error::other("another master uses the folder"),
            NoAccess::Failed(error) => error,
        })?;
        if self.path().symlink_metadata().is_ok() {
            let why = "a state that was not there before; restart the master to use it";
            self.access = Access::Closed(why.into());
            return Err(io::Error::other(why));
        }
        self.access = Access::Ours(handle);
        Ok(())
    }

    /// Makes the folder if need be, and locks it.
    fn open(&self) -> Result<Held, NoAccess> {
        if !self.folder.is_dir() {
            disk::make_folder(&self.folder).map_err(NoAccess::Failed)?;
        }
        Held::new(&self.folder).map_err(NoAccess::Failed)?.ok_or(NoAccess::Busy)
    }

    /// Puts a file in the place of another: written aside, on the disk before it gets its name, and its name too.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.folder.join(NEW);
        let written = written(&new, content).and_then(|()| fs::rename(&new, self.folder.join(name)));
        if let Err(error) = written {
            // A full disk gets its room back. If even that fails, the next one tries again.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        match &self.access {
            Access::Ours(handle) => handle.sync_all(),
            _ => Ok(()),
        }
    }
}

/// Why a folder is not ours.
enum NoAccess {
    /// Another process has it.
    Busy,
    /// It cannot be made or opened.
    Failed(io::Error),
}

/// Why there are no records.
enum Unread {
    /// There is no file.
    Missing,
    /// There is something, and it cannot be read.
    Failed(io::Error),
    /// It can be read, and is no state.
    Bad(GobError),
}

fn read(path: &Path) -> Result<BTreeMap<String, Record>, Unread> {
    match content(path) {
        Ok(file) => gob::decode(&file).map_err(Unread::Bad),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Unread::Missing),
        // Something else is where the folder should be: then there is no file either.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(Unread::Missing),
        Err(error) => Err(Unread::Failed(error)),
    }
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// How many instances there are, in words; the master's own record is none.
fn instances(records: &BTreeMap<String, Record>) -> String {
    match records.keys().filter(|id| *id != KEY_ID).count() {
        1 => "1 instance".into(),
        many => format!("{many} instances"),
    }
}

/// The environment variable that names the folder.
const VARIABLE: &str = "NP_STATE_DIR";

/// The folder beside the executable, the original's.
const FOLDER: &str = "gob";

/// The state, the original's.
const FILE: &str = "nodepass.gob";

/// Its backup, the original's.
const BACKUP: &str = "nodepass.gob.backup";

/// What is being written.
const NEW: &str = "nodepass.gob.new";

/// Unusable files kept aside in one second.
const MAX_ASIDE: usize = 100;

#[cfg(test)]
mod tests;
