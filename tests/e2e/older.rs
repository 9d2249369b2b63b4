//! The wires of 1.4 to 1.12 (`wire`): between two of this program, and with a peer that shares no code with it. What the conformance peer
//! does besides is not here.

use crate::original::Originals;
use crate::pair::Pair;
use crate::support::*;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

#[test]
fn users_are_carried_over_each_older_wire_in_both_flows() {
    for (wire, kinds) in [
        ("1.5", &["tls=0", "tls=1"][..]),
        ("1.6", &["tls=0", "tls=1"]),
        ("1.7", &["tls=0", "tls=1"]),
        ("1.8", &["tls=0", "tls=1"]),
        ("1.10", &["tls=0", "tls=1"]),
        (
            "1.12",
            &[
                "tls=0",
                "tls=1",
                #[cfg(feature = "quic")]
                "quic=1",
            ],
        ),
    ] {
        for (kind, flow) in kinds.iter().flat_map(|kind| [(kind, Flow::Reverse), (kind, Flow::Forward)]) {
            let (server, client) = (format!("wire={wire}&{kind}"), format!("wire={wire}"));
            let pair = Pair::with_users_at(flow, &server, &client, [KEY; 2]);
            pair.carries();
            assert_eq!(udp_echo(pair.user, b"datagrams too").unwrap(), b"datagrams too", "{wire} {kind} {flow:?}");
            for process in [&pair.server, &pair.client] {
                process.says(&format!("; the wire of NodePass {wire}"), GRACE);
                process.says("proves nothing, and gives the key away to each", GRACE);
            }
        }
    }
}

#[test]
fn a_client_whose_key_has_another_length_is_refused_and_both_sides_say_so() {
    let pair = Pair::new("wire=1.10", "wire=1.10", [KEY, "SHORT"]);
    pair.server.says("handshake refused: the keys differ", GRACE);
    pair.client.says("the keys differ in length", GRACE);
    assert_eq!(pair.server.count(" is up"), 0);
}

#[test]
fn a_client_with_another_key_of_that_length_is_let_in_and_serves_no_user() {
    let pair = Pair::new("wire=1.12&tls=1", "wire=1.12", [KEY, &"X".repeat(KEY.len())]);
    pair.client.says("no terms of this generation under this key", GRACE);
    assert!(exchange(pair.user, b"hello").is_err());
    assert_eq!((pair.server.count(" is up"), pair.target.accepted()), (0, 0));
}

#[test]
fn another_generation_than_the_one_named_is_told() {
    let raw = Pair::new("wire=1.10", "wire=1.6", [KEY; 2]);
    raw.server.says("it is of another NodePass than the parameter wire names", GRACE);
    raw.client.says("the server closed without an answer", GRACE);
    let newer = Pair::new("wire=1.14", "wire=1.12", [KEY; 2]);
    newer.server.says("handshake refused: it is that of NodePass 1.12 or older", GRACE);
    let older = Pair::new("wire=1.6", "", [KEY; 2]);
    older.client.says("Client error: handshake", GRACE);
    for pair in [raw, newer, older] {
        assert_eq!((pair.server.count(" is up"), pair.client.count(" is up")), (0, 0));
    }
}

#[test]
fn an_original_of_1_10_beside_ours_has_users_of_its_own() {
    let Some(originals) = Originals::new() else { return };
    let (at, user) = (free_addr(), free_addr());
    let url = format!("server://{KEY}@{at}/{user}?mode=1&log=debug&wire=1.10&clients=0");
    let server = Process::nodepass(&url);
    server.says("Waiting for a client", GRACE);
    let targets = [Target::echo(), Target::echo()];
    let url = format!("client://{KEY}@{at}/{}?mode=2&min=4&wire=1.10", targets[0].addr());
    let _ours = Process::nodepass(&url);
    server.says(" is up", GRACE);
    // An original is told by its address.
    let path = path_from(Ipv4Addr::new(127, 0, 0, 2), at);
    let mark = server.mark();
    let _original = originals.client(KEY, "1.10", path, targets[1].addr(), 0);
    server.says_after(mark, " is up", GRACE);
    let mut held = Vec::new();
    until("users of both", GRACE, || {
        held.push(exchanged(user)?);
        match targets.iter().all(|target| target.accepted() > 1) {
            true => Ok(()),
            false => Err(std::io::Error::other("one has none")),
        }
    });
}

