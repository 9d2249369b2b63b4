//! Findings as Markdown tables, with their ratios and the targets they are held against.

use std::fmt::Write;

use crate::datagrams::OFFERED;
use crate::findings::{median, Findings, Found};
use crate::held::Held;
use crate::programs::Way;
use crate::visits::Visits;

/// The whole report.
pub fn render(title: &str, facts: &[(&'static str, String)], findings: &Findings) -> String {
    let mut text = format!("{title}\n\n");
    for (name, value) in facts {
        let _ = writeln!(text, "- {name}: {value}");
    }
    if findings.measured > 0 {
        let (busy, all) = (findings.disturbed, findings.measured);
        let _ = writeln!(text, "- measurements begun while others kept the machine busy: {busy} of {all}");
    }
    let any = |has: fn(&Found) -> bool| findings.ways.iter().any(has);
    if any(|found| !found.crowd.is_empty()) {
        text += &users(findings);
    }
    if any(|found| !found.bulk[0].is_empty()) {
        text += &bulk(findings);
    }
    if any(|found| !found.datagrams.is_empty()) {
        text += &datagrams(findings);
    }
    if !findings.idle.is_empty() {
        text += &idle(findings);
    }
    if any(|found| !found.held.is_empty()) {
        text += &held(findings);
    }
    text + &targets(findings)
}

fn users(findings: &Findings) -> String {
    let mut text = heading(
        "New users, 32 at once",
        "| way | users/s | of direct | of rathole | answer p50 ms | p99 | end p50 ms | p99 | max | CPU µs/user | errors |",
    );
    let rate = |way| findings.of(way)?.crowd(|(visits, _)| visits.rate);
    for found in &findings.ways {
        let way = found.way;
        let milli = |pick: fn(&Visits) -> f64| number(found.crowd(|(visits, _)| pick(visits) / 1000.0), 2);
        row(
            &mut text,
            &[
                way.name().into(),
                number(rate(way), 0),
                number(ratio(rate(way), rate(Way::Direct)), 2),
                number(ratio(rate(way), rate(Way::Rathole)), 2),
                milli(|visits| visits.answer.p50),
                milli(|visits| visits.answer.p99),
                milli(|visits| visits.end.p50),
                milli(|visits| visits.end.p99),
                milli(|visits| visits.end.max),
                number(found.crowd(|(_, cost)| *cost), 0),
                found.errors().to_string(),
            ],
        );
    }
    text + &lone_users(findings)
}

fn lone_users(findings: &Findings) -> String {
    let mut text = heading(
        "New users, one at a time (medians)",
        "| way | to the answer, µs | x direct | to the end of stream, µs | x direct |",
    );
    for found in &findings.ways {
        let mut cells = vec![found.way.name().to_owned()];
        for pick in LONE {
            let time = |way| findings.of(way)?.alone(pick);
            cells.push(number(time(found.way), 0));
            cells.push(number(ratio(time(found.way), time(Way::Direct)), 2));
        }
        row(&mut text, &cells);
    }
    text
}

fn bulk(findings: &Findings) -> String {
    let mut text = String::new();
    for (streams, down, up) in [("one stream", 0, 1), ("eight streams", 2, 3)] {
        text += &heading(
            &format!("Bulk data, {streams}"),
            "| way | down GB/s | of haproxy | CPU s/GB | x haproxy | up GB/s | of haproxy | CPU s/GB | x haproxy |",
        );
        for found in &findings.ways {
            let mut cells = vec![found.way.name().to_owned()];
            for column in [down, up] {
                let speed = |way| findings.of(way)?.speed(column);
                let cost = |way| findings.of(way)?.cost(column);
                let way = found.way;
                cells.push(number(speed(way), 2));
                cells.push(number(ratio(speed(way), speed(Way::Haproxy)), 2));
                cells.push(number(cost(way), 3));
                cells.push(number(ratio(cost(way), cost(Way::Haproxy)), 2));
            }
            row(&mut text, &cells);
        }
    }
    text
}

fn datagrams(findings: &Findings) -> String {
    let offered = OFFERED / 1000;
    let mut text = heading(
        &format!("Datagrams of 1200 bytes, one session, {offered} thousand a second offered"),
        "| way | up, k/s | CPU µs each | down, k/s | CPU µs each | echo µs | x direct | bytes a session | CPU of one core at 1/s each | sessions missing |",
    );
    let echo = |way| findings.of(way)?.datagrams(|seen| seen.echo);
    for found in findings.ways.iter().filter(|found| !found.datagrams.is_empty()) {
        let missing: usize = found.datagrams.iter().map(|seen| seen.missing).sum();
        row(
            &mut text,
            &[
                found.way.name().into(),
                number(found.datagrams(|seen| seen.up.through / 1000.0), 1),
                number(found.datagrams(|seen| seen.up.cost), 1),
                number(found.datagrams(|seen| seen.down.through / 1000.0), 1),
                number(found.datagrams(|seen| seen.down.cost), 1),
                number(echo(found.way), 0),
                number(ratio(echo(found.way), echo(Way::Direct)), 2),
                number(found.datagrams(|seen| seen.session), 0),
                number(found.datagrams(|seen| seen.murmur * 100.0), 1) + " %",
                missing.to_string(),
            ],
        );
    }
    text
}

fn idle(findings: &Findings) -> String {
    let mut text = heading("Memory at rest", "| process | RSS KiB | PSS KiB | private KiB | threads | descriptors |");
    for (name, idle) in &findings.idle {
        row(
            &mut text,
            &[
                name.clone(),
                idle.memory.rss.to_string(),
                idle.memory.pss.to_string(),
                idle.memory.private.to_string(),
                idle.threads.to_string(),
                idle.descriptors.to_string(),
            ],
        );
    }
    text
}

fn held(findings: &Findings) -> String {
    let mut text = heading(
        &format!(
            "Memory of idle users ({} at once, then gone)",
            findings.held_users
        ),
        "| process | RSS before, KiB | during | after | bytes/user, RSS | bytes/user, private | descriptors before | after | users missing |",
    );
    for found in &findings.ways {
        for (part, rounds) in &found.held {
            let middle = |pick: fn(&Held) -> f64| median(rounds.iter().map(pick));
            row(
                &mut text,
                &[
                    process_name(found.way, part),
                    number(middle(|held| held.before.rss as f64), 0),
                    number(middle(|held| held.during.rss as f64), 0),
                    number(middle(|held| held.after.rss as f64), 0),
                    number(bytes_per_user(findings, rounds, |m| m.rss), 0),
                    number(bytes_per_user(findings, rounds, |m| m.private), 0),
                    number(middle(|held| held.descriptors.0 as f64), 0),
                    number(middle(|held| held.descriptors.1 as f64), 0),
                    found.missing.to_string(),
                ],
            );
        }
    }
    text
}

/// The targets of the project, each with what was measured; those without a measurement are left out.
fn targets(findings: &Findings) -> String {
    let mut list = Targets(String::new());
    idle_targets(findings, &mut list);
    held_targets(findings, &mut list);
    bulk_targets(findings, &mut list);
    user_targets(findings, &mut list);
    if list.0.is_empty() {
        return String::new();
    }
    heading("Targets", "| figure | measured | target | met |") + &list.0
}

fn idle_targets(findings: &Findings, list: &mut Targets) {
    // The target speaks of pools of plain connections.
    let other = |name: &str| [Way::Quic, Way::Ws, Way::H2].iter().any(|way| name.starts_with(way.name()));
    let worst = |tls: bool| {
        let ours = findings.idle.iter().filter(|(name, _)| name.starts_with("nodepass") && !other(name));
        let ours = ours.filter(|(name, _)| name.contains("tls=1") == tls);
        ours.map(|(_, idle)| idle.memory.rss as f64 / 1024.0).reduce(f64::max)
    };
    list.under("idle resident memory, any plain role, MiB", worst(false), 4.0, 2);
    list.under("idle resident memory, any role with tls=1, MiB", worst(true), 8.0, 2);
}

fn held_targets(findings: &Findings, list: &mut Targets) {
    let plain = findings.of(Way::Tunnel).into_iter().flat_map(|f| &f.held);
    let each = plain.filter_map(|(_, rounds)| bytes_per_user(findings, rounds, |m| m.rss));
    let name = "idle user, plain tunnel, worse process, bytes";
    list.under(name, each.reduce(f64::max), 2048.0, 0);
    let ours = [Way::Single, Way::Tunnel, Way::TunnelTls];
    let rounds = ours.iter().filter_map(|way| findings.of(*way));
    let kept = rounds.flat_map(|found| &found.held).filter_map(|(_, all)| {
        median(all.iter().map(|held| (held.after.rss as f64 - held.before.rss as f64) / 1024.0))
    });
    let name = "memory kept after all users left, worst process, MiB";
    list.under(name, kept.reduce(f64::max), 1.0, 2);
}

fn bulk_targets(findings: &Findings, list: &mut Targets) {
    for (column, what) in ["one stream down", "one stream up", "eight down", "eight up"].iter().enumerate() {
        let speed = |way| findings.of(way)?.speed(column);
        let cost = |way| findings.of(way)?.cost(column);
        list.over(
            &format!("single-end speed of haproxy's, {what}"),
            ratio(speed(Way::Single), speed(Way::Haproxy)),
            1.0,
        );
        let single = ratio(cost(Way::Single), cost(Way::Haproxy));
        let name = format!("single-end CPU/GB of haproxy's, {what}");
        list.under(&name, single, 1.0, 2);
        let both = ratio(cost(Way::Tunnel), cost(Way::Haproxy));
        let name = format!("plain tunnel CPU/GB, both ends, of haproxy's, {what}");
        list.under(&name, both, 2.0, 2);
    }
}

fn user_targets(findings: &Findings, list: &mut Targets) {
    let rate = |way| findings.of(way)?.crowd(|(visits, _)| visits.rate);
    let tunnel = findings.of(Way::Tunnel);
    list.over(
        "new users, plain tunnel, of direct's (12 000 of 36 000)",
        ratio(rate(Way::Tunnel), rate(Way::Direct)),
        0.333,
    );
    list.over(
        "new users, plain tunnel, of rathole's (12 000 of 11 000)",
        ratio(rate(Way::Tunnel), rate(Way::Rathole)),
        1.09,
    );
    for (what, pick) in ["answer", "end of stream"].into_iter().zip([P99_ANSWER, P99_END]) {
        let p99 = tunnel.and_then(|found| found.crowd(|(visits, _)| pick(visits) / 1000.0));
        list.under(&format!("new users, plain tunnel, p99 ms to the {what}"), p99, 6.0, 2);
    }
    for (what, pick) in ["answer", "end of stream"].into_iter().zip(LONE) {
        let time = |way| findings.of(way)?.alone(pick);
        let times = ratio(time(Way::Tunnel), time(Way::Direct));
        list.under(&format!("one at a time, plain tunnel, time to the {what} x direct"), times, 3.0, 2);
    }
}

/// Rows of the table of targets.
struct Targets(String);

impl Targets {
    fn under(&mut self, name: &str, value: Option<f64>, limit: f64, digits: usize) {
        let met = value.is_some_and(|value| value <= limit);
        self.line(name, value, digits, &format!("at most {limit}"), met);
    }

    fn over(&mut self, name: &str, value: Option<f64>, limit: f64) {
        let met = value.is_some_and(|value| value >= limit);
        self.line(name, value, 2, &format!("at least {limit}"), met);
    }

    fn line(&mut self, name: &str, value: Option<f64>, digits: usize, limit: &str, met: bool) {
        if value.is_some() {
            let met = if met { "yes" } else { "**no**" };
            row(&mut self.0, &[name.into(), number(value, digits), limit.into(), met.into()]);
        }
    }
}

fn bytes_per_user(findings: &Findings, rounds: &[Held], pick: fn(&crate::process::Memory) -> u64) -> Option<f64> {
    let grown = |held: &Held| pick(&held.during) as f64 - pick(&held.before) as f64;
    median(rounds.iter().map(grown)).map(|kib| kib * 1024.0 / findings.held_users.max(1) as f64)
}

/// The way's name, and the process's where the way has several.
pub fn process_name(way: Way, part: &str) -> String {
    match way {
        _ if way.pool().is_some() => format!("{}: {part}", way.name()),
        Way::Rathole => part.to_owned(),
        _ => way.name().to_owned(),
    }
}

/// A heading, and the first two lines of its table; words in the first column go left, figures right.
fn heading(title: &str, columns: &str) -> String {
    let figures = columns.matches('|').count() - 2;
    format!("\n### {title}\n\n{columns}\n| --- |{}\n", " ---: |".repeat(figures))
}

fn row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn ratio(value: Option<f64>, base: Option<f64>) -> Option<f64> {
    let base = base.filter(|base| *base > 0.0)?;
    Some(value? / base)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

/// A figure of a run of visits.
type Pick = fn(&Visits) -> f64;
/// The two times of one user at a time: to the answer, to the end of stream.
const LONE: [Pick; 2] = [|visits| visits.answer.p50, |visits| visits.end.p50];
const P99_ANSWER: Pick = |visits| visits.answer.p99;
const P99_END: Pick = |visits| visits.end.p99;
