//! `nodepass check` and `nodepass status`, from their words to the exit code.

use std::io::Write;
use std::process::ExitCode;

use super::api::Master;
use super::finding::Finding;
use super::instance::Instance;
use super::managed::{self, Managed};
use super::report::Report;
use super::words::*;
use super::{setup, show, status};
use crate::config::{Inquiry, Lang, Reading, Role, Verb};
use crate::error::Error;
use crate::run::leash;

/// Answers an inquiry; `notes` is what is known of the command line itself.
pub fn start(inquiry: Inquiry, notes: Vec<String>) -> ExitCode {
    let lang = inquiry.lang.unwrap_or_else(|| Lang::from_env(&|name| std::env::var(name).ok()));
    if inquiry.verb == Verb::Status {
        return show_status(&inquiry, lang);
    }
    let (mut report, status) = match check(&inquiry, notes) {
        Ok(report) => (report, None),
        Err(finding) => (Report { found: vec![finding], ..Report::default() }, Some(UNUSABLE)),
    };
    report.words.clone_from(&inquiry.words);
    if let Some(path) = &inquiry.report {
        let written = report.write(path);
        let finding = |case| Finding::new(case, path.display());
        report.found.push(match written {
            Ok(()) => finding(&REPORT_WRITTEN),
            Err(error) => finding(&REPORT_FAILED).with(error),
        });
    }
    tell(&report.found, &inquiry, lang);
    ExitCode::from(status.unwrap_or(u8::from(report.found.iter().any(Finding::is_bad))))
}

/// What there is to say. An error is all there is: what was asked cannot be used.
fn check(inquiry: &Inquiry, notes: Vec<String>) -> Result<Report, Finding> {
    let mut report = match &inquiry.master {
        Some(url) => master(&master_at(url)?)?,
        None => Report::default(),
    };
    if inquiry.master.is_none() || !inquiry.words.is_empty() {
        // A master asks about its instances by a process of its own.
        let reading = if leash::is_held() { Reading::Managed } else { Reading::Strict };
        let instance = Instance::read(&inquiry.words, notes, reading)?;
        report.found.extend(instance.look());
        if instance.config.role == Role::Master {
            report.found.extend(managed::look_in_folder(&instance.config));
        }
        report.secrets.extend(instance.secrets());
    }
    Ok(report)
}

/// What a running master and its instances come to.
fn master(master: &Master) -> Result<Report, Finding> {
    let shown = master.instances()?;
    let logs: Vec<_> = shown.iter().map(|one| (format!("{} ({})", one.name(), one.id), master.log(&one.id))).collect();
    let mut found = vec![Finding::new(&MASTER_FINE, master).with(shown.len())];
    found.extend(shown.iter().zip(&logs).filter_map(|(one, (_, log))| managed::failed(one, log)));
    let all: Vec<_> = shown.iter().map(|one| Managed::new(&one.alias, &one.id, &one.url)).collect();
    found.extend(managed::collisions(None, &all));
    let here = master.is_here();
    found.extend(all.iter().flat_map(|one| one.look(here)));
    let secrets = all.iter().flat_map(Managed::secrets).chain([master.key().to_owned()]).collect();
    Ok(Report { found, logs, secrets, words: Vec::new() })
}

fn master_at(url: &str) -> Result<Master, Finding> {
    let key = std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
    Master::parse(url, key).map_err(|error| setup::unusable(&error))
}

fn show_status(inquiry: &Inquiry, lang: Lang) -> ExitCode {
    let url = inquiry.master.as_ref().or(inquiry.words.first());
    let master = url.ok_or_else(|| setup::unusable(&Error::input("no master", "--master http://host:port/prefix")));
    let shown = master.and_then(|url| status::run(&master_at(url)?, inquiry.watch, inquiry.json, lang));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(finding) => unusable(finding, inquiry, lang),
    }
}

fn unusable(finding: Finding, inquiry: &Inquiry, lang: Lang) -> ExitCode {
    tell(&[finding], inquiry, lang);
    ExitCode::from(UNUSABLE)
}

/// Prints findings, to a reader who may have gone already.
fn tell(found: &[Finding], inquiry: &Inquiry, lang: Lang) {
    let text = match inquiry.json {
        true => format!("{:#}\n", show::object(found, lang)),
        false => show::text(found, lang),
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The variable with the key of the master that is asked.
const KEY_VARIABLE: &str = "NP_API_KEY";
/// The exit status of what cannot be used.
const UNUSABLE: u8 = 2;
