//! What the program says about itself: usage, version. Made from the tables, so it cannot go stale.

use std::env::consts::{ARCH, OS};
use std::fmt::Write;

use super::flags::FLAGS;
use super::limits::VARIABLES;
use super::table::PARAMETERS;
use super::{Role, Transport};

/// The whole help text, line ends included.
pub fn usage() -> String {
    let mut text =
        format!("NodePass {}: carries TCP and UDP between two networks.\n\n{SHORT}\n", env!("CARGO_PKG_VERSION"));
    wrapped(&mut text, "", ELSEWHERE);
    text.push_str(&format!("\n{ROLES}"));
    text.push_str("\nParameters, as ?name=value&... in the URL or as --name value (s server, c client, m master):\n");
    for row in &PARAMETERS {
        let default = row.default.map(|value| format!(" [{value}]")).unwrap_or_default();
        item(&mut text, row.name, &letters(row.roles), &format!("{}{default}", row.meaning), row.values);
    }
    text.push_str("\nFlags for the other parts of the URL:\n");
    for flag in &FLAGS {
        item(&mut text, flag.name, &letters(flag.roles), flag.meaning, "");
    }
    text.push_str("\nEnvironment:\n");
    wrapped(&mut text, &format!("  {:<22}", URL_VARIABLE.0), URL_VARIABLE.1);
    for variable in &VARIABLES {
        let default = variable.default.map(|value| format!(" [{value}]")).unwrap_or_default();
        let head = format!("  {:<22}", variable.name);
        wrapped(&mut text, &head, &format!("{}{default}", variable.meaning));
        wrapped(&mut text, &" ".repeat(head.len()), variable.values);
    }
    text.push_str(REST);
    text
}

/// What is said after an error on the command line; no line end after it.
pub fn short_usage() -> &'static str {
    SHORT.trim_end()
}

/// Version, system and architecture in Go's words, and what is built in: `nodepass 1.14.0 linux/amd64 (features: tcp ...)`.
pub fn version() -> String {
    format!("nodepass {} {}/{} (features: {})", env!("CARGO_PKG_VERSION"), os(), arch(), features().join(" "))
}

/// The system this was built for, in Go's words: `linux`, `darwin`.
pub fn os() -> &'static str {
    go_os(OS)
}

/// The processor this was built for, in Go's words: `amd64`, `arm64`, `mipsle`.
pub fn arch() -> &'static str {
    go_arch(ARCH, cfg!(target_endian = "little"))
}

/// What this build can do: pool transports, TLS, the kernel's help, the master, features negotiated with the peer.
fn features() -> Vec<&'static str> {
    let transports = Transport::ALL.into_iter().filter(|transport| transport.is_built()).map(Transport::feature);
    let rest =
        [("tls", true), ("splice", SPLICE), ("master", cfg!(feature = "master")), ("udp-frame", true), ("open", true)];
    transports.chain(rest.into_iter().filter(|(_, built)| *built).map(|(name, _)| name)).collect()
}

/// A name, who takes it, what it does, what is accepted.
fn item(text: &mut String, name: &str, who: &str, meaning: &str, values: &str) {
    let head = format!("  {name:<12} {who}  ");
    wrapped(text, &head, meaning);
    if !values.is_empty() {
        wrapped(text, &" ".repeat(head.len()), values);
    }
}

