//! The state file's encoding: Go's gob of the original's `map[string]*Instance`, so that either program reads what the
//! other wrote.
//!
//! ```text
//!  file     message message ...      five definitions of types, then one value: the records by their ids
//!  message  length, type id, body    a negative id defines the type -id, a positive one says what the value is
//!  struct   step value ... 0         a step is the distance to the next field that is not zero
//!
//!  value.rs  numbers, texts and structs to bytes       read.rs   bytes to records, by the names in the definitions
//!  bytes.rs  bytes to numbers and texts                types.rs  what a file says about its types
//! ```
//!
//! Written is exactly what the original writes. Read is whatever a gob encoder may have made of the record: fields are
//! found by their names, those that are not known here are passed over, those that are missing stay zero.

mod bytes;
mod read;
mod types;
mod value;

use std::collections::BTreeMap;
use std::fmt;

use super::record::{Kind, Meta, Peer, Record, Status};
use bytes::{Bytes, Flaw};
use types::{Types, BOOL, INT, STRING, UINT};
use value::{put_int, put_text, put_uint, StructFields};

/// The state file that holds these records, whose keys are their ids.
pub fn encode(records: &BTreeMap<String, Record>) -> Vec<u8> {
    let mut file = Vec::new();
    define_map(&mut file, STATE, "", STRING, INSTANCE);
    define_struct(&mut file, INSTANCE, "", &INSTANCE_FIELDS);
    define_struct(&mut file, META, "Meta", &[("Peer", PEER), ("Tags", TAGS)]);
    define_struct(&mut file, PEER, "Peer", &[("SID", STRING), ("Type", STRING), ("Alias", STRING)]);
    define_map(&mut file, TAGS, "map[string]string", STRING, STRING);
    message(&mut file, STATE, |out| {
        // What is no struct comes after a step of zero.
        put_uint(out, 0);
        put_uint(out, records.len() as u64);
        for (id, record) in records {
            put_text(out, id);
            put_record(out, record);
        }
    });
    file
}

/// The records of a state file. Never panics, and never takes much more memory than `file` has bytes.
///
/// What comes after the records is not looked at, as in Go.
///
/// # Errors
///
/// Says what the file is instead: see [`GobError`].
pub fn decode(file: &[u8]) -> Result<BTreeMap<String, Record>, GobError> {
    if file.len() > MAX_FILE {
        return Err(GobError::TooLarge);
    }
    // After a power cut some file systems show zeros where data never arrived.
    if file.iter().all(|&byte| byte == 0) {
        return Err(GobError::Empty);
    }
    let mut types = Types::default();
    let mut bytes = Bytes::new(file);
    loop {
        // Text and other formats fail on their first bytes. Those have to be judged even if the message seems cut.
        let first = bytes.left_after() == file.len();
        let whole = bytes.next_message().map_err(|flaw| fault(flaw, first, true))?;
        let found = next(&mut bytes, &mut types).map_err(|flaw| fault(flaw, first, !whole))?;
        match found {
            Some(records) if whole => return Ok(records),
            None if whole && bytes.left_after() > 0 => {}
            _ => return Err(GobError::Truncated),
        }
    }
}

/// Why bytes are not a master's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GobError {
    /// Nothing, or nothing but zeros.
    Empty,
    /// It begins well and ends too early.
    Truncated,
    /// More than [`MAX_FILE`] bytes.
    TooLarge,
    /// Something else than a state: text, another program's file. Says why.
    Foreign(String),
    /// A state with something impossible in it. Says what.
    Damaged(String),
}

impl fmt::Display for GobError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            GobError::Empty => f.write_str("it is empty"),
            GobError::Truncated => f.write_str("it is cut short"),
            GobError::TooLarge => write!(f, "it has more than {MAX_FILE} bytes"),
            GobError::Foreign(why) => write!(f, "it is not the state of a master ({why})"),
            GobError::Damaged(why) => write!(f, "it is damaged ({why})"),
        }
    }
}

impl std::error::Error for GobError {}

/// Takes a message in: a definition, or the records themselves.
fn next(bytes: &mut Bytes, types: &mut Types) -> Result<Option<BTreeMap<String, Record>>, Flaw> {
    match bytes.int()? {
        id @ ..=-1 => types.define(id, bytes)?,
        id => return read::records(types, id, bytes).map(Some),
    }
    match bytes.left() {
        0 => Ok(None),
        _ => Err(Flaw::wrong("a definition is longer than it should be")),
    }
}

