//! The URL of an instance by its parts: made of them, changed in some of them, taken apart into them. The parts have the names that the
//! original's tools give them.

use super::instance::{escaped, kind, written, Fault, IN_USER};
use super::url::{parts, pieces, Pieces};
use super::value::percent_decoded;

/// Parts of a URL that are to be others. What is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    role: Option<String>,
    password: Option<String>,
    tunnel_address: Option<String>,
    tunnel_port: Option<String>,
    target_address: Option<String>,
    target_port: Option<String>,
    targets: Option<String>,
    parameters: Vec<(String, String)>,
}

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlParts {
    /// `server` or `client`.
    pub role: &'static str,
    /// The key, if there is one.
    pub password: Option<String>,
    /// Without brackets; empty for all interfaces.
    pub tunnel_address: String,
    /// Digits.
    pub tunnel_port: String,
    /// The targets as they are written, separated by commas.
    pub targets: String,
    /// The one target's host and port, where it is one.
    pub target: Option<(String, String)>,
    /// Names and values.
    pub parameters: Vec<(String, String)>,
}

impl Changes {
    /// Names a part, or else a parameter, and its value. An empty one takes a password or a parameter out, and changes nothing else.
    pub fn set(&mut self, name: &str, value: String) {
        let part = match name {
            "role" => &mut self.role,
            "tunnel_address" => &mut self.tunnel_address,
            "tunnel_port" => &mut self.tunnel_port,
            "target_address" => &mut self.target_address,
            "target_port" => &mut self.target_port,
            "targets" => &mut self.targets,
            "password" => return self.password = Some(value),
            _ => return self.set_parameter(name, value),
        };
        *part = Some(value).filter(|value| !value.is_empty());
    }

    /// Names a parameter, whatever parts there are of that name, and its value.
    pub fn set_parameter(&mut self, name: &str, value: String) {
        self.parameters.push((name.to_owned(), value));
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Whether there is enough of it for a URL.
    pub fn is_whole(&self) -> bool {
        self.role.is_some() && self.tunnel_port.is_some()
    }

    /// The changed URL; of an empty one a new one is made.
    ///
    /// # Errors
    ///
    /// The URL or a part of it is none.
    pub fn applied(&self, url: &str) -> Result<String, Fault> {
        let old = pieces(url);
        let mut given = match url.is_empty() {
            true => Vec::new(),
            false => parts(url).map_err(|error| Fault::new(error.to_string()))?.given,
        };
        let user = match &self.password {
            Some(password) => Some(escaped(password.as_bytes(), IN_USER)),
            None => old.user.map(str::to_owned),
        };
        let (tunnel, path) = (self.tunnel(old.tunnel), self.path(old.path)?);
        let scheme = self.role.as_deref().unwrap_or(old.scheme);
        let new = Pieces { scheme, user: user.as_deref(), tunnel: &tunnel, path: &path, query: "", fragment: "" };
        for (name, value) in &self.parameters {
            given.retain(|(other, _)| other != name);
            if !value.is_empty() {
                given.push((name.clone(), value.clone()));
            }
        }
        let kind = kind(&format!("{scheme}://"), &new)?;
        Ok(written(kind, &new, &given))
    }

    fn tunnel(&self, old: &str) -> String {
        let (host, port) = host_and_port(old);
        let host = self.tunnel_address.as_deref().unwrap_or(host);
        joined(host, self.tunnel_port.as_deref().unwrap_or(port))
    }

    fn path(&self, old: &str) -> Result<String, Fault> {
        match (&self.targets, &self.target_address, &self.target_port) {
            (Some(targets), _, _) => Ok(targets.clone()),
            (None, None, None) => Ok(old.to_owned()),
            (None, ..) if old.contains(',') => {
                Err(Fault::new("There are several targets: expected targets, which names all of them"))
            }
            (None, address, port) => {
                let (old_host, old_port) = host_and_port(old);
                Ok(joined(address.as_deref().unwrap_or(old_host), port.as_deref().unwrap_or(old_port)))
            }
        }
    }
}

/// Takes a URL apart.
///
/// # Errors
///
/// It is not the URL of an instance.
pub fn url_parts(url: &str) -> Result<UrlParts, Fault> {
    let pieces = pieces(url);
    let role = kind(url, &pieces)?.name();
    let parameters = parts(url).map_err(|error| Fault::new(error.to_string()))?.given;
    let plain = |text: &str| String::from_utf8_lossy(&percent_decoded(text, false).unwrap_or_default()).into_owned();
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (host, port) = host_and_port(pieces.tunnel);
    let targets = plain(pieces.path);
    let target = (!targets.contains(',') && !targets.is_empty()).then(|| host_and_port(&targets));
    let target = target.map(|(host, port)| (bare(host), port.to_owned()));
    let password = pieces.user.filter(|user| !user.is_empty()).map(plain);
    Ok(UrlParts {
        role,
        password,
        tunnel_address: bare(host),
        tunnel_port: port.to_owned(),
        targets,
        target,
        parameters,
    })
}

/// The port is what follows the last colon outside brackets.
fn host_and_port(text: &str) -> (&str, &str) {
    text.rsplit_once(':').filter(|(_, port)| !port.contains(']')).unwrap_or((text, ""))
}

/// An IPv6 address may come without its brackets.
fn joined(host: &str, port: &str) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(named: &[(&str, &str)]) -> Changes {
        let mut changes = Changes::default();
        named.iter().for_each(|(name, value)| changes.set(name, (*value).to_owned()));
        changes
    }

