//! The command line and the environment to a [`Config`]: everything an instance is asked to do, checked once, here.
//!
//! ```text
//!  URL   --url-->   Parts --settle--> Config          table.rs   the parameters, one row each
//!  flags --flags--> Parts ----^          ^            limits.rs  the environment, one row each
//!  environment --------------------------+            help.rs    both tables as text
//!
//!  a text --source--> its URL;  arguments --source--> the same without the key
//!
//!  a URL for the master --instance--> the URL of a child, and the same with all defaults
//! ```
//!
//! Pure: text in, values or one clear line out. After this nothing about the configuration can be wrong in form.

mod address;
#[cfg(feature = "master")]
mod changes;
mod choice;
mod dns;
mod flags;
#[cfg(any(feature = "master", test))]
mod form;
mod help;
#[cfg(feature = "master")]
mod instance;
mod limits;
mod originals;
#[cfg(test)]
mod pages;
mod parts;
mod risks;
mod secret;
mod source;
mod suggest;
mod table;
mod url;
mod value;
mod verbs;

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use pico_args::Arguments;

use crate::error::Error;
use crate::log::{printable, Level};
use crate::logic::auth::AuthMode;
use crate::logic::dialect::Wire;
use crate::logic::local_end::LocalEnd;
use crate::logic::networks::AccessList;
use crate::logic::proxy::Proxy;
use crate::logic::sniff::Blocked;
use crate::logic::target::Balance;
pub use address::{Endpoint, Host};
#[cfg(feature = "master")]
pub use changes::{url_parts, Changes, UrlParts};
pub use choice::{Cors, Mode, Role, Tls, Transport};
pub use dns::Dns;
#[cfg(feature = "master")]
pub use form::{parameters, ParameterInfo};
pub use help::{arch, banner, os, short_usage, version};
#[cfg(feature = "master")]
pub use instance::{instance, Asked, Fault};
pub use limits::{is_secret_variable, mistyped_variables, Limits};
pub use parts::needs_files;
pub use risks::{HTTPS, MIN_KEY};
pub use secret::Secret;
pub use source::{masked, url_in, MAX_TEXT};
use table::PARAMETERS;
#[cfg(feature = "master")]
pub(crate) use value::percent_decoded;
pub use verbs::{is_verb, words_begin, Inquiry, Lang, Verb};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run an instance.
    Run(Box<Config>),
    /// Look at instances without being one.
    Inquire(Box<Inquiry>),
    /// Print this help.
    Help(String),
    /// Print [`version`].
    Version,
    /// Print a new random tunnel key.
    NewKey,
}

/// A command, and what the user should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What to do.
    pub command: Command,
    /// Lines to log as warnings: things ignored, raised or unwise.
    pub warnings: Vec<String>,
    /// Those of them that are about values which an instance of a master [passes over](Reading::Managed), and about names that may be
    /// mistyped.
    pub passed_over: Vec<String>,
}

/// What becomes of a parameter's value that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is an error. A user is there who can mend it.
    Strict,
    /// Where an original takes its default, that is taken and said: an instance that ran under an original's master runs under this one.
    Managed,
}

/// A command line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// The part at fault, its value, what is accepted. One line of printable ASCII, without the key.
    pub error: Error,
    /// The exit status: 1 for a URL that cannot be used, an unknown role or no argument, 2 for flags.
    pub status: u8,
}

