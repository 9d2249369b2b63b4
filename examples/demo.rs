//! What `make demo` shows: a target, a server, a client, and a request through them, on this machine alone.
//!
//! The program runs as two processes, as a user would start it. Target and user are here, so that nothing else need be installed,
//! and the environment (a proxy, say) is kept from the processes. All ends with this one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("Error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), String> {
    let program = program()?;
    let target = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no port for the target: {error}"))?;
    let target_addr = target.local_addr().expect("a bound socket has an address");
    thread::spawn(move || serve(&target));
    title("1. A target that only this machine can reach");
    println!("   http://{target_addr}/");

    let (tunnel, public) = (free_port()?, free_port()?);
    title("2. The server: users come in here, and it waits for a client");
    let server = Node::start(
        "server",
        &program,
        &format!("server://secret@127.0.0.1:{tunnel}/127.0.0.1:{public}?mode=1&tls=1"),
    )?;
    server.shows("Waiting for a client")?;

    title("3. The client: beside the target; it calls the server");
    let client = Node::start("client", &program, &format!("client://secret@127.0.0.1:{tunnel}/{target_addr}?mode=2"))?;
    client.shows(" is up: ")?;
    server.shows(" is up: ")?;

    title("4. A user asks the server's public port");
    println!("   http://127.0.0.1:{public}/");
    let answer = request(public).map_err(|error| format!("no answer through the tunnel: {error}"))?;
    println!("   -> {answer}");
    if answer != GREETING {
        return Err(format!("the target says {GREETING:?}"));
    }
    OVER.store(true, Ordering::Relaxed);
    title("It works.");
    println!("{NEXT}");
    Ok(())
}

/// The program under show: named on the command line, or beside the folder of examples.
fn program() -> Result<PathBuf, String> {
    let found = match std::env::args_os().nth(1) {
        Some(named) => PathBuf::from(named),
        None => {
            let own = std::env::current_exe().map_err(|error| format!("no path of this program: {error}"))?;
            own.ancestors().nth(2).map(|folder| folder.join("nodepass")).unwrap_or_default()
        }
    };
    if found.is_file() {
        return Ok(found);
    }
    Err(format!("no program {}: make demo builds it", found.display()))
}

fn title(text: &str) {
    println!("\n{text}");
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, String> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| Ok(listener.local_addr()?.port()));
    port.map_err(|error| format!("no free port: {error}"))
}

/// The target: an HTTP server that says one thing.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || greet(stream));
    }
}

fn greet(stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", GREETING.len());
    (&stream).write_all((head + GREETING).as_bytes())
}

/// The user: what the target answers, without the head.
fn request(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

/// A process of the program, whose lines are shown as they come. It ends when this is dropped.
struct Node {
    child: Child,
    lines: Receiver<String>,
}

impl Node {
    fn start(name: &'static str, program: &Path, url: &str) -> Result<Node, String> {
        println!("   $ nodepass \"{url}\"");
        let (sender, lines) = channel();
        let mut command = Command::new(program);
        command.arg(url).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{} does not start: {error}", program.display()))?;
        follow(name, child.stdout.take(), sender.clone());
        follow(name, child.stderr.take(), sender);
        Ok(Node { child, lines })
    }

    /// Waits for a line with these words; an end of the process or a long silence is an error.
    fn shows(&self, words: &str) -> Result<(), String> {
        loop {
            match self.lines.recv_timeout(TIMEOUT) {
                Ok(line) if line.contains(words) => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the process ended; its last lines say why".into()),
                Err(RecvTimeoutError::Timeout) => return Err(format!("no line with {words:?} within {TIMEOUT:?}")),
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints each line of a process under its name, and passes it on.
fn follow(name: &'static str, stream: Option<impl Read + Send + 'static>, lines: Sender<String>) {
    let stream = BufReader::new(stream.expect("the child's streams are pipes"));
    thread::spawn(move || {
        for line in stream.lines().map_while(Result::ok) {
            if !OVER.load(Ordering::Relaxed) {
                println!("   {name} | {line}");
            }
            // A line that comes after the last wait has no reader, and is shown all the same.
            let _ = lines.send(line);
        }
    });
}

/// All is shown: how a process takes the end of the other one is not part of it.
static OVER: AtomicBool = AtomicBool::new(false);

/// What the target says.
const GREETING: &str = "Hello through the tunnel.";
/// How long a line or an answer may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

const NEXT: &str = "
Next:
   make build            the fast program with all pool transports: target/release/nodepass
   sudo make install     to /usr/local, with manual page, completions and units
   nodepass help         roles, parameters, environment
   README.md             recipes: reverse and forward tunnels, QUIC, many tunnels and an API";
