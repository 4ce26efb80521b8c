//! How far to trust it, and how to see it again.

use std::fmt::Write as _;

use slackwater_sim::SimulationResult;

use super::escape;
use crate::clock::Clock;
use crate::facts;
use crate::format::{count, counted, duration, figure, latency, share, token_time};
use crate::write::ReportContext;

pub(super) fn assumptions(page: &mut String, result: &SimulationResult) {
    page.push_str("<section id=\"assumptions\">\n<h2>Assumptions and limits</h2>\n");
    if !result.warnings.is_empty() {
        page.push_str("<ul class=\"warnings\">\n");
        for warning in &result.warnings {
            let _ = writeln!(page, "<li>{}</li>", escape(warning));
        }
        page.push_str("</ul>\n");
    }
    let (fleet, traffic, slo) = (&result.fleet, &result.traffic, &result.slo);
    let e2e = slo.e2e_s.map_or_else(String::new, |e| format!(", E2E {}", latency(e)));
    let judged = Clock::of(traffic);
    let scale = if (traffic.rate_scale - 1.0).abs() < 1e-9 {
        String::new()
    } else {
        format!(", rate scaled by {}", figure(traffic.rate_scale))
    };
    let mut facts = vec![
        (
            "Service level",
            format!(
                "{} of requests within TTFT {}, TPOT {}{e2e}; a request that was cut, timed out or rejected missed it",
                share(slo.share),
                latency(slo.ttft_s),
                token_time(slo.tpot_s)
            ),
        ),
        (
            "Judged period",
            format!(
                "{} to {} ({}), {}",
                judged.cell(result.service.from_s),
                judged.cell(result.service.until_s),
                judged.cell_unit(),
                counted(result.service.arrived, "request")
            ),
        ),
        (
            "Traffic",
            format!(
                "{} ({}), {}, {} requests a second on average{scale}; {} prompt and {} output tokens on average",
                traffic.source,
                traffic.format,
                duration(traffic.span_s),
                figure(traffic.mean_rate_per_s),
                figure(traffic.mean_input_tokens),
                figure(traffic.mean_output_tokens)
            ),
        ),
        ("Rows left out", dropped(result)),
        ("Old version", format!("{}: {}", fleet.from.0, source(&fleet.from.1))),
        ("New version", format!("{}: {}", fleet.to.0, source(&fleet.to.1))),
        (
            "Engine",
            format!(
                "{}, {}, KV blocks at most {} in use",
                counted(result.steps, "step"),
                counted(result.preemptions, "preemption"),
                share(result.kv_peak_share)
            ),
        ),
    ];
    let said = |line: String| line.split_once(": ").map(|(_, rest)| rest.to_owned()).unwrap_or(line);
    facts.extend(facts::canary(result).map(|line| ("Canary", said(line))));
    facts.extend(facts::sessions(result).map(|line| ("Sessions", said(line))));
    facts.extend(facts::prefix_cache(result).map(|line| ("Prefix cache", said(line))));
    list(page, &facts);
    page.push_str("</section>\n");
}

fn source(text: &str) -> &str {
    if text.is_empty() { "source of its engine profile not recorded" } else { text }
}

fn dropped(result: &SimulationResult) -> String {
    let rows: Vec<String> = result
        .traffic
        .dropped
        .iter()
        .map(|(reason, n, first)| format!("{} ({reason}; first at row {})", count(*n), count(*first)))
        .collect();
    if rows.is_empty() { "none".to_owned() } else { rows.join(", ") }
}

pub(super) fn reproduce(page: &mut String, result: &SimulationResult, context: &ReportContext) {
    page.push_str("<section id=\"reproduce\">\n<h2>See it again</h2>\n");
    if !context.command_line.is_empty() {
        let _ = writeln!(page, "<pre><code>{}</code></pre>", escape(&context.command_line));
    }
    let mut facts = vec![
        ("Slackwater", result.slackwater.clone()),
        ("Seed", result.seed.to_string()),
        ("Result hash", result.hash.clone()),
    ];
    let inputs: Vec<(String, String)> =
        result.inputs.iter().map(|(name, hash)| (format!("SHA-256 of {name}"), hash.clone())).collect();
    facts.extend(inputs.iter().map(|(name, hash)| (name.as_str(), hash.clone())));
    facts.push((
        "Simulated in",
        format!("{} ({} requests a second)", latency(result.wall_s), figure(result.requests_per_wall_s)),
    ));
    list(page, &facts);
    page.push_str("</section>\n");
}

fn list(page: &mut String, facts: &[(&str, String)]) {
    page.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts {
        let _ = writeln!(page, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    page.push_str("</dl>\n");
}
