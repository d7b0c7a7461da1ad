//! What `SERVICE_CHECK_*` asks for, sentence by sentence, and what results amount to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Change, Health, Instance, InstanceId, Phase, Registration, Revision};

use super::judge::{Judge, Rhythm, Silence};
use super::spec::{Probe, Spec, Trust};
use super::verdict::judge;
use super::{Check, Verdict, Verdicts};
use crate::book::Book;
use crate::container::{Container, NetworkMode};
use crate::desired::desired;
use crate::desired::tests::{config, container, lines, registration, seen};
use crate::world::Standing;

fn shown(check: &Check) -> String {
    let Spec { probe, interval, timeout, initial, deregister_after, passing_after, critical_after } =
        &check.spec;
    let tls = |tls: &Option<Trust>| match tls {
        None => "",
        Some(Trust::System) => " tls",
        Some(Trust::Anybody) => " tls unverified",
    };
    let mut line = match probe {
        Probe::Http { method, path, tls: how } => format!("http {method} {path}{}", tls(how)),
        Probe::Tcp => "tcp".to_owned(),
        Probe::Grpc { tls: how } => format!("grpc{}", tls(how)),
        Probe::Reports { .. } => "reports".to_owned(),
        Probe::Command { script } => format!("command {script:?} with {}", check.inside),
    };
    line += &format!(" every {interval:?} within {timeout:?}");
    if *initial != Health::Critical {
        line += &format!(" first {initial}");
    }
    if let Some(after) = deregister_after {
        line += &format!(" gone after {after:?}");
    }
    if (*passing_after, *critical_after) != (1, 1) {
        line += &format!(" {passing_after} pass {critical_after} fail");
    }
    line
}

/// What is asked of each instance of `container`, and the problems.
fn asked(container: Container) -> Vec<String> {
    let desired = desired(&[seen(container, Standing::Serving)], &config());
    let checks = desired.wanted.values().filter_map(|wanted| wanted.check.as_ref().map(shown));
    checks.chain(desired.problems.iter().map(|problem| problem.kind.to_string())).collect()
}

#[track_caller]
fn check(env: &[&str], expect: &[&str]) {
    assert_eq!(asked(container("web").env(env)), expect);
}

#[test]
fn what_is_asked() {
    check(&[], &[]);
    check(&["SERVICE_CHECK_HTTP=/h"], &["http GET /h every 10s within 10s"]);
    check(&["SERVICE_CHECK_HTTP=h?a=b"], &["http GET /h?a=b every 10s within 10s"]);
    check(
        &["SERVICE_CHECK_HTTP=/h", "SERVICE_CHECK_HTTP_METHOD=head", "SERVICE_CHECK_TIMEOUT=1s"],
        &["http HEAD /h every 10s within 1s"],
    );
    check(
        &["SERVICE_CHECK_HTTPS=/h", "SERVICE_CHECK_HTTPS_METHOD=POST", "SERVICE_CHECK_HTTP_METHOD=PUT"],
        &["http POST /h tls every 10s within 10s"],
    );
    check(
        &["SERVICE_CHECK_HTTPS=/h", "SERVICE_CHECK_TLS_SKIP_VERIFY=true"],
        &["http GET /h tls unverified every 10s within 10s"],
    );
    check(&["SERVICE_CHECK_TCP=true"], &["tcp every 10s within 10s"]);
    check(&["SERVICE_CHECK_GRPC=true"], &["grpc every 10s within 10s"]);
    check(&["SERVICE_CHECK_GRPC=true", "SERVICE_CHECK_TLS_SKIP_VERIFY=1"], &["grpc every 10s within 10s"]);
    check(
        &["SERVICE_CHECK_GRPC=true", "SERVICE_CHECK_GRPC_USE_TLS=true"],
        &["grpc tls every 10s within 10s"],
    );
    check(
        &["SERVICE_CHECK_GRPC=1", "SERVICE_CHECK_GRPC_USE_TLS=1", "SERVICE_CHECK_TLS_SKIP_VERIFY=1"],
        &["grpc tls unverified every 10s within 10s"],
    );
    check(
        &["SERVICE_CHECK_CMD=/bin/test.sh"],
        &["command \"/bin/test.sh\" with 10.0.0.9:32768 every 10s within 30s"],
    );
    check(
        &["SERVICE_CHECK_SCRIPT=nc $SERVICE_IP $SERVICE_PORT | grep OK", "SERVICE_CHECK_TIMEOUT=5s"],
        &["command \"nc $SERVICE_IP $SERVICE_PORT | grep OK\" with 10.0.0.9:32768 every 10s within 5s"],
    );
}

