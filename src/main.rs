//! `nodepass "<role>://..."`: reads the command line, runs the role, answers with an exit code.

use std::process::ExitCode;

use nodepass::config::{parse, short_usage, usage, version, Command};
use nodepass::{log as lines, run};

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
            print!("{}", usage());
            return ExitCode::SUCCESS;
        }
        Command::Version => {
            println!("{}", version());
            return ExitCode::SUCCESS;
        }
        Command::Run(config) => *config,
    };
    lines::init(config.log, false);
    for warning in &parsed.warnings {
        log::warn!("{warning}");
    }
    match run::turn::start(config) {
        Ok(code) => code,
        Err(why) => {
            log::error!("{why}");
            eprintln!("Error: {why}");
            ExitCode::FAILURE
        }
    }
}
