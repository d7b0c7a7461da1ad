//! Many entries taken out of the catalog at once.
//!
//! An agent that was left and is back puts all it held into the catalog again, one by one. Each write of the catalog's goes
//! through the log of all servers, so to take them out one by one as well would take as long again.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::config::Config;
use super::desk::{Act, At, Done};
use super::errands::{Away, acted, unless_away};
use super::line::{Answer, Ask, Lines, Trouble};
use super::wanted::Call;

/// How many at a time: as much as a transaction may hold (Consul's `maxTxnOps`).
pub(super) const TOGETHER: usize = 64;

/// How many are asked at a time where each is asked by itself: a server that answers none of them for long is left.
const AT_A_TIME: usize = 8;

/// Makes the calls of an act; or of several that take one entry each out of the catalog through the same server, in one
/// transaction. Where that is refused, one by one: who may not touch one of them may touch the others, and Consul up to 1.3
/// knows no services in transactions.
pub(super) async fn asked(
    servers: Vec<Lines>,
    config: Arc<Config>,
    acts: Vec<Act>,
    mut away: Away,
) -> Vec<Done> {
    let entries = acts.iter().flat_map(|act| &act.calls);
    let Some(at) = entries.clone().map(|(at, _)| *at).next().filter(|_| acts.len() > 1) else {
        return one_by_one(servers, config, acts, away).await;
    };
    let body: Value = entries.filter_map(|(_, call)| operation(call)).collect();
    let ask = Ask::put("/v1/txn", body.to_string());
    match unless_away(&servers, at, &ask, &mut away).await {
        Ok(Answer { index, .. }) => acts.into_iter().map(|act| Done { act, failed: None, index }).collect(),
        Err(Trouble::Refused { .. }) => one_by_one(servers, config, acts, away).await,
        Err(trouble) => acts.into_iter().map(|act| failed(act, at, &trouble)).collect(),
    }
}

async fn one_by_one(servers: Vec<Lines>, config: Arc<Config>, acts: Vec<Act>, away: Away) -> Vec<Done> {
    let each = |act| acted(servers.clone(), Arc::clone(&config), act, away.clone());
    stream::iter(acts).map(each).buffered(AT_A_TIME).collect().await
}

fn failed(act: Act, at: At, trouble: &Trouble) -> Done {
    let failed = act.calls.first().map(|(_, call)| (at, call.clone(), trouble.clone()));
    Done { act, failed, index: None }
}

/// The operation of a transaction that takes an entry out. The service must be named: by it goes who may.
fn operation(call: &Call) -> Option<Value> {
    let Call::Forget { node, service, service_id, created: _ } = call else { return None };
    Some(json!({ "Service": {
        "Verb": "delete", "Node": node, "Service": { "ID": service_id, "Service": service.as_str() },
    } }))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::super::line::Server;
    use super::*;

    fn forget(id: &str) -> Act {
        let (node, service, service_id) = ("n".to_owned(), "web".parse().unwrap(), id.to_owned());
        Act {
            id: id.parse().unwrap(),
            calls: vec![(0, Call::Forget { node, service, service_id, created: 1 })],
        }
    }

    /// What a server is asked that answers so to transactions, and to some entries, and how each act ends.
    async fn told(acts: Vec<Act>, transaction: &str, missing: &str) -> (Vec<String>, Vec<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config =
            Config::from_uri(format!("consul://{}", listener.local_addr().unwrap()).parse().unwrap());
        let config = Arc::new(config.unwrap());
        let requests = Mutex::new(Vec::new());
        let accepted = stream::unfold(&listener, async |listener| {
            let (stream, _) = listener.accept().await.unwrap();
            Some((stream, listener))
        });
        let serves = accepted.for_each_concurrent(None, async |mut stream| {
            let mut request = vec![0; 65_536];
            while let Ok(length @ 1..) = stream.read(&mut request).await {
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let body = text.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned();
                let status = match text.starts_with("PUT /v1/txn ") {
                    true => transaction,
                    false if body.contains(missing) => "403 Forbidden",
                    false => "200 OK",
                };
                requests.lock().unwrap().push(body);
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let lines = Server::all(&config.reach).into_iter().map(Lines::new).collect();
        let (_away, none_away) = watch::channel([].into());
        let done = tokio::select! {
            done = asked(lines, Arc::clone(&config), acts, none_away) => done,
            () = serves => panic!("it serves for ever"),
        };
        let went = done.iter().map(|done| done.failed.is_none()).collect();
        (requests.into_inner().unwrap(), went)
    }

    #[tokio::test]
    async fn many_go_in_one_transaction() {
        let (asked, went) = told(vec![forget("a"), forget("b")], "200 OK", "?").await;
        let operation = |id: &str| {
            format!(
                r#"{{"Service":{{"Node":"n","Service":{{"ID":"{id}","Service":"web"}},"Verb":"delete"}}}}"#
            )
        };
        assert_eq!(
            (asked, went),
            (vec![format!("[{},{}]", operation("a"), operation("b"))], vec![true, true])
        );
    }

    #[tokio::test]
    async fn one_needs_no_transaction() {
        let (asked, went) = told(vec![forget("a")], "500 Internal Server Error", "?").await;
        assert_eq!((asked, went), (vec![r#"{"Node":"n","ServiceID":"a"}"#.to_owned()], vec![true]));
    }

    #[tokio::test]
    async fn where_transactions_are_refused_each_is_asked_by_itself() {
        let acts = vec![forget("a"), forget("b"), forget("c")];
        let (asked, went) = told(acts, "409 Conflict", r#""b""#).await;
        assert_eq!((asked.len(), went), (4, vec![true, false, true]));
    }
}