    fn applied(named: &[(&str, &str)], url: &str) -> String {
        changes(named).applied(url).unwrap_or_else(|fault| panic!("{named:?} {url}: {fault}"))
    }

    #[test]
    fn a_url_is_made_of_its_parts() {
        let role = [("role", "server"), ("tunnel_port", "10101"), ("target_port", "8080")];
        assert!(changes(&role).is_whole() && !changes(&role[..1]).is_whole());
        assert_eq!(applied(&role, ""), "server://:10101/:8080");
        let more = [("tunnel_address", "::1"), ("target_address", "10.0.0.2"), ("password", "a:b/c"), ("max", "8")];
        let all: Vec<_> = role.iter().chain(&more).copied().collect();
        assert_eq!(applied(&all, ""), "server://a%3Ab%2Fc@[::1]:10101/10.0.0.2:8080?max=8");
        let many: Vec<_> = role.iter().copied().chain([("targets", "a:1,b:2")]).collect();
        assert_eq!(applied(&many, ""), "server://:10101/a:1,b:2");
    }

    #[test]
    fn only_what_is_named_changes() {
        let url = "client://k@h:1/t:2?log=info&min=8&zone=x";
        assert_eq!(applied(&[], url), url);
        for (named, new) in [
            (("tunnel_port", "9"), "client://k@h:9/t:2?log=info&min=8&zone=x"),
            (("target_address", "::1"), "client://k@h:1/[::1]:2?log=info&min=8&zone=x"),
            (("role", "server"), "server://k@h:1/t:2?log=info&min=8&zone=x"),
            (("password", ""), "client://h:1/t:2?log=info&min=8&zone=x"),
            (("min", ""), "client://k@h:1/t:2?log=info&zone=x"),
            (("min", "9"), "client://k@h:1/t:2?log=info&min=9&zone=x"),
            (("a b", "c&d"), "client://k@h:1/t:2?a+b=c%26d&log=info&min=8&zone=x"),
        ] {
            assert_eq!(applied(&[named], url), new);
        }
        assert!(changes(&[("role", ""), ("tunnel_port", "")]).is_empty() && !changes(&[("min", "")]).is_empty());
        let several = changes(&[("target_port", "3")]).applied("client://h:1/a:1,b:2").unwrap_err();
        assert!(several.to_string().contains("targets"), "{several}");
        assert_eq!(changes(&[("role", "master")]).applied(url).unwrap_err().text, "Invalid URL scheme");
    }

    #[test]
    fn a_url_is_taken_apart() {
        let parts = url_parts("server://a%3Ab@[::1]:1/[::2]:3?dns=5m0s&log=info").unwrap();
        assert_eq!((parts.role, parts.password.as_deref()), ("server", Some("a:b")));
        assert_eq!((parts.tunnel_address.as_str(), parts.tunnel_port.as_str()), ("::1", "1"));
        assert_eq!(parts.target, Some(("::2".into(), "3".into())));
        assert_eq!(parts.parameters[0], ("dns".to_owned(), "5m0s".to_owned()));
        let many = url_parts("client://:1/a:1,b:2").unwrap();
        assert_eq!((many.password, many.target, many.targets.as_str()), (None, None, "a:1,b:2"));
        assert!(url_parts("0123456789abcdef").is_err());
    }
}
