//! Where the command line comes from, and how the key in it is kept from other users of the machine, who see every process's arguments.
//!
//! ```text
//!  nodepass URL ------------------------------+
//!  nodepass @FILE | - , NP_URL --one line-----+--> words --> Config
//!  a socket (NP_ARGS_FD) --length, words------+      |
//!      ^                                             | a key in the arguments, or NP_URL
//!      +---- the same process, begun anew with ------+
//!            server://***@host:port/... as its argument
//! ```
//!
//! A master hands its children their words in the same form, through the leash.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use socket2::SockRef;

use crate::config::{is_verb, masked, url_in, words_begin, UsageError, MAX_TEXT};
use crate::error::Error;
use crate::log::printable;

/// What the program is asked to do, wherever that was written.
pub struct CommandLine {
    /// As arguments, without the program's name.
    pub args: Vec<String>,
    /// What should be known about the place.
    pub warnings: Vec<String>,
    place: Place,
}

/// Where the words were.
enum Place {
    Arguments,
    Socket,
    Variable,
    Input,
    /// A file, as errors name it.
    File(String),
}

impl CommandLine {
    /// Reads it. The error is for the user: one line that names the place and what is wrong there.
    pub fn read() -> Result<CommandLine, UsageError> {
        if let Some(number) = env::var_os(SOCKET) {
            let failed = |error| Error::system(format!("{SOCKET}: cannot read the arguments"), error);
            let args = received(&number).map_err(|error| UsageError { error: failed(error), status: 1 })?;
            return Ok(CommandLine { args, warnings: Vec::new(), place: Place::Socket });
        }
        let mut args: Vec<String> = env::args_os().skip(1).map(lossy).collect();
        let mut warnings = Vec::new();
        let begin = words_begin(&args);
        let (place, text) = match args.get(begin).map(String::as_str) {
            None => match env::var_os(VARIABLE).filter(|url| !url.is_empty()) {
                None => return Ok(CommandLine { args, warnings, place: Place::Arguments }),
                Some(url) => (Place::Variable, Ok(url.into_vec())),
            },
            Some("-") => (Place::Input, bounded(io::stdin().lock())),
            Some(word) => match word.strip_prefix('@') {
                None => return Ok(CommandLine { args, warnings, place: Place::Arguments }),
                Some(path) => {
                    let name = printable(path).to_string();
                    let text = File::open(path).and_then(|file| {
                        warnings.extend(is_open_to_all(&file).then(|| {
                            format!("{name} can be read by every user: expected chmod 600, since the key is in it")
                        }));
                        bounded(file)
                    });
                    (Place::File(name), text)
                }
            },
        };
        let mut line = CommandLine { args: Vec::new(), warnings, place };
        let url = text.map_err(|error| Error::file("", error)).and_then(|text| url_in(&text));
        // To look at an instance that cannot be read is a fault of what was asked; to be one is not.
        let status = if is_verb(&args) { 2 } else { 1 };
        let url = url.map_err(|error| UsageError { error: line.named(error), status })?;
        args.splice(begin..args.len().min(begin + 1), [url]);
        line.args = args;
        Ok(line)
    }

    /// An error in the words, and where they were if the user cannot see that.
    pub fn named(&self, error: Error) -> Error {
        match &self.place {
            Place::Arguments | Place::Socket => error,
            Place::Variable => error.about(VARIABLE),
            Place::Input => error.about("standard input"),
            Place::File(name) => error.about(name.clone()),
        }
    }

    /// Whether the words are in a file.
    pub fn is_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// What is there now, where it can have changed since.
    pub fn again(&self) -> Option<Result<CommandLine, UsageError>> {
        self.is_file().then(CommandLine::read)
    }

    /// Whether the words were on the command line itself, where the usage helps.
    pub fn is_typed(&self) -> bool {
        matches!(self.place, Place::Arguments | Place::Socket)
    }

    /// Takes the key out of what other users see: the process begins anew, under its number, with the words in a socket. Returns only if
    /// there is no need for that, or, with a warning, if it cannot be done.
    pub fn hide(&self) -> Option<String> {
        let shown = masked(&self.args);
        let is_seen = match self.place {
            Place::Arguments => shown != self.args,
            Place::Variable => true,
            Place::Socket | Place::Input | Place::File(_) => false,
        };
        let Err(error) = is_seen.then(|| self.begin_anew(&shown))?;
        Some(format!(
            "the key can be seen in the list of processes ({error}): expected a URL in a file, nodepass @FILE"
        ))
    }

