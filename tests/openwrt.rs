//! The OpenWrt package's scripts in the shell of a router (busybox ash), with its UCI and procd in place of the router's.
//! The tests themselves are cross/openwrt/tests/init.sh.

mod support;

use std::process::Command;

use support::*;

#[test]
fn the_init_script_starts_what_the_configuration_says() {
    let Some(busybox) = program("busybox") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cross/openwrt/tests/init.sh");
    let mut command = Command::new(busybox);
    command.args(["ash", script]).env("NODEPASS", env!("CARGO_BIN_EXE_nodepass"));
    let (status, said, errors) = output(command);
    println!("{said}{errors}");
    assert_eq!(status, 0, "see above");
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() > 10, "too few tests were run");
}
