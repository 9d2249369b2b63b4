//! A URL to its parts: `role://[key@]host:port/path?name=value&...`. What the parts mean is not decided here.

use super::address::Endpoint;
use super::parts::Parts;
use super::suggest::did_you_mean;
use super::value::percent_decoded;
use super::{bad, Role, Secret};
use crate::error::Error;
use crate::log::printable;

/// A URL cut at its separators, with nothing decoded.
pub(super) struct Pieces<'a> {
    /// What comes before `://`.
    pub scheme: &'a str,
    /// What comes before an `@`.
    pub user: Option<&'a str>,
    /// Host and port.
    pub tunnel: &'a str,
    /// Without its first slash.
    pub path: &'a str,
    /// What comes after `?`.
    pub query: &'a str,
    /// What comes after `#`.
    pub fragment: &'a str,
}

/// Cuts a URL into pieces, each of which may be empty.
pub(super) fn pieces(url: &str) -> Pieces<'_> {
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, tunnel) = match authority.rsplit_once('@') {
        Some((user, tunnel)) => (Some(user), tunnel),
        None => (None, authority),
    };
    Pieces { scheme, user, tunnel, path, query, fragment }
}

/// Takes a URL apart and decodes what is encoded. The error names the part at fault; it never shows the key.
pub(super) fn parts(url: &str) -> Result<Parts, Error> {
    let Pieces { scheme, user, tunnel, path, query, fragment } = pieces(url);
    let role = Role::from_name(&scheme.to_ascii_lowercase()).ok_or_else(|| unknown_role(scheme))?;
    // An @ that comes late means a key with one of the characters that end the authority.
    let late =
        path.contains('@') || (query.contains('@') || fragment.contains('@')) && Endpoint::parse(tunnel).is_err();
    if user.is_none() && late {
        return Err(Error::input("bad key", "/ ? # in it to be written as %2F %3F %23"));
    }
    let mut warnings = Vec::new();
    if !fragment.is_empty() {
        warnings.push("what follows # in the URL is ignored; a # that is meant is written %23".into());
    }
    let key = user.map(|user| key(user, &mut warnings)).transpose()?.filter(|key| !key.as_bytes().is_empty());
    let path = text("path", path, false)?;
    let given = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Result<_, _>>()?;
    Ok(Parts { role, key, tunnel: tunnel.into(), path, given, warnings })
}

/// The key is the user name: what comes before the first `:`.
fn key(user: &str, warnings: &mut Vec<String>) -> Result<Secret, Error> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    if !password.is_empty() {
        warnings.push("what follows : in the key is ignored; a : that is meant is written %3A".into());
    }
    percent_decoded(name, false).map(Secret::new).map_err(|_| Error::input("bad key", "two hex digits after each %"))
}

/// A parameter: its name and its value, which may be empty.
fn pair(pair: &str) -> Result<(String, String), Error> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let name = text("parameter name", name, true)?;
    let value = text(&format!("parameter {}", printable(&name)), value, true)?;
    Ok((name, value))
}

/// Decodes a part that must be text.
fn text(part: &str, encoded: &str, plus: bool) -> Result<String, Error> {
    let decoded =
        percent_decoded(encoded, plus).map_err(|broken| bad(part, &broken.0, "two hex digits after each %"))?;
    String::from_utf8(decoded).map_err(|_| bad(part, encoded, "UTF-8 text"))
}

