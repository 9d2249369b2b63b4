//! The page at the master, in a real browser: what an operator does there, in both languages and with the keyboard, and what hostile
//! names and lines come to. Every test ends with a look at what the browser asked for and refused.

mod driver;

use std::path::PathBuf;

use serde_json::{json, Value};

use crate::support::*;
use driver::Browser;

/// A master with a state of its own.
struct Master {
    process: Process,
    url: String,
    root: String,
    key: String,
    state: Folder,
}

impl Master {
    fn start() -> Master {
        let (port, state) = (free_port(), Folder::new());
        let url = format!("master://127.0.0.1:{port}/api?log=info");
        let process = run(&url, &state);
        let line = process.says("API Key created: ", GRACE);
        let key = line.rsplit(' ').next().expect("a key").to_owned();
        Master { process, url, root: format!("http://127.0.0.1:{port}"), key, state }
    }

    /// curl with the key; JSON, or null for nothing.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-m", "30", "-X", method, "-H", &format!("X-API-Key: {}", self.key)]);
        if !body.is_null() {
            curl.args(["-d", &body.to_string()]);
        }
        curl.arg(format!("{}/api/v1/{path}", self.root));
        serde_json::from_slice(&finished(curl).expect("curl").stdout).unwrap_or_default()
    }

    /// Makes an instance that forwards to a closed port, and gives its id.
    fn create(&self, alias: &str) -> String {
        let made = self.ask("POST", "instances", &json!({ "alias": alias, "url": forward() }));
        let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        until(alias, GRACE, || if self.status(&id) == "running" { Ok(()) } else { Err(self.status(&id)) });
        id
    }

    fn instance(&self, id: &str) -> Value {
        self.ask("GET", &format!("instances/{id}"), &Value::Null)
    }

    fn status(&self, id: &str) -> String {
        self.instance(id)["status"].as_str().unwrap_or_default().to_owned()
    }
}

fn run(url: &str, state: &Folder) -> Process {
    let folder = state.path().to_str().expect("a path");
    Process::nodepass_with(&[url], &[("NP_STATE_DIR", folder), ("NP_REPORT_INTERVAL", "500ms")])
}

/// Something that runs by itself.
fn forward() -> String {
    format!("client://127.0.0.1:{}/127.0.0.1:1?mode=1", free_port())
}

/// A browser at the page, with the key given.
fn opened(master: &Master) -> Option<Browser> {
    let browser = Browser::start()?;
    browser.go(&format!("{}/", master.root));
    browser.type_in("#key", &master.key);
    browser.click("#enter button");
    browser.shows("#link", "live");
    Some(browser)
}

fn row(id: &str) -> String {
    format!("tr[data-id='{id}']")
}

/// Presses a button of the row's menu.
fn menu(browser: &Browser, id: &str, act: &str) {
    browser.click(&format!("{} summary", row(id)));
    browser.click(&format!("{} [data-act={act}]", row(id)));
}

#[test]
fn an_operator_makes_changes_stops_starts_resets_and_deletes_an_instance() {
    let master = Master::start();
    let Some(browser) = opened(&master) else { return };
    let port = free_port();
    browser.click("#new");
    browser.choose("#f-role", "client");
    browser.type_in("#f-alias", "shop");
    browser.type_in("#f-address", &format!("127.0.0.1:{port}"));
    browser.type_in("#f-targets", "127.0.0.1:1");
    browser.choose("#p-mode", "1");
    browser.type_in("#p-read", "30s");
    let url = format!("client://127.0.0.1:{port}/127.0.0.1:1?mode=1&read=30s");
    assert_eq!(browser.value("#f-url"), url);
    browser.click("#edit-save");
    browser.shows("#list", "shop");
    let list = master.ask("GET", "instances", &Value::Null);
    let made = list.as_array().expect("a list").iter().find(|one| one["alias"] == "shop").expect("shop").clone();
    let id = made["id"].as_str().expect("an id").to_owned();
    browser.shows(&row(&id), "running");

    // The same form changes it; the URL can be written as well.
    browser.click(&format!("{} [data-act=edit]", row(&id)));
    assert_eq!(browser.value("#p-read"), "30s");
    browser.put("#f-url", &format!("{url}&rate=8"));
    assert_eq!(browser.value("#p-rate"), "8");
    browser.type_in("#f-alias", "2");
    browser.click("#edit-save");
    browser.shows(&row(&id), "shop2");
    until("the change", GRACE, || {
        let url = master.instance(&id)["url"].as_str().unwrap_or_default().to_owned();
        if url.contains("rate=8") {
            Ok(())
        } else {
            Err(url)
        }
    });
    browser.shows(&row(&id), "running");

    browser.click(&format!("{} [data-act=toggle]", row(&id)));
    browser.shows(&row(&id), "stopped");
    assert_eq!(master.status(&id), "stopped");
    browser.click(&format!("{} [data-act=toggle]", row(&id)));
    browser.shows(&row(&id), "running");
    let starts =
        || master.ask("GET", &format!("instances/{id}/logs"), &Value::Null).to_string().matches("started").count();
    let before = starts();
    menu(&browser, &id, "restart");
    until("another start", GRACE, || if starts() > before { Ok(()) } else { Err(starts()) });
    menu(&browser, &id, "reset");
    browser.click("#ask-yes");
    browser.shows("#notes", "Counters of shop2 are reset");

    // Deleting asks, and no is no.
    menu(&browser, &id, "remove");
    browser.shows("#ask", "Delete shop2?");
    browser.click("#ask-no");
    assert_eq!(master.instance(&id)["alias"], "shop2");
    menu(&browser, &id, "remove");
    browser.click("#ask-yes");
    browser.lacks(&row(&id));
    assert_eq!(master.instance(&id)["error"], "Instance not found");
    browser.is_clean(&master.root);
}

