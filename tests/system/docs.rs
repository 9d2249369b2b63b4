//! The pages agree with the tree: links lead somewhere, files that are named exist, and both languages say the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let mut dead = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&text).filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = target.exists() && (anchor.is_empty() || headings(&read(&target)).contains(anchor));
            if !there {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links: {dead:#?}");
}

#[test]
fn every_file_that_a_page_names_in_code_exists() {
    let mut missing = Vec::new();
    for page in pages() {
        for word in read(&page).split('`').skip(1).step_by(2) {
            let of_ours =
                ["src/", "tests/", "docs/", "scripts/", "cross/"].iter().any(|folder| word.starts_with(folder));
            if of_ours && !word.contains([' ', '*', '<', '\n']) && !root().join(word).exists() {
                missing.push(format!("{}: {word}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "named and not there: {missing:#?}");
}

/// The picture in `docs/architecture.md`: under each layer every file of its folder, and none that is nowhere below it.
#[test]
fn the_picture_of_the_architecture_is_the_tree() {
    let text = read(&root().join("docs/architecture.md"));
    let picture = text.split("   src/\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the picture");
    for layer in ["logic", "net", "run", "check", "master"] {
        let begin = picture.find(&format!("     {layer}/ ")).unwrap_or_else(|| panic!("no {layer} in the picture"));
        let lines = picture[begin..].lines().skip(1).take_while(|line| line.starts_with("       "));
        let named: BTreeSet<String> = lines
            .flat_map(|line| line.split([' ', ',', ';', ':']))
            .filter(|word| word.ends_with(".rs"))
            .map(str::to_owned)
            .collect();
        let (own, all) = (files(&format!("src/{layer}")), files_below(&root().join("src").join(layer)));
        let unnamed: Vec<_> = own.difference(&named).collect();
        assert!(unnamed.is_empty(), "src/{layer}: not in the picture: {unnamed:?}");
        let nowhere: Vec<_> = named.difference(&all).collect();
        assert!(nowhere.is_empty(), "src/{layer}: in the picture alone: {nowhere:?}");
    }
}

#[test]
fn every_module_of_the_test_crates_is_named_in_the_page_on_testing() {
    let page = read(&root().join("docs/testing.md"));
    for crate_name in ["e2e", "library", "measured", "system"] {
        for file in files(&format!("tests/{crate_name}")).iter().filter(|file| *file != "main.rs") {
            let module = file.trim_end_matches(".rs");
            assert!(page.contains(&format!("`{module}::`")), "docs/testing.md does not know tests/{crate_name}/{file}");
        }
    }
}

/// What both languages must share: commands (their comments apart), links, and the names and defaults of parameters.
#[test]
fn both_readmes_have_the_same_commands_links_and_parameters() {
    let (english, chinese) = (read(&root().join("README.md")), read(&root().join("README_zh.md")));
    assert_eq!(commands(&english), commands(&chinese));
    let depths = |text: &str| -> Vec<usize> { prose(text).filter_map(|line| line.find("# ")).collect() };
    assert_eq!(depths(&english), depths(&chinese), "the headings");
    // A sentence may be built the other way round: the order does not count.
    let all = |text: &str| -> BTreeSet<String> {
        links(text).filter(|link| !link.starts_with("README")).map(str::to_owned).collect()
    };
    assert_eq!(all(&english), all(&chinese), "the links");
    let parameters = |text: &str| -> Vec<Vec<String>> {
        let rows = text.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
        // Name, default, and which role takes it; meaning and values are words.
        cells.map(|cells| [1, 3, 5, 6, 7].map(|at| cells[at].clone()).to_vec()).collect()
    };
    assert_eq!(parameters(&english), parameters(&chinese));
}

/// Both languages of a page have the same headings, commands, and rows of tables: names, defaults, and who takes a parameter.
#[test]
fn both_languages_of_a_page_have_the_same_headings_commands_and_tables() {
    let twins: Vec<_> = pages().into_iter().filter(|page| page.to_string_lossy().ends_with("_zh.md")).collect();
    assert!(twins.len() > 2, "{twins:?}");
    for twin in twins.iter().filter(|page| !page.ends_with("README_zh.md")) {
        let english = PathBuf::from(twin.to_string_lossy().replace("_zh.md", ".md"));
        let name = english.display();
        let (english, chinese) = (read(&english), read(twin));
        let depths = |text: &str| -> Vec<usize> {
            prose(text).filter(|line| line.starts_with('#')).filter_map(|line| line.find("# ")).collect()
        };
        assert_eq!(depths(&english), depths(&chinese), "{name}: the headings");
        assert_eq!(commands(&english), commands(&chinese), "{name}: the commands");
        let rows = |text: &str| -> Vec<_> { prose(text).filter_map(row).collect() };
        let (english, chinese) = (rows(&english), rows(&chinese));
        for (english, chinese) in english.iter().zip(&chinese) {
            assert_eq!(english, chinese, "{name}: a row of a table");
        }
        assert_eq!(english.len(), chinese.len(), "{name}: rows of tables");
    }
}

/// What a row of a table has in every language.
#[derive(Debug, PartialEq)]
struct Row {
    /// The names in code in its first cell.
    names: Vec<String>,
    /// How many cells it has.
    cells: usize,
    /// Those that are no words, and where: `x`, `-`, one name in code.
    marks: Vec<(usize, String)>,
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
    let names = cells[0].split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let named = cells[0].starts_with('`');
    let code = |cell: &str| named && cell.starts_with('`') && cell.ends_with('`') && cell.matches('`').count() == 2;
    let marks = cells.iter().enumerate().filter(|(_, cell)| ["x", "-"].contains(cell) || code(cell));
    let marks = marks.map(|(at, cell)| (at, (*cell).to_owned())).collect();
    Some(Row { names, cells: cells.len(), marks })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All pages: those at the top, and those of `docs`.
fn pages() -> Vec<PathBuf> {
    let both = [root().to_owned(), root().join("docs")];
    let entries = both.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect()
}

/// The Rust files of a folder, not of those below it.
fn files(folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".rs")).collect()
}

/// The Rust files of a folder and of those below it, by their names alone.
fn files_below(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names = entries.flat_map(|path| match path.is_dir() {
        true => files_below(&path),
        false => BTreeSet::from([path.file_name().unwrap().to_string_lossy().into_owned()]),
    });
    names.filter(|name| name.ends_with(".rs")).collect()
}

/// The lines outside of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Where links in the prose lead.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split(')').next()))
}

/// The headings of a page as anchors: small letters, no marks, `-` for spaces.
fn headings(text: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    prose(text).filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The commands of a page, without what is said beside them.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" # ").next().unwrap_or(line).trim().to_owned());
    lines.collect()
}
