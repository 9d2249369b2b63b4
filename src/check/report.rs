//! One text for a bug report: versions, configuration, findings, logs, the system. No secret is in it, and what is known as one is taken out
//! once more at the end.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::finding::Finding;
use super::show;
use crate::config::{is_secret_variable, masked, version, Lang};
use crate::log::{escaped, rfc3339};

/// What goes into a report.
#[derive(Default)]
pub struct Report {
    /// The words that were looked at.
    pub words: Vec<String>,
    /// What was found.
    pub found: Vec<Finding>,
    /// Last lines of logs, by whose they are.
    pub logs: Vec<(String, Vec<String>)>,
    /// Texts that must not be in it.
    pub secrets: Vec<String>,
}

impl Report {
    /// Writes it into a file that only its owner can read.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE).open(path)?;
        file.write_all(self.text().as_bytes())
    }

    fn text(&self) -> String {
        let mut text = format!("{}\nmade {}\n", version(), rfc3339(std::time::SystemTime::now()));
        section(&mut text, "arguments", &masked(&self.words).join(" "));
        section(&mut text, "environment", &environment());
        section(&mut text, "findings", &show::text(&self.found, Lang::English));
        for (name, lines) in &self.logs {
            let from = lines.len().saturating_sub(MAX_LINES);
            section(&mut text, &format!("log of {name}"), &lines[from..].join("\n"));
        }
        section(&mut text, "system", &system());
        if self.logs.is_empty() {
            section(
                &mut text,
                "please add",
                "the last 200 lines of the log, for example: journalctl -u nodepass@NAME -n 200",
            );
        }
        self.without_secrets(text)
    }

    /// The text with dots for whatever is known as a secret.
    fn without_secrets(&self, mut text: String) -> String {
        let mut secrets: Vec<&String> = self.secrets.iter().filter(|secret| secret.len() >= MIN_SECRET).collect();
        // One secret may begin another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            text = text.replace(secret.as_str(), MASK);
        }
        text
    }
}

/// Our variables, with the values of those that hold no secret.
fn environment() -> String {
    let mut lines = Vec::new();
    for (name, value) in std::env::vars_os() {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        if name.starts_with("NP_") || PROXIES.contains(&name.as_ref()) {
            let shown = if is_secret_variable(&name) { MASK.into() } else { escaped(&value) };
            lines.push(format!("{}={shown}", escaped(&name)));
        }
    }
    lines.sort();
    lines.join("\n")
}

/// What may matter of the machine: no names, no addresses.
fn system() -> String {
    let mut text = String::new();
    for path in FACTS {
        let Ok(fact) = fs::read_to_string(path) else { continue };
        let lines: Vec<&str> = fact.lines().take(MAX_FACT).collect();
        let _ = writeln!(text, "{path}: {}", escaped(&lines.join("; ")));
    }
    text
}

fn section(text: &mut String, name: &str, content: &str) {
    let _ = write!(text, "\n== {name}\n{}\n", content.trim_end());
}

/// Files that say what the machine is.
const FACTS: [&str; 12] = [
    "/proc/version",
    "/etc/os-release",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/self/limits",
    "/proc/self/cgroup",
    "/proc/sys/net/core/rmem_max",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/tcp_congestion_control",
    "/proc/sys/fs/pipe-user-pages-soft",
    "/proc/net/sockstat",
];
/// Variables of others that change what an instance does.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"];
/// What stands for a secret.
const MASK: &str = "***";
/// The file's mode.
const PRIVATE: u32 = 0o600;
/// Lines of a fact.
const MAX_FACT: usize = 16;
/// Lines of a log.
const MAX_LINES: usize = 200;
/// Bytes of a secret; to take shorter ones out would make the text unreadable, and they are nowhere in it.
const MIN_SECRET: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_wherever_they_are() {
        let report = Report {
            words: vec!["server://planted-secret@h:1/t:2".into()],
            logs: vec![("web".into(), vec!["a log that says planted-secret-too".into()])],
            secrets: vec!["planted-secret".into(), "planted-secret-too".into(), "a".into()],
            ..Report::default()
        };
        let text = report.text();
        assert!(
            !text.contains("planted")
                && text.contains("server://***@h:1/t:2")
                && text.contains("a log that says ***\n"),
            "{text}"
        );
        assert!(text.contains("== system\n") && text.contains("/proc/self/limits"));
    }
}