#[test]
fn originals_of_1_4_and_1_5_carry_users_in_both_roles_and_flows() {
    let Some(originals) = Originals::new() else { return };
    for (generation, role, flow) in ["1.4", "1.5"]
        .into_iter()
        .flat_map(|at| ["server", "client"].map(|role| (at, role)))
        .flat_map(|(at, role)| ["-", "+"].map(|flow| (at, role, flow)))
    {
        let (at, user, target) = (free_addr(), free_addr(), Target::echo());
        // Ours has the other role, and users come in here or there.
        let ours_is_server = role == "client";
        let ours = if ours_is_server == (flow == "-") { user } else { target.addr() };
        let url = match ours_is_server {
            true => format!("server://{KEY}@{at}/{ours}?mode={}&wire=1.5&tls=1", if flow == "-" { 1 } else { 2 }),
            false => format!("client://{KEY}@{at}/{ours}?mode=2&min=4&wire=1.5"),
        };
        let process =
            Process::nodepass_with(&[&url], &[("NP_REPORT_INTERVAL", "300ms"), ("NP_SERVICE_COOLDOWN", "300ms")]);
        let ports = [at, user, target.addr()].map(|at| at.port().to_string());
        let [port, users, target_port] = &ports;
        let original = originals.run(generation, EARLY, &[KEY, generation, role, flow, port, users, target_port]);
        let name = format!("{generation} {role} {flow}");
        until(&name, GRACE, || exchange(user, b"hello").map(drop));
        assert_eq!(udp_echo(user, b"datagrams too").unwrap(), b"datagrams too", "{name}");
        process.says("; the wire of NodePass 1.5", GRACE);
        // Also 1.4, which answers no ping, is alive after many report intervals.
        process.reports(6);
        until(&name, GRACE, || exchange(user, b"hello").map(drop));
        assert_eq!((process.count(" is up"), original.ended()), (1, None), "{name}: {:?}", process.lines());
    }
}

#[test]
fn originals_of_1_7_carry_users_whose_servers_write_ids_in_either_form_and_clients_read_bytes() {
    let Some(originals) = Originals::new() else { return };
    for (role, ids, flow, tls) in [
        ("server", "digits", "-", 0),
        ("server", "digits", "+", 1),
        ("server", "bytes", "-", 1),
        ("server", "bytes", "+", 0),
        ("client", "bytes", "-", 0),
        ("client", "bytes", "+", 1),
    ] {
        let (at, user, target) = (free_addr(), free_addr(), Target::echo());
        let ours_is_server = role == "client";
        let ours = if ours_is_server == (flow == "-") { user } else { target.addr() };
        let url = match ours_is_server {
            true => format!("server://{KEY}@{at}/{ours}?mode={}&wire=1.7&tls={tls}", if flow == "-" { 1 } else { 2 }),
            false => format!("client://{KEY}@{at}/{ours}?mode=2&min=4&wire=1.7"),
        };
        let process =
            Process::nodepass_with(&[&url], &[("NP_REPORT_INTERVAL", "300ms"), ("NP_SERVICE_COOLDOWN", "300ms")]);
        let ports = [at, user, target.addr()].map(|at| at.port().to_string());
        let [port, users, target_port] = &ports;
        let _original =
            originals.run("1.7", SEVENTH, &[KEY, role, ids, flow, &tls.to_string(), port, users, target_port]);
        let name = format!("{role} {ids} {flow} tls={tls}");
        until(&name, GRACE, || exchange(user, b"hello").map(drop));
        assert_eq!(udp_echo(user, b"datagrams too").unwrap(), b"datagrams too", "{name}");
        process.says("; the wire of NodePass 1.7", GRACE);
        process.reports(3);
        until(&name, GRACE, || exchange(user, b"hello").map(drop));
        assert_eq!(process.count(" is up"), 1, "{name}: {:?}", process.lines());
        assert_eq!(process.count("they are written as for 1.8"), usize::from(ours_is_server), "{name}");
    }
}

#[cfg(feature = "quic")]
#[test]
fn a_client_of_1_12_makes_more_quic_connections_when_the_server_allows_no_more_streams() {
    let Some(originals) = Originals::new() else { return };
    let (at, target) = (free_addr(), Target::echo());
    let server = originals.run("1.12", NARROW, &[KEY, &at.port().to_string()]);
    server.says("listening", GRACE);
    let url = format!("client://{KEY}@{at}/{}?mode=2&min=20&wire=1.12&log=debug", target.addr());
    let client = Process::nodepass(&url);
    // Eight streams each.
    server.says("20 idle on 3 connections", GRACE);
    assert_eq!(client.count(" ended"), 0, "{client:?}");
}

