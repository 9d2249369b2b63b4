//! What the API's orders mean: checked here, whatever asks, and carried out by the instances.

use std::sync::mpsc::SyncSender;
use std::time::Instant;

use subtle::ConstantTimeEq;

use super::instance::Instance;
use super::record::{Kind, Meta, Record, Status, KEY_ID};
use super::requests::{Action, Answer, Order, Patch, Refusal, Request};
use super::supervisor::{times, Slot, Supervisor, Wait};
use super::{bounds, ids};
use crate::config::{self, Asked};
use crate::log as lines;
use crate::logic::bans::Selection;

type Outcome = Result<Answer, Refusal>;

impl Supervisor {
    /// Carries out an order and answers it. Who waits for a process to go is answered later.
    pub(super) fn handle(&mut self, Request { order, reply }: Request, now: Instant) {
        let outcome = match order {
            _ if self.stopping => Err(Refusal::new(503, "The master is shutting down")),
            Order::Admit(key) => self.admit(key.as_deref()),
            Order::List => Ok(Answer::Many(self.records().into_values().collect())),
            Order::Get(id) => self.get(&id),
            Order::Create { url, alias } => self.create(&url, alias, now),
            Order::Patch(id, patch) => self.patch(&id, patch, now),
            Order::Replace(id, url) => return self.replace(&id, &url, reply, now),
            Order::Delete(id) => return self.delete(&id, reply, now),
            Order::Logs(id) => self.logs(&id),
            Order::Figures => Ok(Answer::Samples(self.samples())),
            Order::Bans => Ok(Answer::Bans(self.bans.list(&Selection::default(), now))),
            Order::Lift(which) => self.lift(&which, now),
            Order::Import(records) => self.import(records, now),
            Order::Name(alias) => self.name(alias, now),
            Order::Listen => {
                let instances = self.slots.values().map(|slot| slot.instance.record());
                let records: Vec<&Record> = [&self.master].into_iter().chain(instances).collect();
                Ok(Answer::Events(self.readers.join(records.into_iter())))
            }
        };
        send(&reply, outcome);
    }

    /// The old process has gone: answers the calls that waited for that. `record` is how it is now, if there is one.
    pub(super) fn reply_to_waiting(&mut self, id: &str, record: Option<Record>) {
        let (here, others) = std::mem::take(&mut self.waiting).into_iter().partition(|(other, _)| other == id);
        self.waiting = others;
        let here: Vec<(String, Wait)> = here;
        for (_, wait) in here {
            match wait {
                Wait::Deleted(reply) => send(&reply, Ok(Answer::Done)),
                Wait::Replaced(reply) => send(&reply, record.clone().map(one).ok_or_else(unknown)),
            }
        }
    }

