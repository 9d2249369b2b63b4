//! The tables in other people's forms: completions of three shells, a manual page, a router's web page. Made by a test, so that the program does
//! not carry them: `make pages` writes the files, and `make test` fails while they are not what the tables say.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::flags::FLAGS;
use super::form::choices;
use super::help::{ELSEWHERE, REST, ROLES, SHORT};
use super::limits::{OTHERS, VARIABLES};
use super::table::PARAMETERS;
use super::verbs::{Verb, OPTIONS};
use super::Role;

/// A flag of the command line: a parameter, or another part of the URL.
struct Item {
    name: &'static str,
    meaning: &'static str,
    roles: &'static [Role],
    value: Value,
}

/// What may follow a flag.
enum Value {
    /// One of some words; perhaps something else too.
    Word(Vec<&'static str>),
    File,
    Free,
    /// Nothing does.
    None,
}

/// Every flag, parameters first.
fn items() -> Vec<Item> {
    let parameter = PARAMETERS.iter().map(|row| Item {
        name: row.name,
        meaning: row.meaning,
        roles: row.roles,
        value: value(row.values),
    });
    let flag =
        FLAGS.iter().map(|flag| Item { name: flag.name, meaning: flag.meaning, roles: flag.roles, value: Value::Free });
    parameter.chain(flag).collect()
}

/// What a value is, by the words that tell what is accepted.
fn value(values: &'static str) -> Value {
    match choices(values) {
        words if !words.is_empty() => Value::Word(words),
        _ if values == FILE => Value::File,
        _ => Value::Free,
    }
}

/// The first words that stand for themselves, with what they do.
fn verbs() -> Vec<(&'static str, &'static str)> {
    let role = ROLES.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
    let looks = Verb::ALL.map(|verb| (verb.name(), verb.meaning()));
    let rest = [
        ("help", "shows all parameters"),
        ("key", "prints a new tunnel key"),
        ("version", "shows version and features"),
    ];
    role.chain(looks).chain(rest).collect()
}

/// The options of a command that looks at instances.
fn options_of(verb: Verb) -> Vec<Item> {
    let item = |option: &super::verbs::VerbOption| Item {
        name: option.name,
        meaning: option.meaning,
        roles: &[],
        value: option.value.map_or(Value::None, value),
    };
    OPTIONS.iter().filter(|option| option.verbs.contains(&verb)).map(item).collect()
}

fn names(items: &[Item]) -> String {
    items.iter().map(|item| format!("--{}", item.name)).collect::<Vec<_>>().join(" ")
}

fn flags_of(role: Role) -> String {
    let names = items().into_iter().filter(|item| item.roles.contains(&role)).map(|item| format!("--{}", item.name));
    names.collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let mut text = format!("# Completions of nodepass for bash. {MADE}\n\n{BASH_HEAD}");
    let verbs: Vec<_> = verbs().iter().map(|verb| verb.0).collect();
    let _ = writeln!(text, "    if ((COMP_CWORD == 1)); then\n        words=\"{}\"", verbs.join(" "));
    text.push_str("    else\n        case $prev in\n");
    let (mut files, mut free) = (Vec::new(), Vec::new());
    let options = OPTIONS
        .iter()
        .flat_map(|option| options_of(option.verbs[0]).into_iter().filter(|item| item.name == option.name));
    for item in items().into_iter().chain(options) {
        let flag = format!("--{}", item.name);
        match item.value {
            Value::Word(words) => {
                let _ = writeln!(text, "            {flag}) words=\"{}\" ;;", words.join(" "));
            }
            Value::File => files.push(flag),
            Value::Free => free.push(flag),
            Value::None => {}
        }
    }
    let _ = writeln!(text, "            {}) files=1 ;;", files.join(" | "));
    let _ = writeln!(text, "            {}) ;;", free.join(" | "));
    text.push_str("            *)\n                case ${COMP_WORDS[1]} in\n");
    for role in Role::ALL {
        let _ = writeln!(text, "                    {role}) words=\"{} --help\" ;;", flags_of(role));
    }
    for verb in Verb::ALL {
        let _ = writeln!(text, "                    {}) words=\"{} --help\" ;;", verb.name(), names(&options_of(verb)));
    }
    text + BASH_TAIL
}

fn zsh() -> String {
    let mut text = format!("#compdef nodepass\n# Completions of nodepass for zsh. {MADE}\n\n_nodepass() {{\n");
    text.push_str("    local -a verbs\n    verbs=(\n");
    for (verb, meaning) in verbs() {
        let _ = writeln!(text, "        {}", single(&format!("{verb}:{meaning}")));
    }
    text.push_str(
        "    )\n    if (( CURRENT == 2 )); then\n        if compset -P @; then\n            _files\n        else\n            \
         _describe -t verbs 'role' verbs\n        fi\n        return\n    fi\n",
    );
    text.push_str("    local role=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $role in\n");
    for role in Role::ALL {
        let _ = writeln!(text, "        {role})\n            _arguments -S \\");
        items().iter().filter(|item| item.roles.contains(&role)).for_each(|item| zsh_argument(&mut text, item));
        text.push_str("                '--help[shows all parameters]'\n            ;;\n");
    }
    for verb in Verb::ALL {
        let _ = writeln!(text, "        {})\n            _arguments -S \\", verb.name());
        options_of(verb).iter().for_each(|item| zsh_argument(&mut text, item));
        text.push_str("                '--help[shows all options]'\n            ;;\n");
    }
    text.push_str("    esac\n}\n\n_nodepass \"$@\"\n");
    text
}

fn zsh_argument(text: &mut String, item: &Item) {
    let action = match &item.value {
        Value::Word(words) => format!("=[{{}}]:value:({})", words.join(" ")),
        Value::File => "=[{}]:value:_files".into(),
        Value::Free => "=[{}]:value: ".into(),
        Value::None => "[{}]".into(),
    };
    let meaning = item.meaning.replace('[', "\\[").replace(']', "\\]");
    let spec = single(&format!("--{}{}", item.name, action.replacen("{}", &meaning, 1)));
    let _ = writeln!(text, "                {spec} \\");
}

fn fish() -> String {
    let mut text = format!("# Completions of nodepass for fish. {MADE}\n\ncomplete -c nodepass -f\n");
    for (verb, meaning) in verbs() {
        let _ = writeln!(text, "complete -c nodepass -n __fish_use_subcommand -a {verb} -d {}", fished(meaning));
    }
    text.push_str(FISH_FILE);
    for item in items() {
        let roles: Vec<_> = item.roles.iter().map(|role| role.name()).collect();
        fish_option(&mut text, &roles.join(" "), &item);
    }
    for verb in Verb::ALL {
        options_of(verb).iter().for_each(|item| fish_option(&mut text, verb.name(), item));
    }
    text
}

fn fish_option(text: &mut String, commands: &str, item: &Item) {
    let value = match &item.value {
        Value::Word(words) => format!("-x -a {} ", fished(&words.join(" "))),
        Value::File => "-r -F ".into(),
        Value::Free => "-x ".into(),
        Value::None => String::new(),
    };
    let (name, meaning) = (item.name, fished(item.meaning));
    let _ = writeln!(
        text,
        "complete -c nodepass -n '__fish_seen_subcommand_from {commands}' -l {name} {value}-d {meaning}"
    );
}

/// The manual page, section 1.
fn manual() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".\\\" {MADE}\n.TH NODEPASS 1 {DATE} \"NodePass {version}\"\n");
    page.push_str(".SH NAME\nnodepass \\- carries TCP and UDP between two networks\n.SH SYNOPSIS\n.nf\n");
    for line in SHORT.lines().skip(1) {
        let _ = writeln!(page, "{}", roff(line.trim()));
    }
    page.push_str(".fi\n.SH DESCRIPTION\n");
    paragraph(&mut page, ABOUT);
    outline(&mut page, ROLES);
    page.push_str(".PP\n");
    paragraph(&mut page, ELSEWHERE);
    paragraph(&mut page, HIDDEN);
    page.push_str(".SH COMMANDS\n");
    for verb in Verb::ALL {
        tagged(&mut page, verb.name(), &sentence(verb.meaning()));
        for item in options_of(verb) {
            tagged(&mut page, &format!("{} --{}", verb.name(), item.name), &sentence(item.meaning));
        }
    }
    page.push_str(".SH PARAMETERS\n");
    paragraph(&mut page, "In the URL as ?name=value&..., or on the command line as --name value.");
    for row in &PARAMETERS {
        let default = row.default.map(|value| format!(" Default: {value}.")).unwrap_or_default();
        let text = format!("{} Takes {}.{default} For: {}.", sentence(row.meaning), row.values, named(row.roles));
        tagged(&mut page, row.name, &text);
    }
    page.push_str(".SH FLAGS\n");
    paragraph(&mut page, "Each parameter is a flag; these stand for the other parts of the URL.");
    for flag in &FLAGS {
        tagged(
            &mut page,
            &format!("--{}", flag.name),
            &format!("{} For: {}.", sentence(flag.meaning), named(flag.roles)),
        );
    }
    page.push_str(".SH ENVIRONMENT\n");
    OTHERS.iter().for_each(|(name, meaning)| tagged(&mut page, name, &sentence(meaning)));
    for variable in &VARIABLES {
        let default = variable.default.map(|value| format!(" Default: {value}.")).unwrap_or_default();
        tagged(
            &mut page,
            variable.name,
            &format!("{} Takes {}.{default}", sentence(variable.meaning), variable.values),
        );
    }
    page.push_str(".SH SIGNALS\n");
    tagged(&mut page, "SIGTERM, SIGINT", "A graceful stop: living connections have NP_SHUTDOWN_TIMEOUT to finish.");
    tagged(
        &mut page,
        "SIGHUP",
        "Certificate files are looked at, and used for new connections if they have changed. If the file with the URL or the program \
         itself has changed, another process takes over, and living connections have NP_SHUTDOWN_TIMEOUT to finish in this one.",
    );
    outline(&mut page, REST);
    page
}

