//! This build beside another one: did a change make it slower?
//!
//! ```text
//!  round 1:  this, other   round 2:  other, this   ...      each way fresh each time; of every pair of figures the ratio
//! ```
//!
//! The two take turns, so a machine that slows down does so for both. All figures are costs: less is better.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::bulk::{self, Direction};
use crate::datagrams;
use crate::end::End;
use crate::findings::median;
use crate::held;
use crate::machine;
use crate::programs::{Programs, Running, Way};
use crate::visits;

/// Measures `ways` with the program of `programs` and with `other`, so many rounds, and prints a table.
pub fn run(programs: &Programs, other: &Path, ways: &[Way], rounds: usize) -> io::Result<()> {
    let target = Target::start(programs)?;
    let mut table = Vec::new();
    for &way in ways.iter().filter(|way| way.is_ours()) {
        let mut pairs = Pairs::default();
        for round in 1..=rounds {
            machine::quiet(QUIET);
            let ours = || sample(programs, way, &target);
            let theirs = || sample(&programs.with_nodepass(other), way, &target);
            let both = if round % 2 == 1 {
                ours().and_then(|ours| Ok((ours, theirs()?)))
            } else {
                theirs().and_then(|theirs| Ok((ours()?, theirs)))
            };
            match both {
                Ok((ours, theirs)) => pairs.add(&ours, &theirs),
                Err(error) => eprintln!("{} {round}: failed: {error}", way.key()),
            }
            eprintln!("{} {round}: done", way.key());
        }
        table.extend(pairs.rows(way));
    }
    println!("| way | figure | this | other | this / other | interval | verdict |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | --- |");
    table.iter().for_each(|row| println!("{row}"));
    Ok(())
}

/// What all ways lead to: a web server for visits, an end for bytes, held users and datagrams.
struct Target {
    web: Option<Running>,
    end: End,
    datagrams: datagrams::Target,
}

impl Target {
    fn start(programs: &Programs) -> io::Result<Target> {
        let mut web = programs.nginx.is_some().then(|| programs.start_web()).transpose()?;
        if let Some(web) = &mut web {
            web.ready(visits::probe)?;
        }
        let end = End::start()?;
        let datagrams = datagrams::Target::start_at(end.address)?;
        Ok(Target { web, end, datagrams })
    }
}