    fn begin_anew(&self, shown: &[String]) -> io::Result<Infallible> {
        let program = env::current_exe()?;
        let (theirs, mut ours) = UnixStream::pair()?;
        hand_over(&mut ours, &self.args)?;
        let name = env::args_os().next().unwrap_or_else(|| program.clone().into());
        let args = [name].into_iter().chain(shown.iter().map(OsString::from));
        let kept = env::vars_os().filter(|(name, _)| name != VARIABLE && name != SOCKET);
        let number = (SOCKET.into(), theirs.as_raw_fd().to_string().into());
        let vars = kept.chain([number]);
        SockRef::from(&theirs).set_cloexec(false)?;
        Err(replace(program.into(), args, vars))
    }
}

/// Puts words into a socket, for a process that finds its other end under the number in [`SOCKET`]. Never waits.
pub fn hand_over(socket: &mut UnixStream, words: &[String]) -> io::Result<()> {
    let words = words.join("\0");
    let length = u32::try_from(words.len()).ok().filter(|length| *length <= MAX_WORDS).ok_or(TOO_LONG)?;
    socket.set_nonblocking(true)?;
    socket.write_all(&[&length.to_be_bytes(), words.as_bytes()].concat())?;
    socket.set_nonblocking(false)
}

/// The words in a socket that was handed over. What comes after them stays in it.
fn received(number: &OsStr) -> io::Result<Vec<String>> {
    let number: RawFd = number.to_str().and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    let mut socket = File::from(inherited(number)?);
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = Some(u32::from_be_bytes(length)).filter(|length| *length <= MAX_WORDS).ok_or(TOO_LONG)?;
    let mut words = vec![0; length as usize];
    socket.read_exact(&mut words)?;
    Ok(String::from_utf8_lossy(&words).split('\0').map(str::to_owned).collect())
}

/// A descriptor that this process began with, as our own; a standard stream stays open under its number.
pub(super) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not negative, and the borrow is over before anything is closed. If nothing is open there, the call fails.
    let own = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()?;
    if number > libc::STDERR_FILENO {
        // SAFETY: it is open, as it could be copied, and nothing else in this process knows of it: it was opened for this by what started us.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(own)
}

/// The process goes on as `program`; returns only why it does not.
pub(super) fn replace(
    program: OsString,
    args: impl Iterator<Item = OsString>,
    vars: impl Iterator<Item = (OsString, OsString)>,
) -> io::Error {
    let vars = vars.map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let text = |word: OsString| CString::new(word.into_vec());
    let (program, args, vars) = match (text(program), args.map(text).collect(), vars.map(text).collect()) {
        (Ok(program), Ok(args), Ok(vars)) => (program, args, vars),
        _ => return io::ErrorKind::InvalidInput.into(),
    };
    let (args, vars): (Vec<CString>, Vec<CString>) = (args, vars);
    let pointers = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
    let (argv, envp): (Vec<_>, Vec<_>) = (pointers(&args), pointers(&vars));
    // SAFETY: the texts end with a zero, the lists with a null pointer, and all of them live until the call has failed; if it does not
    // fail there is nothing left here. The standard library's own form would end the ignoring of SIGPIPE even where it fails.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// A text, or enough of it to see that it is too large.
fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MAX_TEXT as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether other users than its owner and its group may read a file.
fn is_open_to_all(file: &File) -> bool {
    file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & OTHERS_READ != 0)
}

fn lossy(word: OsString) -> String {
    word.to_string_lossy().into_owned()
}

/// The variable with the number of the socket in which the arguments are. Between processes of this program only.
pub const SOCKET: &str = "NP_ARGS_FD";

/// The variable with the URL, where no argument is given.
pub const VARIABLE: &str = "NP_URL";

/// Bytes of all words that a process hands over: less than any socket takes at once.
const MAX_WORDS: u32 = 128 * 1024;

/// What is said of more.
const TOO_LONG: io::ErrorKind = io::ErrorKind::InvalidInput;

/// The right of all users to read a file, in its mode.
const OTHERS_READ: u32 = 0o004;