/// The tables as a module of LuCI, a router's web pages. What is to be translated is in `_()`.
fn luci() -> String {
    let mut text = format!("// {MADE}\n'use strict';\n'require baseclass';\n\nreturn baseclass.extend({{\n");
    text.push_str(
        "\t// name, meaning, default, what is accepted, words to choose from, who takes it\n\tparameters: [\n",
    );
    let entry = |name: &str, meaning: &str, rest: serde_json::Value| {
        let rest = rest.to_string();
        format!("\t\t[{},_({}),{},\n", quoted(name), quoted(meaning), rest.strip_prefix('[').unwrap_or_default())
    };
    for row in &PARAMETERS {
        let roles: Vec<_> = row.roles.iter().map(|role| role.name()).collect();
        let rest = serde_json::json!([row.default, row.values, choices(row.values), roles]);
        text.push_str(&entry(row.name, row.meaning, rest));
    }
    text.push_str("\t],\n\t// name, meaning, default, what is accepted, words to choose from\n\tvariables: [\n");
    for row in &VARIABLES {
        let rest = serde_json::json!([row.default, row.values, choices(row.values)]);
        text.push_str(&entry(row.name, row.meaning, rest));
    }
    text.push_str("\t],\n\t// what is accepted, in the reader's language\n\ttakes: {\n");
    let accepted = PARAMETERS.iter().map(|row| row.values).chain(VARIABLES.iter().map(|row| row.values));
    for values in accepted.collect::<BTreeSet<_>>() {
        let _ = writeln!(text, "\t\t{0}: _({0}),", quoted(values));
    }
    text.push_str("\t}\n});\n");
    text
}

