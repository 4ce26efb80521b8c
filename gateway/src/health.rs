//! Asking replicas whether they work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{HOST, USER_AGENT};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::HealthConfig;
use crate::fleet::{Checked, Fleet};
use crate::upstream::Pool;

/// Tells what has changed: a replica's name, and whether it is healthy now.
pub(crate) type Told = Arc<dyn Fn(&str, bool) + Send + Sync>;

/// Looks at all replicas, again and again; at once when something was changed.
pub(crate) async fn keep_looking(fleet: Arc<Fleet>, config: HealthConfig, told: Told) {
    // A connection a check: a server that accepts no new ones is not healthy.
    let pool: Arc<Pool<Empty<Bytes>>> = Arc::new(Pool::new(config.timeout, Duration::ZERO, 0));
    loop {
        let mut checks = JoinSet::new();
        for checked in fleet.to_check() {
            let (pool, path, within) = (Arc::clone(&pool), config.path.clone(), config.timeout);
            checks.spawn(async move {
                let good = timeout(within, is_good(&pool, &checked, &path)).await.unwrap_or(false);
                (checked, good)
            });
        }
        while let Some(done) = checks.join_next().await {
            let Ok((checked, good)) = done else { continue };
            if let Some(healthy) = fleet.checked(&checked, good) {
                told(&checked.name, healthy);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(config.interval) => {}
            () = fleet.look.notified() => {}
        }
    }
}

async fn is_good(pool: &Pool<Empty<Bytes>>, checked: &Checked, path: &str) -> bool {
    let Ok(mut connection) = pool.connect(&checked.target, true).await else { return false };
    let request = Request::get(checked.target.path(path))
        .header(HOST, checked.target.host.clone())
        .header(USER_AGENT, "slackwater-gateway-health")
        .body(Empty::new());
    let Ok(request) = request else { return false };
    let response = connection.sender.send_request(request).await;
    response.is_ok_and(|response| response.status().is_success())
}
