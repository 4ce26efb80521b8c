//! A trace as one HTML file, in the style of the simulation's report.

use std::fmt::Write as _;

use slackwater_scenarios::traffic::statistics::TraceFigures;

use super::{Against, distances, file_name, pairs, plots, ratio};
use crate::clock::Clock;
use crate::format::{NONE, count, duration, figure, share};
use crate::html::{escape, head, table};
use crate::plots::{Form, Style, Theme, themeable};
use crate::write::ReportContext;

/// The page.
#[must_use]
pub fn trace_page(figures: &TraceFigures, against: Option<Against<'_>>, context: &ReportContext) -> String {
    let name = file_name(&figures.import.source, 80);
    let mut page = String::with_capacity(256 * 1024);
    head(&mut page, &format!("{name}: a trace"));
    let _ = write!(
        page,
        "<header>\n<p class=\"kicker\">Slackwater · traffic</p>\n<h1>{}</h1>\n<p class=\"fleet\">{}</p>\n",
        escape(&name),
        escape(&summary(figures))
    );
    warnings(&mut page, figures);
    tiles(&mut page, figures);
    page.push_str("</header>\n");
    if let Some(against) = against {
        comparison(&mut page, against);
    }
    page.push_str("<section>\n<h2>Plots</h2>\n");
    for plot in plots::applicable(figures) {
        let _ = writeln!(page, "<figure id=\"{}\">", plot.name);
        for (class, form) in [("wide", Form::Wide), ("narrow", Form::Narrow)] {
            let drawing = (plot.draw)(figures, against, Style { theme: Theme::Light, form });
            let _ = writeln!(page, "<div class=\"{class}\">{}</div>", themeable(&drawing));
        }
        let _ = write!(page, "<figcaption>{}</figcaption>\n</figure>\n", escape(plot.caption));
    }
    page.push_str("</section>\n");
    tables(&mut page, figures);
    let _ = write!(
        page,
        "<section id=\"reproduce\">\n<h2>To see it again</h2>\n<pre><code>{}</code></pre>\n</section>\n</main>\n</body>\n</html>\n",
        escape(&context.command_line)
    );
    page
}

fn summary(figures: &TraceFigures) -> String {
    let import = &figures.import;
    let when = import.epoch_ns.map_or_else(
        || "no calendar".to_owned(),
        |epoch_ns| format!("from {} UTC", Clock::starting(Some(epoch_ns), f64::INFINITY).date(0.0)),
    );
    let hash: String = import.sha256.chars().take(12).collect();
    format!("{}, {}, {when}, sha256 {hash}", import.format, duration(figures.span_s))
}

fn warnings(page: &mut String, figures: &TraceFigures) {
    let warnings = figures.import.warnings();
    if warnings.is_empty() {
        return;
    }
    page.push_str("<ul class=\"warnings\">\n");
    for warning in warnings {
        let _ = writeln!(page, "<li>{}</li>", escape(&warning));
    }
    page.push_str("</ul>\n");
}

fn tiles(page: &mut String, figures: &TraceFigures) {
    let lengths = |of: &slackwater_scenarios::traffic::statistics::LengthFigures| {
        (
            count(u64::from(of.p50)),
            format!("median; p99 {}, mean {}", count(u64::from(of.p99)), figure(of.mean)),
        )
    };
    let (input, output) = (lengths(&figures.input), lengths(&figures.output));
    let peak = figures.rate.peak_10min_per_s;
    let clock = Clock::starting(figures.import.epoch_ns, figures.span_s);
    let peak_note = match figures.rate.peak_10min_at_s {
        Some(at_s) => format!("requests a second, {}", clock.phrase(at_s)),
        None => "the trace is shorter".to_owned(),
    };
    let tiles = [
        ("Requests", count(figures.requests), format!("of {} rows", count(figures.import.rows))),
        ("Mean rate", figure(figures.rate.mean_per_s), "requests a second".to_owned()),
        ("Busiest 10 minutes", peak.map_or_else(|| NONE.to_owned(), figure), peak_note),
        ("Prompt tokens", input.0, input.1),
        ("Output tokens", output.0, output.1),
        (
            "Burstiness",
            ratio(figures.arrivals.cv),
            format!("CV of gaps (Poisson: 1); within hours {}", ratio(figures.arrivals.cv_within_hours)),
        ),
    ];
    page.push_str("<dl class=\"tiles\">\n");
    for (label, value, note) in tiles {
        let _ = writeln!(
            page,
            "<div><dt>{}</dt><dd><strong>{}</strong><small>{}</small></dd></div>",
            escape(label),
            escape(&value),
            escape(&note)
        );
    }
    page.push_str("</dl>\n");
}

fn comparison(page: &mut String, against: Against<'_>) {
    let Against { comparison, .. } = against;
    let (here, there) = (file_name(&comparison.here, 40), file_name(&comparison.there, 40));
    page.push_str("<section id=\"comparison\">\n<h2>Compared</h2>\n");
    let rows = distances(comparison).into_iter().map(|(name, distance)| {
        vec![name.to_owned(), distance.map_or_else(|| NONE.to_owned(), |distance| format!("{distance:.3}"))]
    });
    table(page, &format!("How far it is from {there}"), &["distance", "0 alike, 1 apart"], rows);
    let rows = pairs(comparison)
        .into_iter()
        .map(|(name, pair)| vec![name.to_owned(), ratio(pair.here), ratio(pair.there)]);
    table(page, "Side by side", &["", &here, &there], rows);
    page.push_str("</section>\n");
}

fn tables(page: &mut String, figures: &TraceFigures) {
    page.push_str("<section id=\"figures\">\n<h2>Figures</h2>\n");
    let rows = [("prompt", &figures.input), ("output", &figures.output)].map(|(name, of)| {
        let counts = [of.least, of.p50, of.p90, of.p99, of.most].map(|length| count(u64::from(length)));
        let [least, p50, p90, p99, most] = counts;
        vec![name.to_owned(), figure(of.mean), p50, p90, p99, least, most]
    });
    let heads = ["tokens", "mean", "p50", "p90", "p99", "least", "most"];
    let caption = format!("Lengths; rank correlation of the two {}", ratio(figures.rank_correlation));
    table(page, &caption, &heads, rows.into_iter());
    let arrivals = &figures.arrivals;
    let row = [
        arrivals.cv,
        arrivals.cv_within_hours,
        arrivals.dispersion_1s,
        arrivals.dispersion_10s,
        arrivals.dispersion_60s,
    ];
    let row = std::iter::once("this trace".to_owned()).chain(row.into_iter().map(ratio)).collect();
    let heads = ["", "CV of gaps", "within hours", "dispersion 1 s", "10 s", "60 s"];
    table(page, "Arrivals; a Poisson process has 1 everywhere", &heads, std::iter::once(row));
    if let Some(prefixes) = &figures.prefixes {
        let about = if prefixes.sampled < 1.0 { "about " } else { "" };
        let _ = writeln!(
            page,
            "<p>{about}{} of prompt tokens lie in blocks that an earlier prompt had: what a prefix cache that forgets \
             nothing would hit. {about}{} of requests go on beyond a first block together with an earlier one.</p>",
            escape(&share(prefixes.seen_share)),
            escape(&share(prefixes.follow_up_share))
        );
    }
    page.push_str("</section>\n");
}
