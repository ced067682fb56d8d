//! The percentiles of latency as a picture: one curve, drawn by hand, for which a library would be too much.
//!
//! Across: percentiles, each step a tenth of what was left (50, 90, 99, 99.9 %), as HDR histograms are drawn. Up:
//! latency, logarithmic.

use std::fmt::Write;

use super::subscriber::Latency;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 480.0;
/// Left, right, top and bottom of the curve's field.
const FIELD: (f64, f64, f64, f64) = (80.0, 770.0, 50.0, 420.0);
/// Points of the curve.
const STEPS: u32 = 200;

/// An SVG document.
pub(super) fn draw(title: &str, latency: &Latency) -> String {
    let nines = (latency.len().max(10) as f64).log10().clamp(1.0, 6.0);
    let low = (latency.value_at_quantile(0.0).max(1) as f64).log10().floor();
    let high = (latency.max().max(1) as f64).log10().ceil().max(low + 1.0);
    let (left, right, top, bottom) = FIELD;
    let across = |quantile: f64| left + (right - left) * (-(1.0 - quantile).max(1e-9).log10() / nines).min(1.0);
    let up = |nanos: f64| bottom - (bottom - top) * ((nanos.max(1.0).log10() - low) / (high - low)).clamp(0.0, 1.0);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"28\" font-size=\"16\">{}</text>\n",
        escape(title)
    );
    for decade in low as i32..=high as i32 {
        let nanos = 10f64.powi(decade);
        let y = up(nanos);
        line(&mut svg, (left, y), (right, y));
        text(&mut svg, (left - 8.0, y + 4.0), "end", &span(nanos));
    }
    for (name, quantile) in
        [("0", 0.0), ("50", 0.5), ("90", 0.9), ("99", 0.99), ("99.9", 0.999), ("99.99", 0.9999), ("99.999", 0.99999)]
    {
        if -(1.0f64 - quantile).log10() <= nines + 0.01 {
            let x = across(quantile);
            line(&mut svg, (x, top), (x, bottom));
            text(&mut svg, (x, bottom + 20.0), "middle", &format!("{name} %"));
        }
    }
    svg.push_str("<polyline fill=\"none\" stroke=\"#06c\" stroke-width=\"2\" points=\"");
    for step in 0..=STEPS {
        let quantile = 1.0 - 10f64.powf(-nines * f64::from(step) / f64::from(STEPS));
        // To write to a string cannot fail; so below.
        let _ = write!(svg, "{:.1},{:.1} ", across(quantile), up(latency.value_at_quantile(quantile) as f64));
    }
    svg.push_str("\"/>\n");
    text(&mut svg, ((left + right) / 2.0, bottom + 45.0), "middle", "messages that took no longer");
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(svg, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#ccc\"/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, content: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(content));
}

/// A power of ten in nanoseconds, as people write it.
fn span(nanos: f64) -> String {
    match nanos {
        1e9.. => format!("{} s", nanos / 1e9),
        1e6.. => format!("{} ms", nanos / 1e6),
        1e3.. => format!("{} µs", nanos / 1e3),
        _ => format!("{nanos} ns"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::bench::subscriber;

    #[test]
    fn the_curve_rises_to_the_right() {
        let mut latency = subscriber::latency();
        for value in 1..=10_000u64 {
            latency.record(value * 1_000).unwrap();
        }
        let svg = draw("a < b", &latency);
        assert!(svg.contains("a &lt; b") && svg.contains("99.99 %") && svg.contains(">10 ms<"));
        let points = svg.split_once("points=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
        let points: Vec<(f64, f64)> = points
            .split_whitespace()
            .map(|point| point.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1));
    }

    #[test]
    fn nothing_measured_is_no_reason_to_fail() {
        assert!(draw("", &subscriber::latency()).ends_with("</svg>\n"));
    }
}