#[test]
fn a_bad_url_is_told_in_the_form_and_in_the_masters_words() {
    let master = Master::start();
    let Some(browser) = opened(&master) else { return };
    browser.click("#new");
    browser.put("#f-url", "http://nothing");
    browser.click("#edit-save");
    browser.shows("#edit-fault", "no server:// or client:// URL");
    browser.put("#f-url", "client://127.0.0.1:1");
    browser.click("#edit-save");
    browser.shows("#edit-fault", "target");
    assert_eq!(master.ask("GET", "instances", &Value::Null).as_array().map(Vec::len), Some(1), "the master alone");
    browser.is_clean(&master.root);
}

#[test]
fn the_form_has_every_parameter_that_the_program_has_for_the_role() {
    let master = Master::start();
    let Some(browser) = opened(&master) else { return };
    browser.click("#new");
    for role in ["client", "server"] {
        browser.choose("#f-role", role);
        let shown =
            browser.js("return [...document.querySelectorAll('[data-parameter]')].map(e => e.dataset.parameter)");
        let rows = nodepass::config::parameters();
        let known: Vec<&str> = rows.iter().filter(|row| row.roles.contains(&role)).map(|row| row.name).collect();
        assert_eq!(shown, json!(known), "{role}");
    }
    browser.is_clean(&master.root);
}

#[test]
fn hostile_names_and_lines_are_text() {
    let master = Master::start();
    let hostile = "<img src=x onerror=\"document.title='owned'\">";
    let id = master.create(hostile);
    let Some(browser) = opened(&master) else { return };
    browser.shows(&row(&id), hostile);
    // A line of the instance's log that says the name of a target that no resolver knows.
    master.ask("POST", "info", &json!({ "alias": hostile }));
    browser.click(&format!("{} [data-act=logs]", row(&id)));
    browser.shows("#log-title", hostile);
    browser.shows("#log-lines", "started");
    browser.js(&format!(
        "return import('/api/page/log.js').then(log => log.said('{id}', '2026-01-01 00:00:00.000  \\u001b[31mERROR\\u001b[0m  <img src=x onerror=alert(1)>'))"
    ));
    browser.shows("#log-lines", "ERROR  <img src=x onerror=alert(1)>");
    browser.click("#log [data-close]");
    menu(&browser, &id, "remove");
    browser.shows("#ask", hostile);
    browser.click("#ask-no");
    browser.click("#tab-master");
    browser.shows("#name", hostile);
    assert_eq!(browser.js("return document.querySelectorAll('img').length"), 0);
    assert_ne!(browser.js("return document.title"), "owned");
    browser.is_clean(&master.root);
}

#[test]
fn a_log_is_filtered_and_stands_still_while_it_pauses() {
    let master = Master::start();
    let id = master.create("talker");
    let Some(browser) = opened(&master) else { return };
    browser.click(&format!("{} [data-act=logs]", row(&id)));
    browser.shows("#log-lines", "started");
    browser.type_in("#log-filter", "no such line");
    browser.js("return new Promise(go => requestAnimationFrame(go))");
    assert_eq!(browser.text("#log-lines"), "");
    browser.put("#log-filter", "");
    browser.shows("#log-lines", "started");
    browser.click("#log-pause");
    let before = browser.text("#log-lines");
    master.ask("PATCH", &format!("instances/{id}"), &json!({ "action": "restart" }));
    until("lines that wait", GRACE, || {
        let text = browser.text("#log-pause");
        if text.starts_with("Resume (") && !text.contains("(0 ") {
            Ok(())
        } else {
            Err(text)
        }
    });
    assert_eq!(browser.text("#log-lines"), before);
    browser.click("#log-pause");
    until("all lines", GRACE, || {
        let text = browser.text("#log-lines");
        if text.len() > before.len() {
            Ok(())
        } else {
            Err(text)
        }
    });
    browser.choose("#log-level", "3");
    assert!(!browser.text("#log-lines").contains("INFO"));
    browser.is_clean(&master.root);
}

