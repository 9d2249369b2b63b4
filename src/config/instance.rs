//! The URL of an instance as a user sends it to the master, made whole: what the child gets, and what dashboards show.
//!
//! ```text
//!  asked   client://k@h:1/t:2?mode=2
//!  url     client://k@h:1/t:2?log=info&mode=2                      + what the master adds
//!  config  client://k@h:1/t:2?block=0&dial=auto&dns=5m0s&...       + every parameter at its default
//! ```
//!
//! Both are written as the original writes them, since scripts compare them: names in order, values as a form encodes
//! them, the rest as it came.

use std::fmt;

use super::address::{Endpoint, Host};
use super::table::PARAMETERS;
use super::url::{parts, pieces, Pieces};
use super::value::percent_decoded;
use super::{Config, Parsed, Reading, Role, Tls};

/// An instance that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Server or client.
    pub kind: Role,
    /// What the child gets: what was asked, and what the master adds. The key is in it.
    pub url: String,
    /// The same with every parameter that applies. The key is in it.
    pub config: String,
    /// What of it is [passed over](Reading::Managed), and which names may be mistyped, a line each.
    pub passed_over: Vec<String>,
}

/// Why a URL is of no use to a master: one line for the user, without the key. HTTP calls it 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub text: String,
}

/// Makes an instance of the URL that a user sends to this master.
///
/// Added where it is missing: the master's `log`, if it was given one; to a server its `tls`, unless that is 0, and with `tls=2` its `crt` and
/// `key`. Unknown parameters are kept.
///
/// # Errors
///
/// `Invalid URL format`, `Invalid URL scheme`, or what a child would say of that URL.
pub fn instance(text: &str, master: &Config) -> Result<Asked, Fault> {
    let pieces = pieces(text);
    let kind = kind(text, &pieces)?;
    let mut given = parts(text).map_err(|error| Fault::new(error.to_string()))?.given;
    add_masters(&mut given, kind, master);
    let url = written(kind, &pieces, &given);
    let run = parts(&url).and_then(|parts| parts.resolve(&|_| None, Reading::Managed));
    let Parsed { passed_over, .. } = run.map_err(|error| Fault::new(error.to_string()))?;
    add_defaults(&mut given, kind, pieces.tunnel);
    Ok(Asked { kind, url, config: written(kind, &pieces, &given), passed_over })
}

