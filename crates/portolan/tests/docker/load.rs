//! Requests at a fixed rate, whether or not the ones before are answered, and an account of every one of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::wire::Client;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::process::until;

/// One request every so often: 500 a second.
const PACE: Duration = Duration::from_millis(2);

/// How many may be without an answer at once; one more is a failure.
const UNANSWERED_LIMIT: usize = 1000;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A load that goes on until it is ended.
pub(crate) struct Load {
    told: Arc<Told>,
    worker: JoinHandle<Duration>,
}

/// What the load and its owner share.
struct Told {
    gateway: String,
    service: String,
    ends: AtomicBool,
    idle: Mutex<Vec<Client>>,
    sent: Mutex<Vec<Sent>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Get,
    Post,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) from: Instant,
    pub(crate) until: Instant,
    /// Who answered, or what went wrong.
    pub(crate) outcome: Result<String, String>,
}

/// All requests of a load.
pub(crate) struct Account {
    pub(crate) sent: Vec<Sent>,
    lasted: Duration,
}

struct Request {
    method: Method,
    text: String,
    expect: String,
    /// On a connection of its own.
    alone: bool,
}

impl Load {
    pub(crate) fn start(gateway: &str, service: &str) -> Self {
        let told = Arc::new(Told {
            gateway: gateway.strip_prefix("http://").unwrap().to_owned(),
            service: service.to_owned(),
            ends: AtomicBool::new(false),
            idle: Mutex::default(),
            sent: Mutex::default(),
        });
        let theirs = Arc::clone(&told);
        let worker = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(theirs))
        });
        Self { told, worker }
    }

    /// Waits until `instance` answers a request that begins from now on.
    #[track_caller]
    pub(crate) fn is_answered_by(&self, instance: &str) {
        let now = Instant::now();
        let answers = |sent: &Sent| sent.from > now && sent.outcome.as_deref() == Ok(instance);
        until(&format!("{instance} answers"), || {
            self.told.sent.lock().unwrap().iter().rev().any(answers).then_some(())
        });
    }

    /// Stops sending and waits for the answers that are due.
    pub(crate) fn end(self) -> Account {
        self.told.ends.store(true, Ordering::Relaxed);
        let lasted = self.worker.join().unwrap();
        let sent = std::mem::take(&mut *self.told.sent.lock().unwrap());
        Account { sent, lasted }
    }
}

async fn run(told: Arc<Told>) -> Duration {
    let room = Arc::new(Semaphore::new(UNANSWERED_LIMIT));
    let begun = Instant::now();
    let mut pace = interval(PACE);
    // What was missed is made up for: the rate does not depend on the answers.
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0u64.. {
        pace.tick().await;
        if told.ends.load(Ordering::Relaxed) {
            break;
        }
        let request = Request::new(number, &told.service);
        let from = Instant::now();
        match Arc::clone(&room).try_acquire_owned() {
            Err(_) => told.note(request.method, from, Err("too many unanswered requests".to_owned())),
            Ok(place) => {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let outcome = timeout(PATIENCE, told.exchange(&request)).await;
                    let outcome = outcome.unwrap_or_else(|_| Err("no answer in time".to_owned()));
                    told.note(request.method, from, outcome);
                    drop(place);
                });
            }
        }
    }
    let lasted = begun.elapsed();
    let _all = room.acquire_many(u32::try_from(UNANSWERED_LIMIT).unwrap()).await.unwrap();
    lasted
}

impl Told {
    fn note(&self, method: Method, from: Instant, outcome: Result<String, String>) {
        self.sent.lock().unwrap().push(Sent { method, from, until: Instant::now(), outcome });
    }

    async fn exchange(&self, request: &Request) -> Result<String, String> {
        let kept = if request.alone { None } else { self.idle.lock().unwrap().pop() };
        let mut client = match kept {
            Some(client) => client,
            None => Client::connect(&self.gateway).await.map_err(|error| format!("connect: {error}"))?,
        };
        let answer = client.ask(&request.text).await.map_err(|error| format!("broken: {error}"))?;
        if !request.alone {
            self.idle.lock().unwrap().push(client);
        }
        if answer.status() != 200 {
            let cause = answer.header("x-portolan-cause").unwrap_or("?");
            return Err(format!("{} {cause}", answer.status()));
        }
        let (expect, got) = (&request.expect, answer.text());
        if got != *expect {
            return Err(format!("{got:?} instead of {expect:?}"));
        }
        Ok(answer.header("x-instance").unwrap_or("?").to_owned())
    }
}

impl Request {
    /// A quarter are POSTs, a quarter take 20 ms, a fifth come on a connection of their own.
    fn new(number: u64, service: &str) -> Self {
        let alone = number.is_multiple_of(5);
        let last = if alone { "connection: close\r\n" } else { "" };
        let ask = |line: &str, rest: &str| format!("{line} HTTP/1.1\r\nhost: gw\r\n{last}{rest}");
        let (method, text, expect) = match number % 4 {
            0 => {
                let body = format!("order {number}");
                let rest = format!("content-length: {}\r\n\r\n{body}", body.len());
                (Method::Post, ask(&format!("POST /{service}/echo/body"), &rest), body)
            }
            1 => {
                let slow = format!("GET /{service}/slow?ms=20");
                (Method::Get, ask(&slow, "\r\n"), "That took 20 ms.\n".to_owned())
            }
            _ => {
                let user = format!("GET /{service}/user?id={number}");
                (Method::Get, ask(&user, "\r\n"), format!("It's user {number}.\n"))
            }
        };
        Self { method, text, expect, alone }
    }
}

impl Account {
    /// What went wrong, how often.
    pub(crate) fn failures(&self, method: Method) -> BTreeMap<&str, usize> {
        let mut failures = BTreeMap::new();
        for sent in self.sent.iter().filter(|sent| sent.method == method) {
            if let Err(why) = &sent.outcome {
                *failures.entry(why.as_str()).or_default() += 1;
            }
        }
        failures
    }

    /// How many requests there were.
    pub(crate) fn count(&self, method: Method) -> usize {
        self.sent.iter().filter(|sent| sent.method == method).count()
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.sent.len() as f64 / self.lasted.as_secs_f64()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times: Vec<Duration> = self.sent.iter().map(|sent| sent.until - sent.from).collect();
        times.sort_unstable();
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).or(times.last()).copied();
        write!(f, "{:.0} requests/s for {:.1} s", self.rate(), self.lasted.as_secs_f64())?;
        for method in [Method::Get, Method::Post] {
            let (count, failures) = (self.count(method), self.failures(method));
            write!(f, "; {method:?}: {count}, failed: {} {failures:?}", failures.values().sum::<usize>())?;
        }
        let [middle, high, top] =
            [0.5, 0.99, 1.0].map(|share| at(share).unwrap_or_default().as_secs_f64() * 1e3);
        write!(f, "; answered in p50 {middle:.1} ms, p99 {high:.1} ms, max {top:.1} ms")
    }
}
