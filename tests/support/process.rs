//! A running program and what it says.

use super::{eventually, present, GRACE};
use mio::unix::pipe::Receiver;
use mio::{Events, Interest, Poll, Token};
use nodepass::logic::checkpoint::CheckPoint;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// Short intervals, so that a test need not wait for what takes seconds in real life; and timeout where only what is
/// broken, or a machine that is very busy, uses it up. Tests of an end of timeout set it themselves.
pub const QUICK: &[(&str, &str)] = &[
    ("NP_REPORT_INTERVAL", "1s"),
    ("NP_SERVICE_COOLDOWN", "300ms"),
    ("NP_SHUTDOWN_TIMEOUT", "2s"),
    ("NP_POOL_GET_TIMEOUT", "10s"),
    ("NP_HANDSHAKE_TIMEOUT", "6s"),
    ("NP_MIN_POOL_INTERVAL", "50ms"),
    ("NP_MAX_POOL_INTERVAL", "300ms"),
];

/// A program that runs until it ends or this value is dropped. Nothing outlives the test: it is killed with the test
/// process too, whatever ends that.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    pid: u32,
    log: Arc<Log>,
}

impl Process {
    /// The binary under test with a URL and the [`QUICK`] intervals.
    pub fn nodepass(url: &str) -> Process {
        Process::nodepass_with(&[url], &[])
    }

    /// The binary under test with arguments, the [`QUICK`] intervals, and more environment on top of them.
    pub fn nodepass_with(args: &[&str], env: &[(&str, &str)]) -> Process {
        let mut command = nodepass_command();
        command.args(args).envs(env.iter().copied());
        let name = args.first().map_or("nodepass", |arg| arg.split(':').next().unwrap_or(arg));
        Process::run(name, command)
    }

    /// Any program.
    pub fn run(name: &str, command: Command) -> Process {
        Process::try_run(name, command).unwrap_or_else(|error| panic!("{name} does not start: {error}"))
    }

