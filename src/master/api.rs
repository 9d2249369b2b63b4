//! What the API asks of the supervisor and of the machine, whatever way it was asked itself.
//!
//! `routes` answers REST, `mcp` assistants.

mod body;
mod reply;

pub(super) use body::{action_named, meta, Change, New};
pub(super) use reply::{empty, json_bytes, no_page, refused, value, with_header, wrong_method};

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::checks::Checks;
use super::child::Program;
use super::host::Monitor;
use super::openapi;
use super::record::{Record, KEY_ID};
use super::requests::{Answer, Order, Refusal, Request, SupervisorHandle};
use super::semaphore::Semaphore;
use super::state::Saving;
use super::tcping::{tcping, TcpingResult, PLACES};
use crate::config::{self, Config, Tls};
use crate::log as lines;

/// Answers the API's calls by asking the supervisor.
pub struct Api<M> {
    supervisor: SupervisorHandle<M>,
    pub(super) saving: Saving,
    config: Config,
    host: Monitor,
    semaphore: Arc<Semaphore>,
    checks: Checks,
    openapi: Vec<u8>,
}

impl<M: From<Request>> Api<M> {
    /// The API of a master with this configuration, whose supervisor is behind `supervisor`; `saving` tells what is on the disk.
    pub fn new(supervisor: SupervisorHandle<M>, saving: Saving, config: &Config) -> Api<M> {
        let openapi = openapi::document(&config.prefix);
        let (semaphore, checks) = (Semaphore::new(PLACES), Checks::new(Program::own(config.limits.log_format)));
        Api { supervisor, saving, config: config.clone(), host: Monitor::new(), semaphore, checks, openapi }
    }

    /// What `/info` shows.
    pub(super) fn info(&self) -> Result<Info, Refusal> {
        let master = self.one(Order::Get(KEY_ID.into()))?;
        let figures = self.host.figures();
        let (crt, key) = match &self.config.tls {
            Tls::Files { crt, key } => (crt.display().to_string(), key.display().to_string()),
            Tls::Off | Tls::SelfSigned | Tls::Verified => Default::default(),
        };
        Ok(Info {
            alias: master.alias,
            arch: config::arch(),
            cpu: figures.cpu,
            crt,
            diskr: figures.disk.read,
            diskw: figures.disk.written,
            key,
            log: self.log(),
            mem_total: figures.memory.total,
            mem_used: figures.memory.used,
            mid: master.config,
            name: self.config.tunnel.host.to_string(),
            netrx: figures.net.read,
            nettx: figures.net.written,
            noc: figures.cores,
            os: config::os(),
            swap_total: figures.swap.total,
            swap_used: figures.swap.used,
            sysup: figures.system_uptime,
            tls: self.config.tls.code().to_string(),
            unsaved: self.unsaved(),
            uptime: figures.uptime,
            ver: VERSION,
        })
    }

    /// The log level; an original shows none that was not asked for.
    fn log(&self) -> &'static str {
        match lines::level() {
            level if level == self.config.log && !self.config.log_given => "",
            level => level.name(),
        }
    }

    /// Tries a TCP connection.
    pub(super) fn tcping(&self, target: &str) -> TcpingResult {
        tcping(&self.semaphore, target)
    }

    /// What is wrong with an instance, in the language `en` or `zh`.
    pub(super) fn check(&self, id: &str, lang: &str) -> Result<Value, Refusal> {
        match self.one(Order::Get(id.into()))? {
            record if record.id == KEY_ID => Err(forbidden()),
            record => self.checks.check(&record.url, lang),
        }
    }

    /// The description of the API.
    pub(super) fn document(&self) -> &[u8] {
        &self.openapi
    }

    /// The master's configuration.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Every record, the master's own included.
    pub(super) fn list(&self) -> Result<Vec<Record>, Refusal> {
        self.many(Order::List)
    }

    /// Asks for what is answered with one record.
    pub(super) fn one(&self, order: Order) -> Result<Record, Refusal> {
        match self.ask(order)? {
            Answer::One(record) => Ok(self.marked(*record)),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for what is answered with records.
    pub(super) fn many(&self, order: Order) -> Result<Vec<Record>, Refusal> {
        match self.ask(order)? {
            Answer::Many(records) => Ok(records.into_iter().map(|record| self.marked(record)).collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the supervisor. What has changed is on the disk afterwards, or it is known that it is not.
    pub(super) fn ask(&self, order: Order) -> Result<Answer, Refusal> {
        let changes = order.changes();
        let answer = self.supervisor.ask(order)?;
        if changes {
            self.saving.settled(Instant::now());
        }
        Ok(answer)
    }

    /// Why changes are not on the disk, if they are not.
    pub(super) fn unsaved(&self) -> Option<String> {
        self.saving.fault().map(|unsaved| unsaved.why.clone())
    }

    /// The same record, with a word where it is otherwise on the disk.
    fn marked(&self, record: Record) -> Record {
        let fault = self.saving.fault().filter(|unsaved| unsaved.ids.contains(&record.id));
        Record { unsaved: fault.map(|unsaved| unsaved.why.clone()), ..record }
    }
}

/// `/info`: the names in the order of the alphabet, as the original's map writes them.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    alias: String,
    arch: &'static str,
    cpu: i32,
    crt: String,
    diskr: u64,
    diskw: u64,
    key: String,
    log: &'static str,
    mem_total: u64,
    mem_used: u64,
    mid: String,
    name: String,
    netrx: u64,
    nettx: u64,
    noc: usize,
    os: &'static str,
    swap_total: u64,
    swap_used: u64,
    sysup: u64,
    tls: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsaved: Option<String>,
    uptime: u64,
    ver: &'static str,
}

/// The master's own record cannot be changed or deleted like an instance.
pub(super) fn forbidden() -> Refusal {
    Refusal::new(403, "Forbidden: API Key")
}

/// The supervisor answered another question than was asked: our own fault.
pub(super) fn unexpected(answer: &Answer) -> Refusal {
    debug_assert!(false, "an answer to another question: {answer:?}");
    Refusal::new(500, "Internal error")
}

/// As dashboards compare it: a `v` and three numbers.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));
