//! Bytes to records, by the names in the file's own definitions.

use std::collections::BTreeMap;

use super::bytes::{Bytes, Flaw};
use super::types::{field, Shape, Types, BOOL, DEEPEST, INT, STRING, UINT};
use crate::log::printable;
use crate::master::record::{Figures, Kind, Meta, Peer, Record, Status, KEY_ID};

/// All records, if the value of the type `id` that follows is a state.
pub(super) fn records(types: &mut Types, id: i64, bytes: &mut Bytes) -> Result<BTreeMap<String, Record>, Flaw> {
    let element = instance(types, id).map_err(|why| Flaw::Foreign(why.into()))?;
    if bytes.uint()? != 0 {
        return Err(Flaw::wrong("the records do not begin where they should"));
    }
    let mut records = BTreeMap::new();
    for _ in 0..bytes.count()? {
        let id = bytes.text()?;
        let record =
            record(types, element, bytes).and_then(|record| checked(&id, record)).map_err(|flaw| match flaw {
                Flaw::Wrong(why) => Flaw::Wrong(format!("instance {}: {why}", printable(&id))),
                other => other,
            })?;
        records.insert(id, record);
    }
    match bytes.left() {
        0 => Ok(records),
        _ => Err(Flaw::wrong("there is more than the records")),
    }
}

/// The id of the records' type in a map of them, or why the type `id` is no such map.
fn instance(types: &Types, id: i64) -> Result<i64, &'static str> {
    let Ok(Shape::Map(STRING, element)) = types.shape(id) else { return Err("it holds no records with ids") };
    let fields = types.fields(element).ok().flatten().ok_or("it holds no records")?;
    let all = NEEDED.iter().all(|name| fields.iter().any(|field| field.name == *name));
    all.then_some(element).ok_or("it holds records of something else")
}

fn record(types: &mut Types, id: i64, bytes: &mut Bytes) -> Result<Record, Flaw> {
    let mut record = Record::default();
    let fields = types.fields(id)?.unwrap_or_default();
    bytes.fields(|at, bytes| {
        let field = field(&fields, at)?;
        let of = field.kind;
        match field.name.as_str() {
            "ID" => record.id = text(of, bytes)?,
            "Alias" => record.alias = text(of, bytes)?,
            "Type" => record.kind = kind(&text(of, bytes)?)?,
            "Status" => record.status = status(&text(of, bytes)?),
            "URL" => record.url = text(of, bytes)?,
            "Config" => record.config = text(of, bytes)?,
            "Restart" => record.restart = flag(of, bytes)?,
            "Meta" => record.meta = meta(types, of, bytes)?,
            name => match figure(&mut record.figures, name) {
                Some(Figure::Gauge(place)) => *place = gauge(of, bytes)?,
                Some(Figure::Counter(place)) => *place = counter(of, bytes)?,
                None => types.skip(of, bytes, DEEPEST)?,
            },
        }
        Ok(())
    })?;
    Ok(record)
}

fn meta(types: &mut Types, id: i64, bytes: &mut Bytes) -> Result<Meta, Flaw> {
    let mut meta = Meta::default();
    let fields = types.fields(id)?.ok_or_else(mismatch)?;
    bytes.fields(|at, bytes| {
        let field = field(&fields, at)?;
        match field.name.as_str() {
            "Peer" => meta.peer = peer(types, field.kind, bytes)?,
            "Tags" => meta.tags = tags(types, field.kind, bytes)?,
            _ => types.skip(field.kind, bytes, DEEPEST)?,
        }
        Ok(())
    })?;
    Ok(meta)
}

fn peer(types: &mut Types, id: i64, bytes: &mut Bytes) -> Result<Peer, Flaw> {
    let mut peer = Peer::default();
    let fields = types.fields(id)?.ok_or_else(mismatch)?;
    bytes.fields(|at, bytes| {
        let field = field(&fields, at)?;
        match field.name.as_str() {
            "SID" => peer.sid = text(field.kind, bytes)?,
            "Type" => peer.kind = text(field.kind, bytes)?,
            "Alias" => peer.alias = text(field.kind, bytes)?,
            _ => types.skip(field.kind, bytes, DEEPEST)?,
        }
        Ok(())
    })?;
    Ok(peer)
}

