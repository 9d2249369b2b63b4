//! The tools: what each takes is in `tools.json`, in the form that clients get; what each does is here.

use serde_json::{json, Map, Value};

use super::super::api::{action_named, forbidden, Api, Change, New};
use super::super::fields::{Fields, Unknown, WrongField};
use super::super::record::{Peer, Record, KEY_ID};
use super::super::requests::{Answer, Order, Patch, Refusal, Request};
use super::super::{bounds, export};
use super::failure::{shown, Failure};
use super::{settings, RpcError, INVALID_PARAMS};

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
        Ok(result) => Ok(answered(&name, result)),
        Err(Failure::Refused(refusal)) => {
            Ok(json!({ "content": [{ "type": "text", "text": refusal.text }], "isError": true }))
        }
        Err(Failure::Malformed(malformed)) => Err(RpcError::new(INVALID_PARAMS, malformed.to_string())),
        Err(Failure::Unknown) => {
            Err(RpcError::new(INVALID_PARAMS, format!("Unknown tool: {}", crate::log::printable(&name))))
        }
    }
}

/// A tool's result. Beside `content` it stands once more by the name under which programs of the original's master 2.0 look for it.
fn answered(name: &str, result: Value) -> Value {
    let mut answer = json!({
        "content": [{ "type": "text", "text": result.to_string() }],
        "structuredContent": result,
        "isError": false,
    });
    let beside = match name {
        "list_instances" => Some(("instances", &result["instances"])),
        "get_instance_config" => Some(("config", &result)),
        "tcping" | "tcping_target" => Some(("result", &result)),
        "get_master_info" | "update_master_info" => Some(("info", &result)),
        "get_instance" | "create_instance" | "update_instance" | "control_instance" => Some(("instance", &result)),
        name if settings::sets(name) => Some(("instance", &result)),
        _ => None,
    };
    if let Some((name, value)) = beside {
        answer[name] = value.clone();
    }
    answer
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
        "get_instance_logs" => logs(api, fields),
        "check_instance" => check(api, fields),
        "create_instance" => {
            let new = settings::new(&mut fields)?;
            fields.end()?;
            let New { url, alias } = new?;
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
        "get_instance_config" => {
            let id = id(&mut fields)?;
            fields.end()?;
            settings::describe(&api.one(Order::Get(id?))?.config)
        }
        "export_instances" => export(api, fields),
        "import_instances" => import(api, fields),
        "tcping" | "tcping_target" => {
            let target = fields.needed("target")?;
            fields.end()?;
            shown(&api.tcping(&target))
        }
        "get_master_info" => {
            fields.end()?;
            shown(&api.info()?)
        }
        "update_master_info" => {
            let alias = fields.needed("alias")?;
            fields.end()?;
            bounds::text("Master alias", &alias)?;
            api.ask(Order::Name(alias))?;
            shown(&api.info()?)
        }
        _ if settings::sets(name) => {
            let id = id(&mut fields)?;
            settings::set(api, name, id, fields)
        }
        _ => Err(Failure::Unknown),
    }
}

/// The last lines that an instance logged.
fn logs<M: From<Request>>(api: &Api<M>, mut fields: Fields) -> Result<Value, Failure> {
    let id = id(&mut fields)?;
    fields.end()?;
    match api.ask(Order::Logs(id?))? {
        Answer::Lines(lines) => shown(&json!({ "lines": lines })),
        _ => Err(Refusal::new(500, "Internal error").into()),
    }
}

/// What is wrong with an instance.
fn check<M: From<Request>>(api: &Api<M>, mut fields: Fields) -> Result<Value, Failure> {
    let id = id(&mut fields)?;
    let lang = fields.text("lang")?.unwrap_or_else(|| "en".into());
    let fault = fields.malformed("lang", "en or zh");
    fields.end()?;
    match lang.as_str() {
        "en" | "zh" => shown(&api.check(&id?, &lang)?),
        _ => Err(fault.into()),
    }
}

/// All instances as one document, which is also kept beside the state.
fn export<M: From<Request>>(api: &Api<M>, fields: Fields) -> Result<Value, Failure> {
    fields.end()?;
    let records = api.list()?;
    let document = export::export(&records);
    document.keep(api.config());
    shown(&document)
}

/// Takes instances from a document, or from the one that was kept.
fn import<M: From<Request>>(api: &Api<M>, mut fields: Fields) -> Result<Value, Failure> {
    let list = fields.list("instances")?;
    fields.end()?;
    let entries = match list {
        Some(list) => export::entries(list, Unknown::Refused)?,
        None => export::kept(api.config())?,
    };
    shown(&export::import(api, entries)?)
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
    let mut change = Change::read(&mut fields)?;
    let peer = PeerChange::read(&mut fields)?;
    change.tags = fields.texts("tags")?.or(change.tags);
    fields.end()?;
    let id = id?;
    if let Some(peer) = peer {
        let old =
            change.peer.take().map_or_else(|| api.one(Order::Get(id.clone())).map(|record| record.meta.peer), Ok)?;
        change.peer = Some(peer.applied(old));
    }
    let patch = change.checked()?;
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

/// The other end, of which only what is said changes: so the original's tool has it, where `meta` replaces the whole.
struct PeerChange {
    sid: Option<String>,
    kind: Option<String>,
    alias: Option<String>,
}

impl PeerChange {
    fn read(fields: &mut Fields) -> Result<Option<PeerChange>, WrongField> {
        let Some(mut peer) = fields.object("peer")? else { return Ok(None) };
        let said = PeerChange { sid: peer.text("sid")?, kind: peer.text("type")?, alias: peer.text("alias")? };
        peer.end()?;
        Ok(Some(said))
    }

    fn applied(self, old: Peer) -> Peer {
        let PeerChange { sid, kind, alias } = self;
        Peer { sid: sid.unwrap_or(old.sid), kind: kind.unwrap_or(old.kind), alias: alias.unwrap_or(old.alias) }
    }
}

const TOOLS: &str = include_str!("tools.json");
