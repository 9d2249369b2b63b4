//! Set-ups that have one symptom each, and what the page's variables are there.

use crate::support::*;
use std::any::Any;
use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Arc;

/// A set-up that runs until it is dropped.
pub struct Scene {
    pub folder: Folder,
    /// What the shell has in its environment.
    pub env: Vec<(&'static str, String)>,
    /// What it does before the page's commands.
    pub preamble: String,
    held: Vec<Box<dyn Any>>,
}

/// A key that is long enough for no warning.
const KEY: &str = "6x2k9d1m7q4t8w3z5b0n";

impl Scene {
    /// Nothing runs.
    pub fn bare(folder: Folder) -> Scene {
        Scene { folder, env: Vec::new(), preamble: String::new(), held: Vec::new() }
    }

    /// The set-up that a page names.
    pub fn named(name: &str) -> Scene {
        let mut scene = Scene::bare(Folder::new());
        match name {
            "port" => scene.port(),
            "unreachable" => scene.client(&free_addr().to_string()),
            "dns" => scene.client("server.invalid:10101"),
            "keys" => scene.keys(),
            "typo" => scene.is("URL", format!("server://{KEY}@{}/{}?mode=1&tsl=1", free_addr(), free_addr())),
            "target" => scene.target(),
            "flapping" => scene.flapping(),
            "certificate" => scene.certificate(),
            "renewal" => scene.renewal(),
            "unknown-certificate" => scene.unknown_certificate(),
            "expired" => scene.expired(),
            "silent" => scene.silent(),
            "full" => scene.full(),
            "proxy" => scene.proxy(),
            "bans" => scene.bans(),
            "latency" => scene.latency(),
            "few-files" => scene.few_files(),
            "udp" => scene.udp(),
            "pools" => scene.pools(),
            "quic" => scene.quic(),
            "api" => scene.api(),
            "state" => scene.state(),
            "metrics" => scene.metrics(),
            "logs" => scene.logs(),
            "emergency" => scene.emergency(),
            "report" => scene.is("URL", forwarder(free_addr(), free_addr())),
            _ => panic!("there is no set-up {name}"),
        }
        scene
    }

    fn is(&mut self, name: &'static str, value: impl ToString) {
        self.env.push((name, value.to_string()));
    }

    fn hold(&mut self, thing: impl Any) {
        self.held.push(Box::new(thing));
    }

    /// Starts an instance whose log goes to a file, and waits until it has said something.
    fn start(&mut self, url: &str, log: &str, says: &str, count: usize) -> u32 {
        self.start_with(url, log, says, count, &[])
    }

    fn start_with(&mut self, url: &str, log: &str, says: &str, count: usize, env: &[(&str, String)]) -> u32 {
        let path = self.folder.file(log);
        let mut command = nodepass_command();
        for (name, _) in QUICK {
            command.env_remove(name);
        }
        command.arg(url).env("NP_REPORT_INTERVAL", "1s").envs(env.iter().map(|(name, value)| (name, value)));
        let file = OpenOptions::new().create(true).append(true).open(&path).expect("a log");
        command.stdout(file);
        let process = Process::unheard("nodepass", command);
        let pid = process.pid();
        self.hold(process);
        self.log_says(log, says, count);
        pid
    }

    fn log_says(&self, log: &str, says: &str, count: usize) {
        let text = || std::fs::read_to_string(self.folder.file(log)).unwrap_or_default();
        let said = eventually(GRACE, || text().matches(says).count() >= count);
        assert!(said, "{log} does not say {says}: {}", text());
    }

    fn log(&mut self, name: &str) {
        let path: PathBuf = self.folder.file(name);
        self.is("LOG", path.display());
    }

    fn port(&mut self) {
        let at = free_addr();
        self.hold((TcpListener::bind(at).expect("a port"), UdpSocket::bind(at).expect("a port")));
        self.start(&forwarder(at, free_addr()), "log", "cannot listen", 1);
        self.is("URL", forwarder(at, free_addr()));
        self.log("log");
    }

    /// A client whose server is not there.
    fn client(&mut self, server: &str) {
        let url = format!("client://{KEY}@{server}/{}?mode=2", free_addr());
        self.start(&url, "log", "Client error", 1);
        self.is("URL", url);
        self.log("log");
    }

    fn keys(&mut self) {
        let at = free_addr();
        self.start(&server(at, "tls=1"), "server.log", "Waiting for a client", 1);
        let url = format!("client://another-{KEY}@{at}/{}?mode=2", free_addr());
        self.start(&url, "log", "keys differ", 1);
        self.log_says("server.log", "handshake refused: the keys differ", 1);
        self.is("URL", url);
        self.log("log");
    }

    fn target(&mut self) {
        let at = free_addr();
        let url = forwarder(at, free_addr());
        self.start(&url, "log", "CHECK_POINT", 1);
        self.hold(connect(at));
        self.log_says("log", "Target not reached", 1);
        self.is("URL", url);
        self.log("log");
    }

