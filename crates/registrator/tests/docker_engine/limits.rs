//! Limits: a container that meets its own, and one that is given others.

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum,
};
use registrator::container::ContainerId;
use registrator::docker::Engine;
use registrator::source::{ContainerSource, EventStream};
use tokio::time::timeout;

use super::rig::{self, Rig, until};
use super::running::{Running, SERVES, config};

/// Enough for a command in the container, which counts too, and soon used up.
const MEMORY: i64 = 64 << 20;

/// Waits for the file `/go`.
const WAIT: &str = "until busybox rm /go; do busybox sleep 0.05; done";

/// How long the engine may take to tell of something.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line without end, of which all is kept.
const EAT: &str = "busybox tail /dev/zero";

#[tokio::test]
async fn out_of_memory_takes_out_who_ends_of_it() {
    let running = Running::start(config()).await;
    let rig = &running.rig;
    let child = format!("trap 'exit 0' TERM; {WAIT}; {EAT}; while :; do busybox sleep 1000 & wait; done");
    running.up("child", limited(rig, &child)).await;
    running.up("whole", limited(rig, &format!("{WAIT}; exec {EAT}"))).await;
    running.is("child", SERVES).await;
    running.is("whole", SERVES).await;
    assert_eq!(sorted(running.calls()), ["register child", "register whole"]);

    // Only something in it ends.
    let mut told = Told::of(rig, "child").await;
    told.until("start").await;
    go(rig, "child").await;
    assert_eq!(told.next().await, "change");
    go(rig, "whole").await;
    running.is("whole", None).await;
    let state = rig.inspect("whole").await.state.unwrap();
    assert_eq!((state.oom_killed, state.exit_code), (Some(true), Some(137)));
    assert_eq!(running.calls(), ["deregister whole"]);
    running.is("child", SERVES).await;
    rig.stop("child").await;
    running.is("child", None).await;
    assert_eq!(running.calls(), ["drain child", "deregister child"]);
    running.end().await;
}

#[tokio::test]
async fn other_limits_change_no_instance_and_the_next_life_has_them() {
    let running = Running::start(config()).await;
    let rig = &running.rig;
    running.up("web", limited(rig, &format!("{WAIT}; exit 1"))).await;
    running.is("web", SERVES).await;
    let before = running.instance("web", 80).await.unwrap();
    let mut told = Told::of(rig, "web").await;
    told.until("start").await;
    let always = RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None };
    let update = ContainerUpdateBody {
        memory: Some(2 * MEMORY),
        memory_swap: Some(2 * MEMORY),
        cpu_shares: Some(512),
        restart_policy: Some(always),
        ..ContainerUpdateBody::default()
    };
    rig.docker.update_container(&rig.name("web"), update).await.unwrap();
    assert_eq!(told.next().await, "change");
    assert_eq!(rig.inspect("web").await.host_config.unwrap().memory, Some(2 * MEMORY));
    assert_eq!(running.instance("web", 80).await, Some(before.clone()));

    go(rig, "web").await;
    let first = Some(before.registration.incarnation);
    until("another life", || async { running.life("web").await > first }).await;
    running.is("web", SERVES).await;
    assert_eq!(running.calls(), ["register web", "deregister web", "register web"]);
    running.end().await;
}

/// Runs `script` in so much memory.
fn limited(rig: &Rig, script: &str) -> ContainerCreateBody {
    let sleeper = rig.sleeper();
    let host = sleeper.host_config.unwrap();
    ContainerCreateBody {
        cmd: rig.script(script).cmd,
        host_config: Some(HostConfig { memory: Some(MEMORY), memory_swap: Some(MEMORY), ..host }),
        ..sleeper
    }
}

async fn go(rig: &Rig, name: &str) {
    rig.exec(name, &["/bin/busybox", "touch", "/go"]).await;
}

fn sorted(mut calls: Vec<String>) -> Vec<String> {
    calls.sort();
    calls
}

/// What the engine tells a registrator of one container, from before its start.
struct Told {
    container: ContainerId,
    stream: Box<dyn EventStream>,
}

impl Told {
    async fn of(rig: &Rig, name: &str) -> Self {
        let container = ContainerId::new(rig.inspect(name).await.id.unwrap());
        let engine = Engine::new(Some(&rig::uri()), None).unwrap();
        Self { container, stream: engine.listen(None).await.unwrap().stream }
    }

    async fn next(&mut self) -> String {
        loop {
            let event = timeout(PATIENCE, self.stream.next()).await.expect("the engine tells of it");
            let event = event.unwrap().unwrap();
            if event.container == self.container {
                return event.kind.to_string();
            }
        }
    }

    async fn until(&mut self, kind: &str) {
        while self.next().await != kind {}
    }
}
