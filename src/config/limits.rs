//! The environment: one table of variables, from which come the defaults, the readers, the help text and the documentation.

use std::path::PathBuf;
use std::time::Duration;

use super::bad;
use super::suggest::nearest;
use super::value::{count, duration_words, period, period_or_zero, put, switch};
use crate::error::Error;
use crate::log::{printable, Format};

/// Sizes, times and places that are set by environment variables, since they concern the machine rather than one tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `NP_SEMAPHORE_LIMIT`: signals waiting in a queue.
    pub semaphore: usize,
    /// `NP_TCP_DATA_BUF_SIZE`: bytes per relay buffer where data is copied.
    pub tcp_buffer: usize,
    /// `NP_UDP_DATA_BUF_SIZE`: bytes of the largest datagram carried.
    pub udp_buffer: usize,
    /// `NP_HANDSHAKE_TIMEOUT`: the handshake, and the wait for the first pool connection.
    pub handshake: Duration,
    /// `NP_TCP_DIAL_TIMEOUT`: dialling a TCP target or the tunnel.
    pub tcp_dial: Duration,
    /// `NP_UDP_DIAL_TIMEOUT`: setting up a UDP target.
    pub udp_dial: Duration,
    /// `NP_TCP_KEEPALIVE`: after how long a silent connection is asked whether its other side lives; 0 leaves it to the system.
    pub keepalive: Duration,
    /// `NP_UDP_READ_TIMEOUT`: a UDP session idle for this long is closed.
    pub udp_read: Duration,
    /// `NP_POOL_GET_TIMEOUT`: how long a user waits for a pool connection.
    pub pool_get: Duration,
    /// `NP_MIN_POOL_INTERVAL`: the shortest pause between refills of the pool.
    pub min_pool_interval: Duration,
    /// `NP_MAX_POOL_INTERVAL`: the longest pause; never below the shortest.
    pub max_pool_interval: Duration,
    /// `NP_REPORT_INTERVAL`: the period of pings, keep-alives and health checks.
    pub report: Duration,
    /// `NP_FALLBACK_INTERVAL`: with `lbs=2`, how often the primary target is tried again.
    pub fallback: Duration,
    /// `NP_QUIC_RETRY_INTERVAL`: how often a client tries QUIC again while its pool comes over TCP.
    pub quic_retry: Duration,
    /// `NP_SERVICE_COOLDOWN`: the pause before a failed service starts again.
    pub cooldown: Duration,
    /// `NP_SHUTDOWN_TIMEOUT`: the longest graceful stop; zero stops at once.
    pub shutdown: Duration,
    /// `NP_RELOAD_INTERVAL`: how often certificate files are looked at.
    pub reload: Duration,
    /// `NP_WORKERS`: threads that move bytes, 1 to 64; `None` is one per processor core.
    pub workers: Option<usize>,
    /// `NP_STATE_DIR`: the folder where the master keeps its instances; `None` is `gob` beside the executable.
    pub state: Option<PathBuf>,
    /// `NP_BAN_FAILURES`: so many failures of a source within a minute ban it; 0 bans none.
    pub ban_failures: usize,
    /// `NP_BAN_TIME`: how long a source is banned; 0 bans none.
    pub ban_time: Duration,
    /// `NP_LOG_FORMAT`: what a log line looks like.
    pub log_format: Format,
    /// `NP_CHECK_POINT`: whether check points are logged.
    pub check_point: bool,
    /// `NP_SHOW_KEY`: whether the master logs its whole API key at every start.
    pub show_key: bool,
}

impl Default for Limits {
    /// What the table says.
    fn default() -> Limits {
        let zero = Duration::ZERO;
        let mut limits = Limits {
            semaphore: 0,
            tcp_buffer: 0,
            udp_buffer: 0,
            handshake: zero,
            tcp_dial: zero,
            udp_dial: zero,
            keepalive: zero,
            udp_read: zero,
            pool_get: zero,
            min_pool_interval: zero,
            max_pool_interval: zero,
            report: zero,
            fallback: zero,
            quic_retry: zero,
            cooldown: zero,
            shutdown: zero,
            reload: zero,
            workers: None,
            state: None,
            ban_failures: 0,
            ban_time: zero,
            log_format: Format::Text,
            check_point: false,
            show_key: false,
        };
        for variable in &VARIABLES {
            let set = variable.default.map(|value| (variable.set)(&mut limits, value));
            debug_assert_ne!(set, Some(None), "the default of {} is not acceptable", variable.name);
        }
        limits
    }
}

