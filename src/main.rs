//! `nodepass "<role>://..."`: reads the command line and hides its key, runs the role, answers with an exit code.

use std::io::Write;
use std::process::ExitCode;

use nodepass::config::{
    banner, mistyped_variables, parse_as, short_usage, version, Command, Config, Inquiry, Reading, Role,
};
use nodepass::error::Error;
use nodepass::heap::Heap;
use nodepass::log::escaped;
use nodepass::logic::encoding;
use nodepass::net::random;
use nodepass::run::cmdline::CommandLine;
use nodepass::run::following::Origin;
use nodepass::{log as lines, run};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ExitCode {
    if let Some(code) = run::following::waited() {
        return code;
    }
    let line = match CommandLine::read() {
        Ok(line) => line,
        Err(error) => return fault(&error.error, "", error.status),
    };
    let reading = if run::leash::is_held() { Reading::Managed } else { Reading::Strict };
    let parsed = match parse_as(&line.args, &|name| std::env::var(name).ok(), reading) {
        Ok(parsed) => parsed,
        Err(error) if line.is_typed() => {
            // Scripts of an original's users look for the version there.
            if line.args.is_empty() {
                say(&format!("{}\n", banner()));
            }
            return refuse(&error.error, error.status);
        }
        Err(error) => return fault(&line.named(error.error), "", error.status),
    };
    let config = match parsed.command {
        Command::Help(text) => return say(&text),
        Command::Version => {
            return say(&format!("{}\n", version()));
        }
        Command::NewKey => return new_key(),
        Command::Inquire(inquiry) => {
            let notes = line.hide().into_iter().chain(line.warnings).collect();
            return look(*inquiry, notes);
        }
        Command::Run(config) => *config,
    };
    let seen = line.hide();
    let mistyped = mistyped_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    // A master reads what its children say, and hands the colours on.
    let (format, is_child) = (config.limits.log_format, run::leash::is_held());
    lines::init(config.log, if is_child { format.of_child() } else { format }, is_child);
    for warning in line.warnings.iter().chain(&seen).chain(&mistyped).chain(&parsed.warnings) {
        log::warn!("{warning}");
    }
    let ended = match config.role {
        Role::Master => master(config),
        Role::Server | Role::Client => run::start::start(config, Origin::of(line)),
    };
    match ended {
        Ok(code) => {
            lines::flush();
            code
        }
        Err(why) => fault(&why, "", 1),
    }
}

#[cfg(feature = "master")]
fn master(config: Config) -> Result<ExitCode, Error> {
    nodepass::master::start::start(config)
}

#[cfg(not(feature = "master"))]
fn master(_: Config) -> Result<ExitCode, Error> {
    Err(Error::unsupported("the master is not part of this build").with_hint("this one runs server:// and client://"))
}

/// Looks at instances; `notes` is what is known of the command line itself.
#[cfg(feature = "check")]
fn look(inquiry: Inquiry, notes: Vec<String>) -> ExitCode {
    nodepass::check::start::start(inquiry, notes)
}

#[cfg(not(feature = "check"))]
fn look(inquiry: Inquiry, _: Vec<String>) -> ExitCode {
    let error = Error::unsupported(format!("nodepass {} is not part of this build", inquiry.verb.name()));
    fault(&error.with_hint("a full build has it, for any machine that reaches this one"), "", 2)
}

/// Says what is wrong with the command line, and how it is used.
fn refuse(error: &Error, status: u8) -> ExitCode {
    fault(error, &format!("\n{}\n", short_usage()), status)
}

/// Says in one line what is wrong, and what else there is to say. A URL that is not on the command line needs no more: a
/// service's log gets it at each try.
fn fault(error: &Error, more: &str, status: u8) -> ExitCode {
    lines::last_words(format!("Error: {}\n{more}", escaped(&error.to_string())));
    ExitCode::from(status)
}

/// Prints a key that cannot be guessed: 128 random bits, in letters and digits that are fit for a URL.
fn new_key() -> ExitCode {
    match random::bytes::<16>() {
        Ok(bytes) => say(&format!("{}\n", encoding::base32(&bytes))),
        Err(error) => refuse(&Error::system("cannot make a key", error), 1),
    }
}

/// Prints to a reader who may have gone already (`nodepass help | head -1`).
fn say(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