#[test]
fn the_first_kind_that_is_set_counts() {
    let all = [
        "SERVICE_CHECK_GRPC=true",
        "SERVICE_CHECK_TCP=true",
        "SERVICE_CHECK_TTL=10s",
        "SERVICE_CHECK_SCRIPT=script",
        "SERVICE_CHECK_CMD=cmd",
        "SERVICE_CHECK_HTTPS=/s",
        "SERVICE_CHECK_HTTP=/p",
    ];
    let expect = [
        "grpc every 10s within 10s",
        "tcp every 10s within 10s",
        "check_ttl waits for reports, and this process takes none, for its HTTP API is off: registered without a check; \
         check_http, check_tcp, check_grpc or check_script are run for you",
        "command \"script\" with 10.0.0.9:32768 every 10s within 30s",
        "command \"cmd\" with 10.0.0.9:32768 every 10s within 30s",
        "http GET /s tls every 10s within 10s",
        "http GET /p every 10s within 10s",
    ];
    for (count, expect) in expect.iter().enumerate() {
        check(&all[..=count], &[expect]);
    }
    // An empty value is unset.
    check(&["SERVICE_CHECK_HTTP=", "SERVICE_CHECK_TCP=1"], &["tcp every 10s within 10s"]);
}

#[test]
fn reports_where_somebody_takes_them() {
    #[track_caller]
    fn check(env: &[&str], expect: &[&str]) {
        let config = crate::Config { reports: true, ..config() };
        let desired = desired(&[seen(container("web").env(env), Standing::Serving)], &config);
        let checks = desired.wanted.values().filter_map(|wanted| wanted.check.as_ref().map(shown));
        let problems = desired.problems.iter().map(|problem| problem.kind.to_string());
        assert_eq!(checks.chain(problems).collect::<Vec<_>>(), expect);
    }
    check(&["SERVICE_CHECK_TTL=30s"], &["reports every 30s within 30s"]);
    check(
        &[
            "SERVICE_CHECK_TTL=1m",
            "SERVICE_CHECK_INITIAL_STATUS=passing",
            "SERVICE_CHECK_DEREGISTER_AFTER=5m",
        ],
        &["reports every 60s within 60s first passing gone after 300s"],
    );
    // What says how to ask says nothing here.
    check(
        &["SERVICE_CHECK_TTL=2s", "SERVICE_CHECK_INTERVAL=x", "SERVICE_CHECK_FAILURES_BEFORE_CRITICAL=3"],
        &["reports every 2s within 2s"],
    );
    check(
        &["SERVICE_CHECK_TTL=1ms"],
        &["reports every 100ms within 100ms", "check_ttl \"1ms\" is out of range: 100ms is used"],
    );
    check(&["SERVICE_CHECK_TTL=30"], &["check_ttl \"30\" has no unit (10s are ten seconds): not used"]);
}

#[test]
fn silence_counts_once_and_after_its_time() {
    let mut silence = Silence::new(seconds(10), seconds(5));
    assert_eq!((silence.counts_at(), silence.counts(seconds(14))), (Some(seconds(15)), false));
    silence.broken(seconds(14));
    assert_eq!((silence.counts_at(), silence.counts(seconds(15))), (Some(seconds(24)), false));
    assert!(silence.counts(seconds(24)));
    assert_eq!((silence.counts_at(), silence.counts(seconds(40))), (None, false));
    silence.broken(seconds(41));
    assert_eq!(silence.counts_at(), Some(seconds(51)));
}

