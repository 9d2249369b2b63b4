//! The thread that writes the state, so that nothing else waits for a disk.
//!
//! ```text
//!  supervisor --save, backup--> slot, the latest wins --> keeper's thread --> State
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::take;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{error, info, warn};

use super::{Saving, State, Unsaved};
use crate::master::record::Record;

/// Writes states as they come, the latest one wins.
pub struct Keeper {
    slot: Arc<SaveSlot>,
    thread: Option<JoinHandle<()>>,
    saving: Saving,
    /// What is said if the disk does not answer at the end.
    unsaved: String,
}

impl Keeper {
    /// Starts the thread. If there can be none, that is logged and nothing is saved.
    pub fn start(state: State) -> Keeper {
        let (slot, saving) = (Arc::new(SaveSlot::default()), Saving::default());
        let threadless = state.unsaved("no thread can be had for it");
        let unsaved = state.unsaved("the disk does not answer");
        let (disk, backing) = (DiskHealth::Good, DiskHealth::Good);
        let writer = Writer { state, slot: slot.clone(), saving: saving.clone(), disk, backing };
        let thread = thread::Builder::new().name("keeper".into()).stack_size(STACK).spawn(move || writer.run());
        let failed = |error: io::Error| {
            let why = format!("no thread can be had for it: {error}");
            saving.attempted(u64::MAX, Some(Unsaved { why, ids: BTreeSet::new() }));
            error!("{threadless}: {error}");
        };
        Keeper { slot, thread: thread.map_err(failed).ok(), saving: saving.clone(), unsaved }
    }

    /// How far changes have come.
    pub fn saving(&self) -> Saving {
        self.saving.clone()
    }

    /// Keeps these records: within [`TOGETHER`], with whatever else has changed until then.
    pub fn save(&self, records: BTreeMap<String, Record>) {
        let changes = self.saving.changes();
        self.slot.note(|request| (request.records, request.changes) = (Some(records), changes));
    }

    /// Keeps these records, and then a copy of them as the backup.
    pub fn backup(&self, records: BTreeMap<String, Record>) {
        self.save(records);
        self.slot.note(|request| request.backup = true);
    }

    /// Ends the thread. Everything is written when this returns, or could not be within `CLOSE`. The same happens on drop.
    pub fn close(self) {}
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.slot.note(|request| request.end = true);
        let Some(thread) = self.thread.take() else { return };
        if self.slot.ended(CLOSE) {
            // It ends in error only if it has panicked, which was told then.
            let _ = thread.join();
        } else {
            error!("{}", self.unsaved);
        }
    }
}

/// What is to be done. One place, not a queue: a disk that hangs must not make memory grow.
#[derive(Default)]
struct SaveSlot {
    request: Mutex<SaveRequest>,
    news: Condvar,
}

#[derive(Default)]
struct SaveRequest {
    records: Option<BTreeMap<String, Record>>,
    /// How many changes those contain.
    changes: u64,
    backup: bool,
    end: bool,
    /// The thread has done what it was told to and leaves.
    ended: bool,
}

impl SaveSlot {
    fn note(&self, change: impl FnOnce(&mut SaveRequest)) {
        change(&mut self.request());
        self.news.notify_one();
    }

    /// Nothing panics while it holds the request, so it is whole.
    fn request(&self) -> MutexGuard<'_, SaveRequest> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `quiet`, at most so long.
    fn wait<'a>(
        &self,
        request: MutexGuard<'a, SaveRequest>,
        most: Duration,
        quiet: impl Fn(&SaveRequest) -> bool,
    ) -> MutexGuard<'a, SaveRequest> {
        let waited = self.news.wait_timeout_while(request, most, |request| quiet(request));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The next thing to do, after what comes close behind it; an empty request when `timeout` is over.
    fn next(&self, timeout: Duration) -> SaveRequest {
        let request = self.wait(self.request(), timeout, |request| request.records.is_none() && !request.end);
        let together = if request.records.is_some() { TOGETHER } else { Duration::ZERO };
        let mut request = self.wait(request, together, |request| !request.end);
        SaveRequest {
            records: request.records.take(),
            changes: request.changes,
            backup: take(&mut request.backup),
            end: request.end,
            ended: false,
        }
    }

    /// Whether the thread is at its end; waits for that, at most so long.
    fn ended(&self, timeout: Duration) -> bool {
        self.wait(self.request(), timeout, |request| !request.ended).ended
    }
}

/// The thread's own.
struct Writer {
    state: State,
    slot: Arc<SaveSlot>,
    saving: Saving,
    disk: DiskHealth,
    backing: DiskHealth,
}

/// Whether something works; its changes are logged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DiskHealth {
    Good,
    Bad,
}

impl Writer {
    fn run(mut self) {
        // What could not be written is tried again, even if nothing changes any more.
        let mut owed = None;
        loop {
            let request = self.slot.next(if owed.is_some() { AGAIN } else { QUIET });
            owed = request.records.or(owed);
            if owed.as_ref().is_some_and(|records| self.save(records, request.changes)) {
                owed = None;
            }
            if request.backup && owed.is_none() {
                self.backup();
            }
            if request.end {
                return self.slot.note(|request| request.ended = true);
            }
        }
    }

    /// True if it is saved.
    fn save(&mut self, records: &BTreeMap<String, Record>, changes: u64) -> bool {
        let saved = self.state.save(records);
        let fault =
            saved.as_ref().err().map(|error| Unsaved { why: error.to_string(), ids: self.state.stale(records) });
        self.saving.attempted(changes, fault);
        match &saved {
            _ if !self.disk.turned(&saved) => {}
            Ok(()) => info!("state is saved again: {}", self.state.path().display()),
            Err(error) => warn!("{}", self.state.unsaved(&error.to_string())),
        }
        saved.is_ok()
    }

    fn backup(&mut self) {
        let made = self.state.backup();
        let path = self.state.path();
        match &made {
            _ if !self.backing.turned(&made) => {}
            Ok(()) => info!("state is backed up again: {}", path.display()),
            Err(error) => warn!("state is not backed up: {}: {error}", path.display()),
        }
    }
}

impl DiskHealth {
    /// Whether what was done shows another health than before.
    fn turned(&mut self, done: &io::Result<()>) -> bool {
        let now = if done.is_ok() { DiskHealth::Good } else { DiskHealth::Bad };
        std::mem::replace(self, now) != now
    }
}

/// Changes that come within this time share one write: a burst of a script costs flash one, and a user loses no more than
/// this in a crash.
pub const TOGETHER: Duration = Duration::from_millis(200);

/// After a failure, the next attempt.
const AGAIN: Duration = Duration::from_secs(30);

/// At the end, how long a disk that does not answer is waited for.
const CLOSE: Duration = Duration::from_secs(5);

/// With nothing to do, the thread looks up this often. It need not.
const QUIET: Duration = Duration::from_secs(3600);

/// Bytes of the thread's stack: reading a state for a backup goes at most a named depth down.
const STACK: usize = 256 << 10;
