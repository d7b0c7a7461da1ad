//! `portolan up` as a process: wiring, clients, signals, crashes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod process;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use process::{Process, Up, command, run, until};
use serde_json::Value;
use tempfile::TempDir;
use testkit::ports::free_ports;

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn sample(name: &str) -> (Process, String) {
    let mut sample = Process::start(&["sample", "--listen", "127.0.0.1:0", "--name", name]);
    let port = sample.line().rsplit_once(':').unwrap().1.to_owned();
    (sample, port)
}

#[test]
fn registered_routed_explained_drained_gone() {
    let dir = dir();
    let up = Up::start(&dir);
    let (sample, port) = sample("service_1");
    let register =
        ["register", "service_1", "--address", "127.0.0.1", "--port", &port, "--id", "one", "--tag", "v1"];
    assert_eq!(up.ask(&register), "registered one\n");
    let answer = until("it is routed to", || {
        Some(up.get("/service_1/user?id=1")).filter(|(status, _)| *status == 200)
    });
    assert_eq!(answer.1, "It's user 1.\n");

    assert_eq!(up.ask(&["services"]), "SERVICE    INSTANCES  TAGS\nservice_1  1          v1\n");
    let listed: Value = serde_json::from_str(&up.ask(&["instances", "service_1", "--json"])).unwrap();
    assert_eq!(listed[0]["Service"]["ID"], "one");
    let told = up.ask(&["explain", "--host", "service_1.localhost", "--path", "/user"]);
    assert!(told.contains("1 of 1 instances can take it"), "{told}");
    let told =
        up.ask(&["explain", "--path", "/services", "-H", "service_name: service_1", "-H", "api_name: /user"]);
    assert!(told.contains("the instance sees path /user"), "{told}");

    up.ask(&["drain", "one"]);
    until("it gets no more", || Some(up.get("/service_1/")).filter(|(status, _)| *status == 503));
    let told = up.ask(&["explain", "--path", "/service_1/"]);
    assert!(told.contains("draining: finishes what it has, gets nothing new"), "{told}");

    assert_eq!(up.ask(&["deregister", "one"]), "deregistered one\n");
    until("it is gone", || up.ask(&["explain", "--path", "/service_1/"]).contains("0 of 0").then_some(()));
    let (status, answer) = up.get("/service_1/");
    assert_eq!(status, 503, "a service once known is one without instances: {answer}");
    assert_eq!(up.get("/service_3/").0, 404);
    let again = run(&["deregister", "one", "--http-addr", &up.http]);
    assert_eq!(again.status.code(), Some(1));

    sample.signal("TERM");
    assert_eq!(sample.end(), Some(0));
    up.process.signal("INT");
    assert_eq!(up.process.end(), Some(0));
}

/// An upstream in the test's own hands, registered as service `held`.
fn held(up: &Up) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    up.ask(&["register", "held", "--address", "127.0.0.1", "--port", &port]);
    until("it is routed to", || up.ask(&["explain", "--path", "/held/"]).contains("1 of 1").then_some(()));
    listener
}

/// Takes the next request of the gateway without answering it.
fn take(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while !lines.next().unwrap().unwrap().is_empty() {}
    stream
}

fn closed(url: &str) -> Option<()> {
    TcpStream::connect(url.strip_prefix("http://").unwrap()).is_err().then_some(())
}

#[test]
fn told_to_stop_it_finishes_what_is_in_flight() {
    let dir = dir();
    let up = Up::start(&dir);
    let listener = held(&up);
    let url = format!("{}/held/slow", up.gateway);
    let client = thread::spawn(move || process::get(&url, &[]));
    let mut upstream = take(&listener);
    up.process.signal("TERM");
    until("it accepts no more", || closed(&up.gateway));
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").unwrap();
    assert_eq!(client.join().unwrap(), (200, "done".to_owned()));
    assert_eq!(up.process.end(), Some(0));
}

#[test]
fn told_to_stop_it_answers_who_is_still_in_the_backlog() {
    let dir = dir();
    let up = Up::start(&dir);
    let address = up.gateway.strip_prefix("http://").unwrap();
    up.process.signal("STOP");
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"GET /nobody/ HTTP/1.1\r\nhost: gw\r\n\r\n").unwrap();
            client
        })
        .collect();
    up.process.signal("TERM");
    up.process.signal("CONT");
    for client in clients {
        let line = BufReader::new(client).lines().next().unwrap().unwrap();
        assert_eq!(line, "HTTP/1.1 404 Not Found");
    }
    assert_eq!(up.process.end(), Some(0));
}

