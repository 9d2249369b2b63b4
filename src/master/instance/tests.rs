use super::*;
use crate::config::Role;
use crate::logic::next_notice::NextNotice;
use crate::master::requests::Action;

mod handing;
mod world;

const TIMES: Times =
    Times { silence: Duration::from_secs(15), retry: Duration::from_secs(3600), grace: Duration::from_secs(5) };

const BEAT: Duration = Duration::from_millis(1);

fn record() -> Record {
    Record { id: "0a1b2c3d".into(), url: "client://h:1/h:2".into(), restart: true, ..Record::default() }
}

fn point(bytes: [u64; 4]) -> ChildLine {
    let [tcprx, tcptx, udprx, udptx] = bytes;
    ChildLine::Point(CheckPoint { mode: 2, ping: 7, pool: 8, tcps: 1, udps: 1, tcprx, tcptx, udprx, udptx })
}

fn trouble() -> ChildLine {
    ChildLine::Line { text: "Server error: x".into(), trouble: true }
}

fn steps(instance: &mut Instance) -> Vec<Step> {
    std::iter::from_fn(|| instance.poll()).collect()
}

fn published(instance: &mut Instance) -> Vec<What> {
    let what = |step| match step {
        Step::Publish(what, _) => Some(what),
        _ => None,
    };
    steps(instance).into_iter().filter_map(what).collect()
}

fn stopped() -> Instance {
    Instance::loaded(record(), TIMES)
}

fn running() -> Instance {
    let mut instance = stopped();
    instance.start();
    instance.spawned(Instant::now());
    steps(&mut instance);
    instance
}

/// One that was told to start again, and whose process can be followed by another.
fn handing(now: Instant) -> Instance {
    let mut instance = running();
    instance.said(ChildLine::Next(NextNotice::Can), now);
    instance.restart(now);
    instance
}

const DONE: NextNotice = NextNotice::Done { process: 4711 };

fn counters(instance: &Instance) -> [u64; 4] {
    instance.shown()
}

/// One instance in each state, with its name. Those that were told to stop were told so at `now`.
fn every_state(now: Instant) -> Vec<(&'static str, Instance)> {
    let with = |state: fn(Instant) -> Instance| {
        let mut instance = state(now);
        steps(&mut instance);
        instance
    };
    fn after(act: impl Fn(&mut Instance)) -> Instance {
        let mut instance = running();
        act(&mut instance);
        instance
    }
    vec![
        ("stopped", with(|_| stopped())),
        ("failed", with(|now| after(|instance| instance.ended(false, now)))),
        (
            "starting",
            with(|_| {
                let mut instance = stopped();
                instance.start();
                instance
            }),
        ),
        ("fresh", with(|_| running())),
        ("well", with(|now| after(|instance| instance.said(point([1; 4]), now)))),
        ("ill", with(|now| after(|instance| instance.said(trouble(), now)))),
        ("handed", with(handing)),
        (
            "taken",
            with(|now| {
                let mut instance = handing(now);
                instance.told_of_next(DONE, now);
                instance
            }),
        ),
        ("stopping", with(|now| after(|instance| instance.stop(now)))),
        ("restarting", with(|now| after(|instance| instance.restart(now)))),
        ("deleting", with(|now| after(|instance| instance.delete(now)))),
        (
            "gone",
            with(|now| {
                let mut instance = stopped();
                instance.delete(now);
                instance
            }),
        ),
    ]
}

fn name(instance: &Instance) -> &'static str {
    match &instance.life {
        Life::Stopped => "stopped",
        Life::Failed { .. } => "failed",
        Life::Starting => "starting",
        Life::Running(Health::Fresh) => "fresh",
        Life::Running(Health::Well { .. }) => "well",
        Life::Running(Health::Ill { .. }) => "ill",
        Life::Handing { .. } => "handed",
        Life::Taken { .. } => "taken",
        Life::Stopping { then: Then::Stop, .. } => "stopping",
        Life::Stopping { then: Then::Start, .. } => "restarting",
        Life::Stopping { then: Then::Delete, .. } => "deleting",
        Life::Gone => "gone",
    }
}

/// What a URL is made into that was not checked.
fn asked(url: &str) -> Asked {
    let kind = if url.starts_with("server") { Role::Server } else { Role::Client };
    Asked { kind, url: url.into(), config: format!("{url}?"), passed_over: Vec::new() }
}