/// Everything an instance is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the process is.
    pub role: Role,
    /// The tunnel key: as given, or made from the port.
    pub key: Secret,
    /// Whether the user gave the key.
    pub key_given: bool,
    /// The tunnel address; for the master the API's.
    pub tunnel: Endpoint,
    /// The targets, at least one and at most 64; none for the master.
    pub targets: Vec<Endpoint>,
    /// The master's path before `/v1`: begins with a slash and does not end with one.
    pub prefix: String,
    /// The least level shown.
    pub log: Level,
    /// Whether the user gave a master one: it hands only that on to its instances.
    pub log_given: bool,
    /// The certificate in use, if any.
    pub tls: Tls,
    /// Who is asked for names, and how long an answer is kept.
    pub dns: Dns,
    /// The TLS server name and HTTP Host of the handshake, if the user gave one.
    pub sni: Option<String>,
    /// Which of several targets.
    pub balance: Balance,
    /// The pool's size kept warm, 1 to 65535. May be above `max`: who knows both swaps them.
    pub min: usize,
    /// The pool's largest size, 1 to 65535.
    pub max: usize,
    /// Who listens for users.
    pub mode: Mode,
    /// What pool connections are made of.
    pub transport: Transport,
    /// The source address for dialling targets; `None` leaves it to the system.
    pub dial: Option<IpAddr>,
    /// Where a client's calls to its server begin; `None` leaves it to the system.
    pub bind: Option<LocalEnd>,
    /// The idle timeout of a TCP relay.
    pub read: Option<Duration>,
    /// The limit of each direction in bytes per second, up to 125 000 000 000.
    pub rate: Option<u64>,
    /// User connections and UDP sessions at once.
    pub slot: Option<usize>,
    /// New UDP sessions at once, if that is said; 0 is no limit ([`Config::new_sessions`]).
    pub udpslot: Option<usize>,
    /// Users of one source at once, if there is a limit (`perip`).
    pub perip: Option<usize>,
    /// Which users may come in; at a master those of its API (`allow`, `deny`).
    pub users: AccessList,
    /// Which peers may, at the tunnel's port (`allow`, `deny`).
    pub peers: AccessList,
    /// Which handshakes are made and taken (`auth`).
    pub auth: AuthMode,
    /// Which generations of the original are spoken (`wire`).
    pub wire: Wire,
    /// How many clients a server has at once, if there is a limit (`clients`).
    pub clients: Option<usize>,
    /// Whether TCP targets get a PROXY protocol header.
    pub proxy: bool,
    /// What users may not open with.
    pub block: Blocked,
    /// Whether TCP is carried.
    pub tcp: bool,
    /// Whether UDP is carried.
    pub udp: bool,
    /// Which web pages may use the master's API.
    pub cors: Cors,
    /// Where a server or client shows its figures (`metrics`).
    pub metrics: Option<Endpoint>,
    /// `HTTPS_PROXY`, for a client whose server is not among the exceptions of `NO_PROXY`: where the proxy is, and its request.
    pub https_proxy: Option<(Endpoint, Proxy)>,
    /// Sizes and times from the environment.
    pub limits: Limits,
    /// Whether `tls` was raised from 0 to 1 because `transport` needs it.
    pub raised: bool,
}

/// Reads a command line (without the program's name) and the environment.
pub fn parse(args: &[String], env: &dyn Fn(&str) -> Option<String>) -> Result<Parsed, UsageError> {
    parse_as(args, env, Reading::Strict)
}

/// The same for the URL of a process that may be an instance of a master.
pub fn parse_as(args: &[String], env: &dyn Fn(&str) -> Option<String>, reading: Reading) -> Result<Parsed, UsageError> {
    let quiet = |command| Ok(Parsed::quiet(command));
    let shown = |help| quiet(Command::Help(help));
    let mut words = Arguments::from_vec(args.iter().map(OsString::from).collect());
    let first = words.subcommand().unwrap_or_default();
    if let Some(verb) = first.as_deref().and_then(Verb::from_name) {
        return look(verb, &args[1..]);
    }
    let parts = match first.as_deref() {
        Some("help") => return help::about(args.get(1).map(String::as_str)).map_err(UsageError::flags).and_then(shown),
        Some("version") => return quiet(Command::Version),
        Some("key") => return quiet(Command::NewKey),
        None if words.contains(["-h", "--help"]) => return shown(help::usage()),
        None if words.contains(["-v", "--version"]) || words.contains("-V") => return quiet(Command::Version),
        None | Some("") => return Err(nothing_said(args)),
        Some(first) => match Role::from_name(first) {
            // The flags of a role come out of the table of parameters, which pico-args has no names for.
            Some(role) => match flags::parts(role, &args[1..]).map_err(UsageError::flags)? {
                Some(parts) => return parts.resolve(env, reading).map_err(UsageError::flags),
                None => return shown(help::of_role(role)),
            },
            None => url::parts(first).map_err(UsageError::url)?,
        },
    };
    let more = &args[1..];
    if let Some(stray) = more.first() {
        return Err(UsageError::flags(bad("argument", stray, "nothing after the URL")));
    }
    parts.resolve(env, reading).map_err(UsageError::url)
}