impl Limits {
    /// The limits that the environment asks for; an empty value is none.
    pub(super) fn from_env(env: &dyn Fn(&str) -> Option<String>, warnings: &mut Vec<String>) -> Result<Limits, Error> {
        let mut limits = Limits::default();
        for variable in &VARIABLES {
            let Some(value) = env(variable.name).filter(|value| !value.is_empty()) else { continue };
            (variable.set)(&mut limits, &value).ok_or_else(|| bad(variable.name, &value, variable.values))?;
        }
        if limits.max_pool_interval < limits.min_pool_interval {
            let least = duration_words(limits.min_pool_interval);
            warnings.push(format!("NP_MAX_POOL_INTERVAL is below NP_MIN_POOL_INTERVAL: raised to {least}"));
            limits.max_pool_interval = limits.min_pool_interval;
        }
        Ok(limits)
    }
}

/// Warnings about variables that are named almost as one of these.
pub fn mistyped_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = || VARIABLES.iter().map(|variable| variable.name).chain(OTHERS.iter().map(|other| other.0));
    let near = |name: String| nearest(&name, known()).map(|meant| (name.clone(), meant));
    let ours = names.filter(|name| name.starts_with(PREFIX) && known().all(|known| known != name));
    ours.filter_map(near)
        .map(|(name, meant)| format!("unknown variable {}: did you mean {meant}?", printable(&name)))
        .collect()
}

/// Whether the value of a variable is or may hold a secret: all but those of the table and where certificates are.
pub fn is_secret_variable(name: &str) -> bool {
    !VARIABLES.iter().map(|variable| variable.name).chain(OPEN).any(|known| known == name)
}

/// An environment variable.
pub(super) struct Variable {
    /// As in the environment.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// In the words of the environment.
    pub default: Option<&'static str>,
    /// What is accepted, in words that follow "expected".
    pub values: &'static str,
    /// Reads a value; `None` if it is not acceptable.
    set: fn(&mut Limits, &str) -> Option<()>,
}

