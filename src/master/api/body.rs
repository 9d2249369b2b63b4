//! What requests may say about an instance, and how much of it.

use std::collections::BTreeMap;

use super::super::bounds;
use super::super::fields::{Fields, WrongField};
use super::super::record::{Meta, Peer};
use super::super::requests::{Action, Patch, Refusal};
use crate::log::Level;

/// A new instance.
#[derive(Debug)]
pub(crate) struct New {
    /// Never empty.
    pub url: String,
    pub alias: String,
}

impl New {
    pub fn read(fields: &mut Fields) -> Result<New, WrongField> {
        Ok(New { url: fields.needed("url")?, alias: fields.text("alias")?.unwrap_or_default() })
    }

    /// Not longer than may be kept.
    pub fn bounded(self) -> Result<New, Refusal> {
        bounds::text("Instance alias", &self.alias)?;
        bounds::url(&self.url)?;
        Ok(self)
    }
}

/// A change of an instance. Empty texts change nothing: dashboards send the fields that they do not mean as empty.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub alias: Option<String>,
    pub action: Option<String>,
    pub restart: Option<bool>,
    pub log: Option<String>,
    pub peer: Option<Peer>,
    pub tags: Option<BTreeMap<String, String>>,
}

impl Change {
    pub fn read(fields: &mut Fields) -> Result<Change, WrongField> {
        let alias = fields.text("alias")?.filter(|alias| !alias.is_empty());
        let restart = fields.flag("restart")?;
        let MetaChange { peer, tags } = meta(fields)?;
        Ok(Change { alias, action: None, restart, log: None, peer, tags })
    }

    /// The same, with what is done to its process.
    pub fn read_with_action(fields: &mut Fields) -> Result<Change, WrongField> {
        let action = fields.text("action")?.filter(|action| !action.is_empty());
        let log = fields.text("log")?.filter(|log| !log.is_empty());
        Ok(Change { action, log, ..Change::read(fields)? })
    }

    /// Not longer than may be kept, and an action that there is.
    pub fn checked(self) -> Result<Patch, Refusal> {
        let Change { alias, action, restart, log, peer, tags } = self;
        bounds::text("Instance alias", alias.as_deref().unwrap_or_default())?;
        let action = action.map(|action| action_named(&action)).transpose()?;
        let log = log.map(|log| level_named(&log)).transpose()?;
        if let Some(peer) = &peer {
            bounds::peer(peer)?;
        }
        if let Some(tags) = &tags {
            bounds::tags(tags)?;
        }
        Ok(Patch { alias, action, restart, log, peer, tags })
    }
}

/// The parts of `meta` that are said.
#[derive(Debug, Default)]
pub(crate) struct MetaChange {
    pub peer: Option<Peer>,
    pub tags: Option<BTreeMap<String, String>>,
}

impl MetaChange {
    /// All of it; what is not said is empty.
    pub fn whole(self) -> Meta {
        Meta { peer: self.peer.unwrap_or_default(), tags: self.tags.unwrap_or_default() }
    }
}

/// What dashboards keep with an instance, as far as it is said.
pub(crate) fn meta(fields: &mut Fields) -> Result<MetaChange, WrongField> {
    let Some(mut meta) = fields.object("meta")? else { return Ok(MetaChange::default()) };
    let said = MetaChange { peer: peer(&mut meta)?, tags: meta.texts("tags")? };
    meta.end()?;
    Ok(said)
}

/// The other end, if it is named; what is not said of it is empty.
fn peer(meta: &mut Fields) -> Result<Option<Peer>, WrongField> {
    let Some(mut peer) = meta.object("peer")? else { return Ok(None) };
    let mut text = |name| peer.text(name).map(Option::unwrap_or_default);
    let said = Peer { sid: text("sid")?, kind: text("type")?, alias: text("alias")? };
    peer.end()?;
    Ok(Some(said))
}

