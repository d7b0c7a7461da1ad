//! `kill -9` of the process that keeps the keys, while others write to them over HTTP: what was acknowledged is there
//! once, and what was refused is not.

use portolan_naming::Naming;
use testkit::key_value_faults::{Told, no_write_is_lost_or_doubled};

use crate::process::Up;

const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_and_doubles_no_write_to_keys() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::with(&dir, &["--http", "127.0.0.1:0"]);
    let address = up.http.strip_prefix("http://").unwrap().to_owned();
    let uri = format!("portolan://{address}");
    let handles: Vec<_> = (0..3).map(|_| Naming::open(&uri).unwrap()).collect();
    let keys: Vec<_> = handles.iter().map(|naming| naming.key_value().unwrap()).collect();
    let mut running = Some(up);
    let told: Told = no_write_is_lost_or_doubled(&keys, async || {
        for _ in 0..KILLS {
            running.take().unwrap().process.kill();
            running = Some(Up::with(&dir, &["--http", &address]));
        }
    })
    .await;
    println!("{KILLS} kills: {told:?}");
}
