//! Measures NodePass beside a direct connection and other programs, in one run on one machine.
//!
//! ```text
//!  for each test:  for each round:  for each way:  start, warm up, measure, stop
//! ```
//!
//! Rounds go through all ways in turn, so that a machine that gets slower does so for all; of the rounds
//! the median is kept. `docs/benchmarks.md` says what is measured and how to read it.

mod against;
mod bulk;
mod chart;
mod datagrams;
mod end;
mod far;
mod findings;
mod held;
mod machine;
mod process;
mod programs;
mod report;
mod visits;

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use bulk::Direction;
use end::End;
use findings::{Findings, Found};
use programs::{Programs, Running, Way};

fn main() -> ExitCode {
    let plan = match Plan::from_arguments(env::args().skip(1)) {
        Ok(plan) => plan,
        Err(text) => {
            eprintln!("{text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> io::Result<()> {
    let limit = machine::raise_descriptor_limit()?;
    let held_users = HELD_USERS.min((limit as usize).saturating_sub(200) / 2);
    let programs = Programs {
        nodepass: found("NODEPASS"),
        nginx: found("NGINX"),
        haproxy: found("HAPROXY"),
        socat: found("SOCAT"),
        realm: found("REALM"),
        rathole: found("RATHOLE"),
        original: found("ORIGINAL"),
        work: plan.work.clone(),
    };
    let mut ways = Vec::new();
    for way in Way::ALL {
        if !plan.ways.is_empty() && !plan.ways.contains(&way) {
            continue;
        }
        if programs.has(way) {
            ways.push(Found::new(way));
        } else {
            eprintln!("bench: skipping {}: no such program here", way.name());
        }
    }
    if plan.only.as_deref() == Some("far") {
        let ways: Vec<Way> = ways.iter().map(|found| found.way).collect();
        let table = far::run(&programs, &ways, plan.rounds(), plan.congestion.as_deref())?;
        println!("{table}");
        return plan.out.as_ref().map_or(Ok(()), |file| write_between_markers(file, "far", &table));
    }
    if let Some(other) = &plan.against {
        let ways: Vec<Way> = ways.iter().map(|found| found.way).collect();
        return against::run(&programs, other, &ways, plan.pick(PAIRS, PAIRS_QUICK));
    }
    let facts = machine::facts(&programs);
    let mut bench = Bench { plan, findings: Findings { ways, held_users, ..Findings::default() }, programs };
    bench.measure()?;
    let text = report::render(&plan.title(), &facts, &bench.findings);
    println!("{text}");
    let Some(file) = &plan.out else { return Ok(()) };
    if let Some(chart) = chart::render(&bench.findings) {
        fs::write(file.with_extension("svg"), chart)?;
    }
    write_between_markers(file, "bench", &text)
}

/// What to do, as the command line says.
struct Plan {
    quick: bool,
    only: Option<String>,
    ways: Vec<Way>,
    /// TCP's congestion control on the long path; the system's own if unsaid.
    congestion: Option<String>,
    /// Another build of NodePass to compare with.
    against: Option<PathBuf>,
    out: Option<PathBuf>,
    work: PathBuf,
}

impl Plan {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
        let mut plan = Plan {
            quick: false,
            only: None,
            ways: Vec::new(),
            congestion: None,
            against: None,
            out: None,
            work: env::temp_dir(),
        };
        while let Some(argument) = arguments.next() {
            if argument == "--quick" {
                plan.quick = true;
                continue;
            }
            let value = arguments.next();
            let value = value.ok_or(format!("{argument}: unknown, or its value is missing"))?;
            match argument.as_str() {
                "--only" if TESTS.contains(&value.as_str()) => plan.only = Some(value),
                "--ways" => plan.ways = ways_named(&value)?,
                "--congestion" => plan.congestion = Some(value),
                "--against" => plan.against = Some(value.into()),
                "--out" => plan.out = Some(value.into()),
                "--work" => plan.work = value.into(),
                _ => return Err(format!("{argument} {value}: not understood")),
            }
        }
        Ok(plan)
    }

    fn wants(&self, test: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == test)
    }

    fn rounds(&self) -> usize {
        if self.quick {
            1
        } else {
            ROUNDS
        }
    }

    /// The full figure, or the one for a quick look.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick {
            quick
        } else {
            full
        }
    }

    fn title(&self) -> String {
        let rounds = self.pick("median of three rounds", "one round, a quick look");
        format!("Measured by `scripts/bench.sh`: {rounds}.")
    }
}

struct Bench<'a> {
    plan: &'a Plan,
    programs: Programs,
    findings: Findings,
}

