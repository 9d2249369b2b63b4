//! What the program says about itself: usage, version. Made from the tables, so it cannot go stale.

use std::env::consts::{ARCH, OS};
use std::fmt::Write;

use super::flags::FLAGS;
use super::limits::{Variable, OTHERS, VARIABLES};
use super::suggest::nearest;
use super::table::{Parameter, PARAMETERS};
use super::verbs::{Verb, OPTIONS};
use super::{Role, Transport};
use crate::error::Error;
use crate::log::printable;

/// The whole help text, line ends included.
pub(super) fn usage() -> String {
    let mut text =
        format!("NodePass {}: carries TCP and UDP between two networks.\n\n{SHORT}\n", env!("CARGO_PKG_VERSION"));
    wrapped(&mut text, "", ELSEWHERE);
    text.push_str(&format!("\n{ROLES}"));
    text.push_str("\nOther commands, before what an instance is started with or --master URL:\n");
    Verb::ALL.iter().for_each(|verb| wrapped(&mut text, &format!("  {:<VERB$}", verb.name()), verb.meaning()));
    text.push_str("\nParameters, as ?name=value&... in the URL or as --name value (s server, c client, m master):\n");
    PARAMETERS.iter().for_each(|row| parameter(&mut text, row));
    text.push_str("\nFlags for the other parts of the URL:\n");
    FLAGS.iter().for_each(|flag| item(&mut text, flag.name, &letters(flag.roles), flag.meaning, ""));
    text.push_str("\nEnvironment:\n");
    OTHERS.iter().for_each(|(name, meaning)| wrapped(&mut text, &format!("  {name:<VARIABLE$}"), meaning));
    VARIABLES.iter().for_each(|row| variable(&mut text, row));
    text.push_str(REST);
    text
}

/// Help on one thing: a role, a parameter, a flag or a variable; without a word on all.
pub(super) fn about(word: Option<&str>) -> Result<String, Error> {
    let Some(word) = word else { return Ok(usage()) };
    let (bare, upper) = (word.trim_start_matches("--"), word.to_ascii_uppercase());
    if let Some(role) = Role::from_name(bare) {
        return Ok(of_role(role));
    }
    if let Some(verb) = Verb::from_name(bare) {
        return Ok(of_verb(verb));
    }
    let mut text = String::new();
    PARAMETERS.iter().filter(|row| row.name == bare).for_each(|row| parameter(&mut text, row));
    let flags = FLAGS.iter().filter(|flag| flag.name == bare);
    flags.for_each(|flag| item(&mut text, flag.name, &letters(flag.roles), flag.meaning, ""));
    VARIABLES.iter().filter(|row| row.name == upper).for_each(|row| variable(&mut text, row));
    let others = OTHERS.iter().filter(|(name, _)| *name == upper);
    others.for_each(|(name, meaning)| wrapped(&mut text, &format!("  {name:<VARIABLE$}"), meaning));
    if !text.is_empty() {
        return Ok(text);
    }
    let names = PARAMETERS.iter().map(|row| row.name).chain(FLAGS.iter().map(|flag| flag.name));
    let variables = VARIABLES.iter().map(|row| row.name).chain(OTHERS.iter().map(|other| other.0));
    let near = nearest(bare, names.chain(Role::ALL.map(Role::name)).chain(Verb::ALL.map(Verb::name)))
        .or(nearest(&upper, variables));
    let hint = near.map_or("\"nodepass help\" shows all there is".into(), |name| format!("did you mean {name}?"));
    Err(Error::unusable(format!("no help on \"{}\"", printable(word)), hint))
}

/// What a command that looks at instances takes.
pub(super) fn of_verb(verb: Verb) -> String {
    let mut text = format!("nodepass {}: {}\n\nUsage:\n", verb.name(), verb.meaning());
    let usage = SHORT.lines().map(str::trim).filter(|line| line.starts_with(&format!("nodepass {}", verb.name())));
    usage.for_each(|line| text.push_str(&format!("  {line}\n")));
    text.push_str("\nOptions:\n");
    for option in OPTIONS.iter().filter(|option| option.verbs.contains(&verb)) {
        item(&mut text, &format!("--{}", option.name), "", option.meaning, option.value.unwrap_or_default());
    }
    text.push_str(match verb {
        Verb::Check => CHECK_STATUS,
        Verb::Status => "",
    });
    text
}