fn unknown_role(scheme: &str) -> Error {
    // What follows a role and a colon may be the key.
    if let Some((role, _)) = scheme.split_once(':').and_then(|(word, rest)| Some((Role::from_name(word)?, rest))) {
        return bad("URL", &format!("{role}:..."), &format!("{role}://, as in {role}://key@host:port/target:port"));
    }
    // The role may be missing, and the text begin with the key.
    let shown = if scheme.contains('@') { "..." } else { scheme };
    let error = bad("role", shown, "server, client or master, as in server://host:port/target:port");
    match did_you_mean(&scheme.to_ascii_lowercase(), Role::ALL.map(Role::name)) {
        meant if meant.is_empty() => error,
        meant => error.with_hint(meant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(url: &str) -> Parts {
        parts(url).unwrap()
    }

    fn key(parts: &Parts) -> Option<&[u8]> {
        parts.key.as_ref().map(Secret::as_bytes)
    }

    #[test]
    fn a_url_falls_into_its_parts() {
        let parts = split("Client://k%40y@[::1]:443/a:1,b:2?tls=1&sni=x+y%2Bz&flag");
        assert_eq!((parts.role, key(&parts)), (Role::Client, Some(&b"k@y"[..])));
        assert_eq!((parts.tunnel.as_str(), parts.path.as_str()), ("[::1]:443", "a:1,b:2"));
        let given: Vec<_> = parts.given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(given, [("tls", "1"), ("sni", "x y+z"), ("flag", "")]);
        assert!(parts.warnings.is_empty());
    }

    #[test]
    fn parts_may_be_missing_and_the_query_may_follow_at_once() {
        let parts = split("master://:8080?log=debug&&");
        assert_eq!((key(&parts), parts.tunnel.as_str(), parts.path.as_str()), (None, ":8080", ""));
        assert_eq!(parts.given, [("log".to_string(), "debug".to_string())]);
        assert_eq!(key(&split("server://@h:1")), None);
        assert_eq!(split("server://").tunnel, "");
    }

    #[test]
    fn the_key_is_decoded_bytes_up_to_the_first_colon() {
        assert_eq!(key(&split("server://%ff%00+@h:1")), Some(&b"\xff\0+"[..]));
        assert_eq!(key(&split("server://a%3Ab@h:1")), Some(&b"a:b"[..]));
        let parts = split("server://name:word@h:1");
        assert_eq!(key(&parts), Some(&b"name"[..]));
        assert_eq!(parts.warnings.len(), 1);
        assert!(!parts.warnings[0].contains("word"));
        assert_eq!(key(&split("server://a@b@h:1")), Some(&b"a@b"[..]));
    }

    #[test]
    fn a_key_with_bare_separators_is_told_how_to_be_written_and_not_shown() {
        for url in
            ["server://sec/ret@h:1/t:1", "server://sec?ret@h:1/t:1", "server://sec#ret@h:1/t:1", "client://sec:1/r@h:1"]
        {
            let told = parts(url).unwrap_err().to_string();
            assert!(told.contains("%2F %3F %23") && !told.contains("sec"), "{told}");
        }
        assert!(parts("server://h:1/t:1?crt=/a@b").is_ok());
        assert_eq!(parts("server://%zz@h:1").unwrap_err().to_string(), "bad key: expected two hex digits after each %");
    }

    #[test]
    fn a_fragment_is_ignored_with_a_warning() {
        let parts = split("server://h:1/t:1?tls=1#home");
        assert_eq!((parts.given.len(), parts.warnings.len()), (1, 1));
    }

    #[test]
    fn an_unknown_role_is_told_with_those_that_exist_and_a_key_is_not_shown() {
        let told = parts("srv://h:1/t:1").unwrap_err().to_string();
        assert_eq!(told, "bad role \"srv\": expected server, client or master, as in server://host:port/target:port");
        assert!(!parts("secret@host:1/t:1").unwrap_err().to_string().contains("secret"));
        for url in ["", "://", "http"] {
            assert!(parts(url).unwrap_err().to_string().starts_with("bad role "), "{url}");
        }
        for (url, meant) in [("sever://h:1", "server"), ("CLINET://h:1", "client"), ("mastr", "master")] {
            assert!(parts(url).unwrap_err().to_string().ends_with(&format!(": did you mean {meant}?")), "{url}");
        }
        for url in ["server:/h:1", "server:h:1", "server:secret@h:1/t:1"] {
            let told = parts(url).unwrap_err().to_string();
            assert_eq!(told, "bad URL \"server:...\": expected server://, as in server://key@host:port/target:port");
        }
    }

    #[test]
    fn broken_escapes_are_told_with_their_part() {
        assert_eq!(
            parts("server://h:1/%x1").unwrap_err().to_string(),
            "bad path \"%x1\": expected two hex digits after each %"
        );
        assert_eq!(
            parts("server://h:1/t:1?tls=%").unwrap_err().to_string(),
            "bad parameter tls \"%\": expected two hex digits after each %"
        );
        assert_eq!(
            parts("server://h:1/t:1?crt=%ff").unwrap_err().to_string(),
            "bad parameter crt \"%ff\": expected UTF-8 text"
        );
    }
}
