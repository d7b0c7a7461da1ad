//! What happens to header fields on their way through.

use http::header::{CONNECTION, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::id::{self, RequestId};
use super::peer::Peer;
use super::tunnel::Asked;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const OURSELVES: HeaderValue = HeaderValue::from_static("1.1 portolan");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// Makes a client's header fields those of the request to an instance; `Host` is set per attempt.
pub(super) fn prepare(headers: &mut HeaderMap, peer: &Peer, id: &RequestId, tunnel: Option<&Asked>) {
    remove_hop_by_hop(headers);
    // The client is told to go on as soon as its body is asked for, whatever the instance thinks of it.
    headers.remove(EXPECT);
    if let Some(asked) = tunnel {
        asked.put(headers);
    }
    forwarded(headers, peer);
    headers.append(VIA, OURSELVES);
    headers.insert(id::HEADER, id.value());
}

/// Makes an instance's header fields those of the answer to the client.
pub(super) fn prepare_answer(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.append(VIA, OURSELVES);
}

/// Every answer says which request it is of, the gateway's own included.
pub(super) fn sign_answer(headers: &mut HeaderMap, id: &RequestId) {
    headers.insert(id::HEADER, id.value());
}

/// Has the codec close the client's connection once the answer is through.
pub(super) fn close_after(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Whether the sender said that it will close the connection.
pub(super) fn says_close(headers: &HeaderMap) -> bool {
    options(headers).any(|option| option.eq_ignore_ascii_case("close"))
}

/// Fields that are between two neighbours (RFC 9110 section 7.6.1): the fixed ones, and those that `Connection` names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = options(headers)
            .filter(|option| {
                !option.eq_ignore_ascii_case("close") && !option.eq_ignore_ascii_case("keep-alive")
            })
            .filter_map(|option| HeaderName::try_from(option).ok())
            // Nobody may have fields removed that say what the request is (RFC 9110 section 7.6.1, last paragraph).
            .filter(|name| name != HOST && name != http::header::CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn forwarded(headers: &mut HeaderMap, peer: &Peer) {
    let chain = headers.get(FORWARDED_FOR).filter(|_| peer.trusted);
    let chain = match chain.and_then(|chain| chain.to_str().ok()) {
        Some(chain) => {
            let address = peer.forwarded_for.to_str().unwrap_or_default();
            HeaderValue::try_from(format!("{chain}, {address}"))
                .unwrap_or_else(|_| peer.forwarded_for.clone())
        }
        None => peer.forwarded_for.clone(),
    };
    headers.insert(FORWARDED_FOR, chain);
    if !(peer.trusted && headers.contains_key(FORWARDED_PROTO)) {
        headers.insert(FORWARDED_PROTO, HTTP);
    }
    if !(peer.trusted && headers.contains_key(FORWARDED_HOST)) {
        match headers.get(HOST).cloned() {
            Some(host) => headers.insert(FORWARDED_HOST, host),
            None => headers.remove(FORWARDED_HOST),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn map(rows: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in rows {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn text(headers: &HeaderMap) -> Vec<String> {
        let mut rows: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        rows.sort();
        rows
    }

    #[test]
    fn hop_by_hop_fields_go() {
        #[track_caller]
        fn check(sent: &[(&'static str, &str)], kept: &[&str]) {
            let mut headers = map(sent);
            remove_hop_by_hop(&mut headers);
            assert_eq!(text(&headers), kept);
        }
        check(&[("connection", "close"), ("accept", "a")], &["accept: a"]);
        check(
            &[
                ("connection", "X-A, keep-alive"),
                ("connection", "x-b"),
                ("x-a", "1"),
                ("x-b", "2"),
                ("x-c", "3"),
            ],
            &["x-c: 3"],
        );
        check(
            &[("connection", "host, content-length"), ("host", "h"), ("content-length", "3")],
            &["content-length: 3", "host: h"],
        );
        check(
            &[
                ("keep-alive", "5"),
                ("te", "trailers"),
                ("trailer", "x"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("proxy-connection", "x"),
            ],
            &[],
        );
    }

    #[test]
    fn forwarding_fields() {
        #[track_caller]
        fn check(trusted: &str, sent: &[(&'static str, &str)], expect: &[&str]) {
            let networks: Vec<_> = trusted.split_whitespace().map(|n| n.parse().unwrap()).collect();
            let peer = Peer::new(IpAddr::from([10, 0, 0, 9]), &networks);
            let mut headers = map(sent);
            forwarded(&mut headers, &peer);
            headers.remove(HOST);
            assert_eq!(text(&headers), expect);
        }
        let lies = &[
            ("host", "shop:80"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "front"),
        ];
        let own = &["x-forwarded-for: 10.0.0.9", "x-forwarded-host: shop:80", "x-forwarded-proto: http"];
        check("", lies, own);
        check(
            "10.0.0.0/8",
            lies,
            &["x-forwarded-for: 1.2.3.4, 10.0.0.9", "x-forwarded-host: front", "x-forwarded-proto: https"],
        );
        check("10.0.0.0/8", &[("host", "shop:80")], own);
        check("", &[], &["x-forwarded-for: 10.0.0.9", "x-forwarded-proto: http"]);
    }

    #[test]
    fn closing_is_understood() {
        assert!(says_close(&map(&[("connection", "x, Close")])));
        assert!(!says_close(&map(&[("connection", "keep-alive")])));
    }
}
