//! A live server, watched: nothing is sent to it but requests for its metrics.

use std::time::{Duration, Instant};

use slackwater_exec::http::{Base, get};

use crate::ask::{AskError, Server};
use crate::counters::Counters;

/// One look takes no longer, or has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many looks in a row that fail are the end.
const PATIENT: u32 = 5;

/// Looks at the server's counters for so long, so often, or until `enough` has come. `say` is told now and then how far it is.
///
/// # Errors
/// When the server does not answer several times in a row; whatever was seen before is lost then.
pub async fn watch(
    server: &Server,
    lasts: Duration,
    every: Duration,
    enough: impl Future<Output = ()>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Counters, AskError> {
    let base = Base::parse(&server.url).map_err(|_| AskError::Url(server.url.clone()))?;
    let mut counters = Counters::default();
    tokio::pin!(enough);
    let began = Instant::now();
    let (mut due, mut silent, mut said) = (Duration::ZERO, 0, Duration::ZERO);
    loop {
        let asked = began.elapsed();
        let look = get(&base, "/metrics", PATIENCE).await;
        match look {
            Ok(answer) if answer.is_ok() => {
                // The page was written somewhere in between.
                let at = (asked + began.elapsed()) / 2;
                counters.page(at.as_secs_f64(), &answer.body);
                silent = 0;
            }
            other => {
                silent += 1;
                if silent >= PATIENT {
                    let problem = match other {
                        Ok(answer) => format!("it answers {}", answer.status),
                        Err(trouble) => trouble.reason,
                    };
                    return Err(AskError::Silent { url: server.url.clone(), path: "/metrics", problem });
                }
            }
        }
        if began.elapsed() >= lasts {
            return Ok(counters);
        }
        if began.elapsed() - said >= Duration::from_secs(30) {
            said = began.elapsed();
            say(&format!("{} of {} s", said.as_secs(), lasts.as_secs()));
        }
        // A look that took too long is followed by the next one that is due.
        while due <= began.elapsed() {
            due += every;
        }
        tokio::select! {
            () = tokio::time::sleep_until((began + due).into()) => {}
            () = &mut enough => return Ok(counters),
        }
    }
}
