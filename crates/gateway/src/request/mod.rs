//! The life of a request, from its head to the head of its answer.

mod answer;
mod forward;
mod headers;
mod id;
mod panic;
mod peer;
mod tunnel;
mod vet;

use std::rc::Rc;

use http::{Request, Response};

use crate::body::Body;
use crate::listen::Shared;
use answer::{Form, Refusal};
use id::RequestId;

pub(crate) use peer::Peer;

/// Answers one request. Whatever goes wrong, the client gets an answer with the request's id and a cause.
///
/// The request and the future of its life are boxed: they pass through many hands, and copying hundreds of bytes from
/// hand to hand costs more than two allocations.
pub(crate) async fn serve(shared: &Rc<Shared>, peer: &Peer, request: Box<Request<Body>>) -> Response<Body> {
    let id = RequestId::of(request.headers());
    let form = Form::asked(request.headers());
    let lived = panic::caught(Box::pin(live(shared, peer, &id, request))).await;
    let outcome = lived.unwrap_or_else(|panic| {
        tracing::error!(request = id.as_str(), panic, "request panicked");
        Err(Refusal::Panic)
    });
    let mut answer = outcome.unwrap_or_else(|refusal| {
        tracing::debug!(request = id.as_str(), cause = refusal.cause(), %refusal, "request refused");
        refusal.answer(&id, form)
    });
    headers::sign_answer(answer.headers_mut(), &id);
    answer
}

async fn live(
    shared: &Rc<Shared>,
    peer: &Peer,
    id: &RequestId,
    mut request: Box<Request<Body>>,
) -> Result<Response<Body>, Refusal> {
    #[cfg(test)]
    panic::fault_point(request.headers());
    let target = vet::vet(&request)?;
    let ambiguous = vet::may_have_had_two_lengths(&request);
    let table = shared.table.load_full();
    let matched = table.find(&target.question(request.headers()))?;
    let uri = target.rewritten(&matched.rewrite, request.uri())?;
    let tunnel = tunnel::Asked::of(&mut request);
    headers::prepare(request.headers_mut(), peer, id, tunnel.as_ref());
    *request.uri_mut() = uri;
    let mut answer = forward::forward(shared, &matched, request).await?;
    tunnel::connect(shared, tunnel, &mut answer);
    if ambiguous {
        headers::close_after(answer.headers_mut());
    }
    Ok(answer)
}