/// A text as JavaScript has it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The router's service, its two lists of options brought up to date.
fn service() -> String {
    let script = fs::read_to_string(project(SERVICE)).unwrap();
    let script = listed(&script, "PARAMETERS", PARAMETERS.iter().map(|row| row.name));
    listed(&script, "VARIABLES", VARIABLES.iter().map(|variable| variable.name))
}

/// `script`, in which the variable `name` has these words.
fn listed<'a>(script: &str, name: &str, words: impl Iterator<Item = &'a str>) -> String {
    let (before, rest) = script.split_once(&format!("\n{name}=\"")).expect(name);
    let (_, after) = rest.split_once('"').expect(name);
    let mut lines = vec![format!("{name}=\"")];
    for (at, word) in words.enumerate() {
        let line = lines.last_mut().expect("one is there");
        if line.len() + word.len() > LINE {
            lines.push(format!("\t{word}"));
        } else {
            line.push_str(if at == 0 { "" } else { " " });
            line.push_str(word);
        }
    }
    format!("{before}\n{}\"{after}", lines.join("\n"))
}

/// Parts of the help text: heads, tagged items, examples.
fn outline(page: &mut String, text: &str) {
    let mut example = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.trim_start().split_once("  ") {
            _ if !line.starts_with(' ') => {
                let _ = writeln!(page, ".SH {}", line.trim_end_matches(':').to_uppercase());
            }
            Some((tag, text)) => tagged(page, tag, &sentence(text.trim_start())),
            None => {
                let _ = writeln!(page, "{}{}", if example { "" } else { ".nf\n" }, roff(line.trim_start()));
                example = true;
            }
        }
    }
    page.push_str(if example { ".fi\n" } else { "" });
}

