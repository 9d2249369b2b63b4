//! Sources that the master and its instances have banned: the list, and how a source is let in again.

use std::time::SystemTime;

use serde::Serialize;

use super::api::{unexpected, value, Api};
use super::call::{Call, Reply};
use super::requests::{Answer, Order, Refusal, Request};
use crate::config;
use crate::log::rfc3339;
use crate::logic::bans::{ListedBan, Selection};
use crate::logic::guard::Source;

/// The answer to `GET /v1/bans`, and to `DELETE /v1/bans?source=...&instance=...`: those that were lifted.
pub(super) fn reply<M: From<Request>>(api: &Api<M>, call: &Call) -> Result<Reply, Refusal> {
    let order = match call.method.as_str() {
        "DELETE" => Order::Lift(selection(&call.query)?),
        _ => Order::Bans,
    };
    match api.ask(order)? {
        Answer::Bans(bans) => {
            let now = SystemTime::now();
            Ok(value(200, &List { bans: bans.into_iter().map(|ban| ShownBan::of(ban, now)).collect() }))
        }
        other => Err(unexpected(&other)),
    }
}

/// What the query selects.
fn selection(query: &str) -> Result<Selection, Refusal> {
    let source = query_value(query, "source")?;
    let unknown =
        |text: &String| Refusal::new(400, format!("Invalid source: {text}: expected an address, or an IPv6 /64"));
    let source = source.map(|text| Source::parse(&text).ok_or_else(|| unknown(&text))).transpose()?;
    let owner = query_value(query, "instance")?;
    match (&source, &owner) {
        // What is misspelt must not lift everything.
        (None, None) => Err(Refusal::new(400, "Source or instance required")),
        _ => Ok(Selection { owner, source }),
    }
}

/// The value of that name in a query, if it is there.
pub(super) fn query_value(query: &str, name: &str) -> Result<Option<String>, Refusal> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.find(|(other, _)| *other == name) else { return Ok(None) };
    let bytes = config::percent_decoded(value, true).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Some).ok_or_else(|| Refusal::new(400, format!("Invalid {name}")))
}

/// What is answered.
#[derive(Serialize)]
struct List {
    bans: Vec<ShownBan>,
}

#[derive(Serialize)]
struct ShownBan {
    source: String,
    instance: String,
    reason: String,
    until: String,
}

impl ShownBan {
    fn of(ban: ListedBan, now: SystemTime) -> ShownBan {
        // A time that the calendar does not know is as good as for ever.
        let until = now.checked_add(ban.left).unwrap_or(now);
        ShownBan {
            source: ban.source.to_string(),
            instance: ban.owner,
            reason: ban.what.to_string(),
            until: rfc3339(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_selects_by_source_and_by_instance_and_never_everything() {
        let source = Source::parse("2001:db8::1");
        let selected = |owner: Option<&str>, source| Ok(Selection { owner: owner.map(str::to_owned), source });
        for (query, expected) in [
            ("source=2001:db8::1", selected(None, source)),
            ("source=2001%3Adb8%3A%3A%2F64", selected(None, source)),
            ("instance=0a1b2c3d", selected(Some("0a1b2c3d"), None)),
            ("x=y&instance=********&source=2001:db8::9", selected(Some("********"), source)),
        ] {
            assert_eq!(selection(query), expected, "{query}");
        }
        let told = |text: &str| Err(Refusal::new(400, text));
        for (query, text) in [
            ("", "Source or instance required"),
            ("sources=192.0.2.1&instance", "Source or instance required"),
            ("source=", "Invalid source: : expected an address, or an IPv6 /64"),
            ("source=192.0.2.0/24", "Invalid source: 192.0.2.0/24: expected an address, or an IPv6 /64"),
            ("source=%zz", "Invalid source"),
            ("instance=%ff", "Invalid instance"),
        ] {
            assert_eq!(selection(query), told(text), "{query}");
        }
    }
}