#[test]
fn every_order_has_its_meaning_in_every_state() {
    let now = Instant::now();
    let replace = |instance: &mut Instance| instance.replace(asked("client://new"), now);
    // state, then what it is after start, stop, restart, PUT and DELETE
    let table = [
        ("stopped", ["starting", "stopped", "starting", "starting", "gone"]),
        ("failed", ["starting", "stopped", "starting", "starting", "gone"]),
        ("starting", ["starting", "stopped", "starting", "starting", "gone"]),
        ("fresh", ["fresh", "stopping", "restarting", "restarting", "deleting"]),
        ("well", ["well", "stopping", "restarting", "restarting", "deleting"]),
        ("ill", ["ill", "stopping", "restarting", "restarting", "deleting"]),
        ("handed", ["handed", "stopping", "handed", "handed", "deleting"]),
        ("taken", ["taken", "stopping", "taken", "taken", "deleting"]),
        ("stopping", ["restarting", "stopping", "restarting", "restarting", "deleting"]),
        ("restarting", ["restarting", "stopping", "restarting", "restarting", "deleting"]),
        ("deleting", ["deleting", "deleting", "deleting", "deleting", "deleting"]),
        ("gone", ["gone", "gone", "gone", "gone", "gone"]),
    ];
    for (state, after) in table {
        for (order, expected) in after.into_iter().enumerate() {
            let mut states = every_state(now);
            let at = states.iter().position(|(name, _)| *name == state).unwrap();
            let (_, mut instance) = states.swap_remove(at);
            assert_eq!(name(&instance), state);
            let had = instance.has_process();
            match order {
                0 => instance.start(),
                1 => instance.stop(now),
                2 => instance.restart(now),
                3 => replace(&mut instance),
                _ => instance.delete(now),
            }
            assert_eq!(name(&instance), expected, "{state}, order {order}");
            assert_eq!(instance.has_process(), had, "an order neither makes nor loses a process by itself");
            let steps = steps(&mut instance);
            let asked = had && !state.ends_with("ing") && expected.ends_with("ing");
            assert_eq!(steps.contains(&Step::Terminate), asked, "{state}, order {order}: {steps:?}");
            let spawns = state != "starting" && expected == "starting";
            assert_eq!(steps.contains(&Step::Spawn), spawns, "{state}, order {order}: {steps:?}");
        }
    }
}

#[test]
fn a_new_instance_is_created_stopped_and_then_asks_for_its_process() {
    let mut instance = Instance::new(record(), TIMES);
    assert_eq!(instance.record().status, Status::Stopped);
    let create = Step::Publish(What::Create, String::new());
    assert_eq!(steps(&mut instance), [create, Step::Save, Step::Spawn]);
    instance.spawned(Instant::now());
    assert_eq!(instance.record().status, Status::Running);
    assert_eq!(published(&mut instance), [What::Update]);
}

#[test]
fn a_restart_shows_stopped_and_then_running() {
    let now = Instant::now();
    let mut instance = running();
    instance.restart(now);
    assert_eq!(instance.record().status, Status::Running);
    assert_eq!(steps(&mut instance), [Step::Terminate]);
    instance.ended(true, now);
    assert_eq!(instance.record().status, Status::Stopped);
    let update = Step::Publish(What::Update, String::new());
    assert_eq!(steps(&mut instance), [update, Step::Save, Step::Spawn, Step::Settled]);
    instance.spawned(Instant::now());
    assert_eq!(instance.record().status, Status::Running);
    assert_eq!(published(&mut instance), [What::Update]);
}

#[test]
fn one_that_does_not_leave_is_killed_once_after_its_grace() {
    let now = Instant::now();
    let mut instance = running();
    instance.stop(now);
    assert_eq!(steps(&mut instance), [Step::Terminate]);
    instance.tick(now + TIMES.grace - BEAT);
    assert_eq!(steps(&mut instance), []);
    assert_eq!(instance.deadline(), Some(now + TIMES.grace));
    instance.tick(now + TIMES.grace);
    assert_eq!(steps(&mut instance), [Step::Kill]);
    instance.restart(now);
    instance.tick(now + TIMES.grace * 2);
    assert_eq!((steps(&mut instance), instance.deadline()), (vec![], None));
    instance.ended(false, now);
    assert_eq!(name(&instance), "starting");
}

#[test]
fn a_failure_is_an_error_and_the_next_start_comes_at_the_retry_and_not_before() {
    let now = Instant::now();
    let mut instance = running();
    instance.amend(&Patch { restart: Some(false), ..Patch::default() });
    steps(&mut instance);
    instance.ended(false, now);
    assert_eq!(instance.record().status, Status::Error);
    assert_eq!(published(&mut instance), [What::Update]);
    instance.tick(now + TIMES.retry - BEAT);
    assert_eq!(steps(&mut instance), []);
    instance.tick(now + TIMES.retry);
    assert_eq!(steps(&mut instance), [Step::Spawn]);
    instance.unspawnable(now + TIMES.retry);
    assert_eq!((name(&instance), instance.deadline()), ("failed", Some(now + TIMES.retry * 2)));
}

