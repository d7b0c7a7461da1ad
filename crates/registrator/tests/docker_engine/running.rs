//! A registrator that follows a real engine, and what it made of it.

use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use portolan_model::{Health, Incarnation, Instance, Phase};
use registrator::Config;
use registrator::docker::Engine;
use runtime::{Report, Shutdown, ShutdownTrigger, State, StatusBoard, Tasks};

use super::doubles::Recorder;
use super::rig::{self, Rig, until};

pub(crate) const SERVES: Option<(Health, Phase)> = Some((Health::Passing, Phase::Adult));

/// So long that only events can be the reason for what is seen.
pub(crate) fn config() -> Config {
    Config { period: Duration::from_secs(3600), ..Config::new("H").unwrap() }
}

/// A registrator that follows the test engine. Others use that engine too: only what belongs to the rig counts.
pub(crate) struct Running {
    pub(crate) rig: Rig,
    registry: Recorder,
    board: StatusBoard,
    pub(crate) tasks: Tasks,
    pub(crate) trigger: ShutdownTrigger,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let running = Self::at(Rig::new().await, &rig::uri(), config);
        running.reaches(State::Running).await;
        running
    }

    pub(crate) fn at(rig: Rig, uri: &str, config: Config) -> Self {
        Self::of(rig, Engine::new(Some(uri), None).unwrap(), config)
    }

    pub(crate) fn of(rig: Rig, engine: Engine, config: Config) -> Self {
        let (registry, board) = (Recorder::default(), StatusBoard::default());
        let tasks = Tasks::new(board.clone());
        let (trigger, shutdown) = Shutdown::new();
        let registrator = registrator::build(config, Arc::new(engine), Arc::new(registry.clone()), &board);
        tasks.spawn("registrator", registrator.run(shutdown));
        Self { rig, registry, board, tasks, trigger }
    }

    pub(crate) async fn up(&self, name: &str, body: ContainerCreateBody) {
        self.rig.create(name, body).await;
        self.rig.start(name).await;
    }

    /// The instance of port 80 (or another) of container `name`.
    pub(crate) async fn instance(&self, name: &str, port: u16) -> Option<Arc<Instance>> {
        let id = format!("H:{}:{port}", self.rig.name(name));
        self.registry.instances().await.into_iter().find(|instance| instance.id().as_str() == id)
    }

    pub(crate) async fn is(&self, name: &str, expect: Option<(Health, Phase)>) {
        let what = format!("{name} is {expect:?}");
        let found = || async { self.instance(name, 80).await.map(|i| (i.registration.health, i.phase)) };
        until(&what, || async { found().await == expect }).await;
    }

    pub(crate) async fn life(&self, name: &str) -> Option<Incarnation> {
        self.instance(name, 80).await.map(|instance| instance.registration.incarnation)
    }

    pub(crate) fn report(&self) -> Report {
        self.board.snapshot()["registrator"].clone()
    }

    pub(crate) async fn reaches(&self, state: State) {
        until(&format!("{state:?}"), || async { self.report().state == state }).await;
    }

    /// Writes about containers of this test since the last time: the verb and the container's short name.
    pub(crate) fn calls(&self) -> Vec<String> {
        let prefix = format!("H:{}-", self.rig.prefix);
        let own = |call: String| {
            let (verb, id) = call.split_once(' ')?;
            Some(format!("{verb} {}", id.strip_prefix(&prefix)?.strip_suffix(":80")?))
        };
        self.registry.calls().into_iter().filter_map(own).collect()
    }

    /// The engine says `die` before it takes another start.
    pub(crate) async fn starts_again(&self, name: &str) {
        let state = || async { self.rig.inspect(name).await.state.unwrap() };
        until("it has ended", || async { state().await.running == Some(false) }).await;
        self.rig.start(name).await;
    }

    pub(crate) async fn end(self) {
        self.trigger.trigger();
        assert_eq!(self.tasks.finish(Duration::from_secs(30)).await, Ok(()));
    }
}