/// One figure of one run: its name, its unit in the name, its value.
type Sample = Vec<(&'static str, f64)>;

fn sample(programs: &Programs, way: Way, target: &Target) -> io::Result<Sample> {
    let mut sample = Vec::new();
    if let Some(web) = &target.web {
        let mut running = programs.start(way, web.entry)?;
        running.ready(visits::probe)?;
        visits::run(running.entry, WARM_UP, AT_ONCE)?;
        let spent = running.processor_seconds();
        visits::run(running.entry, CROWD, AT_ONCE)?;
        let cost = (running.processor_seconds() - spent) * 1e6 / CROWD as f64;
        running.rest();
        let alone = visits::run(running.entry, ALONE, 1)?;
        sample.extend([("a new user, CPU µs", cost), ("a lone visit, µs", alone.end.p50)]);
    }
    let mut running = programs.start(way, target.end.address)?;
    running.ready(held::probe)?;
    target.end.release();
    let (held, _) = held::run(&running, &target.end, HELD, Duration::ZERO)?;
    let grown = |held: &held::Held| held.during.private.saturating_sub(held.before.private);
    let grown: u64 = held.iter().map(grown).sum();
    sample.push(("an idle user, bytes", grown as f64 * 1024.0 / HELD as f64));
    for (name, streams, direction) in BULK {
        target.end.release();
        sample.push((name, bulk::run(&running, &target.end, streams, direction, [RAMP, WINDOW])?.cost));
    }
    running.ready(datagrams::probe)?;
    let seen = datagrams::run(&running, &target.datagrams, SESSIONS, WINDOW)?;
    sample.extend([
        ("a datagram up, CPU µs", seen.up.cost),
        ("a datagram down, CPU µs", seen.down.cost),
        ("a lone datagram and its echo, µs", seen.echo),
        ("the same on one processor, µs", seen.near),
    ]);
    Ok(sample)
}

/// The figures of both, round by round.
#[derive(Default)]
struct Pairs {
    figures: Vec<(&'static str, Vec<(f64, f64)>)>,
}

impl Pairs {
    fn add(&mut self, ours: &Sample, theirs: &Sample) {
        for ((name, ours), (_, theirs)) in ours.iter().zip(theirs) {
            let at = self.figures.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                self.figures.push((name, Vec::new()));
                self.figures.len() - 1
            });
            self.figures[at].1.push((*ours, *theirs));
        }
    }

    fn rows(&self, way: Way) -> Vec<String> {
        self.figures
            .iter()
            .filter_map(|(name, pairs)| {
                let ratios: Vec<f64> =
                    pairs.iter().filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect();
                let ours = median(pairs.iter().map(|(ours, _)| *ours))?;
                let theirs = median(pairs.iter().map(|(_, theirs)| *theirs))?;
                let ratio = median(ratios.iter().copied())?;
                let (low, high) = interval(&ratios)?;
                let verdict = match (low, high) {
                    (low, _) if low > 1.0 => "worse",
                    (_, high) if high < 1.0 => "better",
                    _ => "no difference shown",
                };
                Some(format!(
                    "| {} | {name} | {ours:.3} | {theirs:.3} | {ratio:.2} | {low:.2} to {high:.2} | {verdict} |",
                    way.name()
                ))
            })
            .collect()
    }
}

/// Between which two of the sorted ratios the true median lies in at least nine of ten cases, whatever their distribution: as many are
/// left out at each end as chance allows.
fn interval(ratios: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let mut left_out = 0;
    // The chance that of so many throws of a coin at most `left_out` show heads, twice.
    let mut chance = 2.0 * 0.5_f64.powi(count as i32);
    let mut ways = 1.0;
    loop {
        ways *= (count - left_out) as f64 / (left_out + 1) as f64;
        let next = chance + 2.0 * ways * 0.5_f64.powi(count as i32);
        if next > MISSED || 2 * (left_out + 1) >= count {
            break;
        }
        (chance, left_out) = (next, left_out + 1);
    }
    Some((*sorted.get(left_out)?, *sorted.get(count - 1 - left_out)?))
}

/// How often the interval may miss the true median.
const MISSED: f64 = 0.1;
/// Bulk data: the name of the figure, streams, and which way the bytes go.
const BULK: [(&str, usize, Direction); 4] = [
    ("one stream down, CPU s/GB", 1, Direction::Down),
    ("one stream up, CPU s/GB", 1, Direction::Up),
    ("eight streams down, CPU s/GB", 8, Direction::Down),
    ("eight streams up, CPU s/GB", 8, Direction::Up),
];
const QUIET: Duration = Duration::from_secs(10);
const RAMP: Duration = Duration::from_millis(300);
const WINDOW: Duration = Duration::from_millis(1500);
const WARM_UP: usize = 500;
const CROWD: usize = 5000;
const ALONE: usize = 1000;
const AT_ONCE: usize = 32;
const HELD: usize = 1000;
const SESSIONS: usize = 500;

#[cfg(test)]
mod tests {
    use super::interval;

    #[test]
    fn the_interval_leaves_out_as_many_as_chance_allows() {
        let of = |count: usize| interval(&(1..=count).map(|at| at as f64).collect::<Vec<_>>());
        assert_eq!(of(0), None);
        assert_eq!(of(1), Some((1.0, 1.0)));
        // Both outermost of five: missed once in sixteen times.
        assert_eq!(of(5), Some((1.0, 5.0)));
        // The second of nine: 2 * (1 + 9) / 512.
        assert_eq!(of(9), Some((2.0, 8.0)));
    }
}
