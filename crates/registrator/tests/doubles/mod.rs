//! An engine and a registry that fail on demand, in virtual time.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use portolan_model::{
    Filter, Guard, Instance, InstanceId, Interest, Listing, Pending, Registration, Registry, RegistryError,
    Revision, ServiceName, ServiceView, Subscription,
};
use registrator::container::{
    Binding, Container, ContainerId, EngineTime, ExitCode, Life, NetworkMode, Signal,
};
use registrator::source::{
    ContainerSource, Event, EventKind, EventStream, Exec, Executed, Listening, SourceError, Which,
};
use testkit::memory_registry::MemoryRegistry;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, advance, timeout};

/// A running container named `name` of image `nginx`, `80/tcp` published.
pub fn container(name: &str) -> Container {
    let port = "80/tcp".parse().unwrap();
    Container {
        id: ContainerId::new(format!("{name}-0123456789abcdef")),
        name: name.to_owned(),
        hostname: "0123456789ab".to_owned(),
        image: "nginx".to_owned(),
        env: Vec::new(),
        labels: BTreeMap::new(),
        exposed: BTreeSet::from([port]),
        bindings: BTreeMap::from([(port, vec![Binding { host: None, port: 32768 }])]),
        network_mode: NetworkMode::Bridge,
        networks: BTreeMap::new(),
        life: Life { running: true, paused: false, started_at: EngineTime(0), check: None, exit: None },
        stop_signal: Signal::TERM,
        stop_timeout: Duration::from_secs(10),
    }
}

/// An engine whose events can be lost, whose answers can be held back, and that can go away.
#[derive(Clone, Default)]
pub struct FakeEngine(Arc<Mutex<Engine>>);

#[derive(Default)]
struct Engine {
    containers: BTreeMap<ContainerId, Container>,
    /// What it remembers to have told, and when.
    log: Vec<(Instant, Event)>,
    listeners: Vec<mpsc::UnboundedSender<Result<Event, SourceError>>>,
    clock: u64,
    /// Events get lost.
    silent: bool,
    away: bool,
    /// Reads of these containers wait until there is a permit.
    held: BTreeMap<ContainerId, Arc<Semaphore>>,
    broken: BTreeSet<ContainerId>,
    /// How commands in these containers end; elsewhere they do not.
    ends: BTreeMap<ContainerId, Executed>,
    executed: Vec<(Instant, Exec)>,
    /// Told when commands end otherwise than before, or nobody hears how they do.
    ending: Arc<Notify>,
    pub connections: usize,
}

