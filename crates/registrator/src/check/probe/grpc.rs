//! Asks by gRPC's health protocol (`grpc.health.v1.Health/Check`) how the whole server fares.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use portolan_model::{Endpoint, Health};
use prost::Message;

use super::dial::Dialer;
use super::{Finding, Unasked};
use crate::check::spec::Trust;

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// The longest message: a small number is all it has to hold.
const MESSAGE_LIMIT: usize = 4 << 10;
/// How much of it may be on its way to us.
const WINDOW: u32 = 16 << 10;
/// An empty request, framed: not compressed, no bytes. It asks for the server as a whole.
const REQUEST: &[u8] = &[0; 5];

/// The answer, after `health.proto`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) async fn ask(dialer: &Dialer, to: &Endpoint, tls: Option<Trust>) -> Result<Finding, Unasked> {
    let stream = dialer.dial(to, tls, b"h2").await?;
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).initial_window_size(WINDOW).initial_connection_window_size(2 * WINDOW);
    let (sender, connection) = builder.max_header_list_size(WINDOW).handshake::<_, Bytes>(stream).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut answer = pin!(exchange(sender, scheme, to));
    tokio::select! {
        biased;
        finding = &mut answer => finding,
        // It may have ended with the answer in hand.
        _ = connection => answer.await,
    }
}

async fn exchange(
    sender: h2::client::SendRequest<Bytes>,
    scheme: &str,
    to: &Endpoint,
) -> Result<Finding, Unasked> {
    let uri = Uri::builder().scheme(scheme).authority(to.to_string()).path_and_query(METHOD).build()?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::TE, "trailers")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::USER_AGENT, "Portolan check")
        .body(())?;
    let mut sender = sender.ready().await?;
    let (answer, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from_static(REQUEST), true)?;
    let (head, mut body) = answer.await?.into_parts();
    if head.status != StatusCode::OK {
        return Ok(Finding::critical(format!("it speaks no grpc: http status {}", head.status)));
    }
    // An answer without a message has its status right in the head.
    if let Some(bad) = refusal(&head.headers) {
        return Ok(bad);
    }
    let message = collect(&mut body).await?;
    let trailers = poll_fn(|context| body.poll_trailers(context)).await?.unwrap_or_default();
    Ok(refusal(&trailers).unwrap_or_else(|| reading(&message)))
}

async fn collect(body: &mut RecvStream) -> Result<Vec<u8>, Unasked> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if message.len() + data.len() > MESSAGE_LIMIT {
            return Err(Unasked("its answer is too long".to_owned()));
        }
        message.extend_from_slice(&data);
    }
    Ok(message)
}

/// A status that is not fine, if these headers hold one.
fn refusal(headers: &HeaderMap) -> Option<Finding> {
    let code = headers.get("grpc-status")?.to_str().unwrap_or_default();
    let words = headers.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    match code {
        "0" => None,
        "12" => Some(Finding::critical("it has no grpc health service")),
        code => Some(Finding::critical(format!("it answers grpc status {code} {words}"))),
    }
}

fn reading(framed: &[u8]) -> Finding {
    let response = match framed.split_first_chunk::<5>() {
        Some(([0, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => {
            HealthCheckResponse::decode(message).ok()
        }
        _ => None,
    };
    let Some(HealthCheckResponse { status }) = response else {
        return Finding::critical("its answer is not understood");
    };
    let (health, word) = match status {
        1 => (Health::Passing, "SERVING"),
        2 => (Health::Critical, "NOT_SERVING"),
        3 => (Health::Critical, "SERVICE_UNKNOWN"),
        _ => (Health::Critical, "UNKNOWN"),
    };
    Finding::new(health, &format!("it answers {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings() {
        #[track_caller]
        fn check(framed: &[u8], health: Health, text: &str) {
            assert_eq!(reading(framed), Finding::new(health, text), "{framed:?}");
        }
        check(&[0, 0, 0, 0, 2, 8, 1], Health::Passing, "it answers SERVING");
        check(&[0, 0, 0, 0, 2, 8, 2], Health::Critical, "it answers NOT_SERVING");
        check(&[0, 0, 0, 0, 0], Health::Critical, "it answers UNKNOWN");
        // A field that nobody knows yet.
        check(&[0, 0, 0, 0, 4, 16, 1, 8, 1], Health::Passing, "it answers SERVING");
        let not = "its answer is not understood";
        check(&[1, 0, 0, 0, 2, 8, 1], Health::Critical, not);
        check(&[0, 0, 0, 0, 3, 8, 1], Health::Critical, not);
        check(&[0, 0, 0, 0, 1, 8], Health::Critical, not);
        check(&[], Health::Critical, not);
    }
}