    fn flapping(&mut self) {
        let at = free_addr();
        self.start(&server(at, "tls=1"), "log", "Waiting for a client", 1);
        let pid = self.start(&client(at), "client.log", "is up:", 1);
        self.log_says("log", "is up:", 1);
        terminate(pid);
        self.log_says("log", "ended:", 1);
        self.log("log");
    }

    fn certificate(&mut self) {
        let parameters = self.certificate_of(5);
        let url = server(free_addr(), &parameters);
        self.start(&url, "log", "Waiting for a client", 1);
        self.is("URL", url);
        self.log("log");
    }

    fn renewal(&mut self) {
        let parameters = self.certificate_of(5);
        let pid = self.start(&server(free_addr(), &parameters), "log", "Waiting for a client", 1);
        self.certificate_of(90);
        self.is("PID", pid);
        self.log("log");
    }

    /// A certificate for so many days, and how a URL names it.
    fn certificate_of(&mut self, days: u32) -> String {
        let (crt, key) = (self.folder.file("server.pem"), self.folder.file("server.key"));
        let mut command = Command::new("openssl");
        let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=server.example \
                    -addext subjectAltName=DNS:server.example -addext basicConstraints=critical,CA:FALSE";
        command.args(args.split_whitespace()).args(["-days", &days.to_string()]);
        command.arg("-keyout").arg(&key).arg("-out").arg(&crt);
        let (status, _, errors) = output(command);
        assert_eq!(status, 0, "{errors}");
        self.is("CRT", crt.display());
        format!("tls=2&crt={}&key={}", crt.display(), key.display())
    }

    fn unknown_certificate(&mut self) {
        let (at, parameters) = (free_addr(), self.certificate_of(90));
        self.start(&server(at, &parameters), "server.log", "Waiting for a client", 1);
        self.start(&client(at), "log", "not opened", 1);
        self.log("log");
    }

    /// A server whose certificate has expired, and a client that knows its issuer.
    fn expired(&mut self) {
        let (crt, key, at) = (self.folder.file("server.pem"), self.folder.file("server.key"), free_addr());
        let pair = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["server.example".into()]).expect("a name");
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        std::fs::write(&crt, params.self_signed(&pair).expect("a certificate").pem()).expect("a file");
        std::fs::write(&key, pair.serialize_pem()).expect("a file");
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
        let url = server(at, &format!("tls=2&crt={}&key={}", crt.display(), key.display()));
        self.start(&url, "server.log", "Waiting for a client", 1);
        let roots = [("SSL_CERT_FILE", crt.display().to_string())];
        let client = format!("{}&sni=server.example", client(at));
        self.start_with(&client, "log", "not opened", 1, &roots);
        self.is("URL", url);
        self.log("log");
    }

    /// A tunnel over a path that becomes silent.
    fn silent(&mut self) {
        let at = free_addr();
        self.start(&server(at, "tls=1"), "log", "Waiting for a client", 1);
        let silent = Arc::new(AtomicBool::new(false));
        let gate = silent.clone();
        // Whatever comes is kept: a path that closes would be an end.
        let path = path_past(at, move |_| {
            while gate.load(SeqCst) {
                std::thread::park();
            }
            true
        });
        self.start(&client(path), "client.log", "is up:", 1);
        silent.store(true, SeqCst);
        self.log_says("log", "ended:", 1);
        self.log("log");
    }

    /// A forwarder with one slot, which a user has.
    fn full(&mut self) {
        let (at, target) = (free_addr(), Target::echo());
        let url = format!("{}&slot=1&noudp=1", forwarder(at, target.addr()));
        self.start(&url, "log", "CHECK_POINT", 1);
        let (user, served) = (connect(at), target.addr());
        self.log_says("log", "TCPS=1", 1);
        drop(connect(at));
        self.log_says("log", "slots are taken", 1);
        self.hold((user, served, target));
        self.is("URL", url);
        self.log("log");
    }

