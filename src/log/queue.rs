//! The queue between the threads that log and the one that writes, so that no other thread waits for a reader or a disk.
//!
//! ```text
//!   push --> lines (bounded) --swap--> writer thread --> stdout
//!       \--> lost (counted) ------------------^ "1234 lines were not written"
//! ```
//!
//! Lines are taken in the order in which they came. A line that finds no room is lost and counted; the count is written where
//! the lines would have stood. The thread starts with the first line and sleeps while there is none.

use std::io::{self, ErrorKind, Write};
use std::mem::{replace, take};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines that wait to be written.
pub(super) struct Queue {
    state: Mutex<State>,
    /// There are lines to write.
    news: Condvar,
    /// Everything is written, and a [`flush`](Queue::flush) waits for that.
    done: Condvar,
}

struct State {
    /// Whole lines, their ends included.
    lines: Vec<u8>,
    /// Lines that found no room since the writer took the last ones.
    lost: u64,
    /// Lines that found no room, ever.
    lost_ever: u64,
    writer: Writer,
    /// Whether a flush waits.
    flushing: bool,
    /// Whether the writer is to ask for sums: their deadline has changed, or a flush wants them all.
    woken: bool,
}

/// What the writer thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// There is none yet.
    None,
    /// It waits for lines.
    Idle,
    /// It writes, or is about to.
    Busy,
}

/// How much room a line may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Room is left behind it for those that matter.
    Ordinary,
    /// All of it: a warning or an error.
    Heavy,
}

impl Queue {
    /// An empty one, without a thread.
    pub(super) const fn new() -> Queue {
        let state =
            State { lines: Vec::new(), lost: 0, lost_ever: 0, writer: Writer::None, flushing: false, woken: false };
        Queue { state: Mutex::new(state), news: Condvar::new(), done: Condvar::new() }
    }

    /// Takes a whole line, or counts it as lost. `start` starts the thread with the first one; where it cannot, the
    /// next line tries again.
    pub(super) fn push(&self, line: &[u8], weight: Weight, start: impl FnOnce() -> io::Result<()>) {
        let mut state = self.state();
        let room = if weight == Weight::Heavy { MAX_QUEUED } else { MAX_ORDINARY };
        match state.lines.len() + line.len() <= room {
            true => state.lines.extend_from_slice(line),
            false => {
                state.lost += 1;
                state.lost_ever += 1;
            }
        }
        match state.writer {
            Writer::Busy => {}
            Writer::Idle => {
                state.writer = Writer::Busy;
                self.news.notify_one();
            }
            Writer::None => {
                if start().is_ok() {
                    state.writer = Writer::Busy;
                }
            }
        }
    }

    /// Lines that found no room so far.
    pub(super) fn lost_lines(&self) -> u64 {
        self.state().lost_ever
    }

    /// Lines are held back, which the writer has to sum up in time.
    pub(super) fn wake(&self) {
        let mut state = self.state();
        if state.writer == Writer::Idle && !state.woken {
            state.woken = true;
            self.news.notify_one();
        }
    }

    /// Writes lines as they come, for ever. `lost` makes the line that says how many were lost, and why; `sums` those that stand for
    /// lines held back, all of them if asked, and says how long until there are more.
    pub(super) fn write_to(
        &self,
        mut out: impl Write,
        lost: impl Fn(u64, &str) -> String,
        sums: impl Fn(bool) -> (Vec<u8>, Option<Duration>),
    ) -> ! {
        let mut batch = Vec::new();
        let mut losses = Losses::default();
        loop {
            let missed;
            (batch, missed) = self.next(batch, &sums);
            losses.write(&batch, missed, &mut out, &lost);
        }
    }

