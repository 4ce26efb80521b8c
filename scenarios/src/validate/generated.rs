//! Keys of drawn traffic.

use super::{Check, bursts, lasting, longer_than_zero, problem, within};
use crate::random::Keyed;
use crate::traffic::{
    Generate, Lognormal, MOST_IN_COURSE, SessionPlan, Sessions, Turns, ZONE_HELP, known_zone,
};

pub(super) fn check(spec: &Generate, scale: f64) -> Check {
    let key = |name: &str| format!("traffic.generate.{name}");
    longer_than_zero(&key("duration"), spec.duration)?;
    within(&key("rate_per_s"), spec.rate_per_s, 1e-6, 1e6)?;
    bursts::check("traffic.generate", &spec.bursts())?;
    if let Some(zone) = &spec.time_zone {
        known_zone(zone).map_err(|message| problem(&key("time_zone"), message, ZONE_HELP))?;
    }
    profile(&key("hourly"), &spec.hourly, 24, "one number for each hour of the day")?;
    profile(&key("weekend_hourly"), &spec.weekend_hourly, 24, "one number for each hour of the day")?;
    profile(&key("weekday"), &spec.weekday, 7, "one number for each day, Monday first")?;
    mixture(&key("input"), &spec.input)?;
    mixture(&key("output"), &spec.output)?;
    lengths(spec)?;
    let most = f64::from(crate::traffic::MOST_TOKENS);
    within(&key("max_input_tokens"), f64::from(spec.max_input_tokens), 1.0, most)?;
    within(&key("max_output_tokens"), f64::from(spec.max_output_tokens), 1.0, most)?;
    spec.sessions.as_ref().map_or(Ok(()), |sessions| self::sessions(spec, sessions, scale))
}

/// Classes and drift.
fn lengths(spec: &Generate) -> Check {
    let key = |name: &str| format!("traffic.generate.{name}");
    for (index, class) in spec.classes.iter().enumerate() {
        let key = |name: &str| format!("traffic.generate.classes[{index}].{name}");
        within(&key("weight"), class.weight, 1e-9, 1e9)?;
        mixture(&key("input"), &class.input)?;
        mixture(&key("output"), &class.output)?;
    }
    within(&key("class_run"), spec.class_run, 1.0, 1e9)?;
    let sessions = spec.sessions.is_some();
    if spec.class_run > 1.0 && (spec.classes.len() < 2 || sessions) {
        let (message, help) = if sessions {
            ("a session keeps its class anyway", "leave it out")
        } else {
            (
                "there are no classes to stay in",
                "add at least two [[traffic.generate.classes]], or leave it out",
            )
        };
        return Err(problem(&key("class_run"), message, help));
    }
    let Some(drift) = spec.drift else { return Ok(()) };
    if sessions {
        let help = "leave out drift or sessions: a session's lengths are drawn before it is known when its turns come";
        return Err(problem(&key("drift"), "does not go together with `sessions`", help));
    }
    within(&key("drift.input"), drift.input, 0.0, 3.0)?;
    within(&key("drift.output"), drift.output, 0.0, 3.0)?;
    lasting(&key("drift.every"), drift.every, 1.0, 30.0 * 86_400.0)
}

fn sessions(spec: &Generate, sessions: &Sessions, scale: f64) -> Check {
    let key = |name: &str| format!("traffic.generate.sessions.{name}");
    match sessions.turns {
        Turns::Fixed(count) => within(&key("turns.fixed"), f64::from(count), 1.0, 1000.0)?,
        Turns::Geometric(mean) => within(&key("turns.geometric"), mean, 1.0, 1000.0)?,
        Turns::Lognormal { median, sigma } => {
            within(&key("turns.lognormal.median"), median, 1.0, 1000.0)?;
            within(&key("turns.lognormal.sigma"), sigma, 0.0, 3.0)?;
        }
    }
    if let Some(person) = &sessions.person {
        within(&key("person.share"), person.share, 0.0, 1.0)?;
    }
    if let Some(to) = sessions.compact_to {
        let system = sessions.system_prompts.map_or(0, |prompts| prompts.tokens);
        if to <= system || to >= spec.max_input_tokens {
            let message = format!("{to} tokens are not between the system prompt and max_input_tokens");
            let help = format!("give more than {system} and fewer than {}", spec.max_input_tokens);
            return Err(problem(&key("compact_to"), message, help));
        }
    }
    if let Some(prompts) = sessions.system_prompts {
        within(&key("system_prompts.count"), f64::from(prompts.count), 1.0, 1e6)?;
        within(
            &key("system_prompts.tokens"),
            f64::from(prompts.tokens),
            1.0,
            f64::from(crate::traffic::MOST_TOKENS),
        )?;
        within(&key("system_prompts.zipf"), prompts.zipf, 0.0, 10.0)?;
        if prompts.tokens >= spec.max_input_tokens {
            let message = format!(
                "{} tokens leave no room below max_input_tokens, {}",
                prompts.tokens, spec.max_input_tokens
            );
            return Err(problem(
                &key("system_prompts.tokens"),
                message,
                "shorten the prompt, or raise max_input_tokens",
            ));
        }
    }
    let plan = SessionPlan::new(spec, scale, Keyed::new(0));
    let expected = plan.map_or(0.0, |plan| plan.expected_in_course());
    if sessions.in_course && expected > MOST_IN_COURSE {
        let message = format!("{expected:.0} sessions would be under way at the start");
        let help = "shorten `think`, lower rate_per_s, or set in_course = false";
        return Err(problem(&key("think"), message, help));
    }
    Ok(())
}

fn profile(key: &str, rates: &[f64], wanted: usize, meaning: &str) -> Check {
    if rates.is_empty() {
        return Ok(());
    }
    if rates.len() != wanted {
        return Err(problem(
            key,
            format_args!("{} numbers", rates.len()),
            format!("give {wanted}: {meaning}"),
        ));
    }
    for (index, rate) in rates.iter().enumerate() {
        within(&format!("{key}[{index}]"), *rate, 0.0, 1e6)?;
    }
    if rates.iter().all(|rate| *rate < 1e-9) {
        return Err(problem(
            key,
            "all numbers are zero: there would be no traffic",
            format!("give {meaning}"),
        ));
    }
    Ok(())
}

pub(super) fn mixture(key: &str, parts: &[Lognormal]) -> Check {
    if parts.is_empty() {
        let help = "give at least one part, such as { median = 400, sigma = 0.9 }";
        return Err(problem(key, "has no part", help));
    }
    for (index, part) in parts.iter().enumerate() {
        within(&format!("{key}[{index}].weight"), part.weight, 1e-9, 1e9)?;
        within(&format!("{key}[{index}].median"), part.median, 1.0, f64::from(crate::traffic::MOST_TOKENS))?;
        within(&format!("{key}[{index}].sigma"), part.sigma, 0.0, 5.0)?;
    }
    Ok(())
}
