//! What the API knows of the way of changes to the disk.
//!
//! ```text
//!  supervisor --changed--> Saving <--attempted-- keeper's thread
//!                            ^--settled, fault-- the API's threads
//! ```

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far changes have come; a clone for each thread.
#[derive(Clone, Default)]
pub struct Saving {
    shared: Arc<Shared>,
}

/// What is not on the disk as it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaved {
    /// Why not.
    pub why: String,
    /// The ids of the records concerned, those of deleted ones included.
    pub ids: BTreeSet<String>,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    news: Condvar,
}

#[derive(Default)]
struct Progress {
    /// Changes so far.
    changes: u64,
    /// How many of them the last attempt to write was to contain.
    attempted: u64,
    fault: Option<Arc<Unsaved>>,
    /// When the API last asked after a change.
    asked: Option<Instant>,
}

impl Saving {
    /// There is something new to write.
    pub fn changed(&self) {
        self.progress().changes += 1;
    }

    /// How many changes there were: what an attempt that begins now contains.
    pub fn changes(&self) -> u64 {
        self.progress().changes
    }

    /// The first `changes` changes were written, or were not for this reason.
    pub fn attempted(&self, changes: u64, fault: Option<Unsaved>) {
        let mut progress = self.progress();
        progress.attempted = progress.attempted.max(changes);
        progress.fault = fault.map(Arc::new);
        self.shared.news.notify_all();
    }

    /// What is not on the disk, as far as that is known.
    pub fn fault(&self) -> Option<Arc<Unsaved>> {
        self.progress().fault.clone()
    }

    /// The same after a change, once that was tried to be written. Of changes in quick succession, a script's, only the first waits: they
    /// share one write, and it is known from then on whether writing works.
    pub fn settled(&self, now: Instant) -> Option<Arc<Unsaved>> {
        let mut progress = self.progress();
        let burst = progress.asked.replace(now).is_some_and(|last| now.saturating_duration_since(last) < BURST);
        if burst {
            return progress.fault.clone();
        }
        let wanted = progress.changes;
        let waited = self.shared.news.wait_timeout_while(progress, TIMEOUT, |progress| progress.attempted < wanted);
        let (mut progress, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && progress.fault.is_none() {
            progress.fault = Some(Arc::new(Unsaved { why: "the disk does not answer".into(), ids: BTreeSet::new() }));
        }
        progress.fault.clone()
    }

    /// Nothing panics while it holds the progress, so it is whole.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change so soon after another one does not wait for the disk.
const BURST: Duration = Duration::from_secs(1);

/// Longest wait for the disk: an answer is not held up by one that hangs.
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Unsaved {
        Unsaved { why: "full".into(), ids: BTreeSet::from(["12345678".into()]) }
    }

    #[test]
    fn who_made_a_change_waits_for_its_attempt_and_hears_what_came_of_it() {
        let saving = Saving::default();
        assert_eq!(saving.settled(Instant::now()), None, "nothing has changed");
        for fault in [Some(full()), None] {
            saving.changed();
            let (keeper, known) = (saving.clone(), fault.clone());
            let later = Instant::now() + 2 * BURST;
            let heard = std::thread::scope(|scope| {
                let heard = scope.spawn(|| saving.settled(later));
                keeper.attempted(keeper.changes(), known);
                heard.join().unwrap()
            });
            assert_eq!(heard.as_deref(), fault.as_ref());
            assert_eq!(saving.fault().as_deref(), fault.as_ref());
            saving.progress().asked = None;
        }
    }

    #[test]
    fn the_second_of_two_close_changes_does_not_wait_but_hears_what_is_known() {
        let saving = Saving::default();
        let now = Instant::now();
        saving.settled(now);
        saving.changed();
        assert_eq!(saving.settled(now + BURST / 2), None);
        saving.attempted(0, Some(full()));
        assert_eq!(saving.settled(now + BURST).as_deref(), Some(&full()));
    }

    #[test]
    fn a_disk_that_does_not_answer_is_told_as_that() {
        let saving = Saving::default();
        saving.changed();
        let told = saving.settled(Instant::now()).map(|unsaved| unsaved.why.clone());
        assert_eq!(told.as_deref(), Some("the disk does not answer"));
    }
}