impl Bench<'_> {
    fn measure(&mut self) -> io::Result<()> {
        if self.plan.wants("memory") {
            self.idle();
            self.held()?;
        }
        if self.plan.wants("bulk") {
            self.bulk()?;
        }
        if self.plan.wants("udp") {
            self.datagrams()?;
        }
        if self.plan.wants("conn") {
            self.users()?;
        }
        Ok(())
    }

    /// Every process at rest, one way after the other; it does not change from round to round.
    fn idle(&mut self) {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        if self.findings.of(Way::Tunnel).is_some() {
            for (pool, name) in
                [("tls=0", "nodepass server, no client"), ("tls=1", "nodepass server, no client, tls=1")]
            {
                let started = self.programs.start_lone_server(pool);
                self.note_idle(started, |_| name.to_owned());
            }
        }
        let ways: Vec<Way> = self.findings.ways.iter().map(|found| found.way).collect();
        for way in ways {
            let started = self.programs.start(way, nowhere);
            self.note_idle(started, |part| report::process_name(way, part));
        }
    }

    fn note_idle(&mut self, started: io::Result<Running>, name: impl Fn(&str) -> String) {
        let result = started.and_then(|running| {
            sleep(START);
            running.rest();
            let idle = held::idle(&running)?;
            for (part, idle) in running.parts.iter().zip(idle) {
                eprintln!("idle: {}: {} KiB", name(part.name), idle.memory.rss);
                self.findings.idle.push((name(part.name), idle));
            }
            Ok(())
        });
        if let Err(error) = result {
            eprintln!("idle: {}: {error}", name(""));
        }
    }

    /// Thousands of users at once; memory does not change from round to round.
    fn held(&mut self) -> io::Result<()> {
        let end = End::start()?;
        let pause = self.plan.pick(GONE, GONE_QUICK);
        let count = self.findings.held_users;
        self.each_round("held", 1, Way::carries_crowds, end.address, held::probe, |running, found| {
            if running.parts.is_empty() {
                return Ok("nothing to weigh".into());
            }
            sleep(START);
            end.release();
            let (all, missing) = held::run(running, &end, count, pause)?;
            found.missing += missing;
            if found.held.is_empty() {
                let parts = running.parts.iter();
                found.held = parts.map(|part| (part.name, Vec::new())).collect();
            }
            for ((_, rounds), held) in found.held.iter_mut().zip(&all) {
                rounds.push(*held);
            }
            let grown = |held: &held::Held| held.during.rss.saturating_sub(held.before.rss);
            let grown: Vec<u64> = all.iter().map(grown).collect();
            Ok(format!("grew by {grown:?} KiB, {missing} users missing"))
        });
        Ok(())
    }

    fn bulk(&mut self) -> io::Result<()> {
        let end = End::start()?;
        let window = self.plan.pick(WINDOW, WINDOW_QUICK);
        self.each_round(
            "bulk",
            self.plan.rounds(),
            |_| true,
            end.address,
            held::probe,
            |running, found| {
                end.release();
                let mut words = Vec::new();
                for (column, (streams, direction)) in BULK.iter().enumerate() {
                    let bulk = bulk::run(running, &end, *streams, *direction, [RAMP, window])?;
                    found.bulk[column].push(bulk);
                    words.push(format!("{:.2} GB/s {:.3} s/GB", bulk.speed, bulk.cost));
                }
                Ok(words.join(", "))
            },
        );
        Ok(())
    }

    fn datagrams(&mut self) -> io::Result<()> {
        let end = End::start()?;
        let target = datagrams::Target::start_at(end.address)?;
        let window = self.plan.pick(WINDOW, WINDOW_QUICK);
        let sessions = self.findings.held_users;
        self.each_round(
            "udp",
            self.plan.rounds(),
            Way::carries_datagrams,
            target.address,
            datagrams::probe,
            |running, found| {
                let sessions = if found.way.carries_crowds() { sessions } else { 0 };
                let seen = datagrams::run(running, &target, sessions, window)?;
                found.datagrams.push(seen);
                Ok(format!("{seen:?}"))
            },
        );
        Ok(())
    }

    fn users(&mut self) -> io::Result<()> {
        if self.programs.nginx.is_none() {
            eprintln!("bench: skipping new users: the target is nginx, which is not here");
            return Ok(());
        }
        let mut web = self.programs.start_web()?;
        web.ready(visits::probe)?;
        let crowd = self.plan.pick(CROWD, CROWD_QUICK);
        let alone = self.plan.pick(ALONE, ALONE_QUICK);
        self.each_round(
            "conn",
            self.plan.rounds(),
            |_| true,
            web.entry,
            visits::probe,
            |running, found| {
                visits::run(running.entry, WARM_UP, AT_ONCE)?;
                let spent = running.processor_seconds();
                let many = visits::run(running.entry, crowd, AT_ONCE)?;
                let cost = (running.processor_seconds() - spent) * 1e6 / crowd as f64;
                running.rest();
                let one = visits::run(running.entry, alone, 1)?;
                let words = format!(
                    "{:.0}/s, p99 {:.0} us, alone {:.0} us, {} errors",
                    many.rate,
                    many.end.p99,
                    one.end.p50,
                    many.errors + one.errors
                );
                found.crowd.push((many, cost));
                found.alone.push(one);
                Ok(words)
            },
        );
        Ok(())
    }

    /// Every way that fits in turn, fresh each time, in so many rounds; `test` measures and says in a few words what
    /// it saw. A way that fails is told of and left out of the round.
    fn each_round(
        &mut self,
        name: &str,
        rounds: usize,
        fits: fn(Way) -> bool,
        target: SocketAddr,
        probe: fn(SocketAddr) -> bool,
        mut test: impl FnMut(&Running, &mut Found) -> io::Result<String>,
    ) {
        for round in 1..=rounds {
            for found in self.findings.ways.iter_mut().filter(|found| fits(found.way)) {
                self.findings.measured += 1;
                if !machine::quiet(self.plan.pick(QUIET, QUIET_QUICK)) {
                    self.findings.disturbed += 1;
                }
                let started = self.programs.start(found.way, target);
                let words = started.and_then(|mut running| {
                    running.ready(probe)?;
                    test(&running, found)
                });
                let words = words.unwrap_or_else(|error| format!("failed: {error}"));
                eprintln!("{name} {round}: {}: {words}", found.way.key());
            }
        }
    }
}