fn tags(types: &Types, id: i64, bytes: &mut Bytes) -> Result<BTreeMap<String, String>, Flaw> {
    let Shape::Map(STRING, STRING) = types.shape(id)? else { return Err(mismatch()) };
    let count = bytes.count()?;
    (0..count).map(|_| Ok((bytes.text()?, bytes.text()?))).collect()
}

/// A figure's place.
enum Figure<'a> {
    Gauge(&'a mut i32),
    Counter(&'a mut u64),
}

/// The place of the figure that the original calls `name`.
fn figure<'a>(figures: &'a mut Figures, name: &str) -> Option<Figure<'a>> {
    Some(match name {
        "Mode" => Figure::Gauge(&mut figures.mode),
        "Ping" => Figure::Gauge(&mut figures.ping),
        "Pool" => Figure::Gauge(&mut figures.pool),
        "TCPS" => Figure::Gauge(&mut figures.tcps),
        "UDPS" => Figure::Gauge(&mut figures.udps),
        "TCPRX" => Figure::Counter(&mut figures.tcprx),
        "TCPTX" => Figure::Counter(&mut figures.tcptx),
        "UDPRX" => Figure::Counter(&mut figures.udprx),
        "UDPTX" => Figure::Counter(&mut figures.udptx),
        _ => {
            let (name, places) = match name.strip_suffix("Base") {
                Some(name) => (name, &mut figures.base),
                None => (name.strip_suffix("Reset")?, &mut figures.reset),
            };
            Figure::Counter(&mut places[COUNTERS.iter().position(|counter| *counter == name)?])
        }
    })
}

/// What must be true of a record whatever wrote it: that it is its own, and that it is something.
fn checked(id: &str, mut record: Record) -> Result<Record, Flaw> {
    if record.id.is_empty() {
        id.clone_into(&mut record.id);
    }
    match record.kind {
        _ if record.id != id => Err(Flaw::wrong(format!("it says that it is {}", printable(&record.id)))),
        Kind::Master if id != KEY_ID => Err(Flaw::wrong("it has no type")),
        Kind::Server | Kind::Client if id == KEY_ID => Err(Flaw::wrong("it has a type")),
        // The master's own has no status, all others have one.
        Kind::Master => Ok(Record { status: Status::None, ..record }),
        _ if record.status == Status::None => Ok(Record { status: Status::Stopped, ..record }),
        _ => Ok(record),
    }
}

fn kind(word: &str) -> Result<Kind, Flaw> {
    match word {
        "" => Ok(Kind::Master),
        "server" => Ok(Kind::Server),
        "client" => Ok(Kind::Client),
        // A newer program's: what it needs cannot be guessed, and must not be lost.
        other => Err(Flaw::wrong(format!("type {} is not known", printable(other)))),
    }
}

/// Words that are not known are as good as `stopped`: nothing runs yet when a state is read.
fn status(word: &str) -> Status {
    match word {
        "" => Status::None,
        "running" => Status::Running,
        "error" => Status::Error,
        _ => Status::Stopped,
    }
}

fn text(of: i64, bytes: &mut Bytes) -> Result<String, Flaw> {
    typed(of, STRING)?;
    bytes.text()
}

fn gauge(of: i64, bytes: &mut Bytes) -> Result<i32, Flaw> {
    typed(of, INT)?;
    bytes.int()?.try_into().map_err(|_| Flaw::wrong("a number has more than 32 bits"))
}

fn counter(of: i64, bytes: &mut Bytes) -> Result<u64, Flaw> {
    typed(of, UINT)?;
    bytes.uint()
}

fn flag(of: i64, bytes: &mut Bytes) -> Result<bool, Flaw> {
    typed(of, BOOL)?;
    Ok(bytes.uint()? != 0)
}

/// Whether a field has the type that it should have.
fn typed(of: i64, wanted: i64) -> Result<(), Flaw> {
    (of == wanted).then_some(()).ok_or_else(mismatch)
}

fn mismatch() -> Flaw {
    Flaw::wrong("a field has another type")
}

/// Fields without which a record is not an instance.
const NEEDED: [&str; 2] = ["Type", "URL"];

/// The counters, in the order in which records keep them.
const COUNTERS: [&str; 4] = ["TCPRX", "TCPTX", "UDPRX", "UDPTX"];
