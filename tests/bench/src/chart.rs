//! The chart at the top of `docs/benchmarks.md`: four rows of bars, less is better but for the first.

use std::fmt::Write;

use crate::findings::Findings;
use crate::held::Held;
use crate::programs::Way;

/// The chart as an SVG image; `None` where too little was measured.
pub fn render(findings: &Findings) -> Option<String> {
    let panels = [
        Panel::new("New users a second", "more is better", findings, |way| {
            findings.of(way)?.crowd(|(visits, _)| visits.rate)
        })?,
        Panel::new("CPU of a GB, seconds", "one stream, all processes", findings, |way| findings.of(way)?.cost(0))?,
        Panel::new("CPU of a datagram, µs", "1200 bytes, all processes", findings, |way| {
            findings.of(way)?.datagrams(|seen| seen.up.cost)
        })?,
        Panel::new("Memory of an idle user, KiB", "all processes", findings, |way| idle_user(findings, way))?,
    ];
    let height = TOP + WAYS.len() as u32 * BAR_STEP;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" role=\"img\" aria-labelledby=\"title text\" font-family=\"system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif\" font-size=\"13\">\n  <title id=\"title\">NodePass beside other programs</title>\n  <desc id=\"text\">{}</desc>",
        NAMES + PANEL * panels.len() as u32,
        panels.each_ref().map(Panel::words).join(" ")
    );
    for (at, (_, name)) in WAYS.iter().enumerate() {
        let y = TOP + at as u32 * BAR_STEP + 14;
        let _ =
            writeln!(text, "  <text x=\"{}\" y=\"{y}\" fill=\"{GREY}\" text-anchor=\"end\">{name}</text>", NAMES - 8);
    }
    for (at, panel) in panels.iter().enumerate() {
        panel.draw(NAMES + at as u32 * PANEL, &mut text);
    }
    text += "</svg>\n";
    Some(text)
}

/// One figure of each way.
struct Panel {
    title: &'static str,
    note: &'static str,
    bars: Vec<Option<f64>>,
    most: f64,
}

impl Panel {
    /// Nothing if no way has the figure.
    fn new(
        title: &'static str,
        note: &'static str,
        findings: &Findings,
        figure: impl Fn(Way) -> Option<f64>,
    ) -> Option<Panel> {
        let bars = WAYS.map(|(way, _)| findings.of(way).and_then(|_| figure(way))).to_vec();
        let most = bars.iter().flatten().copied().reduce(f64::max).filter(|most| *most > 0.0)?;
        Some(Panel { title, note, bars, most })
    }

    fn words(&self) -> String {
        let known =
            WAYS.iter().zip(&self.bars).filter_map(|((_, name), bar)| Some(format!("{name} {}", short((*bar)?))));
        format!("{} ({}): {}.", self.title, self.note, known.collect::<Vec<_>>().join(", "))
    }

    fn draw(&self, x: u32, text: &mut String) {
        let _ = writeln!(text, "  <text x=\"{x}\" y=\"16\" fill=\"{GREY}\" font-weight=\"600\">{}</text>", self.title);
        let _ = writeln!(text, "  <text x=\"{x}\" y=\"32\" fill=\"{GREY}\" font-size=\"11\">{}</text>", self.note);
        for (at, ((way, _), bar)) in WAYS.iter().zip(&self.bars).enumerate() {
            let y = TOP + at as u32 * BAR_STEP;
            let Some(value) = bar else {
                let _ = writeln!(text, "  <text x=\"{x}\" y=\"{}\" fill=\"{GREY}\">-</text>", y + 14);
                continue;
            };
            let width = (value / self.most * f64::from(LONGEST)).max(1.0);
            let colour = if way.is_ours() { OURS } else { GREY };
            let _ = writeln!(
                text,
                "  <rect x=\"{x}\" y=\"{y}\" width=\"{width:.0}\" height=\"18\" rx=\"3\" fill=\"{colour}\"/>"
            );
            let beside = f64::from(x) + width + 5.0;
            let _ =
                writeln!(text, "  <text x=\"{beside:.0}\" y=\"{}\" fill=\"{GREY}\">{}</text>", y + 14, short(*value));
        }
    }
}

/// What an idle user takes in all processes of a way, in KiB.
fn idle_user(findings: &Findings, way: Way) -> Option<f64> {
    let grown = |held: &Held| held.during.rss as f64 - held.before.rss as f64;
    let found = findings.of(way).filter(|found| !found.held.is_empty())?;
    let parts = found.held.iter().filter_map(|(_, rounds)| crate::findings::median(rounds.iter().map(grown)));
    Some(parts.sum::<f64>() / findings.held_users.max(1) as f64)
}

/// Three figures at least, no more than one after the point.
fn short(value: f64) -> String {
    match value {
        ..1.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The ways that are shown, and what they are called there.
const WAYS: [(Way, &str); 8] = [
    (Way::Nginx, "nginx"),
    (Way::Haproxy, "haproxy"),
    (Way::Realm, "realm"),
    (Way::Single, "NodePass, single-end"),
    (Way::Rathole, "rathole"),
    (Way::Tunnel, "NodePass, tunnel"),
    (Way::TunnelTls, "NodePass, TLS"),
    (Way::Quic, "NodePass, QUIC"),
];
/// Room for the names at the left, and for each panel.
const NAMES: u32 = 160;
const PANEL: u32 = 215;
/// The longest bar; its figure stands beside it.
const LONGEST: u32 = 150;
/// Above the first bar, and from one to the next.
const TOP: u32 = 44;
const BAR_STEP: u32 = 24;
/// Of middle brightness: legible on a white page and on a dark one.
const GREY: &str = "#7d8590";
const OURS: &str = "#0969da";
