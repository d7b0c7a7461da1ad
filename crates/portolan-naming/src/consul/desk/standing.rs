//! How the home stands with the cluster.
//!
//! An agent can live, reach a leader, take what it is told, and be held to have failed all the same: Consul's servers
//! learn by gossip who is back, which takes up to half a minute after they were parted, and may never come where only
//! gossip is cut off. What is registered with such an agent is critical for all who read, so another is better, as soon as
//! it has lasted about as long as moving takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::row::Row;
use super::{At, Desk, Home};

/// How long the home may be held to have failed, at least; and for each instance that is registered there.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_FOR_EACH: Duration = Duration::from_millis(5);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Since when the home is held to have failed; or when it was last found that no other would be better.
    failed: Option<Instant>,
}

impl Desk {
    /// Rows were read: all of a node's say the same of it.
    pub(super) fn judge_home(&mut self, rows: &[Arc<Row>], now: Instant) {
        let Some(home) = &self.home else { return };
        let Some(row) = rows.iter().find(|row| row.node == home.node) else { return };
        self.standing.failed = match row.reachable {
            true => None,
            false => self.standing.failed.or(Some(now)),
        };
    }

    /// When to look for a [better home](Self::better_home).
    pub(in super::super) fn doubts_home_at(&self) -> Option<Instant> {
        let held = u32::try_from(self.wanted.len()).unwrap_or(u32::MAX);
        let each = PATIENCE_FOR_EACH.checked_mul(held).unwrap_or(Duration::MAX);
        self.standing.failed?.checked_add(PATIENCE.max(each))
    }

    /// Another agent to register with, if the cluster has held the home to have failed for long enough, and that one not.
    pub(in super::super) fn better_home(&mut self, now: Instant) -> Option<At> {
        self.doubts_home_at().filter(|due| *due <= now)?;
        let Home { at: home, .. } = self.home.as_ref()?;
        let others = self.agents.iter().filter(|(_, at)| *at != home && !self.away.contains(at));
        let better = others.filter(|(node, _)| self.book.holds_alive(node)).map(|(_, at)| *at).next();
        self.standing.failed = Some(now);
        better
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portolan_model::ServiceName;

    use super::super::super::row::Row;
    use super::super::tests::{registered, row};
    use super::*;

    #[test]
    fn a_home_that_is_held_to_have_failed_is_left_for_one_that_is_not() {
        let (s, service) = (Duration::from_secs, ServiceName::new("consul").unwrap());
        let mut stage = registered();
        let failed = |index| Row { reachable: false, ..row("n", false, index) };
        assert_eq!(stage.desk.doubts_home_at(), None);
        stage.read(6, vec![failed(6)]);
        assert_eq!(stage.desk.doubts_home_at(), Some(stage.now + s(1)));
        assert_eq!(stage.desk.better_home(stage.now), None, "too early");
        stage.now += s(1);
        assert_eq!(stage.desk.better_home(stage.now), None, "nothing is known of the other");
        assert_eq!(stage.desk.doubts_home_at(), Some(stage.now + s(1)), "looked at again later");

        let server = |reachable| {
            let mut row = Row { reachable, ..row("m", false, 7) };
            (row.service_id, row.registration.service) = ("consul".to_owned(), service.clone());
            row.registration.id = "m:consul".parse().unwrap();
            vec![Arc::new(row)]
        };
        stage.now += s(1);
        stage.desk.take(&service, server(false), 7, stage.now);
        assert_eq!(stage.desk.better_home(stage.now), None, "the other has failed as well");
        stage.now += s(1);
        stage.desk.take(&service, server(true), 8, stage.now);
        assert_eq!(stage.desk.better_home(stage.now), Some(1));

        stage.now += s(1);
        stage.read(9, vec![row("n", false, 9)]);
        assert_eq!(
            (stage.desk.doubts_home_at(), stage.desk.better_home(stage.now)),
            (None, None),
            "it is back"
        );
        stage.read(10, vec![failed(10)]);
        stage.desk.settle(Home { at: 1, node: "m".to_owned(), foreign: None });
        assert_eq!(stage.desk.doubts_home_at(), None, "that was another");
    }
}
