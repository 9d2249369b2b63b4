//! An instance as a whole: what is looked at, in which order, and what that comes to.

use super::finding::Finding;
use super::{certificates, lookups, machine, ports, server, setup, targets};
use crate::config::{mistyped_variables, parse_as, Command, Config, Reading};
use crate::error::Error;

/// An instance's words and what they mean.
pub struct Instance {
    /// As it is started with.
    words: Vec<String>,
    /// What they say.
    pub config: Config,
    /// What was remarked while they were read.
    remarks: Vec<String>,
}

impl Instance {
    /// Reads words as the instance does. The error is a finding: they cannot be used.
    pub fn read(words: &[String], notes: Vec<String>, reading: Reading) -> Result<Instance, Finding> {
        let parsed = parse_as(words, &|name| std::env::var(name).ok(), reading);
        let parsed = parsed.map_err(|error| setup::unusable(&error.error))?;
        match parsed.command {
            Command::Run(config) => {
                let remarks = notes.into_iter().chain(parsed.warnings).collect();
                Ok(Instance { words: words.to_vec(), config: *config, remarks })
            }
            _ => Err(setup::unusable(&Error::input("no instance", "a URL, as in server://host:port/target:port"))),
        }
    }

    /// Everything that can be found out about it from here.
    pub fn look(&self) -> Vec<Finding> {
        let mistyped = mistyped_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
        let mut found = self.look_apart(&mistyped);
        found.extend(machine::judge(&machine::look(), &self.config));
        found
    }

    /// The same without what is said of this machine and its environment, for one of several.
    pub fn look_beside_others(&self) -> Vec<Finding> {
        self.look_apart(&[])
    }

    fn look_apart(&self, mistyped: &[String]) -> Vec<Finding> {
        let config = &self.config;
        let mut found = setup::judge(config, &self.remarks, mistyped);
        let lookups = lookups::look(lookups::names(config), &config.dns.servers);
        found.extend(lookups::judge(&lookups));
        // A name that has no address has been told.
        let ports = ports::look(config).unwrap_or_default();
        let around = ports::Surroundings::of(&self.words);
        found.extend(ports::judge(&ports, &around));
        if ports::is_calling(config, &ports, &around) {
            // From where nothing can be called no server is asked.
            match server::look_at_bind(config) {
                Some(fault) => found.push(fault),
                None => found.extend(server::judge(config, &server::look(config, &lookups))),
            }
        }
        found.extend(targets::judge(&targets::look(config, &ports::dialled(config, &ports), &lookups)));
        if let Some(files) = certificates::look(&config.tls) {
            found.extend(certificates::judge(&files, certificates::now()));
        }
        found
    }

    /// What must not be shown of it: its key, as it is and as it is written, and a proxy's password.
    pub fn secrets(&self) -> Vec<String> {
        let written = self.words.iter().filter_map(|word| word.split_once("://")?.1.rsplit_once('@'));
        let proxies = ["HTTPS_PROXY", "https_proxy"].into_iter().filter_map(|name| std::env::var(name).ok());
        let proxies = proxies.filter_map(|url| Some(url.split_once("://")?.1.rsplit_once('@')?.0.to_owned()));
        let passwords = proxies.flat_map(|user| [user.split_once(':').map(|pair| pair.1.to_owned()), Some(user)]);
        let key = self.config.key_given.then(|| String::from_utf8_lossy(self.config.key.as_bytes()).into_owned());
        written.map(|(key, _)| key.to_owned()).chain(key).chain(passwords.flatten()).collect()
    }

    /// What its words alone say, for an instance of another machine.
    pub fn look_at_words(&self) -> Vec<Finding> {
        setup::judge(&self.config, &self.remarks, &[])
    }
}
