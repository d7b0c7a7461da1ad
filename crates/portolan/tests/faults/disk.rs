//! A disk that refuses: at the start it is said in one line, later the registry reads on and mends itself.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use testkit::upstream::{Behaviour, Upstream};

use crate::process::{Up, within as started_within};
use crate::scene::{Face, Scene, until};

#[test]
fn a_data_directory_that_cannot_be_used_is_said() {
    #[track_caller]
    fn check(wrapper: &[&str], dir: &Path, parts: &[&str]) {
        let said = refused(wrapper, dir);
        assert_eq!(said.lines().count(), 1, "{said}");
        for part in [&[dir.to_str().unwrap()], parts].concat() {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(root.join("file"), "").unwrap();
    check(&[], &root.join("file"), &["cannot create directory", "exists"]);
    check(&[], &root.join("file/below"), &["cannot create directory", "Not a directory"]);

    let locked = root.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere, unless it gives that up.
    let powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let wrapper = if is_root() { &powerless[..] } else { &[] };
    check(wrapper, &locked, &["Permission denied"]);
    check(wrapper, &locked.join("below"), &["cannot create directory", "Permission denied"]);

    let sound = root.join("sound");
    Scene::start(&sound).up.process.kill();
    let book = fs::read(sound.join("store.redb")).unwrap();
    let damaged = |name: &str, bytes: &[u8]| {
        let dir = root.join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("store.redb"), bytes).unwrap();
        dir
    };
    let zeroed = [&vec![0; 4096], &book[4096..]].concat();
    check(&[], &damaged("foreign", &[7; 8192]), &["cannot open", "store.redb"]);
    check(&[], &damaged("empty", b""), &["cannot open", "store.redb"]);
    check(&[], &damaged("zeroed", &zeroed), &["cannot open", "store.redb"]);
    // The storage engine panics here, so its words come first.
    let said = refused(&[], &damaged("halved", &book[..book.len() / 2]));
    let last = said.lines().last().unwrap();
    assert!(last.contains("cannot open") && last.contains("store.redb: the file is damaged"), "{said}");
}

/// What a `portolan up` says that does not come up.
#[track_caller]
fn refused(wrapper: &[&str], dir: &Path) -> String {
    let args = [&Up::args(dir)[..], &["--http", "127.0.0.1:0"]].concat();
    let output = started_within(wrapper, &args).env("RUST_BACKTRACE", "0").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(output.stdout, b"", "nothing is promised");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_writing_and_nothing_else() {
    let disk = SmallDisk::mount();
    let scene = disk.start();
    let upstream = Upstream::start(Behaviour::Answer("ok")).await.unwrap();
    scene.route("web", &upstream).await;
    let mut face = scene.face().await;

    let filler = disk.fill();
    let mut written = 0;
    let refused = loop {
        match register_large(&mut face, written).await {
            (200, _) => written += 1,
            refused => break refused,
        }
        assert!(written < 1000, "the disk never gets full");
    };
    assert_eq!(refused.0, 503, "{}", refused.1);
    assert!(refused.1.contains("No space left on device"), "{}", refused.1);
    assert_eq!(register_large(&mut face, written).await.0, 503, "still");
    assert_eq!(face.rows("large").await.unwrap().by_id.len(), written, "what was refused is not seen");
    let status = face.get("/v1/portolan/status").await.unwrap().text();
    assert!(status.contains("reads only: "), "{status}");
    scene.serves("web").await;

    fs::remove_file(&filler).unwrap();
    until("it writes again", async || (register_large(&mut face, written).await.0 == 200).then_some(()))
        .await;
    written += 1;
    assert_eq!(face.rows("large").await.unwrap().by_id.len(), written);
    let status = face.get("/v1/portolan/status").await.unwrap().text();
    assert!(!status.contains("reads only: "), "{status}");

    // Killed on a full disk, and started on one.
    let filler = disk.fill();
    while register_large(&mut face, written).await.0 == 200 {
        written += 1;
    }
    scene.up.process.kill();
    let scene = disk.start();
    let mut face = scene.face().await;
    let found = face.rows("large").await.unwrap().by_id.len();
    // What was refused last may have reached the disk.
    assert!((written..=written + 1).contains(&found), "{found} of {written}");
    until("it routes", async || {
        let answer = scene.client().await.get("/web/", "").await.unwrap();
        (answer.status() == 200).then_some(())
    })
    .await;
    fs::remove_file(&filler).unwrap();
    until("it writes again", async || (register_large(&mut face, 1000).await.0 == 200).then_some(())).await;
}

/// Registers about 20 KiB; status and text.
async fn register_large(face: &mut Face, number: usize) -> (u16, String) {
    let meta: serde_json::Map<_, _> = (0..40).map(|n| (format!("k{n}"), json!("x".repeat(500)))).collect();
    let body = json!({ "Name": "large", "ID": format!("large-{number}"), "Port": 1, "Meta": meta });
    let answer = face.put("/v1/agent/service/register", &body.to_string()).await.unwrap();
    (answer.status(), answer.text())
}

/// A file system of a few megabytes in a mount namespace of its own. It ends with the process that holds the
/// namespace, and that ends with the test, however the test ends.
struct SmallDisk {
    holder: Child,
    target: String,
    root: PathBuf,
}

/// Where it is mounted, which only who enters the namespace sees.
const MOUNT: &str = "/mnt";

impl SmallDisk {
    fn mount() -> Self {
        let script = format!("mount -t tmpfs -o size=8m tmpfs {MOUNT} && echo mounted && exec cat");
        let mut command = Command::new("unshare");
        if !is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "sh", "-c", &script]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "a small disk takes root, or a system that lets users mount their own");
        let root = PathBuf::from(format!("/proc/{}/root{MOUNT}", holder.id()));
        Self { target: format!("--target={}", holder.id()), holder, root }
    }

    /// The data directory as whoever is inside sees it.
    fn path(&self) -> &Path {
        Path::new("/mnt/data")
    }

    fn wrapper(&self) -> Vec<&str> {
        match is_root() {
            true => vec!["nsenter", "--mount", &self.target],
            false => vec!["nsenter", "--user", "--preserve-credentials", "--mount", &self.target],
        }
    }

    fn start(&self) -> Scene {
        Scene::within(&self.wrapper(), self.path(), &[])
    }

    /// Leaves no room.
    fn fill(&self) -> PathBuf {
        let path = self.root.join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}
