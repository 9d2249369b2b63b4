//! Findings as Markdown tables, with their ratios and the targets they are held against.

use std::fmt::Write;

use crate::datagrams::Datagrams;
use crate::findings::{median, Findings, Found, BULK_COLUMNS};
use crate::held::Held;
use crate::programs::Way;
use crate::visits::Visits;

/// The whole report.
pub fn render(title: &str, facts: &[(&'static str, String)], findings: &Findings) -> String {
    let facts: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let mut text = format!("{title}\n{}.\n", facts.join("; "));
    if findings.disturbed > 0 {
        let (busy, all) = (findings.disturbed, findings.measured);
        let _ = writeln!(text, "{busy} of {all} measurements began while others kept the machine busy.");
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
        text += &memory(findings);
    }
    text + &targets(findings)
}

fn users(findings: &Findings) -> String {
    let mut text = heading(
        "New users",
        "| way | 32 at once, users/s | of direct | of rathole | p50 ms | p99 ms | CPU µs each | alone, µs | x direct | errors |",
    );
    let rate = |way| findings.of(way)?.crowd(|(visits, _)| visits.rate);
    let alone = |way| findings.of(way)?.alone(ANSWER);
    for found in &findings.ways {
        let way = found.way;
        let milli = |pick: Pick| number(found.crowd(|(visits, _)| pick(visits) / 1000.0), 2);
        row(
            &mut text,
            &[
                way.name().into(),
                number(rate(way), 0),
                number(ratio(rate(way), rate(Way::Direct)), 2),
                number(ratio(rate(way), rate(Way::Rathole)), 2),
                milli(ANSWER),
                milli(P99_ANSWER),
                number(found.crowd(|(_, cost)| *cost), 0),
                number(alone(way), 0),
                number(ratio(alone(way), alone(Way::Direct)), 2),
                found.errors().to_string(),
            ],
        );
    }
    text
}

fn bulk(findings: &Findings) -> String {
    let columns: String = BULK.iter().map(|name| format!(" {name}, GB/s | CPU s/GB |")).collect();
    let mut text = heading("Bulk data", &format!("| way |{columns}"));
    for found in &findings.ways {
        let mut cells = vec![found.way.name().to_owned()];
        for column in 0..BULK.len() {
            cells.push(number(found.speed(column), 2));
            cells.push(number(found.cost(column), 2));
        }
        row(&mut text, &cells);
    }
    text
}

fn datagrams(findings: &Findings) -> String {
    let mut text = heading(
        "Datagrams",
        "| way | up, k/s | CPU µs each | down, k/s | CPU µs each | echo, µs | x direct | on one processor, µs | x direct | a session, bytes | its CPU, µs each | sessions missing |",
    );
    let echo = |way| findings.of(way)?.datagrams(|seen| seen.echo);
    let near = |way| findings.of(way)?.datagrams(|seen| seen.near);
    for found in findings.ways.iter().filter(|found| !found.datagrams.is_empty()) {
        let missing: usize = found.datagrams.iter().map(|seen| seen.missing).sum();
        let of_many = |value: Option<f64>| value.filter(|_| found.way.carries_crowds());
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
                number(near(found.way), 0),
                number(ratio(near(found.way), near(Way::Direct)), 2),
                number(of_many(found.datagrams(|seen| seen.session)), 0),
                number(of_many(found.datagrams(|seen| seen.murmur * 1e6 / findings.held_users as f64)), 0),
                missing.to_string(),
            ],
        );
    }
    text
}

