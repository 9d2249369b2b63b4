//! The OpenWrt package's scripts in the shell of a router (busybox ash), with its UCI and procd in place of the router's.
//! The tests themselves are cross/openwrt/tests/init.sh. Then the packages, and LuCI's page in a browser.

mod page;
mod sdk;

use std::process::Command;

use crate::support::*;

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

#[test]
fn the_page_for_luci_is_a_package_of_its_own() {
    if program("tar").is_none() || program("gzip").is_none() || program("python3").is_none() {
        return;
    }
    let folder = Folder::new();
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cross/openwrt/ipk.sh"));
    command.arg("--luci").arg(folder.path());
    let (status, package, errors) = output(command);
    assert_eq!(status, 0, "{errors}");
    let mut command = Command::new("sh");
    command.args(["-ec", "tar -xzOf \"$1\" ./data.tar.gz | tar -tz | grep -v '/$' | sort", "sh", &package]);
    let wanted = [
        "./usr/lib/lua/luci/i18n/nodepass.zh-cn.lmo",
        "./usr/share/luci/menu.d/luci-app-nodepass.json",
        "./usr/share/rpcd/acl.d/luci-app-nodepass.json",
        "./www/luci-static/resources/nodepass/service.js",
        "./www/luci-static/resources/nodepass/tables.js",
        "./www/luci-static/resources/nodepass/values.js",
        "./www/luci-static/resources/nodepass/words.js",
        "./www/luci-static/resources/view/nodepass/log.js",
        "./www/luci-static/resources/view/nodepass/sections.js",
    ];
    assert_eq!(output(command).1.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_package_holds_the_program_and_its_files_with_their_rights_and_is_the_same_each_time() {
    if program("tar").is_none() || program("gzip").is_none() {
        return;
    }
    let folder = Folder::new();
    let binary = folder.write("program", "not really");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cross/openwrt/ipk.sh");
    let made = || {
        let mut command = Command::new(script);
        command.arg(&binary).arg("mipsel_24kc").arg(folder.path());
        let (status, said, errors) = output(command);
        assert_eq!(status, 0, "{errors}");
        said
    };
    let package = made();
    assert!(package.ends_with(concat!("nodepass_", env!("CARGO_PKG_VERSION"), "-1_mipsel_24kc.ipk")), "{package}");
    let bytes = std::fs::read(&package).unwrap();
    assert_eq!(std::fs::read(made()).unwrap(), bytes);

    let listed = |shell: &str| {
        let mut command = Command::new("sh");
        command.args(["-ec", shell, "sh", &package]).env("TZ", "UTC");
        let (status, said, errors) = output(command);
        assert_eq!(status, 0, "{errors}");
        said
    };
    let data = listed("tar -xzOf \"$1\" ./data.tar.gz | tar -tvz | grep -v '/$'");
    let files: Vec<String> = data.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let modes: Vec<_> =
        files.iter().filter_map(|line| Some((line.split(' ').next()?, line.split(' ').next_back()?))).collect();
    let wanted = [
        ("-rw-------", "./etc/config/nodepass"),
        ("-rwxr-xr-x", "./etc/init.d/nodepass"),
        ("-rwxr-xr-x", "./etc/uci-defaults/50-nodepass"),
        ("-rw-r--r--", "./lib/upgrade/keep.d/nodepass"),
        ("-rwxr-xr-x", "./usr/bin/nodepass"),
    ];
    assert_eq!(modes, wanted);
    assert!(files.iter().all(|line| line.contains(" 0/0 ")), "{data}");
    let control = listed("tar -xzOf \"$1\" ./control.tar.gz | tar -xzO ./control");
    assert!(control.contains("Package: nodepass\n") && control.contains("\nArchitecture: mipsel_24kc\n"), "{control}");
    assert_eq!(listed("tar -xzOf \"$1\" ./debian-binary"), "2.0");
    assert_eq!(listed("tar -tzf \"$1\""), "./debian-binary\n./data.tar.gz\n./control.tar.gz");
    assert_eq!(listed("tar -xzOf \"$1\" ./control.tar.gz | tar -xzO ./conffiles"), "/etc/config/nodepass");

    // Its scripts call what a router has for them, with their own name and what opkg said; without that they do nothing.
    let postinst =
        "root=$2; mkdir -p \"$root/lib\"; tar -xzOf \"$1\" ./control.tar.gz | tar -xz -C \"$root\" ./postinst; \
                    IPKG_INSTROOT=$root \"$root/postinst\" configure; \
                    echo 'default_postinst() { echo \"${1##*/} $2\"; }' >\"$root/lib/functions.sh\"; \
                    IPKG_INSTROOT=$root \"$root/postinst\" configure";
    let mut command = Command::new("sh");
    command.args(["-ec", postinst, "sh", &package]).arg(folder.file("root"));
    assert_eq!(output(command), (0, "postinst configure".into(), String::new()));
}

#[test]
fn the_feeds_own_test_of_the_package_passes_and_can_fail() {
    let programs = Folder::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_nodepass"), programs.file("nodepass")).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap_or_default());
    let tested = |package: &str, version: &str| {
        let mut command = Command::new("sh");
        command
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/cross/openwrt/nodepass/test.sh"), package, version])
            .env("PATH", &path);
        output(command).0
    };
    assert_eq!(tested("nodepass-lite", concat!(env!("CARGO_PKG_VERSION"), "-r1")), 0);
    assert_eq!(tested("nodepass-full", "0.0.1-1"), 1);
    assert_eq!(tested("another", "0.0.1"), 0);
}

#[test]
fn the_packages_version_and_features_are_the_projects() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (makefile, manifest) = (read("cross/openwrt/nodepass/Makefile"), read("Cargo.toml"));
    assert!(makefile.contains(concat!("\nPKG_VERSION:=", env!("CARGO_PKG_VERSION"), "\n")));
    assert!(manifest.contains("\n[profile.small]\n") && makefile.contains("\nCARGO_PKG_PROFILE:=small\n"));
    let full = manifest.lines().find_map(|line| line.strip_prefix("full = ")).expect("the feature full");
    let names: Vec<&str> = full.split('"').filter(|part| part.starts_with(|c: char| c.is_ascii_lowercase())).collect();
    assert_eq!(names, sdk::FULL);
}
