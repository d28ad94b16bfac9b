//! Connectors that hang, and what the others do meanwhile.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cauldron_agents::connector::{ConnectorError, DryRun, Ended, Fencing, Held, Outcome, Probe as Trace};
use cauldron_coordinator::action::Catalogue;
use cauldron_node_core::Probe;
use serde_json::json;

use super::*;

/// Answers a probe only when it is told to.
struct Slow {
    name: &'static str,
    operations: [&'static str; 1],
    go: Receiver<()>,
    seen: SyncSender<&'static str>,
}

fn unused<T>() -> Result<T, ConnectorError> {
    Err(ConnectorError::Refused { why: "not in this test".into() })
}

impl Connector for Slow {
    fn name(&self) -> &str {
        self.name
    }

    fn operations(&self) -> &[&'static str] {
        &self.operations
    }

    fn fencing(&self) -> Fencing {
        Fencing::Local
    }

    fn sandboxes(&self) -> &[&'static str] {
        &["net:none"]
    }

    fn version(&self, _: &str) -> Result<Option<String>, ConnectorError> {
        Ok(Some("v1".into()))
    }

    fn dry_run(&self, _: &Action, _: u64) -> Result<DryRun, ConnectorError> {
        Ok(DryRun { text: "nothing\n".into(), blast: vec![] })
    }

    fn read(&self, _: &Action) -> Result<Reading, ConnectorError> {
        unused()
    }

    fn execute(&mut self, _: &VerifiedPermit, _: u64) -> Result<Outcome, ConnectorError> {
        unused()
    }

    fn probe(&self, _: &str) -> Result<Trace, ConnectorError> {
        self.seen.send(self.name).unwrap();
        self.go.recv().unwrap();
        Ok(Trace::Applied)
    }

    fn check(&self, _: &str, _: &str) -> Result<Held, ConnectorError> {
        Ok(Held::Yes("seen".into()))
    }

    fn undo(&mut self, _: &VerifiedUndo, _: u64) -> Result<Outcome, ConnectorError> {
        unused()
    }

    fn sweep(&mut self, _: u64) -> Result<Vec<Ended>, ConnectorError> {
        Ok(Vec::new())
    }
}

struct Scene {
    hands: Hands,
    go: Vec<SyncSender<()>>,
    seen: Receiver<&'static str>,
    stop: Arc<AtomicBool>,
    inputs: Receiver<Input>,
}

const BLOCK: &str = "security.address.block";
const WRITE: &str = "devops.file.write";

fn scene(answer_within: Duration) -> Scene {
    let (seen, saw) = sync_channel(16);
    let (go, gates): (Vec<_>, Vec<_>) = (0..2).map(|_| sync_channel(16)).unzip();
    let slow = |(name, operation, go)| -> Box<dyn Connector + Send> {
        Box::new(Slow { name, operations: [operation], go, seen: seen.clone() })
    };
    let mut gates = gates.into_iter();
    let connectors = [("blocklist", BLOCK), ("folder", WRITE)]
        .into_iter()
        .filter_map(|(name, operation)| Some(slow((name, operation, gates.next()?))))
        .collect();
    let (node, inputs) = crate::run::engine::inputs_for_tests();
    let (clock, stop) = (SystemClock::start(None), Arc::new(AtomicBool::new(false)));
    let (hands, _) = Hands::start(connectors, Vec::new(), &node, &clock, answer_within, &stop).unwrap();
    Scene { hands, go, seen: saw, stop, inputs }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn question(n: u8, operation: &str) -> Question {
    let permit = FactId::from_bytes([n; 32]);
    Question { permit, operation: operation.into(), idempotency_key: format!("key-{n}") }
}

impl Scene {
    fn next(&self) -> Input {
        self.inputs.recv_timeout(Duration::from_secs(20)).expect("an answer")
    }

    fn probed(&self) -> (u8, Probe) {
        match self.next() {
            Input::Probed { permit, probe } => (permit.as_bytes()[0], probe),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_connector_that_hangs_is_told_of_and_gets_nothing_more_until_it_answers() {
    let scene = scene(Duration::from_millis(400));
    scene.hands.probe(question(1, BLOCK));
    scene.hands.probe(question(2, BLOCK));
    assert_eq!(scene.seen.recv_timeout(Duration::from_secs(20)), Ok("blocklist"));
    // The other connector is not held up.
    scene.go[1].send(()).unwrap();
    scene.hands.probe(question(9, WRITE));
    assert_eq!(scene.probed(), (9, Probe::Applied));
    // What it hangs on, and what waits behind it.
    let mut told = [scene.probed(), scene.probed()];
    told.sort_by_key(|(n, _)| *n);
    assert_eq!(told, [(1, Probe::Unclear), (2, Probe::Unclear)]);
    let view = &scene.hands.views()[0];
    assert_eq!((view.state, view.hung, view.since.is_some()), ("hangs", 1, true));
    assert!(scene.hands.problems()[0].contains("connector blocklist hangs since"), "{:?}", scene.hands.problems());

    let names = vec!["listed".to_owned()];
    scene.hands.check(question(3, BLOCK), names);
    match scene.next() {
        Input::Checked { checks, .. } => {
            assert_eq!((checks[0].held, checks[0].says.contains("nothing was handed to it")), (None, true));
        }
        other => panic!("{other:?}"),
    }
    // It answers late: that is the truth, and it works again.
    scene.go[0].send(()).unwrap();
    assert_eq!(scene.probed(), (1, Probe::Applied));
    scene.hands.version(FactId::from_bytes([4; 32]), BLOCK, "x".into());
    assert!(matches!(scene.next(), Input::Version { version: Ok(Some(v)), .. } if v == "v1"));
    assert_eq!(scene.hands.views()[0].state, "ok");
    assert_eq!(scene.hands.problems(), Vec::<String>::new());
}

#[test]
fn what_nobody_here_does_is_answered_too() {
    let scene = scene(Duration::from_millis(400));
    scene.hands.version(FactId::from_bytes([4; 32]), "erp.invoice.pay", "x".into());
    match scene.next() {
        Input::Version { version: Err(why), .. } => assert!(why.contains("no connector for erp.invoice.pay"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn people_see_what_the_connector_sees_and_wait_no_longer_than_it_hangs() {
    let scene = scene(Duration::from_millis(400));
    let args = json!({ "path": "a.conf", "text": "x" });
    let write = || Action::new(Catalogue::built_in(), WRITE, None, &args).unwrap();
    let seen = scene.hands.look(write()).await.unwrap();
    assert_eq!((seen.version.as_deref(), seen.dry_run.as_deref()), (Some("v1"), Some("nothing\n")));
    let delete = json!({ "path": "a.conf", "reason": "r" });
    let delete = Action::new(Catalogue::built_in(), "devops.file.delete", None, &delete).unwrap();
    assert_eq!(scene.hands.look(delete).await, Err(NotSeen::NoConnector));
    scene.hands.probe(question(1, WRITE));
    assert_eq!(scene.seen.recv_timeout(Duration::from_secs(20)), Ok("folder"));
    assert!(matches!(scene.hands.look(write()).await, Err(NotSeen::Silent(_))));
}
