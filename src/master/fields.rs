//! What a request says, field by field: each is there with the right type, or not there; `null` is not there.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// The fields of one JSON object. Each is taken out once; what is not taken is unknown.
#[derive(Debug)]
pub(super) struct Fields {
    fields: Map<String, Value>,
    /// Where this object is in the request: `meta.peer.`; empty for the whole.
    place: String,
    unknown: Unknown,
}

/// What becomes of fields that are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// They are ignored.
    Ignored,
    /// They are a fault.
    Refused,
}

/// A request that does not have the form it should have: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongField {
    place: String,
    expected: &'static str,
}

impl Fields {
    /// The object that these bytes are.
    pub fn parse(bytes: &[u8]) -> Result<Fields, WrongField> {
        let value = serde_json::from_slice(bytes).map_err(|_| WrongField::new("", "JSON"))?;
        Fields::of(value, "", Unknown::Ignored)
    }

    /// The object that this value, found at `place`, is.
    pub fn of(value: Value, place: &str, unknown: Unknown) -> Result<Fields, WrongField> {
        let dot = if place.is_empty() { "" } else { "." };
        match value {
            Value::Object(fields) => Ok(Fields { fields, place: format!("{place}{dot}"), unknown }),
            _ => Err(WrongField::new(place, "an object")),
        }
    }

    /// A field of any type.
    pub fn any(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, WrongField> {
        self.take(name, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// A text that must be there, and not be empty.
    pub fn needed(&mut self, name: &str) -> Result<String, WrongField> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| self.malformed(name, "a string that is not empty"))
    }

    /// True or false.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, WrongField> {
        self.take(name, "true or false", |value| value.as_bool())
    }

    /// A list of anything.
    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, WrongField> {
        self.take(name, "a list", |value| match value {
            Value::Array(list) => Some(list),
            _ => None,
        })
    }

    /// Names and texts.
    pub fn texts(&mut self, name: &str) -> Result<Option<BTreeMap<String, String>>, WrongField> {
        self.take(name, "an object of strings", |value| match value {
            Value::Object(fields) => {
                fields.into_iter().map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
            }
            _ => None,
        })
    }

    /// An object inside.
    pub fn object(&mut self, name: &str) -> Result<Option<Fields>, WrongField> {
        let place = format!("{}{name}", self.place);
        self.any(name).map(|value| Fields::of(value, &place, self.unknown)).transpose()
    }

    /// Everything known has been taken: what is left is ignored or a fault.
    pub fn end(self) -> Result<(), WrongField> {
        match self.fields.keys().next() {
            Some(name) if self.unknown == Unknown::Refused => Err(self.malformed(name, "no such field")),
            _ => Ok(()),
        }
    }

    /// The fault of one field.
    pub fn malformed(&self, name: &str, expected: &'static str) -> WrongField {
        WrongField { place: format!("{}{name}", self.place), expected }
    }

    fn take<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, WrongField> {
        match self.any(name) {
            Some(value) => read(value).map(Some).ok_or_else(|| self.malformed(name, expected)),
            None => Ok(None),
        }
    }
}

impl WrongField {
    fn new(place: &str, expected: &'static str) -> WrongField {
        WrongField { place: place.into(), expected }
    }
}

impl fmt::Display for WrongField {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "expected {}", self.expected),
            place => write!(f, "{}: expected {}", crate::log::printable(place), self.expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    fn told<T: fmt::Debug>(result: Result<T, WrongField>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn fields_are_read_by_type_and_null_is_absent() {
        let mut all = fields(r#"{"a":"x","b":true,"c":[1],"d":{"k":"v"},"e":{"f":"y"},"n":null}"#);
        assert_eq!(all.text("a"), Ok(Some("x".into())));
        assert_eq!(all.flag("b"), Ok(Some(true)));
        assert_eq!(all.list("c"), Ok(Some(vec![Value::from(1)])));
        assert_eq!(all.texts("d"), Ok(Some([("k".to_string(), "v".to_string())].into())));
        assert_eq!(all.object("e").unwrap().unwrap().text("f"), Ok(Some("y".into())));
        assert_eq!((all.text("n"), all.flag("n"), all.list("z")), (Ok(None), Ok(None), Ok(None)));
        assert_eq!(all.end(), Ok(()));
    }

    #[test]
    fn a_wrong_type_is_told_with_its_place() {
        let mut all = fields(r#"{"a":5,"b":"true","c":{},"d":{"k":null},"e":{"f":[]},"g":[]}"#);
        assert_eq!(told(all.text("a")), "a: expected a string");
        assert_eq!(told(all.flag("b")), "b: expected true or false");
        assert_eq!(told(all.list("c")), "c: expected a list");
        assert_eq!(told(all.texts("d")), "d: expected an object of strings");
        assert_eq!(told(all.object("e").unwrap().unwrap().text("f")), "e.f: expected a string");
        assert_eq!(told(all.object("g")), "g: expected an object");
        assert_eq!(told(fields("{}").needed("url")), "url: expected a string that is not empty");
        assert_eq!(told(fields(r#"{"url":""}"#).needed("url")), "url: expected a string that is not empty");
        assert_eq!(fields(r#"{"more":1}"#).end(), Ok(()));
        let strict = Fields::of(serde_json::json!({"e": {"more": null}}), "", Unknown::Refused).unwrap().object("e");
        assert_eq!(told(strict.unwrap().unwrap().end()), "e.more: expected no such field");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "{", "{bad", "null", "[]", "\"x\"", "5", "{} x", "\u{feff}{}"] {
            assert!(Fields::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Fields::parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(Fields::parse(&[b'['; 100_000]).is_err());
    }
}
