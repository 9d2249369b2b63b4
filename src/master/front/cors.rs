//! Which pages of other origins may use the API: the CORS headers of every answer (Fetch standard, 3.3).

use crate::config::Cors;

/// What a request's origin is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Pages of all origins.
    All,
    /// The origin at this place of the list.
    Listed(usize),
    /// No page of another origin.
    None,
}

/// What `cors` grants to a request that names this origin.
pub fn grant(cors: &Cors, origin: Option<&str>) -> Grant {
    match cors {
        Cors::All => Grant::All,
        Cors::None => Grant::None,
        Cors::Origins(list) => {
            let at = origin.and_then(|origin| list.iter().position(|listed| listed.eq_ignore_ascii_case(origin)));
            at.map_or(Grant::None, Grant::Listed)
        }
    }
}

/// The header lines that say so. A browser asks first (OPTIONS) and then for itself; both answers carry them.
pub fn lines(cors: &Cors, grant: Grant) -> String {
    let origin = match (cors, grant) {
        (_, Grant::All) => "*",
        (Cors::Origins(list), Grant::Listed(at)) => list.get(at).map_or("null", String::as_str),
        // Another origin may get another answer: a cache must know.
        (Cors::Origins(_), Grant::None) => return VARY.into(),
        _ => return String::new(),
    };
    let vary = if origin == "*" { "" } else { VARY };
    format!("{ALLOWED}Access-Control-Allow-Origin: {origin}\r\n{vary}")
}

/// What a page may send and ask for.
const ALLOWED: &str = "Access-Control-Allow-Headers: Content-Type, Authorization, X-API-Key, Cache-Control\r\n\
    Access-Control-Allow-Methods: GET, PATCH, POST, PUT, DELETE, OPTIONS\r\n";

/// The answer depends on who asks.
const VARY: &str = "Vary: Origin\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn said(cors: &Cors, origin: Option<&str>) -> String {
        lines(cors, grant(cors, origin))
    }

    #[test]
    fn every_origin_is_allowed_or_none() {
        for origin in [None, Some("https://a.example"), Some("null")] {
            assert_eq!(said(&Cors::All, origin), format!("{ALLOWED}Access-Control-Allow-Origin: *\r\n"));
            assert_eq!(said(&Cors::None, origin), "");
        }
    }

    #[test]
    fn an_origin_of_the_list_is_named_and_no_other_is_told_anything() {
        let list = Cors::Origins(vec!["https://a.example".into(), "http://b.example:8080".into()]);
        let named = |origin: &str| format!("{ALLOWED}Access-Control-Allow-Origin: {origin}\r\n{VARY}");
        assert_eq!(said(&list, Some("http://b.example:8080")), named("http://b.example:8080"));
        assert_eq!(said(&list, Some("HTTPS://A.example")), named("https://a.example"));
        for other in [None, Some("null"), Some("https://a.example.evil"), Some("http://a.example"), Some("*"), Some("")]
        {
            assert_eq!(said(&list, other), VARY);
        }
    }
}