    /// A client whose proxy does not let it out.
    fn proxy(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = format!("http://{}", listener.local_addr().expect("its address"));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
                let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 403 Forbidden\r\n\r\n");
            }
        });
        let url = format!("client://{KEY}@server.example:10101/{}?mode=2", free_addr());
        self.start_with(&url, "log", "Client error", 1, &[("HTTPS_PROXY", proxy.clone())]);
        self.is("HTTPS_PROXY", proxy);
        self.is("URL", url);
        self.log("log");
    }

    /// A client that came with another key until its address was banned. Loopback is never banned.
    fn bans(&mut self) {
        let host = other_than_loopback().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
        let at = SocketAddr::new(host, free_addr().port());
        let env = [("NP_BAN_FAILURES", "3".to_owned())];
        self.start_with(&server(at, "tls=1"), "log", "Waiting for a client", 1, &env);
        let url = format!("client://another-{KEY}@{at}/{}?mode=2", free_addr());
        let pid =
            self.start_with(&url, "client.log", "Client error", 1, &[("NP_SERVICE_COOLDOWN", "200ms".to_owned())]);
        self.log_says("log", "is banned", 1);
        // Where connections of its own stand, the check asks nothing.
        terminate(pid);
        self.log_says("client.log", "Client stopped", 1);
        self.is("URL", url);
        self.log("log");
    }

    fn latency(&mut self) {
        let (at, target) = (free_addr(), Target::echo());
        let url = format!("server://{KEY}@{at}/{}?mode=2&tls=1", target.addr());
        self.start(&url, "log", "Waiting for a client", 1);
        self.start(&client(at), "client.log", "is up:", 1);
        self.log_says("log", "CHECK_POINT", 1);
        self.hold(target);
        self.is("URL", url);
        self.log("log");
    }

    fn few_files(&mut self) {
        let pid = self.start(&forwarder(free_addr(), free_addr()), "log", "CHECK_POINT", 1);
        self.preamble = "ulimit -n 256".into();
        self.is("PID", pid);
        self.is("URL", server(free_addr(), "tls=1"));
    }

    fn udp(&mut self) {
        let at = free_addr();
        let url = format!("client://{at}/{}?mode=1&notcp=1", free_addr());
        self.start(&url, "log", "CHECK_POINT", 1);
        let user = udp_user(at);
        let told = eventually(GRACE, || {
            let _ = user.send(b"hello");
            std::fs::read_to_string(self.folder.file("log")).unwrap_or_default().contains("refuses datagrams")
        });
        assert!(told, "the log says that the target refuses");
        self.is("URL", url);
        self.log("log");
    }

    /// A tunnel of each kind, one after the other.
    fn pools(&mut self) {
        for kind in 0..4 {
            let at = free_addr();
            self.start(&server(at, &format!("tls=1&type={kind}")), "server.log", "Waiting for a client", kind + 1);
            self.start(&client(at), "log", "is up:", kind + 1);
        }
        self.log("log");
    }

    fn quic(&mut self) {
        let at = free_addr();
        self.start(&server(at, "tls=1&type=1"), "server.log", "Waiting for a client", 1);
        self.start(&client(path_past(at, |piece| !piece.udp)), "log", "UDP port", 1);
        self.log("log");
    }

    /// A master with an instance, which is told by its address and its key.
    fn master(&mut self, url: &str, says: &str) {
        let (at, state) = (free_addr(), self.folder.file("state"));
        let env = [("NP_STATE_DIR", state.display().to_string())];
        self.start_with(&format!("master://{at}/api"), "log", "API Key created", 1, &env);
        let text = std::fs::read_to_string(self.folder.file("log")).expect("a log");
        let key = text.split("API Key created: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let key = key.expect("a key").to_owned();
        let mut command = Command::new("curl");
        let body = format!("{{\"alias\":\"web\",\"url\":\"{url}\"}}");
        command.args(["-s", "--retry", "9", "--retry-connrefused", "-H", &format!("X-API-Key: {key}"), "-d", &body]);
        command.arg(format!("http://{at}/api/v1/instances"));
        assert_eq!(output(command).0, 0);
        self.log_says("log", says, 1);
        self.is("MASTER", format!("http://{at}/api"));
        self.is("NP_API_KEY", key);
    }

    fn api(&mut self) {
        let at = free_addr();
        self.hold((TcpListener::bind(at).expect("a port"), UdpSocket::bind(at).expect("a port")));
        self.master(&forwarder(at, free_addr()), "cannot listen");
    }

    fn emergency(&mut self) {
        self.master(&forwarder(free_addr(), free_addr()), "Client started");
    }

    /// A state that is none, before a master has seen it, and one that a master has met.
    fn state(&mut self) {
        for name in ["before", "after"] {
            std::fs::create_dir(self.folder.file(name)).expect("a folder");
            self.folder.write(&format!("{name}/nodepass.gob"), "garbage");
        }
        let after = self.folder.file("after").display().to_string();
        let url = format!("master://{}/api", free_addr());
        self.start_with(&url, "log", "API Key created", 1, &[("NP_STATE_DIR", after)]);
        let before = self.folder.file("before");
        self.is("NP_STATE_DIR", before.display());
        self.is("URL", format!("master://{}/api", free_addr()));
        self.log("log");
    }

    fn metrics(&mut self) {
        let at = free_addr();
        let url = format!("{}&metrics={at}", forwarder(free_addr(), free_addr()));
        self.start(&url, "log", "CHECK_POINT", 1);
        self.is("METRICS", at);
    }

    fn logs(&mut self) {
        let pid = self.start(&forwarder(free_addr(), free_addr()), "log", "CHECK_POINT", 1);
        self.is("PID", pid);
        self.is("URL", forwarder(free_addr(), free_addr()));
        self.log("log");
    }
}

fn forwarder(at: SocketAddr, target: SocketAddr) -> String {
    format!("client://{at}/{target}?mode=1")
}

fn server(at: SocketAddr, parameters: &str) -> String {
    format!("server://{KEY}@{at}/{}?mode=1&{parameters}", free_addr())
}

fn client(at: SocketAddr) -> String {
    format!("client://{KEY}@{at}/{}?mode=2", free_addr())
}

/// Asks a process to stop.
fn terminate(pid: u32) {
    let mut command = Command::new("kill");
    command.arg(pid.to_string());
    assert_eq!(output(command).0, 0, "it is there");
}
