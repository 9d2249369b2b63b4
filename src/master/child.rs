//! The process of an instance: this same executable. It reads the instance's URL from its leash; its argument is the same without the key.
//!
//! ```text
//!   supervisor --Child-- leash ===== socket pair ===== stdin (the URL), stdout, stderr of the process
//!       ^                              |
//!       +---- Mail::Said, Quiet ---- reader thread: lines -> words
//! ```
//!
//! Our end of the pair is the leash: it closes when the master dies, whatever of, and the process leaves as on SIGTERM.

use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child as Process, Command, Stdio};
use std::sync::mpsc::{sync_channel, Receiver, Sender, SyncSender};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::child_log::{for_people, for_syslog, is_error, plain, with_instance, ChildLine, LineReader};
use super::mail::Mail;
use crate::config::masked;
use crate::log::{self, Format, Level};
use crate::logic::guard::Source;
use crate::notify;
use crate::run::{cmdline, leash};

/// How processes are made.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// Whether what children say is shown on our stdout, and whether in colour.
    echo: Option<bool>,
    /// What lines are: they have it from the environment, as this process does.
    format: Format,
}

impl Program {
    /// This executable, by the path that it has now: when it is replaced by a newer one, children started from then on
    /// are of the newer one. What children say is shown on stdout.
    pub fn own(format: Format) -> Program {
        let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(SELF));
        Program { echo: Some(io::stdout().is_terminal()), format, ..Program::at(path) }
    }

    /// Any executable, whose words are not shown.
    pub fn at(path: PathBuf) -> Program {
        Program { path, echo: None, format: Format::Text }
    }

    /// A process of it: by the path, or where that is empty now, by the image that runs. What is the master's own is not in its
    /// environment.
    fn child(&self) -> Command {
        let mut command = match self.path.exists() {
            true => Command::new(&self.path),
            false => Command::new(SELF),
        };
        // The service manager's own child is the master.
        for name in notify::VARIABLES {
            command.env_remove(name);
        }
        command.env_remove(cmdline::VARIABLE);
        command
    }

    /// Runs it once with these words, and `given` on its standard input: all that it says until its end, or until that time. It reads URLs as an
    /// instance of a master does.
    pub fn ask(&self, words: &[&str], given: &str, until: Instant) -> io::Result<Vec<u8>> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let mut process = self
            .child()
            .args(words)
            .env_remove(cmdline::SOCKET)
            .env(leash::NAME, leash::VALUE)
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let said = exchange(&mut ours, given, until);
        // It has said all that is waited for. An error means that it has ended already.
        let _ = process.kill();
        process.wait()?;
        said
    }
}

