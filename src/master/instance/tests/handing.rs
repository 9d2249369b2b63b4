//! One process of an instance after another.

use super::*;

#[test]
fn a_restart_with_another_process_in_its_place_shows_stopped_and_then_running_and_goes_on_counting() {
    let now = Instant::now();
    let mut instance = running();
    instance.said(ChildLine::Next(NextNotice::Can), now);
    instance.said(point([1, 2, 3, 4]), now);
    steps(&mut instance);
    instance.restart(now);
    assert_eq!((steps(&mut instance), instance.record().status), (vec![Step::HandOn], Status::Running));
    instance.said(ChildLine::Next(DONE), now);
    assert_eq!(instance.record().status, Status::Stopped);
    let update = Step::Publish(What::Update, String::new());
    assert_eq!(steps(&mut instance), [update, Step::Save, Step::Settled, Step::TakenOver]);
    instance.taken_over(now);
    assert_eq!((name(&instance), instance.record().status), ("fresh", Status::Running));
    assert_eq!(published(&mut instance), [What::Update]);
    instance.said(point([10, 0, 0, 0]), now);
    instance.said(ChildLine::Next(NextNotice::Rest([100, 0, 0, 1])), now);
    assert_eq!(counters(&instance), [111, 2, 3, 5]);
    instance.said(point([11, 0, 0, 0]), now);
    assert_eq!(counters(&instance), [112, 2, 3, 5]);
}

#[test]
fn where_no_process_comes_after_it_one_is_stopped_and_started_as_without_all_that() {
    let now = Instant::now();
    type Event = fn(&mut Instance, Instant);
    let cases: [(&str, Event); 3] = [
        ("it says so", |instance, now| instance.told_of_next(NextNotice::Failed, now)),
        ("silence", |instance, _| instance.tick(instance.deadline().unwrap())),
        ("it dies", |instance, now| instance.ended(false, now)),
    ];
    for (why, happens) in cases {
        let mut instance = handing(now);
        steps(&mut instance);
        happens(&mut instance, now);
        if name(&instance) == "restarting" {
            assert_eq!(steps(&mut instance), [Step::Terminate], "{why}");
            instance.ended(true, now);
        }
        assert_eq!((name(&instance), instance.record().status), ("starting", Status::Stopped), "{why}");
        assert!(steps(&mut instance).contains(&Step::Settled), "{why}");
    }
    // One in trouble needs a new beginning.
    let mut instance = running();
    instance.said(ChildLine::Next(NextNotice::Can), now);
    instance.said(trouble(), now);
    instance.restart(now);
    assert_eq!(name(&instance), "restarting");
}

#[test]
fn another_url_while_a_process_takes_over_is_the_next_ones() {
    let now = Instant::now();
    let mut instance = handing(now);
    instance.replace(asked("client://new"), now);
    instance.told_of_next(DONE, now);
    steps(&mut instance);
    instance.taken_over(now);
    assert_eq!(name(&instance), "handed");
    assert!(steps(&mut instance).contains(&Step::HandOn));
    instance.told_of_next(DONE, now);
    instance.taken_over(now);
    assert_eq!(name(&instance), "fresh");
}
