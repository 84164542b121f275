//! Lines over a logarithmic axis, as SVG.

use std::fmt;

/// Panels side by side.
pub struct Chart<'a> {
    pub title: &'a str,
    pub panels: &'a [Panel],
}

/// Lines over the same numbers. The vertical axis starts at zero.
pub struct Panel {
    /// What is counted on the horizontal axis.
    pub title: &'static str,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: &'static str,
    /// Each a number above zero, and what was measured there.
    pub points: Vec<(f64, f64)>,
}

/// Of one panel, with what stands around it; and the space for axes and titles.
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = 44.0;

const COLOURS: [&str; 4] = ["#1b6ca8", "#c8553d", "#3d8361", "#7b4b94"];

impl fmt::Display for Chart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = WIDTH * self.panels.len() as f64;
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" font-size="11">"#
        )?;
        writeln!(f, r#"<rect width="{width}" height="{HEIGHT}" fill="white"/>"#)?;
        writeln!(
            f,
            r#"<text x="{}" y="20" text-anchor="middle" font-size="14">{}</text>"#,
            width / 2.0,
            self.title
        )?;
        for (index, panel) in self.panels.iter().enumerate() {
            writeln!(f, r#"<g transform="translate({} 0)">"#, WIDTH * index as f64)?;
            panel.draw(f)?;
            writeln!(f, "</g>")?;
        }
        writeln!(f, "</svg>")
    }
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.lines.iter().flat_map(|line| line.points.iter().copied())
    }

    fn draw(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let farthest = self.points().map(|(at, _)| at).fold(2.0, f64::max);
        let top = round_up(self.points().map(|(_, value)| value).fold(1.0, f64::max));
        let x = |at: f64| LEFT + at.ln() / farthest.ln() * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        for part in 0..=4 {
            let value = top * f64::from(part) / 4.0;
            let (left, right, at) = (LEFT, WIDTH - RIGHT, y(value));
            writeln!(
                f,
                r##"<path d="M{left} {at:.1}H{right}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{value}</text>"##,
                left - 6.0,
                at + 4.0
            )?;
        }
        let mut marks: Vec<f64> = self.points().map(|(at, _)| at).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        for at in marks {
            writeln!(
                f,
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{at}</text>"#,
                x(at),
                HEIGHT - BOTTOM + 16.0
            )?;
        }
        writeln!(
            f,
            r#"<text x="{}" y="{}" text-anchor="middle">{}</text>"#,
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0,
            self.title
        )?;
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path: Vec<String> = line
                .points
                .iter()
                .map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value)))
                .collect();
            writeln!(
                f,
                r#"<path d="M{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
                path.join("L")
            )?;
            for (at, value) in &line.points {
                let (x, y) = (x(*at), y(*value));
                writeln!(f, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#)?;
            }
            writeln!(
                f,
                r#"<text x="{LEFT}" y="{}" fill="{colour}">{}</text>"#,
                44.0 + 14.0 * index as f64,
                line.name
            )?;
        }
        Ok(())
    }
}

/// The next of 1, 2, 4, 10, 20, 40, ...: a quarter of it is round, too.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(10.0 * power)
}
