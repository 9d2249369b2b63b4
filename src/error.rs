//! What fails, sorted by what one can do about it: one type for a log line, an answer of the API, a check and a page.
//!
//! ```text
//!  cannot listen at 127.0.0.1:80 (TCP): Permission denied (os error 13); ports below 1024 need a right: ...
//!  |-- kind ------| |-- subject -----|  |-- cause -------------------|   |-- hint ----------------------->
//! ```
//!
//! A program asks the variant, [`subject`](Error::subject), [`cause`](Error::cause) and [`hint`](Error::hint); a person reads the `Display`, one
//! line. An [`io::Error`] may carry one of these through code that knows only those: it comes out of [`Error::from`] as it went in.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// What failed. The variant says where the remedy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A parameter, a flag, a variable or an address that cannot be used: written otherwise it can. Another try changes nothing.
    Input(Box<Report>),
    /// A file or a folder: its place, its rights or its content.
    File(Box<Report>),
    /// An address of this machine that cannot be listened at.
    Listen(Box<Report>),
    /// A name without an address: its spelling, or the resolver.
    Name(Box<Report>),
    /// An address that does not answer: the address, the program there, or the network between.
    Unreachable(Box<Report>),
    /// The proxy that the environment names.
    Proxy(Box<Report>),
    /// The peer knows us not: the key.
    Refused(Box<Report>),
    /// A certificate, or what else a TLS session needs.
    Tls(Box<Report>),
    /// The peer says what it should not: it is another program, or of another version.
    Protocol(Box<Report>),
    /// A connection ended too early.
    Lost(Box<Report>),
    /// This build, or this machine's role, does not have it.
    Unsupported(Box<Report>),
    /// The machine lacks something: descriptors, memory, threads, randomness.
    System(Box<Report>),
}

/// What is known of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    subject: Text,
    cause: Cause,
    hint: Text,
}

/// Words that are known when the program is built, or made.
pub type Text = Cow<'static, str>;

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The system's error number.
    Os(i32),
    /// No answer within this time.
    Timeout(Duration),
    /// Anything else, in words.
    Words(Text),
}

impl Error {
    /// What the user wrote: what is wrong with it, and what follows "expected".
    pub fn input(fault: impl Into<Text>, expected: impl fmt::Display) -> Error {
        Error::unusable(fault, format!("expected {expected}"))
    }

    /// What the user wrote: what is wrong with it, and what to do.
    pub fn unusable(fault: impl Into<Text>, hint: impl Into<Text>) -> Error {
        Error::Input(Report::new("", fault.into()).hinted(hint))
    }

    /// A file or folder, in the words with which the user named it.
    pub fn file(subject: impl Into<Text>, cause: impl Into<Cause>) -> Error {
        Error::File(Report::new(subject, cause))
    }

    /// An address, and what was to be listened for.
    pub fn listen(at: impl fmt::Display, kind: &str, cause: impl Into<Cause>) -> Error {
        Error::Listen(Report::new(format!("{at} ({kind})"), cause))
    }

    /// A name that has no address.
    pub fn name(name: impl Into<Text>, cause: impl Into<Cause>) -> Error {
        Error::Name(Report::new(name, cause))
    }

    /// An address that does not answer.
    pub fn unreachable(at: impl Into<Text>, cause: impl Into<Cause>) -> Error {
        Error::Unreachable(Report::new(at, cause))
    }

    /// The proxy, and what it does or does not do.
    pub fn proxy(cause: impl Into<Cause>) -> Error {
        Error::Proxy(Report::new("", cause))
    }

    /// The server refuses, with this status and these words; or who answers in its place does.
    pub fn refused(status: u16, words: &str) -> Error {
        // The first line of a page for a browser says nothing.
        let words = if words.starts_with('<') { "" } else { words };
        let cause = format!("{status} {words}").trim_end().to_owned();
        match status {
            401 => {
                Error::Refused(Report::new("", cause).hinted("the keys differ: both URLs need the same before their @"))
            }
            502..=504 => Error::unreachable("the server behind a reverse proxy", cause)
                .with_hint("the proxy answers in its place, and cannot reach it"),
            _ => Error::Refused(Report::new("", cause).hinted("another program may answer there")),
        }
    }

    /// A certificate or a TLS session.
    pub fn tls(cause: impl Into<Cause>) -> Error {
        Error::Tls(Report::new("", cause))
    }

    /// What the peer should not say.
    pub fn protocol(cause: impl Into<Cause>) -> Error {
        Error::Protocol(Report::new("", cause))
    }

    /// A connection that ended too early.
    pub fn lost(cause: impl Into<Cause>) -> Error {
        Error::Lost(Report::new("", cause))
    }