/// Hands `given` over, and reads what is said then, for as long as there is time.
fn exchange(process: &mut UnixStream, given: &str, until: Instant) -> io::Result<Vec<u8>> {
    process.set_write_timeout(Some(LINGER))?;
    process.write_all(given.as_bytes())?;
    process.shutdown(Shutdown::Write)?;
    let (mut said, mut part) = (Vec::new(), [0; BUFFER]);
    while said.len() < MAX_SAID {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        process.set_read_timeout(Some(left))?;
        match process.read(&mut part) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    Ok(said)
}

/// A process that was started and has not been waited for.
pub struct Child {
    process: Process,
    /// The number of the process that came after it, if one did.
    next: Option<u32>,
    /// Cut with this value, if not before.
    leash: UnixStream,
    words: Receiver<ChildLine>,
    /// Its reader has read everything.
    quiet: bool,
    /// When to see whether it has ended, and how long to wait after that.
    look: Option<(Instant, Duration)>,
    /// When it was first seen to have ended, though another process still holds its output.
    over: Option<Instant>,
}

impl Child {
    /// Starts the process of the instance `id`. Its words are announced to the mailbox, one mail each.
    pub fn spawn(program: &Program, id: &str, url: &str, mailbox: &Sender<Mail>) -> io::Result<Child> {
        let (mut leash, stdio) = UnixStream::pair()?;
        let given = [url.to_owned()];
        cmdline::hand_over(&mut leash, &given)?;
        let stdio = OwnedFd::from(stdio);
        let (post, words) = sync_channel(MAX_WORDS);
        let from = leash.try_clone()?;
        // The thread before the process: if there is none to be had, there is no process either.
        let Program { echo, format, .. } = *program;
        let reader = LogReader { from, id: id.into(), echo, format, post, mailbox: mailbox.clone() };
        let name = format!("reader-{id}");
        thread::Builder::new().name(name).stack_size(STACK).spawn(move || reader.run())?;
        let mut command = program.child();
        let process = command
            .args(masked(&given))
            .env(cmdline::SOCKET, STDIN)
            .env(leash::NAME, leash::VALUE)
            .stdin(Stdio::from(stdio.try_clone()?))
            .stdout(Stdio::from(stdio.try_clone()?))
            .stderr(Stdio::from(stdio))
            // Ctrl-C at the master's terminal is for the master alone, which then stops its children.
            .process_group(0)
            .spawn()?;
        Ok(Child { process, next: None, leash, words, quiet: false, look: None, over: None })
    }

    /// The next thing it said, if it was announced.
    pub fn word(&self) -> Option<ChildLine> {
        self.words.try_recv().ok()
    }

    /// Its reader has read everything: mostly it has ended.
    pub fn quiet(&mut self, now: Instant) {
        self.quiet = true;
        self.check(now);
    }

    /// The number of the process that serves.
    pub fn process(&self) -> u32 {
        self.next.unwrap_or_else(|| self.process.id())
    }

    /// Another process serves now; this one stays until that has ended.
    pub fn followed_by(&mut self, process: u32) {
        self.next = Some(process);
    }

    /// Asks it for the next process, with that URL; whether it was said.
    pub fn hand_on(&self, url: &str) -> bool {
        leash::ask_next(&self.leash, url)
    }

    /// Asks it to leave at once: along the leash, and by SIGTERM for one that has not taken hold of that yet.
    pub fn terminate(&self) {
        leash::ask_stop(&self.leash);
        let Ok(pid) = libc::pid_t::try_from(self.process.id()) else { return };
        // SAFETY: a plain system call. The process has not been waited for, so the number is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }

    /// Asks for another log level; whether it was said.
    pub fn set_level(&self, level: Level) -> bool {
        leash::ask_level(&self.leash, level)
    }

    /// Asks it to let a source in again, or all that it has banned.
    pub fn lift(&self, source: Option<Source>) {
        leash::ask_lift(&self.leash, source);
    }

    /// Ends it: SIGKILL.
    pub fn kill(&mut self, now: Instant) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        self.check(now);
    }

    /// When to ask whether it has [`ended`](Child::ended).
    pub fn deadline(&self) -> Option<Instant> {
        self.look.map(|(at, _)| at)
    }

    /// Whether it has ended, and everything that it said was read; and if so, whether with success.
    pub fn ended(&mut self, now: Instant) -> Option<bool> {
        let (_, pause) = self.look.filter(|(at, _)| now >= *at)?;
        self.look = Some((now + pause, (pause * 2).min(MAX_PAUSE)));
        let status = self.process.try_wait().ok()??;
        // A process of its own may hold its output open: that is not waited for.
        let over = *self.over.get_or_insert(now);
        (self.quiet || now >= over + LINGER).then(|| status.success())
    }

    fn check(&mut self, now: Instant) {
        self.look = Some((now, PAUSE));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The reader has a share in our end: closing ours would not be enough. An error means that it is cut already.
        let _ = self.leash.shutdown(Shutdown::Both);
    }
}

/// Reads what one child writes, until no process holds its output.
struct LogReader {
    from: UnixStream,
    id: Arc<str>,
    echo: Option<bool>,
    format: Format,
    post: SyncSender<ChildLine>,
    mailbox: Sender<Mail>,
}

impl LogReader {
    fn run(self) {
        let mut lines = LineReader::new(BufReader::with_capacity(BUFFER, &self.from));
        while let Ok(Some(line)) = lines.read() {
            let text = if self.format == Format::Json { for_people(&line) } else { None };
            let is_object = text.is_some();
            let word = ChildLine::of(text.unwrap_or_else(|| dated(&line)));
            if let ChildLine::Line { text, .. } = &word {
                self.show(text, is_object.then_some(&line));
            }
            // The queue bounds the mails: a child that talks faster than the master listens waits.
            if self.post.send(word).is_err() || self.mailbox.send(Mail::Said(self.id.clone())).is_err() {
                return;
            }
        }
        // An error means that the supervisor has left.
        let _ = self.mailbox.send(Mail::Quiet(self.id.clone()));
    }

    /// Shows a line as the master's own, and whose it is. `object` is the same for programs.
    fn show(&self, text: &str, object: Option<&String>) {
        let (id, format) = (&self.id, self.format);
        let Some(colour) = self.echo else { return };
        let line = match (format, object) {
            (Format::Json, Some(object)) => with_instance(object, id),
            (Format::Json, None) => {
                let level = if is_error(text) { Level::Error } else { Level::Info };
                with_instance(&log::line_now(level, &plain(text), format, colour), id)
            }
            (Format::Syslog, _) => for_syslog(text, id),
            (Format::Text, _) if colour => format!("{text} [{id}]"),
            (Format::Text, _) => format!("{} [{id}]", plain(text)),
        };
        log::pass_on(&(line + "\n"), format, colour);
    }
}

/// What a process says as it fails to start, as a line of the log; another line stays as it is.
fn dated(line: &str) -> String {
    match line.strip_prefix(START_ERROR) {
        Some(text) => log::line_now(Level::Error, text, Format::Text, true).trim_end().into(),
        None => line.into(),
    }
}

/// How a process begins what it says on stderr when it cannot start.
const START_ERROR: &str = "Error: ";

/// The number of a process's standard input.
const STDIN: &str = "0";

/// The image that runs, even if its file is gone.
const SELF: &str = "/proc/self/exe";

/// Words of one child that wait for the supervisor.
const MAX_WORDS: usize = 64;

/// Bytes of what a process says that is asked once.
const MAX_SAID: usize = 1024 * 1024;

/// Bytes read from a child at once.
const BUFFER: usize = 1024;

/// Readers need little stack: nothing recurses.
const STACK: usize = 64 * 1024;

/// The first pause between two looks at whether a process has ended; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(2);

/// The longest one.
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// How long the output of a process is read on after its end.
const LINGER: Duration = Duration::from_secs(1);