#[test]
fn a_master_that_was_lost_and_comes_back_is_live_again_without_what_has_gone() {
    let mut master = Master::start();
    let (stays, goes) = (master.create("stays"), master.create("goes"));
    let Some(browser) = opened(&master) else { return };
    browser.shows(&row(&goes), "running");
    master.process.signal(libc::SIGTERM);
    master.process.wait(GRACE);
    browser.shows("#link", "no connection");
    master.process = run(&master.url, &master.state);
    master.process.says("API Key loaded", GRACE);
    master.ask("DELETE", &format!("instances/{goes}"), &Value::Null);
    browser.shows("#link", "live");
    browser.shows(&row(&stays), "running");
    browser.lacks(&row(&goes));
    browser.only_of_origin(&master.root);
}

#[test]
fn the_key_stays_in_the_tab_and_a_wrong_one_opens_nothing() {
    let master = Master::start();
    let Some(browser) = Browser::start() else { return };
    browser.go(&format!("{}/api/", master.root));
    browser.type_in("#key", "0123456789abcdef0123456789abcdef");
    browser.click("#enter button");
    browser.shows("#enter-fault", "does not accept this key");
    browser.put("#key", &master.key);
    browser.click("#enter button");
    browser.shows("#link", "live");
    let shown = browser.js(
        "return location.href + document.cookie + JSON.stringify(localStorage) + document.documentElement.outerHTML",
    );
    assert!(!shown.as_str().expect("text").contains(&master.key));
    // It outlives a reload of the tab, and no more.
    browser.go(&format!("{}/api/", master.root));
    browser.shows("#link", "live");
    browser.click("#leave");
    assert_eq!(browser.js("return sessionStorage.length"), 0);
    browser.only_of_origin(&master.root);
}

#[test]
fn it_speaks_both_languages_in_both_themes() {
    let master = Master::start();
    let id = master.create("web");
    let Some(browser) = opened(&master) else { return };
    browser.choose("#language", "zh");
    browser.shows("#new", "新建实例");
    browser.shows(&row(&id), "运行中");
    browser.click("#new");
    browser.shows("#f-parameters", "连接池上限");
    browser.click("#edit [data-close]");
    let back = |theme: &str| {
        browser.choose("#theme", theme);
        browser.js("return getComputedStyle(document.body).backgroundColor")
    };
    assert_ne!(back("dark"), back("light"));
    // Both are remembered.
    browser.go(&format!("{}/api/", master.root));
    browser.shows("#tab-instances", "实例");
    assert_eq!(
        browser.js("return document.documentElement.lang + document.documentElement.dataset.theme"),
        "zh-CNlight"
    );
    assert_eq!(browser.js(OVERFLOW), 0);
    browser.width(390);
    assert_eq!(browser.js(OVERFLOW), 0, "at the width of a phone");
    browser.is_clean(&master.root);
}

#[test]
fn everything_can_be_done_with_the_keyboard_and_has_a_name_for_screen_readers() {
    let master = Master::start();
    let id = master.create("keys");
    let Some(browser) = opened(&master) else { return };
    browser.shows(&row(&id), "running");
    browser.js("document.querySelector('#new').focus()");
    browser.press(&[driver::ENTER]);
    browser.shows("#edit-title", "New instance");
    assert_eq!(browser.focused(), "f-role");
    browser.press(&[driver::ESCAPE]);
    assert_eq!(browser.js("return document.querySelector('#edit').open"), false);
    assert_eq!(browser.focused(), "new");
    // From the button past the field to the row: stop, log, edit, the menu and what is in it.
    browser.press(&[driver::TAB, driver::TAB, driver::TAB, driver::TAB, driver::TAB, driver::ENTER]);
    browser.press(&[driver::TAB, driver::TAB, driver::TAB, driver::TAB, driver::TAB, driver::ENTER]);
    browser.shows("#ask", "Delete keys?");
    assert_eq!(browser.focused(), "ask-no", "what does no harm comes first");
    browser.press(&[driver::ESCAPE]);
    assert_eq!(master.status(&id), "running");
    browser.js("document.querySelector('#tab-instances').focus()");
    browser.press(&[driver::RIGHT]);
    browser.shows("#info", "Version");
    let nameless = browser.js(
        "return [...document.querySelectorAll('button, input:not([type=file]), select, textarea, summary')].filter(e => \
         !(e.getAttribute('aria-label') || e.textContent.trim() || [...e.labels ?? []].some(l => l.textContent.trim()))).map(e => e.outerHTML)",
    );
    assert_eq!(nameless, json!([]));
    browser.is_clean(&master.root);
}

