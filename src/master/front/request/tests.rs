use super::*;
use crate::testing::Dice;

/// Everything at once: what comes of it.
fn look(bytes: impl AsRef<[u8]>) -> Result<Progress, Refusal> {
    let mut reader = Reader::default();
    reader.feed(bytes.as_ref());
    reader.take_request()
}

fn whole(bytes: impl AsRef<[u8]>) -> Request {
    match look(bytes.as_ref()) {
        Ok(Progress::Whole(request)) => *request,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(bytes.as_ref())),
    }
}

fn get(line: &str, headers: &str) -> String {
    format!("{line}\r\nHost: x\r\n{headers}\r\n")
}

#[test]
fn what_two_programs_could_read_differently_is_refused() {
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let table: &[(&str, &str, u16)] = &[
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("the same length twice", "Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("a list of lengths", "Content-Length: 5, 5\r\n", 400),
        ("a signed length", "Content-Length: +5\r\n", 400),
        ("a negative length", "Content-Length: -5\r\n", 400),
        ("a hexadecimal length", "Content-Length: 0x5\r\n", 400),
        ("no length", "Content-Length: \r\n", 400),
        ("a length with a space", "Content-Length: 5 5\r\n", 400),
        ("a length with a quirk", "Content-Length: \u{b}5\r\n", 400),
        ("length and chunks", &format!("{length}{chunked}"), 400),
        ("chunks and length", &format!("{chunked}{length}"), 400),
        ("chunks twice", &format!("{chunked}{chunked}"), 400),
        ("another coding", "Transfer-Encoding: gzip\r\n", 501),
        ("a coding over chunks", "Transfer-Encoding: gzip, chunked\r\n", 501),
        ("identity", "Transfer-Encoding: identity\r\n", 501),
        ("a coding that looks like chunks", "Transfer-Encoding: xchunked\r\n", 501),
        ("a quoted coding", "Transfer-Encoding: \"chunked\"\r\n", 501),
        ("an empty coding", "Transfer-Encoding:\r\n", 501),
        ("a coding with a vertical tab", "Transfer-Encoding: \u{b}chunked\r\n", 400),
        ("a space before the colon", "Content-Length : 5\r\n", 400),
        ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n", 400),
        ("a folded line", "X: a\r\n b\r\n", 400),
        ("a folded length", "Content-Length:\r\n 5\r\n", 400),
        ("a leading space", " Content-Length: 5\r\n", 400),
        ("no colon", "Content-Length\r\n", 400),
        ("no name", ": 5\r\n", 400),
        ("a bare carriage return", "X: a\rContent-Length: 5\r\n", 400),
        ("a NUL", "X: a\0b\r\n", 400),
        ("two hosts", "Host: y\r\n", 400),
        ("a host in other letters", "Host: \u{fc}\r\n", 400),
        ("another expectation", "Expect: 200-ok\r\n", 417),
    ];
    for (what, headers, status) in table {
        let said = look(get("POST / HTTP/1.1", headers) + "hello");
        assert_eq!(said.map_err(|refusal| refusal.0), Err(*status), "{what}");
    }
    let old = look(get("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n");
    assert_eq!(old.map_err(|refusal| refusal.0), Err(400), "HTTP/1.0 knows no chunks");
    assert_eq!(look("GET / HTTP/1.1\r\n\r\n"), Err(HOST), "no host");
    assert_eq!(whole("GET / HTTP/1.0\r\n\r\n").head.target, "/", "which HTTP/1.0 does not know");
}

#[test]
fn lines_that_are_no_request_lines_are_refused() {
    for (line, status) in [
        ("GET / HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/1.1 ", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET /a b HTTP/1.1", 505),
        ("GET /", 400),
        ("GET", 400),
        ("GET x HTTP/1.1", 400),
        ("CONNECT x:80 HTTP/1.1", 400),
        ("GET ftp://x/ HTTP/1.1", 400),
        ("G\u{e4}T / HTTP/1.1", 400),
        ("G(T / HTTP/1.1", 400),
        (" GET / HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET /%00 HTTP/1.1", 400),
        ("GET /%0 HTTP/1.1", 400),
        ("GET /%g0 HTTP/1.1", 400),
        ("GET /%ff HTTP/1.1", 400),
    ] {
        assert_eq!(look(get(line, "")).map_err(|refusal| refusal.0), Err(status), "{line:?}");
    }
}

#[test]
fn a_target_becomes_a_path_and_a_query_whatever_its_form() {
    for (target, becomes) in [
        ("/", "/"),
        ("*", "*"),
        ("/a?b?c", "/a?b?c"),
        ("http://host", "/"),
        ("HTTP://host:80?q", "/?q"),
        ("https://user@host/a?http://b/", "/a?http://b/"),
        ("//host/a", "//host/a"),
        ("/tcping?target=[::1]:80", "/tcping?target=[::1]:80"),
        ("/********/%2F%41", "/********/%2F%41"),
        ("/ü?ü", "/%C3%BC?%C3%BC"),
        ("/?%zz%00", "/?%zz%00"),
    ] {
        assert_eq!(whole(get(&format!("GET {target} HTTP/1.1"), "")).head.target, becomes);
    }
    assert_eq!(decoded("/a%2fb%252F+%C3%BC[:]").as_deref(), Some("/a/b%2F+ü[:]"));
    assert_eq!((path_of("/a?b?c"), query_of("/a?b?c"), query_of("/a")), ("/a", "b?c", ""));
}

#[test]
fn what_is_handed_on_is_one_plain_request() {
    let request = whole(
        "PATCH http://h/x?y HTTP/1.1\r\nHoSt: h\r\nConnection: keep-alive, X\r\nTE: trailers\r\nUpgrade: h2c\r\nX-API-Key:  k\t\r\n\
         Cookie: \u{fc}\r\nTransfer-Encoding: Chunked\r\nKeep-Alive: 5\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nContent-Length: 9\r\n\r\n",
    );
    assert_eq!(
        String::from_utf8(request.to_bytes()).unwrap(),
        "PATCH /x?y HTTP/1.1\r\nconnection: close\r\nhost: h\r\nx-api-key: k\r\ncontent-length: 5\r\n\r\nabcde"
    );
    let old = whole("DELETE / HTTP/1.0\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(old.to_bytes(), b"DELETE / HTTP/1.0\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
}

#[test]
fn a_byte_at_a_time_is_as_good_as_all_at_once_and_what_follows_is_kept() {
    let one = get("POST /one HTTP/1.1", "Transfer-Encoding: chunked\r\n") + "A;x\r\n0123456789\r\n0\r\nT: t\r\n\r\n";
    let two = "\r\n\n".to_owned() + &get("POST /two HTTP/1.1", "Content-Length: 4\r\n") + "\r\n\r\n";
    let three = "GET /three HTTP/1.0\n\n";
    let all = format!("{one}{two}{three}");
    let expected = [whole(&one), whole(&two), whole(three)];
    for size in [1, 2, 3, 7, 50, all.len()] {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        for piece in all.as_bytes().chunks(size) {
            reader.feed(piece);
            while let Progress::Whole(request) = reader.take_request().unwrap() {
                found.push(*request);
            }
        }
        assert!(reader.is_empty());
        assert_eq!(found, expected, "{size} at a time");
    }
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_unless_it_has_begun() {
    let ask = |line, headers: &str| look(get(line, &format!("Expect: 100-Continue\r\n{headers}")));
    assert_eq!(ask("POST / HTTP/1.1", "Content-Length: 5\r\n"), Ok(Progress::Expected));
    assert_eq!(ask("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n"), Ok(Progress::Expected));
    assert_eq!(ask("POST / HTTP/1.0", "Content-Length: 5\r\n"), Ok(Progress::More), "it does not know the question");
    assert!(matches!(ask("POST / HTTP/1.1", "Content-Length: 0\r\n"), Ok(Progress::Whole(_))), "there is none to come");
    assert_eq!(ask("POST / HTTP/1.1", "Content-Length: 1048577\r\n"), Err(TOO_LARGE));
    let begun = look(get("POST / HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 5\r\n") + "he");
    assert_eq!(begun, Ok(Progress::More));
}

#[test]
fn heads_and_bodies_have_limits_and_may_reach_them() {
    let head = |length: usize| {
        let bare = get("GET / HTTP/1.1", "X: \r\n").len();
        get("GET / HTTP/1.1", &format!("X: {}\r\n", "y".repeat(length - bare)))
    };
    assert!(matches!(look(head(MAX_HEAD)), Ok(Progress::Whole(_))));
    assert_eq!(look(head(MAX_HEAD + 1)), Err(HEAD_TOO_LARGE));
    let headers = |count: usize| get("GET / HTTP/1.1", &"X: y\r\n".repeat(count - 1));
    assert!(matches!(look(headers(MAX_HEADERS)), Ok(Progress::Whole(_))));
    assert_eq!(look(headers(MAX_HEADERS + 1)), Err(TOO_MANY_HEADERS));

    let mut reader = Reader::default();
    while reader.has_room() {
        assert_eq!(reader.take_request(), Ok(Progress::More));
        reader.feed(b"X");
    }
    assert_eq!(reader.take_request(), Err(HEAD_TOO_LARGE));

    let body = |length: usize| {
        let chunk = format!("{:x}\r\n{}\r\n", length / 2, "z".repeat(length / 2));
        get("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n") + &chunk.repeat(2) + "0\r\n\r\n"
    };
    assert_eq!(whole(body(MAX_BODY)).body.len(), MAX_BODY);
    assert_eq!(look(body(MAX_BODY + 2)), Err(TOO_LARGE));
}

#[test]
fn chunks_are_read_strictly() {
    let head = get("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n");
    for body in [
        "\r\n\r\n",
        "x\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 x\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\rhello",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!!0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
    ] {
        assert_eq!(look(head.clone() + body).map_err(|refusal| refusal.0), Err(400), "{body:?}");
    }
    assert_eq!(whole(head.clone() + "5 ;x=\"y\"\r\nhello\r\n00\r\n\r\n").body, b"hello");
    assert_eq!(look(head.clone() + &"1".repeat(2000)), Err(BAD), "a size line without end");
    assert_eq!(look(head + "fffffffffffffffffffffff\r\n"), Err(TOO_LARGE));
}

#[test]
fn no_bytes_do_harm_and_what_passes_is_always_one_plain_request() {
    let seeds = [
        get("POST /a%20b?c HTTP/1.1", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n")
            + "5;e\r\nhello\r\n0\r\nT: t\r\n\r\n",
        get("PUT http://h/x HTTP/1.1", "Content-Length: 11\r\nConnection: close\r\n") + "hello world",
        get("GET /********/[::1]:80 HTTP/1.0", "X-API-Key: 0123\r\nAccept: */*\r\n"),
    ];
    let pieces: [&[u8]; 8] = [
        b"\r\n",
        b"\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"%",
        b"\0",
        b"ffffffff",
        b"\xff",
    ];
    let mut dice = Dice(0x5eed);
    let mut passed = 0;
    for round in 0..60_000 {
        let mut bytes = seeds[round % seeds.len()].clone().into_bytes();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len().max(1));
            match dice.below(4) {
                0 if !bytes.is_empty() => bytes[at] = dice.next() as u8,
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                2 => drop(bytes.splice(at..at, pieces[dice.below(pieces.len())].iter().copied())),
                _ => bytes.truncate(at + 1),
            }
        }
        let mut reader = Reader::default();
        let size = 1 + dice.below(bytes.len() + 1);
        let mut whole = Vec::new();
        'fed: for piece in bytes.chunks(size) {
            reader.feed(piece);
            loop {
                match reader.take_request() {
                    Ok(Progress::Whole(request)) => whole.push(*request),
                    Ok(_) => break,
                    Err(_) => break 'fed,
                }
            }
        }
        for request in whole {
            passed += 1;
            let body = request.body.clone();
            let plain = request.to_bytes();
            let again = look(&plain);
            let Ok(Progress::Whole(again)) = again else { panic!("{}: {again:?}", String::from_utf8_lossy(&plain)) };
            assert_eq!(again.body, body);
            assert_eq!(again.to_bytes(), plain, "handed on as it was meant");
        }
    }
    assert!(passed > 5_000, "{passed}");
}