/// Every variable, in the order of the documentation.
pub(super) const VARIABLES: [Variable; 24] = [
    Variable {
        name: "NP_SEMAPHORE_LIMIT",
        meaning: "most signals waiting in a queue",
        default: Some("65536"),
        values: "a number from 1 to 1048576",
        set: |limits, value| put(&mut limits.semaphore, count(value, 1..=1 << 20)),
    },
    Variable {
        name: "NP_TCP_DATA_BUF_SIZE",
        meaning: "bytes per relay buffer where data is copied",
        default: Some("16384"),
        values: "a number from 1024 to 1048576",
        set: |limits, value| put(&mut limits.tcp_buffer, count(value, 1 << 10..=1 << 20)),
    },
    Variable {
        name: "NP_UDP_DATA_BUF_SIZE",
        meaning: "bytes of the largest datagram; larger ones are dropped and counted, never cut",
        default: Some("65535"),
        values: "a number from 512 to 65535",
        set: |limits, value| put(&mut limits.udp_buffer, count(value, 512..=65535)),
    },
    Variable {
        name: "NP_HANDSHAKE_TIMEOUT",
        meaning: "the handshake, and the wait for the first pool connection",
        default: Some("5s"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.handshake, period(value)),
    },
    Variable {
        name: "NP_TCP_DIAL_TIMEOUT",
        meaning: "dialling a TCP target or the tunnel",
        default: Some("5s"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.tcp_dial, period(value)),
    },
    Variable {
        name: "NP_TCP_KEEPALIVE",
        meaning: "silence after which a TCP connection is asked whether it lives; without an answer it ends after as long again; 0 leaves it to the system",
        default: Some("30s"),
        values: "a duration from 1ms to 8760h, or 0",
        set: |limits, value| put(&mut limits.keepalive, period_or_zero(value)),
    },
    Variable {
        name: "NP_UDP_DIAL_TIMEOUT",
        meaning: "setting up a UDP target",
        default: Some("5s"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.udp_dial, period(value)),
    },
    Variable {
        name: "NP_UDP_READ_TIMEOUT",
        meaning: "a UDP session idle for this long is closed",
        default: Some("30s"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.udp_read, period(value)),
    },
    Variable {
        name: "NP_POOL_GET_TIMEOUT",
        meaning: "a user waits this long for a pool connection, then is closed",
        default: Some("5s"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.pool_get, period(value)),
    },
    Variable {
        name: "NP_MIN_POOL_INTERVAL",
        meaning: "shortest pause between refills of the pool",
        default: Some("100ms"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.min_pool_interval, period(value)),
    },
    Variable {
        name: "NP_MAX_POOL_INTERVAL",
        meaning: "longest pause between refills; raised to the shortest if it is below",
        default: Some("1s"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.max_pool_interval, period(value)),
    },
    Variable {
        name: "NP_REPORT_INTERVAL",
        meaning: "period of pings, keep-alives and health checks",
        default: Some("5s"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.report, period(value)),
    },
    Variable {
        name: "NP_FALLBACK_INTERVAL",
        meaning: "with lbs=2, how often the primary target is tried again",
        default: Some("5m"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.fallback, period(value)),
    },
    Variable {
        name: "NP_QUIC_RETRY_INTERVAL",
        meaning: "with type=1, how often QUIC is tried again while UDP is blocked and the pool comes over TCP",
        default: Some("1m"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.quic_retry, period(value)),
    },
    Variable {
        name: "NP_SERVICE_COOLDOWN",
        meaning: "pause before a failed service starts again",
        default: Some("3s"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.cooldown, period(value)),
    },
    Variable {
        name: "NP_SHUTDOWN_TIMEOUT",
        meaning: "longest graceful stop; 0 stops at once",
        default: Some("5s"),
        values: "a duration from 1ms to 8760h, or 0",
        set: |limits, value| put(&mut limits.shutdown, period_or_zero(value)),
    },
    Variable {
        name: "NP_RELOAD_INTERVAL",
        meaning: "how often certificate files are looked at",
        default: Some("1h"),
        values: PERIOD,
        set: |limits, value| put(&mut limits.reload, period(value)),
    },
    Variable {
        name: "NP_WORKERS",
        meaning: "threads that move bytes; without it one per processor core",
        default: None,
        values: "a number from 1 to 64",
        set: |limits, value| put(&mut limits.workers, count(value, 1..=64).map(Some)),
    },
    Variable {
        name: "NP_STATE_DIR",
        meaning: "folder where the master keeps its instances; without it gob beside the executable",
        default: None,
        values: "a path",
        set: |limits, value| put(&mut limits.state, Some(Some(PathBuf::from(value)))),
    },
    Variable {
        name: "NP_BAN_FAILURES",
        meaning: "so many wrong keys of one source within a minute ban it; 0 bans none",
        default: Some("10"),
        values: "a number from 0 to 1000000",
        set: |limits, value| put(&mut limits.ban_failures, count(value, 0..=1_000_000)),
    },
    Variable {
        name: "NP_BAN_TIME",
        meaning: "how long a source is banned; 0 bans none",
        default: Some("10m"),
        values: "a duration from 1ms to 8760h, or 0",
        set: |limits, value| put(&mut limits.ban_time, period_or_zero(value)),
    },
    Variable {
        name: "NP_LOG_FORMAT",
        meaning: "what a log line is: text for people, json for programs, one object a line, syslog for the system's log, which has the time and gets the level",
        default: Some("text"),
        values: "text, json or syslog",
        set: |limits, value| put(&mut limits.log_format, Format::from_name(value)),
    },
    Variable {
        name: "NP_CHECK_POINT",
        meaning: "1 logs the figures of an instance every report interval, 0 does not",
        default: Some("1"),
        values: "0 or 1",
        set: |limits, value| put(&mut limits.check_point, switch(value)),
    },
    Variable {
        name: "NP_SHOW_KEY",
        meaning: "1 logs the master's whole API key at every start, 0 only when it is made",
        default: Some("0"),
        values: "0 or 1",
        set: |limits, value| put(&mut limits.show_key, switch(value)),
    },
];

/// The variables that are no limits, and their meanings.
pub(super) const OTHERS: [(&str, &str); 6] = [
    ("NP_URL", "the URL, where there is no argument"),
    ("NP_API_KEY", "the key of the master that check and status ask"),
    ("HTTPS_PROXY", "a client calls its server through this HTTP proxy: http://user:password@host:port"),
    ("NO_PROXY", "servers that are called without it: names, addresses and networks, separated by commas"),
    ("SSL_CERT_FILE", "a PEM file of root certificates instead of the system's, for tls=2 and at port 443"),
    ("SSL_CERT_DIR", "a folder of them"),
];

