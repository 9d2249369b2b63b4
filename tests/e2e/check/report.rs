//! `check --report`: what a bug report needs, and no secret.

use super::run;
use crate::support::*;
use std::os::unix::fs::PermissionsExt;

/// Secrets in every place where one can be.
const SECRETS: [&str; 7] =
    ["planted-key", "planted%2Dother", "planted-other", "planted-proxy", "planted-api", "planted-url", "planted-new"];

fn holds_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn a_report_has_what_one_needs_and_no_secret_that_was_planted() {
    let (folder, target) = (Folder::new(), Target::echo());
    let report = folder.file("report.txt");
    let report = report.to_str().unwrap();
    let env = [
        ("HTTPS_PROXY", "http://user:planted-proxy@proxy.invalid:3128"),
        ("NP_API_KEY", "planted-api"),
        ("NP_URL", "client://planted-url@h:1/t:2"),
        ("NP_FUTURE_SECRET", "planted-new"),
        ("NP_WORKERS", "3"),
    ];
    for url in [
        format!("server://planted-key@127.0.0.1:{}/{}?mode=2", free_port(), target.addr()),
        format!("client://planted%2Dother@127.0.0.1:{}/{}?mode=2", free_port(), target.addr()),
        "server://planted-key@h:1/t:2?tls=9".into(),
        format!("client://planted-key@planted-key.invalid:{}/{}?mode=2", free_port(), target.addr()),
    ] {
        let (_, out, errors) = run(&["check", "--report", report, &url], &env);
        let text = std::fs::read_to_string(report).unwrap();
        holds_no_secret(&text);
        assert!(errors.is_empty() && out.contains("the report is written"), "{out}{errors}");
        assert!(!out.contains("planted-proxy") && !out.contains("planted-api"), "{out}");
        for part in [
            "nodepass 1.",
            "== arguments\n",
            "NP_WORKERS=3",
            "NP_FUTURE_SECRET=***",
            "== findings\n",
            "/proc/meminfo: ",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(std::fs::metadata(report).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_report_that_cannot_be_written_is_told() {
    let url = format!("client://{}/{}?mode=1", free_addr(), Target::echo().addr());
    let (status, out, _) = run(&["check", "--report", "/no/such/folder/report", &url], &[]);
    assert!(status == 1 && out.contains("[report-failed]"), "{out}");
}
