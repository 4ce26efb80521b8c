//! Colours by role, light and dark.
//!
//! Data colours are Okabe and Ito's, told apart under every common colour blindness; in the dark they are lightened, in the same order
//! of hue. Each role has its own value in each theme, so that a drawing can be re-themed by exchanging values: [`themeable`] exchanges
//! them for CSS variables, which is how one SVG in an HTML page serves light and dark.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// Light or dark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Theme {
    /// Dark on white; also for print.
    #[default]
    Light,
    /// Light on near-black.
    Dark,
}

/// How wide a drawing is laid out; text keeps its size, so a narrow one is not a shrunk wide one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// 760 units: desktop, print, files.
    #[default]
    Wide,
    /// 380 units: a phone held upright.
    Narrow,
}

impl Form {
    /// Samples a line is thinned to: about one a unit.
    pub(crate) const fn columns(self) -> usize {
        match self {
            Form::Wide => 720,
            Form::Narrow => 340,
        }
    }

    pub(crate) const fn width(self) -> f64 {
        match self {
            Form::Wide => 760.0,
            Form::Narrow => 380.0,
        }
    }
}

/// How a plot is drawn. `Theme::Dark.into()` is the wide dark one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Its colours.
    pub theme: Theme,
    /// Its layout.
    pub form: Form,
}

impl From<Theme> for Style {
    fn from(theme: Theme) -> Style {
        Style { theme, form: Form::Wide }
    }
}

/// What a colour is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    Paper,
    Text,
    Muted,
    Grid,
    Axis,
    Shade,
    Baseline,
    Blue,
    Sky,
    Green,
    Orange,
    Red,
    Purple,
}

impl Ink {
    pub(crate) const ALL: [Ink; 13] = [
        Ink::Paper,
        Ink::Text,
        Ink::Muted,
        Ink::Grid,
        Ink::Axis,
        Ink::Shade,
        Ink::Baseline,
        Ink::Blue,
        Ink::Sky,
        Ink::Green,
        Ink::Orange,
        Ink::Red,
        Ink::Purple,
    ];

    /// The CSS variable, the light value, the dark value.
    const fn values(self) -> (&'static str, u32, u32) {
        match self {
            Ink::Paper => ("--paper", 0xFF_FFFF, 0x15_191E),
            Ink::Text => ("--text", 0x1B_2128, 0xE8_ECF0),
            Ink::Muted => ("--muted", 0x5A_6572, 0x9D_A8B4),
            Ink::Grid => ("--grid", 0xE4_E8EC, 0x2B_323A),
            Ink::Axis => ("--axis", 0xA3_ACB6, 0x55_606C),
            Ink::Shade => ("--shade", 0xF8_F1DD, 0x2C_2819),
            Ink::Baseline => ("--baseline", 0x93_9DA8, 0x74_7F8B),
            Ink::Blue => ("--blue", 0x00_72B2, 0x4D_A9E8),
            Ink::Sky => ("--sky", 0x56_B4E9, 0x8C_D3FA),
            Ink::Green => ("--green", 0x00_9E73, 0x2F_C497),
            Ink::Orange => ("--orange", 0xE6_9F00, 0xF4_B73B),
            Ink::Red => ("--red", 0xD5_5E00, 0xFF_8A4C),
            Ink::Purple => ("--purple", 0xCC_79A7, 0xE3_A0C5),
        }
    }

    pub(crate) const fn color(self, theme: Theme) -> RGBColor {
        let (_, light, dark) = self.values();
        let [_, r, g, b] = match theme {
            Theme::Light => light,
            Theme::Dark => dark,
        }
        .to_be_bytes();
        RGBColor(r, g, b)
    }
}

/// The CSS declarations of a theme's colours: `--text:#1B2128;...`.
#[must_use]
pub fn css_variables(theme: Theme) -> String {
    Ink::ALL.into_iter().fold(String::new(), |mut css, ink| {
        let (name, light, dark) = ink.values();
        let value = if theme == Theme::Light { light } else { dark };
        // Writing to a string can't fail.
        let _ = write!(css, "{name}:#{value:06X};");
        css
    })
}

/// A light SVG with its colours as CSS variables, for a page that defines [`css_variables`].
#[must_use]
pub fn themeable(light_svg: &str) -> String {
    Ink::ALL.into_iter().fold(light_svg.to_owned(), |svg, ink| {
        let (name, light, _) = ink.values();
        svg.replace(&format!("\"#{light:06X}\""), &format!("\"var({name})\""))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_role_has_its_own_value_so_that_exchanging_is_exact() {
        let light: BTreeSet<u32> = Ink::ALL.into_iter().map(|i| i.values().1).collect();
        let dark: BTreeSet<u32> = Ink::ALL.into_iter().map(|i| i.values().2).collect();
        assert_eq!((light.len(), dark.len()), (Ink::ALL.len(), Ink::ALL.len()));
    }
}
