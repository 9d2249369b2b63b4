//! The programs that are compared: how each is found, configured, started, and ended.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process;

/// One way from a user to a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Direct,
    Nginx,
    Haproxy,
    Socat,
    Realm,
    Rathole,
    GoSingle,
    GoTunnel,
    GoTunnelTls,
    Single,
    Tunnel,
    TunnelTls,
    Quic,
    Ws,
    H2,
}

impl Way {
    /// All of them, in the order of the tables and of each round.
    pub const ALL: [Way; 15] = [
        Way::Direct,
        Way::Nginx,
        Way::Haproxy,
        Way::Socat,
        Way::Realm,
        Way::Rathole,
        Way::GoSingle,
        Way::GoTunnel,
        Way::GoTunnelTls,
        Way::Single,
        Way::Tunnel,
        Way::TunnelTls,
        Way::Quic,
        Way::Ws,
        Way::H2,
    ];

    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Nginx => "nginx stream",
            Way::Haproxy => "haproxy",
            Way::Socat => "socat",
            Way::Realm => "realm",
            Way::Rathole => "rathole",
            Way::GoSingle => "original single-end",
            Way::GoTunnel => "original tunnel",
            Way::GoTunnelTls => "original tunnel, tls=1",
            Way::Single => "nodepass single-end",
            Way::Tunnel => "nodepass tunnel",
            Way::TunnelTls => "nodepass tunnel, tls=1",
            Way::Quic => "nodepass QUIC",
            Way::Ws => "nodepass WebSocket",
            Way::H2 => "nodepass HTTP/2",
        }
    }

    /// The short name on the command line of the bench and in file names.
    pub fn key(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Nginx => "nginx",
            Way::Haproxy => "haproxy",
            Way::Socat => "socat",
            Way::Realm => "realm",
            Way::Rathole => "rathole",
            Way::GoSingle => "go-single",
            Way::GoTunnel => "go-tunnel",
            Way::GoTunnelTls => "go-tls",
            Way::Single => "single",
            Way::Tunnel => "tunnel",
            Way::TunnelTls => "tls",
            Way::Quic => "quic",
            Way::Ws => "ws",
            Way::H2 => "h2",
        }
    }

    /// Whether it forwards datagrams.
    pub fn carries_datagrams(self) -> bool {
        self != Way::Haproxy
    }

    /// Whether thousands of users can be there at once: socat has a process for each.
    pub fn carries_crowds(self) -> bool {
        self != Way::Socat
    }

    /// Whether it is a build of this project.
    pub fn is_ours(self) -> bool {
        self == Way::Single || (self.pool().is_some() && !self.is_original())
    }

    /// Whether it is NodePass in Go.
    pub fn is_original(self) -> bool {
        matches!(self, Way::GoSingle | Way::GoTunnel | Way::GoTunnelTls)
    }

    /// What a tunnel's server is told of its pool; `None` for a way that is no tunnel of NodePass.
    pub fn pool(self) -> Option<&'static str> {
        match self {
            Way::Tunnel | Way::GoTunnel => Some("tls=0"),
            Way::TunnelTls | Way::GoTunnelTls => Some("tls=1"),
            Way::Quic => Some("tls=1&type=1"),
            Way::Ws => Some("tls=1&type=2"),
            Way::H2 => Some("tls=1&type=3"),
            _ => None,
        }
    }
}

/// Where the programs are; `None` for one that this machine does not have.
#[derive(Clone)]
pub struct Programs {
    pub nodepass: Option<PathBuf>,
    pub nginx: Option<PathBuf>,
    pub haproxy: Option<PathBuf>,
    pub socat: Option<PathBuf>,
    pub realm: Option<PathBuf>,
    pub rathole: Option<PathBuf>,
    /// The original, in Go.
    pub original: Option<PathBuf>,
    /// A directory for configuration and logs, removed by the caller.
    pub work: PathBuf,
}

impl Programs {
    /// The same with another build of NodePass.
    pub fn with_nodepass(&self, nodepass: &Path) -> Programs {
        Programs { nodepass: Some(nodepass.into()), ..self.clone() }
    }

    /// The program that `way` needs, and whether this machine has it.
    pub fn has(&self, way: Way) -> bool {
        way == Way::Direct || self.of(way).is_some()
    }

