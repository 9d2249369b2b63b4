//! What the user wrote, in parts, and how it becomes a configuration: the same from a URL and from flags.

use super::originals::is_originals;
use super::secret::default_key;
use super::suggest::did_you_mean;
use super::table::{culprit, Draft, PARAMETERS};
use super::{bad, Command, Config, Endpoint, Limits, Mode, Parsed, Reading, Role, Secret, Tls, Transport};
use crate::error::Error;
use crate::log::printable;
use crate::logic::auth::AuthMode;
use crate::logic::dialect::Wire;
use crate::logic::proxy::Proxy;
use crate::logic::target::MAX_TARGETS;

/// What the user wrote, before any of it is understood; the same from a URL and from flags.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) role: Role,
    /// Never empty.
    pub(super) key: Option<Secret>,
    pub(super) tunnel: String,
    /// Targets, or the master's prefix; without the slash that a URL has before it.
    pub(super) path: String,
    /// Parameters in their order, decoded.
    pub(super) given: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

impl Parts {
    /// Understands the parts, and checks what only makes sense together.
    pub(super) fn resolve(self, env: &dyn Fn(&str) -> Option<String>, reading: Reading) -> Result<Parsed, Error> {
        let Parts { role, key, tunnel, path, given, mut warnings } = self;
        let mut draft = Draft::new(role);
        draft.config.tunnel = Endpoint::parse(&tunnel).map_err(|expected| bad(role.address(), &tunnel, expected))?;
        match role {
            Role::Master => draft.config.prefix = prefix(&path)?,
            Role::Server | Role::Client => draft.config.targets = targets(&path)?,
        }
        draft.adopt_key(key, &mut warnings);
        let passed_over = draft.adopt(given, reading, &mut warnings)?;
        draft.config.limits = Limits::from_env(env, &mut warnings)?;
        if role == Role::Client {
            draft.config.https_proxy = https_proxy(&draft.config.tunnel, env)?;
        }
        let config = Box::new(draft.finished(&mut warnings)?);
        Ok(Parsed { command: Command::Run(config), warnings, passed_over })
    }
}

