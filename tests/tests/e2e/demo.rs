//! The demo as a newcomer meets it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cauldron_tests::{Mesh, binary, cauldron, eventually, wait_until};

/// The whole story takes a minute; a busy machine may need several.
const STORY_MAX: Duration = Duration::from_secs(300);

/// Ends with its test, however that ends.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process ids of `pid`'s children.
fn children(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("Linux says so");
    text.split_whitespace().map(str::to_owned).collect()
}

fn runs(pid: &str) -> bool {
    // One that has ended and was not waited for is no running process.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Tells the whole story with nobody at the keyboard, ends it with `signal`, and returns what it said.
fn told_until(signal: &str) -> String {
    let mut command = Command::new(binary());
    command.args(["demo", "--block-ttl", "5s"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = Demo(command.spawn().expect("the program under test starts"));
    let (lines, said) = std::sync::mpsc::channel();
    let out = BufReader::new(demo.0.stdout.take().expect("piped"));
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    let mut text = String::new();
    wait_until("the story is told", STORY_MAX, || {
        said.try_iter().for_each(|line| text += &format!("{line}\n"));
        if text.contains("The nodes run until you press Ctrl-C") { Ok(()) } else { Err(text.clone()) }
    });
    let nodes = children(demo.0.id());
    assert_eq!(nodes.len(), 3, "three processes");
    let kill = Command::new("kill").args([signal, &demo.0.id().to_string()]).status().expect("kill runs");
    assert!(kill.success());
    let status = wait_until("the demo ends", Duration::from_secs(60), || match demo.0.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    });
    let mut err = String::new();
    demo.0.stderr.take().expect("piped").read_to_string(&mut err).expect("readable");
    assert!(status.success(), "{status}: {err}");
    eventually("its nodes are gone", || nodes.iter().all(|pid| !runs(pid)));
    text
}

#[test]
fn it_tells_its_six_steps_and_ctrl_c_stops_all_children() {
    let text = told_until("-INT");
    for step in 1..=6 {
        assert!(text.contains(&format!("\n{step}. ")) || text.starts_with(&format!("{step}. ")), "{step}: {text}");
    }
    // What to type in a second terminal is there with its full path.
    let program = PathBuf::from(text.split_whitespace().find(|word| word.ends_with("/cauldron")).expect("a command"));
    assert!(program.is_absolute(), "{}", program.display());
    for said in ["spiffe://demo.cauldron.internal/site/lyon/node/lyon", "approvals approve", "undo: ", "audit show"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_log_with_more_attackers_than_one_agent_may_propose_is_no_obstacle() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let log = folder.path().join("auth.log");
    let text: String = (1..=60).map(|n| Mesh::attack(&format!("203.0.113.{n}"))).collect();
    std::fs::write(&log, text).expect("written");
    let log = log.display().to_string();
    let ran = cauldron(folder.path(), &["demo", "--once", "--auth-log", &log, "--output", "json"]).ok();
    assert_eq!(ran.json()["ok"], true, "{}", ran.out);
}

#[test]
fn a_time_to_live_that_no_block_may_have_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for ttl in ["0s", "48h", "soon"] {
        let ran = cauldron(folder.path(), &["demo", "--once", "--block-ttl", ttl]);
        assert_eq!(ran.code, Some(2), "{}", ran.err);
    }
}
