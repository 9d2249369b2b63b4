//! The API's HTTP server: tiny_http, behind the [front](super::front) and nothing else.
//!
//! ```text
//!  front --a whole request on a Unix socket--> tiny_http --Call--> Answer
//!        <--an answer, then the end----------- a thread a call <---Reply
//! ```
//!
//! tiny_http has no limits and does not survive a lack of descriptors or a length of 10¹⁴ bytes. So its socket is one that
//! no other user can reach: in a folder of ours alone, and on Linux without any name as soon as it is open.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use socket2::SockRef;
use tiny_http::{HTTPVersion, Method, Request, Server};

use super::call::{Answer, Call, Reply};
use super::front::answer::{head, is_bodiless, BUSY};
use super::front::chunks::MAX_BODY;
use super::front::request::{decoded, path_of, query_of};
use crate::net::random;

/// A running server, reached over a socket that only this process can find.
pub struct Http {
    listener: UnixListener,
    closing: Arc<AtomicBool>,
    socket_file: SocketFile,
}

impl Http {
    /// Starts it.
    pub fn start(answer: Arc<dyn Answer>) -> io::Result<Http> {
        let (listener, socket_file) = SocketFile::open()?;
        let closing = Arc::new(AtomicBool::new(false));
        let mut server = serve(&listener)?;
        let (own, closed) = (listener.try_clone()?, closing.clone());
        let run = move || loop {
            match server.recv() {
                Ok(request) => pass_on(request, &answer),
                Err(_) if closed.load(Ordering::Relaxed) => return,
                // Its accepting thread has ended, for lack of descriptors, and takes nothing with it.
                Err(error) => {
                    log::warn!("The API's server begins anew: {error}");
                    thread::sleep(PAUSE);
                    if let Ok(fresh) = serve(&own) {
                        server = fresh;
                    }
                }
            }
        };
        thread::Builder::new().name("http".into()).stack_size(STACK).spawn(run)?;
        Ok(Http { listener, closing, socket_file })
    }

    /// What to connect to.
    pub fn path(&self) -> &Path {
        &self.socket_file.path
    }
}

impl Drop for Http {
    /// Ends the server; calls that are being answered go on. Where a listening socket cannot be shut down its threads wait
    /// until the process ends.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn serve(listener: &UnixListener) -> io::Result<Server> {
    can_have_threads()?;
    Server::from_listener(listener.try_clone()?, None).map_err(io::Error::other)
}

