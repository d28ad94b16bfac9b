//! A node that comes to a mesh with a full document: how soon it can be read there, and what that costs on the wire.

use std::thread::sleep;
use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, Node};
use serde_json::{Value, json};

use crate::{Bound, Figure, spine};

/// Nearly what turns an epoch, and one that has turned.
const CHANGES: [usize; 2] = [15_900, 19_990];
/// Requests under way at one node.
const AT_A_TIME: usize = 16;
/// The figures.
const READABLE_S_MAX: f64 = 2.0;
const WIRE_MB_MAX: f64 = 3.0;
/// So long nothing changes when everything was said.
const QUIET: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// Founds a mesh, fills a document while one node is away from the start, and lets that node come.
///
/// # Errors
/// A debug build, or a mesh that does not do it.
pub fn figures() -> Result<Vec<Figure>, String> {
    spine::build()?;
    let all: Result<Vec<_>, _> = CHANGES.iter().map(|changes| of(*changes)).collect();
    Ok(all?.concat())
}

fn of(changes: usize) -> Result<Vec<Figure>, String> {
    let mut mesh = Mesh::found();
    mesh.until_converged();
    mesh.lyon.stop();
    std::thread::scope(|threads| {
        threads.spawn(|| write(&mesh.hq, "hq", changes / 2));
        threads.spawn(|| write(&mesh.porto, "porto", changes - changes / 2));
    });
    let settled = |doc: &Value| doc["state"] == "current" && doc["waiting"] == 0;
    // What came when an epoch had ended is said again: then some changes are copies, and their number is not known before.
    let (mut said, mut since) = (Value::Null, Instant::now());
    wait("both writers hold all of it", || {
        let (hq, porto) = (summary(&mesh.hq), summary(&mesh.porto));
        let one = settled(&hq) && hq["digest"] == porto["digest"] && hq["changes"].as_u64() >= Some(changes as u64 / 2);
        if !one || said != hq["digest"] {
            (said, since) = (hq["digest"].clone(), Instant::now());
        }
        one && since.elapsed() > QUIET
    })?;
    let full = |node: &Node| summary(node)["digest"] == said;

    let start = Instant::now();
    mesh.lyon.start();
    wait("lyon reads it", || full(&mesh.lyon))?;
    let (readable, wire) = (start.elapsed(), mesh.lyon.metric("cauldron_mesh_bytes_total{direction=\"in\"}"));
    let to_come = || {
        let doc = summary(&mesh.lyon);
        if doc["state"] == "building" { None } else { doc["to_come"].as_u64() }
    };
    let behind = to_come().unwrap_or_default();
    let whole = |doc: &Value| settled(doc) && doc["to_come"] == 0 && doc["epochs_to_come"] == 0;
    wait("lyon has the facts too", || whole(&summary(&mesh.lyon)))?;
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
            &format!("a document of {changes} changes readable at a node that starts without it"),
            readable.as_secs_f64(),
            "s",
            Some(READABLE_S_MAX),
        ),
        figure(&format!("received until then ({changes} changes)"), wire as f64 / 1e6, "MB", Some(WIRE_MB_MAX)),
        figure(&format!("facts of it still to come then ({changes} changes)"), behind as f64, "facts", None),
        figure(&format!("all of its facts there ({changes} changes)"), whole.as_secs_f64(), "s", None),
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
