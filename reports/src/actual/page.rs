//! One HTML file.

use std::fmt::Write as _;

use slackwater_planner::actual::{Band, Calibration, Compared, LatencyRow, PhaseLatency};

use super::{basis, behind, kept, millis, outcome, reliability, seconds, share_cell, signed};
use crate::format::NONE;
use crate::html::{escape, head, table};
use crate::plots::{Form, Style, Theme, themeable};
use crate::write::ReportContext;

/// The page of any number of rollouts, and of their calibration where there is one.
#[must_use]
pub fn actual_page(
    rollouts: &[Compared],
    calibration: Option<&Calibration>,
    context: &ReportContext,
) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let title = match rollouts {
        [one] => format!("{} to {}: predicted against actual", one.from, one.to),
        many => format!("{} rollouts: predicted against actual", many.len()),
    };
    head(&mut page, &title);
    let _ = write!(
        page,
        "<header>\n<p class=\"kicker\">Slackwater · predicted against actual</p>\n<h1>{}</h1>\n</header>\n",
        escape(&title)
    );
    if let Some(calibration) = calibration {
        promise(&mut page, calibration);
    }
    for compared in rollouts {
        one(&mut page, compared);
    }
    let _ = write!(
        page,
        "<section id=\"reproduce\">\n<h2>To see it again</h2>\n<pre><code>{}</code></pre>\n</section>\n</main>\n</body>\n</html>\n",
        escape(&context.command_line)
    );
    page
}

fn promise(page: &mut String, calibration: &Calibration) {
    let _ = write!(
        page,
        "<section id=\"promise\">\n<h2>Is the promise kept?</h2>\n<p>{}</p>\n<figure id=\"reliability\">\n",
        escape(&behind(calibration))
    );
    for (class, form) in [("wide", Form::Wide), ("narrow", Form::Narrow)] {
        let drawing = reliability(calibration, Style { theme: Theme::Light, form });
        let _ = writeln!(page, "<div class=\"{class}\">{}</div>", themeable(&drawing));
    }
    page.push_str(
        "<figcaption>On the diagonal a promise is kept exactly; below it, rollouts are slower than predicted.</figcaption>\n</figure>\n",
    );
    let rows = calibration.figures.iter().map(|row| {
        vec![
            row.name.clone(),
            row.count.to_string(),
            share_cell(row.within_p50),
            share_cell(row.within_p95),
            kept(row).to_owned(),
        ]
    });
    table(
        page,
        "Actual figures within the prediction",
        &["", "count", "within p50", "within p95", "the promise is"],
        rows,
    );
    page.push_str("</section>\n");
}

fn one(page: &mut String, compared: &Compared) {
    let number = compared.rollout.map_or_else(String::new, |number| format!("Rollout {number}, "));
    let _ = write!(
        page,
        "<section>\n<h2>{}{} to {}: {}</h2>\n<p>{}</p>\n",
        escape(&number),
        escape(&compared.from),
        escape(&compared.to),
        escape(&outcome(compared)),
        escape(&basis(compared))
    );
    let rows = compared.phases.iter().map(|row| {
        let of = |band: Option<Band>| seconds(band.map(|band| band.p50));
        vec![
            row.name.clone(),
            of(row.predicted),
            seconds(row.predicted.and_then(|band| band.p95)),
            of(row.actual),
            seconds(row.actual.map(|band| band.max)),
            signed(row.error),
        ]
    });
    let heads = ["phase", "predicted p50", "p95", "actual p50", "most", "error of p50"];
    table(page, "Each phase over all moves; seconds (cut: requests)", &heads, rows);
    let rows = compared.actual.moves.iter().map(|moved| {
        let predicted = compared.predicted.moves.iter().find(|other| other.replica == moved.replica);
        let predicted = predicted.map(|other| other.phases).unwrap_or_default().list();
        let cells = predicted.into_iter().zip(moved.phases.list());
        std::iter::once(moved.replica.clone())
            .chain(cells.map(|(old, new)| format!("{} → {}", seconds(old), seconds(new))))
            .chain([moved.cut.to_string()])
            .collect()
    });
    let heads = ["move", "drain", "stop", "GPU free", "load", "warm-up", "soak", "out", "whole", "cut"];
    table(page, "Each move, predicted → actual; seconds", &heads, rows);
    if !compared.latency.is_empty() {
        let rows = compared.latency.iter().map(latency);
        let heads = ["requests sent", "TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99"];
        let from = &compared.latency_from;
        let caption = format!("What clients saw, predicted → actual; milliseconds. Actual: {from}");
        table(page, &caption, &heads, rows);
    }
    if !compared.bands.is_empty() {
        let rows = compared.bands.iter().map(|band| {
            vec![
                format!("{:?}", band.figure),
                format!("{:.4}", band.limit),
                seconds(Some(band.sustained_s)),
                band.largest.map_or_else(|| NONE.to_owned(), |largest| format!("{largest:.4}")),
            ]
        });
        table(page, "The plan's guards", &["figure", "at most", "for, s", "largest"], rows);
    }
    page.push_str("</section>\n");
}

fn latency(row: &LatencyRow) -> Vec<String> {
    let four = |side: &Option<PhaseLatency>| {
        side.as_ref().map_or([None; 4], |it| [it.ttft_p50_s, it.ttft_p99_s, it.tpot_p50_s, it.tpot_p99_s])
    };
    let cells = four(&row.predicted).into_iter().zip(four(&row.actual));
    std::iter::once(row.phase.clone())
        .chain(cells.map(|(old, new)| format!("{} → {}", millis(old), millis(new))))
        .collect()
}