/// An error if the server would not get the threads that it begins with: it does not survive that.
fn can_have_threads() -> io::Result<()> {
    let (mut threads, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..FIRST_THREADS {
        let (end, wait) = sync_channel::<()>(0);
        let run = move || {
            let _ = wait.recv();
        };
        threads.push(thread::Builder::new().stack_size(STACK).spawn(run)?);
        ends.push(end);
    }
    drop(ends);
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

/// How the server's socket is found.
struct SocketFile {
    path: PathBuf,
    /// Keeps the socket's file, which has no name any more.
    _file: Option<File>,
    /// To be removed in the end.
    folder: Option<PathBuf>,
}

impl SocketFile {
    /// Listens in a new folder that no other user may enter.
    fn open() -> io::Result<(UnixListener, SocketFile)> {
        let folder = std::env::temp_dir().join(format!("nodepass-{:016x}", u64::from_ne_bytes(random::bytes()?)));
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        DirBuilder::new().mode(0o700).create(&folder).map_err(named)?;
        let path = folder.join("api");
        let mut socket_file = SocketFile { path: path.clone(), _file: None, folder: Some(folder) };
        let listener = UnixListener::bind(&path)?;
        if let Ok((path, file)) = nameless(&path, &listener) {
            socket_file = SocketFile { path, _file: Some(file), folder: socket_file.folder.take() };
            socket_file.remove();
        }
        Ok((listener, socket_file))
    }

    fn remove(&mut self) {
        if let Some(folder) = self.folder.take() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A way to the socket at `path` that goes on when its name is gone: so nothing is left behind, whatever ends us, and
/// nothing that cleans up temporary files cuts us off.
#[cfg(target_os = "linux")]
fn nameless(path: &Path, listener: &UnixListener) -> io::Result<(PathBuf, File)> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let way = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let _tried = UnixStream::connect(&way)?;
    // Taken here, it is not left for the server, which would take it at a moment when there may be no descriptors.
    listener.accept()?;
    Ok((way, file))
}

/// Elsewhere the name has to stay.
#[cfg(not(target_os = "linux"))]
fn nameless(_: &Path, _: &UnixListener) -> io::Result<(PathBuf, File)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Answers a request on a thread of its own: an answer may take its time, and a stream lasts. The front bounds how many.
fn pass_on(request: Request, answer: &Arc<dyn Answer>) {
    let (sender, receiver) = sync_channel::<Request>(1);
    let answer = answer.clone();
    let run = move || {
        if let Ok(request) = receiver.recv() {
            // An error means that the caller has gone.
            let _ = reply(request, &*answer);
        }
    };
    let spawned = thread::Builder::new().name("call".into()).stack_size(STACK).spawn(run);
    // Neither fails unless the caller has gone.
    match spawned {
        Ok(_) => drop(sender.send(request)),
        Err(_) => drop(request.into_writer().write_all(&BUSY.into_bytes("", SystemTime::now(), false))),
    }
}

fn reply(mut request: Request, answer: &dyn Answer) -> io::Result<()> {
    let call = call(&mut request)?;
    let only_head = *request.method() == Method::Head;
    let chunked = *request.http_version() >= HTTPVersion(1, 1);
    let reply = answer.answer(call);
    let mut out = request.into_writer();
    match reply {
        Reply::Whole { status, headers, body } => {
            let mut bytes = head(status, &headers, SystemTime::now());
            if !is_bodiless(status) {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            if !only_head && !is_bodiless(status) {
                bytes.extend_from_slice(&body);
            }
            out.write_all(&bytes)?;
        }
        Reply::Stream { headers, source } => {
            let mut bytes = head(200, &headers, SystemTime::now());
            bytes.extend_from_slice(if chunked { b"Transfer-Encoding: chunked\r\n\r\n" } else { b"\r\n" });
            out.write_all(&bytes)?;
            out.flush()?;
            if !only_head {
                let mut pieces = ChunkedBody { out: &mut *out, chunked };
                source(&mut pieces)?;
                pieces.end()?;
            }
        }
    }
    out.flush()
}

/// A request as the routes see it. The front has looked at it: an error is a fault of ours.
fn call(request: &mut Request) -> io::Result<Call> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let mut body = Vec::with_capacity(request.body_length().unwrap_or(0).min(MAX_BODY));
    request.as_reader().take(MAX_BODY as u64).read_to_end(&mut body)?;
    let target = request.url();
    let headers = request.headers().iter();
    let headers = headers.map(|header| (header.field.as_str().as_str().to_ascii_lowercase(), header.value.to_string()));
    Ok(Call {
        method: request.method().as_str().to_owned(),
        path: decoded(path_of(target)).ok_or_else(wrong)?,
        query: query_of(target).to_owned(),
        headers: headers.filter(|(name, _)| name != "connection").collect(),
        body,
    })
}

/// The body of a stream, each write sent at once; as one chunk each, where the client knows chunks (RFC 9112, 7.1).
struct ChunkedBody<'a> {
    out: &'a mut dyn Write,
    chunked: bool,
}

impl ChunkedBody<'_> {
    fn end(&mut self) -> io::Result<()> {
        match self.chunked {
            true => self.out.write_all(b"0\r\n\r\n"),
            false => Ok(()),
        }
    }
}

impl Write for ChunkedBody<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An empty chunk would be the last.
        if !bytes.is_empty() {
            match self.chunked {
                true => {
                    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                    chunk.extend_from_slice(bytes);
                    chunk.extend_from_slice(b"\r\n");
                    self.out.write_all(&chunk)?;
                }
                false => self.out.write_all(bytes)?,
            }
            self.out.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Routes need little stack: reading JSON is what goes deepest, and its depth is bounded.
pub const STACK: usize = 256 * 1024;
/// One that accepts, four that read requests, and one of ours.
const FIRST_THREADS: usize = 6;
/// After its accepting thread has ended, the server begins anew after this long.
const PAUSE: Duration = Duration::from_millis(100);