/// A verb and what follows it.
fn look(verb: Verb, args: &[String]) -> Result<Parsed, UsageError> {
    let command = match verbs::inquiry(verb, args).map_err(UsageError::flags)? {
        Some(inquiry) => Command::Inquire(Box::new(inquiry)),
        None => Command::Help(help::of_verb(verb)),
    };
    Ok(Parsed::quiet(command))
}

impl Parsed {
    /// A command with nothing to say about it.
    fn quiet(command: Command) -> Parsed {
        Parsed { command, warnings: Vec::new(), passed_over: Vec::new() }
    }
}

fn nothing_said(args: &[String]) -> UsageError {
    match args.first() {
        Some(first) if !first.is_empty() => UsageError::flags(bad("argument", first, "a URL or a role first")),
        _ => UsageError::url(Error::input("no argument", "a URL, as in server://host:port/target:port")),
    }
}

impl UsageError {
    fn url(error: Error) -> UsageError {
        UsageError { error, status: 1 }
    }

    fn flags(error: Error) -> UsageError {
        UsageError { error, status: 2 }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for UsageError {}

impl Config {
    /// New UDP sessions at once, if there is a limit (`udpslot`, else a quarter of `slot`).
    pub fn new_sessions(&self) -> Option<usize> {
        match self.udpslot {
            Some(limit) => Some(limit).filter(|limit| *limit > 0),
            None => self.slot.map(|slot| (slot / 4).max(1)),
        }
    }

    /// A configuration with every parameter off, to be filled from the table.
    fn blank(role: Role) -> Config {
        Config {
            role,
            key: Secret::new(Vec::new()),
            key_given: false,
            tunnel: Endpoint { host: Host::Any, port: 1 },
            targets: Vec::new(),
            prefix: String::new(),
            log: Level::None,
            log_given: false,
            tls: Tls::Off,
            dns: Dns { servers: Vec::new(), keep: None },
            sni: None,
            balance: Balance::RoundRobin,
            min: 1,
            max: 1,
            mode: Mode::Auto,
            transport: Transport::Tcp,
            dial: None,
            bind: None,
            read: None,
            rate: None,
            slot: None,
            udpslot: None,
            perip: None,
            users: AccessList::default(),
            peers: AccessList::default(),
            auth: AuthMode::default(),
            wire: Wire::default(),
            clients: Some(1),
            proxy: false,
            block: Blocked::default(),
            tcp: true,
            udp: true,
            cors: Cors::None,
            metrics: None,
            https_proxy: None,
            limits: Limits::default(),
            raised: false,
        }
    }

    /// A target that leads back to the tunnel's own port: the same address, or any address if the tunnel listens on all of them.
    fn looping(&self) -> Option<&Endpoint> {
        let loops = |at: &Endpoint| self.tunnel.host.is_unspecified() || at.host.may_be(&self.tunnel.host);
        self.targets.iter().find(|at| at.port == self.tunnel.port && loops(at))
    }

    /// Which handshakes are made and taken: with `wire` only that of its generation.
    pub fn auth(&self) -> AuthMode {
        match self.wire {
            Wire::Auto => self.auth,
            Wire::Only(_) => AuthMode::Off,
        }
    }

    /// The URL with every parameter that applies, at the value in force; the key is not shown.
    pub fn effective_url(&self) -> String {
        let Config { role, tunnel, .. } = self;
        let (user, path) = match role {
            Role::Master => ("", self.prefix.clone()),
            Role::Server | Role::Client => ("***@", format!("/{}", self.targets_text())),
        };
        let mut url = format!("{role}://{user}{tunnel}{path}");
        let mut mark = '?';
        for row in PARAMETERS.iter().filter(|row| row.roles.contains(role)) {
            let Some(value) = (row.show)(self) else { continue };
            url.push(mark);
            url.push_str(&format!("{}={}", row.name, value::percent_encoded(&value)));
            mark = '&';
        }
        url
    }

    fn targets_text(&self) -> String {
        self.targets.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(",")
    }
}

/// A fault in one line: the part, its value made harmless, what is expected.
fn bad(part: &str, value: &str, expected: &str) -> Error {
    Error::input(format!("bad {part} \"{}\"", printable(value)), expected)
}

#[cfg(test)]
mod tests;
