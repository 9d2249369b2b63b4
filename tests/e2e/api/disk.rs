//! A disk that is full: what could not be saved is told by the API until it is.

use super::*;
use serde_json::json;

#[test]
fn what_a_full_disk_does_not_take_is_told_with_the_answer_and_until_it_is_saved() {
    let disk = Folder::new();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(disk.path());
    if !finished(mount).is_ok_and(|output| output.status.success()) {
        return skip("mounts");
    }
    let tested = std::panic::catch_unwind(|| fill_and_clear(&disk));
    let mut umount = Command::new("umount");
    umount.arg(disk.path());
    assert!(finished(umount).unwrap().status.success());
    tested.unwrap();
}

fn fill_and_clear(disk: &Folder) {
    let port = free_port();
    let process = run(&format!("master://127.0.0.1:{port}?log=info"), disk, &[]);
    let key = process.says("API Key created: ", GRACE).rsplit(' ').next().expect("a key").to_owned();
    let (root, url) = (format!("http://127.0.0.1:{port}/api"), String::new());
    let master = Master { process, url, root, key, state: Folder::new() };
    assert!(eventually(GRACE, || disk.file("nodepass.gob").exists()));
    let full = std::fs::write(disk.file("filler"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    // The change is made, and its loss is told by more than the log.
    let created = master.ask("POST /v1/instances", &json!({ "url": forwarder() }).to_string());
    assert_eq!(created.status, 201);
    let why = created.header("x-nodepass-unsaved").expect("the header").to_owned();
    assert!(why.contains("No space left on device"), "{why}");
    assert_eq!(created.json()["unsaved"], json!(why));
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    master.process.says(&format!("state is not saved: {}", disk.file("nodepass.gob").display()), GRACE);
    let list = master.ask("GET /v1/instances", "").json();
    for record in list.as_array().expect("a list") {
        let is_new = record["id"] == json!(id);
        assert_eq!(record.get("unsaved").is_some(), is_new, "{record}");
    }
    assert_eq!(master.ask("GET /v1/info", "").json()["unsaved"], json!(why));

    // With room again the next change takes the others along.
    std::fs::remove_file(disk.file("filler")).unwrap();
    assert_eq!(master.ask(&format!("PATCH /v1/instances/{id}"), r#"{"alias":"kept"}"#).status, 200);
    assert!(eventually(GRACE, || master.ask("GET /v1/info", "").json().get("unsaved").is_none()));
    let kept = master.ask(&format!("GET /v1/instances/{id}"), "");
    assert_eq!((kept.header("x-nodepass-unsaved"), kept.json().get("unsaved")), (None, None));
    let gone = master.ask(&format!("DELETE /v1/instances/{id}"), "");
    assert_eq!((gone.status, gone.header("x-nodepass-unsaved")), (204, None));
}