    /// What is not to be had here.
    pub fn unsupported(cause: impl Into<Cause>) -> Error {
        Error::Unsupported(Report::new("", cause))
    }

    /// What was being done when the machine did not give what it takes.
    pub fn system(doing: impl Into<Text>, cause: impl Into<Cause>) -> Error {
        Error::System(Report::new(doing, cause))
    }

    /// What an I/O error carries, if it is one of these; else what `otherwise` makes of its cause.
    pub fn carried(error: io::Error, otherwise: fn(Cause) -> Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => otherwise(error.into()),
        }
    }

    /// The same, about this.
    pub fn about(mut self, subject: impl Into<Text>) -> Error {
        self.report_mut().subject = subject.into();
        self
    }

    /// The same, with what to do about it.
    pub fn with_hint(mut self, hint: impl Into<Text>) -> Error {
        self.report_mut().hint = hint.into();
        self
    }

    /// What it is about: a file, an address, a name; empty where the cause says it.
    pub fn subject(&self) -> &str {
        &self.report().subject
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.report().cause
    }

    /// What to do about it; empty if nothing more is known than the sentence says.
    pub fn hint(&self) -> &str {
        let Report { hint, cause, .. } = self.report();
        match (self, cause) {
            _ if !hint.is_empty() => hint,
            (_, Cause::Os(libc::EMFILE | libc::ENFILE)) => "raise the limit of open files (ulimit -n, LimitNOFILE=)",
            (Error::Listen(_), Cause::Os(code)) => listen_hint(*code),
            (Error::File(_), Cause::Os(libc::EACCES)) => "the user that runs this program needs the right to read it",
            (Error::Name(_), _) => "check its spelling, and this machine's DNS",
            (Error::Unreachable(_) | Error::Proxy(_), Cause::Os(code)) => dial_hint(*code),
            (Error::Unreachable(_) | Error::Proxy(_), Cause::Timeout(_)) => {
                "the address may be wrong, or a firewall drops what goes there"
            }
            _ => "",
        }
    }

    /// The kind, as programs know it.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Input(_) => "input",
            Error::File(_) => "file",
            Error::Listen(_) => "listen",
            Error::Name(_) => "name",
            Error::Unreachable(_) => "unreachable",
            Error::Proxy(_) => "proxy",
            Error::Refused(_) => "refused",
            Error::Tls(_) => "tls",
            Error::Protocol(_) => "protocol",
            Error::Lost(_) => "lost",
            Error::Unsupported(_) => "unsupported",
            Error::System(_) => "system",
        }
    }

    /// What stands before the subject in the sentence.
    fn opening(&self) -> &'static str {
        match self {
            Error::Listen(_) => "cannot listen at ",
            Error::Name(_) => "cannot look up ",
            Error::Proxy(_) => "the proxy of HTTPS_PROXY ",
            Error::Refused(_) => "the server refuses",
            Error::Tls(_) => "TLS ",
            _ => "",
        }
    }

    fn report(&self) -> &Report {
        match self {
            Error::Input(report)
            | Error::File(report)
            | Error::Listen(report)
            | Error::Name(report)
            | Error::Unreachable(report)
            | Error::Proxy(report)
            | Error::Refused(report)
            | Error::Tls(report)
            | Error::Protocol(report)
            | Error::Lost(report)
            | Error::Unsupported(report)
            | Error::System(report) => report,
        }
    }

    fn report_mut(&mut self) -> &mut Report {
        match self {
            Error::Input(report)
            | Error::File(report)
            | Error::Listen(report)
            | Error::Name(report)
            | Error::Unreachable(report)
            | Error::Proxy(report)
            | Error::Refused(report)
            | Error::Tls(report)
            | Error::Protocol(report)
            | Error::Lost(report)
            | Error::Unsupported(report)
            | Error::System(report) => report,
        }
    }
}

fn listen_hint(code: i32) -> &'static str {
    match code {
        libc::EADDRINUSE => "another program has that port",
        libc::EACCES => "ports below 1024 need a right: run it as root, or give it CAP_NET_BIND_SERVICE",
        libc::EADDRNOTAVAIL => "that is not an address of this machine",
        _ => "",
    }
}

fn dial_hint(code: i32) -> &'static str {
    match code {
        libc::ECONNREFUSED => "nothing listens there, or a firewall refuses",
        libc::ENETUNREACH | libc::EHOSTUNREACH => "this machine has no route there",
        libc::EADDRNOTAVAIL => "the source address is not one of this machine's",
        libc::ENODEV => "this machine has no network device of that name, or not yet",
        libc::EPERM => {
            "sending by a device (bind=) wants CAP_NET_RAW before Linux 5.7; or a firewall of this machine refuses"
        }
        _ => "",
    }
}

