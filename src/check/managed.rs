//! The instances of a master, each by itself and all together: no two can listen at one port.

use super::api::Shown;
use super::finding::{Case, Finding};
use super::holders::{overlap, Protocol};
use super::instance::Instance;
use super::ports::{listening, Use};
use super::words::*;
use crate::config::{Config, Reading};
use crate::run::hub::ingress::listeners::listening_addresses;

/// An instance that a master has, in what the API or its state folder says.
pub struct Managed {
    /// Its name and id.
    pub name: String,
    /// Its words, understood; or why they cannot be.
    pub instance: Result<Instance, Finding>,
}

impl Managed {
    /// By its name, its id and its URL.
    pub fn new(alias: &str, id: &str, url: &str) -> Managed {
        let name = if alias.is_empty() { id.to_owned() } else { format!("{alias} ({id})") };
        Managed { name, instance: Instance::read(&[url.to_owned()], Vec::new(), Reading::Managed) }
    }

    /// What must not be shown of it.
    pub fn secrets(&self) -> Vec<String> {
        self.instance.as_ref().map(Instance::secrets).unwrap_or_default()
    }

    /// What there is to say about it; whether this is its machine decides what can be looked at.
    pub fn look(&self, here: bool) -> Vec<Finding> {
        let found = match &self.instance {
            Err(finding) => vec![finding.clone()],
            Ok(instance) if here => instance.look_beside_others(),
            Ok(instance) => instance.look_at_words(),
        };
        found.into_iter().map(|finding| finding.of(&self.name)).collect()
    }
}

/// What there is to say of the instances of a master that is to be started here, and of the folder where they are.
#[cfg(feature = "master")]
pub fn look_in_folder(config: &Config) -> Vec<Finding> {
    let folder = super::folder::look(config);
    let mut found = super::folder::judge(&folder);
    let records = folder.records.unwrap_or_default();
    let all: Vec<_> = records.iter().map(|one| Managed::new(&one.alias, &one.id, &one.url)).collect();
    found.extend(collisions(Some(config), &all));
    found.extend(all.iter().flat_map(|one| one.look(true)));
    found
}

/// A build without the master.
#[cfg(not(feature = "master"))]
pub fn look_in_folder(config: &Config) -> Vec<Finding> {
    vec![Finding::new(&MASTER_MISSING, format!("master://{}", config.tunnel))]
}

/// What a master says of an instance that has failed.
pub fn failed(shown: &Shown, log: &[String]) -> Option<Finding> {
    let last = log.iter().rev().find_map(|line| line.split_once("ERROR  ").map(|(_, text)| text));
    let case: Option<&'static Case> = (shown.status == "error").then_some(&INSTANCE_BAD);
    case.map(|case| Finding::new(case, format!("{} ({})", shown.name(), shown.id)).with(last.unwrap_or_default()))
}

/// Ports that two of them want; `own` is the master's.
pub fn collisions(own: Option<&Config>, all: &[Managed]) -> Vec<Finding> {
    let mut seen: Vec<(String, std::net::SocketAddr, Protocol)> = Vec::new();
    let mut found = Vec::new();
    let instances =
        all.iter().filter_map(|managed| Some((managed.name.as_str(), &managed.instance.as_ref().ok()?.config)));
    for (name, config) in own.map(|config| ("master", config)).into_iter().chain(instances) {
        for (what, at, protocol) in listening(config) {
            // With mode=0 a port that is taken decides what it is: not a collision.
            if what != Use::Needed {
                continue;
            }
            for address in listening_addresses(&at).unwrap_or_default() {
                let other = seen.iter().find(|(owner, taken, spoken)| {
                    owner != name && *spoken == protocol && overlap(*taken, address.address)
                });
                if let Some((owner, ..)) = other {
                    let port = format!("{} ({})", address.address, protocol.name());
                    found.push(Finding::new(&INSTANCES_COLLIDE, name).with(owner).with(port));
                }
                seen.push((name.to_owned(), address.address, protocol));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{codes, parsed};

    fn managed(id: &str, url: &str) -> Managed {
        Managed::new("", id, url)
    }

    #[test]
    fn instances_that_want_one_port_are_told_once_for_each_pair() {
        let all = [
            managed("a", "server://k@127.0.0.1:1/127.0.0.1:2?mode=1&noudp=1"),
            managed("b", "client://:2/127.0.0.1:9?mode=1&noudp=1"),
            managed("c", "client://127.0.0.1:9090/127.0.0.1:9?mode=1&noudp=1"),
            managed("d", "client://127.0.0.2:1/127.0.0.1:9?mode=1&notcp=1"),
        ];
        let found = collisions(Some(&parsed("master://127.0.0.1:9090").0), &all);
        assert_eq!(codes(&found), ["instances-collide", "instances-collide"]);
        let who = |at: usize| (found[at].subject.as_str(), found[at].values[0].as_str());
        assert_eq!((who(0), who(1)), (("b", "a"), ("c", "master")));
        assert!(collisions(None, &all[2..]).is_empty());
    }

    #[test]
    fn an_instance_that_cannot_be_read_is_told_under_its_name() {
        let found = managed("a", "server://k@127.0.0.1:1/127.0.0.1:2?allow=x").look(false);
        assert_eq!(codes(&found), ["url-unusable"]);
        assert!(found[0].subject.starts_with("a: "));
    }
}