#[test]
fn one_that_starts_by_itself_and_dies_waits_a_second_and_then_twice_as_long_up_to_a_minute() {
    let mut now = Instant::now();
    let mut instance = Instance::new(record(), TIMES);
    let mut pauses = Vec::new();
    for n in 0..9 {
        instance.spawned(now);
        // A process that cannot even be started counts as one that died at once.
        match n {
            3 => {
                instance.ended(false, now);
                now = instance.deadline().unwrap();
                instance.tick(now);
                instance.unspawnable(now);
            }
            _ => instance.ended(false, now),
        }
        let retry = instance.deadline().unwrap();
        pauses.push((retry - now).as_secs());
        instance.tick(retry - BEAT);
        assert_eq!(name(&instance), "failed");
        instance.tick(retry);
        assert_eq!(name(&instance), "starting");
        now = retry;
    }
    assert_eq!(pauses, [1, 2, 4, 16, 32, 60, 60, 60, 60]);
}

#[test]
fn one_that_lived_for_a_minute_or_was_told_to_start_waits_for_a_second_again() {
    let mut now = Instant::now();
    let mut instance = Instance::new(record(), TIMES);
    let mut dies_after = |instance: &mut Instance, life: Duration| {
        instance.spawned(now);
        now += life;
        instance.ended(false, now);
        let pause = instance.deadline().unwrap() - now;
        now += pause;
        pause
    };
    assert_eq!(dies_after(&mut instance, BEAT), MIN_PAUSE);
    for act in [Instance::start as fn(&mut Instance), |instance| instance.tick(instance.deadline().unwrap())] {
        act(&mut instance);
        dies_after(&mut instance, BEAT);
    }
    instance.tick(instance.deadline().unwrap());
    assert_eq!(dies_after(&mut instance, LONG_LIFE - BEAT), MIN_PAUSE * 4);
    instance.tick(instance.deadline().unwrap());
    assert_eq!(dies_after(&mut instance, LONG_LIFE), MIN_PAUSE);
    instance.tick(instance.deadline().unwrap());
    assert_eq!(dies_after(&mut instance, BEAT), MIN_PAUSE * 2);
    instance.start();
    assert_eq!(dies_after(&mut instance, BEAT), MIN_PAUSE);
}

#[test]
fn a_retry_shorter_than_the_pause_counts() {
    let now = Instant::now();
    let times = Times { retry: Duration::from_millis(10), ..TIMES };
    let mut instance = Instance::new(record(), times);
    instance.spawned(now);
    instance.ended(false, now);
    assert_eq!(instance.deadline(), Some(now + times.retry));
}

#[test]
fn an_end_with_success_that_was_not_asked_for_is_a_stop() {
    let mut instance = running();
    instance.ended(true, Instant::now());
    assert_eq!((name(&instance), instance.record().status), ("stopped", Status::Stopped));
}

#[test]
fn whatever_way_one_goes_that_was_asked_to_stop_is_no_error() {
    let now = Instant::now();
    let mut instance = running();
    instance.stop(now);
    instance.said(trouble(), now);
    instance.ended(false, now);
    assert_eq!((name(&instance), instance.record().status), ("stopped", Status::Stopped));
}

#[test]
fn silence_counts_from_the_first_check_point_on_and_another_one_ends_it() {
    let now = Instant::now();
    let mut instance = running();
    assert_eq!(instance.deadline(), None);
    instance.said(point([0; 4]), now);
    assert_eq!(instance.deadline(), Some(now + TIMES.silence));
    instance.tick(now + TIMES.silence);
    assert_eq!(instance.record().status, Status::Error);
    instance.said(point([0; 4]), now + TIMES.silence);
    assert_eq!((instance.record().status, name(&instance)), (Status::Running, "well"));
}

#[test]
fn trouble_is_an_error_until_a_check_point_comes_or_it_is_started_again() {
    let now = Instant::now();
    let mut instance = running();
    instance.said(trouble(), now);
    assert_eq!(instance.record().status, Status::Error);
    instance.said(trouble(), now + TIMES.retry / 2);
    assert_eq!(instance.deadline(), Some(now + TIMES.retry));
    steps(&mut instance);
    instance.tick(now + TIMES.retry);
    assert_eq!((name(&instance), steps(&mut instance)), ("restarting", vec![Step::Terminate]));
}

