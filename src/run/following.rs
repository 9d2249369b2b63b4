//! One process after another at the same ports: what SIGHUP brings about where the words that this one was started with, or the
//! program's file, have changed; and what a master asks for in place of a restart.
//!
//! ```text
//!  this process                                                       the next one
//!   starts it ----- NP_FOLLOWS: a line, the way home, sockets ------>  opens its ports, with those sockets
//!   closes its listeners <------------ ready: a byte ----------------  waits
//!   says goodbye to its peers -------- go: the line's end ---------->  lets users in, calls its server
//!   its users finish; the last one leaves: it ends
//!
//!  the first process, which the service manager knows: goes on as a small waiter (NP_WAITS) that passes signals on, and ends with
//!  the last of the others; when it is killed, the way home ends, and they end at once
//! ```

mod system;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGKILL, SIGTERM};
use socket2::SockRef;

use self::system::Ended;
use super::cmdline::{self, CommandLine};
use crate::config::masked;
use crate::error::Error;
use crate::notify;

/// How this process was started, and so the next one is.
pub struct Origin {
    line: CommandLine,
    program: PathBuf,
    image: Option<Image>,
}

/// What tells one file from another, or from what it was: device, number, size, time of the last change.
type Image = (u64, u64, u64, i64, i64);

fn image(path: &Path) -> Option<Image> {
    let about = fs::metadata(path).ok()?;
    Some((about.dev(), about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
}

impl Origin {
    /// With these words, by this executable.
    pub fn of(line: CommandLine) -> Origin {
        let program = env::current_exe().unwrap_or_else(|_| PathBuf::from(SELF));
        Origin { line, image: image(&program), program }
    }

    /// Whether the words or the executable have changed since.
    pub fn has_changed(&self) -> Result<bool, Error> {
        let line = self.line.again().transpose().map_err(|fault| fault.error)?;
        Ok(line.is_some_and(|line| line.args != self.line.args) || image(&self.program) != self.image)
    }

    /// The words of the next process, where they are in no file.
    pub fn change(&mut self, args: Vec<String>) {
        self.line.args = args;
    }

    /// Starts the next process, which has copies of these sockets and of the way `home`. What becomes of it is told to `post`.
    pub fn start_next(
        &self,
        sockets: Vec<OwnedFd>,
        home: &impl AsFd,
        post: impl Fn(NextEvent) + Send + 'static,
    ) -> io::Result<()> {
        let (line, theirs) = UnixStream::pair()?;
        let mut handed = vec![OwnedFd::from(theirs), home.as_fd().try_clone_to_owned()?];
        handed.extend(sockets);
        let mut command = Command::new(&self.program);
        for name in [cmdline::SOCKET, notify::WATCHDOG_PID] {
            command.env_remove(name);
        }
        let words = match self.line.is_file() {
            true => {
                command.args(env::args_os().skip(1));
                None
            }
            false => {
                let (mut ours, theirs) = UnixStream::pair()?;
                cmdline::hand_over(&mut ours, &self.line.args)?;
                command.args(masked(&self.line.args)).env(cmdline::SOCKET, theirs.as_raw_fd().to_string());
                Some(OwnedFd::from(theirs))
            }
        };
        let numbers: Vec<String> = handed.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        // What is typed at a terminal is for the first process alone, which passes it on.
        command.env(NEXT, numbers.join(",")).process_group(0);
        for fd in handed.iter().chain(&words) {
            SockRef::from(fd).set_cloexec(false)?;
        }
        let pid = system::number(command.spawn()?.id());
        let run = move || watch(pid, line, &post);
        thread::Builder::new().name("next".into()).stack_size(STACK).spawn(run).map(drop)
    }
}

/// Waits until the process at the other end of the line is ready, and then for the end of each that comes after this one.
fn watch(pid: i32, mut line: UnixStream, post: &impl Fn(NextEvent)) {
    let heard = line.set_read_timeout(Some(START_TIME)).and_then(|()| line.read_exact(&mut [0]));
    let is_ready = heard.is_ok();
    match heard {
        Ok(()) => post(NextEvent::Ready { pid, line }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            system::kill(pid, SIGKILL);
            post(NextEvent::Failed(format!("it is not ready after {START_TIME:?}")));
        }
        // It ends.
        Err(_) => post(NextEvent::Failed("it says why".into())),
    }
    while let Some(Ended { pid, code }) = system::wait(true) {
        if is_ready {
            post(NextEvent::Ended { pid, code });
        }
    }
}

/// What happens to the processes that come after this one.
#[derive(Debug)]
pub enum NextEvent {
    /// The next process has its ports, and waits for the end of the line.
    Ready {
        /// Its number.
        pid: i32,
        /// The line.
        line: UnixStream,
    },
    /// It has not started, and why.
    Failed(String),
    /// One has ended.
    Ended {
        /// Its number.
        pid: i32,
        /// The exit code, or 128 and the signal.
        code: u8,
    },
}

/// What this process has from the one before it.
pub struct Before {
    line: UnixStream,
    /// It ends when the first process does.
    home: UnixStream,
}

impl Before {
    /// The one before and the sockets that it hands over, if there is one.
    pub fn read() -> io::Result<Option<(Before, Vec<OwnedFd>)>> {
        let Some(numbers) = env::var_os(NEXT) else { return Ok(None) };
        let mut fds = inherited(&numbers)?.into_iter();
        let (Some(line), Some(home)) = (fds.next(), fds.next()) else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok(Some((Before { line: line.into(), home: home.into() }, fds.collect())))
    }

    /// The ports of this process are open: waits until those of the one before are closed. The way home, watched under `token`.
    pub fn take_over(mut self, registry: &Registry, token: Token) -> io::Result<mio::net::UnixStream> {
        self.line.write_all(&[READY])?;
        self.line.set_read_timeout(Some(GO_TIME))?;
        // An end, an error or silence: whatever became of the one before, users wait here. A signal waits, too.
        while self.line.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
        self.home.write_all(&system::number(std::process::id()).to_ne_bytes())?;
        let mut home = mio::net::UnixStream::from_std(self.home);
        registry.register(&mut home, token, Interest::READABLE)?;
        Ok(home)
    }
}

/// The processes that come after the first one, in the first one.
#[derive(Debug)]
pub struct Followers {
    /// The other end of the way home: each says its number.
    numbers: UnixStream,
    pids: Vec<i32>,
    code: u8,
}

impl Followers {
    /// None yet; and the way home.
    pub fn new() -> io::Result<(Followers, UnixStream)> {
        let (numbers, home) = UnixStream::pair()?;
        numbers.set_nonblocking(true)?;
        Ok((Followers { numbers, pids: Vec::new(), code: 0 }, home))
    }

    /// This process is the first, and that one is the next. Those after it become this one's children when it ends.
    pub fn begin(&mut self, pid: i32) {
        system::adopt_orphans();
        self.pids.push(pid);
    }

    /// Passes a signal on: an end to all, others to the last one.
    pub fn pass(&mut self, signal: i32) {
        self.listen();
        let first = if [SIGTERM, SIGINT].contains(&signal) { 0 } else { self.pids.len().saturating_sub(1) };
        self.pids[first..].iter().for_each(|pid| system::kill(*pid, signal));
    }

    /// That one has ended.
    pub fn ended(&mut self, pid: i32, code: u8) {
        self.listen();
        self.pids.retain(|other| *other != pid);
        self.code = code;
    }

    fn listen(&mut self) {
        let mut number = [0; 4];
        while matches!(self.numbers.read(&mut number), Ok(count) if count == number.len()) {
            let pid = i32::from_ne_bytes(number);
            if !self.pids.contains(&pid) {
                self.pids.push(pid);
            }
        }
    }

    /// Nothing is left for this process to do but to wait for the others: it goes on as one that holds nothing else. Returns only if
    /// that cannot be.
    pub fn stay(self) -> ExitCode {
        if let Err(error) = self.become_waiter() {
            log::error!("This process cannot wait for the next one, which stops: {error}");
        }
        ExitCode::FAILURE
    }

    fn become_waiter(self) -> io::Result<()> {
        // A signal that comes now waits for the next program.
        system::block(&PASSED);
        SockRef::from(&self.numbers).set_cloexec(false)?;
        let pids = self.pids.iter().map(ToString::to_string);
        let state: Vec<String> =
            [self.numbers.as_raw_fd().to_string(), self.code.to_string()].into_iter().chain(pids).collect();
        let vars = env::vars_os().filter(|(name, _)| name == "PATH").chain([(WAITS.into(), state.join(",").into())]);
        Err(cmdline::replace(SELF.into(), env::args_os(), vars))
    }

    fn wait(mut self) -> ExitCode {
        loop {
            while let Some(Ended { pid, code }) = system::wait(false) {
                self.ended(pid, code);
            }
            if !system::has_children() {
                return ExitCode::from(self.code);
            }
            let signal = system::next(&PASSED);
            if signal != SIGCHLD {
                self.pass(signal);
            }
        }
    }
}

/// Whether this process is one that waits for those after it; then it does, and this is its exit code.
pub fn waited() -> Option<ExitCode> {
    let state = env::var(WAITS).ok()?;
    system::block(&PASSED);
    let mut words = state.split(',').map(str::parse::<i32>);
    let (number, code) = (words.next()?.ok()?, words.next()?.ok()?);
    let numbers = cmdline::inherited(number).ok()?.into();
    // The name in lists of processes is that of the path by which it came: put back, as far as that goes.
    let _ = fs::write("/proc/self/comm", NAME);
    let pids = words.collect::<Result<_, _>>().ok()?;
    Some(Followers { numbers, pids, code: u8::try_from(code).ok()? }.wait())
}

fn inherited(numbers: &OsString) -> io::Result<Vec<OwnedFd>> {
    let numbers = numbers.to_str().ok_or(io::ErrorKind::InvalidInput)?.split(',');
    numbers.map(|word| cmdline::inherited(word.parse::<RawFd>().map_err(|_| io::ErrorKind::InvalidInput)?)).collect()
}

/// Whether this system keeps the processes after the first one together.
pub const SUPPORTED: bool = system::SUPPORTED;

/// The variable with the numbers of the line, of the way home and of sockets. Between processes of this program only.
const NEXT: &str = "NP_FOLLOWS";
/// The variable with what a waiter knows: the number of its end of the way home, an exit code, numbers of processes.
const WAITS: &str = "NP_WAITS";
/// The image that runs, even if its file is gone.
const SELF: &str = "/proc/self/exe";
/// The program's name.
const NAME: &str = "nodepass";
/// What the next process says when its ports are open.
const READY: u8 = b'R';
/// Time for the next process to open its ports.
const START_TIME: Duration = Duration::from_secs(10);
/// Time for the one before to say goodbye.
const GO_TIME: Duration = Duration::from_secs(5);
/// What a waiter hears.
const PASSED: [i32; 6] =
    [SIGTERM, SIGINT, SIGCHLD, signal_hook::consts::SIGHUP, signal_hook::consts::SIGUSR1, signal_hook::consts::SIGUSR2];
/// Its thread needs little stack: nothing recurses.
const STACK: usize = 64 * 1024;