    /// The program that forwards.
    fn of(&self, way: Way) -> &Option<PathBuf> {
        match way {
            Way::Direct => &None,
            Way::Nginx => &self.nginx,
            Way::Haproxy => &self.haproxy,
            Way::Socat => &self.socat,
            Way::Realm => &self.realm,
            Way::Rathole => &self.rathole,
            Way::GoSingle | Way::GoTunnel | Way::GoTunnelTls => &self.original,
            Way::Single | Way::Tunnel | Way::TunnelTls | Way::Quic | Way::Ws | Way::H2 => &self.nodepass,
        }
    }

    /// Starts `way` towards `target`, without waiting for it to be ready.
    pub fn start(&self, way: Way, target: SocketAddr) -> io::Result<Running> {
        match way {
            Way::Direct => Ok(Running { entry: target, parts: Vec::new() }),
            Way::Nginx => self.start_nginx(target),
            Way::Haproxy => self.start_haproxy(target),
            Way::Socat => self.start_socat(target),
            Way::Realm => self.start_realm(target),
            Way::Rathole => self.start_rathole(target),
            _ => match way.pool() {
                Some(pool) => self.start_tunnel(known(self.of(way))?, target, pool),
                None => self.start_single(known(self.of(way))?, target),
            },
        }
    }

    /// A web server that answers every request with a few bytes and ends the connection: the target of
    /// the test of new users.
    pub fn start_web(&self) -> io::Result<Running> {
        let entry = free_address()?;
        let body = format!(
            "http {{ access_log off; server {{ listen {entry} backlog=4096; keepalive_timeout 0;\n\
             location / {{ default_type text/plain; return 200 \"{ANSWER}\"; }} }} }}\n"
        );
        let part = self.nginx_with("web", "", &body)?;
        Ok(Running { entry, parts: vec![part] })
    }

    /// The server of a tunnel that no client has found yet.
    pub fn start_lone_server(&self, pool: &str) -> io::Result<Running> {
        let (tunnel, entry) = (free_address()?, free_address()?);
        let server = self.nodepass(known(&self.nodepass)?, "server", &server_url(tunnel, entry, pool))?;
        Ok(Running { entry, parts: vec![server] })
    }

    fn start_nginx(&self, target: SocketAddr) -> io::Result<Running> {
        let entry = free_address()?;
        let body = format!(
            "stream {{ server {{ listen {entry} backlog=4096; proxy_timeout 1h; proxy_pass {target}; }}\n\
                 server {{ listen {entry} udp; proxy_timeout 1h; proxy_pass {target}; }} }}\n"
        );
        let part = self.nginx_with("nginx", &self.stream_module(), &body)?;
        Ok(Running { entry, parts: vec![part] })
    }

    /// One process: a master would survive its worker's bench, and a worker its master's end.
    fn nginx_with(&self, name: &'static str, modules: &str, body: &str) -> io::Result<Part> {
        let prefix = self.work.join(name);
        fs::create_dir_all(&prefix)?;
        let config = prefix.join("nginx.conf");
        let text = format!(
            "{modules}daemon off; master_process off; worker_processes 1; pid nginx.pid;\n\
             worker_rlimit_nofile {MAX_CONNECTIONS}; error_log error.log warn;\n\
             events {{ worker_connections {MAX_CONNECTIONS}; }}\n{body}"
        );
        fs::write(&config, text)?;
        let mut command = Command::new(known(&self.nginx)?);
        command.arg("-p").arg(&prefix).arg("-c").arg(&config);
        self.spawn(name, command)
    }