#[test]
fn every_check_point_is_an_update_and_no_log() {
    let mut instance = running();
    instance.said(point([1, 2, 3, 4]), Instant::now());
    assert_eq!(published(&mut instance), [What::Update]);
    assert_eq!(instance.tail().count(), 0);
    let figures = instance.record().figures;
    assert_eq!((figures.mode, figures.ping, figures.pool, figures.tcps, figures.udps), (2, 7, 8, 1, 1));
    assert_eq!(counters(&instance), [1, 2, 3, 4]);
}

#[test]
fn counters_go_on_over_restarts_and_live_figures_do_not() {
    let now = Instant::now();
    let mut instance = running();
    instance.said(point([10, 20, 30, 40]), now);
    instance.restart(now);
    instance.said(point([11, 21, 31, 41]), now);
    instance.ended(true, now);
    let figures = instance.record().figures;
    assert_eq!((figures.mode, figures.ping, figures.pool, figures.tcps, figures.udps), (2, 0, 0, 0, 0));
    assert_eq!(counters(&instance), [11, 21, 31, 41]);
    instance.spawned(Instant::now());
    instance.said(point([1, 1, 1, 1]), now);
    assert_eq!(counters(&instance), [12, 22, 32, 42]);

    let mut again = Instance::loaded(instance.record().clone(), TIMES);
    again.start();
    again.spawned(Instant::now());
    again.said(point([8, 8, 8, 8]), now);
    assert_eq!(counters(&again), [20, 30, 40, 50]);
}

#[test]
fn a_reset_counts_from_zero_and_the_next_process_goes_on_from_there() {
    let now = Instant::now();
    let mut instance = running();
    instance.said(point([10, 20, 30, 40]), now);
    instance.reset();
    assert_eq!(published(&mut instance), [What::Update, What::Update]);
    assert_eq!(counters(&instance), [0; 4]);
    instance.said(point([15, 20, 30, 40]), now);
    assert_eq!(counters(&instance), [5, 0, 0, 0]);
    instance.restart(now);
    instance.ended(true, now);
    instance.spawned(Instant::now());
    instance.said(point([1, 2, 3, 4]), now);
    assert_eq!(counters(&instance), [6, 2, 3, 4]);
}

#[test]
fn a_process_that_counts_less_than_at_the_reset_has_begun_again() {
    let now = Instant::now();
    let mut instance = running();
    instance.said(point([100; 4]), now);
    instance.reset();
    instance.said(point([7; 4]), now);
    assert_eq!(counters(&instance), [7; 4]);
}

#[test]
fn counters_that_would_overflow_stay_at_the_top() {
    let mut old = record();
    old.figures.tcprx = u64::MAX - 1;
    let mut instance = Instance::loaded(old, TIMES);
    instance.start();
    instance.spawned(Instant::now());
    instance.said(point([5; 4]), Instant::now());
    assert_eq!(counters(&instance), [u64::MAX, 5, 5, 5]);
}

#[test]
fn the_last_lines_are_kept_and_each_is_told() {
    let mut instance = running();
    for n in 0..MAX_LINES + 5 {
        instance.said(ChildLine::Line { text: n.to_string(), trouble: false }, Instant::now());
    }
    assert_eq!(published(&mut instance).len(), MAX_LINES + 5);
    let kept: Vec<&String> = instance.tail().collect();
    assert_eq!((kept.len(), kept[0].as_str()), (MAX_LINES, "5"));
}

#[test]
fn a_new_url_takes_effect_at_once_and_its_process_comes_after_the_old_one() {
    let now = Instant::now();
    let mut instance = running();
    instance.replace(asked("server://b"), now);
    assert_eq!(steps(&mut instance), [Step::Terminate, Step::Save]);
    assert_eq!(instance.record().url, "server://b");
    instance.ended(true, now);
    let steps = steps(&mut instance);
    assert!(steps.ends_with(&[Step::Spawn, Step::Settled]), "{steps:?}");
}

#[test]
fn what_is_kept_with_it_changes_once_and_only_if_it_is_another() {
    let mut instance = stopped();
    let patch = Patch { alias: Some("a".into()), restart: Some(false), ..Patch::default() };
    instance.amend(&patch);
    assert_eq!(published(&mut instance), [What::Update]);
    assert_eq!((instance.record().alias.as_str(), instance.record().restart), ("a", false));
    instance.amend(&patch);
    instance.amend(&Patch { action: Some(Action::Stop), ..Patch::default() });
    assert_eq!(steps(&mut instance), []);
}
