//! One instance as it is kept and shown. The order and the names of the fields are what dashboards and scripts read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{self, Asked, Config, Role};

/// An instance, or with the id [`KEY_ID`] the master itself: `url` is its API key, `config` its id, `alias` its alias.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 8 hex digits.
    pub id: String,
    /// The user's name for it.
    pub alias: String,
    /// What it is; empty for the master itself.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// How it is; empty for the master itself.
    pub status: Status,
    /// What was asked, and what the master adds.
    pub url: String,
    /// The same with every parameter that applies.
    pub config: String,
    /// Whether it starts with the master.
    pub restart: bool,
    /// What dashboards keep here.
    pub meta: Meta,
    /// What its last check point said.
    #[serde(flatten)]
    pub figures: Figures,
    /// Why it is otherwise on the disk, where it is: only in answers of the API.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub unsaved: Option<String>,
    /// What its process passes over of its URL, a line each: found anew whenever the URL is read, and not kept.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Record {
    /// It is to run with what was asked.
    pub fn ask(&mut self, Asked { kind, url, config, passed_over }: Asked) {
        self.kind = if kind == Role::Server { Kind::Server } else { Kind::Client };
        (self.url, self.config, self.warnings) = (url, config, passed_over);
    }

    /// One that comes from a file, perhaps of an older original: what that lacks is found out.
    pub fn complete(&mut self, master: &Config) {
        if let Ok(asked) = config::instance(&self.url, master) {
            self.warnings = asked.passed_over;
            if self.config.is_empty() {
                self.config = asked.config;
            }
        }
    }
}

/// What an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The master's own record.
    #[default]
    #[serde(rename = "")]
    Master,
    /// A tunnel's server.
    Server,
    /// A tunnel's client.
    Client,
}

/// How an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The master's own record has none.
    #[default]
    #[serde(rename = "")]
    None,
    /// Its process runs and is well.
    Running,
    /// It has no process and wants none.
    Stopped,
    /// Its process failed, or says nothing any more.
    Error,
}

/// What dashboards keep with an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The other end, as a dashboard knows it.
    pub peer: Peer,
    /// Free words.
    pub tags: BTreeMap<String, String>,
}

/// The other end of an instance, as a dashboard knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Its service id.
    pub sid: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its alias.
    pub alias: String,
}

/// The figures of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// The run mode in force.
    pub mode: i32,
    /// The round trip to the peer, ms.
    pub ping: i32,
    /// Idle pool connections.
    pub pool: i32,
    /// Live TCP connections.
    pub tcps: i32,
    /// Live UDP sessions.
    pub udps: i32,
    /// Bytes over TCP received from users or targets, over all its processes since the last reset.
    pub tcprx: u64,
    /// The same, sent.
    pub tcptx: u64,
    /// Over UDP, received.
    pub udprx: u64,
    /// Over UDP, sent.
    pub udptx: u64,
    /// What earlier processes of it had counted: `shown = base + said by the child - reset`.
    #[serde(skip)]
    pub base: [u64; 4],
    /// What its present process had counted at the last reset.
    #[serde(skip)]
    pub reset: [u64; 4],
}

/// The id of the master's own record.
pub const KEY_ID: &str = "********";