fn tagged(page: &mut String, tag: &str, text: &str) {
    let _ = writeln!(page, ".TP\n.B {}", roff(tag));
    paragraph(page, text);
}

/// Adds text in lines of at most [`WIDTH`] columns; nothing in it means anything to the formatter.
fn paragraph(page: &mut String, text: &str) {
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + word.len() > WIDTH {
            let _ = writeln!(page, "{}", roff(line.trim_end()));
            line.clear();
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(page, "{}", roff(line.trim_end()));
}

fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    if escaped.starts_with(['.', '\'']) {
        format!("\\&{escaped}")
    } else {
        escaped
    }
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

fn named(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
}

/// In single quotes, for sh and its kin.
fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// In single quotes, for fish.
fn fished(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The files, by their paths in the project.
fn pages() -> [(&'static str, String); 6] {
    [
        ("scripts/completions/nodepass.bash", bash()),
        ("scripts/completions/_nodepass", zsh()),
        ("scripts/completions/nodepass.fish", fish()),
        ("docs/nodepass.1", manual()),
        (SERVICE, service()),
        ("cross/luci-app-nodepass/htdocs/luci-static/resources/nodepass/tables.js", luci()),
    ]
}

fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Says that a page is to be changed elsewhere.
const MADE: &str = "Made from the tables of the program by `make pages`.";

/// How the tables name a file.
const FILE: &str = "a path";

/// Of the manual page: when its words, as opposed to the tables, last changed.
const DATE: &str = "2026-11-21";

/// Columns of the manual page's source.
const WIDTH: usize = 78;

/// The service's script, which is written by hand but for two lists.
const SERVICE: &str = "cross/openwrt/nodepass/files/nodepass.init";

/// Columns of a list in the script.
const LINE: usize = 112;

const ABOUT: &str =
    "nodepass forwards ports by itself, or two of them make a tunnel whose connections are ready before the \
                     first user comes. One URL says everything. Characters of the key that mean something in a URL are \
                     written as % and two hex digits. The first word is a role, or a URL that begins with one:";

const HIDDEN: &str =
    "A key in the arguments or in NP_URL is hidden from other users right after the start: the process begins anew, \
                      under the same number, with *** in its place.";

const BASH_HEAD: &str = r#"_nodepass() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words='' files=''
    # --flag=value comes as three words.
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    # @FILE: to readline the @ is mostly a word of its own.
    if [[ $cur == @?* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -P @ -f -- "${cur#@}")
        return
    elif [[ $cur == @ || $prev == @ ]]; then
        cur=${cur#@} files=1
    fi
"#;

const FISH_FILE: &str = r#"complete -c nodepass -n '__fish_use_subcommand; and string match -q "@*" -- (commandline -ct)' -a '(__fish_complete_path (string sub -s 2 -- (commandline -ct)) | string replace -r "^" "@")'
"#;

const BASH_TAIL: &str = r#"                esac
                ;;
        esac
    fi
    COMPREPLY=()
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    elif [[ -n $words ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    fi
}

complete -F _nodepass nodepass
"#;

#[test]
fn completions_and_manual_are_what_the_tables_say() {
    let write = std::env::var_os("NODEPASS_WRITE_PAGES").is_some();
    for (path, text) in pages() {
        if write {
            fs::write(project(path), &text).unwrap();
        }
        let found = fs::read_to_string(project(path)).unwrap_or_default();
        assert!(found == text, "{path} is stale: `make pages` writes it anew");
    }
}

#[test]
fn words_are_offered_where_the_table_names_them() {
    let words = |values| match value(values) {
        Value::Word(words) => words,
        Value::File => vec!["a file"],
        Value::Free | Value::None => vec![],
    };
    assert_eq!(words("none, debug or event"), ["none", "debug", "event"]);
    assert_eq!(words("0 or 1"), ["0", "1"]);
    assert_eq!(words("auto or an IP address"), ["auto"]);
    assert_eq!(words("a path"), ["a file"]);
    assert!(words("a duration such as 30s, 5m or 1h30m, or 0").is_empty());
    assert!(words("digits from 0 to 3, as in 13").is_empty());
}