    fn admit(&self, key: Option<&str>) -> Outcome {
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Err(Refusal::new(401, "Unauthorized: API key required"));
        };
        match bool::from(key.as_bytes().ct_eq(self.master.url.as_bytes())) {
            true => Ok(Answer::Done),
            false => Err(Refusal::new(401, "Unauthorized: Invalid API key")),
        }
    }

    fn get(&self, id: &str) -> Outcome {
        match id {
            KEY_ID => Ok(one(self.master.clone())),
            _ => Ok(one(self.slot(id)?.instance.record().clone())),
        }
    }

    fn logs(&self, id: &str) -> Outcome {
        match id {
            KEY_ID => Ok(Answer::Lines(Vec::new())),
            _ => Ok(Answer::Lines(self.slot(id)?.instance.tail().cloned().collect())),
        }
    }

    fn create(&mut self, url: &str, alias: String, now: Instant) -> Outcome {
        let asked = self.understand(url)?;
        let mut record = Record { alias, status: Status::Stopped, restart: true, ..Record::default() };
        record.ask(asked);
        bounds::record(&record)?;
        self.has_room(1)?;
        record.id = self.new_id()?;
        log::info!("Instance created [{}]", record.id);
        self.add(Instance::new(record.clone(), times(&self.config)), now);
        Ok(one(record))
    }

    fn patch(&mut self, id: &str, patch: Patch, now: Instant) -> Outcome {
        let old = if id == KEY_ID { &self.master } else { self.slot(id)?.instance.record() };
        let mut record = old.clone();
        let Patch { alias, peer, tags, .. } = patch.clone();
        record.alias = alias.unwrap_or(record.alias);
        record.meta = Meta { peer: peer.unwrap_or(record.meta.peer), tags: tags.unwrap_or(record.meta.tags) };
        bounds::record(&record)?;
        if id == KEY_ID {
            patch.log.into_iter().for_each(lines::change_level);
            return self.patch_master(record, patch.action, now);
        }
        if patch.log.is_some_and(|level| !self.set_level(id, level)) {
            return Err(Refusal::new(409, "Instance is not running: its log level is that of its URL when it starts"));
        }
        self.with(id, now, |instance| {
            instance.amend(&patch);
            match patch.action {
                None => {}
                Some(Action::Start) => instance.start(),
                Some(Action::Stop) => instance.stop(now),
                Some(Action::Restart) => instance.restart(now),
                Some(Action::Reset) => instance.reset(),
            }
        });
        self.get(id)
    }

    fn patch_master(&mut self, record: Record, action: Option<Action>, now: Instant) -> Outcome {
        let mut record = record;
        if action == Some(Action::Restart) {
            record.url = ids::key()?;
            log::info!("API Key regenerated: {}", record.url);
        }
        if record != self.master {
            self.master = record;
            self.master_changed(now);
        }
        if action == Some(Action::Restart) {
            self.readers.end();
        }
        Ok(one(self.master.clone()))
    }

    fn name(&mut self, alias: String, now: Instant) -> Outcome {
        let record = Record { alias, ..self.master.clone() };
        self.patch_master(record, None, now)
    }

    fn replace(&mut self, id: &str, url: &str, reply: SyncSender<Outcome>, now: Instant) {
        let checked = match id {
            KEY_ID => Err(Refusal::new(403, "Forbidden: API Key")),
            _ => self.slot(id).and_then(|slot| {
                let asked = self.understand(url)?;
                let record = slot.instance.record();
                if record.url == asked.url {
                    return Err(Refusal::new(409, "Instance URL conflict"));
                }
                let mut record = record.clone();
                record.ask(asked.clone());
                bounds::record(&record)?;
                Ok(asked)
            }),
        };
        match checked {
            Err(refusal) => send(&reply, Err(refusal)),
            Ok(asked) => {
                self.waiting.push((id.to_string(), Wait::Replaced(reply)));
                self.with(id, now, |instance| instance.replace(asked, now));
            }
        }
    }

    fn delete(&mut self, id: &str, reply: SyncSender<Outcome>, now: Instant) {
        let known = match id {
            KEY_ID => Err(Refusal::new(403, "Forbidden: API Key")),
            _ => self.slot(id).map(drop),
        };
        match known {
            Err(refusal) => send(&reply, Err(refusal)),
            Ok(()) => {
                self.waiting.push((id.to_string(), Wait::Deleted(reply)));
                self.with(id, now, |instance| instance.delete(now));
            }
        }
    }

    /// Whoever holds these bans is told, also of one that is not known here.
    fn lift(&mut self, which: &Selection, now: Instant) -> Outcome {
        match which.owner.as_deref() {
            Some(KEY_ID) => self.lift_own(which.source),
            Some(id) => self.slot(id)?.lift(which.source),
            None => {
                self.lift_own(which.source);
                self.slots.values().for_each(|slot| slot.lift(which.source));
            }
        }
        Ok(Answer::Bans(self.bans.take(which, now)))
    }

    /// All of the new ones or none: one that cannot be used refuses the whole.
    fn import(&mut self, records: Vec<Record>, now: Instant) -> Outcome {
        let mut new: Vec<Record> = Vec::new();
        for record in records {
            let taken = record.id == KEY_ID || self.slots.contains_key(&record.id);
            if taken || new.iter().any(|other| other.id == record.id) {
                continue;
            }
            let shown = crate::log::printable(&record.id).to_string();
            let named = |refusal: Refusal| Refusal::new(refusal.status, format!("Instance {shown}: {}", refusal.text));
            if !ids::is_instance(&record.id) {
                return Err(named(Refusal::new(400, "Invalid instance ID")));
            }
            let asked = self.understand(&record.url).map_err(named)?;
            let mut record = Record { status: Status::Stopped, ..record };
            record.ask(asked);
            bounds::record(&record).map_err(named)?;
            new.push(record);
        }
        self.has_room(new.len())?;
        for record in &new {
            let instance = Instance::new(record.clone(), times(&self.config));
            self.add(instance, now);
        }
        Ok(Answer::Many(new))
    }

    /// An instance that orders can reach.
    fn slot(&self, id: &str) -> Result<&Slot, Refusal> {
        self.slots.get(id).filter(|slot| !slot.instance.is_doomed()).ok_or_else(unknown)
    }

    /// What a URL asks for: role, the URL with what the master adds, and that with every parameter.
    fn understand(&self, url: &str) -> Result<Asked, Refusal> {
        config::instance(url, &self.config).map_err(|fault| Refusal::new(400, fault.text))
    }

    fn has_room(&self, more: usize) -> Result<(), Refusal> {
        match self.slots.len() + more {
            0..=MAX_INSTANCES => Ok(()),
            _ => Err(Refusal::new(503, format!("More than {MAX_INSTANCES} instances"))),
        }
    }

    fn new_id(&self) -> Result<String, Refusal> {
        loop {
            let id = ids::instance()?;
            if !self.slots.contains_key(&id) {
                return Ok(id);
            }
        }
    }
}

/// Makes what is missing of the master's own record: its id and the API key. `true` if the key is new.
pub(super) fn complete(master: &mut Record) -> Result<bool, Refusal> {
    let new = !ids::is_key(&master.url);
    if new {
        master.url = ids::key()?;
    }
    if !ids::is_master(&master.config) {
        master.config = ids::master()?;
    }
    (master.id, master.kind, master.status) = (KEY_ID.into(), Kind::Master, Status::None);
    Ok(new)
}

/// Answers; the caller may have gone.
fn send(reply: &SyncSender<Outcome>, outcome: Outcome) {
    let _ = reply.try_send(outcome);
}

fn one(record: Record) -> Answer {
    Answer::One(Box::new(record))
}

fn unknown() -> Refusal {
    Refusal::new(404, "Instance not found")
}

/// Instances of one master. Each costs a process.
pub const MAX_INSTANCES: usize = 4096;
