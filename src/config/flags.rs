//! The flag form: `<role> --flag value ...`. Flags are another spelling of the URL's parts, and of its parameters.

use super::parts::Parts;
use super::suggest::did_you_mean;
use super::table::PARAMETERS;
use super::value::number;
use super::{bad, Role, Secret};
use crate::error::Error;
use crate::log::printable;

/// A flag that stands for a part of the URL. Every parameter is a flag too, by its own name.
pub(super) struct Flag {
    /// Without the two hyphens.
    pub name: &'static str,
    /// What it stands for.
    pub meaning: &'static str,
    /// Who takes it.
    pub roles: &'static [Role],
}

/// Every flag that is not a parameter, in the order of the documentation.
pub(super) static FLAGS: [Flag; 7] = [
    Flag { name: "password", meaning: "the key, as it is (nothing is decoded)", roles: BOTH },
    Flag {
        name: "tunnel-addr",
        meaning: "host of the tunnel address, or of the API; without it all interfaces",
        roles: ALL,
    },
    Flag { name: "tunnel-port", meaning: "port of the tunnel address, or of the API", roles: ALL },
    Flag { name: "target-addr", meaning: "host of the target; without it all interfaces", roles: BOTH },
    Flag { name: "target-port", meaning: "port of the target", roles: BOTH },
    Flag {
        name: "targets",
        meaning: "several targets, host:port separated by commas, instead of the two above",
        roles: BOTH,
    },
    Flag { name: "prefix", meaning: "path of the API", roles: &[Role::Master] },
];

const ALL: &[Role] = &[Role::Server, Role::Client, Role::Master];
const BOTH: &[Role] = &[Role::Server, Role::Client];

/// Reads the flags after the role. `None` is a call for help.
pub(super) fn parts(role: Role, args: &[String]) -> Result<Option<Parts>, Error> {
    let mut said = Said { role, flags: Default::default(), given: Vec::new(), warnings: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(None);
        }
        let flag = arg.strip_prefix("--").ok_or_else(|| bad("argument", arg, "--flag value"))?;
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        known(name)?;
        let value = match value {
            Some(value) => value,
            None => args.next().filter(|next| !next.starts_with("--")).ok_or_else(|| no_value(name))?,
        };
        said.hear(name, value);
    }
    said.parts().map(Some)
}

/// What the flags have said so far.
struct Said<'a> {
    role: Role,
    /// In the order of [`FLAGS`].
    flags: [Option<&'a str>; FLAGS.len()],
    given: Vec<(String, String)>,
    warnings: Vec<String>,
}

impl<'a> Said<'a> {
    fn hear(&mut self, name: &str, value: &'a str) {
        let Some(at) = FLAGS.iter().position(|flag| flag.name == name) else {
            return self.given.push((name.into(), value.into()));
        };
        if !FLAGS[at].roles.contains(&self.role) {
            self.warnings.push(format!("--{name} does not apply to a {}: ignored", self.role));
        } else if self.flags[at].replace(value).is_some() {
            self.warnings.push(format!("--{name} is given more than once: the last one counts"));
        }
    }

    fn parts(self) -> Result<Parts, Error> {
        let [password, addr, port, target_addr, target_port, targets, prefix] = self.flags;
        let port = port_of("--tunnel-port", port)?;
        let one = target_addr.is_some() || target_port.is_some();
        let path = match (targets, prefix) {
            (Some(_), _) if one => {
                return Err(Error::input("--targets replaces --target-addr and --target-port", "only one form"))
            }
            (Some(path), _) | (None, Some(path)) => path.into(),
            (None, None) if one => joined(target_addr, port_of("--target-port", target_port)?),
            (None, None) => String::new(),
        };
        Ok(Parts {
            role: self.role,
            key: password.filter(|key| !key.is_empty()).map(Secret::new),
            tunnel: joined(addr, port),
            path,
            given: self.given,
            warnings: self.warnings,
        })
    }
}

/// `host:port` as in a URL; an IPv6 address may come without its brackets.
fn joined(host: Option<&str>, port: &str) -> String {
    match host.unwrap_or_default() {
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// The port that a flag names, as it was written.
fn port_of<'a>(flag: &str, value: Option<&'a str>) -> Result<&'a str, Error> {
    let missing = || Error::input(format!("{flag} is missing"), PORT);
    let value = value.ok_or_else(missing)?;
    let is_port = number(value, 1..=u16::MAX.into()).is_some() && !value.starts_with('0');
    is_port.then_some(value).ok_or_else(|| bad(flag, value, PORT))
}

