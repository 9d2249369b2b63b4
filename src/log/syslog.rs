//! The system's log: each line a datagram to its socket, which has a level and no time of its own.
//!
//! ```text
//! <30>nodepass[4711]: Tunnel is up
//! ```
//!
//! Where there is no such socket, lines go to stdout without their head.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::Level;

/// What comes before the text of a line: who says it, and how much it matters.
pub(super) fn head(level: Level, process: u32) -> String {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Event => 5,
        Level::Info => 6,
        Level::None | Level::Debug => 7,
    };
    format!("<{}>{}[{process}]: ", DAEMON | severity, env!("CARGO_PKG_NAME"))
}

/// Lines to the system's log.
pub(super) struct Syslog<W> {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// For what the system's log does not take.
    otherwise: W,
}

impl<W: Write> Syslog<W> {
    /// To the system's log, or where it is not, to `otherwise`.
    pub(super) fn new(otherwise: W) -> Syslog<W> {
        Syslog { path: SOCKET.into(), socket: None, otherwise }
    }

    /// One message. A log that has started anew has another socket under the same name: so it is tried twice.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match socket.send(message) {
                Err(error) if !is_gone(&error) => return Err(error),
                Err(_) => self.socket = None,
                Ok(_) => return Ok(()),
            }
        }
        let socket = connected(&self.path)?;
        socket.send(message)?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl<W: Write> Write for Syslog<W> {
    /// Takes the first line.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let taken = lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |end| end + 1);
        let line = &lines[..taken];
        match self.send(line.strip_suffix(b"\n").unwrap_or(line)) {
            Ok(()) => Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(_) => {
                let text = line.windows(2).position(|pair| pair == b": ").map_or(line, |at| &line[at + 2..]);
                self.otherwise.write_all(text).map(|()| taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether nothing listens at that socket any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected | io::ErrorKind::ConnectionReset
    )
}

fn connected(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

/// Where the system's log listens.
const SOCKET: &str = "/dev/log";

/// The facility of programs that run in the background, where a severity has room below it.
const DAEMON: u8 = 3 << 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_and_how_much_it_matters() {
        let levels = [Level::Error, Level::Warn, Level::Event, Level::Info, Level::Debug];
        let heads = levels.map(|level| head(level, 7));
        assert_eq!(
            heads,
            ["<27>nodepass[7]: ", "<28>nodepass[7]: ", "<29>nodepass[7]: ", "<30>nodepass[7]: ", "<31>nodepass[7]: "]
        );
    }

    #[test]
    fn each_line_is_a_message_and_a_log_that_starts_anew_gets_the_next() {
        let folder = std::env::temp_dir().join(format!("nodepass-syslog-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log");
        let mut log = Syslog { path: path.clone(), ..Syslog::new(Vec::new()) };
        for _ in 0..2 {
            let socket = UnixDatagram::bind(&path).unwrap();
            log.write_all(b"<30>nodepass[7]: a: b\n<28>nodepass[7]: c\n").unwrap();
            let mut message = [0; 64];
            for expected in ["<30>nodepass[7]: a: b", "<28>nodepass[7]: c"] {
                let len = socket.recv(&mut message).unwrap();
                assert_eq!(std::str::from_utf8(&message[..len]).unwrap(), expected);
            }
            drop(socket);
            std::fs::remove_file(&path).unwrap();
        }
        // Nothing is lost where there is none.
        log.write_all(b"<30>nodepass[7]: a: b\n").unwrap();
        assert_eq!(log.otherwise, b"a: b\n");
        std::fs::remove_dir(&folder).unwrap();
    }
}
