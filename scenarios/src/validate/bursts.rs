//! How arrivals lie around a rate.

use super::{Check, lasting, problem, within};
use crate::traffic::{Arrivals, Bursts, Clients, MOST_BURSTY, MOST_EVEN, Noise};

/// More clients than these are no longer told from independent requests.
const MOST_CLIENTS: f64 = 100_000.0;
/// A logarithm that varies more is no rate anybody has seen.
const MOST_SD: f64 = 2.0;
const DAY_S: f64 = 86_400.0;

/// `at`: the table that the keys stand in.
pub(super) fn check(at: &str, bursts: &Bursts) -> Check {
    let key = |name: &str| format!("{at}.{name}");
    match bursts.arrivals {
        Arrivals::Poisson => {}
        Arrivals::GammaCv(cv) => within(&key("arrivals.gamma_cv"), cv, 0.05, 20.0)?,
        Arrivals::WeibullCv(cv) => within(&key("arrivals.weibull_cv"), cv, 0.05, 20.0)?,
    }
    if let Some(spec) = &bursts.clients {
        if bursts.arrivals != Arrivals::Poisson {
            let help = "leave `arrivals` out and give the clients' `cv` and `shape`, or leave `clients` out";
            return Err(problem(&key("clients"), "is given beside `arrivals`", help));
        }
        clients(&key("clients"), spec)?;
    }
    if let Some(spec) = bursts.on_off {
        lasting(&key("on_off.on"), spec.on, 0.1, 30.0 * DAY_S)?;
        lasting(&key("on_off.off"), spec.off, 0.1, 30.0 * DAY_S)?;
    }
    if let Some(spec) = bursts.flicker {
        within(&key("flicker.sd"), spec.sd, 0.0, MOST_SD)?;
        lasting(&key("flicker.memory"), spec.memory, 0.1, DAY_S)?;
    }
    bursts.noise.as_ref().map_or(Ok(()), |spec| noise(&key("noise"), spec))
}

fn clients(at: &str, spec: &Clients) -> Check {
    within(&format!("{at}.count"), f64::from(spec.count), 1.0, MOST_CLIENTS)?;
    within(&format!("{at}.zipf"), spec.zipf, 0.0, 10.0)?;
    within(&format!("{at}.cv"), spec.cv, MOST_EVEN, MOST_BURSTY)?;
    spec.cv_p95.map_or(Ok(()), |p95| within(&format!("{at}.cv_p95"), p95, spec.cv, MOST_BURSTY))
}

fn noise(at: &str, spec: &Noise) -> Check {
    within(&format!("{at}.change"), spec.change, 0.0, 1.0)?;
    lasting(&format!("{at}.memory"), spec.memory, 60.0, 30.0 * DAY_S)?;
    if spec.log_sd() > MOST_SD {
        let message =
            format!("with this memory the level would wander by {:.1} in its logarithm", spec.log_sd());
        let help = format!("lower `change` or `memory`: up to {MOST_SD} is possible");
        return Err(problem(&format!("{at}.change"), message, help));
    }
    within(&format!("{at}.jumps_per_week"), spec.jumps_per_week, 0.0, 1_008.0)?;
    within(&format!("{at}.jump"), spec.jump, 1.0, 10.0)?;
    lasting(&format!("{at}.jump_decay"), spec.jump_decay, 60.0, DAY_S)
}