fn known(name: &str) -> Result<(), Error> {
    let all = || FLAGS.iter().map(|flag| flag.name).chain(PARAMETERS.iter().map(|row| row.name));
    if all().any(|known| known == name) {
        return Ok(());
    }
    let hint = match did_you_mean(name, all()) {
        meant if meant.is_empty() => "\"nodepass help\" lists all".into(),
        meant => meant.replace("mean ", "mean --"),
    };
    Err(Error::unusable(format!("unknown flag --{}", printable(name)), hint))
}

fn no_value(name: &str) -> Error {
    Error::input(format!("--{name} has no value"), "one after it (or after =, if it begins with --)")
}

/// What a flag for a port takes.
const PORT: &str = "a port from 1 to 65535";

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, line: &str) -> Result<Option<Parts>, Error> {
        let args: Vec<String> = line.split_whitespace().map(String::from).collect();
        parts(role, &args)
    }

    fn heard(line: &str) -> Parts {
        said(Role::Client, line).unwrap().unwrap()
    }

    #[test]
    fn flags_make_the_parts_of_a_url() {
        let parts =
            heard("--password a%b --tunnel-addr ::1 --tunnel-port 443 --target-addr h --target-port 80 --tls 1");
        assert_eq!(parts.key.as_ref().map(Secret::as_bytes), Some(&b"a%b"[..]));
        assert_eq!((parts.tunnel.as_str(), parts.path.as_str()), ("[::1]:443", "h:80"));
        assert_eq!(parts.given, [("tls".to_string(), "1".to_string())]);
        assert_eq!(heard("--tunnel-addr [::1] --tunnel-port 1").tunnel, "[::1]:1");
        assert_eq!(heard("--tunnel-port=1 --target-port=2").path, ":2");
        assert_eq!(heard("--tunnel-port 1 --targets a:1,b:2").path, "a:1,b:2");
    }

    #[test]
    fn a_value_may_follow_an_equals_sign_and_then_begin_with_hyphens() {
        let parts = heard("--tunnel-port=1 --password=--x=y --crt=/a=b");
        assert_eq!(parts.key.as_ref().map(Secret::as_bytes), Some(&b"--x=y"[..]));
        assert_eq!(parts.given[0].1, "/a=b");
    }

    #[test]
    fn unknown_flags_missing_values_and_stray_words_are_told() {
        let fault = |line| said(Role::Client, line).err().unwrap().to_string();
        assert_eq!(fault("--nope 1"), "unknown flag --nope: \"nodepass help\" lists all");
        assert_eq!(fault("--tunel-port 1"), "unknown flag --tunel-port: did you mean --tunnel-port?");
        assert_eq!(fault("--tsl 1"), "unknown flag --tsl: did you mean --tls?");
        assert!(fault("--tunnel-port").starts_with("--tunnel-port has no value"));
        assert_eq!(fault("--tunnel-port x"), "bad --tunnel-port \"x\": expected a port from 1 to 65535");
        let target = "bad --target-port \"http\": expected a port from 1 to 65535";
        assert_eq!(fault("--tunnel-port 1 --target-port http"), target);
        assert!(fault("--tunnel-port 1 --target-addr h").starts_with("--target-port is missing"));
        assert!(fault("--password --tls 1").starts_with("--password has no value"));
        assert_eq!(fault("host:1"), "bad argument \"host:1\": expected --flag value");
        assert_eq!(fault("-t 1"), "bad argument \"-t\": expected --flag value");
        assert!(fault("").starts_with("--tunnel-port is missing"));
        assert!(fault("--tunnel-port 1 --targets a:1 --target-port 2").starts_with("--targets replaces"));
    }

    #[test]
    fn flags_of_another_role_and_repeated_ones_are_warnings() {
        let parts = heard("--tunnel-port 1 --prefix /x --tunnel-port 2");
        assert_eq!((parts.tunnel.as_str(), parts.path.as_str()), (":2", ""));
        assert_eq!(parts.warnings[0], "--prefix does not apply to a client: ignored");
        assert_eq!(parts.warnings[1], "--tunnel-port is given more than once: the last one counts");
        let master = said(Role::Master, "--tunnel-port 1 --prefix /x --targets a:1").unwrap().unwrap();
        assert_eq!((master.path.as_str(), master.warnings.len()), ("/x", 1));
    }

    #[test]
    fn help_may_be_asked_anywhere() {
        assert!(said(Role::Server, "--tls 9 --help").unwrap().is_none());
        assert!(said(Role::Server, "-h").unwrap().is_none());
    }

    #[test]
    fn no_flag_has_the_name_of_a_parameter() {
        assert!(FLAGS.iter().all(|flag| PARAMETERS.iter().all(|row| row.name != flag.name)));
    }
}
