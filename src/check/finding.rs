//! What was found: one case of the table of words, about one thing, in either language.

use std::fmt::Write;

use crate::config::Lang;
use crate::log::escaped;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It was looked at, and is as it should be.
    Fine,
    /// Worth knowing; nothing is wrong.
    Note,
    /// It works, or may, but not as well or as safely as it should.
    Warning,
    /// It does not work.
    Fault,
}

/// A case: what is said of it. `{0}` and so on stand for the finding's values. An empty text is left out.
#[derive(Debug)]
pub struct Case {
    /// Its name, which does not change: for programs and pages.
    pub code: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is so.
    pub what: Words,
    /// Why.
    pub cause: Words,
    /// What to do.
    pub cure: Words,
}

/// A text in both languages.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// English.
    pub en: &'static str,
    /// Chinese.
    pub zh: &'static str,
}

/// A case that holds for one thing.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which.
    pub case: &'static Case,
    /// What it is about: an address, a file, a name. Fit to be printed.
    pub subject: String,
    /// What stands in the case's words. Fit to be printed.
    pub values: Vec<String>,
}

impl Finding {
    /// A case that holds for this.
    pub fn new(case: &'static Case, subject: impl ToString) -> Finding {
        Finding { case, subject: escaped(&subject.to_string()), values: Vec::new() }
    }

    /// The same with one more value, `{0}` first. What comes from outside is made harmless.
    pub fn with(mut self, value: impl ToString) -> Finding {
        self.values.push(escaped(&value.to_string()));
        self
    }

    /// The same, about a part of this.
    pub fn of(mut self, whole: &str) -> Finding {
        self.subject = format!("{whole}: {}", self.subject);
        self
    }

    /// Whether something should be done.
    pub fn is_bad(&self) -> bool {
        self.case.level >= Level::Warning
    }

    /// What is so, why, and what to do.
    pub fn texts(&self, lang: Lang) -> [String; 3] {
        [self.case.what, self.case.cause, self.case.cure].map(|words| self.filled(words.in_lang(lang)))
    }

    /// The lines for a person.
    pub fn lines(&self, lang: Lang) -> String {
        let [what, cause, cure] = self.texts(lang);
        let colon = if lang == Lang::Chinese { "：" } else { ": " };
        let mut text = format!("{}{}{colon}{what}", self.case.level.word(lang), self.subject);
        if self.is_bad() {
            let _ = write!(text, "  [{}]", self.case.code);
        }
        text.push('\n');
        for (name, said) in [(CAUSE, cause), (CURE, cure)] {
            if !said.is_empty() {
                let _ = writeln!(text, "{INDENT}{}{said}", name.in_lang(lang));
            }
        }
        text
    }

    fn filled(&self, words: &str) -> String {
        let mut parts = words.split('{');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (number, rest) = part.split_once('}').unwrap_or((part, ""));
            let value = number.parse().ok().and_then(|number: usize| self.values.get(number));
            text.push_str(value.map_or("?", String::as_str));
            text.push_str(rest);
        }
        text
    }
}

impl Words {
    /// The text in this language.
    pub fn in_lang(self, lang: Lang) -> &'static str {
        match lang {
            Lang::English => self.en,
            Lang::Chinese => self.zh,
        }
    }
}

impl Level {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Level::Fine => "fine",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Fault => "fault",
        }
    }

    /// The first column, as wide as [`INDENT`].
    fn word(self, lang: Lang) -> &'static str {
        let words = match self {
            Level::Fine => Words { en: "ok       ", zh: "正常     " },
            Level::Note => Words { en: "note     ", zh: "提示     " },
            Level::Warning => Words { en: "WARNING  ", zh: "警告     " },
            Level::Fault => Words { en: "FAULT    ", zh: "故障     " },
        };
        words.in_lang(lang)
    }
}

const CAUSE: Words = Words { en: "cause: ", zh: "原因：" };
const CURE: Words = Words { en: "cure:  ", zh: "处理：" };
const INDENT: &str = "         ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::words::all;

    #[test]
    fn every_case_has_a_code_of_its_own_and_both_languages_or_neither() {
        let all = all();
        for (at, case) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other.code != case.code), "{}", case.code);
            assert!(case.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", case.code);
            for words in [case.what, case.cause, case.cure] {
                assert_eq!(words.en.is_empty(), words.zh.is_empty(), "{}", case.code);
                assert!(words.en.is_ascii(), "{}: {}", case.code, words.en);
                for n in 0..9 {
                    let place = format!("{{{n}}}");
                    assert_eq!(words.en.contains(&place), words.zh.contains(&place), "{}: {place}", case.code);
                }
            }
            assert!(!case.what.en.is_empty(), "{}", case.code);
            assert!(case.level < Level::Warning || !case.cure.en.is_empty(), "{}: no cure", case.code);
        }
    }

    #[test]
    fn every_case_is_found_by_some_check() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/check");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let code: String =
            files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect();
        for case in all() {
            let name = case.code.to_uppercase().replace('-', "_");
            let used = code
                .split(&name)
                .skip(1)
                .any(|after| !after.starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric()));
            assert!(used, "{} is never found", case.code);
        }
    }

    #[test]
    fn values_stand_in_their_places_and_what_comes_from_outside_is_harmless() {
        static CASE: Case = Case {
            code: "a-case",
            level: Level::Fault,
            what: Words { en: "{1} is not {0}", zh: "{1} 不是 {0}" },
            cause: Words { en: "", zh: "" },
            cure: Words { en: "ask {2}", zh: "问 {2}" },
        };
        let finding = Finding::new(&CASE, "a\x1b[31m").with("one\n").with("two");
        assert_eq!(
            finding.lines(Lang::English),
            "FAULT    a\\u{1b}[31m: two is not one\\n  [a-case]\n         cure:  ask ?\n"
        );
        assert_eq!(
            finding.lines(Lang::Chinese),
            "故障     a\\u{1b}[31m：two 不是 one\\n  [a-case]\n         处理：问 ?\n"
        );
    }
}
