//! Other programs at the other end of a server of ours: curl, openssl, and Python's `h2`.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::pair::{limits, nonblocking, server_config, End};
use crate::support::{finish, finished, program, python, registry, start_child};
use nodepass::net::budget::Budget;
use nodepass::net::h2::H2;
use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::stream::ready;
use nodepass::net::tls::Tls;

#[test]
fn curl_gets_back_what_it_posts() {
    let Some(port) = program("curl").map(|_| echo()) else { return };
    let body = std::env::temp_dir().join(format!("nodepass-h2-{}", std::process::id()));
    let sent = super::flow(9, 3_000_000);
    std::fs::write(&body, &sent).unwrap();
    let url = format!("https://127.0.0.1:{port}/stream");
    let data = format!("@{}", body.display());
    let args = ["-sS", "-k", "--http2", "-w", "%{stderr}%{http_code} %{http_version}", "--data-binary", &data, &url];
    let output = run("curl", &args);
    std::fs::remove_file(&body).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "200 2");
    assert!(output.stdout == sent, "{} bytes", output.stdout.len());
}

#[test]
fn curl_is_told_that_there_is_nothing_else_here() {
    let Some(port) = program("curl").map(|_| echo()) else { return };
    for (args, status) in [(&["-d", "x"][..], "404"), (&["-X", "GET"], "404")] {
        let url = format!("https://127.0.0.1:{port}/elsewhere");
        let args = [&["-sS", "-k", "--http2", "-w", "%{http_code}"], args, &[&url]].concat();
        let output = run("curl", &args);
        assert_eq!(String::from_utf8_lossy(&output.stdout), status, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn openssl_agrees_on_h2_and_hears_our_settings() {
    let Some(port) = program("openssl").map(|_| echo()) else { return };
    let to = format!("127.0.0.1:{port}");
    let mut openssl = command("openssl", &["s_client", "-alpn", "h2", "-connect", &to, "-tls1_3", "-ign_eof"]);
    openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = start_child(openssl).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The preface, our settings, and a goodbye, after which the other side has nothing more to say.
    stdin
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0")
        .unwrap();
    let output = finish(child);
    drop(stdin);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ALPN protocol: h2"), "{text}");
    // SETTINGS without an acknowledgement.
    assert!(output.stdout.windows(6).any(|part| part == [18, 4, 0, 0, 0, 0]), "no settings");
}

/// A client that speaks as the original's does: a byte, then what comes back, on many streams.
#[test]
fn pythons_h2_carries_streams_both_ways() {
    let Some(python) = python("h2") else { return };
    let port = echo();
    let output = run(python, &["-c", CLIENT, &port.to_string()]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok", "{}", String::from_utf8_lossy(&output.stderr));
}

const CLIENT: &str = r#"
import socket, ssl, sys
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, ResponseReceived, StreamReset
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2"])
s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20))
assert s.selected_alpn_protocol() == "h2"
c = H2Connection(); c.initiate_connection()
head = [(":method", "POST"), (":scheme", "https"), (":authority", "none"), (":path", "/stream")]
waiting, heard, ended, status = {}, {}, set(), {}
for n in range(20):
    sid = c.get_next_available_stream_id()
    c.send_headers(sid, head)
    waiting[sid], heard[sid] = bytes((n + at // 7) % 256 for at in range(1 + n * 9001)), b""
want = dict(waiting)
while len(ended) < 20:
    for sid, rest in list(waiting.items()):
        room = min(c.local_flow_control_window(sid), c.max_outbound_frame_size)
        if room:
            part, waiting[sid] = rest[:room], rest[room:]
            c.send_data(sid, part, end_stream=not waiting[sid])
            if not waiting[sid]: del waiting[sid]
    s.sendall(c.data_to_send())
    if waiting and any(c.local_flow_control_window(sid) for sid in waiting): s.settimeout(0.001)
    else: s.settimeout(20)
    try: data = s.recv(65536)
    except TimeoutError: continue
    assert data, "the connection ended"
    for e in c.receive_data(data):
        if isinstance(e, DataReceived):
            heard[e.stream_id] += e.data
            c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, StreamEnded): ended.add(e.stream_id)
        elif isinstance(e, ResponseReceived): status[e.stream_id] = dict(e.headers)[b":status"]
        assert not isinstance(e, StreamReset), e
assert heard == want and set(status.values()) == {b"200"}
print("ok")
"#;

// ---- what is needed for that ----------------------------------------------------------------------------------------

/// A server that sends everything back, in a thread that ends with the test program; its port.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            serve(socket);
        }
    });
    port
}

/// One connection, to its end.
fn serve(socket: std::net::TcpStream) {
    let peer = socket.peer_addr().unwrap();
    let mut poll = Poll::new().unwrap();
    let mut tls = Tls::accept(nonblocking(socket), server_config(), &Budget::PLENTY).unwrap();
    tls.socket().register(&registry(&poll), Token(0)).unwrap();
    let mut events = Events::with_capacity(8);
    loop {
        match ready(tls.handshake()) {
            Ok(None) => poll.poll(&mut events, None).unwrap(),
            Ok(Some(())) => break,
            Err(_) => return,
        }
        events.iter().for_each(|event| tls.socket().note(event));
    }
    let mut end = End::registered(Box::new(H2::server(tls, peer, limits()).unwrap()), poll);
    let mut streams: Vec<(StreamNo, Vec<u8>, bool)> = Vec::new();
    while end.turn_at(Instant::now(), Duration::from_millis(1)).is_ok() {
        while let Some((stream, _)) = end.mux.accept() {
            streams.push((stream, Vec::new(), false));
        }
        streams.retain_mut(|(stream, held, over)| {
            let gone = (|| {
                if held.len() < 100_000 && !*over {
                    *over = end.read(*stream, held)?;
                }
                let count = end.write(*stream, held)?;
                held.drain(..count);
                if *over && held.is_empty() {
                    end.mux.finish(*stream)?;
                }
                Ok::<_, std::io::Error>(*over && held.is_empty())
            })();
            let keep = matches!(gone, Ok(false));
            if !keep {
                end.mux.release(*stream);
            }
            keep
        });
    }
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

fn run(program: &str, args: &[&str]) -> Output {
    finished(command(program, args)).unwrap()
}