    /// Any program, or why it does not start.
    pub fn try_run(name: &str, mut command: Command) -> std::io::Result<Process> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start_child(command)?;
        let log = Log::of(&mut child)?;
        Ok(Process { name: name.to_string(), pid: child.id(), child: Mutex::new(child), log })
    }

    /// Any program, with streams that the test has arranged: its log is not read.
    pub fn unheard(name: &str, command: Command) -> Process {
        let child = start_child(command).unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Process { name: name.to_string(), pid: child.id(), child: Mutex::new(child), log: Arc::default() }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for a line that contains the text, from the very first line on; panics if none comes.
    pub fn says(&self, pattern: &str, within: Duration) -> String {
        self.says_after(0, pattern, within)
    }

    /// As [`Process::says`], for lines after [`Process::mark`].
    pub fn says_after(&self, mark: usize, pattern: &str, within: Duration) -> String {
        let found = self.log.wait(mark, within, |line| line.contains(pattern).then(|| line.to_string()));
        found.unwrap_or_else(|| panic!("{} did not say {pattern:?} within {within:?}", self.name))
    }

    /// Whether it has said so already.
    pub fn said(&self, pattern: &str) -> bool {
        self.count(pattern) > 0
    }

    /// Whether it has said so after [`Process::mark`].
    pub fn said_after(&self, mark: usize, pattern: &str) -> bool {
        self.lines()[mark..].iter().any(|line| line.contains(pattern))
    }

    /// The check points after [`Process::mark`].
    pub fn checkpoints_after(&self, mark: usize) -> Vec<CheckPoint> {
        self.lines()[mark..].iter().filter_map(|line| check_point(line)).collect()
    }

    /// How many lines contain the text so far.
    pub fn count(&self, pattern: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(pattern)).count()
    }

    /// Where the log ends now.
    pub fn mark(&self) -> usize {
        self.log.heard().lines.len()
    }

    /// All lines so far, of stdout and stderr, without colours.
    pub fn lines(&self) -> Vec<String> {
        self.log.heard().lines.iter().map(|line| line.text.clone()).collect()
    }

    /// The lines of stdout (`false`) or stderr (`true`) alone.
    pub fn lines_of(&self, stderr: bool) -> Vec<String> {
        let heard = self.log.heard();
        heard.lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.clone()).collect()
    }

    /// The next check point that fits; panics if none comes.
    pub fn checkpoint(&self, fits: impl Fn(&CheckPoint) -> bool) -> CheckPoint {
        // The first one may have been on its way when the test asked: a log has a thread of its own.
        let mut late = false;
        let found = self.log.wait(self.mark(), GRACE, |line| {
            let point = check_point(line)?;
            (std::mem::replace(&mut late, true) && fits(&point)).then_some(point)
        });
        found.unwrap_or_else(|| panic!("{}: no fitting check point within {GRACE:?}", self.name))
    }

    /// Waits for so many check points from now on, and gives them: time as the process itself counts it.
    pub fn reports(&self, count: usize) -> Vec<CheckPoint> {
        let mut seen = Vec::new();
        let enough = self.log.wait(self.mark(), GRACE * count as u32, |line| {
            seen.extend(check_point(line));
            (seen.len() == count).then_some(())
        });
        assert!(enough.is_some(), "{}: only {} check points of {count}", self.name, seen.len());
        seen
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let _guard = self.child.lock().unwrap();
        // SAFETY: a plain system call. The child has not been waited for outside this lock, so the number is its own.
        unsafe { libc::kill(self.pid as libc::pid_t, signal) };
    }

    /// Ends it at once (SIGKILL), and waits for that.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Waits for its end. The exit code, or minus the signal that ended it; panics if it goes on.
    pub fn wait(&self, within: Duration) -> i32 {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                self.log.closed(end);
                return status;
            }
            assert!(Instant::now() < end, "{} still runs after {within:?}", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The exit code if it has ended, see [`Process::wait`].
    pub fn ended(&self) -> Option<i32> {
        self.child.lock().unwrap().try_wait().expect("waiting for a child").map(code)
    }

    /// The processes that it has started.
    pub fn children(&self) -> Vec<u32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        texts.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    }

    /// How many descriptors it holds.
    pub fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// How many sockets it holds. Unlike its descriptors these do not count spare pipes, of which a worker keeps some.
    pub fn sockets(&self) -> usize {
        let is_socket = |path: std::path::PathBuf| {
            std::fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
        };
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten().flatten();
        entries.filter(|entry| is_socket(entry.path())).count()
    }

    /// What it holds at rest: waits until no user is there and the pool has exactly so many connections.
    pub fn at_rest(&self, pool: u64) -> Holdings {
        // The same twice: a connection that is just being replaced is no rest.
        let mut held = self.rested(pool);
        let same = eventually(GRACE, || {
            let before = std::mem::replace(&mut held, self.rested(pool));
            held == before
        });
        assert!(same, "{self:?} does not come to rest");
        held
    }

    fn rested(&self, pool: u64) -> Holdings {
        self.checkpoint(|now| now.tcps == 0 && now.udps == 0 && now.pool == pool);
        self.holds()
    }

    fn holds(&self) -> Holdings {
        Holdings { sockets: self.sockets(), threads: self.threads() }
    }

    /// Waits until it is at rest and holds no more than that.
    pub fn rests_again(&self, pool: u64, before: Holdings) {
        let mut now = self.rested(pool);
        let back = eventually(GRACE, || {
            now = self.holds();
            now.sockets <= before.sockets && now.threads <= before.threads
        });
        assert!(back, "{self:?} holds {now:?} at rest, before it was {before:?}");
    }

    /// Whether all its threads sleep: none runs or waits for a processor.
    pub fn is_asleep(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let states = tasks.map(|task| std::fs::read_to_string(task.path().join("stat")).unwrap_or_default());
        // After the name, which is in brackets.
        states.into_iter().all(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" R")))
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.status("Threads:")
    }

    /// Resident memory in KiB that is of no file: heap and stacks.
    pub fn own_memory_kb(&self) -> usize {
        self.status("RssAnon:")
    }

    /// Waits until code that only its start has needed is no more mapped: it is most of all that the process has had.
    pub fn settles(&self) {
        let mapped = || (self.status("RssFile:"), self.status("VmHWM:"));
        let settled = eventually(GRACE, || matches!(mapped(), (now, most) if 3 * now < 2 * most));
        assert!(settled, "{self:?}: KiB of files that are mapped, and most of all memory: {:?}", mapped());
    }

    fn status(&self, field: &str) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let lines = self.lines();
            let shown = std::env::var("TEST_LOG_LINES").ok().and_then(|text| text.parse().ok()).unwrap_or(SHOWN);
            eprintln!("---- {} ({}), the last of {} lines", self.name, self.pid, lines.len());
            for line in &lines[lines.len().saturating_sub(shown)..] {
                eprintln!("  | {line}");
            }
        }
    }
}

