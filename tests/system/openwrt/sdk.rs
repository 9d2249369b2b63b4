//! The package's Makefile in as much of OpenWrt's SDK as it uses (cross/openwrt/tests/sdk), with a cargo that writes down what it
//! is asked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::*;

/// What `full` means in Cargo.toml, in the order of the package's arguments.
pub const FULL: [&str; 7] = ["quic", "ws", "h2", "master", "check", "page", "dns"];

const CARGO: &str = r#"#!/bin/sh
echo "cargo $*"
env | sed -n 's/^\(CARGO_\|TARGET_\|BINDGEN_\)/told &/p'
while [ "$1" != --root ]; do shift; done
mkdir -p "$2/bin" && echo program >"$2/bin/nodepass"
"#;

/// Builds one variant for a processor out of `tree` (the project, or a feed's folder): what make said, and the files of the
/// package with their modes.
fn built(tree: &str, variant: &str, processor: &str, prepare: impl Fn(&Folder)) -> Option<(String, Vec<String>)> {
    built_with(tree, variant, processor, &[], prepare)
}

/// The same with some options chosen.
fn built_with(
    tree: &str,
    variant: &str,
    processor: &str,
    chosen: &[&str],
    prepare: impl Fn(&Folder),
) -> Option<(String, Vec<String>)> {
    let make = program("make")?;
    let out = Folder::new();
    fs::create_dir(out.file("programs")).unwrap();
    let cargo = out.write("programs/cargo", CARGO);
    fs::set_permissions(cargo, fs::Permissions::from_mode(0o755)).unwrap();
    prepare(&out);
    let mut command = Command::new(make);
    command.args(["--no-print-directory", "-C", tree]);
    command.arg(concat!("TOPDIR=", env!("CARGO_MANIFEST_DIR"), "/cross/openwrt/tests/sdk"));
    command.args([format!("BUILD_VARIANT={variant}"), format!("ARCH={processor}")]);
    command.arg(format!("OUT={}", out.path().display())).args(chosen);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", out.file("programs").display()));
    // Nothing of the make and the cargo that run this test.
    for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    let (status, said, errors) = output(command);
    assert_eq!(status, 0, "{said}{errors}");

    let mut list = Command::new("find");
    list.current_dir(out.file(&format!("nodepass-{variant}"))).args([".", "-type", "f", "-printf", "%m %P\n"]);
    let mut files: Vec<String> = output(list).1.lines().map(String::from).collect();
    files.sort();
    Some((said, files))
}

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cross/openwrt/nodepass");

#[test]
fn both_variants_of_the_feeds_package_are_built_and_hold_the_same_files() {
    for variant in ["full", "lite"] {
        let Some((said, files)) = built(PROJECT, variant, "aarch64", |_| ()) else { return };
        let all = [
            "600 etc/config/nodepass",
            "755 etc/init.d/nodepass",
            "755 etc/uci-defaults/50-nodepass",
            "755 usr/bin/nodepass",
        ];
        assert_eq!(files, all, "{said}");
        let cargo = said.lines().find(|line| line.starts_with("cargo install ")).unwrap();
        assert!(cargo.contains(" --profile small ") && cargo.contains(" --locked "), "{cargo}");
        assert!(
            cargo.contains(&format!("/nodepass-{variant}/nodepass-")),
            "variants have folders of their own: {cargo}"
        );
        // The feed's settings of `release` do not get into the profile that inherits from it.
        for told in
            ["CARGO_PROFILE_SMALL_PANIC=abort", "CARGO_PROFILE_SMALL_OVERFLOW_CHECKS=false", "TARGET_CXX=aarch64-c++"]
        {
            assert!(said.lines().any(|line| line == format!("told {told}")), "no {told} in {said}");
        }
        for field in ["nodepass-full: conflicts nodepass-lite", "nodepass-lite: provides nodepass"] {
            assert!(said.contains(field), "{said}");
        }
        assert!(said.contains("nodepass-lite: conffiles /etc/config/nodepass\n/etc/nodepass/\n"), "{said}");
    }
}

#[test]
fn quic_is_an_option_and_all_else_is_there_without_it() {
    let features = |variant: &str, chosen: &str| {
        let (said, _) = built_with(PROJECT, variant, "x86_64", &[&format!("CONFIG_NODEPASS_QUIC={chosen}")], |_| ())?;
        let cargo = said.lines().find(|line| line.starts_with("cargo install "))?;
        Some(cargo.split_once(" --locked ").expect("the feed's own argument").1.to_string())
    };
    let Some(all) = features("full", "y") else { return };
    assert_eq!(all, format!("--no-default-features --features {}", FULL.join(",")));
    let plain = features("full", "").unwrap();
    assert_eq!(plain, format!("--no-default-features --features {}", FULL[1..].join(",")));
    for chosen in ["", "y"] {
        assert_eq!(features("lite", chosen).unwrap(), "--no-default-features");
    }
}

#[test]
fn outside_of_the_tree_the_package_builds_the_releases_archive() {
    let feed = Folder::new();
    let copy = feed.file("net/nodepass");
    fs::create_dir_all(copy.join("files")).unwrap();
    for file in fs::read_dir(format!("{PROJECT}/files")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join("files").join(file.file_name())).unwrap();
    }
    fs::copy(format!("{PROJECT}/Makefile"), copy.join("Makefile")).unwrap();
    let archive = |out: &Folder| {
        let name = concat!("nodepass-", env!("CARGO_PKG_VERSION"));
        fs::create_dir(out.file("dl")).unwrap();
        fs::create_dir(out.file(name)).unwrap();
        out.write(&format!("{name}/Cargo.toml"), "of the archive");
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(out.file(&format!("dl/{name}.tar.gz"))).arg("-C").arg(out.path()).arg(name);
        assert_eq!(output(tar).0, 0);
    };
    let Some((said, files)) = built(&copy.display().to_string(), "lite", "mipsel", archive) else { return };
    assert_eq!(files.len(), 4, "{said}");
    assert!(!said.contains("cp -fpR"), "nothing is copied out of the tree: {said}");
}
