//! A supervisor with real children, driven as the API drives it. A child is a shell script, or the binary itself.

use crate::support::*;
use nodepass::config::{self, Command, Config};
use nodepass::master::child::Program;
use nodepass::master::mail::Mail;
use nodepass::master::record::{Record, Status, KEY_ID};
use nodepass::master::requests::{Action, Answer, Event, Order, Patch, Refusal, SupervisorHandle, What};
use nodepass::master::supervisor::{Keep, Supervisor};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub type Records = BTreeMap<String, Record>;

/// The API key of every bench.
pub const KEY: &str = "00112233445566778899aabbccddeeff";

/// No process.
pub const NONE: [u32; 0] = [];

/// A supervisor that works until this value is dropped.
pub struct Bench {
    desk: SupervisorHandle<Mail>,
    mailbox: Sender<Mail>,
    saved: Mutex<Receiver<Records>>,
    thread: Option<JoinHandle<ExitCode>>,
    folder: Folder,
}

impl Bench {
    /// Whose children are shell scripts with this text. Each start of one adds its number to the file `starts`.
    pub fn script(text: &str) -> Bench {
        Bench::script_with(text, &[], Records::new())
    }

    /// With this environment of the master, and records from an earlier life.
    pub fn script_with(text: &str, env: &[(&str, &str)], records: Records) -> Bench {
        let folder = Folder::new();
        let starts = folder.file("starts");
        let text = folder.write("text", format!("#!/bin/sh\necho $$ >> {}\n{text}\n", starts.display()));
        // Another process writes it: a child that another test's supervisor is just starting would have a copy of our
        // descriptor, and what is open for writing cannot be run.
        let file = folder.file("child");
        let mut install = std::process::Command::new("install");
        install.args(["-m", "755"]).args([&text, &file]);
        assert!(finished(install).is_ok_and(|done| done.status.success()), "install");
        Bench::new(folder, file, env, records)
    }

    /// Whose children are instances.
    pub fn real() -> Bench {
        Bench::new(Folder::new(), PathBuf::from(env!("CARGO_BIN_EXE_nodepass")), &[], Records::new())
    }

    fn new(folder: Folder, program: PathBuf, env: &[(&str, &str)], mut records: Records) -> Bench {
        let (mailbox, inbox) = channel();
        let (post, saved) = channel();
        let master = Record { id: KEY_ID.into(), url: KEY.into(), ..Record::default() };
        records.entry(KEY_ID.into()).or_insert(master);
        let program = Program::at(program);
        let supervisor =
            Supervisor::new(master_config(env), records, Box::new(Shelf(post)), program, (mailbox.clone(), inbox));
        let thread = std::thread::spawn(move || supervisor.run());
        Bench {
            desk: SupervisorHandle::new(mailbox.clone()),
            mailbox,
            saved: Mutex::new(saved),
            thread: Some(thread),
            folder,
        }
    }

    pub fn ask(&self, order: Order) -> Result<Answer, Refusal> {
        self.desk.ask(order)
    }

    pub fn create(&self, url: &str) -> Record {
        one(self.ask(Order::Create { url: url.into(), alias: String::new() }))
    }

    pub fn get(&self, id: &str) -> Record {
        one(self.ask(Order::Get(id.into())))
    }

    pub fn act(&self, id: &str, action: Action) -> Record {
        one(self.ask(Order::Patch(id.into(), Patch { action: Some(action), ..Patch::default() })))
    }

    pub fn delete(&self, id: &str) {
        assert!(matches!(self.ask(Order::Delete(id.into())), Ok(Answer::Done)));
    }

    pub fn list(&self) -> Vec<Record> {
        match self.ask(Order::List) {
            Ok(Answer::Many(records)) => records,
            other => panic!("{other:?}"),
        }
    }

    pub fn logs(&self, id: &str) -> Vec<String> {
        match self.ask(Order::Logs(id.into())) {
            Ok(Answer::Lines(lines)) => lines,
            other => panic!("{other:?}"),
        }
    }

    pub fn listen(&self) -> Receiver<Arc<Event>> {
        match self.ask(Order::Listen) {
            Ok(Answer::Events(events)) => events,
            other => panic!("{other:?}"),
        }
    }

    pub fn becomes(&self, id: &str, status: Status) {
        assert!(eventually(GRACE, || self.get(id).status == status), "{:?} not {status:?}", self.get(id));
    }

    /// Waits until a child of the script has said a line.
    pub fn speaks(&self, id: &str, text: &str) {
        assert!(eventually(GRACE, || self.logs(id).iter().any(|line| line == text)), "{:?}", self.logs(id));
    }

    /// The process numbers of all children so far.
    pub fn starts(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.folder.file("starts")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Lets a script go on that waits for the file `$0.go`.
    pub fn allow(&self) {
        self.folder.write("child.go", "");
    }

    /// Those that live.
    pub fn living(&self) -> Vec<u32> {
        self.starts().into_iter().filter(|&pid| lives(pid)).collect()
    }

    pub fn signal(&self, signal: i32) {
        self.mailbox.send(Mail::Signal(signal)).unwrap();
    }

    /// Stops it as SIGTERM does. What it kept in the end.
    pub fn stop(mut self) -> Records {
        self.signal(libc::SIGTERM);
        let code = self.thread.take().unwrap().join().unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(self.living(), NONE);
        let saved = self.saved.lock().unwrap().try_iter().last();
        saved.expect("something is kept")
    }

    /// What it has kept last; waits for that to fit.
    pub fn keeps(&self, fits: impl Fn(&Records) -> bool) {
        let saved = self.saved.lock().unwrap();
        while !fits(&saved.recv_timeout(GRACE).expect("nothing that fits is kept")) {}
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The second one: at once. Scripts that wait for their leash leave then.
            for _ in 0..2 {
                drop(self.mailbox.send(Mail::Signal(libc::SIGTERM)));
            }
            let _ = thread.join();
        }
    }
}

/// Keeps records for the test to see.
struct Shelf(Sender<Records>);

impl Keep for Shelf {
    fn save(&mut self, records: Records) {
        let _ = self.0.send(records);
    }

    fn changed(&mut self) {}

    fn backup(&mut self, _: Records) {}

    fn close(self: Box<Self>) {}
}

fn master_config(env: &[(&str, &str)]) -> Config {
    let value = |name: &str| env.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string());
    match config::parse(&["master://127.0.0.1:1?log=info".into()], &value).unwrap().command {
        Command::Run(config) => *config,
        other => panic!("{other:?}"),
    }
}

pub fn one(answer: Result<Answer, Refusal>) -> Record {
    match answer {
        Ok(Answer::One(record)) => *record,
        other => panic!("{other:?}"),
    }
}

/// The status and the text of a refusal.
pub fn refused(answer: Result<Answer, Refusal>) -> (u16, String) {
    let refusal = answer.expect_err("a refusal");
    (refusal.status, refusal.text)
}

/// The events of one instance so far, up to and with the one that fits: what, and the status then.
pub fn heard(events: &Receiver<Arc<Event>>, id: &str, last: What) -> Vec<(What, Status)> {
    let mut heard = Vec::new();
    loop {
        let event = events.recv_timeout(GRACE).expect("an event");
        let Some(record) = event.instance.as_ref().filter(|record| record.id == id) else { continue };
        heard.push((event.what, record.status));
        if event.what == last {
            return heard;
        }
    }
}

/// Sends a signal to a process that a test has caused.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Whether there is such a process, and not only what is left of one.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
