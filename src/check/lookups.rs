//! Names: each is looked up once, and how long that took is told.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use super::finding::Finding;
use super::words::*;
use crate::config::{Config, Endpoint, Host};
use crate::error::Error;
use crate::net::resolve::{look_up, on_link};
use crate::run::dns;

/// A name and what the system's resolver says of it, or the servers that are to be asked.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The name.
    pub name: String,
    /// How long it took.
    pub time: Duration,
    /// Its addresses.
    pub found: Result<Vec<IpAddr>, Error>,
}

/// The names that an instance looks up itself. A server behind a proxy is looked up there.
pub fn names(config: &Config) -> Vec<String> {
    let proxy = config.https_proxy.as_ref().map(|(at, _)| at);
    let tunnel = proxy.unwrap_or(&config.tunnel);
    let mut names: Vec<String> = Vec::new();
    for at in [tunnel].into_iter().chain(&config.targets) {
        match &at.host {
            Host::Name(name) if !names.contains(name) => names.push(name.clone()),
            _ => {}
        }
    }
    names
}

/// Looks names up, side by side, at these servers or as the system does.
pub fn look(names: Vec<String>, servers: &[Endpoint]) -> Vec<Lookup> {
    let one = |name: String, servers: &[Endpoint]| {
        let begin = Instant::now();
        let found = match servers.is_empty() {
            true => look_up(&name),
            false => dns::look_up(servers, &name).map(|found| found.addresses),
        };
        Lookup { name, time: begin.elapsed(), found }
    };
    let asked = names.into_iter().map(|name| (name, servers.to_vec()));
    let threads: Vec<_> = asked.map(|(name, servers)| thread::spawn(move || one(name, &servers))).collect();
    threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
}

/// What the answers come to.
pub fn judge(lookups: &[Lookup]) -> Vec<Finding> {
    let one = |lookup: &Lookup| match &lookup.found {
        Ok(ips) => {
            let case = if lookup.time > SLOW { &NAME_SLOW } else { &NAME_FINE };
            let ips = ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
            Finding::new(case, &lookup.name).with(ips).with(lookup.time.as_millis())
        }
        Err(error) => Finding::new(&NAME_FAILED, &lookup.name).with(error.cause()),
    };
    lookups.iter().map(one).collect()
}

/// The addresses of an endpoint, by what was looked up; this machine where there is no host.
pub fn addresses(at: &Endpoint, lookups: &[Lookup]) -> Vec<SocketAddr> {
    let ips = match &at.host {
        Host::Any => vec![IpAddr::from([127, 0, 0, 1])],
        Host::Ip(ip) => vec![*ip],
        Host::Zoned(ip, zone) => return on_link(*ip, zone, at.port).into_iter().collect(),
        Host::Name(name) => {
            let found = lookups.iter().find(|lookup| lookup.name == *name);
            found.and_then(|lookup| lookup.found.clone().ok()).unwrap_or_default()
        }
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, at.port)).collect()
}

/// Answers take longer than this only where a resolver does not answer.
const SLOW: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{codes, parsed};

    #[test]
    fn each_name_is_looked_up_once_and_none_behind_a_proxy() {
        let (mut config, _) = parsed("client://s.example:1/a.example:2,a.example:3,127.0.0.1:4");
        assert_eq!(names(&config), ["s.example", "a.example"]);
        let (proxied, _) = parsed("client://127.0.0.1:1/a.example:2");
        config.https_proxy = None;
        assert_eq!(names(&proxied), ["a.example"]);
    }

    #[test]
    fn answers_are_fine_slow_or_none() {
        let lookup = |millis, found| Lookup { name: "n".into(), time: Duration::from_millis(millis), found };
        let ips = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let none = Err(Error::name("n", "no such host"));
        let found = judge(&[lookup(1, Ok(ips.clone())), lookup(2001, Ok(ips)), lookup(1, none)]);
        assert_eq!(codes(&found), ["name-fine", "name-slow", "name-failed"]);
        assert_eq!(found[0].values, ["127.0.0.1, ::1", "1"]);
    }

    #[test]
    fn a_name_of_this_machine_is_found() {
        let found = look(vec!["localhost".into(), "no.such.name.invalid".into()], &[]);
        assert_eq!(codes(&judge(&found))[1], "name-failed");
        assert!(found[0].found.is_ok());
    }
}