    /// Waits for lines, and gives an emptied buffer for them; and how many were lost after them.
    fn next(&self, mut emptied: Vec<u8>, sums: &impl Fn(bool) -> (Vec<u8>, Option<Duration>)) -> (Vec<u8>, u64) {
        emptied.clear();
        emptied.shrink_to(MAX_KEPT);
        let mut state = self.state();
        while state.lines.is_empty() && state.lost == 0 {
            state.woken = false;
            let (lines, more) = sums(state.flushing);
            if !lines.is_empty() {
                state.writer = Writer::Busy;
                return (lines, 0);
            }
            state.writer = Writer::Idle;
            if state.flushing {
                self.done.notify_all();
            }
            state = match more {
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(time) => self.news.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        (replace(&mut state.lines, emptied), take(&mut state.lost))
    }

    /// Waits until everything is written, and no longer than `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let mut state = self.state();
        state.flushing = true;
        if state.writer == Writer::Idle {
            // What is held back is written, too.
            (state.writer, state.woken) = (Writer::Busy, true);
            self.news.notify_one();
        }
        let waited = self.done.wait_timeout_while(state, timeout, |state| state.writer == Writer::Busy);
        waited.unwrap_or_else(PoisonError::into_inner).0.flushing = false;
    }

    /// Nothing panics while it holds the state, so it is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the writer could not write, until it can say so.
#[derive(Default)]
struct Losses {
    count: u64,
    /// The last error; lines that found no room have none.
    why: Option<ErrorKind>,
    /// A line was cut by an error: what comes next begins a new one.
    cut: bool,
}

impl Losses {
    /// Writes these lines, and says how many were lost if any were.
    fn write(&mut self, lines: &[u8], missed: u64, out: &mut impl Write, lost: &impl Fn(u64, &str) -> String) {
        self.send(lines, out);
        self.count += missed;
        // While nothing can be written at all, the count grows and waits.
        if self.count > 0 && !self.cut {
            let why = self.why.map_or_else(|| UNREAD.to_string(), |why| why.to_string());
            let line = lost(self.count, &why);
            let before = take(&mut self.count);
            match self.send(line.as_bytes(), out) {
                true => self.why = None,
                false => self.count = before,
            }
        }
    }

    /// Whether all of it was written. If not, the lines that were not are counted.
    fn send(&mut self, lines: &[u8], out: &mut impl Write) -> bool {
        if self.cut && write_all(out, b"\n").is_ok() {
            self.cut = false;
        }
        match write_all(out, lines) {
            Ok(()) => true,
            Err((written, error)) => {
                self.count += lines[written..].iter().filter(|&&byte| byte == b'\n').count() as u64;
                self.cut |= written > 0 && lines[written - 1] != b'\n';
                self.why = Some(error.kind());
                false
            }
        }
    }
}

/// Writes all of it, or says how much was written before which error. Waits for an output that has no room, whether or
/// not the descriptor itself does so.
fn write_all(out: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Why lines find no room.
const UNREAD: &str = "the log is not read";

/// Bytes of lines that wait.
const MAX_QUEUED: usize = 64 << 10;

/// The part of them that lines below a warning may fill.
const MAX_ORDINARY: usize = 48 << 10;

/// Bytes of buffer kept while there is nothing to write.
const MAX_KEPT: usize = 1 << 10;

/// Between two attempts at an output that has no room and does not wait by itself.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
    use std::sync::Arc;

    /// An output that hands over each write, and waits until it is taken.
    struct Output(SyncSender<Vec<u8>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let sent = self.0.send(bytes.to_vec());
            sent.map(|()| bytes.len()).map_err(|_| ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lost(count: u64, why: &str) -> String {
        format!("{count} lost: {why}\n")
    }

    /// A queue whose writer stands before an output with no room at all.
    fn queue() -> (Arc<Queue>, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        let queue = Arc::new(Queue::new());
        let writer = queue.clone();
        queue.push(b"first\n", Weight::Ordinary, || {
            thread::Builder::new()
                .spawn(move || writer.write_to(Output(sender), lost, |_| (Vec::new(), None)))
                .map(drop)
        });
        assert_eq!(receiver.recv().unwrap(), b"first\n");
        (queue, receiver)
    }

    fn push(queue: &Queue, line: &str, weight: Weight) {
        queue.push(line.as_bytes(), weight, || panic!("there is a writer"));
    }

    #[test]
    fn lines_of_one_thread_stay_in_order_and_all_are_written() {
        let (queue, output) = queue();
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            while !read.ends_with(b"last\n") {
                read.extend(output.recv().unwrap());
            }
            read
        });
        let expected: String = (0..2000).map(|n| format!("line {n}\n")).collect();
        for line in expected.split_inclusive('\n') {
            push(&queue, line, Weight::Ordinary);
        }
        push(&queue, "last\n", Weight::Ordinary);
        assert_eq!(String::from_utf8(reader.join().unwrap()).unwrap(), expected + "last\n");
    }

    #[test]
    fn an_output_that_is_not_read_loses_lines_which_are_counted_where_they_would_have_stood() {
        let (queue, output) = queue();
        push(&queue, "taken\n", Weight::Ordinary);
        let line = "x".repeat(1023) + "\n";
        // However many the writer has taken by now, there is no room for all of these.
        for _ in 0..1000 {
            push(&queue, &line, Weight::Ordinary);
        }
        push(&queue, "an error\n", Weight::Heavy);
        // A writer that comes late for its first batch tells of two losses, each where its lines would have stood.
        let (mut kept, mut told, mut bytes, mut error) = (0, 0, 0, false);
        while kept + told < 1000 || !error {
            let read = String::from_utf8(output.recv().unwrap()).unwrap();
            for one in read.split_inclusive('\n') {
                match one.strip_suffix(" lost: the log is not read\n") {
                    Some(count) => told += count.parse::<usize>().unwrap(),
                    None => bytes += one.len(),
                }
                kept += usize::from(one == line);
                error |= one == "an error\n";
            }
        }
        assert!(kept + told == 1000 && bytes <= 2 * MAX_QUEUED, "{kept} kept, {told} lost, {bytes} bytes");
        push(&queue, "after\n", Weight::Ordinary);
        assert_eq!(output.recv().unwrap(), b"after\n", "it is said once");
    }

    #[test]
    fn a_flush_waits_until_all_is_written_and_gives_up_where_there_is_no_reader() {
        let (queue, output) = queue();
        push(&queue, "unread\n", Weight::Heavy);
        queue.flush(Duration::from_millis(1));
        assert_eq!(output.recv().unwrap(), b"unread\n");
        let reader = thread::spawn(move || output.iter().map(|bytes| bytes.len()).sum::<usize>());
        push(&queue, "read\n", Weight::Heavy);
        queue.flush(Duration::from_secs(3600));
        assert!(queue.state().lines.is_empty());
        assert!(!reader.is_finished());
    }

    #[test]
    fn nothing_to_write_is_flushed_already_even_without_a_thread() {
        Queue::new().flush(Duration::from_secs(3600));
    }

    #[test]
    fn without_a_thread_lines_are_kept_and_the_next_one_tries_again() {
        let queue = Queue::new();
        let mut tried = 0;
        for _ in 0..2 {
            queue.push(b"line\n", Weight::Ordinary, || {
                tried += 1;
                Err(ErrorKind::WouldBlock.into())
            });
        }
        assert_eq!((tried, queue.next(Vec::new(), &|_| (Vec::new(), None))), (2, (b"line\nline\n".to_vec(), 0)));
    }

    #[test]
    fn a_line_cut_by_an_error_ends_before_the_next_and_what_was_lost_is_told() {
        struct Disk(Vec<u8>, usize);
        impl Write for Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let room = bytes.len().min(self.1);
                self.0.extend_from_slice(&bytes[..room]);
                self.1 -= room;
                if room > 0 {
                    Ok(room)
                } else {
                    Err(ErrorKind::StorageFull.into())
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut disk = Disk(Vec::new(), 9);
        let mut losses = Losses::default();
        losses.write(b"one\ntwo two\nthree\n", 0, &mut disk, &lost);
        losses.write(b"four\n", 1, &mut disk, &lost);
        disk.1 = 1000;
        losses.write(b"five\n", 0, &mut disk, &lost);
        losses.write(b"six\n", 0, &mut disk, &lost);
        let text = String::from_utf8(disk.0).unwrap();
        assert_eq!(text, "one\ntwo t\nfive\n4 lost: no storage space\nsix\n");
    }
}
