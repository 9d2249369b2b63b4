//! A master with one instance, its API, and its disk, which may be full.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::world::{bare, environment, free, of_master, World};

/// A master whose instance forwards alone.
pub fn world(work: &Path) -> World {
    let (api, user, target) = (free(), free(), free());
    let state = work.join("state");
    fs::create_dir_all(&state).expect("a folder for the state");
    // Without the right to mount there is no full disk.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(&state).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("no mounts here: no disk will be full");
    }
    let mut env = environment();
    env.push(("NP_STATE_DIR".into(), state.display().to_string()));
    let master = Process::start("master", &[format!("master://{api}?log=info")], &env);
    let key = master.api_key(Duration::from_secs(20)).expect("a key of the API");
    fs::write(work.join("api"), format!("{api} {key}")).expect("a file");
    let made = ask(work, "POST", "/v1/instances", &format!(r#"{{"url":"client://{user}/{target}?mode=1"}}"#));
    assert!(made.as_ref().is_ok_and(|made| made.starts_with("HTTP/1.1 201")), "{made:?}");
    of_master(master, user, work.to_path_buf(), bare(target))
}

/// Fills its disk. `false` where that cannot be.
pub fn fill(work: &Path) -> bool {
    let filler = work.join("state/filler");
    fs::write(&filler, vec![0; 1 << 20]).is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) || {
        let _ = fs::remove_file(filler);
        false
    }
}

/// Its disk has room again.
pub fn clear(work: &Path) {
    let _ = fs::remove_file(work.join("state/filler"));
}

/// Gives the disk back.
pub fn end(work: &Path) {
    let _ = Command::new("umount").arg(work.join("state")).status();
}

/// Whether a change is answered with a word about the disk that does not take it.
pub fn tells_of_full_disk(work: &Path) -> io::Result<bool> {
    let answer = ask(work, "POST", "/v1/info", r#"{"alias":"soak"}"#)?;
    let again = ask(work, "POST", "/v1/info", r#"{"alias":"master"}"#)?;
    Ok([answer, again].iter().any(|answer| answer.to_ascii_lowercase().contains("x-nodepass-unsaved: ")))
}

fn ask(work: &Path, method: &str, path: &str, body: &str) -> io::Result<String> {
    let kept = fs::read_to_string(work.join("api"))?;
    let (at, key) = kept.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
    let at: SocketAddr = at.parse().map_err(|_| io::ErrorKind::InvalidData)?;
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let length = body.len();
    write!(
        stream,
        "{method} /api{path} HTTP/1.1\r\nHost: soak\r\nX-API-Key: {key}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