/// Variables of others that hold no secret.
const OPEN: [&str; 4] = ["NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// How the names of our variables begin.
const PREFIX: &str = "NP_";

const PERIOD: &str = "a duration from 1ms to 8760h";

#[cfg(test)]
mod tests {
    use super::*;

    fn try_from(pairs: &[(&str, &str)]) -> Result<(Limits, Vec<String>), Error> {
        let mut warnings = Vec::new();
        let env = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_string());
        Limits::from_env(&env, &mut warnings).map(|limits| (limits, warnings))
    }

    fn from(pairs: &[(&str, &str)]) -> (Limits, Vec<String>) {
        try_from(pairs).unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let limits = Limits::default();
        assert_eq!((limits.semaphore, limits.tcp_buffer, limits.udp_buffer), (65536, 16384, 65535));
        let secs = Duration::from_secs;
        assert_eq!((limits.handshake, limits.tcp_dial, limits.udp_dial), (secs(5), secs(5), secs(5)));
        assert_eq!((limits.udp_read, limits.pool_get, limits.report), (secs(30), secs(5), secs(5)));
        assert_eq!((limits.min_pool_interval, limits.max_pool_interval), (Duration::from_millis(100), secs(1)));
        assert_eq!((limits.fallback, limits.quic_retry, limits.cooldown), (secs(300), secs(60), secs(3)));
        assert_eq!((limits.shutdown, limits.reload, limits.workers), (secs(5), secs(3600), None));
        assert_eq!((limits.log_format, limits.check_point, limits.show_key), (Format::Text, true, false));
        assert_eq!(from(&[]), (limits, vec![]));
    }

    #[test]
    fn every_default_is_acceptable_and_every_variable_sets_a_field_of_its_own() {
        let mut seen = vec![Limits::default()];
        for variable in &VARIABLES {
            let acceptable = |value| (variable.set)(&mut Limits::default(), value).is_some();
            assert!(variable.default.is_none_or(acceptable), "{}", variable.name);
            // One of these is not the default.
            for value in ["7777", "777ms", "7", "1", "0", "json"] {
                let Ok((limits, _)) = try_from(&[(variable.name, value)]) else { continue };
                if limits != Limits::default() {
                    assert!(!seen.contains(&limits), "{} sets another's field", variable.name);
                    seen.push(limits);
                    break;
                }
            }
        }
        assert_eq!(seen.len(), VARIABLES.len() + 1);
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_the_variable_and_what_is_accepted() {
        for variable in &VARIABLES {
            for bad in ["x", "-1", "-5s", "5", "0ms", "1e3", "99999999999999999999", "99999999999h"] {
                let fine = (variable.set)(&mut Limits::default(), bad).is_some();
                match try_from(&[(variable.name, bad)]) {
                    Ok(_) => assert!(fine, "{} {bad}", variable.name),
                    Err(error) => assert!(!fine && error.to_string().contains(variable.name), "{error}"),
                }
            }
        }
        let error = try_from(&[("NP_REPORT_INTERVAL", "5\n")]).unwrap_err();
        let told = "bad NP_REPORT_INTERVAL \"5\\x0a\": expected a duration from 1ms to 8760h";
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn a_variable_that_is_almost_one_of_ours_is_told_and_others_are_not() {
        let names = ["NP_WORKER", "NP_REPROT_INTERVAL", "NP_WORKERS", "NP_URL", "NP_SOMETHING", "PATH", "WORKERS"];
        let told = mistyped_variables(names.into_iter().map(String::from));
        let expected = [
            "unknown variable NP_WORKER: did you mean NP_WORKERS?",
            "unknown variable NP_REPROT_INTERVAL: did you mean NP_REPORT_INTERVAL?",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn zero_is_refused_where_it_makes_no_sense() {
        for variable in &VARIABLES {
            let sensible = ["NP_SHUTDOWN_TIMEOUT", "NP_TCP_KEEPALIVE", "NP_STATE_DIR", "NP_CHECK_POINT", "NP_SHOW_KEY"]
                .contains(&variable.name);
            match try_from(&[(variable.name, "0")]) {
                Ok((limits, _)) => assert_eq!(limits.shutdown.is_zero(), variable.name == "NP_SHUTDOWN_TIMEOUT"),
                Err(error) => assert!(!sensible, "{error}"),
            }
        }
    }

    #[test]
    fn an_empty_variable_is_no_variable() {
        assert_eq!(from(&[("NP_WORKERS", ""), ("NP_REPORT_INTERVAL", "")]), (Limits::default(), vec![]));
    }

    #[test]
    fn the_edges_of_sizes_are_accepted_and_what_is_beyond_is_not() {
        for (name, good, bad) in [
            ("NP_TCP_DATA_BUF_SIZE", ["1024", "1048576"], ["1023", "1048577"]),
            ("NP_UDP_DATA_BUF_SIZE", ["512", "65535"], ["511", "65536"]),
            ("NP_WORKERS", ["1", "64"], ["0", "65"]),
            ("NP_SEMAPHORE_LIMIT", ["1", "1048576"], ["0", "1048577"]),
        ] {
            assert!(good.iter().all(|value| try_from(&[(name, value)]).is_ok()), "{name}");
            assert!(bad.iter().all(|value| try_from(&[(name, value)]).is_err()), "{name}");
        }
    }

    #[test]
    fn the_longest_pause_between_refills_is_never_below_the_shortest() {
        let (limits, warnings) = from(&[("NP_MIN_POOL_INTERVAL", "2s")]);
        assert_eq!(limits.max_pool_interval, Duration::from_secs(2));
        assert_eq!(warnings, ["NP_MAX_POOL_INTERVAL is below NP_MIN_POOL_INTERVAL: raised to 2s"]);
    }
}