fn memory(findings: &Findings) -> String {
    let users = findings.held_users;
    let mut text = heading(
        "Memory",
        &format!("| process | at rest, RSS KiB | PSS | private | threads | descriptors | {users} users, bytes each | RSS KiB with them | after | missing |"),
    );
    for (name, idle) in &findings.idle {
        let mut cells = vec![
            name.clone(),
            idle.memory.rss.to_string(),
            idle.memory.pss.to_string(),
            idle.memory.private.to_string(),
            idle.threads.to_string(),
            idle.descriptors.to_string(),
        ];
        let all = findings.ways.iter().flat_map(|found| found.held.iter().map(move |held| (found, held)));
        let held = all.into_iter().find(|(found, (part, _))| process_name(found.way, part) == *name);
        match held {
            None => cells.extend(["-"; 4].map(str::to_owned)),
            Some((found, (_, rounds))) => {
                let middle = |pick: fn(&Held) -> f64| median(rounds.iter().map(pick));
                cells.push(number(bytes_per_user(findings, rounds), 0));
                cells.push(number(middle(|held| held.during.rss as f64), 0));
                cells.push(number(middle(|held| held.after.rss as f64), 0));
                cells.push(found.missing.to_string());
            }
        }
        row(&mut text, &cells);
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
    datagram_targets(findings, &mut list);
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
    list.under("at rest, any plain role, RSS MiB", worst(false), 4.0);
    list.under("at rest, any role with tls=1, RSS MiB", worst(true), 8.0);
}

fn held_targets(findings: &Findings, list: &mut Targets) {
    let plain = findings.of(Way::Tunnel).into_iter().flat_map(|f| &f.held);
    let each = plain.filter_map(|(_, rounds)| bytes_per_user(findings, rounds));
    list.under("idle user, plain tunnel, worse process, KiB", each.reduce(f64::max).map(|bytes| bytes / 1024.0), 2.0);
    let ours = [Way::Single, Way::Tunnel, Way::TunnelTls];
    let rounds = ours.iter().filter_map(|way| findings.of(*way));
    let kept = rounds.flat_map(|found| &found.held).filter_map(|(_, all)| {
        median(all.iter().map(|held| (held.after.rss as f64 - held.before.rss as f64) / 1024.0))
    });
    list.under("kept after all users left, worst process, MiB", kept.reduce(f64::max), 1.0);
}

fn bulk_targets(findings: &Findings, list: &mut Targets) {
    let speed = |way, column| findings.of(way)?.speed(column);
    let cost = |way, column| findings.of(way)?.cost(column);
    let all = |of: &dyn Fn(usize) -> Option<f64>| -> Vec<f64> { (0..BULK.len()).filter_map(of).collect() };
    let most = |of: &dyn Fn(usize) -> Option<f64>| all(of).into_iter().reduce(f64::max);
    let least = |of: &dyn Fn(usize) -> Option<f64>| all(of).into_iter().reduce(f64::min);
    let slowest = least(&|n| ratio(speed(Way::Single, n), speed(Way::Haproxy, n)));
    list.over("single-end speed of haproxy's, worst of four", slowest, 1.0);
    let cost_of = |one, other| most(&|n| ratio(cost(one, n), cost(other, n)));
    list.under("single-end CPU/GB of haproxy's, worst of four", cost_of(Way::Single, Way::Haproxy), 1.0);
    list.under("plain tunnel CPU/GB of haproxy's, worst of four", cost_of(Way::Tunnel, Way::Haproxy), 2.0);
    for (columns, what, limit) in [([0, 1], "one stream", 0.6), ([2, 3], "eight streams", 0.7)] {
        let of = |n| ratio(cost(Way::TunnelTls, n), cost(Way::GoTunnelTls, n));
        let worse = columns.into_iter().filter_map(of).reduce(f64::max);
        list.under(&format!("tls=1 CPU/GB of the original's, {what}"), worse, limit);
    }
    list.under("WebSocket CPU/GB of TLS's, worst of four", cost_of(Way::Ws, Way::TunnelTls), 1.1);
    list.under("HTTP/2 CPU/GB of TLS's, worst of four", cost_of(Way::H2, Way::TunnelTls), 1.2);
    list.under("QUIC CPU/GB of TLS's, worst of four", cost_of(Way::Quic, Way::TunnelTls), 1.3);
}

fn user_targets(findings: &Findings, list: &mut Targets) {
    let rate = |way| findings.of(way)?.crowd(|(visits, _)| visits.rate);
    let crowd = |way, pick: Pick| findings.of(way)?.crowd(|(visits, _)| pick(visits) / 1000.0);
    let alone = |way| findings.of(way)?.alone(ANSWER);
    list.over("new users, plain tunnel, of rathole's", ratio(rate(Way::Tunnel), rate(Way::Rathole)), 1.5);
    for (other, name) in [(Way::Nginx, "nginx's"), (Way::Realm, "realm's")] {
        for (pick, what) in [(ANSWER, "p50"), (P99_ANSWER, "p99")] {
            let times = ratio(crowd(Way::Single, pick), crowd(other, pick));
            list.under(&format!("new users, single-end, {what} of {name}"), times, 1.0);
        }
    }
    let p99 = ratio(crowd(Way::TunnelTls, P99_ANSWER), crowd(Way::Tunnel, P99_ANSWER));
    list.under("new users, tls=1, p99 of plain's", p99, 1.2);
    list.under("a lone visit, plain tunnel, of direct's time", ratio(alone(Way::Tunnel), alone(Way::Direct)), 3.0);
    list.under("a lone visit, QUIC, of TLS's time", ratio(alone(Way::Quic), alone(Way::TunnelTls)), 1.2);
}

fn datagram_targets(findings: &Findings, list: &mut Targets) {
    // Datagrams for each second of processor time, the worse direction.
    let worse = |ours, other| {
        let directions: [DatagramPick; 2] = [|seen| seen.up.cost, |seen| seen.down.cost];
        let each = |pick| ratio(findings.of(other)?.datagrams(pick), findings.of(ours)?.datagrams(pick));
        directions.into_iter().filter_map(each).reduce(f64::min)
    };
    list.over("datagrams a CPU second, single-end, of realm's", worse(Way::Single, Way::Realm), 1.5);
    list.over("datagrams a CPU second, plain tunnel, of rathole's", worse(Way::Tunnel, Way::Rathole), 2.0);
    list.over("datagrams a CPU second, tls=1, of the original's", worse(Way::TunnelTls, Way::GoTunnelTls), 1.5);
    let picks: [(&str, DatagramPick); 2] = [("", |seen| seen.echo), (", on one processor", |seen| seen.near)];
    for (place, pick) in picks {
        let echo = |way| findings.of(way)?.datagrams(pick);
        let times = ratio(echo(Way::Single), echo(Way::Direct));
        list.under(&format!("a lone datagram's echo, single-end, of direct's time{place}"), times, 3.5);
    }
    let single = findings.of(Way::Single);
    let session = single.and_then(|found| found.datagrams(|seen| seen.session / 1024.0));
    list.under("a session of datagrams, single-end, KiB", session, 3.0);
    let core = single.and_then(|found| found.datagrams(|seen| seen.murmur * 100.0 * 10_000.0));
    let core = core.map(|percent| percent / findings.held_users.max(1) as f64);
    list.under("10 000 such sessions with a datagram a second, single-end, % of a core", core, 10.0);
}

/// Rows of the table of targets.
struct Targets(String);

impl Targets {
    fn under(&mut self, name: &str, value: Option<f64>, limit: f64) {
        self.line(name, value, &format!("at most {limit}"), value.is_some_and(|value| value <= limit));
    }

    fn over(&mut self, name: &str, value: Option<f64>, limit: f64) {
        self.line(name, value, &format!("at least {limit}"), value.is_some_and(|value| value >= limit));
    }

    fn line(&mut self, name: &str, value: Option<f64>, limit: &str, met: bool) {
        if value.is_some() {
            let met = if met { "yes" } else { "**no**" };
            row(&mut self.0, &[name.into(), number(value, 2), limit.into(), met.into()]);
        }
    }
}

fn bytes_per_user(findings: &Findings, rounds: &[Held]) -> Option<f64> {
    let grown = |held: &Held| held.during.anonymous as f64 - held.before.anonymous as f64;
    median(rounds.iter().map(grown)).map(|kib| kib * 1024.0 / findings.held_users.max(1) as f64)
}

/// The way's name, and the process's where the way has several.
pub fn process_name(way: Way, part: &str) -> String {
    match way {
        _ if way.pool().is_some() => format!("{}: {part}", way.name()),
        Way::Rathole | Way::Socat => part.to_owned(),
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
/// A figure of a run of datagrams.
type DatagramPick = fn(&Datagrams) -> f64;
const ANSWER: Pick = |visits| visits.answer.p50;
const P99_ANSWER: Pick = |visits| visits.answer.p99;
/// The columns of the bulk table.
const BULK: [&str; BULK_COLUMNS] = ["one down", "one up", "eight down", "eight up"];