#[test]
fn how_often_and_what_then() {
    let http = |more: &[&str], expect: &[&str]| check(&[&["SERVICE_CHECK_HTTP=/"], more].concat(), expect);
    http(&["SERVICE_CHECK_INTERVAL=15s"], &["http GET / every 15s within 10s"]);
    // A run is over before the next begins, unless it is told otherwise.
    http(&["SERVICE_CHECK_INTERVAL=1s"], &["http GET / every 1s within 1s"]);
    http(&["SERVICE_CHECK_INTERVAL=1s", "SERVICE_CHECK_TIMEOUT=3s"], &["http GET / every 1s within 3s"]);
    http(&["SERVICE_CHECK_INITIAL_STATUS=passing"], &["http GET / every 10s within 10s first passing"]);
    http(&["SERVICE_CHECK_INITIAL_STATUS=warning"], &["http GET / every 10s within 10s first warning"]);
    http(&["SERVICE_CHECK_INITIAL_STATUS=critical"], &["http GET / every 10s within 10s"]);
    http(&["SERVICE_CHECK_DEREGISTER_AFTER=1m30s"], &["http GET / every 10s within 10s gone after 90s"]);
    http(
        &["SERVICE_CHECK_SUCCESS_BEFORE_PASSING=2", "SERVICE_CHECK_FAILURES_BEFORE_CRITICAL=3"],
        &["http GET / every 10s within 10s 2 pass 3 fail"],
    );
    // Alone they ask for nothing.
    check(&["SERVICE_CHECK_INITIAL_STATUS=passing", "SERVICE_CHECK_INTERVAL=1s"], &[]);
}

#[test]
fn what_makes_no_sense_is_left_out_and_said() {
    let plain = "http GET / every 10s within 10s";
    let http = |more: &str, expect: &[&str]| check(&["SERVICE_CHECK_HTTP=/", more], expect);
    http(
        "SERVICE_CHECK_INTERVAL=10",
        &[plain, "check_interval \"10\" has no unit (10s are ten seconds): 10s is used"],
    );
    http(
        "SERVICE_CHECK_INTERVAL=often",
        &[plain, "check_interval \"often\" is no duration such as 10s or 1m30s: 10s is used"],
    );
    http("SERVICE_CHECK_INTERVAL=-1s", &[plain, "check_interval \"-1s\" is out of range: 10s is used"]);
    http(
        "SERVICE_CHECK_INTERVAL=1ms",
        &["http GET / every 100ms within 100ms", "check_interval \"1ms\" is out of range: 100ms is used"],
    );
    http(
        "SERVICE_CHECK_TIMEOUT=24h",
        &["http GET / every 10s within 60s", "check_timeout \"24h\" is out of range: 60s is used"],
    );
    http("SERVICE_CHECK_TIMEOUT=0s", &[plain, "check_timeout \"0s\" is out of range: 10s is used"]);
    http(
        "SERVICE_CHECK_DEREGISTER_AFTER=soon",
        &[plain, "check_deregister_after \"soon\" is no duration such as 10s or 1m30s: not used"],
    );
    http(
        "SERVICE_CHECK_INITIAL_STATUS=up",
        &[plain, "check_initial_status \"up\" is not passing, warning or critical: critical is used"],
    );
    http(
        "SERVICE_CHECK_HTTP_METHOD=GET IT",
        &[plain, "check_http_method \"GET IT\" is no method: GET is used"],
    );
    http(
        "SERVICE_CHECK_HTTP_METHOD=CONNECT",
        &[plain, "check_http_method \"CONNECT\" is no method: GET is used"],
    );
    http(
        "SERVICE_CHECK_FAILURES_BEFORE_CRITICAL=0",
        &[plain, "check_failures_before_critical \"0\" is no number from 1 to 100: 1 is used"],
    );
    check(&["SERVICE_CHECK_HTTP=/a b"], &["check_http \"/a b\" is no path: registered without a check"]);
    let long = "x".repeat(9000);
    check(
        &[&format!("SERVICE_CHECK_SCRIPT={long}")],
        &[
            "1 tags or meta entries pass a limit: registered without them",
            "check_script has 9000 bytes, more than 8192: registered without a check",
        ],
    );
    // What is shown of a text is bounded too.
    let (all, some) = ("y".repeat(4000), "y".repeat(80));
    http(
        &format!("SERVICE_CHECK_INITIAL_STATUS={all}"),
        &[
            plain,
            &format!("check_initial_status {some:?} is not passing, warning or critical: critical is used"),
        ],
    );
}