/// Adds `words` after `head`, in lines of at most [`WIDTH`] columns.
fn wrapped(text: &mut String, head: &str, words: &str) {
    let mut line = head.to_string();
    for word in words.split(' ') {
        if line.len() + word.len() > WIDTH && line.len() > head.len() {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(head.len());
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

/// `s-m` for server and master.
fn letters(roles: &[Role]) -> String {
    let letter = |(role, letter)| if roles.contains(&role) { letter } else { '-' };
    [(Role::Server, 's'), (Role::Client, 'c'), (Role::Master, 'm')].into_iter().map(letter).collect()
}

fn go_os(os: &'static str) -> &'static str {
    match os {
        "macos" => "darwin",
        os => os,
    }
}

fn go_arch(arch: &'static str, little: bool) -> &'static str {
    match (arch, little) {
        ("x86_64", _) => "amd64",
        ("x86", _) => "386",
        ("aarch64", _) => "arm64",
        ("mips" | "mips32r6", true) => "mipsle",
        ("mips64" | "mips64r6", true) => "mips64le",
        ("powerpc64", true) => "ppc64le",
        ("powerpc64", false) => "ppc64",
        ("loongarch64", _) => "loong64",
        _ => arch,
    }
}

/// Whether bytes may go from socket to socket inside the kernel here.
const SPLICE: bool = cfg!(target_os = "linux");

/// Columns of the help text.
const WIDTH: usize = 100;

pub(super) const SHORT: &str = "\
Usage:
  nodepass \"<role>://[key@]host:port/target[,target...]?name=value&...\"
  nodepass <role> --flag value ...
  nodepass @FILE | -
  nodepass help | version
";

/// Where else the URL may be.
pub(super) const ELSEWHERE: &str =
    "@FILE reads the URL from a file, - from standard input: one line, besides blank ones and those that begin with #.";

/// The variable that is no limit, and its meaning.
pub(super) const URL_VARIABLE: (&str, &str) = ("NP_URL", "the URL, where there is no argument");

pub(super) const ROLES: &str = "\
Roles:
  server  owns the tunnel port host:port; clients connect to it
  client  connects to a server's host:port, or forwards alone from host:port to the targets (mode=1)
  master  serves the API at host:port/prefix, and runs servers and clients
";

pub(super) const REST: &str = "
Exit status:
  0  after a graceful stop, help and version
  1  a URL that cannot be used, or an instance that cannot start
  2  flags that cannot be used

Examples:
  nodepass \"server://secret@:10101/127.0.0.1:8080?tls=1\"
  nodepass \"client://secret@server.example:10101/127.0.0.1:80\"
  nodepass \"client://:8080/10.0.0.5:80,10.0.0.6:80?mode=1&lbs=1\"
  nodepass server --password secret --tunnel-port 10101 --target-port 8080 --tls 1
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_parameter_flag_and_variable_with_its_default() {
        let help = usage();
        for row in &PARAMETERS {
            let line = help.lines().find(|line| line.starts_with(&format!("  {:<12} ", row.name))).unwrap();
            assert!(line.contains(&letters(row.roles)), "{line}");
            assert!(row.default.is_none_or(|value| help.contains(&format!("[{value}]"))), "{}", row.name);
        }
        assert!(FLAGS.iter().all(|flag| help.contains(&format!("  {:<12} ", flag.name))));
        assert!(VARIABLES.iter().all(|variable| help.contains(&format!("  {:<22}", variable.name))));
    }

    #[test]
    fn help_fits_a_terminal_and_ends_with_one_line_end() {
        let help = usage();
        assert!(help.lines().all(|line| line.len() <= WIDTH && line.trim_end() == line && line.is_ascii()));
        assert!(help.ends_with('\n') && !help.ends_with("\n\n"));
        assert!(help.contains(short_usage()) && !short_usage().ends_with('\n'));
    }

    #[test]
    fn the_version_line_is_in_gos_words() {
        assert!(version().starts_with(concat!("nodepass ", env!("CARGO_PKG_VERSION"), " ")));
        assert!(
            version().contains(" (features: tcp ")
                && version().contains(" tls ")
                && version().ends_with(" udp-frame open)")
        );
        assert_eq!((go_os("linux"), go_os("macos")), ("linux", "darwin"));
        let archs = ["x86_64", "x86", "aarch64", "arm", "mips", "riscv64"].map(|arch| go_arch(arch, true));
        assert_eq!(archs, ["amd64", "386", "arm64", "arm", "mipsle", "riscv64"]);
        assert_eq!((go_arch("mips", false), go_arch("powerpc64", true)), ("mips", "ppc64le"));
    }
}
