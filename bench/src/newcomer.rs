//! A node that comes to a mesh with a full document: how soon it can be read there, and what that costs on the wire.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, Node};
use serde_json::{Value, json};

use crate::{Bound, Figure, spine};

/// Nearly a full epoch.
const CHANGES: usize = 19_990;
/// Requests under way at one node.
const AT_A_TIME: usize = 16;
/// The figures.
const READABLE_S_MAX: f64 = 2.0;
const WIRE_MB_MAX: f64 = 3.0;
const PATIENCE: Duration = Duration::from_secs(60);

/// Founds a mesh, fills a document while one node is away from the start, and lets that node come.
///
/// # Errors
/// A debug build, or a mesh that does not do it.
pub fn figures() -> Result<Vec<Figure>, String> {
    spine::build()?;
    let mut mesh = Mesh::found();
    mesh.until_converged();
    mesh.lyon.stop();
    std::thread::scope(|threads| {
        threads.spawn(|| write(&mesh.hq, "hq", CHANGES / 2));
        threads.spawn(|| write(&mesh.porto, "porto", CHANGES - CHANGES / 2));
    });
    let full = |node: &Node| summary(node)["changes"] == CHANGES;
    wait("both writers hold all of it", || full(&mesh.hq) && full(&mesh.porto))?;

    let start = Instant::now();
    mesh.lyon.start();
    wait("lyon reads it", || full(&mesh.lyon))?;
    let (readable, wire) = (start.elapsed(), mesh.lyon.metric("cauldron_mesh_bytes_total{direction=\"in\"}"));
    let to_come = || summary(&mesh.lyon)["to_come"].as_u64().unwrap_or(u64::MAX);
    let behind = to_come();
    wait("lyon has the facts too", || to_come() == 0)?;
    let whole = start.elapsed();
    let figure = |name: &str, value: f64, unit: &'static str, most: Option<f64>| Figure {
        name: name.to_owned(),
        value,
        unit,
        yardstick: None,
        target: most.map(Bound::AtMost),
    };
    Ok(vec![
        figure(
            &format!("a document of {CHANGES} changes readable at a node that starts without it"),
            readable.as_secs_f64(),
            "s",
            Some(READABLE_S_MAX),
        ),
        figure("received until then", wire as f64 / 1e6, "MB", Some(WIRE_MB_MAX)),
        figure("facts of it still to come then", behind as f64, "facts", None),
        figure("all of its facts there", whole.as_secs_f64(), "s", None),
    ])
}

/// The document in the node's list; null before it is there.
fn summary(node: &Node) -> Value {
    let list = node.try_get("/v1/docs").map(|answer| answer.json()).unwrap_or_default();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|doc| doc["doc"] == "config/main").unwrap_or_default()
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > PATIENCE {
            return Err(format!("not within {} s: {what}", PATIENCE.as_secs()));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn write(node: &Node, name: &str, changes: usize) {
    std::thread::scope(|threads| {
        for writer in 0..AT_A_TIME {
            threads.spawn(move || {
                for n in (writer..changes).step_by(AT_A_TIME) {
                    let fields = json!({ format!("{name}.k{}", n % 97): n });
                    let body = json!({ "row": format!("r{}", n % 41), "fields": fields });
                    let answer = node.post("/v1/docs/config/main", &body);
                    assert_eq!(answer.status, 200, "{}", answer.body);
                }
            });
        }
    });
}
