//! What a service manager is told, where it asks to be: systemd with `Type=notify` (sd_notify(3)).
//!
//! ```text
//!   READY=1                             ports are open; users can come
//!   STATUS=2 tunnels are up             what `systemctl status` shows
//!   RELOADING=1, READY=1                around SIGHUP
//!   WATCHDOG=1                          twice in each WATCHDOG_USEC, from the thread that decides
//!   STOPPING=1, EXTEND_TIMEOUT_USEC=n   users have so long to finish
//! ```
//!
//! One datagram each, which never waits: what the manager has no room for is lost, and the next one comes.

use std::borrow::Cow;
use std::env;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::time::{Duration, Instant};

/// The service manager that has started this process and wants to hear of it.
pub struct ServiceManager {
    socket: UnixDatagram,
    watchdog: Option<Watchdog>,
    ready: bool,
    status: Cow<'static, str>,
}

/// It takes the process for stuck if it hears nothing for twice this time.
struct Watchdog {
    every: Duration,
    due: Instant,
}

impl ServiceManager {
    /// The one that the environment names, if any.
    pub fn from_environment(now: Instant) -> Option<ServiceManager> {
        let socket = connect(&env::var(SOCKET).ok()?)?;
        let for_this = env::var(WATCHDOG_PID).map_or(true, |pid| pid.parse() == Ok(process::id()));
        let limit = env::var(WATCHDOG_TIME).ok().filter(|_| for_this).and_then(|micros| micros.parse().ok());
        let every = limit.map(|micros| Duration::from_micros(micros) / 2).filter(|every| !every.is_zero());
        let watchdog = every.map(|every| Watchdog { every, due: now });
        Some(ServiceManager { socket, watchdog, ready: false, status: Cow::Borrowed("") })
    }

    /// The service can be used; said once.
    pub fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.say(READY);
        }
    }

    /// A reload has begun and has ended.
    pub fn reloaded(&self) {
        self.say("RELOADING=1");
        self.say(READY);
    }

    /// The service ends, and may take so long for it.
    pub fn stopping(&self, limit: Duration) {
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", (limit + EXIT_TIME).as_micros()));
    }

    /// A sentence about the service, in one line; said when it changes. Asked each turn, a usual one costs no memory.
    pub fn status(&mut self, status: Cow<'static, str>) {
        if self.status != status {
            self.say(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// The thread that decides is at work.
    pub fn alive(&mut self, now: Instant) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| now >= watchdog.due) {
            watchdog.due = now + watchdog.every;
            self.say("WATCHDOG=1");
        }
    }

    /// When [`alive`](ServiceManager::alive) is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    fn say(&self, words: &str) {
        // A manager that has gone, or has no room, is none of this process's business.
        let _ = self.socket.send(words.as_bytes());
    }
}

/// A socket to the one at this path, or at this name of the kernel's (`@name`).
fn connect(name: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name).ok()?;
            socket.connect_addr(&address).ok()?;
        }
        _ => socket.connect(name).ok()?,
    }
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// The variables with which a service manager asks. They are for the process that it started, not for children of that.
pub const VARIABLES: [&str; 3] = [SOCKET, WATCHDOG_TIME, WATCHDOG_PID];

const READY: &str = "READY=1";

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_TIME: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// What the end of the process takes after the last user.
const EXIT_TIME: Duration = Duration::from_secs(5);
