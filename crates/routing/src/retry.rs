//! What may be tried again elsewhere. A request that an instance may have acted on is never sent twice, unless its
//! method says that twice is once (RFC 9110 section 9.2.2).

use http::Method;

/// How an attempt failed, as seen from the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about: refused, unreachable, or not within the connect timeout.
    Connect,
    /// There was a connection, and it ended before anything of the request was written.
    NothingSent,
    /// The connection ended after the request was written and before a byte of the answer. Usually an idle
    /// connection that the instance was closing at that moment (`kept_alive`), else an instance that died over it.
    ClosedBeforeAnswer {
        /// Whether the connection had carried an earlier request.
        kept_alive: bool,
    },
    /// Something arrived that is no HTTP answer, or the answer broke off inside its head.
    BadAnswer,
    /// No answer within the response timeout.
    Timeout,
}

/// Whether failed attempts of one request may go to another instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRule {
    idempotent: bool,
    replayable: bool,
}

impl RetryRule {
    /// `has_body`: whether the request carries a body, which is streamed and so cannot be sent again.
    pub fn new(method: &Method, has_body: bool) -> Self {
        Self { idempotent: method.is_idempotent(), replayable: !has_body }
    }

    /// Whether to go elsewhere after `failure`.
    pub fn allows(self, failure: Failure) -> bool {
        match failure {
            Failure::Connect | Failure::NothingSent => true,
            Failure::ClosedBeforeAnswer { kept_alive } => kept_alive && self.idempotent && self.replayable,
            Failure::BadAnswer | Failure::Timeout => false,
        }
    }

    /// Whether the request can be sent again at all: only then is a copy worth keeping.
    pub fn replayable(self) -> bool {
        self.replayable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let closed = |kept_alive| Failure::ClosedBeforeAnswer { kept_alive };
        #[track_caller]
        fn check(method: &Method, has_body: bool, failure: Failure, expect: bool) {
            assert_eq!(RetryRule::new(method, has_body).allows(failure), expect, "{method} {failure:?}");
        }
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            check(&method, false, Failure::Connect, true);
            check(&method, true, Failure::NothingSent, true);
            check(&method, false, closed(true), true);
            check(&method, true, closed(true), false);
            check(&method, false, closed(false), false);
            check(&method, false, Failure::BadAnswer, false);
            check(&method, false, Failure::Timeout, false);
        }
        for method in [Method::POST, Method::PATCH] {
            check(&method, true, Failure::Connect, true);
            check(&method, true, Failure::NothingSent, true);
            check(&method, false, closed(true), false);
            check(&method, false, Failure::Timeout, false);
        }
    }
}
