//! The text format of Prometheus: families with their help and type, and a sample a line.
//!
//! ```text
//! # HELP nodepass_users Live user connections and UDP sessions.
//! # TYPE nodepass_users gauge
//! nodepass_users{id="7eee77cb",protocol="tcp"} 3
//! ```

use std::fmt::Write;

use super::{Figures, Kind, Timing, BOUNDS, DISTRIBUTIONS, FAMILIES};

/// A text in the making.
#[derive(Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// A family begins: its samples follow.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One sample. Each of `labels` is empty, or one or more `name="value"`.
    pub fn sample(&mut self, name: &str, labels: [&str; 2], value: impl std::fmt::Display) {
        let [one, other] = labels;
        let comma = if one.is_empty() || other.is_empty() { "" } else { "," };
        let _ = match one.is_empty() && other.is_empty() {
            true => writeln!(self.text, "{name} {value}"),
            false => writeln!(self.text, "{name}{{{one}{comma}{other}}} {value}"),
        };
    }

    /// The version of this program.
    pub fn build(&mut self) {
        let help = "The version of this program; always 1.";
        self.family("nodepass_build_info", "gauge", help);
        self.sample("nodepass_build_info", [&label("version", env!("CARGO_PKG_VERSION")), ""], 1);
    }

    /// All families of the table: of each source its figures, with its labels.
    pub fn table(&mut self, sources: &[(&str, &Figures)]) {
        for family in &FAMILIES {
            let kind = if family.kind == Kind::Counter { "counter" } else { "gauge" };
            self.family(family.name, kind, family.help);
            for (source, figures) in sources {
                for (figure, labels) in family.series {
                    let (value, labels) = (figures.get(*figure), [*source, *labels]);
                    match family.kind {
                        Kind::Counter | Kind::Gauge => self.sample(family.name, labels, value),
                        Kind::Duration => self.sample(family.name, labels, seconds(value)),
                        Kind::Moment if value == 0 => {}
                        Kind::Moment => self.sample(family.name, labels, value),
                    }
                }
            }
        }
        for row in &DISTRIBUTIONS {
            self.family(row.name, "histogram", row.help);
            sources.iter().for_each(|(source, figures)| self.distribution(row.name, source, figures, row.timing));
        }
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }

    fn distribution(&mut self, name: &str, source: &str, figures: &Figures, timing: Timing) {
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        let mut count = 0;
        for (bound, more) in bounds.zip(figures.buckets(timing)) {
            count += more;
            self.sample(&format!("{name}_bucket"), [source, &format!("le=\"{bound}\"")], count);
        }
        self.sample(&format!("{name}_sum"), [source, ""], seconds(figures.sum(timing)));
        self.sample(&format!("{name}_count"), [source, ""], count);
    }
}

/// A label: its value may be any text.
pub fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// Microseconds in seconds.
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// What the text is, for a `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::super::{cells, Figure, CELLS};
    use super::*;
    use std::time::Duration;

    #[test]
    fn samples_have_the_labels_of_their_source_and_their_own() {
        let mut numbers = [0; CELLS];
        (numbers[Figure::TcpUsers as usize], numbers[Figure::RoundTrip as usize]) = (3, 1_500);
        let figures = Figures::new(numbers);
        let mut text = Exposition::default();
        text.table(&[("", &figures), ("id=\"a\"", &figures)]);
        let text = text.finish();
        for line in [
            "# TYPE nodepass_users gauge",
            "nodepass_users{protocol=\"tcp\"} 3",
            "nodepass_users{id=\"a\",protocol=\"udp\"} 0",
            "nodepass_tunnel_rtt_seconds 0.0015",
            "nodepass_tunnel_rtt_seconds{id=\"a\"} 0.0015",
            "# TYPE nodepass_handshakes_total counter",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
        // Without a certificate there is no end of it.
        assert!(!text.contains("\nnodepass_certificate"), "{text}");
    }

    #[test]
    fn buckets_add_up_to_the_count() {
        let mut numbers = [0; CELLS];
        for millis in [0, 1, 30, 30_000] {
            let took = Duration::from_millis(millis);
            let (bucket, sum) = cells(Timing::Dial, took);
            numbers[bucket] += 1;
            numbers[sum] += took.as_micros() as u64;
        }
        let mut text = Exposition::default();
        text.table(&[("", &Figures::new(numbers))]);
        let text = text.finish();
        for (bound, count) in [("0.001", 2), ("0.025", 2), ("0.05", 3), ("10", 3), ("+Inf", 4)] {
            assert!(text.contains(&format!("\nnodepass_dial_seconds_bucket{{le=\"{bound}\"}} {count}\n")), "{text}");
        }
        assert!(text.contains("\nnodepass_dial_seconds_sum 30.031\nnodepass_dial_seconds_count 4\n"), "{text}");
    }

    #[test]
    fn a_label_can_be_any_text() {
        assert_eq!(label("alias", "a \"b\" \\ c\nd"), "alias=\"a \\\"b\\\" \\\\ c\\nd\"");
    }
}
