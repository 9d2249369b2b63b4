//! One request to the API and its answer, whatever carries them.

use std::io::{self, Write};

/// One whole request: nothing more of it is to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The method, as it was sent.
    pub method: String,
    /// The path, percent signs decoded, without the query.
    pub path: String,
    /// The query, as it was sent, without its question mark; empty if there is none.
    pub query: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty if there is none.
    pub body: Vec<u8>,
}

impl Call {
    /// The first header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// The answer to a call. The headers that every answer carries are added by its sender.
pub enum Reply {
    /// Known as a whole.
    Whole {
        /// The HTTP status.
        status: u16,
        /// `Content-Type`, `Content-Encoding` and the like.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Written piece by piece, as long as there is a reader: status 200, chunked. Runs on a thread of its own.
    Stream {
        /// As in [`Reply::Whole`].
        headers: Vec<(&'static str, String)>,
        /// What writes it.
        source: Source,
    },
}

/// Writes a stream. Each write goes out at once as it is; an error means that the reader has gone.
pub type Source = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// What answers calls; called from several threads at once.
pub trait Answer: Send + Sync + 'static {
    /// The answer to one call.
    fn answer(&self, call: Call) -> Reply;
}