fn ways_named(list: &str) -> Result<Vec<Way>, String> {
    list.split(',')
        .map(|key| {
            let way = Way::ALL.into_iter().find(|way| way.key() == key);
            way.ok_or(format!("--ways {key}: no such way"))
        })
        .collect()
}

/// The program that the environment names, if the file exists.
fn found(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    path.is_file().then_some(path)
}

/// Replaces what stands between the two markers of that name in `file`.
fn write_between_markers(file: &PathBuf, name: &str, text: &str) -> io::Result<()> {
    let [start, end] = ["start", "end"].map(|side| format!("<!-- {name}:{side} -->"));
    let old = fs::read_to_string(file)?;
    let parts = old.split_once(&start).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let (head, tail) = parts.ok_or_else(|| io::Error::other(format!("{}: no markers {name}", file.display())))?;
    fs::write(file, format!("{head}{start}\n\n{text}\n{end}{tail}"))
}

const USAGE: &str =
    "usage: nodepass-bench [--quick] [--only conn|bulk|udp|memory|far] [--ways direct,nginx,haproxy,socat,realm,rathole,go-single,go-tunnel,go-tls,single,tunnel,tls,quic,ws,h2] [--congestion cubic] [--against BINARY] [--out FILE] [--work DIR]
programs: environment NODEPASS, NGINX, HAPROXY, SOCAT, REALM, RATHOLE, ORIGINAL (paths)";
const TESTS: [&str; 5] = ["conn", "bulk", "udp", "memory", "far"];
/// The median of so many is kept.
const ROUNDS: usize = 3;
/// Pairs of runs where two builds are compared.
const PAIRS: usize = 9;
const PAIRS_QUICK: usize = 5;
/// Users held in the memory test; two descriptors each, here and in the program that forwards.
const HELD_USERS: usize = 5000;
/// After the users have gone, before memory is read again.
const GONE: Duration = Duration::from_secs(10);
const GONE_QUICK: Duration = Duration::from_secs(5);
/// How long a measurement waits for others to leave the machine alone.
const QUIET: Duration = Duration::from_secs(30);
const QUIET_QUICK: Duration = Duration::from_secs(5);
/// Until a program without users has come to rest: a client that came before its server calls again after 3 s, and then each tells
/// the other every 5 s that it is there.
const START: Duration = Duration::from_secs(9);
/// Until windows and buffers have grown, nothing is counted.
const RAMP: Duration = Duration::from_millis(500);
/// How long bulk data is measured.
const WINDOW: Duration = Duration::from_secs(3);
const WINDOW_QUICK: Duration = Duration::from_secs(1);
/// The columns of the bulk tables: streams, and which way the bytes go.
const BULK: [(usize, Direction); findings::BULK_COLUMNS] =
    [(1, Direction::Down), (1, Direction::Up), (8, Direction::Down), (8, Direction::Up)];
/// New users side by side.
const AT_ONCE: usize = 32;
/// Visits before any is counted.
const WARM_UP: usize = 1000;
/// Visits, many at once.
const CROWD: usize = 20_000;
const CROWD_QUICK: usize = 5000;
/// Visits, one at a time.
const ALONE: usize = 2000;
const ALONE_QUICK: usize = 500;
