//! Originals, played by a peer that shares no code with this program.

use crate::support::*;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// The conformance peer, and the Python that runs it.
pub struct Originals {
    python: &'static str,
    folder: String,
}

impl Originals {
    /// `None`, and a word about it, where it is not beside this repository or lacks something.
    pub fn new() -> Option<Originals> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/conformance");
        if !Path::new(folder).join("peer.py").is_file() {
            skip_beside("the conformance peer");
            return None;
        }
        let python = python("h2, aioquic, websockets, cryptography")?;
        Some(Originals { python, folder: folder.to_owned() })
    }

    /// A client of that generation of the server at `tunnel`, once its tunnel is up.
    pub fn client(&self, key: &str, wire: &str, tunnel: SocketAddr, target: SocketAddr, tls: u8) -> Process {
        let (port, target) = (tunnel.port().to_string(), target.port().to_string());
        let original = self.run(wire, CLIENT, &[key, wire, &port, &target, &tls.to_string()]);
        original.says("up", GRACE);
        original
    }

    /// A script that uses the peer: its arguments come after the folder.
    pub fn run(&self, name: &str, script: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new(self.python);
        command.args(["-c", script, &self.folder]).args(arguments);
        Process::run(name, command)
    }
}

/// A client: the peer's folder, key, generation, tunnel port, target port, `tls`.
const CLIENT: &str = r#"
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from peer import Client
async def main():
    key, wire, (port, target, tls) = sys.argv[2], sys.argv[3], map(int, sys.argv[4:])
    client = Client(key, port, wire=wire, tls=tls, target=("127.0.0.1", target))
    await client.start()
    await client.up.wait()
    print("up", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"#;
