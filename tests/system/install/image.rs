//! scripts/Dockerfile built by buildah, and the image's root entered as its user: a root that has nothing but the program.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// A container of the image: its settings and its root.
struct Container {
    config: Value,
    root: PathBuf,
    // The root is in it.
    _folder: Folder,
}

impl Container {
    /// Builds the image around the program under test.
    fn new() -> Option<Container> {
        let buildah = program("buildah")?;
        if !present(root(), "root") {
            return None;
        }
        let folder = Folder::new();
        fs::create_dir_all(folder.file("context/target/cross")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_nodepass"), folder.file("context/target/cross/nodepass-x86_64")).unwrap();
        let run = |args: &[&str]| {
            let mut command = Command::new(&buildah);
            command.args(["--storage-driver", "vfs", "--root"]).arg(folder.file("images"));
            command.arg("--runroot").arg(folder.file("run")).args(args).current_dir(folder.file("context"));
            let (status, said, errors) = output(command);
            assert_eq!(status, 0, "buildah {args:?}: {said}{errors}");
            said
        };
        let dockerfile = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/Dockerfile");
        run(&["bud", "--isolation", "chroot", "-f", dockerfile, "-t", "nodepass", "."]);
        let mut about: Value = serde_json::from_str(&run(&["inspect", "--type", "image", "nodepass"])).unwrap();
        let config = about["OCIv1"]["config"].take();
        let name = run(&["from", "nodepass"]);
        let root = PathBuf::from(run(&["mount", &name]));
        Some(Container { config, root, _folder: folder })
    }

    /// The program under test is not static: its libraries beside it, which the image does not need.
    fn add_libraries(&self) {
        let mut ldd = Command::new("ldd");
        ldd.arg(env!("CARGO_BIN_EXE_nodepass"));
        for word in output(ldd).1.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = self.root.join(&word[1..]);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(word, place).unwrap();
        }
    }

    /// The image's command with these arguments, as its user and in its environment alone.
    fn command(&self, args: &[&str]) -> Command {
        let words = |name: &str| {
            let list = self.config[name].as_array().unwrap().iter();
            list.map(|word| word.as_str().unwrap().to_string()).collect::<Vec<_>>()
        };
        let mut command = Command::new("chroot");
        command.arg(format!("--userspec={}", self.config["User"].as_str().unwrap())).arg(&self.root);
        command.args(words("Entrypoint"));
        match args {
            [] => command.args(words("Cmd")),
            args => command.args(args),
        };
        command.env_clear();
        command.envs(words("Env").iter().filter_map(|line| line.split_once('=')));
        command
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_image_runs_tunnels_and_masters_as_a_user_without_rights() {
    let Some(container) = Container::new() else { return };
    assert_eq!(names(&container.root), ["nodepass", "state"]);
    let program = fs::metadata(container.root.join("nodepass")).unwrap();
    assert_eq!((program.mode() & 0o777, program.uid()), (0o755, 0));
    let state = fs::metadata(container.root.join("state")).unwrap();
    assert_eq!((state.uid(), state.gid()), (65534, 65534));
    container.add_libraries();

    let (status, said, _) = output(container.command(&[]));
    assert!(status == 0 && said.contains("Usage:"), "{said}");

    // A server and a client, and a user's bytes through both.
    let (target, entrance, tunnel) = (Target::echo(), free_addr(), free_addr());
    let server = format!("server://key@{tunnel}/{entrance}?mode=1&tls=1");
    let client = format!("client://key@{tunnel}/{}?mode=2&min=1", target.addr());
    let server = Process::run("server", container.command(&[&server]));
    let client = Process::run("client", container.command(&[&client]));
    client.says(" is up: ", GRACE);
    let sent = noise(1, 100_000);
    assert_eq!(until("the tunnel", GRACE, || exchange(entrance, &sent)), sent);
    drop((server, client));

    // A master starts without /tmp, keeps its state, and leaves nothing else.
    let master = Process::run("master", container.command(&[&format!("master://{}", free_addr())]));
    master.says("Master started", GRACE);
    master.terminate();
    assert_eq!(master.wait(GRACE), 0);
    assert_eq!(names(&container.root.join("state")), ["nodepass.gob"]);
    assert_eq!(fs::metadata(container.root.join("state/nodepass.gob")).unwrap().uid(), 65534);
}
