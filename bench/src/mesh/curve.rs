//! How a large mesh grows, from a hundred nodes to ten thousand: figures, and `docs/img/mesh-curve.svg` of them.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::simulated;
use crate::{Bound, Figure, Report};

const NODES: [usize; 5] = [100, 300, 1_000, 3_000, 10_000];
/// The figure.
const LARGEST_MIN: f64 = 10_000.0;
const PANEL: (f64, f64) = (280.0, 190.0);
/// Room beside a panel's axes.
const MARGIN: (f64, f64) = (58.0, 44.0);

/// A line of a panel: what it shows, what the simulator calls it, its colour.
type Line = (&'static str, &'static str, &'static str);

const PANELS: [(&str, &[Line]); 3] = [
    ("write to have, ms", &[("p99", "push_p99_ms", "#b3261e"), ("p50", "push_p50_ms", "#1f6feb")]),
    (
        "idle, sent, B/s",
        &[("the busiest: hq", "idle_bytes_s_busiest", "#b3261e"), ("per node", "idle_bytes_s", "#1f6feb")],
    ),
    ("simulated with", &[("seconds", "seconds", "#b3261e"), ("MB", "memory_mb", "#1f6feb")]),
];

/// Simulates all sizes that fit into this machine's memory, one after the other, and draws what it has after each.
///
/// # Errors
/// A size that cannot be simulated on this machine.
pub fn draw() -> Result<Report, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/img/mesh-curve.svg");
    let (mut found, mut figures, mut largest) = (Vec::<(f64, Value)>::new(), Vec::new(), 0);
    for nodes in NODES {
        if let Some((fewer, measured)) = found.last() {
            // Every node keeps what it knows of every other one.
            let wanted_mb = value_of(measured, "memory_mb") * (nodes as f64 / fewer).powi(2);
            let free_mb = available_mb()?;
            if wanted_mb > free_mb {
                eprintln!("{nodes} nodes would take {wanted_mb:.0} MB, {free_mb:.0} MB are free: not simulated");
                break;
            }
        }
        let measured = simulated::of(nodes)?;
        for (panel, lines) in PANELS {
            figures.extend(lines.iter().map(|(line, key, _)| Figure {
                name: format!("{nodes} nodes: {panel}, {line}"),
                value: value_of(&measured, key),
                unit: "",
                yardstick: None,
                target: None,
            }));
        }
        eprintln!("{nodes} nodes: {measured}");
        largest = nodes;
        found.push((nodes as f64, measured));
        std::fs::write(&path, svg(&found)).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    figures.push(Figure {
        name: "the largest mesh that was simulated".to_owned(),
        value: largest as f64,
        unit: "nodes",
        yardstick: None,
        target: Some(Bound::AtLeast(LARGEST_MIN)),
    });
    Ok(Report { figures })
}

fn value_of(measured: &Value, key: &str) -> f64 {
    measured[key].as_f64().unwrap_or(f64::NAN)
}

/// What the system could give without swapping (proc_meminfo(5)).
fn available_mb() -> Result<f64, String> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|e| e.to_string())?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map(|kib: f64| kib * 1_024.0 / 1e6).ok_or_else(|| "/proc/meminfo names no MemAvailable".to_owned())
}

/// Panels side by side, both axes logarithmic: what grows with the number of nodes is a straight line.
fn svg(found: &[(f64, Value)]) -> String {
    let (width, height) = ((PANEL.0 + MARGIN.0 + 16.0) * PANELS.len() as f64, PANEL.1 + 2.0 * MARGIN.1);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <title>A simulated mesh of 100 to 10,000 nodes</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (n, (title, lines)) in PANELS.iter().enumerate() {
        let left = MARGIN.0 + n as f64 * (PANEL.0 + MARGIN.0 + 16.0);
        panel(&mut out, left, title, lines, found);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, left: f64, title: &str, lines: &[Line], found: &[(f64, Value)]) {
    let (top, bottom) = (MARGIN.1, MARGIN.1 + PANEL.1);
    let values = lines.iter().flat_map(|(_, key, _)| found.iter().filter_map(|(_, m)| m[*key].as_f64()));
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v.max(1.0)), high.max(v)));
    let (low, high) = (low.max(1.0).log10().floor(), high.max(10.0).log10().ceil());
    let (first, last) = (NODES[0] as f64, NODES[NODES.len() - 1] as f64);
    let x = |nodes: f64| left + (nodes / first).log10() / (last / first).log10() * PANEL.0;
    let y = |value: f64| bottom - (value.max(1.0).log10() - low) / (high - low).max(1.0) * PANEL.1;
    // Writing to a string does not fail.
    let _ = writeln!(out, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", top - 16.0);
    for power in low as i32..=high as i32 {
        let (at, label) = (y(10f64.powi(power)), 10f64.powi(power));
        let right = left + PANEL.0;
        let _ = writeln!(out, "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", left - 6.0, at + 4.0);
    }
    for nodes in NODES {
        let at = x(nodes as f64);
        let _ = writeln!(out, "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>");
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{nodes}</text>", bottom + 16.0);
    }
    for (line, key, colour) in lines {
        let points: Vec<(f64, f64)> =
            found.iter().filter_map(|(nodes, m)| Some((x(*nodes), y(m[*key].as_f64()?)))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in &points {
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        if let Some((x, y)) = points.last() {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{line}</text>",
                x - 4.0,
                y - 8.0
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_line_is_drawn_as_far_as_it_was_measured() {
        let measured = |n: f64| json!({ "push_p99_ms": 300, "push_p50_ms": 150, "seconds": n, "memory_mb": n * 9.0 });
        let drawn = svg(&[(100.0, measured(4.0)), (1_000.0, measured(400.0))]);
        assert_eq!(drawn.matches("<polyline").count(), 6);
        assert_eq!(drawn.matches("<circle").count(), 8, "idle was not measured");
        assert_eq!(drawn.matches("<svg").count(), drawn.matches("</svg>").count());
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
    }
}
