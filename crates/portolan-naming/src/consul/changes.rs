//! Following a Portolan: it tells everything, and then each change as it happens, in one answer that does not end.
//!
//! So a change costs what it is about and no more, whereas a blocking query of Consul's answers with all instances of a
//! service.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use consul_api::{ChangeLine, ServiceEntry};
use portolan_model::{InstanceId, ServiceName};

use super::line::{Ask, Line, Trouble};
use super::row::{Row, rows};
use super::watch::{Context, READ_LIMIT, Seen};

/// How long a server may say nothing: three times as long as it does.
const SILENCE: Duration = Duration::from_secs(6);

/// The most instances taken on at all.
const INSTANCES_LIMIT: usize = 1_000_000;

/// One instance, as it is now.
#[derive(Debug)]
pub(super) enum Delta {
    /// It is so.
    Upsert(Row),
    /// It is gone.
    Remove { service: ServiceName, id: InstanceId },
}

impl Delta {
    pub(super) fn id(&self) -> &InstanceId {
        match self {
            Self::Upsert(row) => row.id(),
            Self::Remove { id, .. } => id,
        }
    }
}

/// Follows until it cannot go on.
pub(super) async fn changes(context: Context) {
    match follow(&context).await {
        Ok(never) => match never {},
        Err(trouble) => context.broken(&trouble).await,
    }
}

async fn follow(context: &Context) -> Result<Infallible, Trouble> {
    let line = Line::new(Arc::clone(&context.server));
    let mut flow = line.flow(&Ask::get("/v1/portolan/changes"), READ_LIMIT).await?;
    let (mut gathered, mut count) = (None, 0);
    let mut began = false;
    loop {
        let line = flow.line(SILENCE).await?;
        let line = serde_json::from_slice(&line).map_err(|error| Trouble::Nonsense(error.to_string()))?;
        match line {
            ChangeLine::Alive {} if began => {}
            // It lives, and knows nothing: its own registry is away, and it has no table of before.
            ChangeLine::Alive {} => {
                let server = &context.server;
                return Err(Trouble::Unreachable(format!("{server}: it has not read its own registry yet")));
            }
            ChangeLine::Reset {} => (gathered, count, began) = (Some(BTreeMap::new()), 0, true),
            ChangeLine::Whole { index } => {
                if let Some(services) = gathered.take() {
                    context.see(Seen::Whole { services, index }).await;
                }
            }
            ChangeLine::Upsert { index, entry } => {
                let Some((service, row)) = read(context, *entry) else { continue };
                match &mut gathered {
                    Some(_) if count == INSTANCES_LIMIT => {
                        return Err(Trouble::Nonsense("more instances than are taken on".to_owned()));
                    }
                    Some(services) => {
                        count += 1;
                        services.entry(service).or_default().push(row);
                    }
                    None => context.see(Seen::Changed { delta: Delta::Upsert(row), index }).await,
                }
            }
            ChangeLine::Remove { index, service, id } => {
                let (Ok(service), Ok(id)) = (ServiceName::new(service), InstanceId::new(id)) else {
                    continue;
                };
                context.see(Seen::Changed { delta: Delta::Remove { service, id }, index }).await;
            }
        }
    }
}

fn read(context: &Context, entry: ServiceEntry) -> Option<(ServiceName, Row)> {
    let service = ServiceName::new(&entry.service.service).ok()?;
    let row = rows(context.config.flavour, &service, vec![entry]).pop()?;
    Some((service, row))
}
