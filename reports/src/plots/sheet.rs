//! A drawing in the making: marks in floating-point units, top to bottom, painted at the end onto a `plotters` backend.
//!
//! Two reasons not to draw on the backend directly: the height of a plot follows from its legend and its replicas, and is known last;
//! and `plotters` counts whole pixels, which makes thin lines staircases. So marks are kept, and painted [`FINE`] times enlarged under a
//! `viewBox` that shrinks them back: lines then lie on eighths of a pixel.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::theme::{Form, Ink, Style};

/// Backend pixels to one unit of the drawing.
const FINE: f64 = 8.0;

/// `plotters` sizes fonts by their box: its SVG backend divides by this to get the `font-size`.
const FONT_BOX: f64 = 1.24;

/// The width, in backend pixels, that only dashed lines have. The SVG backend knows no dashes, and `plotters`' own dashed path is one
/// element a dash, some 15 kB a line; so dashed lines are drawn solid in this width, which then gets its `stroke-dasharray`.
const DASHED: u32 = 13;

/// Where a text lies relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text's size and weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    Title,
    Body,
    Small,
}

impl Face {
    pub(crate) const fn size(self) -> f64 {
        match self {
            Face::Title => 15.0,
            Face::Body => 12.0,
            Face::Small => 11.0,
        }
    }
}

/// A line's look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pen {
    pub(crate) ink: Ink,
    pub(crate) width: f64,
    pub(crate) alpha: f64,
    pub(crate) dashed: bool,
}

impl Pen {
    pub(crate) const fn new(ink: Ink, width: f64) -> Pen {
        Pen { ink, width, alpha: 1.0, dashed: false }
    }

    pub(crate) const fn alpha(self, alpha: f64) -> Pen {
        Pen { alpha, ..self }
    }

    pub(crate) const fn dashed(self) -> Pen {
        Pen { dashed: true, ..self }
    }
}

#[derive(Debug, Clone)]
enum Mark {
    Rect { x: f64, y: f64, w: f64, h: f64, ink: Ink, alpha: f64 },
    Area { points: Vec<(f64, f64)>, ink: Ink, alpha: f64 },
    Line { points: Vec<(f64, f64)>, pen: Pen },
    Dot { at: (f64, f64), radius: f64, ink: Ink },
    Text { at: (f64, f64), text: String, face: Face, ink: Ink, anchor: Anchor },
}

/// The drawing.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub(crate) style: Style,
    /// What it shows, for those who can't see it.
    title: String,
    description: String,
    /// Where the next thing goes.
    pub(crate) cursor: f64,
    marks: Vec<Mark>,
}

impl Sheet {
    pub(crate) fn new(style: Style, title: &str, description: &str) -> Sheet {
        let mut sheet = Sheet {
            style,
            title: title.to_owned(),
            description: description.to_owned(),
            cursor: 22.0,
            marks: Vec::new(),
        };
        sheet.text((sheet.left(), sheet.cursor), title, Face::Title, Ink::Text, Anchor::Start);
        sheet.cursor += 8.0;
        if !description.is_empty() {
            sheet.paragraph(description);
        }
        sheet
    }

    pub(crate) fn narrow(&self) -> bool {
        self.style.form == Form::Narrow
    }

    pub(crate) fn width(&self) -> f64 {
        self.style.form.width()
    }

    /// The left margin of text.
    pub(crate) fn left(&self) -> f64 {
        if self.narrow() { 4.0 } else { 12.0 }
    }

    /// Muted lines of text across the sheet, broken between words.
    pub(crate) fn paragraph(&mut self, text: &str) {
        let room = self.width() - 2.0 * self.left();
        let mut line = String::new();
        for word in text.split(' ') {
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if text_width(&longer, Face::Body) > room && !line.is_empty() {
                self.paragraph_line(&line);
                word.clone_into(&mut line);
            } else {
                line = longer;
            }
        }
        self.paragraph_line(&line);
    }

    fn paragraph_line(&mut self, line: &str) {
        self.cursor += 16.0;
        self.text((self.left(), self.cursor - 3.0), line, Face::Body, Ink::Muted, Anchor::Start);
    }

