//! A plan as one HTML file, in the style of the simulation's report: no network, no script.

use std::fmt::Write as _;

use slackwater_planner::planned::{Answer, Matching, Planned};

use super::brief::{Brief, brief};
use super::tables::{self, Table};
use super::{PLAN_PLOTS, words};
use crate::format::{count, duration, figure, latency, sentence, share, token_time};
use crate::html::{escape, head, table};
use crate::plots::{Form, Style, Theme, themeable};
use crate::write::ReportContext;

/// The page.
#[must_use]
pub fn plan_page(planned: &Planned, context: &ReportContext) -> String {
    let brief = brief(planned);
    let mut page = String::with_capacity(1024 * 1024);
    head(&mut page, &format!("{}: {}", brief.answer, brief.title));
    first_screen(&mut page, planned, &brief);
    section(&mut page, "when", "When", |page| {
        figure_of(page, planned, "starts");
        let _ = writeln!(page, "<p>{}.</p>", escape(&words::starts_by_verdict(planned)));
        figure_of(page, planned, "load");
        put(page, tables::certified(planned));
        put(page, tables::capacity(planned));
    });
    section(&mut page, "drain", "Drain timeout", |page| {
        figure_of(page, planned, "drain-timeouts");
        put(page, tables::drain(planned));
        figure_of(page, planned, "drain-by-hour");
        if let Some(matching) = &planned.matching {
            page.push_str("<p>No other time-out may cut a drain short. Each of these at least:</p>\n");
            let _ = writeln!(page, "<pre><code>{}</code></pre>", escape(&settings(matching)));
        }
    });
    section(&mut page, "how", "How", |page| {
        put(page, tables::strategies(planned));
        figure_of(page, planned, "rollout");
    });
    section(&mut page, "against", "Against today’s way", |page| put(page, tables::today(planned)));
    section(&mut page, "sensitivity", "What turns it red", |page| put(page, tables::sensitivity(planned)));
    section(&mut page, "bands", "What to watch meanwhile", |page| put(page, tables::bands(planned)));
    assumptions(&mut page, planned);
    reproduce(&mut page, planned, context);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// A section, left out when it would be empty.
fn section(page: &mut String, id: &str, title: &str, fill: impl FnOnce(&mut String)) {
    let mut content = String::new();
    fill(&mut content);
    if !content.is_empty() {
        let _ = write!(page, "<section id=\"{id}\">\n<h2>{}</h2>\n{content}</section>\n", escape(title));
    }
}

fn first_screen(page: &mut String, planned: &Planned, brief: &Brief) {
    let (class, sign) = match planned.answer {
        Answer::Go => ("good", "✓"),
        Answer::Conditional => ("mixed", "!"),
        Answer::NoGo => ("bad", "✗"),
    };
    let title: Vec<String> =
        brief.title.split(" → ").map(|part| format!("<span>{}</span>", escape(part))).collect();
    let _ = write!(
        page,
        "<header class=\"plan\">\n<p class=\"kicker\">Slackwater · plan of a rolling upgrade</p>\n<h1>{}</h1>\n<p class=\"fleet\">{}</p>\n",
        title.join(" → "),
        escape(&brief.fleet)
    );
    if let Some(partial) = brief.partial {
        let _ = writeln!(page, "<p class=\"partial\">{}</p>", escape(partial));
    }
    let _ = writeln!(
        page,
        "<div class=\"verdict {class}\"><p class=\"badge\"><span aria-hidden=\"true\">{sign}</span> {}</p>",
        escape(brief.answer)
    );
    for reason in &brief.reasons {
        let _ = writeln!(page, "<p>{}</p>", prose(&sentence(reason)));
    }
    page.push_str("</div>\n");
    if !brief.nearest.is_empty() {
        lines(page, "What would work", &brief.nearest, "nearest");
    }
    if !brief.facts.is_empty() {
        page.push_str("<dl class=\"tiles\">\n");
        for fact in &brief.facts {
            let _ = writeln!(
                page,
                "<div><dt>{}</dt><dd><strong>{}</strong><small>{}</small></dd></div>",
                escape(fact.label),
                prose(&fact.value),
                prose(&fact.note)
            );
        }
        page.push_str("</dl>\n");
    }
    page.push_str("<div class=\"beside\">\n");
    if !brief.red.is_empty() {
        lines(page, "What turns it red", &brief.red, "red");
    }
    lines(page, "How far to trust it", &brief.trust, "trust");
    page.push_str("</div>\n");
    if let Some(command) = brief.command {
        let _ = writeln!(
            page,
            "<p class=\"caption\">To run it:</p>\n<pre><code>{}</code></pre>",
            escape(command)
        );
    }
    page.push_str("</header>\n");
}

fn lines(page: &mut String, title: &str, all: &[String], class: &str) {
    let _ = writeln!(page, "<div class=\"{class}\"><h3>{}</h3>\n<ul>", escape(title));
    for line in all {
        let _ = writeln!(page, "<li>{}</li>", prose(line));
    }
    page.push_str("</ul></div>\n");
}

/// Text in which a number keeps its unit.
fn prose(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let unit = |word: &str| {
        let bare = word.trim_end_matches([',', ';', '.', ':', ')']);
        matches!(bare, "%" | "ms" | "s" | "min" | "h" | "d")
    };
    let mut said = String::with_capacity(text.len());
    for (place, word) in words.iter().enumerate() {
        if place > 0 {
            let number = words[place - 1].ends_with(|c: char| c.is_ascii_digit());
            said.push(if number && unit(word) { '\u{a0}' } else { ' ' });
        }
        said.push_str(word);
    }
    escape(&said)
}

fn put(page: &mut String, of: Option<Table>) {
    if let Some(Table { caption, head, rows, notes }) = of {
        table(page, &caption, &head, rows.into_iter());
        if !notes.is_empty() {
            page.push_str("<ul class=\"notes\">\n");
            for note in notes {
                let _ = writeln!(page, "<li>{}</li>", prose(&note));
            }
            page.push_str("</ul>\n");
        }
    }
}

/// A drawing, laid out wide and narrow; nothing where the plan has nothing for it.
fn figure_of(page: &mut String, planned: &Planned, name: &str) {
    let Some(plot) = PLAN_PLOTS.iter().find(|plot| plot.name == name && (plot.applies)(planned)) else {
        return;
    };
    let _ = writeln!(page, "<figure id=\"{name}\">");
    for (class, form) in [("wide", Form::Wide), ("narrow", Form::Narrow)] {
        let drawing = (plot.draw)(planned, Style { theme: Theme::Light, form });
        let _ = writeln!(page, "<div class=\"{class}\">{}</div>", themeable(&drawing));
    }
    let _ = write!(page, "<figcaption>{}</figcaption>\n</figure>\n", escape(plot.caption));
}

/// What to set elsewhere, to be copied.
pub(super) fn settings(matching: &Matching) -> String {
    let s = |seconds: f64| {
        if seconds.is_finite() { format!("{:.0}", seconds.max(0.0).ceil()) } else { "?".to_owned() }
    };
    let Matching {
        proxy_read_timeout_s,
        worker_shutdown_timeout_s,
        engine_shutdown_timeout_s,
        grace_period_s,
    } = matching;
    format!(
        "# nginx.conf\nproxy_read_timeout {}s;\nworker_shutdown_timeout {}s;    # if it is set at all\n\n\
         # vLLM\nvllm serve ... --shutdown-timeout {}\n\n\
         # systemd unit\nTimeoutStopSec={}\n\n\
         # Docker Compose service\nstop_grace_period: {}s\n\n\
         # Kubernetes pod\nterminationGracePeriodSeconds: {}",
        s(*proxy_read_timeout_s),
        s(*worker_shutdown_timeout_s),
        s(*engine_shutdown_timeout_s),
        s(*grace_period_s),
        s(*grace_period_s),
        s(*grace_period_s)
    )
}

/// What the answer rests on: names and values.
pub(super) fn assumed(planned: &Planned) -> Vec<(&'static str, String)> {
    let (asked, slo, history) = (&planned.asked, &planned.slo, &planned.history);
    let e2e = slo.e2e_s.map_or_else(String::new, |e| format!(", E2E {}", latency(e)));
    let (miss, cut, hour) = asked.cost;
    let mut facts = vec![
        (
            "Service level",
            format!(
                "{} of requests within TTFT {}, TPOT {}{e2e}, as a whole and in every 5 minutes",
                share(slo.share),
                latency(slo.ttft_s),
                token_time(slo.tpot_s)
            ),
        ),
        (
            "Asked for",
            format!(
                "a risk of at most {}, any request cut in at most {} of rollouts; bounds hold with {} confidence",
                words::chance(asked.risk),
                words::chance(asked.cut_risk),
                share(asked.confidence)
            ),
        ),
        (
            "Starts",
            format!(
                "every {} over {}, each in {} futures; traffic × {}; local times are {}",
                duration(asked.every_s),
                duration(asked.horizon_s),
                count(asked.futures),
                figure(asked.growth),
                asked.time_zone
            ),
        ),
        (
            "Cost",
            format!(
                "a missed request {}, a cut one {}, an hour below N {}",
                figure(miss),
                figure(cut),
                figure(hour)
            ),
        ),
        (
            "Traffic",
            if history.kind == "recorded" {
                format!(
                    "{}: {} days, {} requests; days alike differ by a factor of e^±{} in their rate, slow noise of e^±{} laid over",
                    history.source,
                    figure(history.days),
                    count(history.requests),
                    figure(history.day_sd),
                    figure(history.noise_sd)
                )
            } else {
                format!("{}, a stated profile: nothing recorded", history.source)
            },
        ),
    ];
    if history.kind == "recorded" {
        let dropped: Vec<String> =
            history.dropped.iter().map(|(why, n)| format!("{} ({why})", count(*n))).collect();
        facts
            .push(("Rows left out", if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") }));
        let holes: Vec<String> = history
            .holes
            .iter()
            .take(8)
            .map(|(from, until)| {
                format!("{} to {}", super::when::short(from), super::when::beside(until, from))
            })
            .collect();
        let more = history.holes.len().saturating_sub(holes.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        facts.push((
            "Holes",
            if holes.is_empty() { "none".to_owned() } else { format!("{}{more}", holes.join(", ")) },
        ));
    }
    let (old, new) = &planned.fleet.profiles;
    let source = |text: &str| {
        if text.is_empty() { "source of its engine profile not recorded".to_owned() } else { text.to_owned() }
    };
    facts.push(("Old version", format!("{}: {}", planned.fleet.from, source(old))));
    facts.push(("New version", format!("{}: {}", planned.fleet.to, source(new))));
    facts.push((
        "Two errors",
        "the bound on the risk is of Monte Carlo error, which more futures shrink; the history floor is what no number of futures shrinks"
            .to_owned(),
    ));
    facts
}

fn assumptions(page: &mut String, planned: &Planned) {
    page.push_str("<section id=\"assumptions\">\n<h2>Assumptions, data, limits</h2>\n");
    if !planned.warnings.is_empty() {
        page.push_str("<ul class=\"warnings\">\n");
        for warning in &planned.warnings {
            let _ = writeln!(page, "<li>{}</li>", prose(&sentence(warning)));
        }
        page.push_str("</ul>\n");
    }
    list(page, &assumed(planned));
    page.push_str("</section>\n");
}

/// How to see it again: names and values.
pub(super) fn provenance(planned: &Planned) -> Vec<(String, String)> {
    let mut facts = vec![
        ("Slackwater".to_owned(), planned.slackwater.clone()),
        ("Seed".to_owned(), planned.seed.to_string()),
        ("Answer’s hash".to_owned(), planned.hash.clone()),
    ];
    facts.extend(planned.inputs.iter().map(|(name, hash)| (format!("SHA-256 of {name}"), hash.clone())));
    facts.push((
        "Computed in".to_owned(),
        format!("{}, {} requests simulated", latency(planned.wall_s), count(planned.simulated_requests)),
    ));
    facts
}

fn reproduce(page: &mut String, planned: &Planned, context: &ReportContext) {
    page.push_str("<section id=\"reproduce\">\n<h2>See it again</h2>\n");
    if !context.command_line.is_empty() {
        let _ = writeln!(page, "<pre><code>{}</code></pre>", escape(&context.command_line));
    }
    list(page, &provenance(planned));
    page.push_str("</section>\n");
}

fn list(page: &mut String, facts: &[(impl AsRef<str>, String)]) {
    page.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts {
        let _ = writeln!(page, "<dt>{}</dt><dd>{}</dd>", escape(name.as_ref()), escape(value));
    }
    page.push_str("</dl>\n");
}
