//! The commands that look at instances instead of being one, and their options: `nodepass check`, `nodepass status`.
//!
//! ```text
//!  nodepass check --json @/etc/nodepass/web.url --lang zh
//!           verb  options and, between them, the words of an instance
//! ```

use std::path::PathBuf;

use super::suggest::did_you_mean;
use super::Role;
use crate::error::Error;
use crate::log::printable;

/// What is to be looked at, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The command.
    pub verb: Verb,
    /// The words that an instance would be started with; none where only a master is asked.
    pub words: Vec<String>,
    /// For programs.
    pub json: bool,
    /// The language that was asked for.
    pub lang: Option<Lang>,
    /// Where a text for a bug report goes.
    pub report: Option<PathBuf>,
    /// A running master's address; its key may be in it.
    pub master: Option<String>,
    /// Again and again.
    pub watch: bool,
}

/// A command that looks at instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Finds out what is wrong with a set-up.
    Check,
    /// Shows what a master's instances do.
    Status,
}

/// A language that findings are told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    /// `en`.
    English,
    /// `zh`.
    Chinese,
}

/// An option of these commands.
pub(super) struct VerbOption {
    /// Without the two hyphens.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What follows it, in words that follow "expected"; `None` if nothing does.
    pub value: Option<&'static str>,
    /// Which commands take it.
    pub verbs: &'static [Verb],
    /// Takes a value; `None` if it is not acceptable.
    set: fn(&mut Inquiry, &str) -> Option<()>,
}

/// Every option, in the order of the documentation.
pub(super) static OPTIONS: [VerbOption; 5] = [
    VerbOption {
        name: "json",
        meaning: "one JSON object, for programs",
        value: None,
        verbs: BOTH,
        set: |inquiry, _| {
            inquiry.json = true;
            Some(())
        },
    },
    VerbOption {
        name: "lang",
        meaning: "the language of findings; without it that of LC_ALL, LC_MESSAGES or LANG",
        value: Some("en or zh"),
        verbs: BOTH,
        set: |inquiry, value| {
            inquiry.lang = Some(Lang::from_name(value)?);
            Some(())
        },
    },
    VerbOption {
        name: "master",
        meaning: "asks the running master at http://host:port/prefix; its key comes from NP_API_KEY",
        value: Some("a URL, as in http://127.0.0.1:9090/api"),
        verbs: BOTH,
        set: |inquiry, value| {
            inquiry.master = Some(value.to_owned());
            Some(())
        },
    },
    VerbOption {
        name: "report",
        meaning: "writes a text for a bug report as well: versions, configuration without keys, findings, the system",
        value: Some("a path"),
        verbs: &[Verb::Check],
        set: |inquiry, value| {
            inquiry.report = Some(value.into());
            Some(())
        },
    },
    VerbOption {
        name: "watch",
        meaning: "shows it again every 2 s until it is stopped",
        value: None,
        verbs: &[Verb::Status],
        set: |inquiry, _| {
            inquiry.watch = true;
            Some(())
        },
    },
];

const BOTH: &[Verb] = &Verb::ALL;

impl Verb {
    pub(super) const ALL: [Verb; 2] = [Verb::Check, Verb::Status];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Check => "check",
            Verb::Status => "status",
        }
    }

    /// What it does.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Verb::Check => "says what is wrong with a set-up, without starting it",
            Verb::Status => "shows what the instances of a master do",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.name() == name)
    }

    fn options(self) -> impl Iterator<Item = &'static VerbOption> {
        OPTIONS.iter().filter(move |option| option.verbs.contains(&self))
    }
}

impl Lang {
    fn from_name(name: &str) -> Option<Lang> {
        match name {
            "en" => Some(Lang::English),
            "zh" => Some(Lang::Chinese),
            _ => None,
        }
    }

    /// The language of the user's environment: of the first variable that is set.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Lang {
        let set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(env).find(|value| !value.is_empty());
        match set.is_some_and(|value| value.starts_with("zh")) {
            true => Lang::Chinese,
            false => Lang::English,
        }
    }
}

/// Where in the arguments the words of an instance begin: after a verb and its options, or at the beginning. There may be none.
pub fn words_begin(args: &[String]) -> usize {
    let Some(verb) = args.first().and_then(|word| Verb::from_name(word)) else { return 0 };
    let mut at = 1;
    while let Some((option, value)) = args.get(at).and_then(|arg| option_of(verb, arg)) {
        at += if option.value.is_some() && value.is_none() { 2 } else { 1 };
    }
    at.min(args.len())
}

