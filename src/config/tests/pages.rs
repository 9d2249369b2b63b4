//! The pages say what the program does: its tables, and its examples.

use super::super::flags::FLAGS;
use super::super::limits::VARIABLES;
use super::super::table::Parameter;
use super::*;

#[test]
fn the_documentations_tables_are_the_programs() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/usage.md"));
    let mark = |takes: bool| if takes { "x" } else { "" };
    let shown = |default: Option<&str>| default.map_or("-".to_string(), |value| format!("`{value}`"));
    let parameter = |row: &Parameter| {
        let [server, client, master] = Role::ALL.map(|role| mark(row.roles.contains(&role)));
        let (name, meaning, default, values) = (row.name, row.meaning, shown(row.default), row.values);
        format!("| `{name}` | {meaning} | {default} | {values} | {server} | {client} | {master} |")
    };
    let flags = FLAGS.iter().map(|flag| {
        let [server, client, master] = Role::ALL.map(|role| mark(flag.roles.contains(&role)));
        format!("| `--{}` | {} | {server} | {client} | {master} |", flag.name, flag.meaning)
    });
    let variables = VARIABLES.iter().map(|variable| {
        let (name, meaning, default, values) =
            (variable.name, variable.meaning, shown(variable.default), variable.values);
        format!("| `{name}` | {meaning} | {default} | {values} |")
    });
    assert_table(page, "| parameter |", PARAMETERS.iter().map(parameter));
    assert_table(page, "| flag |", flags);
    assert_table(page, "| variable |", variables);
}

#[test]
fn the_examples_in_help_and_documentation_can_be_run_as_they_are() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/usage.md"));
    let help = help::usage();
    let lines =
        page.lines().chain(help.lines()).filter_map(|line| line.split_once("nodepass ").map(|(_, words)| words));
    let mut run = 0;
    for line in
        lines.filter(|line| line.contains("://") || line.contains("--tunnel-port ")).filter(|line| !line.contains('<'))
    {
        let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_matches('"')).collect();
        let parsed = command(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(parsed.warnings.is_empty(), "{line}: {:?}", parsed.warnings);
        run += 1;
    }
    assert!(run >= 10, "only {run} examples found");
}

/// The table whose head begins with `head` has exactly `rows`.
fn assert_table(page: &str, head: &str, rows: impl Iterator<Item = String>) {
    let expected: Vec<String> = rows.map(|row| row.replace("|  |", "| |").replace("|  |", "| |")).collect();
    let after = page.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let found: Vec<&str> = after.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(found, expected, "the rows should be:\n{}\n", expected.join("\n"));
}