/// The binary under test with the [`QUICK`] intervals and no other `NP_` variable. `NODEPASS` may hold other words that start one
/// (`qemu-arm-static target/cross/nodepass-armv7`).
pub fn nodepass_command() -> Command {
    let words = std::env::var("NODEPASS").unwrap_or_default();
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(env!("CARGO_BIN_EXE_nodepass")));
    command.args(words);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NP_")) {
        command.env_remove(name);
    }
    command.envs(QUICK.iter().copied());
    command
}

/// Runs a program to its end; status and the bytes that it wrote.
pub fn finished(mut command: Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    start_child(command).map(finish)
}

/// A child's end and the bytes that it wrote; panics if it is not over after [`ENDLESS`].
pub fn finish(child: Child) -> Output {
    let (end, ended) = mpsc::channel();
    std::thread::spawn(move || end.send(child.wait_with_output()));
    ended.recv_timeout(ENDLESS).expect("a program ends").expect("its output")
}

/// Runs a program to its end; status and the lines that it wrote (stdout, stderr), without colours.
pub fn output(mut command: Command) -> (i32, String, String) {
    let name = command.get_program().to_string_lossy().into_owned();
    command.env("LC_ALL", "C");
    let done = finished(command).unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let lines = |bytes: &[u8]| plain(&String::from_utf8_lossy(bytes)).lines().collect::<Vec<_>>().join("\n");
    (code(done.status), lines(&done.stdout), lines(&done.stderr))
}

/// The exit code, or minus the signal that ended it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// Allows this process, and those that it starts, so many descriptors; if it may not, the test is skipped.
pub fn raise_limits(descriptors: usize) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only touch the structure.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur = limit.rlim_max.min(65536);
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    present(limit.rlim_cur as usize >= descriptors, &format!("{descriptors} descriptors"))
}

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    pub sockets: usize,
    pub threads: usize,
}

/// Reads a log line, if it is a check point: the event's level, and then the figures.
fn check_point(line: &str) -> Option<CheckPoint> {
    line.split_once("  EVENT  ")?.1.parse().ok()
}

/// What a process says. A test that asks takes in first what is still in its pipes: what it has written before is known.
#[derive(Default)]
struct Log {
    heard: Mutex<Heard>,
    /// Rings when there is more.
    bell: Condvar,
}

#[derive(Default)]
struct Heard {
    lines: Vec<Line>,
    /// The streams that are still open.
    voices: Vec<Voice>,
}

struct Line {
    stderr: bool,
    text: String,
}