/// The action of that name.
pub(crate) fn action_named(name: &str) -> Result<Action, Refusal> {
    match name {
        "start" => Ok(Action::Start),
        "stop" => Ok(Action::Stop),
        "restart" => Ok(Action::Restart),
        "reset" => Ok(Action::Reset),
        _ => Err(Refusal::new(400, format!("Invalid action: {name}"))),
    }
}

/// The log level of that name.
fn level_named(name: &str) -> Result<Level, Refusal> {
    let known = Level::ALL.map(Level::name).join(", ");
    Level::from_name(name)
        .ok_or_else(|| Refusal::new(400, format!("Invalid log level: {name}: expected one of {known}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> Result<Patch, Refusal> {
        Change::read_with_action(&mut Fields::parse(text.as_bytes()).unwrap()).unwrap().checked()
    }

    fn refused(text: &str) -> String {
        let refusal = change(text).unwrap_err();
        assert_eq!(refusal.status, 400);
        refusal.text
    }

    #[test]
    fn a_change_has_what_was_said_and_nothing_else() {
        let patch = change(r#"{"alias":"a","action":"stop","restart":false,"meta":{"peer":{"sid":"s"},"tags":{}}}"#);
        let patch = patch.unwrap();
        assert_eq!((patch.alias.as_deref(), patch.action, patch.restart), (Some("a"), Some(Action::Stop), Some(false)));
        assert_eq!(patch.peer, Some(Peer { sid: "s".into(), ..Peer::default() }));
        assert_eq!(patch.tags, Some(BTreeMap::new()));
        for nothing in ["{}", r#"{"alias":"","action":"","meta":{}}"#, r#"{"meta":null,"restart":null,"other":1}"#] {
            assert_eq!(change(nothing), Ok(Patch::default()), "{nothing}");
        }
    }

    #[test]
    fn texts_over_256_bytes_are_named() {
        let long = "a".repeat(257);
        let told = |text: &str| refused(&text.replace('*', &long));
        assert_eq!(told(r#"{"alias":"*"}"#), "Instance alias exceeds maximum length 256");
        assert_eq!(told(r#"{"meta":{"peer":{"sid":"*"}}}"#), "Meta peer.sid exceeds maximum length 256");
        assert_eq!(told(r#"{"meta":{"peer":{"type":"*"}}}"#), "Meta peer.type exceeds maximum length 256");
        assert_eq!(told(r#"{"meta":{"peer":{"alias":"*"}}}"#), "Meta peer.alias exceeds maximum length 256");
        assert_eq!(told(r#"{"meta":{"tags":{"*":"v"}}}"#), "Meta tag key exceeds maximum length 256");
        assert_eq!(told(r#"{"meta":{"tags":{"k":"*"}}}"#), "Meta tag value exceeds maximum length 256");
        assert!(change(&format!(r#"{{"alias":"{}"}}"#, &long[1..])).is_ok());
    }

    #[test]
    fn all_tags_together_are_bounded() {
        let tags = |count: usize| {
            let tags: BTreeMap<String, String> = (0..count).map(|n| (format!("{n:0256}"), "v".repeat(256))).collect();
            serde_json::json!({ "meta": { "tags": tags } }).to_string()
        };
        assert!(change(&tags(31)).is_ok());
        assert_eq!(refused(&tags(32)), "Meta tags exceeds maximum length 16384");
    }

    #[test]
    fn an_unknown_action_is_named() {
        assert_eq!(refused(r#"{"action":"explode"}"#), "Invalid action: explode");
        assert_eq!(refused(r#"{"action":"Start"}"#), "Invalid action: Start");
    }

    #[test]
    fn a_log_level_is_one_of_those_that_there_are() {
        assert_eq!(change(r#"{"log":"debug"}"#).unwrap().log, Some(Level::Debug));
        assert_eq!(change(r#"{"log":""}"#).unwrap().log, None);
        let told = refused(r#"{"log":"loud"}"#);
        assert_eq!(told, "Invalid log level: loud: expected one of none, debug, info, warn, error, event");
    }
}
