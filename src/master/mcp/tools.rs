//! The tools: what each takes is in `tools.json`, in the form that clients get; what each does is here.

use serde::Serialize;
use serde_json::{json, Map, Value};

use super::super::api::{action_named, forbidden, Api, Change, New};
use super::super::export;
use super::super::fields::{Fields, Unknown, WrongField};
use super::super::record::{Record, KEY_ID};
use super::super::requests::{Answer, Order, Patch, Refusal, Request};
use super::{RpcError, INVALID_PARAMS};

/// All tools with their schemas.
pub(super) fn list() -> Value {
    serde_json::from_str(TOOLS).unwrap_or_default()
}

/// Calls the tool that these parameters name. What the master refuses is an answer too, marked as an error, so that an
/// assistant can do better; what does not fit a tool's schema is a fault.
pub(super) fn call<M: From<Request>>(api: &Api<M>, mut params: Map<String, Value>) -> Result<Value, RpcError> {
    let Some(Value::String(name)) = params.remove("name") else {
        return Err(RpcError::new(INVALID_PARAMS, "name: expected a string"));
    };
    let arguments = params.remove("arguments").unwrap_or_else(|| json!({}));
    let fields = Fields::of(arguments, "", Unknown::Refused)
        .map_err(|_| RpcError::new(INVALID_PARAMS, "arguments: expected an object"))?;
    match run(api, &name, fields) {
        Ok(result) => Ok(json!({
            "content": [{ "type": "text", "text": result.to_string() }],
            "structuredContent": result,
            "isError": false,
        })),
        Err(Failure::Refused(refusal)) => {
            Ok(json!({ "content": [{ "type": "text", "text": refusal.text }], "isError": true }))
        }
        Err(Failure::Malformed(malformed)) => Err(RpcError::new(INVALID_PARAMS, malformed.to_string())),
        Err(Failure::Unknown) => {
            Err(RpcError::new(INVALID_PARAMS, format!("Unknown tool: {}", crate::log::printable(&name))))
        }
    }
}

/// Runs a tool; its result is an object.
fn run<M: From<Request>>(api: &Api<M>, name: &str, mut fields: Fields) -> Result<Value, Failure> {
    match name {
        "list_instances" => {
            fields.end()?;
            let mut records = api.list()?;
            records.retain(|record| record.id != KEY_ID);
            shown(&json!({ "instances": records }))
        }
        "get_instance" => {
            let id = id(&mut fields)?;
            fields.end()?;
            shown(&api.one(Order::Get(id?))?)
        }
        "get_instance_logs" => {
            let id = id(&mut fields)?;
            fields.end()?;
            match api.ask(Order::Logs(id?))? {
                Answer::Lines(lines) => shown(&json!({ "lines": lines })),
                _ => Err(Refusal::new(500, "Internal error").into()),
            }
        }
        "create_instance" => {
            let new = New::read(&mut fields)?;
            fields.end()?;
            let New { url, alias } = new.bounded()?;
            shown(&api.one(Order::Create { url, alias })?)
        }
        "update_instance" => update(api, fields),
        "control_instance" => control(api, fields),
        "delete_instance" => {
            let id = id(&mut fields)?;
            fields.end()?;
            let id = id?;
            api.ask(Order::Delete(id.clone()))?;
            shown(&json!({ "deleted": id }))
        }
        "export_instances" => {
            fields.end()?;
            shown(&export::export(&api.list()?))
        }
        "import_instances" => {
            let list = fields.list("instances")?.ok_or_else(|| fields.malformed("instances", "a list"))?;
            fields.end()?;
            shown(&export::import(api, export::entries(list, Unknown::Refused)?)?)
        }
        "tcping" => {
            let target = fields.needed("target")?;
            fields.end()?;
            shown(&api.tcping(&target))
        }
        "get_master_info" => {
            fields.end()?;
            shown(&api.info()?)
        }
        _ => Err(Failure::Unknown),
    }
}

/// Starts, stops, restarts or resets an instance.
fn control<M: From<Request>>(api: &Api<M>, mut fields: Fields) -> Result<Value, Failure> {
    let id = id(&mut fields)?;
    let fault = fields.malformed("action", "start, stop, restart or reset");
    let action = action_named(&fields.needed("action")?).map_err(|_| fault)?;
    fields.end()?;
    shown(&api.one(Order::Patch(id?, Patch { action: Some(action), ..Patch::default() }))?)
}

/// Another URL, then the rest. Nothing is changed if any of it is too long; the rest is not, if the URL is refused.
fn update<M: From<Request>>(api: &Api<M>, mut fields: Fields) -> Result<Value, Failure> {
    let id = id(&mut fields)?;
    let url = fields.text("url")?.filter(|url| !url.is_empty());
    let change = Change::read(&mut fields)?;
    fields.end()?;
    let (id, patch) = (id?, change.checked()?);
    let mut record: Option<Record> = None;
    if let Some(url) = url {
        let New { url, .. } = New { url, alias: String::new() }.bounded()?;
        record = Some(api.one(Order::Replace(id.clone(), url))?);
    }
    match record {
        Some(record) if patch == Patch::default() => shown(&record),
        _ => shown(&api.one(Order::Patch(id, patch))?),
    }
}

/// The id of an instance. The inner error is for the master's own record, which is out of reach here.
fn id(fields: &mut Fields) -> Result<Result<String, Refusal>, WrongField> {
    let id = fields.needed("id")?;
    Ok(if id == KEY_ID { Err(forbidden()) } else { Ok(id) })
}

fn shown<T: Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|_| Refusal::new(500, "Internal error").into())
}

/// Why a tool has no result.
enum Failure {
    /// The master says no.
    Refused(Refusal),
    /// The arguments do not fit the schema.
    Malformed(WrongField),
    /// There is no such tool.
    Unknown,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<WrongField> for Failure {
    fn from(malformed: WrongField) -> Failure {
        Failure::Malformed(malformed)
    }
}

const TOOLS: &str = include_str!("tools.json");
