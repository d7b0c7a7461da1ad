use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use runtime::{Shutdown, ShutdownTrigger};
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;

struct Running {
    address: SocketAddr,
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
}

async fn start(name: &str) -> Running {
    let config = Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        name: name.to_owned(),
        instance: "i-1".to_owned(),
        drain_timeout: Duration::from_secs(30),
    };
    let sample = build(config).await.unwrap();
    let (trigger, shutdown) = Shutdown::new();
    Running { address: sample.address(), trigger, task: tokio::spawn(sample.run(shutdown)) }
}

fn send(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Everything until the other side closes.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn endpoints() {
    let sample = start("service_1").await;
    let address = sample.address;
    let check = |path: &'static str, status: u16, expect: &'static str| async move {
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let got = spawn_blocking(move || rest(send(address, &request))).await.unwrap();
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {got}");
        assert!(got.contains("x-instance: i-1\r\n"), "{path}: {got}");
        assert!(got.ends_with(&format!("\r\n\r\n{expect}")), "{path}: {got}");
    };
    check("/", 200, "This is Service 1.\n").await;
    check("/user?id=1", 200, "It's user 1.\n").await;
    check("/user", 400, "say which user: /user?id=1\n").await;
    check("/getRemoteIp", 200, "{\"ip\":\"127.0.0.1\"}").await;
    check("/slow?ms=1", 200, "That took 1 ms.\n").await;
    check("/slow?ms=600001", 400, "say how many milliseconds, up to 600000: /slow?ms=1000\n").await;
    check("/bytes?n=5", 200, ".....").await;
    check("/bytes?n=0", 200, "").await;
    check("/bytes?n=-1", 400, "say how many bytes, up to 68719476736: /bytes?n=1024\n").await;
    check("/health", 200, "ok\n").await;
    check("/nowhere", 404, "").await;
    let echoed = "{\"body\":\"\",\"headers\":{\"connection\":[\"close\"],\"host\":[\"h\"]},\"method\":\"GET\",\
                  \"path\":\"/echo\",\"query\":\"a=b\"}";
    check("/echo?a=b", 200, echoed).await;
    sample.trigger.trigger();
    sample.task.await.unwrap();
}

#[tokio::test]
async fn health_is_what_it_was_told() {
    let sample = start("s").await;
    let address = sample.address;
    let ask = |request: &'static str| async move {
        let request = format!("{request} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let said = spawn_blocking(move || rest(send(address, &request))).await.unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        format!("{} {body}", &head[9..12])
    };
    assert_eq!(ask("PUT /health?status=500").await, "204 ");
    assert_eq!(ask("GET /health").await, "500 not well\n");
    assert_eq!(
        ask("PUT /health?status=99").await,
        "400 say which status, from 200 to 599: /health?status=500\n"
    );
    assert_eq!(ask("PUT /health?status=200").await, "204 ");
    assert_eq!(ask("GET /health").await, "200 ok\n");
    sample.trigger.trigger();
    sample.task.await.unwrap();
}

#[tokio::test]
async fn bodies_come_back() {
    let sample = start("s").await;
    let address = sample.address;
    let post = |path: &'static str, length: usize| async move {
        let (head, body) =
            (format!("POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"), "x".repeat(length));
        let request = format!("{head}content-length: {length}\r\n\r\n{body}");
        spawn_blocking(move || rest(send(address, &request))).await.unwrap()
    };
    assert!(post("/echo", 10).await.contains("\"body\":\"xxxxxxxxxx\""));
    assert!(post("/echo/body", 100_000).await.matches('x').count() >= 100_000);
    let refused = tokio::task::spawn_blocking(move || {
        let mut stream = send(address, "POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 70000\r\n\r\n");
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        String::from_utf8_lossy(&start).into_owned()
    });
    assert_eq!(refused.await.unwrap(), "HTTP/1.1 413");
    sample.trigger.trigger();
    sample.task.await.unwrap();
}

#[tokio::test]
async fn told_to_stop_it_finishes_what_runs_and_closes_what_idles() {
    let sample = start("service_2").await;
    let address = sample.address;
    let (running, idle) = spawn_blocking(move || {
        let mut idle = send(address, "GET /health HTTP/1.1\r\nhost: h\r\n\r\n");
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\nok\n") {
            let mut byte = [0];
            idle.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        (send(address, "GET /slow?ms=300 HTTP/1.1\r\nhost: h\r\n\r\n"), idle)
    })
    .await
    .unwrap();
    // One more that the kernel has accepted and the sample, on this very thread, cannot have.
    let waiting = send(address, "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    sample.trigger.trigger();
    // And one that comes after that, and speaks only once the sample has it.
    let mut late = send(address, "");
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    late.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    let readers = spawn_blocking(move || (rest(idle), rest(running), rest(waiting), rest(late)));
    let (idle, running, waiting, late) = readers.await.unwrap();
    assert!(late.ends_with("This is Service 2.\n"), "{late}");
    assert_eq!(idle, "");
    assert!(running.ends_with("That took 300 ms.\n"), "{running}");
    assert!(waiting.ends_with("This is Service 2.\n"), "{waiting}");
    sample.task.await.unwrap();
    assert!(TcpStream::connect(address).is_err(), "it still listens");
}