impl FakeEngine {
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.0.lock().unwrap()
    }

    /// The engine's clock, a tick later.
    pub fn tick(&self) -> u64 {
        let mut engine = self.engine();
        engine.clock += 10;
        engine.clock
    }

    /// Begins a life of `container`, and tells.
    pub fn start(&self, mut container: Container) {
        container.life.running = true;
        container.life.started_at = EngineTime(self.tick());
        let id = container.id.clone();
        self.engine().containers.insert(id.clone(), container);
        self.tell(&id, EventKind::Started, self.tick());
    }

    /// Changes what reads of `name` show, and tells.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Container)) {
        let id = container(name).id;
        change(self.engine().containers.get_mut(&id).unwrap());
        self.tell(&id, EventKind::Changed, self.tick());
    }

    pub fn kill(&self, name: &str, signal: u8) {
        self.tell(&container(name).id, EventKind::Killed(Signal(signal)), self.tick());
    }

    /// Has sent a signal so long ago.
    pub fn killed(&self, name: &str, signal: u8, age: Duration) {
        let kind = EventKind::Killed(Signal(signal));
        let event = Event { container: container(name).id, kind, at: EngineTime(self.tick()), age };
        self.engine().log.push((Instant::now(), event));
    }

    /// Ends a life, and tells.
    pub fn die(&self, name: &str) {
        let id = container(name).id;
        self.engine().containers.get_mut(&id).unwrap().life.running = false;
        self.tell(&id, EventKind::Died(None), self.tick());
    }

    /// Ends a life by itself with this exit code, and tells.
    pub fn exit(&self, name: &str, code: i64) {
        let id = container(name).id;
        let exit = Some(ExitCode(code));
        let mut engine = self.engine();
        let found = engine.containers.get_mut(&id).unwrap();
        (found.life.running, found.life.exit) = (false, exit);
        // What an engine forgets at the end.
        found.bindings.values_mut().for_each(Vec::clear);
        drop(engine);
        self.tell(&id, EventKind::Died(exit), self.tick());
    }

    pub fn destroy(&self, name: &str) {
        let id = container(name).id;
        self.engine().containers.remove(&id);
        self.tell(&id, EventKind::Changed, self.tick());
    }

    /// Says that something happened, whether or not it did.
    pub fn tell(&self, id: &ContainerId, kind: EventKind, at: u64) {
        let mut engine = self.engine();
        if !engine.silent {
            let event = Event { container: id.clone(), kind, at: EngineTime(at), age: Duration::ZERO };
            engine.log.push((Instant::now(), event.clone()));
            engine.listeners.retain(|listener| listener.send(Ok(event.clone())).is_ok());
        }
    }

    pub fn lose_events(&self, lose: bool) {
        self.engine().silent = lose;
    }

    /// Goes away, or comes back; listeners are cut off.
    pub fn away(&self, away: bool) {
        let mut engine = self.engine();
        engine.away = away;
        engine.listeners.clear();
        engine.ending.notify_waiters();
    }

    /// Answers no read of `name` until permits are added to what this returns.
    pub fn hold(&self, name: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.engine().held.insert(container(name).id, Arc::clone(&gate));
        gate
    }

    /// Fails reads of `name`, or no longer.
    pub fn break_reads(&self, name: &str, broken: bool) {
        let id = container(name).id;
        let mut engine = self.engine();
        if broken {
            engine.broken.insert(id)
        } else {
            engine.broken.remove(&id)
        };
    }

    /// Lets commands in `name` end so from now on, or not at all.
    pub fn commands(&self, name: &str, end: Option<(i64, &str)>) {
        let id = container(name).id;
        let mut engine = self.engine();
        match end {
            Some((code, output)) => _ = engine.ends.insert(id, Executed { code, output: output.into() }),
            None => _ = engine.ends.remove(&id),
        }
        engine.ending.notify_waiters();
    }

    /// The commands that were begun since this was asked last, and when.
    pub fn executed(&self) -> Vec<(Instant, Exec)> {
        std::mem::take(&mut self.engine().executed)
    }

    pub fn connections(&self) -> usize {
        self.engine().connections
    }

    fn reach(&self) -> Result<MutexGuard<'_, Engine>, SourceError> {
        let engine = self.engine();
        if engine.away { Err(SourceError("nobody there".to_owned())) } else { Ok(engine) }
    }
}

impl ContainerSource for FakeEngine {
    fn location(&self) -> String {
        "fake://engine".to_owned()
    }

    fn listen(&self, since: Option<EngineTime>) -> Pending<'_, Result<Listening, SourceError>> {
        Box::pin(async move {
            let mut engine = self.reach()?;
            let (tell, hear) = mpsc::unbounded_channel();
            let past: Vec<Event> = engine
                .log
                .iter()
                .filter(|(_, event)| since.is_none_or(|since| event.at >= since))
                .map(|(told, event)| Event { age: event.age + told.elapsed(), ..event.clone() })
                .collect();
            // Told once more by the stream, as real engines do.
            past.iter().for_each(|event| tell.send(Ok(event.clone())).unwrap());
            engine.listeners.push(tell);
            engine.connections += 1;
            Ok(Listening { past, stream: Box::new(Events(hear)) })
        })
    }

    fn list(&self, which: Which) -> Pending<'_, Result<Vec<ContainerId>, SourceError>> {
        Box::pin(async move {
            let engine = self.reach()?;
            Ok(engine
                .containers
                .values()
                .filter(|c| c.life.running || which == Which::All)
                .map(|c| c.id.clone())
                .collect())
        })
    }

    fn inspect(&self, id: ContainerId) -> Pending<'_, Result<Option<Container>, SourceError>> {
        Box::pin(async move {
            let gate = self.reach()?.held.get(&id).cloned();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            let engine = self.reach()?;
            if engine.broken.contains(&id) {
                return Err(SourceError("cannot say".to_owned()));
            }
            Ok(engine.containers.get(&id).cloned())
        })
    }

    fn exec(&self, id: ContainerId, exec: Exec) -> Pending<'_, Result<Executed, SourceError>> {
        Box::pin(async move {
            self.reach()?.executed.push((Instant::now(), exec));
            loop {
                let ending = {
                    let engine = self.reach()?;
                    if let Some(end) = engine.ends.get(&id) {
                        return Ok(end.clone());
                    }
                    Arc::clone(&engine.ending).notified_owned()
                };
                ending.await;
            }
        })
    }
}

