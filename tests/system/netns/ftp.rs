//! FTP, whose data comes over connections of their own: a port for those that the user makes (passive), and one in the other
//! direction for those that the server makes (active).
//!
//! ```text
//!   namespace s                                                  namespace c
//!   curl -> 7002 [server ==== client] -> 7000 vsftpd             commands
//!        -> 7010 [server ==== client] -> 7010                    data, passive
//!   7020 <-      [server ==== client] <- 7020                    data, active
//! ```

use super::{each_kind, Land};
use crate::support::*;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

#[test]
fn ftp_lists_and_copies_both_ways_with_passive_and_with_active_data_connections() {
    let Some(vsftpd) = program("vsftpd") else { return };
    if program("curl").is_none() {
        return;
    }
    each_kind(|kind| {
        let Some(land) = Land::new() else { return };
        let served = Folder::new();
        let config = serve(&served);
        let mut command = Command::new(&vsftpd);
        command.arg(config);
        let _server = Process::run("vsftpd", land.client.command(&command));
        let at: SocketAddr = "127.0.0.1:7000".parse().expect("an address");
        land.client.enter(|| connect(at));
        let tunnel = land.tunnel_to_target(kind, ("1s", "1s"), "30s");
        let _data = [data_tunnel(&land, kind, 1, 7010), data_tunnel(&land, kind, 2, 7020)];

        let data = noise(7, SIZE);
        served.write("files/big", &data);
        let here = Folder::new();
        let file = here.write("up", &data);
        for active in [false, true] {
            let curl = |args: &[&str], path: &str| {
                let mut curl = Command::new("curl");
                curl.args(["-sS", "--fail", "--max-time", "120", "--noproxy", "*"]).args(args);
                // Its port for data is as fixed as the server's.
                let ports: &[&str] = if active { &["--ftp-port", "127.0.0.1:7020"] } else { &[] };
                curl.args(ports).arg(format!("ftp://{}/{path}", tunnel.user));
                until("an answer in an order that curl takes", GRACE * 3, || {
                    let asked = output(land.server.command(&curl));
                    if active && asked.0 == OVERTAKEN {
                        Err(asked.2)
                    } else {
                        Ok(asked)
                    }
                })
            };
            let (status, listed, errors) = curl(&[], "");
            assert!(status == 0 && listed.contains("big"), "{kind}, active: {active}: {listed} {errors}");
            let down = here.file("down");
            let (status, _, errors) = curl(&["-o", down.to_str().unwrap()], "big");
            assert_eq!(status, 0, "{kind}, active: {active}: {errors}");
            assert!(std::fs::read(&down).unwrap() == data, "{kind}, active: {active}: another file came");
            let name = format!("up/{active}");
            let (status, _, errors) = curl(&["-T", file.to_str().unwrap()], &name);
            assert_eq!(status, 0, "{kind}, active: {active}: {errors}");
            let came = std::fs::read(served.file(&format!("files/{name}"))).expect("a file");
            assert!(came == data, "{kind}, active: {active}: another file arrived");
        }
        tunnel.is_whole();
    });
}

/// A tunnel for data, beside that for commands: users at the server, or at the client.
fn data_tunnel(land: &Land, kind: &str, mode: u8, port: u16) -> [Process; 2] {
    let tunnel = format!("key@{}:{}/127.0.0.1:{port}?log=debug", land.at(1), port + 1);
    let server = land.server.nodepass_with(&format!("server://{tunnel}&mode={mode}&{kind}"), "1s", &[]);
    let client = land.client.nodepass_with(&format!("client://{tunnel}&mode=2&min=2"), "1s", &[]);
    for process in [&server, &client] {
        process.says("CHECK_POINT|", GRACE);
    }
    [server, client]
}

/// What a server of files needs: the path of its configuration.
fn serve(served: &Folder) -> std::path::PathBuf {
    for (folder, mode) in [("empty", 0o755), ("files", 0o755), ("files/up", 0o777)] {
        let path = served.file(folder);
        std::fs::create_dir(&path).expect("a folder");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("its mode");
    }
    let path = |name: &str| -> String { Path::display(&served.file(name)).to_string() };
    let lines = [
        "listen=YES",
        "listen_address=127.0.0.1",
        "listen_port=7000",
        "background=NO",
        "anonymous_enable=YES",
        "no_anon_password=YES",
        &format!("anon_root={}", path("files")),
        &format!("secure_chroot_dir={}", path("empty")),
        "write_enable=YES",
        "anon_upload_enable=YES",
        "anon_umask=022",
        "pasv_min_port=7010",
        "pasv_max_port=7010",
        "seccomp_sandbox=NO",
        "isolate=NO",
        "isolate_network=NO",
        "",
    ];
    served.write("vsftpd.conf", lines.join("\n"))
}

/// What curl says when the server's word that all was sent comes before the connection on which it was: they go by different tunnels, and
/// curl does not wait for the other then. A user asks again.
const OVERTAKEN: i32 = 8;
/// Bytes of a file.
const SIZE: usize = 4 << 20;
