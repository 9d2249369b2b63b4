//! Many instances at once.

use super::bench::*;
use crate::support::*;
use nodepass::master::record::Status;
use std::time::{Duration, Instant};

#[test]
fn a_hundred_instances_start_while_their_list_is_served() {
    if !raise_limits(2048) {
        return;
    }
    let bench = Bench::real();
    let began = Instant::now();
    let slowest = std::thread::scope(|scope| {
        let list = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            let all_run = eventually(GRACE * 3, || {
                let asked = Instant::now();
                let list = bench.list();
                slowest = slowest.max(asked.elapsed());
                list.iter().filter(|record| record.status == Status::Running).count() == COUNT
            });
            assert!(all_run, "not all of them run");
            slowest
        });
        for _ in 0..COUNT {
            let url = format!("server://127.0.0.1:{}/127.0.0.1:{}?mode=2&log=warn", free_port(), free_port());
            bench.create(&url);
        }
        list.join().unwrap()
    });
    println!("{COUNT} run after {:?}, the slowest list took {slowest:?}", began.elapsed());
    assert_eq!(bench.list().len(), COUNT + 1);
}

const COUNT: usize = 100;