/// The proxy on the way to this server, if the environment names one.
fn https_proxy(server: &Endpoint, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<(Endpoint, Proxy)>, Error> {
    let server_host = server.host.without_zone().to_string();
    let Some(proxy) = Proxy::from_env(env, &server_host, server.port)? else { return Ok(None) };
    let at = proxy.to_string();
    let endpoint = Endpoint::parse(&at).map_err(|expected| bad("HTTPS_PROXY", &at, expected))?;
    Ok(Some((endpoint, proxy)))
}

impl Draft {
    fn adopt_key(&mut self, key: Option<Secret>, warnings: &mut Vec<String>) {
        let config = &mut self.config;
        config.key_given = key.is_some();
        config.key = key.unwrap_or_else(|| default_key(config.tunnel.port));
        if config.role == Role::Master && config.key_given {
            warnings.push("a key does not apply to a master: ignored".into());
        }
    }

    /// Sets the parameters that were given. An empty value is none. Gives what was passed over.
    fn adopt(
        &mut self,
        given: Vec<(String, String)>,
        reading: Reading,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<String>, Error> {
        let role = self.config.role;
        let mut passed_over = Vec::new();
        let mut values: [Option<String>; PARAMETERS.len()] = Default::default();
        for (name, value) in given {
            match PARAMETERS.iter().position(|row| row.name == name) {
                None => {
                    let (line, is_near) = unknown_parameter(&name);
                    passed_over.extend(is_near.then(|| line.clone()));
                    warnings.push(line);
                }
                Some(_) if value.is_empty() => {}
                Some(at) if !PARAMETERS[at].roles.contains(&role) => {
                    warnings.push(format!("parameter {name} does not apply to a {role}: ignored"));
                }
                Some(at) => {
                    if values[at].replace(value).is_some() {
                        warnings.push(format!("parameter {name} is given more than once: the last one counts"));
                    }
                }
            }
        }
        for (row, value) in PARAMETERS.iter().zip(&values) {
            let Some(value) = value else { continue };
            self.config.log_given |= row.name == "log" && role == Role::Master;
            if self.set(row, value, reading).is_some() {
                continue;
            }
            let expected = culprit(row, role, value).unwrap_or_else(|| row.values.to_owned());
            let error = bad(&format!("parameter {}", row.name), value, &expected);
            match reading {
                Reading::Managed if is_originals(row.name) => {
                    let instead = row.default.map_or("without it".into(), |default| format!("with {default}"));
                    let line = format!("{error}; this instance runs {instead}, as an original would");
                    warnings.push(line.clone());
                    passed_over.push(line);
                }
                Reading::Managed | Reading::Strict => return Err(error),
            }
        }
        Ok(passed_over)
    }

    /// Puts together what belongs together.
    fn finished(self, warnings: &mut Vec<String>) -> Result<Config, Error> {
        let Draft { mut config, tls, crt, key } = self;
        if config.auth == AuthMode::Required && config.wire != Wire::Auto {
            let expected = "wire=auto with auth=2, which takes the authenticated handshake only";
            return Err(bad("parameter wire", config.wire.name(), expected));
        }
        config.tls = match (tls, crt, key) {
            (2, Some(crt), Some(key)) => Tls::Files { crt, key },
            (2, None, Some(_)) => return Err(Error::input(NEEDS_FILES, "the parameter crt")),
            (2, Some(_), None) => return Err(Error::input(NEEDS_FILES, "the parameter key")),
            // Without files a tunnel is what this client must find.
            (2, None, None) if config.role == Role::Client && config.mode != Mode::One => Tls::Verified,
            (2, None, None) => return Err(needs_files()),
            (code, crt, key) => {
                if crt.is_some() || key.is_some() {
                    warnings.push("parameters crt and key are used with tls=2 only: ignored".into());
                }
                if code == 1 {
                    Tls::SelfSigned
                } else {
                    Tls::Off
                }
            }
        };
        if config.transport != Transport::Tcp && config.tls == Tls::Off {
            (config.tls, config.raised) = (Tls::SelfSigned, true);
            let (code, name) = (config.transport.code(), config.transport.name());
            warnings.push(format!("type={code} ({name}) needs TLS: tls is raised from 0 to 1"));
        }
        if !config.tcp && !config.udp {
            warnings.push("notcp=1 and noudp=1 together leave nothing to carry".into());
        }
        match config.looping() {
            Some(at) => {
                let expected = format!("{NO_LOOP}, {}", config.tunnel);
                Err(Error::input(format!("target address \"{at}\" is a loop"), expected))
            }
            None => Ok(config),
        }
    }
}

/// What is said of it, and whether it is near a known one.
fn unknown_parameter(name: &str) -> (String, bool) {
    let meant = did_you_mean(name, PARAMETERS.iter().map(|row| row.name));
    let ignored = format!("unknown parameter {}: ignored", printable(name));
    match meant.is_empty() {
        true => (ignored, false),
        false => (format!("{ignored}; {meant}"), true),
    }
}

/// `tls=2` of a side that shows a certificate, without one.
pub fn needs_files() -> Error {
    Error::input(NEEDS_FILES, "the parameters crt and key")
}

/// The targets, separated by commas; spaces around them and empty ones are forgiven.
fn targets(path: &str) -> Result<Vec<Endpoint>, Error> {
    let read = |at: &str| match at.split_once("://") {
        Some((scheme, _)) => Err(bad(
            "target address",
            at,
            &format!("host:port without {}://, which targets do not have", printable(scheme)),
        )),
        None => Endpoint::parse(at).map_err(|expected| bad("target address", at, expected)),
    };
    let targets: Vec<_> =
        path.split(',').map(str::trim).filter(|at| !at.is_empty()).map(read).collect::<Result<_, _>>()?;
    match targets.len() {
        0 => Err(Error::input("no target", "one or more after the tunnel address, as in /host:port")),
        1..=MAX_TARGETS => Ok(targets),
        many => Err(Error::input(format!("{many} targets"), format!("at most {MAX_TARGETS}"))),
    }
}

/// The master's path: `/api` if there is none.
fn prefix(path: &str) -> Result<String, Error> {
    let inner = path.trim_matches('/');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    match inner {
        "" => Ok(PREFIX.into()),
        _ if inner.bytes().all(allowed) => Ok(format!("/{inner}")),
        _ => Err(bad("prefix", path, "a path of letters, digits and - . _ ~ /")),
    }
}

/// What is wrong with `tls=2` without files.
const NEEDS_FILES: &str = "tls=2 needs certificate files";

/// The expectation that a looping target misses.
const NO_LOOP: &str = "another port or machine than the tunnel's own";

/// The master's path when none is given.
const PREFIX: &str = "/api";
