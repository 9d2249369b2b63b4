//! The shells' completions in the shells themselves, and the manual page in the formatter. What is in them is checked against the
//! tables by the unit tests of `config::pages`; here is whether a shell understands it.

use std::process::Command;

use crate::support::*;

/// Beginnings of command lines, and what the shell is to offer next.
const CASES: &[(&str, &[&str])] = &[
    ("nodepass ", &["server", "client", "master", "check", "status", "help", "key", "version"]),
    ("nodepass ser", &["server"]),
    ("nodepass server --log ", &["none", "debug", "info", "warn", "error", "event"]),
    ("nodepass server --log=", &["none", "debug", "info", "warn", "error", "event"]),
    ("nodepass server --tls 1 --ty", &["--type"]),
    ("nodepass client --tls 1 --m", &["--metrics", "--min", "--mode"]),
    ("nodepass master --pre", &["--prefix"]),
    ("nodepass check --rep", &["--report"]),
    ("nodepass check --lang ", &["en", "zh"]),
    ("nodepass server --tls 2 --crt COMPLETIONS/_node", &["COMPLETIONS/_nodepass"]),
    ("nodepass @COMPLETIONS/_node", &["@COMPLETIONS/_nodepass"]),
];

fn folder() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/completions").to_string()
}

/// Asks a shell about every case. What follows an equals sign is a word of its own to some shells.
fn each_case(offers: impl Fn(&str) -> Vec<String>) {
    for (line, wanted) in CASES {
        let line = line.replace("COMPLETIONS", &folder());
        let mut offered: Vec<_> =
            offers(&line).iter().map(|word| word.trim_start_matches("--log=").to_string()).collect();
        let mut wanted: Vec<_> = wanted.iter().map(|word| word.replace("COMPLETIONS", &folder())).collect();
        offered.sort();
        wanted.sort();
        assert_eq!(offered, wanted, "{line}");
    }
}

fn words(said: &str) -> Vec<String> {
    said.lines().filter(|line| !line.is_empty()).map(String::from).collect()
}

#[test]
fn bash_completes_roles_flags_values_and_files() {
    let Some(bash) = program("bash") else { return };
    let script = r#"
        source "$1/nodepass.bash" || exit 1
        [[ $(complete -p nodepass) == "complete -F _nodepass nodepass" ]] || exit 2
        # The words as readline cuts them.
        read -ra COMP_WORDS <<<"${2//=/ = }"
        [[ $2 == *[\ =] && $2 != *= ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _nodepass
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    each_case(|line| {
        let mut command = Command::new(&bash);
        command.args(["--norc", "--noprofile", "-c", script, "bash", &folder(), line]);
        let (status, said, errors) = output(command);
        assert_eq!((status, errors.as_str()), (0, ""), "{line}");
        words(&said)
    });
}

#[test]
fn fish_completes_roles_flags_values_and_files() {
    let Some(fish) = program("fish") else { return };
    let home = Folder::new();
    each_case(|line| {
        let mut command = Command::new(&fish);
        command.args(["--no-config", "-c", "source $argv[1]/nodepass.fish; and complete -C $argv[2]", &folder(), line]);
        command.env("HOME", home.path());
        let (status, said, _) = output(command);
        assert_eq!(status, 0, "{line}");
        words(&said).iter().map(|word| word.split('\t').next().unwrap_or_default().to_string()).collect()
    });
}

#[test]
fn zsh_completes_roles_flags_and_values() {
    let Some(zsh) = program("zsh") else { return };
    // A shell on a terminal of its own; what is offered it also writes down.
    let script = r#"
        zmodload zsh/zpty && zpty shell zsh -f -i || exit 1
        zpty -w shell "fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D; LISTMAX=0"
        zpty -w shell 'compadd() {
            if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
                local -a offered
                builtin compadd -A offered "$@"
                (( $#offered )) && print -rl -- $offered >> '${(q)3}'
            fi
            builtin compadd "$@"
        }'
        zpty -n -w shell "$2"$'\t'
        repeat 200; do [[ -s $3 ]] && break; sleep 0.1; done
        zpty -d shell
        cat $3
    "#;
    let home = Folder::new();
    for (at, (line, wanted)) in CASES.iter().enumerate() {
        // Names of files are zsh's own business; a lone candidate may be inserted before it is listed.
        if line.contains("COMPLETIONS") {
            continue;
        }
        let file = home.file(&at.to_string()).display().to_string();
        let mut command = Command::new(&zsh);
        command
            .args(["-f", "-c", script, "zsh", &folder(), line, &file])
            .env("HOME", home.path())
            .env("ZDOTDIR", home.path());
        let (_, said, errors) = output(command);
        let offered = words(&said);
        assert!(wanted.iter().all(|word| offered.iter().any(|offer| offer == word)), "{line}: {offered:?} {errors}");
    }
}

#[test]
fn the_manual_page_has_no_fault() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/nodepass.1");
    if let Some(mandoc) = program("mandoc") {
        let mut command = Command::new(mandoc);
        command.args(["-Tlint", page]);
        assert_eq!(output(command), (0, String::new(), String::new()));
    }
    if let Some(groff) = program("groff") {
        let mut command = Command::new(groff);
        command.args(["-man", "-Tascii", "-ww", "-z", page]);
        assert_eq!(output(command), (0, String::new(), String::new()));
    }
}
