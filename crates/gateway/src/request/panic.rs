//! One panic is one 500: it ends the request that caused it, and nothing else.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// Runs `request`; a panic in it becomes its message. What the request shared with others is left whole: the pool and
/// the connection list change only in straight code that cannot panic half-way.
pub(super) async fn caught<F: Future>(mut request: Pin<Box<F>>) -> Result<F::Output, String> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| request.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(panic) => Poll::Ready(Err(message(&*panic))),
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Lets a test make a request panic. Not in any build but the unit tests'.
#[cfg(test)]
pub(super) fn fault_point(headers: &http::HeaderMap) {
    if headers.contains_key("x-test-panic") {
        panic!("asked for by a test");
    }
}

#[cfg(test)]
mod tests {
    use crate::rig::{Rig, within};
    use testkit::upstream::Behaviour;
    use testkit::wire::Client;

    #[tokio::test]
    async fn one_panic_is_one_500() {
        let rig = Rig::start();
        let _web = rig.instance("web", "a", Behaviour::Answer("ok")).await;
        let address = rig.handle.local_addr();
        let mut others = tokio::task::JoinSet::new();
        for n in 0..100 {
            others.spawn(async move {
                let mut client = Client::connect(address).await.unwrap();
                let mut answers = Vec::new();
                for turn in 0..5 {
                    let headers = if n == 50 && turn == 2 { "x-test-panic: 1\r\n" } else { "" };
                    answers.push(client.get("/web/", headers).await.unwrap().status());
                }
                (n, answers)
            });
        }
        for (n, answers) in within(others.join_all()).await {
            let expect = if n == 50 { [200, 200, 500, 200, 200] } else { [200; 5] };
            assert_eq!(answers, expect, "client {n}");
        }
        rig.stop().await;
    }
}
