//! The life of a master's instances: real processes that obey, ignore, crash, flood and linger.
//!
//! | chapter | what is tried |
//! | --- | --- |
//! | here | start, stop, restart, reset, PUT and DELETE, and their races; counters; events; failures |
//! | `orphans` | however a master ends, its children leave |
//! | `crowd` | a hundred instances at once |

mod bench;
mod crowd;
mod orphans;

use crate::support::*;
use bench::*;
use nodepass::master::record::{Meta, Record, Status, KEY_ID};
use nodepass::master::requests::{Action, Answer, Order, Patch, What};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

const URL: &str = "client://127.0.0.1:10101/127.0.0.1:10102";
const OTHER: &str = "client://127.0.0.1:10103/127.0.0.1:10104";

/// Lives until it is asked to leave, or the master is gone.
const MEEK: &str = "echo up; read line";
/// Leaves only when it is made to, or the master is gone.
const STUBBORN: &str = "trap '' TERM; echo up; read line";
/// Has counted something.
const COUNTING: &str =
    "echo 'CHECK_POINT|MODE=1|PING=2ms|POOL=3|TCPS=4|UDPS=5|TCPRX=10|TCPTX=20|UDPRX=30|UDPTX=40'; read line";

fn counters(record: &Record) -> [u64; 4] {
    let figures = record.figures;
    [figures.tcprx, figures.tcptx, figures.udprx, figures.udptx]
}

#[test]
fn an_instance_is_created_stopped_then_runs_and_is_deleted_with_its_process() {
    let bench = Bench::script(MEEK);
    let events = bench.listen();
    let made = bench.create(URL);
    assert_eq!((made.status, made.restart, made.id.len()), (Status::Stopped, true, 8));
    bench.speaks(&made.id, "up");
    assert_eq!(bench.living().len(), 1);
    bench.delete(&made.id);
    assert_eq!(bench.living(), NONE);
    assert_eq!(refused(bench.ask(Order::Get(made.id.clone()))), (404, "Instance not found".into()));
    let expected = [
        (What::Create, Status::Stopped),
        (What::Update, Status::Running),
        (What::Log, Status::Running),
        (What::Update, Status::Stopped),
        (What::Delete, Status::Stopped),
    ];
    assert_eq!(heard(&events, &made.id, What::Delete), expected);
    bench.create(OTHER);
    bench.keeps(|records| !records.contains_key(&made.id) && records.len() == 2);
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_and_nothing_reaches_it_meanwhile() {
    let bench = Bench::script(STUBBORN);
    let events = bench.listen();
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| bench.delete(&id));
        assert!(eventually(GRACE, || bench.list().len() == 1), "it is no longer listed");
        assert_eq!(bench.living().len(), 1, "but not gone yet");
        for order in [Order::Get(id.clone()), Order::Delete(id.clone()), Order::Replace(id.clone(), OTHER.into())] {
            assert_eq!(refused(bench.ask(order)), (404, "Instance not found".into()));
        }
        deleting.join().unwrap();
    });
    assert_eq!(bench.living(), NONE);
    heard(&events, &id, What::Delete);
    bench.create(OTHER);
    assert!(events.iter().take(3).all(|event| event.instance.as_ref().is_some_and(|record| record.id != id)));
}

#[test]
fn a_restart_shows_stopped_and_then_running_and_two_at_once_are_one() {
    let bench = Bench::script(MEEK);
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    let events = bench.listen();
    // It cannot leave before it has been asked twice.
    let child = bench.living()[0];
    signal(child, libc::SIGSTOP);
    assert_eq!(bench.act(&id, Action::Restart).status, Status::Running);
    bench.act(&id, Action::Restart);
    signal(child, libc::SIGCONT);
    let heard = heard(&events, &id, What::Log);
    let expected = [
        (What::Initial, Status::Running),
        (What::Update, Status::Stopped),
        (What::Update, Status::Running),
        (What::Log, Status::Running),
    ];
    assert_eq!(heard, expected);
    assert_eq!((bench.starts().len(), bench.living().len()), (2, 1));
}

#[test]
fn stop_and_start_do_what_they_say_however_often() {
    let bench = Bench::script(MEEK);
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    assert_eq!(bench.act(&id, Action::Stop).status, Status::Running);
    bench.becomes(&id, Status::Stopped);
    assert_eq!(bench.act(&id, Action::Stop).status, Status::Stopped);
    assert_eq!(bench.act(&id, Action::Start).status, Status::Stopped);
    bench.becomes(&id, Status::Running);
    bench.act(&id, Action::Start);
    assert!(eventually(GRACE, || bench.logs(&id).len() == 2));
    assert_eq!((bench.starts().len(), bench.living().len()), (2, 1));
}