impl Report {
    fn new(subject: impl Into<Text>, cause: impl Into<Cause>) -> Box<Report> {
        Box::new(Report { subject: subject.into(), cause: cause.into(), hint: Text::Borrowed("") })
    }

    fn hinted(mut self: Box<Report>, hint: impl Into<Text>) -> Box<Report> {
        self.hint = hint.into();
        self
    }
}

/// The whole sentence, the hint included.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (opening, subject) = (self.opening(), self.subject());
        match (opening, subject) {
            ("", "") => {}
            (opening, "") => write!(f, "{}: ", opening.trim_end())?,
            (opening, subject) => write!(f, "{opening}{subject}: ")?,
        }
        self.cause().fmt(f)?;
        match (self, self.hint()) {
            (_, "") => Ok(()),
            // What is wrong with it and what is accepted are one clause.
            (Error::Input(_), hint) => write!(f, ": {hint}"),
            (_, hint) => write!(f, "; {hint}"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Os(code) => io::Error::from_raw_os_error(*code).fmt(f),
            Cause::Timeout(time) => write!(f, "no answer within {time:?}"),
            Cause::Words(words) => f.write_str(words),
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        error.raw_os_error().map_or_else(|| Cause::Words(error.to_string().into()), Cause::Os)
    }
}

impl From<&'static str> for Cause {
    fn from(words: &'static str) -> Cause {
        Cause::Words(words.into())
    }
}

impl From<String> for Cause {
    fn from(words: String) -> Cause {
        Cause::Words(words.into())
    }
}

impl From<Text> for Cause {
    fn from(words: Text) -> Cause {
        Cause::Words(words)
    }
}

/// What the I/O error carries, if it is one of ours; else a connection that was lost.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::carried(error, Error::lost)
    }
}

/// The error as an I/O error, to come out of it again.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::Tls(_) | Error::Protocol(_) => ErrorKind::InvalidData,
            Error::Refused(_) => ErrorKind::PermissionDenied,
            Error::Unsupported(_) => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_subject_cause_and_what_to_do() {
        let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let error = Error::listen("127.0.0.1:80", "TCP", taken);
        let told = error.to_string();
        assert!(told.starts_with("cannot listen at 127.0.0.1:80 (TCP): ") && told.contains("(os error"), "{told}");
        assert!(told.ends_with("; another program has that port"), "{told}");
        assert_eq!(error.subject(), "127.0.0.1:80 (TCP)");
        assert_eq!((error.cause(), error.hint()), (&Cause::Os(libc::EADDRINUSE), "another program has that port"));
    }

    #[test]
    fn what_the_user_wrote_is_told_with_what_is_accepted() {
        let error = Error::input("bad parameter tls \"9\"", "0, 1 or 2");
        assert_eq!(error.to_string(), "bad parameter tls \"9\": expected 0, 1 or 2");
        assert_eq!(error.hint(), "expected 0, 1 or 2");
    }

    #[test]
    fn every_kind_makes_one_line_without_a_stray_separator() {
        let cases = [
            (Error::file("crt=/a", "no PEM certificate in it"), "crt=/a: no PEM certificate in it"),
            (Error::proxy("it closed the connection"), "the proxy of HTTPS_PROXY: it closed the connection"),
            (
                Error::proxy(Cause::Timeout(Duration::from_secs(5))).about("h:1").with_hint("start it"),
                "the proxy of HTTPS_PROXY h:1: no answer within 5s; start it",
            ),
            (Error::refused(418, "Teapot"), "the server refuses: 418 Teapot; another program may answer there"),
            (
                Error::refused(502, "<html>"),
                "the server behind a reverse proxy: 502; the proxy answers in its place, and cannot reach it",
            ),
            (Error::tls("it ended"), "TLS: it ended"),
            (Error::lost("cut off"), "cut off"),
            (Error::system("cannot start", "no randomness"), "cannot start: no randomness"),
        ];
        for (error, sentence) in cases {
            assert_eq!(error.to_string(), sentence);
        }
    }

    #[test]
    fn an_io_error_gives_back_what_it_carries_and_keeps_the_number_of_the_system_s() {
        let ours = Error::proxy("no");
        assert_eq!(Error::from(io::Error::from(ours.clone())), ours);
        let reset = Error::from(io::Error::from_raw_os_error(libc::ECONNRESET));
        assert!(matches!(&reset, Error::Lost(_)) && *reset.cause() == Cause::Os(libc::ECONNRESET), "{reset}");
    }

    #[test]
    fn an_error_is_small_enough_to_be_an_answer() {
        assert!(size_of::<Error>() <= MAX_SIZE);
    }

    /// Bytes of an error, so that a `Result` stays cheap to hand on.
    const MAX_SIZE: usize = 16;
}
