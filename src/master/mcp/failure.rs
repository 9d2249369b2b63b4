//! What comes of a tool: a value to show, or why there is none.

use serde::Serialize;
use serde_json::Value;

use super::super::fields::WrongField;
use super::super::requests::Refusal;

/// The value as a tool's result.
pub(super) fn shown<T: Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|_| Refusal::new(500, "Internal error").into())
}

/// Why a tool has no result.
pub(super) enum Failure {
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
