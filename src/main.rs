//! `nodepass "<role>://..."`: reads the command line, runs the role, answers with an exit code.

use std::io::Write;
use std::process::ExitCode;

use nodepass::config::{parse, short_usage, usage, version, Command, Config, Role};
use nodepass::heap::Heap;
use nodepass::{log as lines, run};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let parsed = match parse(&args, &|name| std::env::var(name).ok()) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("Error: {}\n\n{}", error.text, short_usage());
            return ExitCode::from(error.status);
        }
    };
    let config = match parsed.command {
        Command::Help => {
            return say(&usage());
        }
        Command::Version => {
            return say(&format!("{}\n", version()));
        }
        Command::Run(config) => *config,
    };
    // A master reads what its children say, and hands the colours on.
    lines::init(config.log, run::leash::is_held());
    for warning in &parsed.warnings {
        log::warn!("{warning}");
    }
    let ended = match config.role {
        Role::Master => master(config),
        Role::Server | Role::Client => run::start::start(config),
    };
    match ended {
        Ok(code) => code,
        Err(why) => {
            eprintln!("Error: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "master")]
fn master(config: Config) -> Result<ExitCode, String> {
    nodepass::master::start::start(config)
}

#[cfg(not(feature = "master"))]
fn master(_: Config) -> Result<ExitCode, String> {
    Err("the master is not part of this build: expected server:// or client://".into())
}

/// Prints to a reader who may have gone already (`nodepass help | head -1`).
fn say(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
