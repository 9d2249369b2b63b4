//! All instances as one JSON document, out of one master and into another: `{"instances":[...]}`.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::api::{forbidden, meta, Api};
use super::bounds;
use super::fields::{Fields, Unknown, WrongField};
use super::ids;
use super::record::{Meta, Record, KEY_ID};
use super::requests::{Order, Refusal, Request};
use super::state::State;
use crate::config::{self, Config};

/// What is kept of the instances, without the master's own record and without figures.
#[derive(Debug, Serialize)]
pub(super) struct Export<'a> {
    instances: Vec<Kept<'a>>,
}

#[derive(Debug, Serialize)]
struct Kept<'a> {
    id: &'a str,
    alias: &'a str,
    url: &'a str,
    restart: bool,
    meta: &'a Meta,
}

/// What came of an import.
#[derive(Debug, Serialize)]
pub(super) struct Import {
    /// The new instances.
    imported: Vec<Record>,
    /// The others.
    skipped: Vec<Skipped>,
}

/// One entry that made no instance.
#[derive(Debug, Serialize)]
struct Skipped {
    /// Its place in the list, from 0.
    index: usize,
    /// Its id, if it has one.
    id: String,
    /// Why not.
    reason: String,
}

/// One entry of a document, in good form.
#[derive(Debug)]
pub(super) struct ImportEntry {
    id: String,
    alias: String,
    url: String,
    restart: bool,
    meta: Meta,
}

/// These records as a document.
pub(super) fn export<'a>(records: &'a [Record]) -> Export<'a> {
    let instances = records.iter().filter(|record| record.id != KEY_ID);
    let kept = |record: &'a Record| {
        let Record { id, alias, url, meta, .. } = record;
        Kept { id, alias, url, restart: record.restart, meta }
    };
    Export { instances: instances.map(kept).collect() }
}

impl Export<'_> {
    /// Writes the instances beside the state, where an original's tool of the same name looks for them. Keys are in it. Where nothing can be
    /// written, the document itself is the answer.
    pub fn keep(&self, config: &Config) {
        let path = kept_at(config);
        let written = serde_json::to_vec_pretty(&self.instances).map_err(io::Error::other).and_then(|text| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNERS).open(&path)?;
            file.write_all(&text)
        });
        if let Err(error) = written {
            log::warn!("{} is not written: {error}", path.display());
        }
    }
}

/// What was written there last.
pub(super) fn kept(config: &Config) -> Result<Vec<ImportEntry>, Refusal> {
    let path = kept_at(config);
    let text = fs::read(&path).map_err(|error| Refusal::new(400, format!("{}: {error}", path.display())))?;
    read(&text).map_err(|fault| Refusal::new(400, format!("{}: {fault}", path.display())))
}

fn kept_at(config: &Config) -> PathBuf {
    State::folder(config.limits.state.as_deref()).join(FILE)
}

/// A document's entries: what was exported, or a bare list as `GET /instances` answers. One entry of the wrong form
/// spoils the whole.
pub(super) fn read(body: &[u8]) -> Result<Vec<ImportEntry>, WrongField> {
    let entries = match serde_json::from_slice(body) {
        Ok(Value::Array(entries)) => entries,
        _ => {
            let mut fields = Fields::parse(body)?;
            fields.list("instances")?.ok_or_else(|| fields.malformed("instances", "a list"))?
        }
    };
    self::entries(entries, Unknown::Ignored)
}

/// Entries out of a list.
pub(super) fn entries(list: Vec<Value>, unknown: Unknown) -> Result<Vec<ImportEntry>, WrongField> {
    let entry = |(at, value)| {
        let mut fields = Fields::of(value, &format!("instances.{at}"), unknown)?;
        let entry = ImportEntry {
            id: fields.text("id")?.unwrap_or_default(),
            alias: fields.text("alias")?.unwrap_or_default(),
            url: fields.needed("url")?,
            restart: fields.flag("restart")?.unwrap_or(true),
            meta: meta(&mut fields)?.whole(),
        };
        fields.end()?;
        Ok(entry)
    };
    list.into_iter().enumerate().map(entry).collect()
}

/// Makes the instances that are not there; they start if their `restart` says so.
pub(super) fn import<M: From<Request>>(api: &Api<M>, entries: Vec<ImportEntry>) -> Result<Import, Refusal> {
    let mut known: BTreeSet<String> = api.list()?.into_iter().map(|record| record.id).collect();
    let (mut new, mut places, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for (index, entry) in entries.into_iter().enumerate() {
        let id = entry.id.clone();
        match entry.record(&mut known, api.config()) {
            Ok(record) => {
                places.push((index, record.id.clone()));
                new.push(record);
            }
            Err(Refusal { text: reason, .. }) => skipped.push(Skipped { index, id, reason }),
        }
    }
    let imported = api.many(Order::Import(new))?;
    // Another request may have made one of them meanwhile.
    places.retain(|(_, id)| !imported.iter().any(|record| record.id == *id));
    skipped.extend(places.into_iter().map(|(index, id)| Skipped { index, id, reason: EXISTS.into() }));
    skipped.sort_by_key(|skipped| skipped.index);
    Ok(Import { imported, skipped })
}

impl ImportEntry {
    /// A record that the master can take over; its id is then among those `known`.
    fn record(self, known: &mut BTreeSet<String>, master: &Config) -> Result<Record, Refusal> {
        if self.id == KEY_ID {
            return Err(forbidden());
        }
        let id = if self.id.is_empty() { ids::instance()? } else { self.id };
        if !ids::is_instance(&id) {
            return Err(Refusal::new(400, "Invalid instance ID"));
        }
        if known.contains(&id) {
            return Err(Refusal::new(409, EXISTS));
        }
        bounds::text("Instance alias", &self.alias)?;
        bounds::meta(&self.meta)?;
        bounds::url(&self.url)?;
        // What the master will make of it comes later: here it must be good enough for that.
        config::instance(&self.url, master).map_err(|fault| Refusal::new(400, fault.text))?;
        known.insert(id.clone());
        let ImportEntry { alias, url, restart, meta, .. } = self;
        Ok(Record { id, alias, url, restart, meta, ..Record::default() })
    }
}

/// Why an entry is left out whose id is taken.
const EXISTS: &str = "Instance exists already";

/// The original's file.
const FILE: &str = "nodepass.json";

/// It is its owner's alone.
const OWNERS: u32 = 0o600;
