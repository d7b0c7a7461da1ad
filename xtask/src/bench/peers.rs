//! nginx and HAProxy, set to do the same work as our gateway: strip the service's name off the path, add
//! `X-Forwarded-For/-Proto/-Host`, `Via` and a request id, keep connections on both sides, write no access log.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::Scratch;
use crate::process::{Outcome, Running, find, output, tied};

/// The path that every proxy under measurement strips to `/hello`.
pub(super) const PATH: &str = "/bench/hello";
/// What the backend answers.
pub(super) const BODY: &str = "This is Service 1.\n";

/// The one that answers behind every proxy.
pub(super) fn backend(scratch: &Scratch, core: usize, at: SocketAddr) -> Outcome<Running> {
    let server = format!("server {{ listen {at}; location / {{ return 200 \"This is Service 1.\\n\"; }} }}");
    nginx("the backend", scratch, "backend", core, &server)
}

pub(super) fn nginx_proxy(
    scratch: &Scratch,
    core: usize,
    at: SocketAddr,
    to: SocketAddr,
) -> Outcome<Running> {
    let server = format!(
        r#"upstream backend {{ server {to}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {at};
    location /bench/ {{
      proxy_pass http://backend/;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header Via "1.1 nginx";
      proxy_set_header X-Request-Id $request_id;
      add_header Via "1.1 nginx";
      add_header X-Request-Id $request_id;
    }}
  }}"#
    );
    nginx("nginx", scratch, "nginx", core, &server)
}

pub(super) fn haproxy(scratch: &Scratch, core: usize, at: SocketAddr, to: SocketAddr) -> Outcome<Running> {
    let config = format!(
        r#"global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend front
  bind {at}
  unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request add-header Via "1.1 haproxy"
  http-request set-path /%[path,field(3,/)]
  http-response add-header Via "1.1 haproxy"
  http-response set-header X-Request-Id %[unique-id]
  default_backend back
backend back
  server one {to} pool-max-conn 256
"#
    );
    let config = scratch.write("haproxy.cfg", &config)?;
    Running::start("haproxy", pinned(core, &program("haproxy")?).arg("-db").arg("-f").arg(config))
}

/// A program that runs on one core only, and so do all its threads and children.
pub(super) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = tied("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

/// The versions of all programs that take part beside our own.
pub(super) fn versions() -> Outcome<String> {
    // nginx tells its version on stderr.
    let nginx = Command::new(program("nginx")?).arg("-v").output().map_err(|e| format!("nginx -v: {e}"))?;
    let nginx = String::from_utf8_lossy(&nginx.stderr).trim().replace("nginx version: ", "");
    let haproxy = output(Command::new(program("haproxy")?).arg("-v"))?;
    let haproxy = haproxy.split_whitespace().nth(2).unwrap_or("unknown");
    // wrk prints its version and then fails for want of an address.
    let wrk = Command::new(program("wrk")?).arg("-v").output().map_err(|e| format!("wrk -v: {e}"))?;
    let wrk = String::from_utf8_lossy(&wrk.stdout).split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    Ok(format!("{nginx}, haproxy/{haproxy}, wrk {wrk}"))
}

pub(super) fn program(name: &str) -> Outcome<std::path::PathBuf> {
    find(name).ok_or_else(|| format!("{name} is not installed"))
}

fn nginx(what: &'static str, scratch: &Scratch, name: &str, core: usize, servers: &str) -> Outcome<Running> {
    let home = scratch.path().display();
    let config = format!(
        r"worker_processes 1;
daemon off;
pid {home}/{name}.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {home}/{name}-body;
  proxy_temp_path {home}/{name}-proxy;
  fastcgi_temp_path {home}/{name}-fastcgi;
  uwsgi_temp_path {home}/{name}-uwsgi;
  scgi_temp_path {home}/{name}-scgi;
  {servers}
}}
"
    );
    let config = scratch.write(&format!("{name}.conf"), &config)?;
    let log = scratch.path().join(format!("{name}.log"));
    Running::start(what, pinned(core, &program("nginx")?).arg("-c").arg(config).arg("-e").arg(log))
}
