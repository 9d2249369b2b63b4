//! The API's own description, and a page that shows it. Both are in the binary and need no key and no internet.

use super::call::Reply;

/// The OpenAPI document of an API with this prefix.
pub(super) fn document(prefix: &str) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    DOCUMENT.replacen("{prefix}", prefix, 1).replacen("{version}", version, 1).into_bytes()
}

/// The page, compressed if the client says that it can read that.
pub(super) fn docs(accept_encoding: &str) -> Reply {
    let mut headers = vec![
        ("Content-Type", "text/html; charset=utf-8".into()),
        ("Content-Security-Policy", POLICY.into()),
        ("Vary", "Accept-Encoding".into()),
    ];
    let body = if accepts_gzip(accept_encoding) {
        headers.push(("Content-Encoding", "gzip".into()));
        PAGE_GZIP
    } else {
        PAGE.as_bytes()
    };
    Reply::Whole { status: 200, headers, body: body.to_vec() }
}

/// Whether the list names gzip, or anything, and does not forbid it.
fn accepts_gzip(list: &str) -> bool {
    list.split(',').any(|word| {
        let (name, weight) = word.split_once(';').unwrap_or((word, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok()).unwrap_or(1.0);
        matches!(name.trim(), "gzip" | "x-gzip") && weight > 0.0
    })
}

/// OpenAPI 3.1.1, with `{prefix}` and `{version}` to be filled in.
static DOCUMENT: &str = match std::str::from_utf8(&DENSE) {
    Ok(text) => text,
    Err(_) => panic!("text"),
};

static DENSE: [u8; dense::<0>(SOURCE).1] = dense(SOURCE).0;

const SOURCE: &[u8] = include_bytes!("openapi.json");

/// JSON without the blanks between its words, as far as it fits, and how long that is.
const fn dense<const LEN: usize>(json: &[u8]) -> ([u8; LEN], usize) {
    let (mut out, mut len, mut at, mut is_text) = ([0; LEN], 0, 0, false);
    while at < json.len() {
        let byte = json[at];
        if byte == b'"' && !(is_text && json[at - 1] == b'\\') {
            is_text = !is_text;
        }
        if is_text || !byte.is_ascii_whitespace() {
            if len < LEN {
                out[len] = byte;
            }
            len += 1;
        }
        at += 1;
    }
    (out, len)
}

/// Everything inline.
const PAGE: &str = include_str!("docs.html");

/// The same, by `scripts/page-gzip.sh`: a test keeps them equal.
const PAGE_GZIP: &[u8] = include_bytes!("docs.html.gz");

/// The page may run what is in it, and talk to the master that it came from: nothing else.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_json_with_prefix_and_version() {
        let document: serde_json::Value = serde_json::from_slice(&document("/a/b")).unwrap();
        assert_eq!(document["openapi"], "3.1.1");
        assert_eq!(document["servers"][0]["url"], "/a/b");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn the_document_is_the_source_without_blanks_between_words() {
        let values =
            [DOCUMENT.as_bytes(), SOURCE].map(|text| serde_json::from_slice::<serde_json::Value>(text).unwrap());
        assert_eq!(values[0], values[1]);
        assert_eq!(DOCUMENT.lines().count(), 1);
        assert!(
            !SOURCE.windows(3).any(|bytes| bytes == br#"\\""#),
            "a backslash before the end of a text is not understood"
        );
    }

    #[test]
    fn gzip_is_sent_to_those_who_accept_it() {
        for yes in ["gzip", "gzip, deflate, br", "deflate,gzip;q=0.5", "br, x-gzip"] {
            assert!(accepts_gzip(yes), "{yes}");
        }
        for no in ["", "identity", "gzip;q=0", "br", "gzip;q=0.0", "ungzip"] {
            assert!(!accepts_gzip(no), "{no}");
        }
    }

    #[test]
    fn the_page_is_small_and_asks_no_other_server() {
        assert!(PAGE.len() < 16 * 1024 && PAGE_GZIP.len() < 6 * 1024, "{} {}", PAGE.len(), PAGE_GZIP.len());
        assert_eq!(PAGE_GZIP[..2], [0x1f, 0x8b]);
        for foreign in ["http://", "https://", "src=\"//", "@import", "url("] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
    }
}