/// Whether the arguments name one of these commands.
pub fn is_verb(args: &[String]) -> bool {
    args.first().is_some_and(|word| Verb::from_name(word).is_some())
}

/// Reads what follows a verb. `None` is a call for help.
pub(super) fn inquiry(verb: Verb, args: &[String]) -> Result<Option<Inquiry>, Error> {
    let mut inquiry =
        Inquiry { verb, words: Vec::new(), json: false, lang: None, report: None, master: None, watch: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some((option, value)) = option_of(verb, arg) else {
            let is_of_role = inquiry.words.first().is_some_and(|first| Role::from_name(first).is_some());
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                flag if flag.starts_with("--") && !is_of_role => return Err(unknown(verb, flag)),
                word => inquiry.words.push(word.to_owned()),
            }
            continue;
        };
        let value = match (option.value, value) {
            (None, _) => "",
            (Some(_), Some(value)) => value,
            (Some(expected), None) => args.next().ok_or_else(|| no_value(option.name, expected))?,
        };
        let expected = option.value.unwrap_or_default();
        (option.set)(&mut inquiry, value).ok_or_else(|| super::bad(&format!("--{}", option.name), value, expected))?;
    }
    Ok(Some(inquiry))
}

/// The option that an argument names, and what follows an equals sign in it.
fn option_of(verb: Verb, arg: &str) -> Option<(&'static VerbOption, Option<&str>)> {
    let flag = arg.strip_prefix("--")?;
    let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
    let option = verb.options().find(|option| option.name == name)?;
    (option.value.is_some() || value.is_none()).then_some((option, value))
}

fn unknown(verb: Verb, flag: &str) -> Error {
    let name = flag.trim_start_matches("--");
    let hint = match did_you_mean(name, verb.options().map(|option| option.name)) {
        meant if meant.is_empty() => format!("\"nodepass help {}\" lists all", verb.name()),
        meant => meant.replace("mean ", "mean --"),
    };
    Error::unusable(format!("unknown option --{}", printable(name)), hint)
}

fn no_value(name: &str, expected: &str) -> Error {
    Error::input(format!("--{name} has no value"), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_stand_anywhere_and_the_rest_are_an_instances_words() {
        for text in ["--json server://h:1/t:2 --lang zh --report=/r", "server://h:1/t:2 --json --lang=zh --report /r"] {
            let asked = inquiry(Verb::Check, &words(text)).unwrap().unwrap();
            assert_eq!(asked.words, ["server://h:1/t:2"]);
            assert!(asked.json && asked.lang == Some(Lang::Chinese) && asked.report == Some("/r".into()), "{asked:?}");
        }
        let asked = inquiry(Verb::Check, &words("server --tls 1 --json --target-port 2")).unwrap().unwrap();
        assert_eq!((asked.words, asked.json), (words("server --tls 1 --target-port 2"), true));
    }

    #[test]
    fn a_mistyped_option_is_asked_back_and_a_bad_value_is_told_with_what_is_accepted() {
        let told = |text| inquiry(Verb::Check, &words(text)).unwrap_err().to_string();
        assert_eq!(told("--jsn"), "unknown option --jsn: did you mean --json?");
        assert_eq!(told("--watch"), "unknown option --watch: \"nodepass help check\" lists all");
        assert_eq!(told("--lang fr"), "bad --lang \"fr\": expected en or zh");
        assert_eq!(told("--report"), "--report has no value: expected a path");
        assert_eq!(inquiry(Verb::Check, &words("server --help")), Ok(None));
    }

    #[test]
    fn the_place_of_a_file_with_the_url_is_found_after_the_options() {
        let at = |text| words_begin(&words(text));
        assert_eq!((at("server://h:1"), at("@/f"), at("check")), (0, 0, 1));
        assert_eq!((at("check @/f"), at("check --json --lang zh @/f"), at("check --lang=zh - --json")), (1, 4, 2));
        assert_eq!(at("check --lang"), 2);
    }

    #[test]
    fn the_language_is_that_of_the_first_variable_that_is_set() {
        let lang = |pairs: &[(&str, &str)]| {
            Lang::from_env(&|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned()))
        };
        assert_eq!(lang(&[]), Lang::English);
        assert_eq!(lang(&[("LANG", "zh_CN.UTF-8")]), Lang::Chinese);
        assert_eq!(lang(&[("LC_ALL", "C"), ("LANG", "zh_CN.UTF-8")]), Lang::English);
        assert_eq!(lang(&[("LC_ALL", ""), ("LANG", "zh_TW")]), Lang::Chinese);
    }
}
