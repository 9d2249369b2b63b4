//! JSON as Go's encoder writes it, byte for byte: compact, and with `&`, `<`, `>` as escapes. Scripts cut it with sed.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// One value, without a line end.
pub(super) fn compact<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, GoFormatter));
    debug_assert!(written.is_ok(), "what is written here has text keys and goes to memory");
    bytes
}

/// One value and a line end: the body of an answer.
pub(super) fn line<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = compact(value);
    bytes.push(b'\n');
    bytes
}

/// Escapes what could end a script element or break a line of JavaScript.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['&', '<', '>', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut chars = special.chars();
            if let Some(special) = chars.next() {
                write!(out, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_gos_encoder_does() {
        let text = |text: &str| String::from_utf8(compact(text)).unwrap();
        assert_eq!(text("a?x=1&y=<2>"), r#""a?x=1\u0026y=\u003c2\u003e""#);
        assert_eq!(text("\u{2028}\u{2029}\u{1b}[31m\"\\/"), r#""\u2028\u2029\u001b[31m\"\\/""#);
        assert_eq!(text("ü\u{7f}\t\n"), "\"ü\u{7f}\\t\\n\"");
        assert_eq!(text("&&"), r#""\u0026\u0026""#);
        assert_eq!(text(""), r#""""#);
    }

    #[test]
    fn an_answer_is_compact_and_ends_its_line() {
        assert_eq!(line(&serde_json::json!({"a": [1, null], "b": "&"})), b"{\"a\":[1,null],\"b\":\"\\u0026\"}\n");
    }
}
