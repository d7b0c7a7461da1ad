//! Commands inside containers of a real engine.

use std::sync::Arc;

use bollard::models::ContainerCreateBody;
use portolan_model::Health::{self, Critical, Passing, Warning};
use portolan_model::Pending;
use registrator::ContainerSource;
use registrator::container::ContainerId;
use registrator::docker::Engine;
use registrator::source::{Exec, Executed, SourceError};

use super::doubles::Recorder;
use super::rig::{self, Rig, until};
use super::running::Running;

/// A rig with a container `web` that runs, and the engine as a container source.
async fn web() -> (Rig, Engine, ContainerId) {
    let rig = Rig::new().await;
    rig.create("web", rig.sleeper()).await;
    rig.start("web").await;
    let engine = Engine::new(Some(&rig::uri()), None).unwrap();
    engine.listen(None).await.unwrap();
    let id = ContainerId::new(rig.inspect("web").await.id.unwrap());
    (rig, engine, id)
}

fn shell<'e>(
    engine: &'e Engine,
    id: &ContainerId,
    script: &str,
) -> Pending<'e, Result<Executed, SourceError>> {
    let words = ["/bin/sh", "-c", script].map(str::to_owned).into();
    engine.exec(id.clone(), Exec { words, env: vec!["A=b".to_owned()], output_limit: 1000 })
}

#[tokio::test]
async fn commands_end_with_a_code_and_an_output() {
    let (_rig, engine, id) = web().await;
    let check = async |script: &str, code: i64, output: &str| {
        let executed = shell(&engine, &id, script).await.unwrap();
        assert_eq!((executed.code, String::from_utf8(executed.output).unwrap().as_str()), (code, output));
    };
    check("exit 0", 0, "").await;
    check("echo $A; exit 1", 1, "b\n").await;
    check("echo away >&2; exit 3", 3, "away\n").await;
    check("kill -9 $$", 137, "").await;
    // More than is kept, and more than any pipe holds.
    check("busybox head -c 1000000 /dev/zero | busybox tr '\\0' x", 0, &"x".repeat(1000)).await;
    // Its outputs are closed long before it ends.
    check("exec >&- 2>&-; busybox usleep 100000; exit 5", 5, "").await;
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let (rig, engine, id) = web().await;
    let exec = Exec { words: vec!["/no/such/program".to_owned()], env: Vec::new(), output_limit: 1000 };
    let executed = engine.exec(id.clone(), exec).await.unwrap();
    assert!(matches!(executed.code, 126 | 127), "{executed:?}");
    let output = String::from_utf8(executed.output).unwrap();
    assert!(output.contains("/no/such/program"), "{output}");
    rig.remove("web").await;
    let gone = shell(&engine, &id, "exit 0").await.unwrap_err();
    assert!(gone.0.to_lowercase().contains("no such container"), "{gone}");
}

#[tokio::test]
async fn health_follows_a_script_inside_the_container() {
    let rig = Rig::new().await;
    let asking = |lines: &[&str]| ContainerCreateBody {
        env: Some(lines.iter().chain(&["PATH=/bin"]).map(|line| (*line).to_owned()).collect()),
        ..rig.sleeper()
    };
    let script = "SERVICE_CHECK_SCRIPT=test $SERVICE_PORT = 80 && exit $(busybox cat /code)";
    rig.create("web", asking(&[script, "SERVICE_CHECK_INTERVAL=100ms"])).await;
    rig.start("web").await;
    let running = Running::of(Arc::new(Engine::new(Some(&rig::uri()), None).unwrap()), Recorder::default());
    let id = format!("H:{}:80", rig.name("web"));
    let becomes = async |expect: Health| {
        let found = || async {
            let instances = running.registry.instances().await;
            instances.iter().find(|instance| instance.id().as_str() == id).map(|i| i.registration.health)
        };
        until(expect.as_str(), || async { found().await == Some(expect) }).await;
    };
    for (code, health) in [("0", Passing), ("2", Critical), ("1", Warning), ("0", Passing)] {
        let say = format!("echo {code} > /code");
        rig.exec("web", &["/bin/sh", "-c", &say]).await;
        becomes(health).await;
    }
    running.stop().await;
}