/// What a flaw says about the whole file.
fn fault(flaw: Flaw, first: bool, cut: bool) -> GobError {
    match flaw {
        Flaw::Cut => GobError::Truncated,
        Flaw::Short if cut => GobError::Truncated,
        Flaw::Short | Flaw::Wrong(_) if first => GobError::Foreign("it does not begin as one".into()),
        Flaw::Short => GobError::Damaged("a part is longer than the whole".into()),
        Flaw::Wrong(why) => GobError::Damaged(why),
        Flaw::Foreign(why) => GobError::Foreign(why),
    }
}

/// A message: its length, the id, the body.
fn message(file: &mut Vec<u8>, id: i64, body: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::new();
    put_int(&mut message, id);
    body(&mut message);
    put_uint(file, message.len() as u64);
    file.append(&mut message);
}

/// Says what a struct is made of.
fn define_struct(file: &mut Vec<u8>, id: i64, name: &str, fields: &[(&str, i64)]) {
    let one = |out: &mut Vec<u8>, &(name, id): &(&str, i64)| StructFields::new(out).text(name).int(id).end();
    let all = |out: &mut Vec<u8>| {
        put_uint(out, fields.len() as u64);
        fields.iter().for_each(|field| one(out, field));
    };
    let body = |out: &mut Vec<u8>| StructFields::new(out).inner(|out| common(out, id, name)).inner(all).end();
    message(file, -id, |out| StructFields::new(out).skip(types::STRUCT).inner(body).end());
}

/// Says what a map is made of.
fn define_map(file: &mut Vec<u8>, id: i64, name: &str, key: i64, element: i64) {
    let body =
        |out: &mut Vec<u8>| StructFields::new(out).inner(|out| common(out, id, name)).int(key).int(element).end();
    message(file, -id, |out| StructFields::new(out).skip(types::MAP).inner(body).end());
}

/// What all definitions begin with.
fn common(out: &mut Vec<u8>, id: i64, name: &str) {
    StructFields::new(out).text(name).int(id).end();
}

/// A record, in the order of [`INSTANCE_FIELDS`].
fn put_record(out: &mut Vec<u8>, record: &Record) {
    let Record { id, alias, kind, status, url, config, restart, meta, figures, unsaved: _, warnings: _ } = record;
    let texts = [id, alias, kind_word(*kind), status_word(*status), url, config];
    let gauges = [figures.mode, figures.ping, figures.pool, figures.tcps, figures.udps];
    let shown = [figures.tcprx, figures.tcptx, figures.udprx, figures.udptx];
    let counters = [shown, figures.base, figures.reset];
    let fields = texts.into_iter().fold(StructFields::new(out), StructFields::text);
    let fields = fields.flag(*restart).inner(|out| put_meta(out, meta));
    let fields = gauges.into_iter().map(i64::from).fold(fields, StructFields::int);
    counters.into_iter().flatten().fold(fields, StructFields::uint).end();
}

fn put_meta(out: &mut Vec<u8>, Meta { peer: Peer { sid, kind, alias }, tags }: &Meta) {
    let peer = |out: &mut Vec<u8>| StructFields::new(out).text(sid).text(kind).text(alias).end();
    let tags = |out: &mut Vec<u8>| {
        put_uint(out, tags.len() as u64);
        tags.iter().flat_map(|(name, value)| [name, value]).for_each(|text| put_text(out, text));
    };
    StructFields::new(out).inner(peer).inner(tags).end();
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Master => "",
        Kind::Server => "server",
        Kind::Client => "client",
    }
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::None => "",
        Status::Running => "running",
        Status::Stopped => "stopped",
        Status::Error => "error",
    }
}

/// Bytes of the largest state file: tens of thousands of instances, and still little enough to be read into memory.
pub const MAX_FILE: usize = 64 << 20;

/// The ids that the original's encoder gives its types.
const INSTANCE: i64 = 64;
const META: i64 = 65;
const PEER: i64 = 66;
const TAGS: i64 = 67;
const STATE: i64 = 68;

/// An instance's fields, as the original declares them.
const INSTANCE_FIELDS: [(&str, i64); 25] = [
    ("ID", STRING),
    ("Alias", STRING),
    ("Type", STRING),
    ("Status", STRING),
    ("URL", STRING),
    ("Config", STRING),
    ("Restart", BOOL),
    ("Meta", META),
    ("Mode", INT),
    ("Ping", INT),
    ("Pool", INT),
    ("TCPS", INT),
    ("UDPS", INT),
    ("TCPRX", UINT),
    ("TCPTX", UINT),
    ("UDPRX", UINT),
    ("UDPTX", UINT),
    ("TCPRXBase", UINT),
    ("TCPTXBase", UINT),
    ("UDPRXBase", UINT),
    ("UDPTXBase", UINT),
    ("TCPRXReset", UINT),
    ("TCPTXReset", UINT),
    ("UDPRXReset", UINT),
    ("UDPTXReset", UINT),
];

#[cfg(test)]
mod tests;
