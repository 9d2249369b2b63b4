//! The figures of a master's instances, for a monitoring system.

use super::*;

#[test]
fn a_master_shows_the_figures_of_its_instances_and_their_processes() {
    let master = Master::start();
    let (target, user) = (Target::echo(), free_addr());
    let id = master.create(&format!("client://{user}/{}?mode=1", target.addr()));
    until("a user", GRACE, || exchange(user, b"hello"));
    let labels = format!("{{id=\"{id}\",alias=\"\",role=\"client\"");
    let shown = until("figures", GRACE, || {
        let (status, text) = master.told("GET /v1/metrics", "");
        let line = format!("nodepass_users_accepted_total{labels},protocol=\"tcp\"}} ");
        let told = text.lines().any(|one| one.strip_prefix(&line).is_some_and(|count| count != "0"));
        if status == 200 && told {
            Ok(text)
        } else {
            Err(text)
        }
    });
    for start in [
        format!("nodepass_instance_up{labels}}} 1"),
        format!("nodepass_process_threads{labels}}} "),
        "nodepass_process_threads{id=\"\",alias=\"\",role=\"master\"} ".into(),
    ] {
        assert!(shown.lines().any(|line| line.starts_with(&start)), "{start} is not in\n{shown}");
    }
    // One that is stopped has no figures.
    master.told(&format!("PATCH /v1/instances/{id}"), r#"{"action":"stop"}"#);
    until("its end", GRACE, || {
        let text = master.told("GET /v1/metrics", "").1;
        let over =
            text.contains(&format!("nodepass_instance_up{labels}}} 0\n")) && !text.contains(&format!("users{labels}"));
        if over {
            Ok(())
        } else {
            Err(text)
        }
    });
}

#[test]
fn the_key_for_the_figures_comes_as_a_header_of_its_own_or_as_a_bearer() {
    let master = Master::start();
    let status = |header: &str| master.ask_with("GET /v1/metrics", "", &["-H", header]).status;
    assert_eq!(status(&format!("X-API-Key: {}", master.key)), 200);
    assert_eq!(status(&format!("Authorization: Bearer {}", master.key)), 200);
    assert_eq!(status("Authorization: Bearer wrong"), 401);
    assert_eq!(status(&format!("Authorization: Basic {}", master.key)), 401);
    assert_eq!(status("Accept: */*"), 401);
}
