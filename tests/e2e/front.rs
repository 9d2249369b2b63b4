//! The front: what a browser, curl and openssl see of it, and what a stranger can do to it, which is nothing to others.

mod hostile;
mod toy;

use crate::support::*;
use nodepass::config::Cors;
use std::process::Command;
use toy::*;

#[test]
fn a_request_reaches_the_routes_as_it_was_meant() {
    let api = Api::plain();
    let said = api.ask(
        "POST /api/v1/a%20b/********/[::1]:80?target=[::1]:80&x=%20 HTTP/1.1\r\nHOST: here\r\nX-API-Key: abc\r\n\
         Content-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    );
    assert_eq!(said.status, 200);
    let expected =
        "POST [/api/v1/a b/********/[::1]:80] [target=[::1]:80&x=%20] 5 host=here;x-api-key=abc;content-length=5";
    assert_eq!(said.text(), expected);
    for (name, value) in [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Methods", "GET, PATCH, POST, PUT, DELETE, OPTIONS"),
        ("Access-Control-Allow-Headers", "Content-Type, Authorization, X-API-Key, Cache-Control"),
        ("Content-Type", "text/plain"),
    ] {
        assert_eq!(said.header(name), Some(value));
    }
    assert!(said.header("Date").is_some_and(|date| date.ends_with(" GMT")), "{said:?}");
    assert_eq!((said.header("Server"), said.header("Connection")), (None, None));
}

#[test]
fn refusals_of_the_front_say_which_pages_may_read_them() {
    let list = Cors::Origins(vec!["https://a.example".into()]);
    let allowed = |api: &Api, request: &str| {
        let said = api.ask(request);
        (
            said.status,
            said.header("Access-Control-Allow-Origin").map(str::to_owned),
            said.header("Vary").map(str::to_owned),
        )
    };
    let (bad, good) = ("nonsense\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n\r\n");
    let api = Api::allowing(list, None);
    assert_eq!(allowed(&api, bad), (400, None, Some("Origin".into())));
    assert_eq!(allowed(&api, good), (200, Some("https://a.example".into()), Some("Origin".into())));
    assert_eq!(allowed(&Api::plain(), bad), (400, Some("*".into()), None));
    assert_eq!(allowed(&Api::allowing(Cors::None, None), good), (200, None, None));
}

#[test]
fn a_connection_serves_many_requests_even_if_they_all_come_at_once() {
    let api = Api::plain();
    let mut web = api.dial();
    for n in 0..100 {
        web.say(get(&format!("/{n}")));
        let said = web.hear();
        assert!(said.text().starts_with(&format!("GET [/{n}]")), "{n}: {said:?}");
    }
    let all: String =
        (0..50).map(|n| format!("PUT /{n} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")).collect();
    web.say(all);
    for n in 0..50 {
        assert!(web.hear().text().starts_with(&format!("PUT [/{n}] [] 3")));
    }
}

#[test]
fn http_1_0_and_close_end_the_connection_and_keep_alive_keeps_it() {
    let api = Api::plain();
    for (request, kept) in [
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, CLOSE\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
    ] {
        let mut web = api.dial();
        web.say(request);
        let said = web.hear();
        assert_eq!((said.status, said.header("connection") == Some("close")), (200, !kept), "{request}");
        match kept {
            true => {
                web.say(request);
                assert_eq!(web.hear().status, 200, "{request}");
            }
            false => assert!(web.is_over(), "{request}"),
        }
    }
}

#[test]
fn an_answer_without_a_body_has_none_and_the_next_one_follows() {
    let api = Api::plain();
    let mut web = api.dial();
    web.say("HEAD /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    let head = web.hear_head().expect("a head");
    assert_eq!((head.status, head.header("content-length")), (200, Some("4")));
    web.say(get("/none"));
    let none = web.hear();
    assert_eq!((none.status, none.header("content-length"), none.body.len()), (204, None, 0));
    web.say("HEAD /three HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(web.hear_head().expect("a head").status, 200);
    web.say(get("/after"));
    assert!(web.hear().text().starts_with("GET [/after]"));
}

#[test]
fn a_large_answer_arrives_whole_and_the_connection_goes_on() {
    let api = Api::plain();
    let mut web = api.dial();
    web.say(get("/big"));
    assert_eq!(web.hear().body.len(), BIG);
    web.say(get("/after"));
    assert_eq!(web.hear().status, 200);
}

#[test]
fn a_stream_is_chunked_piece_by_piece_and_ends_the_connection() {
    let api = Api::plain();
    let mut web = api.dial();
    web.say(get("/three"));
    let head = web.hear_head().expect("a head");
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    assert_eq!((head.header("connection"), head.header("content-type")), (Some("close"), Some("text/event-stream")));
    for n in 1..=3 {
        let mut chunk = Vec::new();
        assert!(web.chunk(&mut chunk).expect("a chunk"));
        assert_eq!(chunk, format!("data: {n}\n\n").as_bytes());
    }
    assert!(!web.chunk(&mut Vec::new()).expect("the last chunk") && web.is_over());
    let old = api.ask("GET /three HTTP/1.0\r\n\r\n");
    assert_eq!((old.header("transfer-encoding"), old.text()), (None, "data: 1\n\ndata: 2\n\ndata: 3\n\n".to_owned()));
}

#[test]
fn a_stream_ends_when_its_reader_leaves() {
    let api = Api::plain();
    let mut web = api.dial();
    web.say(get("/drip"));
    assert_eq!(web.hear_head().expect("a head").status, 200);
    let running = || api.toy.streams.load(std::sync::atomic::Ordering::SeqCst);
    assert!(eventually(GRACE, || running() == 1));
    drop(web);
    assert!(eventually(GRACE, || running() == 0), "it is read no more");
}

#[test]
fn curl_is_served_plain_and_over_tls_once_and_twice_on_one_connection() {
    let Some(curl) = program("curl") else { return };
    for (api, scheme) in [(Api::plain(), "http"), (Api::secure(), "https")] {
        let url = |path: &str| format!("{scheme}://{}{path}", api.addr);
        let run = |args: &[&str]| {
            let mut command = Command::new(&curl);
            command.args(["-sS", "-k", "-m", "20", "-w", "<%{http_code} %{num_connects}>"]).args(args);
            let output = finished(command).expect("curl");
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let hello = run(&[&url("/hello?a=b")]);
        assert!(hello.starts_with("GET [/hello] [a=b] 0") && hello.ends_with("<200 1>"), "{hello}");
        let twice = run(&[&url("/one"), &url("/two")]);
        assert!(twice.contains("<200 1>GET [/two]") && twice.ends_with("<200 0>"), "one connection: {twice}");
        let chunked = run(&["-H", "Transfer-Encoding: chunked", "-d", "in chunks", &url("/body")]);
        assert_eq!(chunked, "in chunks<200 1>");
        let asked = run(&["-H", "Expect: 100-continue", "--expect100-timeout", "600", "-d", "go on", &url("/body")]);
        assert_eq!(asked, "go on<200 1>");
        assert!(run(&["-I", &url("/hello")]).ends_with("<200 1>"));
        assert!(run(&["--http1.0", &url("/three")]).starts_with("data: 1\n\ndata: 2"));
        assert!(run(&["-N", &url("/three")]).starts_with("data: 1\n\ndata: 2"));
        let large = run(&["-o", "/dev/null", "-w", "%{size_download}", &url("/big")]);
        assert_eq!(large, BIG.to_string());
    }
}

#[test]
fn openssl_is_served_over_tls_1_2_and_1_3_and_http_2_is_not_agreed_on() {
    let Some(openssl) = program("openssl") else { return };
    let api = Api::secure();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = Command::new(&openssl);
        command.args(["s_client", "-quiet", "-alpn", "h2,http/1.1", version, "-connect", &api.addr.to_string()]);
        let request = "GET /tls HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let said = with_input(command, request);
        assert!(said.contains("200 OK") && said.contains("GET [/tls]"), "{version}: {said}");
    }
}

/// Runs a program with something to read; what it prints.
fn with_input(mut command: Command, input: &str) -> String {
    use std::io::Write;
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = start_child(command).expect("a program");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("writing");
    let output = finish(child);
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_front_that_closes_lets_answers_finish_and_takes_no_more_connections() {
    let api = Api::plain();
    let gate = api.toy.hold();
    let (mut idle, mut web) = (api.dial(), api.dial());
    web.say(get("/held"));
    assert!(eventually(GRACE, || api.toy.held.load(std::sync::atomic::Ordering::SeqCst) == 1));
    let (addr, front) = (api.addr, api.front);
    let closing = std::thread::spawn(move || front.close());
    assert!(eventually(GRACE, || try_connect(addr).is_err()), "no program listens any more");
    drop(gate);
    assert_eq!(web.hear().text(), "at last");
    closing.join().expect("an end");
    assert!(idle.is_over());
}