/// One stream of a process.
struct Voice {
    pipe: Receiver,
    stderr: bool,
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl Log {
    /// The log of a child, which a thread follows from now on.
    fn of(child: &mut Child) -> std::io::Result<Arc<Log>> {
        let out = Receiver::from(child.stdout.take().expect("stdout"));
        let err = Receiver::from(child.stderr.take().expect("stderr"));
        let mut poll = Poll::new()?;
        let mut voices = Vec::new();
        for (mut pipe, stderr) in [(out, false), (err, true)] {
            pipe.set_nonblocking(true)?;
            poll.registry().register(&mut pipe, Token(0), Interest::READABLE)?;
            voices.push(Voice { pipe, stderr, begun: Vec::new() });
        }
        let log = Arc::new(Log { heard: Mutex::new(Heard { lines: Vec::new(), voices }), bell: Condvar::new() });
        let followed = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut events = Events::with_capacity(2);
            while !followed.heard().voices.is_empty() {
                let _ = poll.poll(&mut events, None);
            }
        });
        Ok(log)
    }

    /// All that it has said until now.
    fn heard(&self) -> MutexGuard<'_, Heard> {
        let mut heard = self.heard.lock().unwrap();
        let Heard { lines, voices } = &mut *heard;
        let before = lines.len();
        voices.retain_mut(|voice| voice.take_in(lines));
        if lines.len() > before {
            self.bell.notify_all();
        }
        heard
    }

    fn wait<T>(&self, from: usize, within: Duration, mut test: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + within;
        let mut seen = from;
        let mut heard = self.heard();
        loop {
            while seen < heard.lines.len() {
                if let Some(found) = test(&heard.lines[seen].text) {
                    return Some(found);
                }
                seen += 1;
            }
            let now = Instant::now();
            if now >= end {
                return None;
            }
            drop(self.bell.wait_timeout(heard, end - now).unwrap());
            heard = self.heard();
        }
    }

    /// Waits until both streams have been read to their ends (a grandchild may hold them open: then no longer than
    /// until `end`).
    fn closed(&self, end: Instant) {
        while !self.heard().voices.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Voice {
    /// Takes in what is in the pipe; false when no more will come.
    fn take_in(&mut self, lines: &mut Vec<Line>) -> bool {
        let read = self.pipe.read_to_end(&mut self.begun);
        let more = read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        // The last line is whole at its end, or at the stream's.
        let whole = self.begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let begun = self.begun.split_off(if more { whole } else { self.begun.len() });
        let said = std::mem::replace(&mut self.begun, begun);
        lines.extend(said.split_inclusive(|&byte| byte == b'\n').map(|line| self.line(line)));
        more
    }

    fn line(&self, bytes: &[u8]) -> Line {
        let text = plain(String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']));
        Line { stderr: self.stderr, text }
    }
}

/// The text without SGR colours.
pub fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        out.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    out
}

/// Does what must not happen while [`start_child`] starts a child: until its own program runs, a child has copies of all
/// sockets, so that what is closed meanwhile is not closed yet.
pub fn unforked<T>(work: impl FnOnce() -> T) -> T {
    static FORK: Mutex<()> = Mutex::new(());
    let _one = FORK.lock().unwrap();
    work()
}

/// Starts a child whose streams the test has arranged. All children of all tests start here.
///
/// They start from a thread that never ends: the kernel's "kill it when its parent dies" means the thread that started it,
/// and a test's thread may hand its processes on.
pub fn start_child(mut command: Command) -> std::io::Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static NURSERY: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let nursery = NURSERY.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let child = unforked(|| command.spawn());
                let _ = answer.send(child);
            }
        });
        Mutex::new(orders)
    });
    let (answer, inbox) = mpsc::channel();
    nursery.lock().unwrap().send((command, answer)).expect("the nursery");
    inbox.recv().expect("the nursery's answer")
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}

/// Nothing that is meant to end takes so long.
const ENDLESS: Duration = Duration::from_secs(600);
/// How many log lines are shown when a test fails, unless `TEST_LOG_LINES` says more.
const SHOWN: usize = 40;
