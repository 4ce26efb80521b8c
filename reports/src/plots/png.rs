//! PNG from the SVG.
//!
//! `plotters` has a bitmap backend, but it draws filled shapes and wide lines without anti-aliasing and needs its own font handling;
//! `resvg` renders the very SVG that the report shows, smooth, at twice the size for dense screens, in pure Rust. Text is set in Noto Sans
//! (SIL Open Font License 1.1, embedded by the `notosans` crate), whatever fonts the machine has or lacks: equal data, equal bytes.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};
use thiserror::Error;

/// PNG pixels to one unit of the SVG.
pub const SCALE: f32 = 2.0;

/// A drawing that could not become a PNG.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PngError {
    /// Not an SVG.
    #[error("the drawing is not valid SVG ({0}); please report this with the scenario")]
    Svg(#[from] resvg::usvg::Error),
    /// No such image.
    #[error("an image of {width} x {height} pixels can't be made; the SVG of the same plot is whole")]
    Size {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// Encoding failed.
    #[error("the image could not be encoded: {0}")]
    Encode(String),
}

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(notosans::REGULAR_TTF.to_vec());
    fonts.load_font_data(notosans::BOLD_TTF.to_vec());
    fonts.set_sans_serif_family("Noto Sans");
    Arc::new(fonts)
});

/// Renders an SVG drawn by this crate, [`SCALE`] times its size.
///
/// # Errors
/// When the text is not SVG, or too large for an image.
pub fn png(svg: &str) -> Result<Vec<u8>, PngError> {
    let options = Options { fontdb: Arc::clone(&FONTS), ..Options::default() };
    let tree = Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE);
    let (width, height) = size.map_or((0, 0), |s| (s.width(), s.height()));
    let mut pixmap = Pixmap::new(width, height).ok_or(PngError::Size { width, height })?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| PngError::Encode(error.to_string()))
}
