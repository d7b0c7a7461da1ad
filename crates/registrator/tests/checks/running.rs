//! A registrator of one test.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Health, InstanceId, Reported, Reports};
use registrator::container::Container;
use registrator::{Config, ContainerSource};
use runtime::{Report, Shutdown, ShutdownTrigger, StatusBoard, Tasks};

use super::doubles::{FakeEngine, Recorder, holds};

pub(crate) struct Running {
    /// The double, where it follows one.
    pub(crate) engine: FakeEngine,
    pub(crate) registry: Recorder,
    reports: Arc<dyn Reports>,
    board: StatusBoard,
    tasks: Tasks,
    trigger: ShutdownTrigger,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(FakeEngine::default(), Recorder::default())
    }

    pub(crate) fn with(engine: FakeEngine, registry: Recorder) -> Self {
        Self { engine: engine.clone(), ..Self::of(Arc::new(engine), registry) }
    }

    pub(crate) fn of(source: Arc<dyn ContainerSource>, registry: Recorder) -> Self {
        let board = StatusBoard::default();
        let tasks = Tasks::new(board.clone());
        let (trigger, shutdown) = Shutdown::new();
        let config = Config { reports: true, ..Config::new("H").unwrap() };
        let registrator = registrator::build(config, source, Arc::new(registry.clone()), &board);
        let reports = registrator.reports().unwrap();
        tasks.spawn("registrator", registrator.run(shutdown));
        Self { engine: FakeEngine::default(), registry, reports, board, tasks, trigger }
    }

    #[track_caller]
    pub(crate) fn holds(&self, expect: &[&str]) -> impl Future<Output = Duration> {
        holds(&self.registry, expect)
    }

    /// The health of the only instance, if there is one.
    pub(crate) async fn health(&self) -> Option<Health> {
        self.registry.instances().await.first().map(|instance| instance.registration.health)
    }

    /// The instance of port 80 of container `name` says how it fares.
    pub(crate) fn says(&self, name: &str, health: Health, note: &str) -> Reported {
        let id = InstanceId::new(format!("H:{name}:80")).unwrap();
        self.reports.report(&id, portolan_model::Report { health, note: note.to_owned() })
    }

    pub(crate) fn report(&self) -> Report {
        self.board.snapshot()["registrator"].clone()
    }

    pub(crate) async fn stop(self) {
        self.trigger.trigger();
        assert_eq!(self.tasks.finish(Duration::from_secs(30)).await, Ok(()));
    }
}

/// The container that asks for what these lines say.
pub(crate) fn asking(name: &str, env: &[&str]) -> Container {
    let env = env.iter().map(|line| (*line).to_owned()).collect();
    Container { env, ..super::doubles::container(name) }
}