impl Fault {
    pub(super) fn new(text: impl Into<String>) -> Fault {
        Fault { text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

/// The role, of a text that is a URL at all.
pub(super) fn kind(text: &str, pieces: &Pieces) -> Result<Role, Fault> {
    let name = pieces.scheme;
    let scheme = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && name.starts_with(|first: char| first.is_ascii_alphabetic());
    let decodes = |piece: &str| percent_decoded(piece, false).is_ok();
    let authority = pieces.user.is_none_or(decodes) && decodes(pieces.tunnel) && decodes(pieces.path);
    if !text.contains("://") || !scheme || !authority || text.contains(|c: char| c.is_ascii_control()) {
        return Err(Fault::new("Invalid URL format"));
    }
    match Role::from_name(&name.to_ascii_lowercase()) {
        Some(role @ (Role::Server | Role::Client)) => Ok(role),
        Some(Role::Master) | None => Err(Fault::new("Invalid URL scheme")),
    }
}

/// Parameters, decoded.
type Given = Vec<(String, String)>;

/// Sets a parameter that was not given, or given without a value.
fn fill(given: &mut Given, name: &str, value: &str) {
    if value_of(given, name).is_none() {
        given.retain(|(other, _)| other != name);
        given.push((name.into(), value.into()));
    }
}

/// The value that counts, if there is one.
fn value_of<'a>(given: &'a Given, name: &str) -> Option<&'a str> {
    given.iter().rev().find(|(other, value)| other == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

fn add_masters(given: &mut Given, kind: Role, master: &Config) {
    if master.log_given {
        fill(given, "log", master.log.name());
    }
    if kind != Role::Server {
        return;
    }
    if master.tls != Tls::Off {
        fill(given, "tls", &master.tls.code().to_string());
    }
    if let (Tls::Files { crt, key }, Some("2")) = (&master.tls, value_of(given, "tls")) {
        fill(given, "crt", &crt.display().to_string());
        fill(given, "key", &key.display().to_string());
    }
}

/// What the original shows: everything with a default, but `tls` only if it was given.
fn add_defaults(given: &mut Given, kind: Role, tunnel: &str) {
    if kind == Role::Client {
        let name = match Endpoint::parse(tunnel) {
            Ok(Endpoint { host: Host::Name(name), .. }) => name,
            _ => NO_NAME.into(),
        };
        fill(given, "sni", &name);
    }
    if value_of(given, "quic") == Some("1") {
        fill(given, "type", "1");
    }
    for row in PARAMETERS.iter().filter(|row| row.roles.contains(&kind) && !UNSHOWN.contains(&row.name)) {
        let spelled = GO.iter().find(|(name, _)| *name == row.name).map(|(_, value)| *value);
        if let Some(value) = spelled.or(row.default) {
            fill(given, row.name, value);
        }
    }
}

/// A URL of these pieces and parameters, as Go's `url.URL` writes it.
pub(super) fn written(kind: Role, pieces: &Pieces, given: &Given) -> String {
    let mut url = format!("{kind}://");
    if let Some(user) = pieces.user.filter(|user| !user.is_empty()) {
        let words = user.splitn(2, ':').map(|word| escaped(&decoded(word), IN_USER));
        url.push_str(&words.collect::<Vec<_>>().join(":"));
        url.push('@');
    }
    url.push_str(pieces.tunnel);
    url.push('/');
    // A path that can stand as it is does so, whatever it escapes.
    let stands = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%[]".contains(&byte);
    match pieces.path.bytes().all(stands) {
        true => url.push_str(pieces.path),
        false => url.push_str(&escaped(&decoded(pieces.path), IN_PATH)),
    }
    let mut sorted: Vec<_> = given.iter().collect();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    let form = |text: &str| escaped(text.as_bytes(), b" ").replace(' ', "+");
    let pairs: Vec<_> = sorted.iter().map(|(name, value)| format!("{}={}", form(name), form(value))).collect();
    match pairs.is_empty() {
        true => url,
        false => format!("{url}?{}", pairs.join("&")),
    }
}

/// The bytes of a piece whose escapes are known to be right.
fn decoded(piece: &str) -> Vec<u8> {
    percent_decoded(piece, false).unwrap_or_default()
}

/// Bytes as text in which letters, digits, `-._~` and those in `kept` stay as they are.
pub(super) fn escaped(bytes: &[u8], kept: &[u8]) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte);
    let one = |&byte: &u8| if stays(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    bytes.iter().map(one).collect()
}

/// What Go leaves as it is in a user name.
pub(super) const IN_USER: &[u8] = b"$&+,;=";

/// What Go leaves as it is in a path.
const IN_PATH: &[u8] = b"$&+,/:;=@";

/// The original's word for no TLS server name.
const NO_NAME: &str = "none";

/// Parameters with defaults that the original does not show.
const UNSHOWN: [&str; 7] = ["log", "tls", "auth", "wire", "clients", "perip", "bind"];

/// Defaults as Go spells them.
const GO: [(&str, &str); 2] = [("dns", "5m0s"), ("read", "0s")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse, Command};

    fn config(url: &str) -> Config {
        match parse(&[url.into()], &|_| None).unwrap_or_else(|error| panic!("{url}: {error}")).command {
            Command::Run(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn with(master: &str, text: &str) -> Asked {
        instance(text, &config(master)).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    fn asked(text: &str) -> Asked {
        with("master://127.0.0.1:9090?log=info", text)
    }

    fn fault(text: &str) -> String {
        instance(text, &config("master://:9090")).expect_err(text).text
    }

    /// Asked, `url` and `config` as an original master answered them, one of 2.0 with `lbs`.
    const RECORDED: [[&str; 3]; 7] = [
        [
            "server://127.0.0.1:10501/127.0.0.1:8095?mode=1&tls=0",
            "server://127.0.0.1:10501/127.0.0.1:8095?log=info&mode=1&tls=0",
            "server://127.0.0.1:10501/127.0.0.1:8095?block=0&dial=auto&dns=5m0s&lbs=0&log=info&max=1024&mode=1&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&tls=0&type=0",
        ],
        [
            "client://127.0.0.1:10501/127.0.0.1:9000?mode=2",
            "client://127.0.0.1:10501/127.0.0.1:9000?log=info&mode=2",
            "client://127.0.0.1:10501/127.0.0.1:9000?block=0&dial=auto&dns=5m0s&lbs=0&log=info&min=64&mode=2&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&sni=none",
        ],
        [
            "server://127.0.0.1:9090/127.0.0.1:8096",
            "server://127.0.0.1:9090/127.0.0.1:8096?log=info",
            "server://127.0.0.1:9090/127.0.0.1:8096?block=0&dial=auto&dns=5m0s&lbs=0&log=info&max=1024&mode=0&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&type=0",
        ],
        [
            "client://127.0.0.1:10501/127.0.0.1:9000?mode=2&min=8",
            "client://127.0.0.1:10501/127.0.0.1:9000?log=info&min=8&mode=2",
            "client://127.0.0.1:10501/127.0.0.1:9000?block=0&dial=auto&dns=5m0s&lbs=0&log=info&min=8&mode=2&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&sni=none",
        ],
        [
            "client://127.0.0.1:10510/127.0.0.1:9000?mode=1",
            "client://127.0.0.1:10510/127.0.0.1:9000?log=info&mode=1",
            "client://127.0.0.1:10510/127.0.0.1:9000?block=0&dial=auto&dns=5m0s&lbs=0&log=info&min=64&mode=1&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&sni=none",
        ],
        [
            "server://secret@127.0.0.1:19101/127.0.0.1:19080?mode=1&tls=0",
            "server://secret@127.0.0.1:19101/127.0.0.1:19080?log=info&mode=1&tls=0",
            "server://secret@127.0.0.1:19101/127.0.0.1:19080?block=0&dial=auto&dns=5m0s&lbs=0&log=info&max=1024&mode=1&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&tls=0&type=0",
        ],
        [
            "client://secret@127.0.0.1:19101/127.0.0.1:19000?mode=2&min=4",
            "client://secret@127.0.0.1:19101/127.0.0.1:19000?log=info&min=4&mode=2",
            "client://secret@127.0.0.1:19101/127.0.0.1:19000?block=0&dial=auto&dns=5m0s&lbs=0&log=info&min=4&mode=2&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&sni=none",
        ],
    ];

    #[test]
    fn what_is_made_of_a_url_is_what_the_original_makes_of_it() {
        for [text, url, config] in RECORDED {
            let asked = asked(text);
            assert_eq!((asked.url.as_str(), asked.config.as_str()), (url, config));
            assert_eq!(asked.kind.name(), &text[..6]);
            // Made whole once, it stays as it is.
            assert_eq!(self::asked(url), asked);
        }
    }

    #[test]
    fn the_whole_url_means_the_same_as_the_one_asked_for() {
        for [text, ..] in RECORDED {
            let asked = asked(text);
            let (mut given, mut whole) = (config(&asked.url), config(&asked.config));
            (given.sni, whole.sni) = (None, None);
            assert_eq!(given, whole, "{text}");
        }
    }

    #[test]
    fn a_server_gets_the_masters_tls_and_a_client_does_not() {
        let plain = "server://h:1/t:2";
        assert_eq!(with("master://:9?tls=1&log=warn", plain).url, "server://h:1/t:2?log=warn&tls=1");
        assert_eq!(with("master://:9?tls=1&log=info", "server://h:1/t:2?tls=0").url, "server://h:1/t:2?log=info&tls=0");
        assert_eq!(with("master://:9?tls=1", "client://h:1/t:2").url, "client://h:1/t:2");
        let files = "master://:9?tls=2&crt=/etc/a b.pem&key=k.pem&log=info";
        let own = "crt=%2Fetc%2Fa+b.pem&key=k.pem&log=info&tls=2";
        assert_eq!(with(files, plain).url, format!("{plain}?{own}"));
        assert_eq!(with(files, &format!("{plain}?tls=2")).url, format!("{plain}?{own}"));
        assert_eq!(with(files, &format!("{plain}?tls=1")).url, format!("{plain}?log=info&tls=1"));
        let mixed = "crt=x.pem&key=k.pem&log=info&tls=2";
        assert_eq!(with(files, &format!("{plain}?tls=2&crt=x.pem")).url, format!("{plain}?{mixed}"));
    }

    #[test]
    fn an_empty_value_is_none_and_of_several_the_last_one_counts() {
        assert_eq!(asked("client://h:1/t:2?log=&min=&min").url, "client://h:1/t:2?log=info&min=&min=");
        assert!(asked("client://h:1/t:2?log=&min=").config.contains("&log=info&min=64&"));
        let twice = asked("client://h:1/t:2?min=7&log=debug&min=9&log=");
        assert_eq!(twice.url, "client://h:1/t:2?log=debug&log=&min=7&min=9");
    }

    #[test]
    fn unknown_parameters_are_kept_and_values_are_written_as_a_form_writes_them() {
        let asked = asked("server://h:1/t:2?zone=a%20b%2Fc&Flag&%C3%A4=~.-_*&tls=1");
        assert_eq!(asked.url, "server://h:1/t:2?Flag=&log=info&tls=1&zone=a+b%2Fc&%C3%A4=~.-_%2A");
        assert!(asked.config.contains("&zone=a+b%2Fc&") && asked.config.contains("?Flag=&block=0&"));
    }

    #[test]
    fn the_key_is_kept_and_only_escaped_where_it_must_be() {
        for (user, written) in [
            ("k%40y", "k%40y"),
            ("%61b", "ab"),
            ("a:b", "a:b"),
            ("a!$&+,;=", "a%21$&+,;="),
            ("%ff%00", "%FF%00"),
            ("ä", "%C3%A4"),
        ] {
            let asked = asked(&format!("client://{user}@h:1/t:2"));
            assert_eq!(asked.url, format!("client://{written}@h:1/t:2?log=info"));
        }
        assert_eq!(asked("client://@h:1/t:2").url, "client://h:1/t:2?log=info");
    }

    #[test]
    fn addresses_and_targets_stay_as_they_were_written() {
        for at in ["[::1]:1/[::2]:2,a.b:3", ":1/T:2", "H.example:1/t:2,,u:3", "h:1/t%3A2"] {
            assert_eq!(asked(&format!("client://{at}")).url, format!("client://{at}?log=info"));
        }
        assert_eq!(asked("CLIENT://h:1/a:1, b:2#x").url, "client://h:1/a:1,%20b:2?log=info");
    }

    #[test]
    fn a_client_shows_the_name_it_asks_for() {
        assert!(asked("client://h.example:1/t:2").config.ends_with("&sni=h.example"));
        assert!(asked("client://h.example:1/t:2?sni=x.y").config.ends_with("&sni=x.y"));
        assert!(asked("client://[::1]:1/t:2").config.ends_with("&sni=none"));
    }

    #[test]
    fn the_older_spelling_of_quic_shows_in_the_type() {
        assert!(asked("server://h:1/t:2?quic=1").config.ends_with("&type=1"));
        assert!(asked("server://h:1/t:2?quic=1&type=0").config.ends_with("&type=0"));
    }

    #[test]
    fn what_is_no_url_has_no_format() {
        for text in ["", "x", "server", "server:h:1", "://x", "server://%zz", "1a://x", "sérver://x", "a b://x"] {
            assert_eq!(fault(text), "Invalid URL format", "{text:?}");
        }
        for text in ["server://h%2/t:1", "server://h:1/%g0", "server://%zz@h:1/t:1", "server://h:1/t:2\n"] {
            assert_eq!(fault(text), "Invalid URL format", "{text:?}");
        }
    }

    #[test]
    fn only_servers_and_clients_can_be_instances() {
        for text in ["http://127.0.0.1:1/127.0.0.1:2", "master://127.0.0.1:1", "ftp://a/b", "servers://h:1/t:2"] {
            assert_eq!(fault(text), "Invalid URL scheme", "{text}");
        }
    }

    #[test]
    fn a_value_that_an_original_cannot_read_is_passed_over_and_kept_in_the_url() {
        for (given, default) in [
            ("dns=dns.google", "with 5m"),
            ("read=30", "with 0"),
            ("min=0", "with 64"),
            ("rate=abc", "with 0"),
            ("log=fatal", "with info"),
            ("slot=-1", "with 65536"),
            ("sni=a%2Fb", "without it"),
        ] {
            let url = format!("client://h:1/t:2?{given}");
            let asked = asked(&url);
            let [line] = &asked.passed_over[..] else { panic!("{given}: {:?}", asked.passed_over) };
            let (name, _) = given.split_once('=').unwrap();
            assert!(line.starts_with(&format!("bad parameter {name} ")) && line.contains(default), "{line}");
            assert!(asked.url.contains(given) && asked.config.contains(given), "{asked:?}");
        }
        assert!(asked("client://h:1/t:2?min=8&zone=x").passed_over.is_empty());
        assert_eq!(asked("server://h:1/t:2?tsl=1").passed_over, ["unknown parameter tsl: ignored; did you mean tls?"]);
    }

    #[test]
    fn what_could_not_run_is_refused_with_the_part_at_fault() {
        for (text, part) in [
            ("client://127.0.0.1:10502", "no target"),
            ("server://h:1/", "no target"),
            ("server://h/t:1", "bad tunnel address"),
            ("server://h:1/t", "bad target address"),
            ("server://h:1/t:2?clients=-1", "bad parameter clients"),
            ("server://h:1/t:2?allow=nobody", "bad parameter allow"),
            ("server://h:1/t:2?tls=2", "tls=2 needs"),
            ("server://h:1/t:2?log=%zz", "bad parameter log"),
            ("server://:1/127.0.0.1:1", "is a loop"),
        ] {
            let told = fault(text);
            assert!(told.contains(part) && told.lines().count() == 1, "{text}: {told}");
        }
        assert!(!fault("server://secret@h:1/").contains("secret"));
    }
}
