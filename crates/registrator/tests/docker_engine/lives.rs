//! What becomes of containers, from their start to their removal.

use std::sync::Arc;

use bollard::models::{ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use portolan_model::{Health, Instance, Phase};
use registrator::Config;

use super::rig::{self, Rig, until};
use super::running::{Running, SERVES, config};

#[tokio::test]
async fn start_stop_restart_kill_remove() {
    let running = Running::start(config()).await;
    let rig = &running.rig;
    running
        .up(
            "web",
            ContainerCreateBody {
                env: Some(vec!["PATH=/bin".into(), "SERVICE_NAME=shop".into(), "SERVICE_COLOUR=red".into()]),
                ..rig.sleeper()
            },
        )
        .await;
    running.is("web", SERVES).await;
    let instance = running.instance("web", 80).await.unwrap();
    assert_eq!(instance.service().as_str(), "shop");
    assert_eq!(instance.endpoint().to_string(), format!("127.0.0.1:{}", rig.published("web").await));
    assert_eq!(instance.registration.meta["colour"], "red");

    let first = running.life("web").await;
    rig.restart("web").await;
    until("another life", || async { running.life("web").await > first }).await;
    running.is("web", SERVES).await;
    rig.stop("web").await;
    running.is("web", None).await;
    assert_eq!(
        running.calls(),
        ["register web", "drain web", "deregister web", "register web", "drain web", "deregister web"]
    );
    rig.start("web").await;
    running.is("web", SERVES).await;
    rig.kill("web", "SIGKILL").await;
    running.is("web", None).await;
    rig.start("web").await;
    running.is("web", SERVES).await;
    rig.remove("web").await;
    running.is("web", None).await;
    running.end().await;
}

#[tokio::test]
async fn only_signals_that_end_a_container_drain_it() {
    let running = Running::start(config()).await;
    let rig = &running.rig;
    let quits =
        "trap '' HUP; trap 'busybox sleep 0.3; exit' USR1; while :; do busybox sleep 1000 & wait; done";
    let body = ContainerCreateBody {
        cmd: Some(["/bin/sh", "-c", quits].map(str::to_owned).into()),
        stop_signal: Some("SIGUSR1".into()),
        ..rig.sleeper()
    };
    running.up("web", body).await;
    running.is("web", SERVES).await;
    rig.kill("web", "SIGHUP").await;
    rig.kill("web", "SIGUSR1").await;
    running.is("web", None).await;
    assert_eq!(running.calls(), ["register web", "drain web", "deregister web"]);
    running.end().await;
}

#[tokio::test]
async fn health_checks_gate_and_take_out() {
    let running = Running::start(config()).await;
    let rig = &running.rig;
    running.up("web", rig.checked()).await;
    // A sibling without a check is registered while this one waits.
    running.up("sibling", rig.sleeper()).await;
    running.is("sibling", SERVES).await;
    assert_eq!(running.calls(), ["register sibling"]);
    rig.exec("web", &["/bin/busybox", "touch", "/well"]).await;
    running.is("web", SERVES).await;
    rig.exec("web", &["/bin/busybox", "rm", "/well"]).await;
    running.is("web", Some((Health::Critical, Phase::Adult))).await;
    rig.exec("web", &["/bin/busybox", "touch", "/well"]).await;
    running.is("web", SERVES).await;
    running.end().await;
}

#[tokio::test]
async fn pause_rename_and_networks() {
    let running = Running::start(Config { internal: true, ..config() }).await;
    let rig = &running.rig;
    running.up("web", rig.sleeper()).await;
    running.is("web", SERVES).await;
    let address = |instance: Option<Arc<Instance>>| instance.unwrap().endpoint().to_string();
    let own =
        rig.inspect("web").await.network_settings.unwrap().networks.unwrap()["bridge"].ip_address.clone();
    assert_eq!(address(running.instance("web", 80).await), format!("{}:80", own.unwrap()));

    rig.docker.pause_container(&rig.name("web")).await.unwrap();
    running.is("web", Some((Health::Maintenance, Phase::Adult))).await;
    rig.docker.unpause_container(&rig.name("web")).await.unwrap();
    running.is("web", SERVES).await;
    rig.leave_bridge("web").await;
    running.is("web", None).await;
    rig.join_bridge("web").await;
    running.is("web", SERVES).await;
    rig.rename("web", "shop").await;
    running.is("shop", SERVES).await;
    running.is("web", None).await;
    running.end().await;
}

#[tokio::test]
async fn host_network_registers_what_is_exposed() {
    let running = Running::start(config()).await;
    let rig = &running.rig;
    let body = ContainerCreateBody {
        host_config: Some(HostConfig { network_mode: Some("host".into()), ..HostConfig::default() }),
        exposed_ports: Some(vec!["80/tcp".into()]),
        ..rig.sleeper()
    };
    running.up("web", body).await;
    running.is("web", SERVES).await;
    let instance = running.instance("web", 80).await.unwrap();
    assert_eq!(instance.endpoint().to_string(), "127.0.0.1:80");
    running.end().await;
}

#[tokio::test]
async fn a_restart_policy_makes_a_new_life_and_its_pause_is_no_life() {
    let running = Running::start(config()).await;
    let rig = &running.rig;
    let mut body = ContainerCreateBody {
        cmd: Some(
            ["/bin/sh", "-c", "until busybox rm /end; do busybox sleep 0.05; done; exit 1"]
                .map(str::to_owned)
                .into(),
        ),
        ..rig.sleeper()
    };
    if let Some(host) = body.host_config.as_mut() {
        let name = Some(RestartPolicyNameEnum::ALWAYS);
        host.restart_policy = Some(RestartPolicy { name, maximum_retry_count: None });
    }
    running.up("web", body).await;
    running.is("web", SERVES).await;
    let first = running.life("web").await;
    rig.exec("web", &["/bin/busybox", "touch", "/end"]).await;
    until("another life", || async { running.life("web").await > first }).await;
    assert_eq!(running.calls(), ["register web", "deregister web", "register web"]);
    running.end().await;
}

#[tokio::test]
async fn what_failed_stays_as_critical_until_it_is_removed() {
    let config = Config { deregister: registrator::Deregister::OnSuccess, ..config() };
    let running = Running::start(config).await;
    let rig = &running.rig;
    for (name, code) in [("bad", 1), ("well", 0)] {
        let script = format!("until busybox rm /end; do busybox sleep 0.05; done; exit {code}");
        let cmd = ["/bin/sh".to_owned(), "-c".to_owned(), script];
        running.up(name, ContainerCreateBody { cmd: Some(cmd.into()), ..rig.sleeper() }).await;
        running.is(name, SERVES).await;
        rig.exec(name, &["/bin/busybox", "touch", "/end"]).await;
    }
    running.is("bad", Some((Health::Critical, Phase::Adult))).await;
    running.is("well", None).await;
    running.starts_again("bad").await;
    running.is("bad", SERVES).await;
    rig.kill("bad", "SIGKILL").await;
    running.is("bad", None).await;
    running.starts_again("bad").await;
    running.is("bad", SERVES).await;
    rig.exec("bad", &["/bin/busybox", "touch", "/end"]).await;
    running.is("bad", Some((Health::Critical, Phase::Adult))).await;
    rig.remove("bad").await;
    running.is("bad", None).await;
    running.end().await;
}

#[tokio::test]
async fn finds_what_ran_before_it_and_the_stop_under_way() {
    let rig = Rig::new().await;
    let slow = "trap 'busybox sleep 1' TERM; busybox sleep 1000 & wait";
    let body =
        ContainerCreateBody { cmd: Some(["/bin/sh", "-c", slow].map(str::to_owned).into()), ..rig.sleeper() };
    for name in ["web", "ending"] {
        rig.create(name, body.clone()).await;
        rig.start(name).await;
    }
    rig.kill("ending", "TERM").await;
    let running = Running::at(rig, &rig::uri(), config());
    running.is("web", SERVES).await;
    until("it ended", || async { running.rig.inspect("ending").await.state.unwrap().running == Some(false) })
        .await;
    assert_eq!(running.calls(), ["register web"], "what is about to end is not registered");
    running.end().await;
}
