//! Risk by day and time of day. What a start was found to be is told by its mark (framed, struck through, plain), how likely it misses by
//! its shade.

use slackwater_planner::planned::{Planned, Verdict};

use super::when;
use crate::format::share;
use crate::plan::week::{Day, days};
use crate::plots::Style;
use crate::plots::axis::Axis;
use crate::plots::sheet::{Anchor, Face, Pen, Sheet, Swatch};
use crate::plots::theme::Ink;

/// Chances up to which a shade stands.
const SHADES: [(f64, f64); 4] = [(0.1, 0.22), (0.25, 0.42), (0.5, 0.66), (1.0, 0.95)];
/// Nothing missed.
const CLEAN: (Ink, f64) = (Ink::Sky, 0.32);
/// Days drawn; a horizon of more is in `windows.csv`.
const DAYS: usize = 31;

/// The drawing.
pub(super) fn heat(planned: &Planned, style: Style) -> String {
    let days = days(planned);
    let zone = if when::has_calendar(planned) {
        format!("Local time, {}.", planned.asked.time_zone)
    } else {
        "The traffic has no calendar: days are counted from its start.".to_owned()
    };
    let mut sheet = Sheet::new(style, "Risk by start", &zone);
    if days.is_empty() {
        return sheet.no_data("no start was tried");
    }
    legend(&mut sheet, planned);
    sheet.cursor += 14.0;
    let hours = planned.asked.every_s.clamp(1.0, 86_400.0) / 3_600.0;
    let shown = &days[..days.len().min(DAYS)];
    let grid =
        if sheet.narrow() { Grid::upright(&sheet, shown.len()) } else { Grid::lying(&sheet, shown.len()) };
    grid.rules(&mut sheet, shown);
    for (row, day) in shown.iter().enumerate() {
        for (from, until, (_, shade)) in
            runs(day, hours, |start| (start.verdict, shade(start.verdict, start.risk.estimate)))
        {
            let (ink, alpha) = match shade {
                None => (Ink::Green, 1.0),
                Some(0) => CLEAN,
                Some(n) => (Ink::Red, SHADES[n - 1].1),
            };
            let (x, y, w, h) = grid.cell(row, from, until);
            sheet.rect(x, y, w, h, ink, alpha);
        }
        for (from, until, verdict) in runs(day, hours, |start| start.verdict) {
            mark(&mut sheet, grid.cell(row, from, until), verdict, grid.upright);
        }
        for (at, start) in &day.starts {
            if planned.recommended.as_ref().is_some_and(|best| (best.start_s - start.start_s).abs() < 0.5) {
                grid.point_at(&mut sheet, row, *at + hours / 2.0);
            }
        }
    }
    sheet.cursor = grid.bottom;
    if days.len() > DAYS {
        sheet.paragraph(&format!("The first {DAYS} of {} days; all are in windows.csv.", days.len()));
    }
    sheet.finish()
}

fn legend(sheet: &mut Sheet, planned: &Planned) {
    let safe = format!("safe: certified within the budget of {}", share(planned.asked.risk));
    sheet.legend(&[
        (Swatch::Framed(Ink::Green), &safe),
        (Swatch::Block(CLEAN.0, CLEAN.1), "undecided, no future missed"),
        (Swatch::Struck(Ink::Red, SHADES[3].1), "unsafe: shown to be above it"),
        (Swatch::Block(Ink::Red, SHADES[0].1), "missed in up to 10 %"),
        (Swatch::Block(Ink::Red, SHADES[1].1), "25 %"),
        (Swatch::Block(Ink::Red, SHADES[2].1), "50 %"),
        (Swatch::Block(Ink::Red, SHADES[3].1), "100 % of futures"),
    ]);
    if planned.recommended.is_some() {
        sheet.paragraph("The dark wedge points at the recommended start.");
    }
}

/// `None` for what is safe; else 0 for no miss, and the place among the shades.
fn shade(verdict: Verdict, estimate: f64) -> Option<usize> {
    if verdict == Verdict::Safe {
        return None;
    }
    if estimate <= 0.0 || !estimate.is_finite() {
        return Some(0);
    }
    Some(SHADES.iter().position(|(most, _)| estimate <= *most).unwrap_or(SHADES.len() - 1) + 1)
}

/// Neighbours that look alike are drawn as one: from and until in hours, and what they have in common.
fn runs<T: Copy + PartialEq>(
    day: &Day<'_>,
    hours: f64,
    of: impl Fn(&slackwater_planner::planned::StartVerdict) -> T,
) -> Vec<(f64, f64, T)> {
    let mut runs: Vec<(f64, f64, T)> = Vec::new();
    for (at, start) in &day.starts {
        let (until, what) = ((at + hours).min(24.0), of(start));
        match runs.last_mut() {
            Some(last) if last.2 == what && (last.1 - at).abs() < 0.01 => last.1 = until,
            _ => runs.push((*at, until, what)),
        }
    }
    runs
}