#[test]
fn of_which_port() {
    let two = |env: &[&str]| container("web").port("443/tcp", &["32769"]).env(env);
    assert_eq!(
        asked(two(&["SERVICE_443_CHECK_HTTPS=/s", "SERVICE_80_CHECK_HTTP=/p"])),
        ["http GET /s tls every 10s within 10s", "http GET /p every 10s within 10s"]
    );
    assert_eq!(
        asked(two(&[
            "SERVICE_80_CHECK_HTTP=/eighty",
            "SERVICE_CHECK_HTTP=/all",
            "SERVICE_443_CHECK_INTERVAL=1s"
        ])),
        ["http GET /all every 1s within 1s", "http GET /eighty every 10s within 10s"]
    );
    // An empty value for a port takes the generic one back.
    assert_eq!(
        asked(two(&["SERVICE_443_CHECK_HTTP=", "SERVICE_CHECK_HTTP=/all"])),
        ["http GET /all every 10s within 10s"]
    );
    let mut labelled = container("web").env(&["SERVICE_CHECK_TCP=1", "SERVICE_CHECK_HTTP=/env"]);
    labelled.labels.insert("SERVICE_CHECK_HTTP".into(), "/label".into());
    assert_eq!(asked(labelled), ["http GET /label every 10s within 10s"]);

    let udp = |env: &[&str]| {
        let mut udp = container("dns").port("53/udp", &["5353"]).env(env);
        udp.bindings.retain(|port, _| port.number == 53);
        udp
    };
    assert_eq!(
        asked(udp(&["SERVICE_CHECK_TCP=true"])),
        ["check_tcp cannot ask a udp port: registered without a check; check_script can"]
    );
    assert_eq!(
        asked(udp(&["SERVICE_CHECK_CMD=ask"])),
        ["command \"ask\" with 10.0.0.9:5353 every 10s within 30s"]
    );
}

#[test]
fn commands_find_the_service_from_inside() {
    let script = |mode: NetworkMode| {
        let web = Container { network_mode: mode, ..container("web").env(&["SERVICE_CHECK_SCRIPT=s"]) };
        let on_loopback = crate::Config { ip: "127.0.0.1".parse().unwrap(), ..config() };
        let desired = desired(&[seen(web, Standing::Serving)], &on_loopback);
        desired.wanted.into_values().next().unwrap().check.unwrap().inside.to_string()
    };
    // The registered address is the host's loopback; inside, that is another one.
    assert_eq!(script(NetworkMode::Bridge), "127.0.0.1:80");
    assert_eq!(script(NetworkMode::Host), "127.0.0.1:32768");
}

#[test]
fn what_a_check_says_stays_an_attribute() {
    let desired =
        desired(&[seen(container("web").env(&["SERVICE_CHECK_HTTP=/h"]), Standing::Serving)], &config());
    assert_eq!(lines(&desired), ["nginx H:web:80 10.0.0.9:32768 check_http=/h"]);
}

