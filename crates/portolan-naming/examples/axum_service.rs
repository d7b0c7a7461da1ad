//! A web service that registers itself and asks another one, found by name.
//!
//! ```text
//! portolan up --no-docker
//! cargo run -p portolan-naming --example axum_service --features consul -- portolan://127.0.0.1:8500 greeter
//! cargo run -p portolan-naming --example axum_service --features consul -- portolan://127.0.0.1:8500 caller greeter
//! curl http://ADDRESS-OF-CALLER/     # "greeter at ADDRESS-OF-GREETER would be asked"
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use portolan_model::{
    Endpoint, Health, Host, Incarnation, InstanceId, Owner, Protocol, Registration, ServiceName, Weight,
};
use portolan_naming::Naming;
use portolan_naming::selector::{Preference, Selector, Strategy};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

struct App {
    naming: Naming,
    selector: Selector,
    peer: Option<ServiceName>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(uri), Some(name)) = (words.next(), words.next()) else {
        return Err("usage: axum_service REGISTRY-URI NAME [PEER]".into());
    };
    let peer = words.next().map(ServiceName::new).transpose()?;
    let naming = Naming::open(&uri)?;

    // Listen first, then register: whoever finds us can reach us.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let registered = naming
        .register(Registration {
            id: InstanceId::new(format!("{name}-{address}"))?,
            service: ServiceName::new(&name)?,
            endpoint: Endpoint { host: Host::Ip(address.ip()), port: address.port() },
            protocol: Protocol::Tcp,
            tags: ["http".to_owned()].into(),
            meta: [].into(),
            weight: Weight::default(),
            zone: None,
            owner: Owner::new("axum_service")?,
            incarnation: Incarnation::default(),
            health: Health::Passing,
        })
        .await?;
    say(&format!("{name} at http://{address}/"));

    let selector = Selector::new(Strategy::LeastRequests, Preference::default());
    let app = Arc::new(App { naming: naming.clone(), selector, peer });
    let service = Router::new().route("/", get(answer)).with_state(app);
    let (hand_over, drained) = oneshot::channel();
    let told = async move {
        let _told = tokio::signal::ctrl_c().await;
        // No new requests; those in flight are finished by axum.
        let _away = registered.drain().await;
        let _nobody_waits = hand_over.send(registered);
    };
    axum::serve(listener, service).with_graceful_shutdown(told).await?;
    drained.await?.deregister().await?;
    naming.close(Duration::from_secs(5)).await.map_err(|unfinished| format!("{unfinished:?}").into())
}

async fn answer(State(app): State<Arc<App>>) -> (StatusCode, String) {
    let Some(peer) = &app.peer else { return (StatusCode::OK, "hello\n".to_owned()) };
    // From the local table: no question to the registry, and an answer while it is away.
    let found = match app.naming.find(peer.clone(), ["http"]).await {
        Ok(found) => found,
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    };
    // The pick counts as a request for as long as it is held.
    match app.selector.pick(&found, "") {
        Some(pick) => (StatusCode::OK, format!("{peer} at {} would be asked\n", pick.instance.endpoint())),
        None => (StatusCode::SERVICE_UNAVAILABLE, format!("no instance of {peer}\n")),
    }
}

#[expect(clippy::print_stdout, reason = "an example talks on its terminal")]
fn say(text: &str) {
    println!("{text}");
}