#[test]
fn a_new_url_is_answered_when_the_old_process_has_gone() {
    let bench = Bench::script(STUBBORN);
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    let old = bench.living();
    let put = |url: &str| one(bench.ask(Order::Replace(id.clone(), url.into())));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| put(OTHER));
        assert!(eventually(GRACE, || bench.get(&id).url.contains("10103")));
        bench.act(&id, Action::Stop);
        let second = put("server://127.0.0.1:10105/127.0.0.1:10106");
        assert!(!bench.living().iter().any(|pid| old.contains(pid)), "the old one has gone");
        let first = first.join().unwrap();
        for record in [first, second] {
            assert_eq!(record.status, Status::Stopped);
            assert!(record.url.starts_with("server://127.0.0.1:10105/"), "the last one counts: {}", record.url);
        }
    });
    bench.becomes(&id, Status::Running);
    assert!(eventually(GRACE, || bench.living().len() == 1));
}

#[test]
fn a_new_url_for_one_that_is_deleted_meanwhile_is_not_found() {
    let bench = Bench::script(STUBBORN);
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    std::thread::scope(|scope| {
        let put = scope.spawn(|| bench.ask(Order::Replace(id.clone(), OTHER.into())));
        assert!(eventually(GRACE, || bench.get(&id).url.contains("10103")));
        bench.delete(&id);
        assert_eq!(refused(put.join().unwrap()), (404, "Instance not found".into()));
    });
    assert_eq!((bench.starts().len(), bench.living().len()), (1, 0));
}

#[test]
fn a_delete_that_races_the_start_leaves_nothing_behind() {
    let bench = Bench::script(MEEK);
    let events = bench.listen();
    for round in 0..30 {
        let id = bench.create(URL).id;
        if round % 3 == 1 {
            bench.act(&id, Action::Restart);
        }
        if round % 3 == 2 {
            bench.becomes(&id, Status::Running);
        }
        bench.delete(&id);
        assert_eq!(bench.living(), NONE, "round {round}");
        assert_eq!(heard(&events, &id, What::Delete)[0], (What::Create, Status::Stopped));
    }
    assert_eq!(bench.list().len(), 1);
}

#[test]
fn a_child_that_dies_at_once_is_an_error_and_not_a_loop() {
    let began = Instant::now();
    let bench = Bench::script("echo dying; exit 3");
    let id = bench.create(URL).id;
    bench.becomes(&id, Status::Error);
    assert!(bench.logs(&id).iter().all(|line| line == "dying"));
    // Another one's whole life passes meanwhile.
    let other = bench.create(URL).id;
    bench.becomes(&other, Status::Error);
    // They start again by themselves, at most once a second.
    let most = |began: Instant| 2 + 2 * began.elapsed().as_secs() as usize;
    assert!(bench.starts().len() <= most(began));
    let before = bench.starts().len();
    bench.act(&id, Action::Start);
    assert!(eventually(GRACE, || bench.starts().len() > before));
    bench.becomes(&id, Status::Error);
    bench.delete(&id);
}

