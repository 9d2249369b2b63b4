//! The REST API: which path and method asks for what, and what the answer looks like.
//!
//! ```text
//!  Call --Route--> known? --OPTIONS: done--> key? --> method? --> body --Order--> supervisor --> Reply
//!         404                 200            401       405        400             404 409 ...
//! ```
//!
//! Everything is under the master's prefix: REST in `/v1`, the Model Context Protocol (`mcp.rs`) at `/v2`.

use serde::Serialize;

use super::api::{
    empty, forbidden, json_bytes, no_page, refused, unexpected, value, with_header, wrong_method, Api, Change, New,
};
use super::bans::query_value;
use super::call::{self, Call, Reply};
use super::fields::Fields;
use super::front::answer::{RIGHT, VERDICT, WRONG};
#[cfg(feature = "page")]
use super::page;
use super::record::KEY_ID;
use super::requests::{Answer, Order, Refusal, Request};
use super::{bans, bounds, export, mcp, metrics, openapi, stream};
use crate::config;

impl<M: From<Request> + Send + 'static> call::Answer for Api<M> {
    fn answer(&self, call: Call) -> Reply {
        #[cfg(feature = "page")]
        if let Some(reply) = page::reply(&self.config().prefix, &call) {
            return reply;
        }
        let Some(route) = Route::of(&self.config().prefix, &call.path) else { return no_page() };
        if call.method == "OPTIONS" {
            return empty(200);
        }
        if !route.is_open() {
            // Monitoring systems know no other header; elsewhere the original takes no bearer.
            let bearer = || call.header("authorization")?.strip_prefix("Bearer ");
            let own = call.header("x-api-key");
            let key = if matches!(route, Route::Metrics) { own.or_else(bearer) } else { own };
            let key = key.filter(|key| !key.is_empty());
            if let Err(refusal) = self.ask(Order::Admit(key.map(str::to_owned))) {
                let reply = refused(&refusal);
                let is_wrong = key.is_some() && refusal.status == UNAUTHORIZED;
                return if is_wrong { with_header(reply, VERDICT, WRONG.into()) } else { reply };
            }
            return with_header(self.answer_admitted(&route, &call), VERDICT, RIGHT.into());
        }
        self.answer_admitted(&route, &call)
    }
}

impl<M: From<Request>> Api<M> {
    /// The answer to one who may ask.
    fn answer_admitted(&self, route: &Route, call: &Call) -> Reply {
        if matches!(route, Route::Instance("" | "/")) {
            return refused(&Refusal::new(400, "Instance ID is required"));
        }
        if !route.methods().contains(&call.method.as_str()) {
            return wrong_method(route.methods());
        }
        let reply = self.serve(route, call).unwrap_or_else(|refusal| refused(&refusal));
        match self.unsaved() {
            Some(why) => with_header(reply, UNSAVED, why),
            None => reply,
        }
    }
}

