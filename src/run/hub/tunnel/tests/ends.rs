//! What both ends of a tunnel are made of.

use std::sync::LazyLock;

use super::super::*;
use crate::config::{parse, Command};
use crate::logic::auth::{Agreement, Initiator, Numbers, Psk, Responder, SessionId};

/// Of both ends.
pub fn config() -> Config {
    let url = "server://key@127.0.0.1:1/127.0.0.1:2?max=32";
    let Ok(parsed) = parse(&[url.into()], &|_| None) else { panic!("no URL") };
    let Command::Run(config) = parsed.command else { panic!("no instance") };
    *config
}

/// How the client reaches the server.
pub fn route(config: &Config) -> Arc<ServerRoute> {
    Arc::new(ServerRoute {
        tunnel: 1,
        from: None,
        addresses: Vec::new(),
        via: None,
        tls: None,
        quic: None,
        transport: Transport::Tcp,
        connections: 1,
        carriers: 1,
        dialect: Dialect::Json,
        authority: String::new(),
        pins: None,
        roots: false,
        ws_eof: false,
        reuse: false,
        quiet: false,
        round: Duration::ZERO,
        dial: config.limits.tcp_dial,
        timeout: config.limits.handshake,
    })
}

/// The keys of both ends.
pub fn secrets() -> (Option<Secret>, Option<Secret>) {
    static PSK: LazyLock<Psk> = LazyLock::new(|| Psk::stretch(b"testkey"));
    let (initiator, message) = Initiator::new(&PSK, &[]).unwrap();
    let terms = Terms { flow: Direction::Reverse, max: 1, tls: 0, transport: 0, features: Vec::new() };
    let agreement = Agreement { terms, fp: None, session: SessionId(1) };
    let (message, server) = Responder::read(&PSK, &message).unwrap().answer(&agreement).unwrap();
    let (_, client) = initiator.finish(&message).unwrap();
    let secret = |keys| Some(Secret { keys: Arc::new(keys), session: SessionId(1), used: Numbers::default() });
    (secret(server), secret(client))
}