#[test]
fn told_twice_it_ends_at_once() {
    let dir = dir();
    let up = Up::start(&dir);
    let listener = held(&up);
    let mut client = TcpStream::connect(up.gateway.strip_prefix("http://").unwrap()).unwrap();
    client.write_all(b"GET /held/ HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    let _upstream = take(&listener);
    up.process.signal("TERM");
    until("it accepts no more", || closed(&up.gateway));
    up.process.signal("TERM");
    assert_eq!(up.process.end(), Some(143));
    assert_eq!(client.read(&mut [0]).unwrap_or_default(), 0);
}

#[test]
fn a_killed_process_comes_back_with_everything() {
    let dir = dir();
    let up = Up::start(&dir);
    for number in 0..3 {
        let port = (1000 + number).to_string();
        up.ask(&["register", "web", "--address", "10.0.0.1", "--port", &port]);
    }
    up.ask(&["deregister", "web:10.0.0.1:1000"]);
    let before = up.ask(&["instances", "web", "--json"]);
    up.process.kill();

    let up = Up::start(&dir);
    assert_eq!(up.revision, 4);
    assert_eq!(up.ask(&["instances", "web", "--json"]), before);
}

#[test]
fn what_is_taken_is_said() {
    #[track_caller]
    fn check(args: &[&str], parts: &[&str]) {
        let output = run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for part in parts {
            assert!(said.contains(part), "{said}");
        }
    }
    let (one, other) = (dir(), dir());
    let up = Up::start(&one);
    let (one, other) = (one.path().to_str().unwrap(), other.path().to_str().unwrap());
    let gateway = up.gateway.strip_prefix("http://").unwrap();
    let http = up.http.strip_prefix("http://").unwrap();
    let any = "127.0.0.1:0";
    let args = |dir, proxy, http| {
        ["up", "--no-docker", "--log", "off", "--data-dir", dir, "--proxy", proxy, "--http", http]
    };
    let other_program = "another program listens there";
    check(&args(other, gateway, any), &[&format!("--proxy {gateway}"), other_program]);
    check(&args(other, any, http), &[&format!("--http {http}"), other_program]);
    check(&args(one, any, any), &[one, "in use by another process"]);
}

#[test]
fn a_watch_outlives_its_registry() {
    let dir = dir();
    let up = Up::start(&dir);
    let http = up.http.clone();
    up.ask(&["register", "web", "--address", "10.0.0.1", "--port", "1"]);
    let mut watch = Process::start(&["watch", "web", "--http-addr", &http]);
    assert_eq!(watch.line(), "+ web:10.0.0.1:1  10.0.0.1:1  passing  adult");
    up.ask(&["register", "web", "--address", "10.0.0.1", "--port", "2"]);
    assert_eq!(watch.line(), "+ web:10.0.0.1:2  10.0.0.1:2  passing  adult");
    up.process.kill();
    let lost = watch.complaint();
    assert!(lost.contains("cannot reach the registry"), "{lost}");

    let up = Up::with(&dir, &["--http", http.strip_prefix("http://").unwrap()]);
    up.ask(&["deregister", "web:10.0.0.1:1"]);
    assert_eq!(watch.line(), "- web:10.0.0.1:1  10.0.0.1:1");
}

#[test]
fn every_line_of_the_demo_works() {
    let mut demo = Process::start(&["demo", "--proxy", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let lines: Vec<String> =
        std::iter::from_fn(|| Some(demo.line()).filter(|line| line != "End it with Ctrl-C.")).collect();
    let mut answers = Vec::new();
    for line in lines.iter().filter_map(|line| line.strip_prefix("  curl ")) {
        let (mut headers, mut url) = (Vec::new(), String::new());
        let mut words = words(line).into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-H" => {
                    let header = words.next().unwrap();
                    let (name, value) = header.split_once(": ").unwrap();
                    headers.push((name.to_owned(), value.to_owned()));
                }
                _ => url = word,
            }
        }
        let (status, answer) = process::get(&url, &headers);
        assert_eq!(status, 200, "{line}: {answer}");
        answers.push(answer);
    }
    assert_eq!(answers.len(), 6);
    assert_eq!(answers[0], "It's user 1.\n");
    assert!(answers[1].starts_with("{\"ip\":\"127.0.0."));
    assert_eq!(answers[2], "This is Service 1.\n");
    for line in lines.iter().filter_map(|line| line.strip_prefix("  portolan ")) {
        if !line.starts_with("watch") {
            process::ask(&words(line).iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    demo.signal("TERM");
    assert_eq!(demo.end(), Some(0));
}

/// Words as a shell splits them, as far as the demo's lines go.
fn words(line: &str) -> Vec<String> {
    let quoted = line.split('\'').enumerate();
    let parts = quoted.flat_map(|(index, part)| match index % 2 {
        1 => vec![part.to_owned()],
        _ => part.split_whitespace().map(str::to_owned).collect(),
    });
    parts.collect()
}

#[test]
fn nobody_there_is_said_in_one_line() {
    let free = format!("127.0.0.1:{}", free_ports(1)[0]);
    let output = command(&["services"]).env("PORTOLAN_HTTP_ADDR", &free).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!(
            "portolan: cannot reach the registry at http://{free}: Connection refused"
        ))
    );
    assert!(said.ends_with("is `portolan up` running?\n"), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn it_is_small_when_idle() {
    let dir = dir();
    let up = Up::start(&dir);
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.process.id())).unwrap();
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    };
    // What it allocated, not the pages of its file: those of an unoptimised build are many.
    let own = kilobytes("RssAnon:");
    assert!(own < 8 * 1024, "{own} KiB");
}
