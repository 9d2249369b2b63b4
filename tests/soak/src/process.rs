//! The program under test: started, stopped, read, and looked at from outside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A process that is started again under the same URL whenever the campaign wants it.
pub struct Process {
    /// Whose it is, for the report.
    pub name: String,
    words: Vec<String>,
    env: Vec<(String, String)>,
    child: Child,
    log: Arc<Log>,
}

/// What a process has said.
#[derive(Default)]
pub struct Log {
    /// The last check point.
    point: Mutex<String>,
    /// The first line that has a word in it that the campaign waits for.
    key: Mutex<String>,
    /// Its output is not read while this is set.
    unread: AtomicBool,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, KiB.
    pub memory: usize,
}

impl Process {
    /// Starts the binary with these arguments.
    pub fn start(name: &str, words: &[String], env: &[(String, String)]) -> Process {
        let log = Arc::new(Log::default());
        let child = spawn(words, env, &log);
        Process { name: name.into(), words: words.to_vec(), env: env.to_vec(), child, log }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the child was not waited for, so the number is still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Ends it by a signal and starts it again.
    pub fn again(&mut self, signal: i32) {
        self.signal(signal);
        let _ = self.child.wait();
        self.child = spawn(&self.words, &self.env, &self.log);
    }

    /// Whether its log is read.
    pub fn read_log(&self, so: bool) {
        self.log.unread.store(!so, Ordering::SeqCst);
    }

    /// The figure of that name in its last check point.
    pub fn figure(&self, name: &str) -> Option<u64> {
        let point = self.log.point.lock().unwrap();
        point.split('|').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }

    /// The API key of a master.
    pub fn api_key(&self, within: Duration) -> Option<String> {
        let start = Instant::now();
        while start.elapsed() < within {
            let key = self.log.key.lock().unwrap().clone();
            if !key.is_empty() {
                return Some(key);
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// What it holds now; with those of its children, whose figures are added.
    pub fn holds(&self) -> Holdings {
        let mut sum = Holdings { descriptors: 0, threads: 0, memory: 0 };
        for id in std::iter::once(self.id()).chain(children(self.id())) {
            let count = |what: &str| fs::read_dir(format!("/proc/{id}/{what}")).map_or(0, Iterator::count);
            let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
            let rss =
                rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.split_whitespace().next()?.parse().ok());
            sum.descriptors += count("fd");
            sum.threads += count("task");
            sum.memory += rss.unwrap_or(0);
        }
        sum
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn spawn(words: &[String], env: &[(String, String)], log: &Arc<Log>) -> Child {
    let binary = std::env::var("NODEPASS").expect("NODEPASS names the binary");
    let mut command = Command::new(binary);
    command.args(words).envs(env.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: one system call between fork and exec; it allocates nothing. The child ends with this program, however that ends.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    };
    let mut child = command.spawn().expect("the binary starts");
    let (output, log, id) = (child.stdout.take().expect("its output"), log.clone(), child.id());
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            while log.unread.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(50));
            }
            if let Some(at) = line.find("CHECK_POINT|") {
                *log.point.lock().unwrap() = line[at..].to_owned();
            } else if let Some((_, key)) = line.split_once("API Key created: ") {
                *log.key.lock().unwrap() = key.trim().to_owned();
            }
            if std::env::var_os("SOAK_LOG").is_some() {
                eprintln!("{id} {line}");
            }
        }
    });
    child
}
