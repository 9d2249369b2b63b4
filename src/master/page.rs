//! The page at the master: files that are in the binary, compressed, and nothing else. They say nothing that needs a key;
//! what they show they ask the API for, with the key that the user gives the tab.
//!
//! ```text
//!  GET /            --> <prefix>/          where the prefix is not empty
//!  GET <prefix>/    --> index.html --> <prefix>/page/page.css, page.js and its parts --> <prefix>/v1/...
//! ```

use super::call::{Call, Reply};

/// The answer to a call that is for the page; `None` leaves it to the API.
pub(super) fn reply(prefix: &str, call: &Call) -> Option<Reply> {
    if call.method != "GET" {
        return None;
    }
    match call.path.strip_prefix(prefix).and_then(|path| path.strip_prefix('/')) {
        Some("") => FILES.first().map(file),
        Some(path) => FILES[1..].iter().find(|file| Some(file.name) == path.strip_prefix("page/")).map(file),
        None => (call.path == "/").then(|| elsewhere(prefix)),
    }
}

/// A relative place: a proxy in front may have put the whole under a path of its own.
fn elsewhere(prefix: &str) -> Reply {
    let place = format!("{}/", prefix.trim_start_matches('/'));
    Reply::Whole { status: 302, headers: vec![("Location", place)], body: Vec::new() }
}

/// Always compressed: whatever shows the page can read that, and the binary holds one form alone.
fn file(file: &File) -> Reply {
    let headers = vec![
        ("Content-Type", file.kind.into()),
        ("Content-Encoding", "gzip".into()),
        // A newer program has a newer page.
        ("Cache-Control", "no-cache".into()),
        ("Content-Security-Policy", POLICY.into()),
        ("X-Content-Type-Options", "nosniff".into()),
        ("Referrer-Policy", "no-referrer".into()),
    ];
    Reply::Whole { status: 200, headers, body: file.gzip.to_vec() }
}

/// One file of the page.
struct File {
    name: &'static str,
    kind: &'static str,
    /// By `scripts/page-gzip.sh`: a test keeps it equal to the source beside it.
    gzip: &'static [u8],
}

/// All of them, the page itself first.
static FILES: [File; 11] = [
    File { name: "index.html", kind: HTML, gzip: include_bytes!("page/index.html.gz") },
    File { name: "page.css", kind: CSS, gzip: include_bytes!("page/page.css.gz") },
    File { name: "page.js", kind: SCRIPT, gzip: include_bytes!("page/page.js.gz") },
    File { name: "api.js", kind: SCRIPT, gzip: include_bytes!("page/api.js.gz") },
    File { name: "check.js", kind: SCRIPT, gzip: include_bytes!("page/check.js.gz") },
    File { name: "dom.js", kind: SCRIPT, gzip: include_bytes!("page/dom.js.gz") },
    File { name: "form.js", kind: SCRIPT, gzip: include_bytes!("page/form.js.gz") },
    File { name: "list.js", kind: SCRIPT, gzip: include_bytes!("page/list.js.gz") },
    File { name: "log.js", kind: SCRIPT, gzip: include_bytes!("page/log.js.gz") },
    File { name: "master.js", kind: SCRIPT, gzip: include_bytes!("page/master.js.gz") },
    File { name: "words.js", kind: SCRIPT, gzip: include_bytes!("page/words.js.gz") },
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page runs its own files, talks to the master that it came from, and cannot make markup out of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// What a call gets: its status, and its `Location` or its type.
    fn said(prefix: &str, request: &str) -> Option<(u16, String)> {
        let (method, path) = request.split_once(' ').unwrap();
        let call = Call { method: method.into(), path: path.into(), ..Call::default() };
        let Reply::Whole { status, headers, .. } = reply(prefix, &call)? else { panic!("a stream") };
        Some((status, headers[0].1.clone()))
    }

    #[test]
    fn it_answers_get_of_its_own_places_and_nothing_else() {
        let html = Some((200, HTML.to_string()));
        for (prefix, request, wanted) in [
            ("/api", "GET /", Some((302, "api/".to_string()))),
            ("/api", "GET /api/", html.clone()),
            ("/a/b", "GET /", Some((302, "a/b/".into()))),
            ("", "GET /", html.clone()),
            ("/api", "GET /api/page/page.js", Some((200, SCRIPT.into()))),
            ("", "GET /page/page.css", Some((200, CSS.into()))),
            ("/api", "GET /api", None),
            ("/api", "GET /page/page.js", None),
            ("/api", "GET /api/page/index.html", None),
            ("/api", "GET /api/page/", None),
            ("/api", "GET /api/v1/info", None),
            ("/api", "HEAD /", None),
            ("/api", "POST /api/", None),
            ("/api", "GET /apis/", None),
        ] {
            assert_eq!(said(prefix, request), wanted, "{prefix} {request}");
        }
    }

    #[test]
    fn all_of_it_is_small() {
        let sum: usize = FILES.iter().map(|file| file.gzip.len()).sum();
        assert!(sum < MAX_PAGE, "{sum} bytes");
        assert!(FILES.iter().all(|file| file.gzip.starts_with(&[0x1f, 0x8b])));
    }

    #[test]
    fn every_parameter_of_the_program_has_its_words_in_chinese_and_no_other_has() {
        let (_, list) = include_str!("page/words.js").split_once("const parametersZh = {\n").unwrap();
        let (list, _) = list.split_once("\n};").unwrap();
        let named: Vec<&str> =
            list.lines().filter_map(|line| line.trim().split_once(": \"")).map(|(name, _)| name).collect();
        let known: Vec<&str> = config::parameters().iter().map(|row| row.name).collect();
        assert_eq!(named, known);
    }

    #[test]
    fn the_page_has_the_same_words_in_both_languages() {
        let text = include_str!("page/words.js");
        let words = |start: &str| {
            let (_, rest) = text.split_once(start).unwrap();
            let (block, _) = rest.split_once("\n};").unwrap();
            // A name follows the start of a line, or the comma after a word.
            let places = block.match_indices(": \"").map(|(at, _)| &block[..at]);
            places.map(|before| before.rsplit([' ', '\n']).next().unwrap_or_default()).collect::<Vec<_>>()
        };
        let english = words("const en = {");
        assert!(english.len() > 100 && english.contains(&"keyNote"), "{english:?}");
        assert_eq!(english, words("const zh = {"));
    }

    #[test]
    fn no_file_asks_elsewhere_makes_markup_of_text_or_has_anything_inline() {
        let html = include_str!("page/index.html");
        assert!(["style=", "onclick=", "onload=", "<style"].iter().all(|inline| !html.contains(inline)));
        let scripts = [
            include_str!("page/page.js"),
            include_str!("page/api.js"),
            include_str!("page/check.js"),
            include_str!("page/dom.js"),
            include_str!("page/form.js"),
            include_str!("page/list.js"),
            include_str!("page/log.js"),
            include_str!("page/master.js"),
            include_str!("page/words.js"),
        ];
        for text in scripts {
            for wrong in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "https://"] {
                assert!(!text.contains(wrong), "{wrong}");
            }
        }
    }

    /// Bytes of the whole page, compressed.
    const MAX_PAGE: usize = 60 * 1024;
}