    /// Debian builds the stream proxy as a module; elsewhere it is built in and nothing is loaded.
    fn stream_module(&self) -> String {
        let Some(nginx) = &self.nginx else {
            return String::new();
        };
        let output = Command::new(nginx).arg("-V").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stderr).into_owned());
        text.unwrap_or_default()
            .split_whitespace()
            .find_map(|word| word.strip_prefix("--modules-path="))
            .map(|folder| Path::new(folder).join("ngx_stream_module.so"))
            .filter(|file| file.exists())
            .map(|file| format!("load_module {};\n", file.display()))
            .unwrap_or_default()
    }

    fn start_haproxy(&self, target: SocketAddr) -> io::Result<Running> {
        let entry = free_address()?;
        let config = self.work.join("haproxy.cfg");
        let text = format!(
            "global\n  maxconn {HAPROXY_MAX}\n\
             defaults\n  mode tcp\n  option splice-auto\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen bench\n  bind {entry} backlog 4096\n  server target {target}\n"
        );
        fs::write(&config, text)?;
        let mut command = Command::new(known(&self.haproxy)?);
        command.arg("-db").arg("-f").arg(&config);
        let part = self.spawn("haproxy", command)?;
        Ok(Running { entry, parts: vec![part] })
    }

    fn start_rathole(&self, target: SocketAddr) -> io::Result<Running> {
        let (tunnel, entry) = (free_address()?, free_address()?);
        let server = self.work.join("rathole-server.toml");
        let client = self.work.join("rathole-client.toml");
        fs::write(
            &server,
            format!(
                "[server]\nbind_addr = \"{tunnel}\"\ndefault_token = \"{KEY}\"\n\
                 [server.services.bench]\nbind_addr = \"{entry}\"\n\
                 [server.services.bench-udp]\ntype = \"udp\"\nbind_addr = \"{entry}\"\n"
            ),
        )?;
        fs::write(
            &client,
            format!(
                "[client]\nremote_addr = \"{tunnel}\"\ndefault_token = \"{KEY}\"\n\
                 [client.services.bench]\nlocal_addr = \"{target}\"\n\
                 [client.services.bench-udp]\ntype = \"udp\"\nlocal_addr = \"{target}\"\n"
            ),
        )?;
        let part = |name, side: &str, config: &Path| {
            let mut command = Command::new(known(&self.rathole)?);
            command.arg(side).arg(config).env("RUST_LOG", "error");
            self.spawn(name, command)
        };
        Ok(Running {
            entry,
            parts: vec![part("rathole server", "--server", &server)?, part("rathole client", "--client", &client)?],
        })
    }

    fn start_socat(&self, target: SocketAddr) -> io::Result<Running> {
        let entry = free_address()?;
        let part = |name, protocol: &str, queue: &str| {
            let mut command = Command::new(known(&self.socat)?);
            command.arg(format!("{protocol}-LISTEN:{},bind={},fork,reuseaddr{queue}", entry.port(), entry.ip()));
            command.arg(format!("{protocol}:{target}"));
            self.spawn(name, command)
        };
        Ok(Running { entry, parts: vec![part("socat", "TCP4", ",backlog=4096")?, part("socat for UDP", "UDP4", "")?] })
    }

    fn start_realm(&self, target: SocketAddr) -> io::Result<Running> {
        let entry = free_address()?;
        let mut command = Command::new(known(&self.realm)?);
        command.args([
            "--udp",
            "--listen",
            &entry.to_string(),
            "--remote",
            &target.to_string(),
            "--log-level",
            "error",
        ]);
        Ok(Running { entry, parts: vec![self.spawn("realm", command)?] })
    }

    fn start_single(&self, program: &Path, target: SocketAddr) -> io::Result<Running> {
        let entry = free_address()?;
        let url = format!("client://{entry}/{target}?mode=1&log=warn");
        Ok(Running { entry, parts: vec![self.nodepass(program, "client", &url)?] })
    }

    fn start_tunnel(&self, program: &Path, target: SocketAddr, pool: &str) -> io::Result<Running> {
        let (tunnel, entry) = (free_address()?, free_address()?);
        let server = self.nodepass(program, "server", &server_url(tunnel, entry, pool))?;
        Ok(Running { entry, parts: vec![server, self.nodepass(program, "client", &client_url(tunnel, target))?] })
    }

    /// A tunnel whose processes live in network namespaces of their own: the server, which listens at `tunnel`, with the
    /// users, and the client with `target`.
    pub fn start_apart(
        &self,
        pool: &str,
        spaces: [&str; 2],
        tunnel: SocketAddr,
        target: SocketAddr,
    ) -> io::Result<Running> {
        let entry = free_address()?;
        let urls = [server_url(tunnel, entry, pool), client_url(tunnel, target)];
        let mut parts = Vec::new();
        for ((name, space), url) in ["server", "client"].into_iter().zip(spaces).zip(urls) {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", space]).arg(known(&self.nodepass)?).arg(url);
            parts.push(self.spawn(name, command)?);
            sleep(PROBE_PAUSE * 10);
        }
        Ok(Running { entry, parts })
    }

    fn nodepass(&self, program: &Path, role: &'static str, url: &str) -> io::Result<Part> {
        let mut command = Command::new(program);
        command.arg(url);
        self.spawn(role, command)
    }

    fn spawn(&self, name: &'static str, mut command: Command) -> io::Result<Part> {
        let log = File::create(self.work.join(format!("{}.log", name.replace(' ', "-"))))?;
        // nginx takes a variable of its own name for a list of sockets to take over.
        command.env_remove("NGINX");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: prctl is async-signal-safe and touches nothing of ours. However the bench ends, the
        // kernel ends what it started.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn()?;
        Ok(Part { name, child })
    }
}

