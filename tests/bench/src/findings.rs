//! What was measured, kept by way, and the medians over the rounds.

use crate::bulk::Bulk;
use crate::datagrams::Datagrams;
use crate::held::{Held, Idle};
use crate::programs::Way;
use crate::visits::Visits;

/// All that one run of the bench found out.
#[derive(Default)]
pub struct Findings {
    /// One per way that was measured, in table order.
    pub ways: Vec<Found>,
    /// Processes at rest, by name.
    pub idle: Vec<(String, Idle)>,
    /// Measurements of speed, and how many of them began while others kept the machine busy.
    pub measured: usize,
    pub disturbed: usize,
    /// Users held at once in the memory test.
    pub held_users: usize,
}

/// What one way showed: each list has one entry per round that worked.
pub struct Found {
    pub way: Way,
    /// Many users at once, and the microseconds of processor time each cost.
    pub crowd: Vec<(Visits, f64)>,
    /// One user after the other.
    pub alone: Vec<Visits>,
    /// One list per column of the bulk table.
    pub bulk: [Vec<Bulk>; BULK_COLUMNS],
    /// One list per process.
    pub held: Vec<(&'static str, Vec<Held>)>,
    /// Users who did not get through in the memory test, all rounds together.
    pub missing: usize,
    /// UDP.
    pub datagrams: Vec<Datagrams>,
}

impl Findings {
    /// What `way` showed, if it was measured.
    pub fn of(&self, way: Way) -> Option<&Found> {
        self.ways.iter().find(|found| found.way == way)
    }
}

impl Found {
    /// Nothing measured yet.
    pub fn new(way: Way) -> Found {
        Found {
            way,
            crowd: Vec::new(),
            alone: Vec::new(),
            bulk: Default::default(),
            held: Vec::new(),
            missing: 0,
            datagrams: Vec::new(),
        }
    }

    /// Median of `pick` over the rounds with many users at once.
    pub fn crowd(&self, pick: impl Fn(&(Visits, f64)) -> f64) -> Option<f64> {
        median(self.crowd.iter().map(pick))
    }

    /// Median latency of one user at a time, in microseconds, as `pick` takes it from a round.
    pub fn alone(&self, pick: impl Fn(&Visits) -> f64) -> Option<f64> {
        median(self.alone.iter().map(pick))
    }

    /// Median speed in 10^9 bytes a second, of one column of the bulk table.
    pub fn speed(&self, column: usize) -> Option<f64> {
        median(self.bulk[column].iter().map(|bulk| bulk.speed))
    }

    /// Median cost in processor seconds for each 10^9 bytes, of one column of the bulk table.
    pub fn cost(&self, column: usize) -> Option<f64> {
        median(self.bulk[column].iter().map(|bulk| bulk.cost))
    }

    /// Median of `pick` over the rounds with datagrams.
    pub fn datagrams(&self, pick: impl Fn(&Datagrams) -> f64) -> Option<f64> {
        median(self.datagrams.iter().map(pick))
    }

    /// Visits that failed, all rounds together.
    pub fn errors(&self) -> usize {
        let crowd = self.crowd.iter().map(|(visits, _)| visits.errors);
        let alone = self.alone.iter().map(|visits| visits.errors);
        crowd.chain(alone).sum()
    }
}

/// The middle value, or the mean of the two in the middle; nothing of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}

/// Columns of the bulk table: one stream down, one up, eight down, eight up.
pub const BULK_COLUMNS: usize = 4;

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
