//! The Model Context Protocol, so that an assistant can run the master: JSON-RPC 2.0 over HTTP, one request and one
//! answer at a time, no sessions.
//!
//! ```text
//!  POST {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_instances","arguments":{}}}
//!  200  {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"..."}],"structuredContent":{...}}}
//! ```
//!
//! The master's own record, and with it the API key, is out of its reach.

mod failure;
mod settings;
mod tools;

use serde_json::{json, Map, Value};

use super::api::{empty, value, Api};
use super::call::{Call, Reply};
use super::requests::Request;

/// Answers one message.
pub(super) fn reply<M: From<Request>>(api: &Api<M>, call: &Call) -> Reply {
    let message = match RpcMessage::read(&call.body) {
        Ok(message) => message,
        Err(fault) => return failed(400, &Value::Null, &fault),
    };
    let (id, method, params) = match message {
        // There is nothing that we do on a notification, and nothing that we ask.
        RpcMessage::Notice => return empty(202),
        RpcMessage::Request { id, method, params: Some(params) } => (id, method, params),
        RpcMessage::Request { id, params: None, .. } => {
            return failed(400, &id, &RpcError::new(INVALID_PARAMS, "params: expected an object"));
        }
    };
    if let Some(version) = call.header("mcp-protocol-version") {
        if method != "initialize" && !VERSIONS.contains(&version) {
            return failed(400, &id, &RpcError::new(INVALID_REQUEST, "Unsupported protocol version"));
        }
    }
    match serve(api, &method, params) {
        Ok(result) => value(200, &json!({ "jsonrpc": "2.0", "id": id, "result": result })),
        Err(fault) => failed(200, &id, &fault),
    }
}

fn serve<M: From<Request>>(api: &Api<M>, method: &str, params: Map<String, Value>) -> Result<Value, RpcError> {
    match method {
        "initialize" => initialize(&params),
        "ping" => Ok(json!({})),
        "tools/list" => match params.get("cursor") {
            None => Ok(json!({ "tools": tools::list() })),
            // The list has one page, and we have given no cursor.
            Some(_) => Err(RpcError::new(INVALID_PARAMS, "Invalid cursor")),
        },
        "tools/call" => tools::call(api, params),
        _ => Err(RpcError::new(UNKNOWN_METHOD, format!("Method not found: {}", crate::log::printable(method)))),
    }
}

/// The version of the protocol that the client asks for if we know it, else ours.
fn initialize(params: &Map<String, Value>) -> Result<Value, RpcError> {
    let Some(Value::String(asked)) = params.get("protocolVersion") else {
        return Err(RpcError::new(INVALID_PARAMS, "protocolVersion: expected a string"));
    };
    let version = VERSIONS.iter().find(|version| *version == asked).unwrap_or(&VERSIONS[0]);
    Ok(json!({
        "protocolVersion": version,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": { "name": "nodepass", "title": "NodePass master", "version": env!("CARGO_PKG_VERSION") },
        "instructions": INSTRUCTIONS,
    }))
}

/// What a client sends.
#[derive(Debug)]
enum RpcMessage {
    /// Wants an answer. No `params` means that they are not an object; empty ones may be left out.
    Request { id: Value, method: String, params: Option<Map<String, Value>> },
    /// Does not: a notification, or an answer to something that we never asked.
    Notice,
}

impl RpcMessage {
    fn read(body: &[u8]) -> Result<RpcMessage, RpcError> {
        let invalid = |text: &str| Err(RpcError::new(INVALID_REQUEST, text));
        let mut fields = match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => fields,
            Ok(Value::Array(_)) => return invalid("Invalid request: batches are not part of this protocol"),
            Ok(_) => return invalid("Invalid request: expected an object"),
            Err(_) => return Err(RpcError::new(PARSE_ERROR, "Parse error")),
        };
        if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return invalid("Invalid request: expected jsonrpc to be \"2.0\"");
        }
        let id = match fields.remove("id") {
            Some(id @ Value::String(_)) => Some(id),
            Some(Value::Number(number)) if !number.is_f64() => Some(Value::Number(number)),
            Some(_) => return invalid("Invalid request: expected id to be a string or a whole number"),
            None => None,
        };
        let params = match fields.remove("params") {
            Some(Value::Object(params)) => Some(params),
            Some(_) => None,
            None => Some(Map::new()),
        };
        match (fields.remove("method"), id) {
            (Some(Value::String(method)), Some(id)) => Ok(RpcMessage::Request { id, method, params }),
            (Some(Value::String(_)), None) if params.is_none() => {
                invalid("Invalid request: expected params to be an object")
            }
            (Some(Value::String(_)), None) => Ok(RpcMessage::Notice),
            (None, Some(_)) if fields.contains_key("result") || fields.contains_key("error") => Ok(RpcMessage::Notice),
            _ => invalid("Invalid request: expected method to be a string"),
        }
    }
}

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RpcError {
    code: i32,
    text: String,
}

impl RpcError {
    fn new(code: i32, text: impl Into<String>) -> RpcError {
        RpcError { code, text: text.into() }
    }
}

fn failed(status: u16, id: &Value, fault: &RpcError) -> Reply {
    value(status, &json!({ "jsonrpc": "2.0", "id": id, "error": { "code": fault.code, "message": fault.text } }))
}

/// Versions of the protocol, the newest first. They differ in nothing that is used here.
const VERSIONS: [&str; 2] = ["2025-11-25", "2025-06-18"];

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const UNKNOWN_METHOD: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;

/// What an assistant should know before it begins.
const INSTRUCTIONS: &str = "NodePass carries TCP and UDP between two networks. This master runs instances, each a \
    server:// or client:// URL such as server://key@0.0.0.0:10101/0.0.0.0:8080?mode=1&tls=1. A server and a client \
    with the same key and tunnel address make a tunnel; a client with mode=1 forwards alone. Counters are bytes.";
