//! Drawings are well-formed, themed, and the same in SVG and PNG.

use slackwater_reports::plots::{Form, PLOTS, SCALE, Style, Theme, css_variables, png, themeable};

use crate::{FOUR, short};

const STYLES: [Style; 4] = [
    Style { theme: Theme::Light, form: Form::Wide },
    Style { theme: Theme::Dark, form: Form::Wide },
    Style { theme: Theme::Light, form: Form::Narrow },
    Style { theme: Theme::Dark, form: Form::Narrow },
];

#[test]
fn every_plot_is_well_formed_and_names_itself() {
    for plot in PLOTS {
        for style in STYLES {
            let svg = (plot.draw)(&FOUR, style);
            let document = roxmltree::Document::parse(&svg).expect("well-formed");
            let title =
                document.descendants().find(|n| n.has_tag_name(("http://www.w3.org/2000/svg", "title")));
            assert!(title.and_then(|t| t.text()).is_some_and(|t| !t.is_empty()), "{}", plot.name);
            assert!(!svg.contains("no data"), "{}", plot.name);
            assert!(svg.contains("font-family=\"sans-serif\""));
        }
    }
}

#[test]
fn nothing_lies_outside_the_drawing() {
    for plot in PLOTS {
        for style in STYLES {
            let svg = (plot.draw)(&FOUR, style);
            let document = roxmltree::Document::parse(&svg).expect("well-formed");
            let view: Vec<f64> = document
                .root_element()
                .attribute("viewBox")
                .expect("a viewBox")
                .split(' ')
                .map(|n| n.parse().expect("a number"))
                .collect();
            for node in document.descendants().filter(|n| n.has_attribute("points")) {
                for pair in node.attribute("points").expect("points").split_whitespace() {
                    let (x, y) = pair.split_once(',').expect("a pair");
                    let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                    assert!(
                        (0.0..=view[2]).contains(&x) && (0.0..=view[3]).contains(&y),
                        "{}: {pair}",
                        plot.name
                    );
                }
            }
        }
    }
}

#[test]
fn one_light_drawing_serves_both_themes() {
    let values: Vec<(String, String)> = css_variables(Theme::Dark)
        .split_terminator(';')
        .map(|d| d.split_once(':').map(|(n, v)| (n.to_owned(), v.to_owned())).expect("a declaration"))
        .collect();
    for plot in PLOTS {
        let mut svg = themeable(&(plot.draw)(&FOUR, Theme::Light.into()));
        assert!(!svg.contains("\"#"), "a colour of {} has no role", plot.name);
        for (name, value) in &values {
            svg = svg.replace(&format!("var({name})"), value);
        }
        assert_eq!(svg, (plot.draw)(&FOUR, Theme::Dark.into()), "{}", plot.name);
    }
}

#[test]
fn a_png_has_the_size_of_its_svg_and_shows_something() {
    let result = short();
    for plot in PLOTS {
        let svg = (plot.draw)(&result, Style::default());
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        let side = |name: &str| -> f32 {
            document.root_element().attribute(name).and_then(|v| v.parse().ok()).expect("a size")
        };
        let bytes = png(&svg).expect("a PNG");
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().expect("a header");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let frame = reader.next_frame(&mut pixels).expect("pixels");
        assert_eq!(
            (frame.width as f32, frame.height as f32),
            (side("width") * SCALE, side("height") * SCALE)
        );
        let colours: std::collections::BTreeSet<_> = pixels[..frame.buffer_size()].chunks(4).collect();
        assert!(colours.len() > 20, "{} has {} colours", plot.name, colours.len());
        // Text is drawn with the embedded font: the title's strip is not all paper.
        let strip = &pixels[..frame.buffer_size() / 12];
        assert!(strip.chunks(4).any(|p| p[0] < 80), "{} has no title", plot.name);
    }
}

#[test]
fn equal_data_gives_equal_drawings() {
    for plot in PLOTS {
        assert_eq!((plot.draw)(&FOUR, Style::default()), (plot.draw)(&FOUR, Style::default()));
    }
}