/// One process of a way.
pub struct Part {
    /// Which of the way's processes it is.
    pub name: &'static str,
    child: Child,
}

impl Part {
    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// A way that has been started; dropping it ends its processes.
pub struct Running {
    /// Where users connect.
    pub entry: SocketAddr,
    /// The processes that forward, the one users meet first.
    pub parts: Vec<Part>,
}

impl Running {
    /// Waits until `probe` gets through, then until the processes have come to rest (a pool has filled).
    pub fn ready(&mut self, probe: impl Fn(SocketAddr) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        while !probe(self.entry) {
            for part in &mut self.parts {
                if let Some(status) = part.child.try_wait()? {
                    return Err(io::Error::other(format!("{} left: {status}", part.name)));
                }
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("not ready in time"));
            }
            sleep(PROBE_PAUSE);
        }
        self.rest();
        Ok(())
    }

    /// Waits until no process has opened or closed a descriptor for a while.
    pub fn rest(&self) {
        let count = || -> usize { self.parts.iter().filter_map(|part| process::descriptors(part.pid()).ok()).sum() };
        let deadline = Instant::now() + READY_LIMIT;
        let (mut last, mut since) = (count(), Instant::now());
        while since.elapsed() < REST && Instant::now() < deadline {
            sleep(PROBE_PAUSE);
            let now = count();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// Processor seconds of all its processes since their start.
    pub fn processor_seconds(&self) -> f64 {
        let all = self.parts.iter().flat_map(|part| process::family(part.pid()));
        all.filter_map(|pid| process::processor_seconds(pid).ok()).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for part in &mut self.parts {
            // It may have left by itself; then there is nothing to end.
            for pid in process::family(part.pid()).skip(1) {
                // SAFETY: kill takes numbers; these are children of our own child.
                unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            }
            let _ = part.child.kill();
            let _ = part.child.wait();
        }
    }
}

/// A loopback address that is free, below the range the kernel takes ports of outgoing connections
/// from: a port from within it could be taken between this look and the program's own bind.
fn free_address() -> io::Result<SocketAddr> {
    for _ in 0..PORT_SPAN {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let start = (std::process::id() % u32::from(PORT_SPAN)) as u16;
        let port = FIRST_PORT + (start.wrapping_add(step) % PORT_SPAN);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::other("no free port"))
}

fn server_url(tunnel: SocketAddr, entry: SocketAddr, pool: &str) -> String {
    format!("server://{KEY}@{tunnel}/{entry}?mode=1&{pool}&log=warn")
}

fn client_url(tunnel: SocketAddr, target: SocketAddr) -> String {
    format!("client://{KEY}@{tunnel}/{target}?mode=2&log=warn")
}

fn known(program: &Option<PathBuf>) -> io::Result<&Path> {
    program.as_deref().ok_or_else(|| io::Error::other("program not found"))
}

/// What the web server answers, with a head of about 150 bytes before it.
pub const ANSWER: &str = "hello from the target";
/// The tunnel key in every configuration.
const KEY: &str = "benchkey";
/// Descriptors nginx may use: two per user.
const MAX_CONNECTIONS: usize = 20_000;
/// Users haproxy may have at once; it wants two descriptors for each, and half a one for its pipes.
const HAPROXY_MAX: usize = 7_000;
/// Ports are taken from here...
const FIRST_PORT: u16 = 18_000;
/// ...and this many after it.
const PORT_SPAN: u16 = 14_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
/// How long a program may take until its first user gets through.
const READY_LIMIT: Duration = Duration::from_secs(20);
const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// No descriptor opened or closed for so long: at rest.
const REST: Duration = Duration::from_millis(700);
