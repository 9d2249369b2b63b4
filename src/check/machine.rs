//! What this machine gives an instance: open files, memory, pipes, buffers.

use std::fs;

use super::finding::Finding;
use super::setup::listens_for_quic;
use super::words::*;
use crate::config::{Config, Role};
use crate::net::pipe::Pipe;
use crate::net::sys;
use crate::run::resources::{Fit, Resources};

/// What was found out about the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Open files and memory that an instance may have.
    pub resources: Resources,
    /// Why there is no kernel pipe, if there is none.
    pub pipe: Option<String>,
    /// Bytes of a socket's receive buffer that an unprivileged program gets; nothing where this one gets any number.
    pub receive: Option<usize>,
    /// The algorithm of TCP.
    pub congestion: String,
}

/// Asks the system.
pub fn look() -> Machine {
    sys::raise_descriptor_limit();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    Machine {
        resources: Resources::here(),
        pipe: Pipe::new().err().map(|error| error.to_string()),
        receive: read("/proc/sys/net/core/rmem_max").parse().ok(),
        congestion: read("/proc/sys/net/ipv4/tcp_congestion_control"),
    }
}

/// What that comes to for this instance.
pub fn judge(machine: &Machine, config: &Config) -> Vec<Finding> {
    if config.role == Role::Master {
        return Vec::new();
    }
    let mut fitted = config.clone();
    let limits = machine.resources.fit(&mut fitted).limits;
    let lowered = limits.iter().any(Fit::is_lowered);
    let Resources { descriptors, memory } = machine.resources;
    let pool = if config.role == Role::Server { fitted.max } else { fitted.min };
    // Where all fits all is named, else what is less.
    let named = limits.iter().filter(|fit| fit.is_lowered() || !lowered).map(shown).collect::<Vec<_>>().join(", ");
    let files = if descriptors == usize::MAX { UNLIMITED.to_owned() } else { descriptors.to_string() };
    let case = if lowered { &ROOM_SMALL } else { &ROOM_FINE };
    let mut found = vec![Finding::new(case, THIS).with(named).with(files).with(mebibytes(memory))];
    // Two for each user; beyond a few thousand users no setting means the number to be reached.
    let needed = fitted.slot.map_or(0, |slot| pool.saturating_add(slot.saturating_mul(2)));
    if !lowered && needed > descriptors && fitted.slot.is_some_and(|slot| slot != USUAL_SLOT) {
        let slot = fitted.slot.unwrap_or_default();
        found.push(Finding::new(&FILES_FEW, THIS).with(slot).with(needed).with(descriptors));
    }
    if let Some(why) = machine.pipe.as_ref().filter(|_| cfg!(target_os = "linux")) {
        found.push(Finding::new(&SPLICE_MISSING, THIS).with(why));
    }
    if let Some(size) = machine.receive.filter(|size| listens_for_quic(config) && *size < QUIC_BUFFER) {
        found.push(Finding::new(&BUFFER_SMALL, THIS).with(size).with(QUIC_BUFFER));
    }
    if !["", "bbr"].contains(&machine.congestion.as_str()) {
        found.push(Finding::new(&CONGESTION, THIS).with(&machine.congestion));
    }
    found
}

/// A parameter and what is had of it; before that what was asked for, if that is more.
fn shown(fit: &Fit) -> String {
    let number = |number: Option<usize>| number.map_or_else(|| UNLIMITED.to_owned(), |number| number.to_string());
    let Fit { name, asked, had } = *fit;
    match fit.is_lowered() {
        true => format!("{name}={} -> {}", number(asked), number(had)),
        false => format!("{name}={}", number(had)),
    }
}

fn mebibytes(bytes: usize) -> String {
    match bytes {
        usize::MAX => UNLIMITED.into(),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

/// What all of these are about.
const THIS: &str = "machine";
/// A limit that is none, in both languages.
const UNLIMITED: &str = "∞";
/// Users at once by default: more than is meant to be served.
const USUAL_SLOT: usize = 65_536;
/// Bytes that a QUIC socket asks for.
const QUIC_BUFFER: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{codes, parsed};
    use crate::config::Lang;

    fn machine(descriptors: usize, mebibytes: usize) -> Machine {
        let resources = Resources { descriptors, memory: mebibytes << 20 };
        Machine { resources, pipe: None, receive: Some(212_992), congestion: "bbr".into() }
    }

    fn found(machine: &Machine, url: &str) -> Vec<&'static str> {
        codes(&judge(machine, &parsed(url).0))
    }

    const SERVER: &str = "server://k@127.0.0.1:1/127.0.0.1:2";

    #[test]
    fn a_machine_with_room_is_fine_and_a_small_one_is_told_with_what_fits() {
        assert_eq!(found(&machine(1 << 20, 4096), SERVER), ["room-fine"]);
        assert_eq!(found(&machine(256, 4096), SERVER), ["room-small"]);
        assert_eq!(found(&machine(1 << 20, 16), SERVER), ["room-small"]);
        assert!(found(&machine(256, 16), "master://:1").is_empty());
        let said = |url: &str| judge(&machine(256, 4096), &parsed(url).0)[0].texts(Lang::English)[0].clone();
        let why = "256 open files, 4096 MiB of memory";
        assert_eq!(said(SERVER), format!("lowered to what fits here: max=1024 -> 63, slot=65536 -> 51; {why}"));
        assert_eq!(said(&format!("{SERVER}?max=63&slot=51")), format!("room for max=63, slot=51: {why}"));
        assert_eq!(said(&format!("{SERVER}?max=64&slot=8")), format!("lowered to what fits here: max=64 -> 63; {why}"));
        assert_eq!(said("client://127.0.0.1:1/127.0.0.1:2?mode=1&slot=0"), format!("room for slot=∞: {why}"));
    }

    #[test]
    fn users_that_were_asked_for_need_files() {
        let many = format!("{SERVER}?slot=20000");
        assert_eq!(found(&machine(32_768, 4096), &many), ["room-fine", "files-few"]);
        assert_eq!(found(&machine(65_536, 4096), &many), ["room-fine"]);
    }

    #[test]
    fn missing_pipes_and_small_buffers_are_told_where_they_matter() {
        let quic = format!("{SERVER}?type=1");
        assert_eq!(found(&machine(1 << 20, 4096), &quic), ["room-fine", "buffer-small"]);
        let mut poor = machine(1 << 20, 4096);
        (poor.pipe, poor.receive, poor.congestion) = (Some("no".into()), None, "cubic".into());
        assert_eq!(found(&poor, &quic), ["room-fine", "splice-missing", "congestion"]);
    }
}
