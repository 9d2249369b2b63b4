//! Addresses that change, and servers that are not there.

use std::time::{Duration, Instant};

use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::quic::{QuicServer, Resets, Settings};

use super::nat::{open, Nat};
use super::pair::*;

/// Sends some bytes there and back.
fn echo(both: &mut Both, nat: &mut Option<Nat>, near: StreamNo, far: StreamNo, len: usize) {
    let bytes = flow(0, len);
    let (mut sent, mut back, mut came) = (0, Vec::new(), Vec::new());
    let mut returned = 0;
    both.until_true(|both| {
        if let Some(nat) = nat {
            nat.pump();
        }
        sent += both.client.write(near, &bytes[sent..]).unwrap();
        both.server.read(far, &mut back).unwrap();
        returned += both.server.write(far, &back[returned..]).unwrap();
        both.client.read(near, &mut came).unwrap();
        came.len() >= len
    });
    assert!(came == bytes);
}

/// Two ends with a NAT between them, and a stream with one byte sent on it and read.
fn behind_a_nat() -> (Both, Nat, StreamNo, StreamNo) {
    let server = server(&settings(), &identity());
    let mut nat = Nat::before(server.mux.local().next().unwrap());
    let client = client(nat.address(), &any_server(), &settings(), &mut Default::default());
    let mut both = Both::of(client, server);
    both.until_true(|both| {
        nat.pump();
        both.client.mux.is_up() && both.server.mux.is_up()
    });
    let near = both.client.mux.open().unwrap();
    both.client.write(near, b"x").unwrap();
    let mut far = None;
    both.until_true(|both| {
        nat.pump();
        far = far.or_else(|| both.server.mux.accept());
        far.is_some()
    });
    let far = far.unwrap().0;
    both.server.read(far, &mut Vec::new()).unwrap();
    (both, nat, near, far)
}

/// The same, with all bytes acknowledged, and then the client's end said and lost.
fn with_a_lost_end() -> (Both, Nat, StreamNo, StreamNo) {
    let (mut both, mut nat, near, far) = behind_a_nat();
    for _ in 0..100 {
        nat.pump();
        both.turn();
    }
    both.client.mux.finish(near).unwrap();
    both.turn();
    assert!(nat.lose() > 0);
    (both, nat, near, far)
}

/// The client says its last bytes on that stream, and the path holds them up.
fn last_bytes(both: &mut Both, nat: &mut Nat, near: StreamNo) -> Vec<Vec<u8>> {
    both.client.write(near, b"last").unwrap();
    both.turn();
    let slow = nat.hold();
    assert!(!slow.is_empty());
    slow
}

/// Whatever is under way, the server hears these bytes and the end after them.
fn come_with_their_end(both: &mut Both, nat: &mut Nat, far: StreamNo) {
    let mut came = Vec::new();
    both.until_true(|both| {
        nat.pump();
        both.server.read(far, &mut came).unwrap()
    });
    assert_eq!(came, b"last");
}

#[test]
fn an_end_that_is_lost_comes_all_the_same_when_its_stream_is_released() {
    let (mut both, mut nat, near, far) = with_a_lost_end();
    both.client.mux.release(near);
    both.until_true(|both| {
        nat.pump();
        both.server.read(far, &mut Vec::new()).unwrap()
    });
}

#[test]
fn an_end_that_is_lost_comes_all_the_same_when_the_other_sides_comes_first() {
    let (mut both, mut nat, near, far) = with_a_lost_end();
    both.server.mux.finish(far).unwrap();
    let mut over = false;
    both.until_true(|both| {
        nat.pump();
        over = over || both.client.read(near, &mut Vec::new()).unwrap();
        over
    });
    both.client.mux.release(near);
    both.until_true(|both| {
        nat.pump();
        both.server.read(far, &mut Vec::new()).unwrap()
    });
}

#[test]
fn an_end_that_is_lost_while_the_bytes_before_it_are_slow_comes_all_the_same() {
    let (mut both, mut nat, near, far) = behind_a_nat();
    both.server.mux.finish(far).unwrap();
    both.until_true(|both| {
        nat.pump();
        both.client.read(near, &mut Vec::new()).unwrap()
    });
    let slow = last_bytes(&mut both, &mut nat, near);
    both.client.mux.finish(near).unwrap();
    // Longer than an acknowledgement usually takes here.
    let until = Instant::now() + Duration::from_millis(20);
    while Instant::now() < until {
        both.turn();
    }
    nat.lose();
    nat.pass(&slow);
    both.client.mux.release(near);
    come_with_their_end(&mut both, &mut nat, far);
}

