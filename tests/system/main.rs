//! The binary and its surroundings: other programs, networks, small machines, installers, and the pages. Each module says what it is
//! about: `cargo test --test system netns::` runs one.

mod completions;
mod dns;
mod docs;
mod guides;
mod https;
mod install;
mod mcp;
mod mistakes;
mod monitoring;
mod netns;
mod noise;
mod openwrt;
mod page;
mod programs;
mod proxy;
mod small;
mod systemd;

#[path = "../support/mod.rs"]
mod support;
