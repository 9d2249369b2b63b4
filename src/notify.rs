//! What a service manager is told, where it asks to be: systemd with `Type=notify` (sd_notify(3)).
//!
//! ```text
//!   READY=1                             ports are open; users can come
//!   STATUS=2 tunnels are up             what `systemctl status` shows
//!   RELOADING=1, READY=1                around SIGHUP; after that another process may speak
//!   WATCHDOG=1                          twice in each WATCHDOG_USEC, from the thread that decides
//!   STOPPING=1, EXTEND_TIMEOUT_USEC=n   users have so long to finish
//! ```
//!
//! One datagram each, which never waits: what the manager has no room for is lost, and the next one comes.

use std::env;
use std::fmt;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::time::{Duration, Instant};

/// The service manager that has started this process and wants to hear of it.
pub struct ServiceManager {
    socket: UnixDatagram,
    watchdog: Option<Watchdog>,
    ready: bool,
    status: Option<ServiceStatus>,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceStatus {
    /// It has no tunnel to look after: users go straight to their target.
    Forwarding,
    /// So many tunnels are up.
    Tunnels(usize),
    /// It stops; so many connections have not ended.
    Stopping(usize),
    /// So many of its instances run (master).
    Instances {
        /// That run.
        running: usize,
        /// All.
        of: usize,
    },
}

impl fmt::Display for ServiceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceStatus::Forwarding => f.write_str("forwarding"),
            ServiceStatus::Tunnels(0) => f.write_str("no tunnel"),
            ServiceStatus::Tunnels(1) => f.write_str("a tunnel is up"),
            ServiceStatus::Tunnels(up) => write!(f, "{up} tunnels are up"),
            ServiceStatus::Instances { running, of } => write!(f, "{running} of {of} instances run"),
            ServiceStatus::Stopping(left) => write!(f, "stopping; {left} connections have not ended"),
        }
    }
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
        Some(ServiceManager { socket, watchdog, ready: false, status: None })
    }

    /// The service can be used; said once.
    pub fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.say(READY);
        }
    }

    /// A reload has begun.
    pub fn reloading(&self) {
        self.say("RELOADING=1");
    }

    /// A reload has ended.
    pub fn reloaded(&self) {
        self.say(READY);
    }

    /// The service ends, and may take so long for it.
    pub fn stopping(&self, limit: Duration) {
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", (limit + EXIT_TIME).as_micros()));
    }

    /// How the service is; said when that changes, and again in the next turn if the manager had no room for it.
    pub fn status(&mut self, status: ServiceStatus) {
        if self.status != Some(status) && self.say(&format!("STATUS={status}")) {
            self.status = Some(status);
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

    /// Whether it was taken. A manager that has gone, or has no room, holds nothing up.
    fn say(&self, words: &str) -> bool {
        self.socket.send(words.as_bytes()).is_ok()
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
/// Says which process the time of the watchdog is for.
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// What the end of the process takes after the last user.
const EXIT_TIME: Duration = Duration::from_secs(5);

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    #[test]
    fn a_status_that_a_busy_manager_had_no_room_for_is_said_when_there_is_some() {
        let name = format!("nodepass-test-{}", process::id());
        let heard = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        heard.set_nonblocking(true).unwrap();
        let socket = connect(&format!("@{name}")).unwrap();
        let mut service = ServiceManager { socket, watchdog: None, ready: true, status: None };
        while service.say("WATCHDOG=1") {}
        let mut bytes = [0; 64];
        for wanted in ["WATCHDOG=1", "STATUS=a tunnel is up"] {
            service.status(ServiceStatus::Tunnels(1));
            let mut last = 0;
            while let Ok(count) = heard.recv(&mut bytes) {
                last = count;
            }
            assert_eq!(std::str::from_utf8(&bytes[..last]), Ok(wanted));
        }
        service.status(ServiceStatus::Tunnels(1));
        assert!(heard.recv(&mut bytes).is_err(), "it is said once");
    }
}