#[test]
fn an_end_that_is_lost_with_bytes_that_come_otherwise_comes_all_the_same() {
    let (mut both, mut nat, near, far) = behind_a_nat();
    let other = both.client.mux.open().unwrap();
    // So many packets of another stream arrive that those before them are taken for lost; what is said again is lost.
    let overtake = |both: &mut Both, nat: &mut Nat| {
        for _ in 0..8 {
            both.client.write(other, b"more").unwrap();
            both.turn();
            let packets = nat.hold();
            nat.pass(&packets);
        }
        // What comes back may take a moment; what the client says meanwhile is lost.
        let (mut lost, until) = (0, Instant::now() + Duration::from_millis(20));
        while Instant::now() < until {
            both.turn();
            lost += nat.lose();
            nat.bring();
        }
        lost
    };
    let slow = last_bytes(&mut both, &mut nat, near);
    both.client.mux.finish(near).unwrap();
    both.turn();
    assert!(nat.lose() > 0);
    assert!(overtake(&mut both, &mut nat) > 0);
    nat.pass(&slow);
    both.turn();
    nat.pump();
    overtake(&mut both, &mut nat);
    come_with_their_end(&mut both, &mut nat, far);
}

#[test]
fn a_nat_that_takes_another_port_does_not_end_the_connection() {
    let (mut both, nat, near, far) = behind_a_nat();
    let mut nat = Some(nat);
    for _ in 0..12 {
        echo(&mut both, &mut nat, near, far, 100_000);
        nat.as_mut().unwrap().rebind();
    }
    echo(&mut both, &mut nat, near, far, 300_000);
    assert!(nat.unwrap().passed.iter().all(|count| *count > 100));
    assert_eq!(both.server.mux.connections(), 1);
}

#[test]
fn a_client_whose_own_address_changes_goes_on() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    echo(&mut both, &mut None, near, far, 100_000);
    for last in 2..14 {
        both.client.mux.migrate(Some([127, 0, 0, last].into())).unwrap();
        echo(&mut both, &mut None, near, far, 100_000);
        assert_eq!(both.client.mux.local().ip(), std::net::IpAddr::from([127, 0, 0, last]));
    }
    assert_eq!(both.server.mux.connections(), 1);
}

#[test]
fn a_server_that_starts_anew_with_the_same_key_ends_the_connections_of_the_one_before() {
    for same in [true, false] {
        let settings = Settings { resets: Resets::new(b"one key"), ..settings() };
        let mut both = Both::joined(&settings);
        let (near, _) = both.stream();
        let Both { mut client, server, .. } = both;
        let at = server.mux.local().next().unwrap();
        drop(server);
        let resets = Resets::new(if same { b"one key" } else { b"another" });
        let settings = Settings { resets, ..settings };
        let mut server =
            End::new(Box::new(QuicServer::bind(&[at.into()], &identity(), &settings, Instant::now()).unwrap()));
        client.write(near, b"hello").unwrap();
        let (before, deadline) = (client.mux.tally().received, Instant::now() + GRACE);
        while client.over.is_none() && (same || client.mux.tally().received < before + 100) {
            assert!(Instant::now() < deadline);
            server.turn(Duration::from_millis(1));
            client.turn(Duration::from_millis(1));
        }
        let over = client.over.map(|why| why.to_string());
        let told = "QUIC: the other side has started anew and does not know it";
        assert_eq!(over.as_deref(), same.then_some(told), "a reset of another is none");
    }
}

#[test]
fn where_no_program_listens_the_error_names_the_port() {
    // A client that hears of a closed port alone holds the port, and it is closed to us.
    let (closed, deaf) = (open(), open());
    closed.connect(deaf.local_addr().unwrap()).unwrap();
    for (at, timeout) in [
        (closed.local_addr().unwrap(), Duration::from_secs(60)),
        (deaf.local_addr().unwrap(), Duration::from_millis(300)),
    ] {
        let settings = Settings { timeout, ..settings() };
        let mut client = client(at, &any_server(), &settings, &mut Default::default());
        let deadline = Instant::now() + GRACE;
        while client.over.is_none() {
            assert!(Instant::now() < deadline);
            client.turn(Duration::from_millis(50));
        }
        let text = client.over.unwrap().to_string();
        assert_eq!(text, format!("UDP port {} unreachable or blocked", at.port()));
    }
}