const PASS: Health = Health::Passing;
const WARN: Health = Health::Warning;
const FAIL: Health = Health::Critical;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn results_become_verdicts() {
    /// Results a second apart, and the verdict after each: `p`, `w`, `c`, `-` for none, upper case when expired.
    #[track_caller]
    fn check(env: &[&str], results: &[Health], expect: &str) {
        let env = [&["SERVICE_CHECK_TCP=1"], env].concat();
        let desired = desired(&[seen(container("web").env(&env), Standing::Serving)], &config());
        let spec = desired.wanted.into_values().next().unwrap().check.unwrap().spec;
        let mut judge = Judge::new(&spec);
        let mut verdicts = String::new();
        for (result, second) in results.iter().zip(1..) {
            let now = seconds(second);
            judge.take(*result, now);
            let letter = judge.health().map_or('-', |health| health.as_str().chars().next().unwrap());
            let expired = judge.expires_at().is_some_and(|at| at <= now);
            verdicts.push(if expired { letter.to_ascii_uppercase() } else { letter });
        }
        assert_eq!(verdicts, expect);
    }
    check(&[], &[FAIL, PASS, WARN, FAIL, PASS], "cpwcp");
    let two = ["SERVICE_CHECK_SUCCESS_BEFORE_PASSING=2"];
    check(&two, &[PASS, PASS, FAIL, PASS, WARN, PASS], "-pccwp");
    let three = ["SERVICE_CHECK_FAILURES_BEFORE_CRITICAL=3"];
    check(&three, &[FAIL, FAIL, FAIL, PASS, FAIL, FAIL, PASS, FAIL, FAIL, FAIL], "--cppppppc");
    check(&three, &[WARN, FAIL, FAIL, WARN], "wwww");
    let gone = ["SERVICE_CHECK_DEREGISTER_AFTER=2s"];
    check(&gone, &[FAIL, FAIL, FAIL, FAIL, PASS, FAIL, FAIL, FAIL], "ccCCpccC");
    check(&gone, &[FAIL, WARN, FAIL, FAIL, FAIL], "cwccC");
}

#[test]
fn runs_are_soon_until_the_first_pass_and_then_spread_out() {
    #[track_caller]
    fn check(seed: u64, results: &[(Health, u64)], expect: &[u64]) {
        let mut rhythm = Rhythm::new(seconds(10), seed);
        let mut now = Duration::ZERO;
        let mut due = Vec::new();
        for (result, takes) in results {
            let next = rhythm.after(*result, now + Duration::from_millis(*takes));
            due.push(u64::try_from(next.as_millis()).unwrap());
            now = next;
        }
        assert_eq!(due, expect);
    }
    // One that passes: its own moment of the interval, then always the same, however long a run takes.
    check(511, &[(PASS, 0), (PASS, 0), (FAIL, 900), (PASS, 0)], &[5_000, 15_000, 25_000, 35_000]);
    check(1023, &[(PASS, 0), (PASS, 0)], &[10_000, 20_000]);
    // Runs that take longer than the interval leave out what they missed.
    check(1023, &[(PASS, 0), (PASS, 25_000)], &[10_000, 40_000]);
    // One that does not pass yet: soon, half as often each time.
    let fails = [(FAIL, 0); 8];
    check(1023, &fails, &[250, 750, 1_750, 3_750, 7_750, 15_750, 25_750, 35_750]);
    check(1023, &[(FAIL, 0), (FAIL, 0), (PASS, 0), (FAIL, 0)], &[250, 750, 10_750, 20_750]);
}

/// The book after these instances were told.
fn book(held: &[Registration]) -> Book {
    let mut book = Book::new(config().owner);
    let instances = held.iter().map(|registration| {
        Arc::new(Instance {
            registration: registration.clone(),
            phase: Phase::Adult,
            created: Revision(1),
            modified: Revision(1),
        })
    });
    book.apply(Change::Reset { revision: Revision(1), instances: instances.collect() });
    book
}

fn checked() -> Container {
    container("web").env(&["SERVICE_CHECK_HTTP=/h"])
}

fn checked_in(
    container: Container,
    standing: Standing,
    verdict: Option<(Health, bool)>,
    book: &Book,
) -> (String, String) {
    let mut desired = desired(&[seen(container, standing)], &config());
    let id = InstanceId::new("H:web:80").unwrap();
    let check = desired.wanted.get(&id).and_then(|wanted| wanted.check.clone());
    let verdicts = verdict.zip(check).map(|((health, expired), check)| {
        (id.clone(), Verdict { check, health, expired, finding: "so".to_owned() })
    });
    let docket = judge(&mut desired, &Verdicts::from_iter(verdicts), book);
    let now = desired.wanted.get(&id).map(|wanted| wanted.registration.health.to_string());
    let withheld = desired.withheld.get(&id).map(ToString::to_string);
    (now.or(withheld).unwrap_or_default(), docket.to_string())
}

