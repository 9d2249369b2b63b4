//! The whole way from a command line to a configuration, and from the tables to the documentation.

use std::time::Duration;

use super::secret::{default_key, FNV_PRIME, FNV_START};
use super::*;
use crate::logic::target::MAX_TARGETS;

mod pages;
mod random;

fn command(words: &[&str]) -> Result<Parsed, UsageError> {
    let args: Vec<String> = words.iter().map(|word| word.to_string()).collect();
    parse(&args, &|_| None)
}

fn run(words: &[&str]) -> (Config, Vec<String>) {
    let parsed = command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    match parsed.command {
        Command::Run(config) => (*config, parsed.warnings),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The configuration of a URL that must be right in everything.
fn config(url: &str) -> Config {
    let (config, warnings) = run(&[url]);
    assert!(warnings.is_empty(), "{url}: {warnings:?}");
    config
}

fn warnings(url: &str) -> Vec<String> {
    run(&[url]).1
}

fn fault(url: &str) -> String {
    let error = command(&[url]).expect_err(url);
    assert_eq!(error.status, 1, "{url}");
    error.to_string()
}

fn with(query: &str) -> Config {
    config(&format!("server://k@10.0.0.1:1000/10.0.0.2:80?{query}"))
}

#[test]
fn a_bare_server_has_every_default_of_the_specification() {
    let config = with("");
    assert_eq!((config.role, config.log, config.tls.clone()), (Role::Server, Level::Info, Tls::Off));
    assert_eq!(
        (config.dns.to_string(), config.sni.as_deref(), config.balance),
        ("5m".into(), None, Balance::RoundRobin)
    );
    assert_eq!((config.min, config.max, config.mode, config.transport), (64, 1024, Mode::Auto, Transport::Tcp));
    assert_eq!((config.dial, config.read, config.rate, config.slot), (None, None, None, Some(65536)));
    assert_eq!((config.proxy, config.block, config.tcp, config.udp), (false, Blocked::default(), true, true));
    assert_eq!((config.raised, config.limits.clone()), (false, Limits::default()));
    assert_eq!(config.prefix, "");
}

#[test]
fn addresses_targets_and_key_come_from_the_url() {
    let config = config("client://k%21@[2001:db8::1]:443/[::2]:80,b.example:81,:82");
    assert_eq!(config.tunnel.to_string(), "[2001:db8::1]:443");
    let targets: Vec<_> = config.targets.iter().map(|at| at.to_string()).collect();
    assert_eq!(targets, ["[::2]:80", "b.example:81", ":82"]);
    assert_eq!((config.key.as_bytes(), config.key_given), (&b"k!"[..], true));
}

#[test]
fn every_parameter_takes_its_values() {
    assert_eq!(with("log=event").log, Level::Event);
    assert_eq!(with("tls=1").tls, Tls::SelfSigned);
    let files = Tls::Files { crt: "/c d.pem".into(), key: "k.pem".into() };
    assert_eq!(with("tls=2&crt=%2Fc+d.pem&key=k.pem").tls, files);
    assert_eq!(
        (with("dns=0").dns.keep, with("dns=1h30m").dns.keep),
        (Some(Duration::ZERO), Some(Duration::from_secs(5400)))
    );
    assert_eq!((with("lbs=1").balance, with("lbs=2").balance), (Balance::Fastest, Balance::Primary));
    assert_eq!((with("max=1").max, with("max=65535").max), (1, 65535));
    assert_eq!((with("mode=1").mode, with("mode=2").mode), (Mode::One, Mode::Two));
    assert_eq!(with("dial=::1").dial, Some("::1".parse().unwrap()));
    assert_eq!(with("dial=auto").dial, None);
    let client = |words: &str| config(&format!("client://:1/t:2?{words}")).bind;
    assert_eq!(client("bind=[::1]"), Some(LocalEnd::Address("::1".parse().unwrap())));
    assert_eq!(client("bind=eth0.2"), Some(LocalEnd::Device("eth0.2".into())));
    assert_eq!(client("bind=auto"), None);
    assert_eq!((with("read=1.5s").read, with("read=0").read), (Some(Duration::from_millis(1500)), None));
    assert_eq!((with("rate=1").rate, with("rate=1000000").rate), (Some(125_000), Some(125_000_000_000)));
    assert_eq!((with("slot=0").slot, with("slot=7").slot), (None, Some(7)));
    assert!(with("proxy=1").proxy && !with("notcp=1").tcp && !with("noudp=1").udp);
    assert_eq!(with("block=31").block, Blocked { socks: true, http: false, tls: true });
    let client = config("client://h:1/t:2?sni=www.example.com&min=9");
    assert_eq!((client.sni.as_deref(), client.min), (Some("www.example.com"), 9));
}

#[test]
fn a_client_that_does_not_listen_wants_tls_2_without_files_of_its_own() {
    for query in ["tls=2", "tls=2&mode=2"] {
        let client = config(&format!("client://h:1/t:2?{query}"));
        assert_eq!((client.tls.code(), client.tls), (2, Tls::Verified), "{query}");
    }
    assert_eq!(fault("client://h:1/t:2?tls=2&mode=1"), needs_files().to_string());
    assert_eq!(fault("master://h:1?tls=2"), needs_files().to_string());
}

#[test]
fn a_bare_number_is_one_of_seconds_where_originals_of_old_had_it_so() {
    let read = |value: &str| run(&[&format!("client://h:1/t:2?read={value}")]).0.read;
    assert_eq!((read("30"), read("30s"), read("0")), (Some(Duration::from_secs(30)), read("30"), None));
}

#[test]
fn each_bad_value_is_told_with_its_parameter_and_what_is_accepted() {
    let bad = "log=x log=INFO tls=3 tls=-1 tls=01 dns=5 dns=-1s dns=9999999999h lbs=3 max=0 max=65536 max=x mode=3 type=4 quic=2 \
               dial=host dial=1.2.3 read=5d read=1ns read=-5s rate=-1 rate=1.5 rate=1000001 rate=18446744073709551616 slot=-1 \
               slot=1000000001 proxy=yes block=4 block=1,2 notcp=2 noudp=true";
    for pair in bad.split_whitespace() {
        let (name, value) = pair.split_once('=').unwrap();
        let values = PARAMETERS.iter().find(|row| row.name == name).unwrap().values;
        let told = fault(&format!("server://k@h:1/t:2?{pair}"));
        assert_eq!(told, format!("bad parameter {name} \"{value}\": expected {values}"));
    }
    for value in ["a%0d%0aX-Y:1", "a+b", "1.2.3.4", "a/b", "-a"] {
        let told = fault(&format!("client://h:1/t:2?sni={value}"));
        assert!(told.starts_with("bad parameter sni \"") && !told.contains(['\r', '\n']), "{told}");
    }
    assert!(fault("client://h:1/t:2?min=0").starts_with("bad parameter min \"0\": expected a number"));
}

#[test]
fn an_empty_value_is_no_value() {
    let all: String = PARAMETERS.iter().map(|row| format!("{}=&", row.name)).collect();
    assert_eq!(with(&all), with(""));
}

#[test]
fn unknown_foreign_and_repeated_parameters_are_warnings() {
    let told = warnings("server://k@h:1/t:2?colour=red&min=5&sni=x&tls=1&tls=0&%0a=1");
    let expected = [
        "unknown parameter colour: ignored",
        "parameter min does not apply to a server: ignored",
        "parameter sni does not apply to a server: ignored",
        "parameter tls is given more than once: the last one counts",
        "unknown parameter \\x0a: ignored",
    ];
    assert_eq!(told, expected);
    assert_eq!(warnings("server://k@h:1/t:2?tsl=1"), ["unknown parameter tsl: ignored; did you mean tls?"]);
    assert_eq!(run(&["server://k@h:1/t:2?tls=1&tls=0"]).0.tls, Tls::Off);
    assert_eq!(run(&["server://k@h:1/t:2?min=5"]).0.min, 64);
    assert_eq!(warnings("client://h:1/t:2?max=5&type=1&quic=1").len(), 3);
    assert_eq!(warnings("master://h:1?dns=5m&mode=1").len(), 2);
}

#[test]
fn pool_types_other_than_tcp_raise_plain_to_self_signed_and_say_so() {
    for (code, transport) in [(1, Transport::Quic), (2, Transport::WebSocket), (3, Transport::Http2)] {
        let (config, told) = run(&[&format!("server://k@h:1/t:2?type={code}")]);
        assert_eq!((config.transport, config.tls.code(), config.raised), (transport, 1, true));
        assert_eq!((config.transport.code(), told.len()), (code, 1));
        assert!(told[0].contains("tls is raised from 0 to 1"), "{told:?}");
        let asked = with(&format!("type={code}&tls=1"));
        assert_eq!((asked.tls, asked.raised), (Tls::SelfSigned, false));
        assert_eq!(with(&format!("type={code}&tls=2&crt=c&key=k")).tls.code(), 2);
    }
    assert!(!with("type=0").raised);
}

#[test]
fn quic_is_an_older_word_for_type_1_and_type_wins() {
    assert_eq!(with("quic=1&tls=1").transport, Transport::Quic);
    assert_eq!(with("quic=0").transport, Transport::Tcp);
    assert_eq!(with("type=2&quic=1&tls=1").transport, Transport::WebSocket);
    assert_eq!(with("quic=1&type=0").transport, Transport::Tcp);
}

#[test]
fn certificate_files_must_both_be_named() {
    for role in ["server://k@", "client://", "master://"] {
        let told = |query: &str| {
            fault(
                &format!("{role}h:1/t:2?tls=2&mode=1{query}")
                    .replace("/t:2", if role == "master://" { "" } else { "/t:2" }),
            )
        };
        assert_eq!(told(""), "tls=2 needs certificate files: expected the parameters crt and key");
        assert_eq!(told("&crt=c"), "tls=2 needs certificate files: expected the parameter key");
        assert_eq!(told("&key=c"), "tls=2 needs certificate files: expected the parameter crt");
    }
    assert_eq!(warnings("server://k@h:1/t:2?tls=1&crt=c").len(), 1);
    assert!(fault("server://k@h:1/t:2?tls=2&crt=%00&key=k").contains("crt \"\\x00\""));
}

#[test]
fn without_a_key_it_is_made_from_the_port() {
    let server = config("server://h:10101/t:2");
    assert_eq!((server.key.as_bytes(), server.key_given), (&b"e68be2b4"[..], false));
    assert_eq!(config("client://h:80/t:2").key.as_bytes(), b"9201aa55");
    assert!(!run(&["server://@h:1/t:2"]).0.key_given);
}

#[test]
fn the_port_hash_is_fnv_1a() {
    // The published vectors of the hash are for letters; "a" and "foobar" go through the same fold as digits.
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME);
    assert_eq!("a".bytes().fold(FNV_START, mix), 0xe40c_292c);
    assert_eq!("foobar".bytes().fold(FNV_START, mix), 0xbf9c_f968);
    assert_eq!(default_key(1).as_bytes().len(), 8);
}

#[test]
fn a_key_is_never_printed() {
    let config = config("server://topsecret@h:1/t:2?log=debug");
    let shown = format!("{config:?} {} {:?} {}", config.key, config.key, config.effective_url());
    assert!(!shown.contains("topsecret") && shown.contains("..."), "{shown}");
    for url in [
        "server://topsecret@h/t:2",
        "server://topsecret@h:1",
        "server://topsecret@h:1/x",
        "server://topsecret@h:1/t:2?tls=9",
    ] {
        assert!(!fault(url).contains("topsecret"));
    }
}

#[test]
fn a_target_is_required_and_each_is_checked() {
    assert!(fault("server://k@h:1").starts_with("no target"));
    assert!(fault("client://h:1/").starts_with("no target"));
    assert!(fault("client://h:1/,,").starts_with("no target"));
    assert_eq!(fault("client://h:1/a:1,b"), "bad target address \"b\": expected host:port (the port is missing)");
    let told = "bad target address \"http://b:80\": expected host:port without http://, which targets do not have";
    assert_eq!(fault("client://h:1/a:1,http://b:80"), told);
    assert!(fault("client://h:1/a:1,b:0").starts_with("bad target address \"b:0\""));
    assert_eq!(config("client://h:1/a:1,,%20b:2,").targets.len(), 2);
    let many = vec!["a:1"; MAX_TARGETS].join(",");
    assert_eq!(config(&format!("client://h:2/{many}")).targets.len(), MAX_TARGETS);
    assert!(fault(&format!("client://h:2/{many},a:1")).starts_with("65 targets: expected at most"));
}

#[test]
fn the_tunnel_address_needs_a_port_and_a_sound_host() {
    assert_eq!(fault("server://k@h/t:2"), "bad tunnel address \"h\": expected host:port (the port is missing)");
    assert!(fault("server://k@h:0/t:2").contains("a port from 1 to 65535"));
    assert!(fault("server://k@::1:80/t:2").contains("an IPv6 address in brackets"));
    assert!(fault("server://").starts_with("bad tunnel address \"\""));
    assert!(fault("master://").starts_with("bad API address \"\""));
    assert_eq!(config("client://:1/t:2").tunnel.host, Host::Any);
}

#[test]
fn a_target_that_leads_back_to_the_tunnel_is_refused() {
    for url in [
        "server://k@127.0.0.1:8080/localhost:8080",
        "server://k@[::1]:8080/localhost:8080",
        "server://k@localhost:8080/127.0.0.1:8080",
        "server://k@10.0.0.1:8080/10.0.0.1:8080",
        "server://k@:8080/10.0.0.2:8080",
        "server://k@0.0.0.0:8080/name.example:8080",
        "client://[::]:8080/a:1,10.0.0.2:8080",
    ] {
        let told = fault(url);
        assert!(told.contains("expected another port or machine than the tunnel's own"), "{url}: {told}");
    }
    for url in [
        "server://k@10.0.0.1:8080/127.0.0.1:8081",
        "server://k@10.0.0.1:8080/10.0.0.2:8080",
        "server://k@10.0.0.1:8080/127.0.0.1:8080",
        "client://127.0.0.2:8080/127.0.0.1:8080",
        "client://server.example:8080/:8080",
        "client://:8080/10.0.0.2:80",
    ] {
        config(url);
    }
}

#[test]
fn a_tunnel_that_carries_nothing_is_pointed_out() {
    assert_eq!(warnings("server://k@h:1/t:2?notcp=1&noudp=1"), ["notcp=1 and noudp=1 together leave nothing to carry"]);
}

#[test]
fn a_master_has_a_prefix_and_no_targets() {
    for (url, expected) in [
        ("master://:8080", "/api"),
        ("master://:8080/", "/api"),
        ("master://:8080/np/", "/np"),
        ("master://:8080/a/b", "/a/b"),
        ("master://:8080?log=warn", "/api"),
    ] {
        let master = config(url);
        assert_eq!((master.prefix.as_str(), master.targets.len()), (expected, 0), "{url}");
    }
    assert!(fault("master://:8080/a%20b").starts_with("bad prefix \"a b\""));
    assert_eq!(warnings("master://key@:8080"), ["a key does not apply to a master: ignored"]);
}

#[test]
fn flags_and_urls_make_the_same_configuration() {
    let pairs: [(&str, &[&str]); 4] = [
        (
            "server://a%2Fb@:10101/127.0.0.1:8080?tls=1&max=9",
            &[
                "server",
                "--password",
                "a/b",
                "--tunnel-port",
                "10101",
                "--target-addr",
                "127.0.0.1",
                "--target-port",
                "8080",
                "--tls=1",
                "--max",
                "9",
            ],
        ),
        (
            "client://k@[::1]:1/a:1,b:2?log=debug",
            &[
                "client",
                "--password=k",
                "--tunnel-addr",
                "::1",
                "--tunnel-port",
                "1",
                "--targets",
                "a:1,b:2",
                "--log",
                "debug",
            ],
        ),
        ("client://:1/:2?mode=1", &["client", "--tunnel-port", "1", "--target-port", "2", "--mode", "1"]),
        ("master://h:1/np", &["master", "--tunnel-addr", "h", "--tunnel-port", "1", "--prefix", "/np/"]),
    ];
    for (url, flags) in pairs {
        assert_eq!(run(&[url]), run(flags), "{url}");
    }
}

#[test]
fn every_parameter_is_a_flag() {
    for row in &PARAMETERS {
        let (flag, value) =
            (format!("--{}", row.name), row.default.unwrap_or(if row.name == "udpslot" { "4" } else { "1.2.3.4" }));
        for &role in row.roles {
            let parsed = command(&[role.name(), "--tunnel-port", "1", "--target-port", "2", &flag, value]);
            // These take no address alone; it is refused as a value, not as a flag.
            let told = parsed.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(told.is_empty() || matches!(row.name, "sni" | "quic" | "metrics"), "{flag}: {told}");
        }
    }
}

#[test]
fn help_and_version_are_commands_in_every_spelling() {
    for word in ["help", "--help", "-h"] {
        assert_eq!(command(&[word]).map(|parsed| parsed.command), Ok(Command::Help(help::usage())));
    }
    for word in ["version", "--version", "-v", "-V"] {
        assert_eq!(command(&[word]).map(|parsed| parsed.command), Ok(Command::Version));
    }
    let of_server = Ok(Command::Help(help::of_role(Role::Server)));
    assert_eq!(command(&["server", "--help"]).map(|parsed| parsed.command), of_server);
    assert_eq!(command(&["help", "server"]).map(|parsed| parsed.command), of_server);
    let error = command(&["help", "tsl"]).unwrap_err();
    assert_eq!((error.status, error.to_string()), (2, "no help on \"tsl\": did you mean tls?".into()));
}

#[test]
fn statuses_tell_unusable_urls_from_usage_errors() {
    let status = |words: &[&str]| command(words).map_err(|error| error.status).err();
    assert_eq!((status(&[]), status(&[""]), status(&["nonsense"])), (Some(1), Some(1), Some(1)));
    assert_eq!((status(&["http://h:1/t:2"]), status(&["server://h:1/t:2?tls=x"])), (Some(1), Some(1)));
    assert_eq!((status(&["server"]), status(&["server", "--nope", "1"])), (Some(2), Some(2)));
    assert_eq!((status(&["--nope"]), status(&["client://h:1/t:2", "more"])), (Some(2), Some(2)));
    assert_eq!(status(&["server", "--tunnel-port", "1", "--target-port", "2", "--tls", "x"]), Some(2));
}

#[test]
fn a_bad_variable_is_an_error_and_a_good_one_is_used() {
    let with = |workers: &str| {
        let env = |name: &str| match name {
            "NP_REPORT_INTERVAL" => Some("1s".into()),
            "NP_WORKERS" => Some(workers.to_string()),
            _ => None,
        };
        parse(&["client://h:1/t:2".into()], &env)
    };
    let Command::Run(config) = with("3").unwrap().command else { panic!("not a run") };
    assert_eq!((config.limits.report, config.limits.workers), (Duration::from_secs(1), Some(3)));
    let error = with("many").unwrap_err();
    let told = "bad NP_WORKERS \"many\": expected a number from 1 to 64";
    assert_eq!((error.status, error.to_string()), (1, told.into()));
}

#[test]
fn the_effective_url_shows_all_that_applies_and_means_the_same_when_read() {
    let server = config(
        "server://k@:1000/10.0.0.2:80,[::2]:81?type=3&tls=2&crt=/a+b&key=c%26d&rate=8&read=90s&block=31&noudp=1&dns=0\
         &udpslot=9&perip=7&allow=10.1.2.3/8,tunnel:[2001:db8::1]/64&deny=tunnel:192.0.2.1,::1",
    );
    let expected = "server://***@:1000/10.0.0.2:80,[::2]:81?log=info&tls=2&crt=/a%20b&key=c%26d&dns=0&lbs=0&auth=1&wire=auto&max=1024&clients=1&mode=0\
                    &type=3&dial=auto&read=1m30s&rate=8&slot=65536&udpslot=9&perip=7&allow=10.0.0.0/8,tunnel:2001:db8::/64\
                    &deny=::1,tunnel:192.0.2.1&proxy=0&block=13&notcp=0&noudp=1";
    assert_eq!(server.effective_url(), expected);
    let again = config(expected);
    assert_eq!(again, Config { key: again.key.clone(), ..server });
    assert_eq!(config("master://:8080?log=warn").effective_url(), "master://:8080/api?log=warn&tls=0&cors=*");
    let client = config("client://:1/t:2?sni=x.example&min=5&dial=::1&bind=eth1").effective_url();
    assert!(
        client.contains("&sni=x.example&lbs=0&auth=1&wire=auto&min=5&mode=0&dial=::1&bind=eth1&")
            && !client.contains("max="),
        "{client}"
    );
}
