//! The master's tools with the official library of the Model Context Protocol (`mcp_client.py`).

use std::process::Command;

use crate::support::*;

#[test]
fn the_official_library_lists_and_calls_every_tool() {
    let Some(python) = python("mcp") else { return };
    let (port, state) = (free_port(), Folder::new());
    let folder = state.path().to_str().expect("a path");
    let master =
        Process::nodepass_with(&[&format!("master://127.0.0.1:{port}/api?log=info")], &[("NP_STATE_DIR", folder)]);
    let line = master.says("API Key created: ", GRACE);
    let key = line.rsplit(' ').next().expect("a key");
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/mcp_client.py"));
    command.args([&format!("http://127.0.0.1:{port}/api/v2"), key]);
    command.args([free_port().to_string(), free_port().to_string()]);
    let (status, out, errors) = output(command);
    assert_eq!((status, out.lines().last()), (0, Some("done")), "{out}\n{errors}");
}