#[test]
fn verdicts_become_health() {
    #[track_caller]
    fn check(verdict: Option<(Health, bool)>, expect: &str, status: &str) {
        let got = checked_in(checked(), Standing::Serving, verdict, &book(&[]));
        assert_eq!(got, (expect.to_owned(), status.to_owned()));
    }
    check(None, "critical", "1 check runs");
    check(Some((PASS, false)), "passing", "1 check runs");
    check(Some((WARN, false)), "warning", "1 check runs, 1 not passing, first: H:web:80: so");
    check(Some((FAIL, false)), "critical", "1 check runs, 1 not passing, first: H:web:80: so");
    // Registered no more, and asked on: it may come back.
    let too_long = "container web fails its check for longer than it may";
    check(Some((FAIL, true)), too_long, "1 check runs, 1 not passing, first: H:web:80: so");
}

#[test]
fn the_worse_of_two_checks_counts() {
    use crate::container::CheckStatus::{Healthy, Starting, Unhealthy};
    #[track_caller]
    fn check(own: crate::container::CheckStatus, verdict: Health, expect: &str) {
        let mut web = checked();
        web.life.check = Some(own);
        let (health, _) = checked_in(web, Standing::Serving, Some((verdict, false)), &book(&[]));
        assert_eq!(health, expect);
    }
    check(Healthy, PASS, "passing");
    check(Healthy, FAIL, "critical");
    check(Unhealthy, PASS, "critical");
    check(Unhealthy, WARN, "critical");
    check(Starting, PASS, "container web has not passed its health check yet");
}

#[test]
fn until_the_first_verdict_a_known_instance_keeps_its_health() {
    let held = |health| book(&[Registration { health, ..registration("H:web:80") }]);
    let unproven = |container, book: &Book| checked_in(container, Standing::Serving, None, book).0;
    assert_eq!(unproven(checked(), &held(PASS)), "passing");
    assert_eq!(unproven(checked(), &held(WARN)), "warning");
    assert_eq!(unproven(checked(), &held(FAIL)), "critical");
    let first = |initial: &str| checked().env(&[&format!("SERVICE_CHECK_INITIAL_STATUS={initial}")]);
    assert_eq!(unproven(first("passing"), &book(&[])), "passing");
    assert_eq!(unproven(first("passing"), &held(FAIL)), "critical");
    // It was frozen, or is another life: what was before says nothing.
    assert_eq!(unproven(checked(), &held(Health::Maintenance)), "critical");
    assert_eq!(unproven(checked().started(8), &held(PASS)), "critical");
}

#[test]
fn who_gets_no_work_is_not_asked() {
    let idle = |container, standing| checked_in(container, standing, None, &book(&[])).1;
    assert_eq!(idle(checked(), Standing::Stopping), "");
    assert_eq!(idle(checked(), Standing::Stopped), "");
    let mut paused = checked();
    paused.life.paused = true;
    assert_eq!(
        checked_in(paused, Standing::Serving, None, &book(&[])),
        ("maintenance".to_owned(), String::new())
    );
}

#[test]
fn the_verdict_on_another_check_does_not_count() {
    let id = InstanceId::new("H:web:80").unwrap();
    let mut now = desired(&[seen(checked().started(8), Standing::Serving)], &config());
    let before = desired(&[seen(checked(), Standing::Serving)], &config()).wanted.remove(&id).unwrap();
    let verdict =
        Verdict { check: before.check.unwrap(), health: PASS, expired: false, finding: String::new() };
    judge(&mut now, &BTreeMap::from([(id.clone(), verdict)]), &book(&[]));
    assert_eq!(now.wanted[&id].registration.health, FAIL);
}

#[test]
fn a_flood_of_checks_is_cut_off() {
    let mut containers = Vec::new();
    for number in 0..5 {
        let name = format!("web{number}");
        let mut flood = container(&name).env(&["SERVICE_CHECK_TCP=1"]);
        for port in 1..=1000 {
            flood = flood.port(&format!("{port}/tcp"), &["1"]);
        }
        containers.push(seen(flood, Standing::Serving));
    }
    let mut desired = desired(&containers, &config());
    let docket = judge(&mut desired, &Verdicts::new(), &book(&[]));
    assert_eq!((docket.checks.len(), docket.refused), (super::CHECKS_LIMIT, 5000 - super::CHECKS_LIMIT));
}
