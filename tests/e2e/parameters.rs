//! Every parameter of the URL and every environment variable, by its effect on the real binary.
//!
//! | chapter | parameters |
//! | --- | --- |
//! | `command_line` | help, version, the two forms, errors, `log` |
//! | `security` | the key, `tls`, `crt`, `key`, `sni` |
//! | `secrets` | `@FILE`, `-`, `NP_URL`; what other users of the machine see |
//! | `addresses` | `mode`, `dial`, `dns`, IPv6, wildcards, names |
//! | `targets` | `lbs`, `proxy` |
//! | `sources` | `allow`, `deny`, `perip` |
//! | `limits` | `min`, `max`, `read`, `rate`, `slot`, `block`, `notcp`, `noudp` |
//! | `environment` | the `NP_` variables, signals |

mod addresses;
mod command_line;
mod environment;
mod limits;
mod secrets;
mod security;
mod sources;
mod targets;

use std::process::Command;

/// Runs the binary to its end: status, stdout, stderr.
fn nodepass(args: &[&str]) -> (i32, String, String) {
    let mut command = crate::support::nodepass_command();
    command.args(args);
    crate::support::output(command)
}

/// Runs a binary that must refuse to start: one line that says why, with all of these words.
fn refused(args: &[&str], status: i32, words: &[&str]) {
    let (code, _, errors) = nodepass(args);
    let first = errors.lines().next().unwrap_or_default();
    assert!(first.starts_with("Error: "), "{args:?}: {errors:?}");
    for word in words {
        assert!(first.contains(word), "{args:?}: {word:?} is missing in {first:?}");
    }
    assert_eq!(code, status, "{args:?}: {errors}");
}

/// The command that runs the binary with a `/etc/hosts` and no resolver but what the test puts there.
fn with_hosts_file(folder: &crate::support::Folder, url: &str) -> Command {
    let mut command = Command::new("unshare");
    let script =
        "mount --bind \"$0/hosts\" /etc/hosts && mount --bind \"$0/resolv.conf\" /etc/resolv.conf && exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command.arg(folder.path()).args([env!("CARGO_BIN_EXE_nodepass"), url]).envs(crate::support::QUICK.iter().copied());
    command
}
