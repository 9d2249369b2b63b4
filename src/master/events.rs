//! The readers of events. A slow one loses lines and figures that are out of date, and nothing else:
//!
//! ```text
//!   publish --> queue (bounded) ------------------------------> reader
//!          \--> owed: what did not fit, one event an instance --^  (as soon as there is room)
//! ```
//!
//! While a reader is owed something, later events of the same instance are folded into it: the newest record counts, a
//! `create` stays one, a `delete` replaces all, and lines are lost. So a reader that goes on sees `create` before the first
//! `update` and every `delete`, and ends up with what is true.
//!
//! A stream ends when its sender is dropped. There is a `shutdown` before it if that fits; the writer of the stream says
//! `shutdown` by itself if it ends without.

use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender, TrySendError};
use std::sync::Arc;
use std::time::SystemTime;

use super::record::Record;
use super::requests::{Event, What};
use crate::log::rfc3339;

/// All readers.
pub struct Readers {
    /// The one that has listened longest first.
    readers: Vec<Subscriber>,
    /// Most at once: each keeps a thread until it is written to and found gone.
    max: usize,
}

struct Subscriber {
    queue: SyncSender<Arc<Event>>,
    owed: BTreeMap<String, Arc<Event>>,
    gone: bool,
}

impl Readers {
    /// None yet, and never more than `max`.
    pub fn new(max: usize) -> Readers {
        Readers { readers: Vec::new(), max }
    }

    /// One more, who is told of all these records first. If there are as many as there may be, the one who has listened
    /// longest makes room: it may have gone without being noticed, as long as nothing happens.
    pub fn join<'a>(&mut self, records: impl ExactSizeIterator<Item = &'a Record>) -> Receiver<Arc<Event>> {
        if self.readers.len() >= self.max {
            self.readers.remove(0).offer(&shutdown());
        }
        let (queue, events) = sync_channel(records.len() + QUEUE);
        let mut reader = Subscriber { queue, owed: BTreeMap::new(), gone: false };
        for record in records {
            reader.send(&Arc::new(event(What::Initial, record, String::new())));
        }
        self.readers.push(reader);
        events
    }

    /// Tells all of something that happened to an instance. `line` is for [`What::Log`].
    pub fn publish(&mut self, what: What, record: &Record, line: String) {
        if self.readers.is_empty() {
            return;
        }
        let event = Arc::new(event(what, record, line));
        for reader in &mut self.readers {
            reader.send(&event);
        }
        self.readers.retain(|reader| !reader.gone);
    }

    /// Gives readers that lagged what they are owed, as far as there is room.
    pub fn send_owed(&mut self) {
        self.readers.iter_mut().for_each(Subscriber::send_owed);
        self.readers.retain(|reader| !reader.gone);
    }

    /// Whether a reader lags.
    pub fn lag(&self) -> bool {
        self.readers.iter().any(|reader| !reader.owed.is_empty())
    }

    /// Ends all streams.
    pub fn end(&mut self) {
        let shutdown = shutdown();
        for mut reader in self.readers.drain(..) {
            reader.send_owed();
            reader.offer(&shutdown);
        }
    }
}

impl Subscriber {
    /// Sends it, or remembers it.
    fn send(&mut self, event: &Arc<Event>) {
        self.send_owed();
        if !self.owed.is_empty() || !self.offer(event) {
            self.owe(event);
        }
    }

    /// Whether it was sent, or never will be.
    fn offer(&mut self, event: &Arc<Event>) -> bool {
        match self.queue.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.gone = true;
                true
            }
        }
    }

    fn send_owed(&mut self) {
        while let Some((_, event)) = self.owed.first_key_value() {
            let event = event.clone();
            if !self.offer(&event) {
                return;
            }
            self.owed.pop_first();
        }
    }

    /// Folds an event into what is owed of its instance.
    fn owe(&mut self, event: &Arc<Event>) {
        let Some(record) = &event.instance else { return };
        match (self.owed.entry(record.id.clone()), event.what) {
            (_, What::Log) => {}
            (Entry::Vacant(place), _) => drop(place.insert(event.clone())),
            // It was never told of this one, and need not be.
            (Entry::Occupied(place), What::Delete) if place.get().what == What::Create => drop(place.remove()),
            (Entry::Occupied(mut place), What::Delete) => drop(place.insert(event.clone())),
            (Entry::Occupied(mut place), _) => {
                let what = place.get().what;
                place.insert(Arc::new(Event { what, ..Event::clone(event) }));
            }
        }
    }
}

fn event(what: What, record: &Record, logs: String) -> Event {
    Event { what, time: rfc3339(SystemTime::now()), instance: Some(record.clone()), logs }
}

