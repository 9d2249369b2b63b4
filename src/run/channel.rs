//! The queue between threads, with a waker that rings only when its reader sleeps.
//!
//! The hub shares its thread with worker 0: what they tell each other needs no wake-up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::Arc;

use mio::{Registry, Token};

use super::messages::Job;
use crate::logic::slab::Key;
use crate::net::udp::Frames;

/// Tells a thread that something waits in its queues, and lets it sleep when nothing does.
pub struct Waker {
    waker: mio::Waker,
    awake: AtomicBool,
    unread: AtomicUsize,
    datagrams: AtomicUsize,
}

impl Waker {
    /// A waker that wakes the poll behind `registry`.
    pub fn new(registry: &Registry, token: Token) -> std::io::Result<Waker> {
        Ok(Waker {
            waker: mio::Waker::new(registry, token)?,
            awake: AtomicBool::new(true),
            unread: AtomicUsize::new(0),
            datagrams: AtomicUsize::new(0),
        })
    }

    /// Whether the owner may go to sleep; if so, the next message rings.
    pub fn doze(&self) -> bool {
        self.awake.store(false, Ordering::SeqCst);
        let may = self.unread.load(Ordering::SeqCst) == 0;
        if !may {
            self.rise();
        }
        may
    }

    /// The owner is awake: messages need not ring.
    pub fn rise(&self) {
        self.awake.store(true, Ordering::SeqCst);
    }

    fn ring(&self) {
        self.unread.fetch_add(1, Ordering::SeqCst);
        if !self.awake.swap(true, Ordering::SeqCst) {
            // It fails only when the poll is gone, and then no thread waits.
            let _ = self.waker.wake();
        }
    }
}

/// The sending end of a queue.
pub struct Sender<T> {
    queue: mpsc::Sender<T>,
    waker: Arc<Waker>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { queue: self.queue.clone(), waker: self.waker.clone() }
    }
}

impl<T> Sender<T> {
    /// Queues a message and wakes its reader if that sleeps. At the program's end there may be no reader any more.
    pub fn send(&self, message: T) {
        if self.queue.send(message).is_ok() {
            self.waker.ring();
        }
    }
}

impl Sender<Job> {
    /// Hands datagrams on, unless their reader has more than `most` bytes of them to read yet: then they are lost, as in any full
    /// socket. How many were.
    pub fn deliver(&self, key: Key, frames: Frames, most: usize) -> usize {
        let waiting = &self.waker.datagrams;
        if waiting.load(Ordering::Relaxed) > most {
            return frames.count();
        }
        waiting.fetch_add(frames.payload(), Ordering::Relaxed);
        self.send(Job::Datagrams(key, frames));
        0
    }
}

/// The reading end of a queue.
pub struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    waker: Arc<Waker>,
}

impl<T> Receiver<T> {
    /// Whether anything waits in the queues of this thread.
    pub fn has_mail(&self) -> bool {
        self.waker.unread.load(Ordering::SeqCst) > 0
    }

    /// The next message, if there is one.
    pub fn next(&self) -> Option<T> {
        let message = self.queue.try_recv().ok()?;
        self.waker.unread.fetch_sub(1, Ordering::SeqCst);
        Some(message)
    }
}

impl Receiver<Job> {
    /// Datagrams of so many bytes have been read.
    pub fn delivered(&self, bytes: usize) {
        self.waker.datagrams.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A queue to a thread with that waker. One waker may serve several queues.
pub fn channel<T>(waker: &Arc<Waker>) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    (Sender { queue: sender, waker: waker.clone() }, Receiver { queue: receiver, waker: waker.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::slab::Slab;

    #[test]
    fn datagrams_that_are_not_read_are_lost_and_other_messages_are_not() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (post, inbox) = channel::<Job>(&waker);
        let key = Slab::default().insert(());
        let deliver = || {
            let mut frames = Frames::default();
            (0..2).for_each(|_| frames.push(&[&[0; 300]]));
            post.deliver(key, frames, 1000)
        };
        assert_eq!((0..10).map(|_| deliver()).sum::<usize>(), 16);
        post.send(Job::Close(key));
        let read = || std::iter::from_fn(|| inbox.next()).collect::<Vec<_>>();
        let jobs = read();
        assert!(matches!(&jobs[..], [Job::Datagrams(..), Job::Datagrams(..), Job::Close(_)]), "{}", jobs.len());
        assert_eq!(deliver(), 2);
        assert!(read().is_empty(), "they are read only when the worker says so");
        inbox.delivered(1200);
        assert_eq!(deliver(), 0);
        assert_eq!(read().len(), 1);
    }
}
