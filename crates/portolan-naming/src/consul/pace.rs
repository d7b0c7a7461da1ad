//! How much of a server's time following may take; pure.
//!
//! Consul answers with all there is at each change, however small, and hundreds of services may change all the time. What
//! one handle reads then is bounded by how long the answers take, so that it leaves a busy server alone for longer, and
//! goes as fast as changes come where answers are quick.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many times what it takes is paid for an answer: on the long run one is under way a third of the time.
const PRICE: f64 = 3.0;
/// How far paying may be behind before somebody has to wait.
const CREDIT: Duration = Duration::from_secs(4);
/// How long changes are gathered at most that come in a crowd: no longer than somebody looks twice.
const GATHERED: Duration = Duration::from_millis(250);
/// The longest wait of one service, however much is owed.
const LONGEST: Duration = Duration::from_secs(15);
/// What an answer weighs beside its body, in bytes.
const HEAD: usize = 8192;
/// The most a byte is said to take, in seconds: a query that waited for news has not worked all that time. Also then a
/// mebibyte a second is read.
const SLOWEST: f64 = 1.0 / 1_048_576.0;
/// How many answers to look back for one that did not wait.
const RECENT: usize = 16;

/// How many changes an answer brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// One at most: whoever waits for the next is told at once.
    Single,
    /// Several. They come faster than they are read, so whoever makes them is held up by each reading.
    Crowd,
}

/// What all followers at one server have taken of its time.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    /// When all that was taken will have been paid for.
    paid: Option<Instant>,
    /// How many seconds a byte took in recent answers.
    recent: VecDeque<f64>,
}

impl Pace {
    /// An answer with a body of so many bytes took so long, or waited for news as well; says when whoever asked may ask
    /// for as much again. There is no credit for what comes in a crowd.
    pub(super) fn spend(&self, size: usize, took: Duration, news: News, now: Instant) -> Instant {
        let mut account = self.lock();
        let weight = (size + HEAD) as f64;
        if account.recent.len() == RECENT {
            account.recent.pop_front();
        }
        account.recent.push_back(took.as_secs_f64() / weight);
        let of_a_byte = account.recent.iter().copied().fold(SLOWEST, f64::min);
        let cost = Duration::from_secs_f64(PRICE * weight * of_a_byte);
        let paid = account.paid.map_or(now, |paid| paid.max(now)) + cost;
        let paid = paid.min(now + CREDIT + LONGEST);
        account.paid = Some(paid);
        let owed = paid - now;
        let beyond_credit = owed.saturating_sub(CREDIT);
        now + match news {
            News::Single => beyond_credit,
            News::Crowd => beyond_credit.max(owed.min(GATHERED)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to leave alone what moves all the time and says nothing new. Consul's list of services moves with every
/// instance, and to answer it looks at all of them.
#[derive(Debug, Default)]
pub(super) struct Restraint(Duration);

impl Restraint {
    const FIRST: Duration = Duration::from_millis(5);
    const MOST: Duration = Duration::from_secs(1);

    /// How long to wait after an answer that was `news` and came after so long.
    pub(super) fn after(&mut self, news: bool, took: Duration) -> Duration {
        self.0 = match news || took >= Self::MOST {
            true => Duration::ZERO,
            false => (self.0 * 2).clamp(Self::FIRST, Self::MOST),
        };
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn quick_answers_are_asked_for_a_third_of_the_time() {
        let (pace, begun) = (Pace::default(), Instant::now());
        let mut now = begun;
        for _ in 0..1000 {
            now = (now + ms(10)).max(pace.spend(MIB, ms(10), News::Single, now + ms(10)));
        }
        let share = ms(10_000).as_secs_f64() / (now - begun).as_secs_f64();
        assert!((0.33..0.4).contains(&share), "{share}");
    }

    #[test]
    fn what_an_answer_waited_for_news_is_not_paid() {
        let (pace, now) = (Pace::default(), Instant::now());
        for _ in 0..RECENT {
            assert_eq!(
                pace.spend(1000, ms(60_000), News::Single, now),
                now,
                "small ones in a row are no burden"
            );
        }
        // One that did not wait tells how long the others take.
        pace.spend(MIB, ms(5), News::Single, now);
        for _ in 1..RECENT {
            assert_eq!(pace.spend(MIB, ms(60_000), News::Single, now), now);
        }
        // It is forgotten; then they are said to take as long as it may be.
        assert_eq!(pace.spend(MIB, ms(60_000), News::Single, now), now);
        let due = pace.spend(MIB, ms(60_000), News::Single, now);
        assert!(due > now + ms(2000) && due <= now + ms(3000), "{:?}", due - now);
    }

    #[test]
    fn a_crowd_is_gathered() {
        let (pace, now) = (Pace::default(), Instant::now());
        let spend = |news| pace.spend(MIB, ms(10), news, now) - now;
        assert_eq!(spend(News::Single), ms(0));
        let due = spend(News::Crowd);
        assert!((ms(60)..ms(61)).contains(&due), "both are paid first: {due:?}");
        (0..20).for_each(|_| assert_eq!(spend(News::Single), ms(0)));
        assert_eq!(spend(News::Crowd), GATHERED, "and no more of what came before");
    }

    #[test]
    fn nobody_waits_longer_than_the_longest_and_debts_are_paid_by_time() {
        let (pace, mut now) = (Pace::default(), Instant::now());
        let mut due = now;
        for _ in 0..100 {
            due = pace.spend(MIB, ms(1000), News::Single, now);
        }
        assert_eq!(due, now + LONGEST);
        now = due + CREDIT;
        assert_eq!(pace.spend(MIB, ms(1000), News::Single, now), now);
    }

    #[test]
    fn a_list_that_only_moves_is_asked_for_less_and_less() {
        let mut restraint = Restraint::default();
        let waits: Vec<_> = (0..10).map(|_| restraint.after(false, Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(restraint.after(true, Duration::ZERO), Duration::ZERO, "news");
        assert_eq!(restraint.after(false, ms(1)), Restraint::FIRST);
        assert_eq!(restraint.after(false, Restraint::MOST), Duration::ZERO, "it moves seldom");
    }
}
