//! Findings as a person or a program reads them.

use serde_json::{json, Value};

use super::finding::{Finding, Level};
use crate::config::{version, Lang};

/// All findings and their number, for a person.
pub fn text(found: &[Finding], lang: Lang) -> String {
    let mut text: String = found.iter().map(|finding| finding.lines(lang)).collect();
    let [faults, warnings] = counts(found);
    text.push_str(&match lang {
        Lang::English => format!("\n{}, {}\n", many(faults, "fault"), many(warnings, "warning")),
        Lang::Chinese => format!("\n{faults} 个故障，{warnings} 个警告\n"),
    });
    text
}

/// The same as one JSON object.
pub fn object(found: &[Finding], lang: Lang) -> Value {
    let one = |finding: &Finding| {
        let [what, cause, cure] = finding.texts(lang);
        let (code, level) = (finding.case.code, finding.case.level.name());
        json!({"level": level, "code": code, "subject": finding.subject, "what": what, "cause": cause, "cure": cure})
    };
    let [faults, warnings] = counts(found);
    let list: Vec<Value> = found.iter().map(one).collect();
    json!({"version": version(), "faults": faults, "warnings": warnings, "findings": list})
}

/// How many are faults, and how many warnings.
pub fn counts(found: &[Finding]) -> [usize; 2] {
    [Level::Fault, Level::Warning].map(|level| found.iter().filter(|finding| finding.case.level == level).count())
}

fn many(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::words::*;

    #[test]
    fn both_forms_have_every_finding_and_their_numbers() {
        let found = [Finding::new(&PORT_FREE, "a"), Finding::new(&PORT_TAKEN, "b").with("nginx (pid 7)")];
        let text = text(&found, Lang::English);
        assert!(
            text.starts_with("ok       a: the port is free\nFAULT    b: the port is taken  [port-taken]\n"),
            "{text}"
        );
        assert!(text.contains("cause: nginx (pid 7) has it") && text.ends_with("\n1 fault, 0 warnings\n"), "{text}");
        let object = object(&found, Lang::Chinese);
        assert_eq!((&object["faults"], &object["findings"][1]["code"]), (&json!(1), &json!("port-taken")));
        assert_eq!(object["findings"][0]["what"], "端口空闲");
    }
}
