//! The tools that see an instance's URL by its parts, as those of the original's master 2.0 do.

use serde_json::{json, Map, Value};

use super::super::api::{Api, New};
use super::super::fields::{Fields, WrongField};
use super::super::requests::{Order, Refusal, Request};
use super::failure::{shown, Failure};
use crate::config::{url_parts, Changes, Fault};

/// Sets what the tool `name`, one that [sets] something, is for.
pub(super) fn set<M: From<Request>>(
    api: &Api<M>,
    name: &str,
    id: Result<String, Refusal>,
    mut fields: Fields,
) -> Result<Value, Failure> {
    let changes = match parts_of(name) {
        Some(names) => changes(&mut fields, names)?,
        None => parameters(&mut fields)?,
    };
    fields.end()?;
    if changes.is_empty() {
        return Err(Refusal::new(400, "Nothing to change").into());
    }
    let record = api.one(Order::Get(id?))?;
    let url = changes.applied(&record.url).map_err(refused)?;
    if url == record.url {
        return shown(&record);
    }
    let New { url, .. } = New { url, alias: String::new() }.bounded()?;
    shown(&api.one(Order::Replace(record.id, url))?)
}

/// Whether this tool sets parts of a URL.
pub(super) fn sets(name: &str) -> bool {
    parts_of(name).is_some() || name == ADVANCED
}

/// A new instance, by its URL, by the parts of that, or by a URL and other parts for it.
pub(super) fn new(fields: &mut Fields) -> Result<Result<New, Refusal>, WrongField> {
    let url = fields.text("url")?.unwrap_or_default();
    let alias = fields.text("alias")?.unwrap_or_default();
    let mut changes = Changes::default();
    for (_, names) in PARTS {
        names.iter().try_for_each(|name| read(fields, name, &mut changes))?;
    }
    if url.is_empty() && !changes.is_whole() {
        return Err(fields.malformed("url", "a string that is not empty, or role, tunnel_port and target_port"));
    }
    let whole = if changes.is_empty() { Ok(url) } else { changes.applied(&url).map_err(refused) };
    Ok(whole.and_then(|url| New { url, alias }.bounded()))
}

/// An instance's configuration by its parts.
pub(super) fn describe(config: &str) -> Result<Value, Failure> {
    let parts = url_parts(config).map_err(refused)?;
    let parameters: Map<String, Value> =
        parts.parameters.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    let mut shown = json!({
        "role": parts.role, "tunnel_address": parts.tunnel_address, "tunnel_port": parts.tunnel_port, "parameters": parameters,
    });
    if let Some(password) = parts.password {
        shown["password"] = password.into();
    }
    match parts.target {
        Some((address, port)) => {
            (shown["target_address"], shown["target_port"]) = (address.into(), port.into());
        }
        None => shown["targets"] = parts.targets.into(),
    }
    Ok(shown)
}

fn parts_of(name: &str) -> Option<&'static [&'static str]> {
    PARTS.iter().find(|(tool, _)| *tool == name).map(|(_, names)| *names)
}

fn changes(fields: &mut Fields, names: &[&str]) -> Result<Changes, WrongField> {
    let mut changes = Changes::default();
    names.iter().try_for_each(|name| read(fields, name, &mut changes))?;
    Ok(changes)
}

fn read(fields: &mut Fields, name: &str, changes: &mut Changes) -> Result<(), WrongField> {
    if let Some(value) = fields.text(name)? {
        changes.set(name, value);
    }
    Ok(())
}

/// Any parameters of the URL, whose values may be numbers, too.
fn parameters(fields: &mut Fields) -> Result<Changes, WrongField> {
    let fault = fields.malformed("parameters", "an object of strings and numbers");
    let Some(Value::Object(named)) = fields.any("parameters") else { return Err(fault) };
    let mut changes = Changes::default();
    for (name, value) in named {
        match value {
            Value::String(text) => changes.set_parameter(&name, text),
            Value::Number(_) | Value::Bool(_) => changes.set_parameter(&name, value.to_string()),
            _ => return Err(fault),
        }
    }
    Ok(changes)
}

fn refused(fault: Fault) -> Refusal {
    Refusal::new(400, fault.text)
}

/// The tool that sets any parameter.
const ADVANCED: &str = "set_instance_advanced";

/// The others, and what each sets.
const PARTS: [(&str, &[&str]); 6] = [
    (
        "set_instance_basic",
        &["role", "tunnel_address", "tunnel_port", "target_address", "target_port", "targets", "log"],
    ),
    ("set_instance_security", &["password", "tls", "crt", "key", "sni"]),
    ("set_instance_connection", &["mode", "type", "min", "max"]),
    ("set_instance_network", &["dns", "dial", "read", "rate", "slot"]),
    ("set_instance_protocol", &["notcp", "noudp", "proxy"]),
    ("set_instance_traffic", &["block", "lbs"]),
];
