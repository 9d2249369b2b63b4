//! Pool connections that serve one user after another: that they do, and that no user gets anything of another's.

use crate::metrics::ask;
use crate::support::*;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Kinds of pools that are used again: type and tls.
fn kinds() -> Vec<(u8, u8)> {
    let all = [(0, 0, true), (0, 1, true), (2, 0, cfg!(feature = "ws")), (2, 1, cfg!(feature = "ws"))];
    all.into_iter().filter_map(|(transport, tls, built)| built.then_some((transport, tls))).collect()
}

/// A tunnel for each kind and flow, with few connections in its pool that are looked over so often, and where its client's figures are.
fn each_pool(rounds: &str, test: impl Fn(Tunnel, SocketAddr) + Sync) {
    let flows = [Flow::Reverse, Flow::Forward];
    let cells =
        flows.into_iter().flat_map(|flow| kinds().into_iter().map(move |(transport, tls)| (flow, transport, tls)));
    let each = cells.map(|(flow, transport, tls)| {
        let (cell, metrics) = (Cell { flow, tls, transport }, free_addr());
        let builder = cell.tunnel().client(&format!("min=4&metrics={metrics}")).env("NP_MIN_POOL_INTERVAL", rounds);
        (cell.to_string(), (builder, metrics))
    });
    side_by_side(each, |(builder, metrics)| test(builder.start(), metrics));
}

/// Pool connections that the client has opened so far.
fn opened(metrics: SocketAddr) -> usize {
    let text = ask(metrics, "GET /metrics").unwrap();
    let name = "nodepass_pool_opens_total{result=\"opened\"} ";
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// A user who says something, hears it again, and ends; who ends first differs.
fn visit(user: SocketAddr, number: usize) {
    let bytes = noise(number as u64, 1 + number * 37 % 3000);
    let stream = connect(user);
    put(&stream, &bytes);
    if number.is_multiple_of(2) {
        end(&stream);
        assert!(rest(&stream) == bytes, "user {number} hears something else");
    } else {
        assert!(take(&stream, bytes.len()) == bytes, "user {number} hears something else");
        end(&stream);
        assert_eq!(rest(&stream), b"", "user {number} hears more");
    }
}

#[test]
fn users_who_follow_each_other_share_a_few_connections() {
    // Nothing is closed meanwhile because nobody comes.
    each_pool("1m", |tunnel, metrics| {
        (0..100).for_each(|number| visit(tunnel.user, number));
        // Those of the beginning, and some that were opened while users were still on their way out.
        let count = opened(metrics);
        assert!((5..20).contains(&count), "{count} connections for 100 users");
    });
}

#[test]
fn a_crowd_in_which_some_are_cut_gets_its_own_bytes_and_the_pool_is_as_it_was() {
    each_pool("100ms", |tunnel, _| {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        CROWD.. => break,
                        number if number % 5 == 4 => {
                            let stream = connect(tunnel.user);
                            put(&stream, &noise(number as u64, 20_000));
                            reset(stream);
                        }
                        number => visit(tunnel.user, number),
                    }
                });
            }
        });
        for process in tunnel.processes() {
            process.at_rest(4);
        }
    });
}

#[test]
fn a_target_that_reads_late_gets_all_of_its_user_and_nothing_of_those_who_come_meanwhile() {
    each_pool("100ms", |tunnel, _| {
        // It has no more to say, and reads nothing before others have come and gone.
        let caught = tunnel.target.catch();
        let said = noise(1, MUCH);
        let first = connect(tunnel.user);
        let target = caught.next();
        end(&target);
        assert_eq!(rest(&first), b"");
        let writer = {
            let (first, said) = (first.try_clone().unwrap(), said.clone());
            thread::spawn(move || {
                put(&first, &said);
                end(&first);
            })
        };
        // Another has left altogether before its target reads.
        let second = connect(tunnel.user);
        let late = caught.next();
        put(&second, &said[..LITTLE]);
        drop(second);
        for number in 0..20u64 {
            let user = connect(tunnel.user);
            let other = caught.next();
            put(&user, &noise(number, 100));
            assert!(take(&other, 100) == noise(number, 100));
            put(&other, &noise(number, 50));
            assert!(take(&user, 50) == noise(number, 50));
            both_end(&user, &other);
        }
        assert!(rest(&late) == said[..LITTLE], "a late target gets something else");
        assert!(take(&target, said.len()) == said, "the slow target gets something else");
        assert_eq!(rest(&target), b"");
        writer.join().unwrap();
    });
}

fn both_end(user: &TcpStream, target: &TcpStream) {
    end(user);
    assert_eq!(rest(target), b"");
    end(target);
    assert_eq!(rest(user), b"");
}

/// Users of a crowd.
const CROWD: usize = 300;
/// More than sockets and buffers on the way hold.
const MUCH: usize = 24 * 1024 * 1024;
/// Less than they hold.
const LITTLE: usize = 50_000;