fn mark(sheet: &mut Sheet, (x, y, w, h): (f64, f64, f64, f64), verdict: Verdict, upright: bool) {
    match verdict {
        Verdict::Safe => {
            let corners = vec![(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)];
            sheet.line(corners, Pen::new(Ink::Text, 1.8));
        }
        Verdict::Unsafe => {
            let middle = if upright {
                vec![(x + w / 2.0, y), (x + w / 2.0, y + h)]
            } else {
                vec![(x, y + h / 2.0), (x + w, y + h / 2.0)]
            };
            sheet.line(middle, Pen::new(Ink::Text, 1.4));
        }
        Verdict::Undecided => {}
    }
}

/// Where days and hours lie: hours to the right and days downwards, or the other way round on a phone.
struct Grid {
    upright: bool,
    hours: Axis,
    /// Of the first day, and from one to the next.
    first: f64,
    step: f64,
    thick: f64,
    bottom: f64,
    days: usize,
}

impl Grid {
    fn lying(sheet: &Sheet, days: usize) -> Grid {
        let step = if days <= 10 { 30.0 } else { 18.0 };
        let first = sheet.cursor + 6.0;
        Grid {
            upright: false,
            hours: Axis::linear(0.0, 24.0, 84.0, sheet.width() - 14.0),
            first,
            step,
            thick: step - 9.0,
            bottom: first + step * days as f64 + 34.0,
            days,
        }
    }

    fn upright(sheet: &Sheet, days: usize) -> Grid {
        let first = 44.0;
        let step = ((sheet.width() - first - 6.0) / days as f64).min(60.0);
        let top = sheet.cursor + 34.0;
        Grid {
            upright: true,
            hours: Axis::linear(0.0, 24.0, top, top + 480.0),
            first,
            step,
            thick: step * 0.72,
            bottom: top + 480.0 + 10.0,
            days,
        }
    }

    fn cell(&self, row: usize, from: f64, until: f64) -> (f64, f64, f64, f64) {
        let (along, across) = (self.hours.at(from), self.first + self.step * row as f64);
        let long = (self.hours.at(until) - along).max(0.8);
        if self.upright { (across, along, self.thick, long) } else { (along, across, long, self.thick) }
    }

    fn rules(&self, sheet: &mut Sheet, days: &[Day<'_>]) {
        let far = self.first + self.step * self.days as f64;
        let every = 3_u8;
        for hour in (0..=24).step_by(usize::from(every)) {
            let at = self.hours.at(f64::from(hour));
            let label = format!("{hour:02}:00");
            if self.upright {
                sheet.line(vec![(self.first - 4.0, at), (far, at)], Pen::new(Ink::Grid, 1.0));
                sheet.text((self.first - 7.0, at + 4.0), &label, Face::Small, Ink::Muted, Anchor::End);
            } else {
                sheet.line(vec![(at, self.first - 4.0), (at, far)], Pen::new(Ink::Grid, 1.0));
                let x = at.min(sheet.width() - 17.0);
                sheet.text((x, far + 14.0), &label, Face::Small, Ink::Muted, Anchor::Middle);
            }
        }
        if !self.upright {
            let middle = f64::midpoint(self.hours.at(0.0), self.hours.at(24.0));
            sheet.text(
                (middle, far + 30.0),
                "time of day of the start, h:min",
                Face::Small,
                Ink::Muted,
                Anchor::Middle,
            );
        }
        // A label every so many days where they would overlap.
        let every = if self.upright { (34.0 / self.step).ceil().max(1.0) } else { 1.0 };
        for (row, day) in days.iter().enumerate() {
            if (row as f64) % every > 0.5 {
                continue;
            }
            let across = self.first + self.step * row as f64;
            if self.upright {
                let (weekday, date) = day.label.split_once(' ').unwrap_or((&day.label, ""));
                let x = across + self.thick / 2.0;
                let top = self.hours.at(0.0);
                sheet.text((x, top - 21.0), weekday, Face::Small, Ink::Muted, Anchor::Middle);
                sheet.text((x, top - 9.0), date, Face::Small, Ink::Muted, Anchor::Middle);
            } else {
                let at = (self.hours.at(0.0) - 7.0, across + self.thick / 2.0 + 4.0);
                sheet.text(at, &day.label, Face::Small, Ink::Muted, Anchor::End);
            }
        }
    }

    /// A wedge whose tip touches the start.
    fn point_at(&self, sheet: &mut Sheet, row: usize, hour: f64) {
        let along = self.hours.at(hour);
        let across = self.first + self.step * row as f64;
        let wedge = if self.upright {
            let x = across + self.thick;
            vec![(x, along), (x + 7.0, along - 4.5), (x + 7.0, along + 4.5)]
        } else {
            vec![(along, across), (along - 4.5, across - 7.0), (along + 4.5, across - 7.0)]
        };
        sheet.area(wedge, Ink::Text, 1.0);
    }
}