struct Events(mpsc::UnboundedReceiver<Result<Event, SourceError>>);

impl EventStream for Events {
    fn next(&mut self) -> Pending<'_, Option<Result<Event, SourceError>>> {
        Box::pin(self.0.recv())
    }
}

/// A registry that writes down what it is told, and can be out of order.
#[derive(Clone, Default)]
pub struct Recorder {
    pub inner: MemoryRegistry,
    pub down: Arc<AtomicBool>,
    calls: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Recorder {
    fn note(&self, call: String) -> Result<(), RegistryError> {
        if self.down.load(SeqCst) {
            return Err(RegistryError::Unavailable("out of order".into()));
        }
        self.calls.lock().unwrap().push((Instant::now(), call));
        Ok(())
    }

    /// What was written since this was asked last.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap()).into_iter().map(|(_, call)| call).collect()
    }

    /// When `call` was written first.
    pub fn first(&self, call: &str) -> Option<Instant> {
        self.calls.lock().unwrap().iter().find(|(_, made)| made == call).map(|(at, _)| *at)
    }

    /// Everything in the book.
    pub async fn instances(&self) -> Vec<Arc<Instance>> {
        self.inner.list().await.unwrap().services.into_values().flatten().collect()
    }

    /// The same: `id health phase`.
    pub async fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .instances()
            .await
            .iter()
            .map(|i| format!("{} {} {}", i.id(), i.registration.health, i.phase))
            .collect();
        lines.sort();
        lines
    }
}

impl Registry for Recorder {
    fn register(&self, registration: Registration) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(async move {
            self.note(format!("register {}", registration.id))?;
            self.inner.register(registration).await
        })
    }

    fn drain(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(async move {
            self.note(format!("drain {id}"))?;
            self.inner.drain(id, guard).await
        })
    }

    fn deregister(&self, id: InstanceId, guard: Guard) -> Pending<'_, Result<Revision, RegistryError>> {
        Box::pin(async move {
            self.note(format!("deregister {id}"))?;
            self.inner.deregister(id, guard).await
        })
    }

    fn find(&self, service: ServiceName, filter: Filter) -> Pending<'_, Result<ServiceView, RegistryError>> {
        self.inner.find(service, filter)
    }

    fn list(&self) -> Pending<'_, Result<Listing, RegistryError>> {
        self.inner.list()
    }

    fn subscribe(&self, interest: Interest) -> Subscription {
        self.inner.subscribe(interest)
    }
}

/// Lets virtual time pass; panics when time is real.
pub async fn pass(time: Duration) {
    advance(Duration::ZERO).await;
    let _ = timeout(time, std::future::pending::<()>()).await;
}

/// Waits until the registry holds just this, and says how long that took.
#[track_caller]
pub fn holds(registry: &Recorder, expect: &[&str]) -> impl Future<Output = Duration> {
    let from = std::panic::Location::caller();
    let (registry, expect) = (registry.clone(), expect.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
    async move {
        let begun = Instant::now();
        let mut changes = registry.subscribe(Interest::All);
        loop {
            let lines = registry.lines().await;
            if lines == expect {
                return begun.elapsed();
            }
            let left = Duration::from_secs(120).saturating_sub(begun.elapsed());
            let change = timeout(left, changes.next()).await;
            assert!(matches!(change, Ok(Some(_))), "{from}: {lines:?} and not {expect:?}");
        }
    }
}
