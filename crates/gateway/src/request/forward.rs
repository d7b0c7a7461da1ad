//! Carries a request to an instance, and elsewhere where that is safe.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use routing::{Candidate, Failure, Matched, RetryRule, Rule, Tried};
use tokio::time::timeout;

use super::answer::Refusal;
use super::headers;
use crate::body::{Body, Sent};
use crate::listen::Shared;
use crate::upstream::{Connection, SendError};

/// An attempt that failed.
enum Failed {
    /// Over the instance, or on the way to it; with the request where it can be sent again.
    Instance { failure: Failure, request: Option<Box<Request<Body>>> },
    /// Over the client: its body broke off, or did not come. Nobody else could do better.
    Client(Refusal),
}

/// Sends the request to the instance whose turn it is. After a failure that is safe to repeat, to the next; when there
/// is no other, once more to the same one on a new connection, for what failed may have been the old connection.
pub(super) async fn forward(
    shared: &Rc<Shared>,
    matched: &Matched<'_>,
    mut request: Box<Request<Body>>,
) -> Result<Response<Body>, Refusal> {
    let upstream = matched.upstream;
    let (policy, preserve_host) = match matched.rule {
        Rule::Route(route) => (route.balance, route.preserve_host),
        Rule::ServiceHeaders | Rule::ServiceHost | Rule::ServicePath => (None, false),
    };
    let rule = RetryRule::new(request.method(), !request.body().is_end_stream());
    let mut tried = Tried::default();
    let mut choice = upstream.pick(policy, fastrand::u64(..), &tried);
    let mut fresh = false;
    loop {
        let Some(index) = choice else {
            return Err(Refusal::NoUsableInstance(upstream.service().clone()));
        };
        let candidate = &upstream.candidates()[index];
        if !preserve_host || !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, candidate.authority.clone());
        }
        let (failure, unsent) = match attempt(shared, candidate, request, rule, fresh).await {
            Ok(answer) => return Ok(answer),
            Err(Failed::Instance { failure, request }) => (failure, request),
            Err(Failed::Client(refusal)) => return Err(refusal),
        };
        tried.add(index);
        tracing::debug!(
            instance = %candidate.instance.id(),
            endpoint = %candidate.instance.endpoint(),
            ?failure,
            "attempt failed"
        );
        let give_up = || Refusal::Failed {
            service: upstream.service().clone(),
            attempts: tried.count(),
            last: failure,
        };
        let again = rule.allows(failure) && tried.count() < shared.config.limits.attempts;
        request = unsent.filter(|_| again).ok_or_else(give_up)?;
        choice = upstream.pick(policy, fastrand::u64(..), &tried);
        if choice.is_none() {
            if fresh || failure == Failure::Connect {
                return Err(give_up());
            }
            (choice, fresh) = (Some(index), true);
        }
    }
}

/// One instance: a kept connection, or a new one. A kept connection that was closed before anything was sent costs
/// nothing but taking the next.
async fn attempt(
    shared: &Rc<Shared>,
    candidate: &Candidate,
    mut request: Box<Request<Body>>,
    rule: RetryRule,
    fresh: bool,
) -> Result<Response<Body>, Failed> {
    let endpoint = candidate.instance.endpoint();
    loop {
        let kept = if fresh { None } else { shared.pool.take(endpoint) };
        let mut connection = match kept {
            Some(connection) => connection,
            None => match shared.pool.connect(endpoint).await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::debug!(%endpoint, %error, "cannot connect");
                    return Err(Failed::Instance { failure: Failure::Connect, request: Some(request) });
                }
            },
        };
        let kept_alive = connection.is_used();
        if kept_alive && !rule.allows(Failure::ClosedBeforeAnswer { kept_alive }) {
            connection.doubt();
        }
        let copy = (kept_alive && rule.replayable()).then(|| without_body(&request));
        let sent = request.body().sent();
        let answer = answer_to(&mut connection, request, shared.config.timeouts.response, &sent).await;
        let failure = match answer {
            Some(Ok(answer)) => return Ok(accept(shared, candidate, connection, answer, sent)),
            Some(Err(SendError::NotSent(unsent))) if kept_alive => {
                request = unsent;
                continue;
            }
            Some(Err(SendError::NotSent(unsent))) => {
                return Err(Failed::Instance { failure: Failure::NothingSent, request: Some(unsent) });
            }
            Some(Err(SendError::NothingWritten)) => Failure::NothingSent,
            Some(Err(SendError::Unanswered)) => Failure::ClosedBeforeAnswer { kept_alive },
            Some(Err(SendError::BadAnswer)) => Failure::BadAnswer,
            None if sent.is_awaited() => return Err(Failed::Client(Refusal::SlowBody)),
            None => Failure::Timeout,
        };
        if sent.is_broken() {
            return Err(Failed::Client(Refusal::Body));
        }
        return Err(Failed::Instance { failure, request: copy });
    }
}

/// The head of the answer; `None` when it takes too long. The clock starts anew as long as the request's own body makes
/// progress: a large upload is not a slow answer.
async fn answer_to(
    connection: &mut Connection,
    request: Box<Request<Body>>,
    limit: Duration,
    sent: &Sent,
) -> Option<Result<Response<Incoming>, SendError>> {
    let progress = connection.progress();
    let mut answer = pin!(connection.send(request));
    let mut before = progress.written();
    loop {
        if let Ok(answer) = timeout(limit, answer.as_mut()).await {
            return Some(answer);
        }
        let now = progress.written();
        if sent.is_through() || now == before {
            return None;
        }
        before = now;
    }
}

fn accept(
    shared: &Rc<Shared>,
    candidate: &Candidate,
    connection: Connection,
    answer: Response<Incoming>,
    sent: Sent,
) -> Response<Body> {
    let reusable =
        answer.status() != StatusCode::SWITCHING_PROTOCOLS && !headers::says_close(answer.headers());
    let endpoint = candidate.instance.endpoint();
    let lease = shared.pool.lease(connection, endpoint, sent, reusable);
    let mut answer = answer.map(|incoming| Body::from_instance(incoming, lease));
    headers::prepare_answer(answer.headers_mut());
    answer
}

/// A copy to send again; only for requests whose body is empty.
fn without_body(request: &Request<Body>) -> Box<Request<Body>> {
    let mut copy = Box::new(Request::new(Body::default()));
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    *copy.headers_mut() = request.headers().clone();
    copy
}