#[test]
fn one_in_error_is_started_again_at_the_reload_interval_and_not_before() {
    let began = Instant::now();
    let bench = Bench::script_with("exit 1", &[("NP_RELOAD_INTERVAL", "1s")], Records::new());
    bench.create(URL);
    assert!(eventually(GRACE, || bench.starts().len() >= 4));
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn one_that_is_killed_is_started_again_by_itself() {
    let bench = Bench::script(MEEK);
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    let events = bench.listen();
    for n in 2..4 {
        signal(bench.living()[0], libc::SIGKILL);
        assert!(eventually(GRACE, || bench.starts().len() == n && bench.living().len() == 1));
    }
    let expected = [(What::Initial, Status::Running), (What::Update, Status::Error), (What::Update, Status::Running)];
    assert_eq!(heard(&events, &id, What::Log)[..3], expected);
}

#[test]
fn an_end_with_success_is_a_stop() {
    let bench = Bench::script("exit 0");
    let id = bench.create(URL).id;
    assert!(eventually(GRACE, || !bench.starts().is_empty()));
    bench.becomes(&id, Status::Stopped);
    assert_eq!(bench.starts().len(), 1);
}

#[test]
fn trouble_is_an_error_until_a_check_point_comes() {
    let bench = Bench::script(
        "echo 'Server error: no luck'; while [ ! -e \"$0.go\" ]; do sleep 0.02; done
         echo 'CHECK_POINT|MODE=1|PING=2ms|POOL=3|TCPS=4|UDPS=5|TCPRX=1|TCPTX=2|UDPRX=3|UDPTX=4'; read line",
    );
    let id = bench.create(URL).id;
    bench.becomes(&id, Status::Error);
    bench.allow();
    bench.becomes(&id, Status::Running);
    assert_eq!(bench.logs(&id), ["Server error: no luck"], "a check point is no log");
}

#[test]
fn silence_after_a_check_point_is_an_error() {
    let bench = Bench::script_with(COUNTING, &[("NP_REPORT_INTERVAL", "100ms")], Records::new());
    let id = bench.create(URL).id;
    bench.becomes(&id, Status::Error);
    assert_eq!(counters(&bench.get(&id)), [10, 20, 30, 40]);
    assert_eq!(bench.living().len(), 1);
}

#[test]
fn counters_survive_restarts_of_child_and_master_and_a_reset_begins_anew() {
    let bench = Bench::script(COUNTING);
    let id = bench.create(URL).id;
    let counts = |bench: &Bench, to: [u64; 4]| {
        assert!(eventually(GRACE, || counters(&bench.get(&id)) == to), "{:?} not {to:?}", bench.get(&id));
    };
    counts(&bench, [10, 20, 30, 40]);
    bench.act(&id, Action::Restart);
    counts(&bench, [20, 40, 60, 80]);
    let records = bench.stop();
    let kept = &records[&id];
    assert_eq!((counters(kept), kept.status, kept.figures.pool), ([20, 40, 60, 80], Status::Stopped, 0));

    let bench = Bench::script_with(COUNTING, &[], records);
    counts(&bench, [30, 60, 90, 120]);
    assert_eq!(counters(&bench.act(&id, Action::Reset)), [0; 4]);
    bench.act(&id, Action::Restart);
    counts(&bench, [10, 20, 30, 40]);
}

#[test]
fn a_master_starts_those_that_start_with_it_and_no_others() {
    let bench = Bench::script(MEEK);
    let (with, without) = (bench.create(URL).id, bench.create(OTHER).id);
    let patch = Patch { restart: Some(false), ..Patch::default() };
    assert!(!one(bench.ask(Order::Patch(without.clone(), patch))).restart);
    let records = bench.stop();

    let bench = Bench::script_with(MEEK, &[], records);
    bench.becomes(&with, Status::Running);
    bench.speaks(&with, "up");
    assert_eq!(bench.get(&without).status, Status::Stopped);
    assert_eq!(bench.starts().len(), 1);
}

#[test]
fn a_flood_of_lines_and_a_reader_who_stopped_reading_hold_no_other_up() {
    let bench = Bench::script("exec yes 'a line of a child that says too much'");
    let _lazy = bench.listen();
    let id = bench.create(URL).id;
    assert!(eventually(GRACE, || bench.logs(&id).len() == 200), "the last lines are kept");
    let quiet = bench.create("client://127.0.0.1:10107/127.0.0.1:10108").id;
    for _ in 0..50 {
        assert_eq!(bench.list().len(), 3);
    }
    bench.delete(&id);
    bench.delete(&quiet);
    assert_eq!(bench.living(), NONE);
}

#[test]
fn what_a_child_says_moves_no_cursor_wherever_it_is_shown() {
    let bench = Bench::script("printf 'a\\033[2Jb\\rc\\007\\n'; echo up; read line");
    let events = bench.listen();
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    assert_eq!(bench.logs(&id)[0], "a\\u{1b}[2Jb\\rc\\u{7}");
    let told = events.iter().find(|event| event.what == What::Log).expect("an event");
    assert_eq!(told.logs, "a\\u{1b}[2Jb\\rc\\u{7}");
}

#[test]
fn a_line_without_end_is_cut_and_output_held_open_by_others_is_not_waited_for() {
    let bench = Bench::script("sleep 1000 & head -c 100000 /dev/zero | tr '\\0' x; echo; echo up; read line");
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    assert_eq!(bench.logs(&id)[0], "x".repeat(nodepass::master::child_log::MAX_LINE));
    // What it left behind holds on to its output; the end of the process counts all the same.
    let pid = bench.living()[0];
    let left = children(pid);
    bench.act(&id, Action::Stop);
    assert!(eventually(GRACE, || !lives(pid)));
    for pid in left {
        // SAFETY: a plain system call on a process that this test has started.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
    }
    bench.becomes(&id, Status::Stopped);
}

#[test]
fn the_masters_own_record_is_its_key_and_only_some_orders_touch_it() {
    let bench = Bench::script(MEEK);
    let admit = |key: &str| bench.ask(Order::Admit(Some(key.into())));
    assert!(matches!(admit(KEY), Ok(Answer::Done)));
    assert_eq!(refused(admit("x")), (401, "Unauthorized: Invalid API key".into()));
    assert_eq!(refused(admit("")), (401, "Unauthorized: API key required".into()));
    assert_eq!(refused(bench.ask(Order::Admit(None))), (401, "Unauthorized: API key required".into()));
    for order in [Order::Delete(KEY_ID.into()), Order::Replace(KEY_ID.into(), URL.into())] {
        assert_eq!(refused(bench.ask(order)), (403, "Forbidden: API Key".into()));
    }
    assert_eq!(one(bench.ask(Order::Name("box".into()))).alias, "box");
    let patch = Patch { alias: Some("router".into()), ..Patch::default() };
    assert_eq!(one(bench.ask(Order::Patch(KEY_ID.into(), patch))).alias, "router");

    let events = bench.listen();
    let renewed = bench.act(KEY_ID, Action::Restart);
    assert!(renewed.url.len() == 32 && renewed.url != KEY && renewed.alias == "router");
    assert!(matches!(admit(&renewed.url), Ok(Answer::Done)));
    assert_eq!(refused(admit(KEY)).0, 401);
    let heard: Vec<What> = events.iter().map(|event| event.what).collect();
    assert_eq!(heard, [What::Initial, What::Update, What::Shutdown], "and the stream has ended");
    bench.keeps(|records| records[KEY_ID].url == renewed.url);
}

#[test]
fn what_is_too_long_or_wrong_is_refused_and_changes_nothing() {
    let bench = Bench::script(MEEK);
    let id = bench.create(URL).id;
    let before = bench.get(&id).alias;
    let too_large = || (400, "Instance exceeds maximum size 32768".to_string());
    let many = (0..200).map(|n| (n.to_string(), "x".repeat(256))).collect();
    let patch = Patch { tags: Some(many), action: Some(Action::Stop), ..Patch::default() };
    assert_eq!(refused(bench.ask(Order::Patch(id.clone(), patch))), too_large());
    let create = Order::Create { url: URL.into(), alias: "x".repeat(32768) };
    assert_eq!(refused(bench.ask(create)), too_large());
    assert_eq!(
        refused(bench.ask(Order::Replace(id.clone(), bench.get(&id).url))),
        (409, "Instance URL conflict".into())
    );
    assert_eq!(refused(bench.ask(Order::Replace(id.clone(), "master://h:1".into()))).0, 400);
    assert_eq!(bench.get(&id).meta, Meta::default());
    assert_eq!(bench.get(&id).alias, before);
    bench.becomes(&id, Status::Running);
    assert_eq!(bench.list().len(), 2);
}

#[test]
fn records_of_another_master_come_in_all_or_none_and_known_ones_stay() {
    let bench = Bench::script(MEEK);
    let known = bench.create(URL);
    let record = |id: &str, restart| {
        let mut record = Record { id: id.into(), url: OTHER.into(), restart, ..Record::default() };
        record.figures.tcprx = 7;
        record
    };
    let import = |records| bench.ask(Order::Import(records));
    for bad in [record("nothex!!", true), Record { url: "ftp://h".into(), ..record("0000000a", true) }] {
        assert_eq!(refused(import(vec![record("00000001", true), bad])).0, 400);
    }
    assert_eq!(bench.list().len(), 2);
    let theirs = Record { alias: "theirs".into(), ..known.clone() };
    let key = Record { id: KEY_ID.into(), ..Record::default() };
    let Ok(Answer::Many(new)) = import(vec![theirs, key, record("00000001", true), record("00000002", false)]) else {
        panic!("not imported");
    };
    assert_eq!(new.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["00000001", "00000002"]);
    bench.becomes("00000001", Status::Running);
    assert_eq!((bench.get("00000002").status, bench.get("00000002").figures.tcprx), (Status::Stopped, 7));
    assert_eq!(bench.get(&known.id).alias, "");
    assert!(matches!(bench.ask(Order::Admit(Some(KEY.into()))), Ok(Answer::Done)));
}

#[test]
fn the_masters_stop_ends_streams_first_and_refuses_what_comes_then() {
    let bench = Bench::script(STUBBORN);
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    let events = bench.listen();
    bench.signal(libc::SIGTERM);
    let heard: Vec<What> = events.iter().map(|event| event.what).collect();
    assert_eq!(heard, [What::Initial, What::Initial, What::Shutdown]);
    assert_eq!(refused(bench.ask(Order::List)), (503, "The master is shutting down".into()));
    assert_eq!(bench.living().len(), 1);
    let living = bench.living();
    drop(bench);
    assert!(eventually(GRACE, || !lives(living[0])), "its leash is cut");
}

#[test]
fn a_reader_hears_nothing_more_when_nothing_happens() {
    let bench = Bench::script(MEEK);
    let id = bench.create(URL).id;
    bench.speaks(&id, "up");
    let events = bench.listen();
    assert_eq!(events.iter().take(2).filter(|event| event.what == What::Initial).count(), 2);
    bench.ask(Order::List).unwrap();
    let nothing = events.recv_timeout(Duration::from_millis(50));
    assert!(matches!(nothing, Err(RecvTimeoutError::Timeout)), "{nothing:?}");
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