/// What there is to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Instances,
    Instance(&'a str),
    Logs(&'a str),
    Check(&'a str),
    Events,
    Info,
    Bans,
    Metrics,
    Tcping,
    Export,
    Import,
    Parameters,
    OpenApi,
    Docs,
    Mcp,
}

impl<'a> Route<'a> {
    fn of(prefix: &str, path: &'a str) -> Option<Route<'a>> {
        Some(match path.strip_prefix(prefix)? {
            "/v1/instances" => Route::Instances,
            "/v1/events" => Route::Events,
            "/v1/info" => Route::Info,
            "/v1/bans" => Route::Bans,
            "/v1/metrics" => Route::Metrics,
            "/v1/tcping" => Route::Tcping,
            "/v1/export" => Route::Export,
            "/v1/import" => Route::Import,
            "/v1/parameters" => Route::Parameters,
            "/v1/openapi.json" => Route::OpenApi,
            "/v1/docs" => Route::Docs,
            "/v2" => Route::Mcp,
            path => {
                let id = path.strip_prefix("/v1/instances/")?;
                match id.rsplit_once('/') {
                    Some((id, "logs")) if !id.is_empty() => Route::Logs(id),
                    Some((id, "check")) if !id.is_empty() => Route::Check(id),
                    _ => Route::Instance(id),
                }
            }
        })
    }

    fn methods(&self) -> &'static [&'static str] {
        match self {
            Route::Instances | Route::Info => &["GET", "POST"],
            Route::Instance(_) => &["GET", "PATCH", "PUT", "DELETE"],
            Route::Import | Route::Mcp => &["POST"],
            Route::Bans => &["GET", "DELETE"],
            Route::Logs(_)
            | Route::Check(_)
            | Route::Events
            | Route::Metrics
            | Route::Tcping
            | Route::Export
            | Route::Parameters
            | Route::OpenApi
            | Route::Docs => &["GET"],
        }
    }

    /// Whether it needs no key.
    fn is_open(&self) -> bool {
        matches!(self, Route::Parameters | Route::OpenApi | Route::Docs)
    }
}

impl<M: From<Request>> Api<M> {
    fn serve(&self, route: &Route, call: &Call) -> Result<Reply, Refusal> {
        let get = call.method == "GET";
        match *route {
            Route::Instances if get => Ok(value(200, &self.list()?)),
            Route::Instances => self.create(call),
            Route::Instance(id) => self.instance(id, call),
            Route::Logs(id) => match self.ask(Order::Logs(id.into()))? {
                Answer::Lines(lines) => Ok(value(200, &lines)),
                other => Err(unexpected(&other)),
            },
            Route::Check(id) => Ok(value(200, &self.check(id, lang(&call.query)?)?)),
            Route::Events => match self.ask(Order::Listen)? {
                Answer::Events(events) => Ok(stream::reply(events)),
                other => Err(unexpected(&other)),
            },
            Route::Info if get => Ok(value(200, &self.info()?)),
            Route::Info => self.rename(call),
            Route::Bans => bans::reply(self, call),
            Route::Metrics => metrics::reply(self),
            Route::Tcping => Ok(value(200, &self.tcping(&target(&call.query).ok_or_else(no_target)?))),
            Route::Export => Ok(value(200, &export::export(&self.list()?))),
            Route::Import => {
                let entries = export::read(&call.body).map_err(|_| bad_body())?;
                Ok(value(200, &export::import(self, entries)?))
            }
            Route::Parameters => Ok(value(200, &Parameters { parameters: config::parameters() })),
            Route::OpenApi => Ok(json_bytes(200, self.document().to_vec())),
            Route::Docs => Ok(openapi::docs(call.header("accept-encoding").unwrap_or_default())),
            Route::Mcp => Ok(mcp::reply(self, call)),
        }
    }

    fn create(&self, call: &Call) -> Result<Reply, Refusal> {
        let New { url, alias } = read(&call.body, New::read)?.bounded()?;
        Ok(value(201, &self.one(Order::Create { url, alias })?))
    }

    fn instance(&self, id: &str, call: &Call) -> Result<Reply, Refusal> {
        // Whether there is such an instance comes before what the body says of it.
        let found = self.one(Order::Get(id.into()))?;
        let id = id.to_owned();
        match call.method.as_str() {
            "PATCH" => {
                let patch = read(&call.body, Change::read_with_action)?.checked()?;
                Ok(value(200, &self.one(Order::Patch(id, patch))?))
            }
            "PUT" | "DELETE" if id == KEY_ID => Err(forbidden()),
            "PUT" => {
                let url = read(&call.body, |fields| fields.needed("url"))?;
                bounds::url(&url)?;
                Ok(value(200, &self.one(Order::Replace(id, url))?))
            }
            "DELETE" => self.ask(Order::Delete(id)).map(|_| empty(204)),
            _ => Ok(value(200, &found)),
        }
    }

    fn rename(&self, call: &Call) -> Result<Reply, Refusal> {
        let missing = |fields: &mut Fields| fields.text("alias")?.ok_or_else(|| fields.malformed("alias", "a string"));
        let alias = read(&call.body, missing)?;
        bounds::text("Master alias", &alias)?;
        self.ask(Order::Name(alias))?;
        Ok(value(200, &self.info()?))
    }
}

/// What `/parameters` answers.
#[derive(Serialize)]
struct Parameters {
    parameters: Vec<config::ParameterInfo>,
}

/// Reads a body; whatever is wrong with its form gets one answer.
fn read<T, E>(body: &[u8], read: impl FnOnce(&mut Fields) -> Result<T, E>) -> Result<T, Refusal> {
    let mut fields = Fields::parse(body).map_err(|_| bad_body())?;
    read(&mut fields).map_err(|_| bad_body())
}

/// The target in a query; `None` if there is none, or an empty one.
fn target(query: &str) -> Option<String> {
    query_value(query, "target").ok().flatten().filter(|target| !target.is_empty())
}

/// The language in a query; English if there is none.
fn lang(query: &str) -> Result<&str, Refusal> {
    match query.split('&').find_map(|pair| pair.strip_prefix("lang=")).unwrap_or("en") {
        lang @ ("en" | "zh") => Ok(lang),
        _ => Err(Refusal::new(400, "Unknown language: expected en or zh")),
    }
}

fn bad_body() -> Refusal {
    Refusal::new(400, "Invalid request body")
}

fn no_target() -> Refusal {
    Refusal::new(400, "Target address required")
}

/// On every answer while changes are not on the disk: why.
const UNSAVED: &str = "X-NodePass-Unsaved";

/// The status of an answer to one who may not ask.
const UNAUTHORIZED: u16 = 401;

#[cfg(test)]
mod tests;
