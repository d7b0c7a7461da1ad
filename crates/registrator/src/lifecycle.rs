//! The driver. Five loops that share nothing but values: one follows the engine and publishes sights of it, one
//! follows the registry, one runs checks, one looks up this host's
//! address where nobody said it, and one reconciles whenever any of them has news, and once a period.

mod condition;
mod follow;
mod whereabouts;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portolan_model::{Host, Interest, Registry, Reports};
use runtime::{Backoff, Nudge, Reconcile, Reporter, Shutdown, StatusBoard, Step};
use tokio::sync::watch;

use crate::book::Book;
use crate::check::CHECKS_LIMIT;
use crate::check::run::{self, Checks, Runner};
use crate::check::verdict;
use crate::config::Config;
use crate::desired::desired;
use crate::execute::execute;
use crate::plan::{Action, Plan, plan};
use crate::source::ContainerSource;
use crate::world::Sight;
use condition::Condition;
use follow::Follow;
use whereabouts::Whereabouts;

/// Keeps a registry in step with a container source. Made by [`build`], runs until shutdown.
pub struct Registrator {
    config: Config,
    source: Arc<dyn ContainerSource>,
    registry: Arc<dyn Registry>,
    reporter: Reporter,
    nudge: Nudge,
    checks: Checks,
    runner: Runner,
}

/// A registrator that says how it fares on `board`, as `registrator`. Connects to nothing yet.
pub fn build(
    config: Config,
    source: Arc<dyn ContainerSource>,
    registry: Arc<dyn Registry>,
    board: &StatusBoard,
) -> Registrator {
    let nudge = Nudge::default();
    let (checks, runner) = run::build(Arc::clone(&source), nudge.clone());
    Registrator { config, source, registry, reporter: board.reporter("registrator"), nudge, checks, runner }
}

impl Registrator {
    /// Where instances report to, if its config says that they can.
    pub fn reports(&self) -> Option<Arc<dyn Reports>> {
        self.config.reports.then(|| self.checks.reports())
    }

    /// Runs until shutdown. What is registered stays registered: containers outlive whoever watches them.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { config, source, registry, reporter, nudge, checks, runner } = self;
        let condition = Arc::new(Condition::new(reporter, source.location()));
        let (publish, sights) = watch::channel(Arc::default());
        let follow = Follow::new(&config, source, publish, nudge.clone(), Arc::clone(&condition));
        let keeper = Keeper {
            book: Mutex::new(Book::new(config.owner.clone())),
            whereabouts: Whereabouts::new(&config),
            config,
            registry,
            sights,
            checks,
            condition,
        };
        let reconcile = Reconcile {
            period: keeper.config.period,
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
            nudge: nudge.clone(),
        };
        tokio::join!(
            follow.run(shutdown.clone()),
            keeper.listen(&nudge, shutdown.clone()),
            runner.run(shutdown.clone()),
            keeper.whereabouts.run(&nudge, shutdown.clone()),
            reconcile.run(shutdown, || keeper.step()),
        );
        keeper.condition.stopped();
    }
}

/// Keeps the registry's side.
struct Keeper {
    config: Config,
    registry: Arc<dyn Registry>,
    book: Mutex<Book>,
    whereabouts: Whereabouts,
    sights: watch::Receiver<Arc<Sight>>,
    checks: Checks,
    condition: Arc<Condition>,
}

impl Keeper {
    /// Folds what the registry tells into the book.
    async fn listen(&self, nudge: &Nudge, shutdown: Shutdown) {
        let mut subscription = self.registry.subscribe(Interest::All);
        loop {
            let change = tokio::select! {
                biased;
                () = shutdown.triggered() => return,
                change = subscription.next() => change,
            };
            let Some(change) = change else {
                self.condition.registry_unavailable("it has shut down");
                return shutdown.triggered().await;
            };
            if self.book().apply(change) {
                nudge.nudge();
            }
        }
    }

    /// Makes the registry hold what the last sight calls for.
    async fn step(&self) -> Step {
        let sight = Arc::clone(&self.sights.borrow());
        let mut desired = match self.whereabouts.ip() {
            ip if ip == self.config.ip => desired(&sight.seen, &self.config),
            ip => desired(&sight.seen, &Config { ip, ..self.config.clone() }),
        };
        let docket = verdict::judge(&mut desired, &self.checks.verdicts(), &self.book());
        let Some(Plan { actions, conflicts }) = self.plan(&desired, sight.whole) else {
            return Step::Done;
        };
        let checked = docket.to_string();
        self.checks.want(docket.checks, &docket.idle);
        let mut complaints: BTreeSet<String> = desired.problems.iter().map(ToString::to_string).collect();
        complaints
            .extend(sight.unreadable.iter().map(|id| format!("the engine does not describe container {id}")));
        complaints.extend(conflicts.iter().map(ToString::to_string));
        if desired
            .wanted
            .values()
            .any(|wanted| wanted.registration.endpoint.host == Host::Ip(self.whereabouts.ip()))
        {
            complaints.extend(self.whereabouts.complaint());
        }
        if docket.refused > 0 {
            complaints
                .insert(format!("{} checks are too many; the first {CHECKS_LIMIT} run", docket.refused));
        }
        let half = actions.iter().any(Action::is_half);
        let outcome =
            execute(actions, &*self.registry, &self.config.owner, &self.book, self.config.answer_timeout)
                .await;
        complaints.extend(outcome.refused);
        let instances = self.book().mine().count();
        self.condition.reconciled(instances, checked, complaints);
        match outcome.unavailable {
            Some(why) => {
                self.condition.registry_unavailable(&why);
                Step::Again
            }
            None => {
                self.condition.registry_available();
                // What was written here is no news that would begin another step.
                if half && outcome.done > 0 { Step::Again } else { Step::Done }
            }
        }
    }

    /// `None` until the registry has told what it holds.
    fn plan(&self, desired: &crate::desired::Desired, whole: bool) -> Option<Plan> {
        let mut book = self.book();
        let plan = book.is_read().then(|| plan(desired, whole, &book, &self.config))?;
        book.contest(plan.conflicts.iter().map(|conflict| conflict.id.clone()).collect());
        Some(plan)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