    /// The legend: a swatch and a word each, flowing into as many lines as they need.
    pub(crate) fn legend(&mut self, entries: &[(Swatch, &str)]) {
        self.cursor += 20.0;
        let mut x = self.left();
        for (swatch, label) in entries {
            let wide = 22.0 + text_width(label, Face::Body) + 14.0;
            if x + wide - 14.0 > self.width() - self.left() && x > self.left() {
                x = self.left();
                self.cursor += 18.0;
            }
            let y = self.cursor - 4.0;
            match *swatch {
                Swatch::Line(pen) => self.line(vec![(x, y), (x + 17.0, y)], pen),
                Swatch::Block(ink, alpha) => self.rect(x + 2.0, y - 5.0, 13.0, 10.0, ink, alpha),
                Swatch::Framed(ink) => {
                    self.rect(x + 2.0, y - 5.0, 13.0, 10.0, ink, 1.0);
                    let (l, r, t, b) = (x + 2.0, x + 15.0, y - 5.0, y + 5.0);
                    self.line(vec![(l, t), (r, t), (r, b), (l, b), (l, t)], Pen::new(Ink::Text, 1.8));
                }
                Swatch::Struck(ink, alpha) => {
                    self.rect(x + 2.0, y - 5.0, 13.0, 10.0, ink, alpha);
                    self.line(vec![(x + 2.0, y), (x + 15.0, y)], Pen::new(Ink::Text, 1.4));
                }
            }
            self.text((x + 22.0, self.cursor), label, Face::Body, Ink::Text, Anchor::Start);
            x += wide;
        }
        self.cursor += 6.0;
    }