/// A user who has been served, and stays.
fn exchanged(at: SocketAddr) -> std::io::Result<TcpStream> {
    use std::io::{Read, Write};
    let mut user = try_connect(at)?;
    user.set_read_timeout(Some(GRACE))?;
    user.write_all(b"hello")?;
    user.read_exact(&mut [0; 5])?;
    Ok(user)
}

/// The conformance peer made a 1.4 or a 1.5, which differ from 1.6 by their lines: its folder, key, generation, role, flow, tunnel port, port of
/// users, target port.
const EARLY: &str = r##"
import asyncio, dataclasses, re, sys
sys.path.insert(0, sys.argv[1])
import dialect, peer
class Early(dialect.Dialect):
    def _url(self, action="", id="", **_):
        mark = "#" + self._marks.get(action, action)
        return f"//{id}{mark}" if id else mark
    def _fields(self, text):
        if not text:
            return {"action": ""}
        match = re.fullmatch(r"(?://([0-9a-f]{8}))?#(\w*)", text)
        if not match:
            raise ValueError(f"not a signal: {text}")
        actions = {mark: action for action, mark in self._marks.items()}
        return {"action": actions.get(match[2], match[2]), "id": match[1] or "", "remote": ""}
    def config_line(self, key, flow, most, tls, type):
        return self.line(key, f"//{flow}#{tls}".encode())
    def config(self, key, line):
        match = re.fullmatch(r"//([-+])#([012])", self.text(key, line).decode())
        if not match:
            raise ValueError("not a configuration")
        return {"flow": match[1], "max": 1024, "tls": match[2], "type": "0"}
_, _, key, generation, role, flow, port, user, target = sys.argv
old = {field.name: getattr(dialect.WIRES["1.6"], field.name) for field in dataclasses.fields(dialect.Dialect)}
dialect.WIRES["early"] = Early(**old | {"wire": "early", "reuse": False})
async def main():
    one = {"server": peer.Server, "client": peer.Client}[role]
    ingress = (role == "server") == (flow == "-")
    end = {"user": ("127.0.0.1", int(user))} if ingress else {"target": ("127.0.0.1", int(target))}
    made = one(key, int(port), 0, 1, flow, wire="early", report=0.3, **end)
    if generation == "1.4":
        # It neither asks nor answers, and sends empty lines.
        made.deaf = ("ping",)
        async def beat():
            while True:
                made.control.send(b"\n")
                await asyncio.sleep(made.report)
        made._ping = beat
    await made.start()
    await asyncio.Event().wait()
asyncio.run(main())
"##;
/// The conformance peer made a 1.7, with ids in that form: its folder, key, role, form, flow, tls, tunnel port, port of users, target port.
const SEVENTH: &str = r#"
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import dialect, peer
_, _, key, role, ids, flow, tls, port, user, target = sys.argv
dialect.WIRES["1.7"] = dialect.Dialect("1.7", **dialect.OLD, types=(0,), flush="0", scheme="", ascii_ids=ids == "digits",
                                       reuse=True, settle=0.05, patience=2)
async def main():
    one = {"server": peer.Server, "client": peer.Client}[role]
    ingress = (role == "server") == (flow == "-")
    end = {"user": ("127.0.0.1", int(user))} if ingress else {"target": ("127.0.0.1", int(target))}
    await one(key, int(port), 0, int(tls), flow, wire="1.7", report=0.3, **end).start()
    await asyncio.Event().wait()
asyncio.run(main())
"#;
/// The peer as a server of 1.12 that allows eight streams on each QUIC connection, ever: its folder, key, tunnel port.
#[cfg(feature = "quic")]
const NARROW: &str = r#"
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from aioquic.quic import connection
from peer import Server
class Fixed(connection.Limit):
    value = property(lambda self: 8, lambda self, value: None)
made = connection.QuicConnection.__init__
def make(self, *args, **kwargs):
    made(self, *args, **kwargs)
    old = self._local_max_streams_bidi
    self._local_max_streams_bidi = Fixed(old.frame_type, old.name, 8)
connection.QuicConnection.__init__ = make
async def main():
    server = Server(sys.argv[2], int(sys.argv[3]), type=1, tls=1, wire="1.12", user=("127.0.0.1", 0))
    await server.start()
    print("listening", flush=True)
    while True:
        await asyncio.sleep(0.1)
        print(server.live_idle(), "idle on", len(server._sessions), "connections", flush=True)
asyncio.run(main())
"#;
/// Lines of 1.6 break where a character of the key and one of a signal make a newline: capital letters do not.
const KEY: &str = "A-KEY-OF-CAPITAL-LETTERS";