/// What one role takes.
pub(super) fn of_role(role: Role) -> String {
    let name = role.name();
    let does = ROLES.lines().find_map(|line| line.trim_start().strip_prefix(name)).unwrap_or_default();
    let mut text = format!("nodepass {name}: {}\n\n", does.trim_start());
    let path = if role == Role::Master { "[/prefix]" } else { "/target[,target...]" };
    let key = if role == Role::Master { "" } else { "[key@]" };
    text.push_str(&format!("Usage:\n  nodepass \"{name}://{key}host:port{path}?name=value&...\"\n"));
    text.push_str(&format!("  nodepass {name} --flag value ...\n\nParameters, and flags of the same names:\n"));
    PARAMETERS.iter().filter(|row| row.roles.contains(&role)).for_each(|row| parameter(&mut text, row));
    text.push_str("\nFlags for the other parts of the URL:\n");
    let flags = FLAGS.iter().filter(|flag| flag.roles.contains(&role));
    flags.for_each(|flag| item(&mut text, flag.name, &letters(flag.roles), flag.meaning, ""));
    text + "\n\"nodepass help\" lists the environment and examples as well.\n"
}

fn parameter(text: &mut String, row: &Parameter) {
    let default = row.default.map(|value| format!(" [{value}]")).unwrap_or_default();
    item(text, row.name, &letters(row.roles), &format!("{}{default}", row.meaning), row.values);
}

fn variable(text: &mut String, row: &Variable) {
    let default = row.default.map(|value| format!(" [{value}]")).unwrap_or_default();
    let head = format!("  {:<VARIABLE$}", row.name);
    wrapped(text, &head, &format!("{}{default}", row.meaning));
    wrapped(text, &" ".repeat(head.len()), row.values);
}

/// What is said after an error on the command line; no line end after it.
pub fn short_usage() -> &'static str {
    SHORT.trim_end()
}

/// Version, system and architecture in Go's words, and what is built in: `nodepass 1.14.0 linux/amd64 (features: tcp ...)`.
pub fn version() -> String {
    format!("nodepass {} {}/{} (features: {})", env!("CARGO_PKG_VERSION"), os(), arch(), features().join(" "))
}

/// What the bare program says of itself, as an original does: `nodepass-v1.14.0 linux/amd64`.
pub fn banner() -> String {
    format!("nodepass-v{} {}/{}", env!("CARGO_PKG_VERSION"), os(), arch())
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
    let rest = [
        ("tls", true),
        ("splice", SPLICE),
        ("master", cfg!(feature = "master")),
        ("dns", cfg!(feature = "dns")),
        ("udp-frame", true),
        ("open", true),
    ];
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

/// Columns of a command's name.
const VERB: usize = 8;

/// What the exit status of `check` says.
const CHECK_STATUS: &str = "
Exit status:
  0  nothing is wrong
  1  there are findings
  2  the URL or an option cannot be used
";

/// Columns of a variable's name.
const VARIABLE: usize = 24;

/// Columns of the help text.
const WIDTH: usize = 100;

pub(super) const SHORT: &str = "\
Usage:
  nodepass \"<role>://[key@]host:port/target[,target...]?name=value&...\"
  nodepass <role> --flag value ...
  nodepass @FILE | -
  nodepass check [--json] [--lang en|zh] [--report FILE] [--master URL] [URL | @FILE | -]
  nodepass status [--json] [--watch] [--lang en|zh] --master URL
  nodepass help [role | command | name] | key | version
";

/// Where else the URL may be.
pub(super) const ELSEWHERE: &str =
    "@FILE reads the URL from a file, - from standard input: one line, besides blank ones and those that begin with #.";

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
        assert!(VARIABLES.iter().all(|variable| help.contains(&format!("  {:<22}  ", variable.name))));
    }

    #[test]
    fn help_fits_a_terminal_and_ends_with_one_line_end() {
        let help = usage();
        assert!(help.lines().all(|line| line.len() <= WIDTH && line.trim_end() == line && line.is_ascii()));
        assert!(help.ends_with('\n') && !help.ends_with("\n\n"));
        assert!(help.contains(short_usage()) && !short_usage().ends_with('\n'));
    }

    #[test]
    fn help_on_a_role_or_a_name_shows_that_and_no_more() {
        let server = of_role(Role::Server);
        assert!(
            server.contains("  max ") && server.contains("owns the tunnel port") && server.contains("--flag value")
        );
        assert!(!server.contains("  min ") && !server.contains("  prefix ") && !server.contains("NP_WORKERS"));
        assert!(server.lines().all(|line| line.len() <= WIDTH && line.trim_end() == line));
        for (word, line) in [
            ("tls", "  tls          scm  0 plain"),
            ("--tls", "  tls          scm  0 plain"),
            ("tunnel-port", "  tunnel-port  scm  port of the tunnel address"),
            ("np_workers", "  NP_WORKERS              threads"),
            ("https_proxy", "  HTTPS_PROXY             a client calls"),
        ] {
            let told = about(Some(word)).unwrap();
            assert!(told.starts_with(line) && told.lines().count() <= 4, "{word}: {told}");
        }
        assert_eq!(about(None), Ok(usage()));
        assert_eq!(about(Some("nonsense")).unwrap_err().hint(), "\"nodepass help\" shows all there is");
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
