//! The forms an answer can have.

use serde::Serialize;

use super::super::call::Reply;
use super::super::json;
use super::super::requests::Refusal;

/// A value, as JSON.
pub(crate) fn value<T: Serialize + ?Sized>(status: u16, value: &T) -> Reply {
    json_bytes(status, json::line(value))
}

/// JSON that is written already.
pub(crate) fn json_bytes(status: u16, body: Vec<u8>) -> Reply {
    Reply::Whole { status, headers: vec![content_type("application/json")], body }
}

/// A status alone.
pub(crate) fn empty(status: u16) -> Reply {
    Reply::Whole { status, headers: Vec::new(), body: Vec::new() }
}

/// `{"error":"text","message":"text"}`: programs look for the one or the other.
pub(crate) fn refused(refusal: &Refusal) -> Reply {
    #[derive(Serialize)]
    struct ErrorBody<'a> {
        error: &'a str,
        message: &'a str,
    }
    value(refusal.status, &ErrorBody { error: &refusal.text, message: &refusal.text })
}

/// The path is there, the method is not.
pub(crate) fn wrong_method(allowed: &[&str]) -> Reply {
    let reply = refused(&Refusal::new(405, "Method not allowed"));
    with_header(reply, "Allow", format!("{}, OPTIONS", allowed.join(", ")))
}

/// The same answer with one header more.
pub(crate) fn with_header(mut reply: Reply, name: &'static str, value: String) -> Reply {
    let (Reply::Whole { headers, .. } | Reply::Stream { headers, .. }) = &mut reply;
    headers.push((name, value));
    reply
}

/// There is no such path; in the original's words.
pub(crate) fn no_page() -> Reply {
    let headers = vec![content_type("text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff".into())];
    Reply::Whole { status: 404, headers, body: b"404 page not found\n".to_vec() }
}

/// The header of that name.
pub(crate) fn content_type(name: &str) -> (&'static str, String) {
    ("Content-Type", name.into())
}