    pub(crate) fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, ink: Ink, alpha: f64) {
        if w > 0.0 && h > 0.0 {
            self.marks.push(Mark::Rect { x, y, w, h, ink, alpha });
        }
    }

    pub(crate) fn area(&mut self, points: Vec<(f64, f64)>, ink: Ink, alpha: f64) {
        if points.len() > 2 {
            self.marks.push(Mark::Area { points, ink, alpha });
        }
    }

    /// A line; a single point is drawn as a dot, so that a lone sample is not lost.
    pub(crate) fn line(&mut self, points: Vec<(f64, f64)>, pen: Pen) {
        match points.as_slice() {
            [] => {}
            [at] => self.marks.push(Mark::Dot { at: *at, radius: pen.width * 0.8, ink: pen.ink }),
            _ => self.marks.push(Mark::Line { points, pen }),
        }
    }

    pub(crate) fn dot(&mut self, at: (f64, f64), radius: f64, ink: Ink) {
        self.marks.push(Mark::Dot { at, radius, ink });
    }

    /// Text; `at.1` is its baseline.
    pub(crate) fn text(&mut self, at: (f64, f64), text: &str, face: Face, ink: Ink, anchor: Anchor) {
        if !text.is_empty() {
            // XML has no place for control characters, escaped or not.
            let odd = |c: char| c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}');
            let text = text.replace(odd, "\u{FFFD}");
            self.marks.push(Mark::Text { at, text, face, ink, anchor });
        }
    }

    /// Text on a patch of paper, to stay legible over lines.
    pub(crate) fn label(&mut self, at: (f64, f64), text: &str, ink: Ink, anchor: Anchor) {
        let wide = text_width(text, Face::Small);
        let x = match anchor {
            Anchor::Start => at.0,
            Anchor::Middle => at.0 - wide / 2.0,
            Anchor::End => at.0 - wide,
        };
        self.rect(x - 2.0, at.1 - 10.0, wide + 4.0, 13.0, Ink::Paper, 0.8);
        self.text(at, text, Face::Small, ink, anchor);
    }

    /// Says plainly that there is nothing to draw.
    pub(crate) fn no_data(mut self, why: &str) -> String {
        let (width, top) = (self.width(), self.cursor + 12.0);
        let left = self.left();
        self.rect(left, top, width - 2.0 * left, 76.0, Ink::Grid, 0.45);
        self.text((width / 2.0, top + 34.0), "no data", Face::Title, Ink::Muted, Anchor::Middle);
        self.text((width / 2.0, top + 54.0), why, Face::Body, Ink::Muted, Anchor::Middle);
        self.cursor = top + 76.0;
        self.finish()
    }

    /// The SVG document.
    pub(crate) fn finish(self) -> String {
        let (width, height) = (self.width(), self.cursor + 8.0);
        let mut drawn = String::new();
        {
            let size = (pixels(width).unsigned_abs(), pixels(height).unsigned_abs());
            let area = SVGBackend::with_string(&mut drawn, size).into_drawing_area();
            let painted = self.paint(&area, size).and_then(|()| area.present().map_err(Into::into));
            // The backend appends to a string, which has no way to fail.
            debug_assert!(painted.is_ok(), "{painted:?}");
        }
        // plotters' own first line sizes the drawing in enlarged pixels and names nothing; everything after it is kept.
        let body = drawn.split_once('\n').map_or("", |(_, body)| body);
        let dashed = format!("stroke-width=\"{DASHED}\"");
        let body = body.replace(&dashed, &format!("{dashed} stroke-dasharray=\"40 30\""));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {} {}\" \
             role=\"img\" stroke-linejoin=\"round\">\n<title>{}</title>\n<desc>{}</desc>\n{body}",
            pixels(width),
            pixels(height),
            crate::html::escape(&self.title),
            crate::html::escape(&self.description),
        )
    }

    fn paint<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, plotters::coord::Shift>,
        size: (u32, u32),
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        DB::ErrorType: 'static,
    {
        let color = |ink: Ink, alpha: f64| ink.color(self.style.theme).mix(alpha);
        let whole = [(0, 0), (size.0.cast_signed(), size.1.cast_signed())];
        area.draw(&Rectangle::new(whole, color(Ink::Paper, 1.0).filled()))?;
        for mark in &self.marks {
            match mark {
                Mark::Rect { x, y, w, h, ink, alpha } => {
                    let corners = [point((*x, *y)), point((x + w, y + h))];
                    area.draw(&Rectangle::new(corners, color(*ink, *alpha).filled()))?;
                }
                Mark::Area { points, ink, alpha } => {
                    let points: Vec<_> = points.iter().copied().map(point).collect();
                    area.draw(&Polygon::new(points, color(*ink, *alpha)))?;
                }
                Mark::Line { points, pen } => {
                    let solid = pixels(pen.width).unsigned_abs();
                    let stroke_width = match pen.dashed {
                        true => DASHED,
                        false if solid == DASHED => DASHED - 1,
                        false => solid,
                    };
                    let style = ShapeStyle { color: color(pen.ink, pen.alpha), filled: false, stroke_width };
                    let points: Vec<_> = points.iter().copied().map(point).collect();
                    area.draw(&PathElement::new(points, style))?;
                }
                Mark::Dot { at, radius, ink } => {
                    area.draw(&Circle::new(point(*at), pixels(*radius), color(*ink, 1.0).filled()))?;
                }
                Mark::Text { at, text, face, ink, anchor } => {
                    let h = match anchor {
                        Anchor::Start => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::End => HPos::Right,
                    };
                    let ink = color(*ink, 1.0);
                    let weight = if *face == Face::Title { FontStyle::Bold } else { FontStyle::Normal };
                    let style =
                        TextStyle::from(("sans-serif", face.size() * FONT_BOX * FINE, weight).into_font())
                            .color(&ink)
                            .pos(Pos::new(h, VPos::Top));
                    // The backend hangs text from its top, 0.76 em above the baseline.
                    let top = (at.0, at.1 - 0.76 * face.size());
                    area.draw(&Text::new(text.as_str(), point(top), style))?;
                }
            }
        }
        Ok(())
    }
}

/// What stands before a word in the legend.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Swatch {
    Line(Pen),
    Block(Ink, f64),
    /// A block with a frame.
    Framed(Ink),
    /// A block struck through.
    Struck(Ink, f64),
}

fn point((x, y): (f64, f64)) -> (i32, i32) {
    (pixels(x), pixels(y))
}

fn pixels(units: f64) -> i32 {
    // Drawings are some thousand units high at most; a mark that is not a number lands at 0 rather than panicking.
    #[allow(clippy::cast_possible_truncation)]
    let whole = (units * FINE).round() as i32;
    whole
}

/// About how wide a text will be: browsers choose the font, so this errs on the wide side of the common sans-serifs.
pub(crate) fn text_width(text: &str, face: Face) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | 't' | 'f' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' | '('
            | ')' => 0.32,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.88,
            'A'..='Z' => 0.68,
            _ => 0.58,
        })
        .sum();
    ems * face.size() * if face == Face::Title { 1.06 } else { 1.0 }
}
