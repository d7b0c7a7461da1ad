//! Upgrades (RFC 9110 section 7.8), WebSocket above all: asked for by a client, granted by an instance's 101, and only
//! then is the connection a tunnel. A tunnelled connection never carries another request.

use std::rc::Rc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::body::Body;
use crate::listen::Shared;

const UPGRADE_OPTION: HeaderValue = HeaderValue::from_static("upgrade");

/// A client's wish for another protocol.
pub(super) struct Asked {
    protocol: HeaderValue,
    client: OnUpgrade,
}

impl Asked {
    /// What `request` asks for; HTTP/2 is not asked for on behalf of a client, as the answers would not be understood.
    pub(super) fn of(request: &mut Request<Body>) -> Option<Self> {
        let protocol =
            request.headers().get(UPGRADE).filter(|p| !p.as_bytes().eq_ignore_ascii_case(b"h2c"))?.clone();
        let options = request.headers().get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
        let asked = options.flat_map(|v| v.split(',')).any(|o| o.trim().eq_ignore_ascii_case("upgrade"));
        asked.then(|| Self { protocol, client: hyper::upgrade::on(request) })
    }

    /// Repeats the wish towards the instance.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, UPGRADE_OPTION);
        headers.insert(UPGRADE, self.protocol.clone());
    }
}

/// When `answer` grants what was asked for, passes the grant on and joins the two connections.
pub(super) fn connect(shared: &Rc<Shared>, asked: Option<Asked>, answer: &mut Response<Body>) {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    // An instance that switches without being asked gets a client that does not know it: the codec closes both.
    let Some(Asked { protocol, client }) = asked else { return };
    let instance = hyper::upgrade::on(&mut *answer);
    answer.headers_mut().insert(CONNECTION, UPGRADE_OPTION);
    answer.headers_mut().insert(UPGRADE, protocol);
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        // Counted as a connection in use, so that shutdown waits for it, up to the drain timeout.
        let watched = shared.connections.add(Default::default());
        let in_use = watched.begin();
        match tokio::try_join!(client, instance) {
            Ok((client, instance)) => {
                let joined = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(instance)).await;
                tracing::debug!(?joined, "tunnel ended");
            }
            Err(error) => tracing::debug!(%error, "tunnel did not come about"),
        }
        drop(in_use);
        shared.connections.remove(&watched);
    });
}
