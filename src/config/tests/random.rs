//! Arguments made by chance: none makes the parser panic, and what it takes it takes again.

use super::super::flags::FLAGS;
use super::*;
use crate::testing::Dice;

fn random_url(dice: &mut Dice) -> String {
    let mut url = String::from(dice.pick(&["server://", "client://", "master://"]));
    url += dice.pick(&["", "k@", "a:b@", "%41@"]);
    url += dice.pick(&["h:1", ":1000", "[::1]:443", "10.0.0.1:8080"]);
    url += dice.pick(&["/", "/h:2", "/[::2]:3", "/127.0.0.1:8080,:80", "/api"]);
    url += dice.pick(&["?", "?", ""]);
    for _ in 0..dice.below(6) {
        let row = &PARAMETERS[dice.below(PARAMETERS.len())];
        let value = if dice.below(3) > 0 { row.default.unwrap_or("1") } else { dice.pick(WORDS) };
        url += &format!("{}={value}&", row.name);
    }
    for _ in 0..dice.below(4_usize).saturating_sub(1) {
        let places: Vec<usize> = url.char_indices().map(|(at, _)| at).chain([url.len()]).collect();
        let (from, to) = (places[dice.below(places.len())], places[dice.below(places.len())]);
        match dice.below(3) {
            0 => url.insert_str(from, dice.pick(WORDS)),
            1 => url.replace_range(from.min(to)..from.max(to), dice.pick(WORDS)),
            _ => url.truncate(from),
        }
    }
    url
}

#[test]
fn no_url_makes_the_parser_panic_and_what_it_takes_it_takes_again() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut taken = 0;
    for _ in 0..20_000 {
        let url = random_url(&mut dice);
        // A duration does for some variables, and is a bad value of others.
        let all = dice.below(8) == 0;
        let env = |name: &str| (all || name.ends_with("TIMEOUT")).then(|| "5s".to_string());
        match parse(std::slice::from_ref(&url), &env) {
            Err(error) => {
                let told = error.to_string();
                let printable = told.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                assert!(printable && !told.is_empty() && [1, 2].contains(&error.status), "{url:?}: {told}");
            }
            Ok(Parsed { command: Command::Run(config), .. }) => {
                taken += 1;
                let effective = config.effective_url();
                let again = run(&[&effective]).0;
                assert_eq!(again.effective_url(), effective, "{url:?}");
                let same = Config {
                    key: config.key.clone(),
                    key_given: config.key_given,
                    log_given: config.log_given,
                    https_proxy: config.https_proxy.clone(),
                    limits: config.limits.clone(),
                    ..again
                };
                assert_eq!(Config { raised: false, ..*config }, same, "{url:?}");
            }
            Ok(_) => {}
        }
    }
    assert!((1000..19_000).contains(&taken), "{taken} of the URLs are good: the generator has lost its balance");
}

#[test]
fn no_flags_make_the_parser_panic() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..20_000 {
        let mut args = vec![dice.pick(&["server", "client", "master", "--", ""]).to_string()];
        for _ in 0..dice.below(8) {
            let name = match dice.below(2) {
                0 => PARAMETERS[dice.below(PARAMETERS.len())].name,
                _ => FLAGS[dice.below(FLAGS.len())].name,
            };
            args.push(format!("{}{name}{}", dice.pick(&["--", "--", "-", ""]), dice.pick(&["", "", "=", "=1"])));
            args.push(dice.pick(WORDS).into());
        }
        if let Err(error) = parse(&args, &|_| None) {
            assert!(error.to_string().bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{args:?}: {error:?}");
        }
    }
}

/// Pieces of URLs and flags, good and bad.
const WORDS: &[&str] = &[
    "server",
    "client",
    "master",
    "://",
    ":",
    "/",
    "@",
    "?",
    "&",
    "=",
    ",",
    "#",
    "%",
    "%zz",
    "%00",
    "%ff",
    "+",
    "[",
    "]",
    "[::1]",
    "::",
    ".",
    "..",
    "-",
    "h",
    "127.0.0.1",
    "localhost",
    "80",
    "0",
    "65536",
    "99999999999999999999",
    "5m",
    "-1s",
    "9999999h",
    "1.5h",
    "auto",
    "ü",
    "\0",
    "\r\n",
    " ",
    "--",
    "--tls",
    "NP_WORKERS",
];