fn shutdown() -> Arc<Event> {
    Arc::new(Event { what: What::Shutdown, time: rfc3339(SystemTime::now()), instance: None, logs: String::new() })
}

/// Events that wait for one reader, beside an `initial` for each record.
pub const QUEUE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 8;

    fn record(id: usize) -> Record {
        Record { id: format!("{id:08x}"), ..Record::default() }
    }

    fn read(events: &Receiver<Arc<Event>>) -> Vec<(What, String, String)> {
        let shown = |event: Arc<Event>| {
            let record = event.instance.clone().unwrap_or_default();
            (event.what, record.id, record.alias)
        };
        events.try_iter().map(shown).collect()
    }

    #[test]
    fn a_reader_hears_of_every_record_first_however_many_there_are() {
        let records: Vec<Record> = (0..QUEUE * 3).map(record).collect();
        let events = Readers::new(MAX).join(records.iter());
        let heard = read(&events);
        assert_eq!(heard.len(), records.len());
        assert!(heard.iter().zip(&records).all(|(heard, record)| heard.0 == What::Initial && heard.1 == record.id));
    }

    #[test]
    fn a_reader_that_lags_keeps_no_other_from_hearing_everything() {
        let mut readers = Readers::new(MAX);
        let (lazy, busy) = (readers.join([].iter()), readers.join([].iter()));
        let mut heard = 0;
        for _ in 0..QUEUE * 10 {
            readers.publish(What::Log, &record(1), "x".into());
            heard += read(&busy).len();
        }
        assert_eq!(heard, QUEUE * 10);
        assert_eq!(read(&lazy).len(), QUEUE);
    }

    #[test]
    fn a_reader_who_lagged_hears_how_it_ended_with_create_first_and_delete_last() {
        let mut readers = Readers::new(MAX);
        let events = readers.join([record(1), record(2)].iter());
        for _ in 0..QUEUE {
            readers.publish(What::Update, &record(1), String::new());
        }
        // From here on the queue is full.
        readers.publish(What::Create, &record(3), String::new());
        readers.publish(What::Log, &record(3), "lost".into());
        readers.publish(What::Update, &Record { alias: "newest".into(), ..record(3) }, String::new());
        readers.publish(What::Create, &record(4), String::new());
        readers.publish(What::Update, &record(2), String::new());
        readers.publish(What::Delete, &record(2), String::new());
        readers.publish(What::Delete, &record(4), String::new());
        assert!(readers.lag());
        assert_eq!(read(&events).len(), 2 + QUEUE);
        readers.send_owed();
        assert!(!readers.lag());
        let id = |n| record(n).id;
        let owed = [(What::Delete, id(2), String::new()), (What::Create, id(3), "newest".into())];
        assert_eq!(read(&events), owed);
    }

    #[test]
    fn what_one_reader_is_owed_does_not_grow_with_time() {
        let mut readers = Readers::new(MAX);
        let events = readers.join([record(0)].iter());
        for n in 1..QUEUE * 20 {
            readers.publish(What::Create, &record(n), String::new());
            readers.publish(What::Update, &record(n), String::new());
            readers.publish(What::Delete, &record(n), String::new());
        }
        assert!(readers.readers[0].owed.len() <= 1, "{}", readers.readers[0].owed.len());
        let heard = read(&events);
        readers.send_owed();
        let heard: Vec<_> = heard.into_iter().chain(read(&events)).collect();
        let count = |kind| heard.iter().filter(|(what, ..)| *what == kind).count();
        assert_eq!(count(What::Create), count(What::Delete));
    }

    #[test]
    fn streams_end_with_shutdown_and_then_there_is_nothing() {
        let mut readers = Readers::new(MAX);
        let events = readers.join([].iter());
        readers.end();
        assert_eq!(events.try_recv().map(|event| event.what), Ok(What::Shutdown));
        assert!(events.try_recv().is_err_and(|error| error == std::sync::mpsc::TryRecvError::Disconnected));
    }

    #[test]
    fn one_reader_too_many_ends_the_oldest_stream_and_one_who_left_is_forgotten() {
        let mut readers = Readers::new(MAX);
        let mut all: Vec<_> = (0..=MAX).map(|_| readers.join([].iter())).collect();
        assert_eq!(read(&all.remove(0)), [(What::Shutdown, String::new(), String::new())]);
        assert_eq!(readers.readers.len(), MAX);
        drop(all.split_off(1));
        readers.publish(What::Update, &record(1), String::new());
        assert_eq!(readers.readers.len(), 1);
    }
}
