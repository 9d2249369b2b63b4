//! What reaches the supervisor, from the API, from its processes and from the system.

use std::sync::Arc;

use super::requests::Request;
use crate::logic::bans::BanNotice;

/// Everything that reaches the supervisor.
pub enum Mail {
    /// The API wants something.
    Ask(Request),
    /// The process of this instance said something.
    Said(Arc<str>),
    /// The process of this instance will say nothing more.
    Quiet(Arc<str>),
    /// The API has banned a source, or does no more.
    Banned(BanNotice),
    /// The system wants something of the program.
    Signal(i32),
}

impl From<Request> for Mail {
    fn from(request: Request) -> Mail {
        Mail::Ask(request)
    }
}