#[test]
fn the_master_is_named_checked_exported_imported_and_given_a_new_key() {
    let mut master = Master::start();
    let id = master.create("kept");
    let Some(browser) = opened(&master) else { return };
    browser.click("#tab-master");
    browser.shows("#info", env!("CARGO_PKG_VERSION"));
    browser.shows("#findings", "Nothing found");
    browser.type_in("#master-alias", "home");
    browser.click("#rename button");
    browser.shows("#name", "home");
    browser.choose("#master-level", "debug");
    until("the level", GRACE, || {
        let level = master.ask("GET", "info", &Value::Null)["log"].clone();
        if level == "debug" {
            Ok(())
        } else {
            Err(level)
        }
    });
    browser.type_in("#try-target", "127.0.0.1:1");
    browser.click("#try button");
    browser.shows("#tried", "connection refused");
    let downloads = Folder::new();
    browser.save_into(downloads.path());
    browser.click("#export");
    let file = downloads.file("nodepass-instances.json");
    until("the file", GRACE, || {
        std::fs::read(&file).ok().filter(|text| serde_json::from_slice::<Value>(text).is_ok()).ok_or("not there")
    });
    master.ask("DELETE", &format!("instances/{id}"), &Value::Null);
    browser.send_keys("#import-file", file.to_str().expect("a path"));
    browser.shows("#notes", "1 imported, 0 left out");
    assert_eq!(master.instance(&id)["alias"], "kept");
    browser.send_keys("#import-file", file.to_str().expect("a path"));
    browser.shows("#imported", "Instance exists already");
    browser.click("#new-key");
    browser.click("#ask-yes");
    browser.shows("#ask", "The new API key");
    let fresh = browser.text("#ask-value");
    assert!(fresh.len() == 32 && fresh != master.key, "{fresh}");
    browser.click("#ask-yes");
    master.key = fresh;
    master.ask("POST", "info", &json!({ "alias": "elsewhere" }));
    browser.click("#tab-instances");
    browser.shows("#link", "live");
    master.create("after the new key");
    browser.shows("#list", "after the new key");
    browser.is_clean(&master.root);
}

#[test]
fn what_a_check_finds_is_shown_by_instance_in_the_language_of_the_page() {
    let master = Master::start();
    let (first, second) = (master.create("closed target"), master.create("another"));
    let Some(browser) = opened(&master) else { return };
    browser.choose("#language", "en");
    browser.click("#tab-master");
    browser.click("#check-all");
    let of = |id: &str| format!("#checked [data-id='{id}']");
    for id in [&first, &second] {
        browser.shows(&of(id), "warnings 2");
        browser.shows(&of(id), "WARNING 127.0.0.1:1 (TCP): nothing listens there");
        browser.shows(&of(id), "cure: start the service, or correct the target");
        browser.shows(&of(id), "this set-up runs already");
    }
    assert_eq!((master.status(&first), master.status(&second)), ("running".into(), "running".into()));
    browser.choose("#language", "zh");
    browser.shows(&of(&second), "警告 127.0.0.1:1 (TCP): 那里没有程序监听");
    browser.click("#tab-instances");
    menu(&browser, &first, "check");
    browser.shows(&of(&first), "警告 2 个");
    browser.is_clean(&master.root);
}

#[test]
fn what_is_served_is_what_is_in_the_source_and_the_api_is_as_it_was() {
    let master = Master::start();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/master/page");
    let curl = |arguments: &[&str]| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-m", "30"]).args(arguments);
        String::from_utf8(finished(curl).expect("curl").stdout).expect("text")
    };
    for entry in std::fs::read_dir(&folder).expect("the page") {
        let name = entry.expect("a file").file_name().into_string().expect("a name");
        if name.ends_with(".gz") {
            continue;
        }
        let path = if name == "index.html" { "/api/".to_owned() } else { format!("/api/page/{name}") };
        let served = curl(&["--compressed", &format!("{}{path}", master.root)]);
        assert_eq!(
            served,
            std::fs::read_to_string(folder.join(&name)).expect("a file"),
            "{name}: scripts/page-gzip.sh"
        );
    }
    for path in ["/api", "/index.html", "/api/page/", "/api/page/page.css.gz"] {
        assert_eq!(curl(&[&format!("{}{path}", master.root)]), "404 page not found\n", "{path}");
    }
    let table: Value = serde_json::from_str(&curl(&[&format!("{}/api/v1/parameters", master.root)])).expect("JSON");
    assert_eq!(table["parameters"], json!(nodepass::config::parameters()));
}

/// Pixels by which the page is wider than its window.
const OVERFLOW: &str = "return Math.max(0, document.documentElement.scrollWidth - innerWidth)";
