//! The guides can be followed: the page on the API runs from top to bottom, and each command of the troubleshooting pages prints what they
//! say, at a set-up that has the symptom. `guides/scenes.rs` makes these set-ups.

mod scenes;

use crate::support::*;
use scenes::Scene;
use std::path::Path;
use std::process::Command;

/// A block of code: what it is written in, and its text.
struct Block {
    language: String,
    text: String,
}

#[test]
fn the_page_on_the_api_can_be_run_from_top_to_bottom() {
    let Some(_) = program("curl") else { return };
    let folder = Folder::new();
    let page = [":9090", ":10101", ":8080"].iter().fold(page("api.md"), |page, port| {
        page.replace(&format!("127.0.0.1{port}"), &free_addr().to_string()) // one free port for each
    });
    let blocks = blocks(&page);
    let preamble = format!("set -m\ntrap 'kill $(jobs -p)' EXIT\nexport NP_STATE_DIR='{}'\n", folder.path().display());
    follow("api.md", &blocks, &preamble, &Scene::bare(folder), "C");
}

#[test]
fn every_command_of_the_troubleshooting_page_prints_what_the_page_says() {
    troubleshoot("troubleshooting.md", "C");
}

#[test]
fn every_command_of_the_chinese_troubleshooting_page_prints_what_the_page_says() {
    troubleshoot("troubleshooting_zh.md", "zh_CN.UTF-8");
}

/// Runs each part of a page at its set-up. A part begins with the set-up's name in a comment, and ends where the next one begins.
fn troubleshoot(name: &str, language: &str) {
    if ["curl", "openssl", "ss"].iter().any(|needed| program(needed).is_none()) {
        return;
    }
    let page = page(name);
    let parts: Vec<_> = page.split("<!-- setup: ").skip(1).collect();
    assert!(!parts.is_empty(), "{name} has no set-ups");
    let failures: Vec<_> = std::thread::scope(|scope| {
        let run = |part: &str| {
            let (setup, text) = part.split_once(" -->").expect("a comment's end");
            let blocks = blocks(text);
            assert!(blocks.iter().any(|block| block.language == "sh"), "{name}: {setup} has no command");
            let scene = Scene::named(setup);
            follow(&format!("{name}: {setup}"), &blocks, &scene.preamble, &scene, language);
        };
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || run(part))).collect();
        threads.into_iter().filter_map(|thread| thread.join().err()).collect()
    });
    assert!(failures.is_empty(), "{} parts of {name} are not as they say", failures.len());
}

/// Runs the commands in one shell, and compares what each block prints with the block of text that follows it.
fn follow(what: &str, blocks: &[Block], preamble: &str, scene: &Scene, language: &str) {
    let mut script = format!("exec 2>&1\n{preamble}\n");
    for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        script.push_str(&format!("echo '{MARK}{at}'\n{}\n", block.text));
    }
    let printed = shell(&script, scene, language);
    for piece in printed.split(MARK).skip(1) {
        let (number, printed) = piece.split_once('\n').expect("a line");
        let at: usize = number.parse().expect("a block's number");
        if let Some(expected) = blocks.get(at + 1).filter(|next| next.language == "text") {
            compare(what, &blocks[at].text, &expected.text, printed);
        }
    }
    let last = blocks.iter().rposition(|block| block.language == "sh").expect("a command");
    assert!(printed.contains(&format!("{MARK}{last}\n")), "{what}: it ends too early: {printed}");
}

/// What a shell prints, where `nodepass` is the binary under test.
fn shell(script: &str, scene: &Scene, language: &str) -> String {
    let bin = scene.folder.file("bin");
    std::fs::create_dir(&bin).expect("a folder");
    std::os::unix::fs::symlink(nodepass_command().get_program(), bin.join("nodepass")).expect("a link");
    let script = format!("PATH='{}':$PATH\n{script}", bin.display());
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).current_dir(scene.folder.path()).env("LC_ALL", language);
    std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NP_")).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.envs(scene.env.iter().map(|(name, value)| (name, value)));
    let output = finished(command).expect("bash");
    plain(&String::from_utf8_lossy(&output.stdout))
}

/// The pieces of a text, between `...`, are in what was printed, one after the other; numbers and ids are others each time.
fn compare(what: &str, command: &str, expected: &str, printed: &str) {
    let (printed, mut from) = (alike(printed), 0);
    for piece in expected.lines().flat_map(|line| line.split("...")).map(alike) {
        let piece = piece.trim();
        let Some(at) = printed[from..].find(piece) else {
            panic!("{what}: not printed: {piece}\ncommand: {command}\nprinted: {printed}");
        };
        from += at + piece.len();
    }
}

/// A text without what differs from run to run: numbers, ids and keys, the width of blanks.
fn alike(text: &str) -> String {
    let mut alike = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (word, end) = match word.char_indices().next_back() {
            Some((at, end)) if !end.is_ascii_alphanumeric() => word.split_at(at),
            _ => (word, ""),
        };
        let id = [8, 16, 32].contains(&word.len()) && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if id {
            alike.push('0');
        } else {
            for c in word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }) {
                if !(c == '0' && alike.ends_with('0')) {
                    alike.push(c);
                }
            }
        }
        let blank = end.chars().all(char::is_whitespace);
        match blank {
            true if alike.ends_with(' ') || end.is_empty() => {}
            true => alike.push(' '),
            false => alike.push_str(end),
        }
    }
    alike
}

/// The blocks of code of a page.
fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut open): (Vec<Block>, bool) = (Vec::new(), false);
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(language) => {
                open = true;
                blocks.push(Block { language: language.to_owned(), text: String::new() });
            }
            None if open => {
                let block = blocks.last_mut().expect("an open block");
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Begins what a block prints.
const MARK: &str = "@@@ block ";
