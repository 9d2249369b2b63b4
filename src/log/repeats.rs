//! Lines that repeat: the first few are shown, later ones are counted and summed up. Pure: time is an argument.
//!
//! ```text
//!  WARN  Handshake from 192.0.2.1:4000 refused: 401     five of them as they come
//!  WARN  Handshake from 192.0.2.1:4711 refused: 401 (and 212 more like it in 60 s)
//! ```

use std::time::{Duration, Instant};

use super::Level;

/// The texts said lately.
pub(super) struct Repeats {
    entries: Vec<Entry>,
}

struct Entry {
    level: Level,
    /// What lines that are alike have in common.
    key: String,
    /// The last one held back.
    text: String,
    since: Instant,
    shown: u32,
    held: u64,
}

impl Repeats {
    /// Nothing was said yet.
    pub(super) const fn new() -> Repeats {
        Repeats { entries: Vec::new() }
    }

    /// Whether this line is shown; if not, it is counted. Lines with the same level and key are alike.
    pub(super) fn admit(&mut self, level: Level, key: String, text: &str, now: Instant) -> bool {
        self.entries.retain(|entry| entry.held > 0 || now < entry.since + WINDOW);
        match self.entries.iter_mut().find(|entry| entry.level == level && entry.key == key) {
            Some(entry) if entry.shown < MAX_SHOWN => entry.shown += 1,
            Some(entry) => {
                entry.held += 1;
                entry.text.clear();
                entry.text.push_str(text);
                return false;
            }
            None => {
                self.make_room();
                if self.entries.len() < MAX_TEXTS {
                    self.entries.push(Entry { level, key, text: String::new(), since: now, shown: 1, held: 0 });
                }
            }
        }
        true
    }

    /// The lines that stand for those held back for [`WINDOW`], or for all of them.
    pub(super) fn due(&mut self, now: Instant, all: bool) -> Vec<(Level, String)> {
        let due = |entry: &&mut Entry| entry.held > 0 && (all || now >= entry.since + WINDOW);
        let sum = |entry: &mut Entry| {
            let seconds = now.saturating_duration_since(entry.since).as_secs();
            let line = format!("{} (and {} more like it in {seconds} s)", entry.text, entry.held);
            // What goes on is summed up from now on.
            (entry.since, entry.held) = (now, 0);
            (entry.level, line)
        };
        self.entries.iter_mut().filter(due).map(sum).collect()
    }

    /// When the next lines are [due](Repeats::due).
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.entries.iter().filter(|entry| entry.held > 0).map(|entry| entry.since + WINDOW).min()
    }

    /// Forgets the oldest text that has nothing held back, if there are too many.
    fn make_room(&mut self) {
        if self.entries.len() >= MAX_TEXTS {
            let quiet = self.entries.iter().enumerate().filter(|(_, entry)| entry.held == 0);
            if let Some((oldest, _)) = quiet.min_by_key(|(_, entry)| entry.since) {
                self.entries.swap_remove(oldest);
            }
        }
    }
}

/// For how long lines are held back before they are summed up, and after which a text is new again.
const WINDOW: Duration = Duration::from_secs(60);

/// Equal lines shown within it.
const MAX_SHOWN: u32 = 5;

/// Texts that are remembered.
const MAX_TEXTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(repeats: &mut Repeats, text: &str, now: Instant) -> bool {
        repeats.admit(Level::Warn, text.into(), text, now)
    }

    #[test]
    fn a_few_equal_lines_are_shown_and_the_others_summed_up_when_the_time_is_over() {
        let (mut repeats, now) = (Repeats::new(), Instant::now());
        let shown = (0..20).filter(|_| said(&mut repeats, "a", now)).count();
        assert_eq!(shown as u32, MAX_SHOWN);
        assert_eq!(repeats.deadline(), Some(now + WINDOW));
        assert_eq!(repeats.due(now + WINDOW / 2, false), []);
        assert_eq!(repeats.due(now + WINDOW, false), [(Level::Warn, "a (and 15 more like it in 60 s)".into())]);
        assert_eq!((repeats.deadline(), repeats.due(now + WINDOW * 9, true)), (None, vec![]));
    }

    #[test]
    fn what_goes_on_is_one_line_a_window_and_after_a_quiet_one_it_is_new() {
        let (mut repeats, now) = (Repeats::new(), Instant::now());
        assert!((0..5).all(|_| said(&mut repeats, "a", now)) && !said(&mut repeats, "a", now));
        repeats.due(now + WINDOW, false);
        assert!(!said(&mut repeats, "a", now + WINDOW));
        assert_eq!(repeats.due(now + WINDOW * 2, false).len(), 1);
        assert!(said(&mut repeats, "a", now + WINDOW * 3));
    }

    #[test]
    fn lines_of_another_text_or_level_are_counted_apart_even_when_they_alternate() {
        let (mut repeats, now) = (Repeats::new(), Instant::now());
        let shown = (0..40).filter(|n| said(&mut repeats, ["a", "b"][n % 2], now)).count();
        assert_eq!(shown as u32, 2 * MAX_SHOWN);
        assert!(repeats.admit(Level::Error, "a".into(), "a", now));
    }

    #[test]
    fn the_last_of_lines_that_are_alike_stands_for_them() {
        let (mut repeats, now) = (Repeats::new(), Instant::now());
        for n in 0..7 {
            repeats.admit(Level::Info, "from h".into(), &format!("from h:{n}"), now);
        }
        assert_eq!(repeats.due(now, true), [(Level::Info, "from h:6 (and 2 more like it in 0 s)".into())]);
    }

    #[test]
    fn many_texts_take_bounded_memory_and_none_that_is_held_back_is_forgotten() {
        let (mut repeats, now) = (Repeats::new(), Instant::now());
        assert!((0..5).all(|_| said(&mut repeats, "a", now)) && !said(&mut repeats, "a", now));
        for n in 0..1000 {
            assert!(said(&mut repeats, &n.to_string(), now));
        }
        assert!(repeats.entries.len() <= MAX_TEXTS);
        assert_eq!(repeats.due(now, true).len(), 1);
    }
}
