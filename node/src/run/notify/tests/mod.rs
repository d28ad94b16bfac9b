//! Deliveries to real servers; what needs none is tested beside the outbox.

mod outbox;
mod receiver;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cauldron_identity::Clock;
use tempfile::TempDir;
use tokio::sync::watch;

use self::receiver::{Receiver, Reply, tls};
use super::message::{About, Asking, Kind, Seen, Sender};
use super::sign::Secrets;
use super::{Counts, Hook, Quiet};
use crate::clock::SystemClock;
use crate::config::{Page, Webhook};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// For what takes a second or two on a quiet machine.
const DEADLINE: Duration = Duration::from_secs(30);

pub fn groups(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub fn sender() -> Sender {
    Sender {
        node: "spiffe://acme.example/coordinator/hq".into(),
        mesh: "cd".repeat(32),
        page: Page { url: Some("https://approve.acme.example".into()), serve: None },
    }
}

pub fn about(proposal: &str) -> About {
    About {
        proposal: proposal.into(),
        short: proposal.chars().take(12).collect(),
        operation: "security.address.block".into(),
        target: "lyon/lyon/blocklist/203.0.113.9".into(),
        class: "R1".into(),
        rationale: "Six failed logins within two minutes.".into(),
        agent: "spiffe://acme.example/site/lyon/node/lyon/agent/sshd-bruteforce".into(),
        site: "lyon".into(),
        opened_ms: 1_764_500_000_000,
        deadline_ms: 4_000_000_000_000,
    }
}

/// Everybody of `groups` is asked about `proposal` under `terms`.
pub fn asking(proposal: &str, terms: &str, names: &[&str]) -> Asking {
    Asking { about: about(proposal), terms: terms.into(), groups: groups(names), kind: Kind::Pending }
}

pub fn waiting(all: impl IntoIterator<Item = Asking>) -> Seen {
    Seen { waiting: all.into_iter().collect(), ..Seen::default() }
}

/// What is said once, as long as it holds.
pub fn notices(all: impl IntoIterator<Item = Asking>) -> Seen {
    let waiting: Vec<Asking> = all.into_iter().collect();
    Seen { notices: waiting.iter().map(Asking::key).collect(), waiting, ..Seen::default() }
}

pub fn settled(proposal: &str, outcome: &'static str) -> Seen {
    Seen { settled: [(proposal.to_owned(), (about(proposal), outcome))].into(), ..Seen::default() }
}

pub fn webhook(url: &str, dir: &TempDir) -> Webhook {
    let secret = dir.path().join("duty.secret");
    crate::files::write_private(&secret, SECRET.as_bytes()).expect("written");
    Webhook { name: "duty".into(), url: url.parse().expect("a URL"), secret, ca: None, groups: BTreeSet::new() }
}

/// A webhook at work, until it is dropped.
struct Desk {
    hook: Arc<Hook>,
    clock: SystemClock,
    _stop: watch::Sender<bool>,
}

impl Desk {
    /// With the usual bounds, but for the time of one attempt.
    fn open(hook: &Webhook, dir: &TempDir, attempt_max: Duration) -> Self {
        let mut hook = Hook::open(dir.path().join("notify/duty.json"), hook).expect("opens");
        hook.client = hook.client.with_attempt_max(attempt_max);
        let (clock, hook) = (SystemClock::start(None), Arc::new(hook));
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(hook.clone().deliver(clock.clone(), stopped));
        Self { hook, clock, _stop }
    }

    fn observe(&self, seen: &Seen) {
        self.hook.observe(self.now(), seen, &sender(), &mut Quiet::default());
    }

    fn now(&self) -> Clock {
        self.clock.now()
    }

    fn last_error(&self) -> String {
        self.hook.outbox().last_error.clone().map(|(_, why)| why).unwrap_or_default()
    }

    /// A copy: two guards in one expression would wait for each other.
    fn counts(&self) -> Counts {
        self.hook.outbox().counts.clone()
    }

    fn state(&self) -> (&'static str, usize) {
        let outbox = self.hook.outbox();
        (outbox.state(), outbox.queued())
    }

    fn delivered(&self) -> u64 {
        self.hook.outbox().counts.delivered
    }

    async fn until_failed(&self) -> String {
        eventually("an attempt fails", || !self.last_error().is_empty()).await;
        self.last_error()
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn url(receiver: &Receiver) -> String {
    format!("http://{}/hook/T0?k=v", receiver.address)
}

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_message_arrives_once_and_its_signature_verifies() {
    let (dir, receiver) = (folder(), Receiver::start(|_| Reply::Status(204)).await);
    let desk = Desk::open(&webhook(&url(&receiver), &dir), &dir, LONG);
    let one = waiting([asking("ab12", "t", &["security-duty"])]);
    desk.observe(&one);
    desk.observe(&one);
    eventually("it is delivered", || desk.delivered() == 1).await;
    desk.observe(&one);
    desk.observe(&settled("ab12", "denied"));
    eventually("the end is delivered", || desk.delivered() == 2).await;

    let [pending, decided] = &receiver.got()[..] else { panic!("{:?}", receiver.got()) };
    assert_eq!(pending.path, "/hook/T0?k=v");
    let secrets = Secrets::parse(SECRET).expect("a secret");
    for got in [pending, decided] {
        assert_eq!(got.signature, secrets.sign(&got.id, got.timestamp_s, &got.body));
        assert!(desk.now().wall_ms / 1_000 - got.timestamp_s < 30, "the time of the attempt");
    }
    assert_ne!(pending.id, decided.id);
    let value: serde_json::Value = serde_json::from_slice(&pending.body).expect("JSON");
    assert_eq!(value["type"], "approval.pending");
    assert_eq!(value["data"]["link"], "https://approve.acme.example/approvals/ab12");
    let value: serde_json::Value = serde_json::from_slice(&decided.body).expect("JSON");
    assert_eq!((&value["type"], &value["data"]["outcome"]), (&"approval.decided".into(), &"denied".into()));
}

#[tokio::test]
async fn a_webhook_endpoint_that_is_down_is_told_once_it_is_up() {
    let (dir, nobody) = (folder(), Receiver::start(|_| Reply::Status(204)).await);
    let (address, target) = (nobody.address, url(&nobody));
    drop(nobody);
    let desk = Desk::open(&webhook(&target, &dir), &dir, LONG);
    eventually("the port is free", || std::net::TcpStream::connect(address).is_err()).await;
    desk.observe(&waiting([asking("ab12", "t", &["a"])]));
    assert!(desk.until_failed().await.contains("cannot be reached"));
    assert_eq!(desk.state(), ("failing", 1));
    // Up, but not well yet: the same message again, under its id.
    let receiver = Receiver::on(address, None, |n| Reply::Status(if n < 2 { 500 } else { 200 })).await;
    eventually("it is delivered", || desk.delivered() == 1).await;
    let ids: BTreeSet<String> = receiver.got().into_iter().map(|got| got.id).collect();
    assert_eq!((receiver.got().len(), ids.len()), (3, 1));
    assert_eq!(desk.state(), ("ok", 0));
    let failed = desk.counts().failed;
    assert!(failed["unreachable"] >= 1 && failed["status"] == 2, "{failed:?}");
}

#[tokio::test]
async fn a_webhook_endpoint_that_is_slow_is_given_up_in_time_and_keeps_no_other_waiting() {
    let (dir, other) = (folder(), folder());
    let (slow, quick) = (Receiver::start(|_| Reply::Never).await, Receiver::start(|_| Reply::Status(200)).await);
    let held_up = Desk::open(&webhook(&url(&slow), &dir), &dir, LONG);
    let prompt = Desk::open(&webhook(&url(&quick), &other), &other, LONG);
    let started = Instant::now();
    for desk in [&held_up, &prompt] {
        desk.observe(&waiting([asking("ab12", "t", &["a"])]));
    }
    eventually("the slow one is asked", || slow.got().len() == 1).await;
    eventually("the other one is told", || prompt.delivered() == 1).await;
    assert!(started.elapsed() < LONG && held_up.delivered() == 0);

    let dir = folder();
    let bounded = Desk::open(&webhook(&url(&slow), &dir), &dir, Duration::from_millis(200));
    bounded.observe(&waiting([asking("ab12", "t", &["a"])]));
    assert!(bounded.until_failed().await.contains("did not answer within 200ms"));
    assert_eq!(bounded.counts().failed["slow"], 1);
}

#[tokio::test]
async fn a_webhook_endpoint_that_redirects_is_not_followed_and_told_so() {
    let (dir, elsewhere) = (folder(), Receiver::start(|_| Reply::Status(200)).await);
    let location: &'static str = Box::leak(format!("http://{}/x\u{7f}", elsewhere.address).into_boxed_str());
    let location = location.trim_end_matches('\u{7f}');
    let receiver = Receiver::start(move |_| Reply::Whole(307, "location", location, String::new())).await;
    let desk = Desk::open(&webhook(&url(&receiver), &dir), &dir, LONG);
    desk.observe(&waiting([asking("ab12", "t", &["a"])]));
    let why = desk.until_failed().await;
    assert!(why.contains(location) && why.contains("redirects are not followed"), "{why}");
    assert!(!why.contains("/hook/T0"), "the webhook's own path is nobody's business: {why}");
    assert!(elsewhere.got().is_empty());
    assert_eq!((desk.counts().failed["redirect"], desk.state()), (1, ("failing", 1)));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_told_nothing_more() {
    let (dir, receiver) = (folder(), Receiver::start(|_| Reply::Status(410)).await);
    let desk = Desk::open(&webhook(&url(&receiver), &dir), &dir, LONG);
    desk.observe(&waiting([asking("ab12", "t", &["a"]), asking("cd34", "t", &["a"])]));
    eventually("it is switched off", || desk.state().0 == "gone").await;
    desk.observe(&waiting([asking("ef56", "t", &["a"])]));
    assert_eq!((desk.state().1, desk.counts().dropped["gone"], receiver.got().len()), (0, 2, 1));
}

#[tokio::test]
async fn an_answer_is_read_to_its_bound_and_counts_by_its_status() {
    let big = || "x".repeat(1024 * 1024);
    let (dir, receiver) =
        (folder(), Receiver::start(move |n| Reply::Whole(if n == 0 { 500 } else { 200 }, "x-a", "b", big())).await);
    let desk = Desk::open(&webhook(&url(&receiver), &dir), &dir, LONG);
    desk.observe(&waiting([asking("ab12", "t", &["a"])]));
    assert!(desk.until_failed().await.contains("500 Internal Server Error, and says more than 4096 bytes"));
    eventually("it is delivered", || desk.delivered() == 1).await;
    assert_eq!(receiver.got().len(), 2);
}

#[tokio::test]
async fn what_an_endpoint_says_is_shown_and_harmless() {
    let (dir, receiver) =
        (folder(), Receiver::start(|_| Reply::Whole(400, "x-a", "b", "no\x1b[2Jsuch channel".into())).await);
    let desk = Desk::open(&webhook(&url(&receiver), &dir), &dir, LONG);
    desk.observe(&waiting([asking("ab12", "t", &["a"])]));
    let why = desk.until_failed().await;
    assert!(why.ends_with("answers 400 Bad Request: no\\u{1b}[2Jsuch channel"), "{why}");
}

#[tokio::test]
async fn an_endpoint_must_prove_its_name_to_the_configured_authority() {
    for (name, trusted, works) in
        [("localhost", true, true), ("other.example", true, false), ("localhost", false, false)]
    {
        let dir = folder();
        let (ca, stranger) = (dir.path().join("ca.pem"), dir.path().join("stranger.pem"));
        let acceptor = tls(name, &ca);
        let _ = tls(name, &stranger);
        let any = "127.0.0.1:0".parse().expect("an address");
        let receiver = Receiver::on(any, Some(acceptor), |_| Reply::Status(200)).await;
        let target = format!("https://localhost:{}/hook", receiver.address.port());
        let hook = Webhook { ca: Some(if trusted { ca } else { stranger }), ..webhook(&target, &dir) };
        let desk = Desk::open(&hook, &dir, LONG);
        desk.observe(&waiting([asking("ab12", "t", &["a"])]));
        if works {
            eventually("it is delivered", || desk.delivered() == 1).await;
        } else {
            let why = desk.until_failed().await;
            assert!(why.contains("is not who it should be"), "{why}");
            assert_eq!((receiver.got().len(), desk.counts().failed["tls"]), (0, 1));
        }
    }
}

#[tokio::test]
async fn a_restart_repeats_nothing_that_was_taken_and_forgets_nothing_that_was_not() {
    let (dir, receiver) = (folder(), Receiver::start(|n| Reply::Status(if n == 1 { 500 } else { 200 })).await);
    let hook = webhook(&url(&receiver), &dir);
    let both = waiting([asking("ab12", "t", &["a"]), asking("cd34", "t", &["a"])]);
    let before = Desk::open(&hook, &dir, LONG);
    before.observe(&both);
    eventually("the second message is refused", || receiver.got().len() == 2 && !before.last_error().is_empty()).await;
    assert_eq!(before.delivered(), 1);
    drop(before);

    let after = Desk::open(&hook, &dir, LONG);
    after.observe(&both);
    eventually("the second one is delivered", || after.delivered() == 1).await;
    let got = receiver.got();
    assert_eq!(got.len(), 3, "the first one is not repeated");
    assert!(got[1].id == got[2].id && got[0].id != got[1].id);
    // What ended while nobody looked is still said, once.
    drop(after);
    let last = Desk::open(&hook, &dir, LONG);
    last.observe(&settled("ab12", "approved"));
    last.observe(&settled("ab12", "approved"));
    eventually("the end is delivered", || last.delivered() == 1).await;
    assert_eq!(receiver.got().len(), 4);
    assert_eq!(Hook::open(dir.path().join("notify/duty.json"), &hook).expect("opens").outbox().open().count(), 1);
}

#[test]
fn every_webhook_whose_files_cannot_be_used_is_named() {
    let dir = folder();
    let config = format!(
        "[node]\nname = \"hq\"\n[mesh]\ntrust_domain = \"acme.example\"\nfirst = true\n[authority]\nenabled = true\n\
         [[notify.webhook]]\nname = \"a\"\nurl = \"http://localhost/\"\nsecret_file = \"missing\"\n\
         [[notify.webhook]]\nname = \"b\"\nurl = \"https://b.example/\"\nsecret_file = \"{}\"\nca_file = \"/dev/null\"\n",
        webhook("http://localhost", &dir).secret.display()
    );
    let config = crate::config::Config::parse(&config, &dir.path().join("node.toml")).expect("good");
    let mesh = "ab".repeat(32).parse().expect("a mesh id");
    let error = super::Notifier::open(&config, &mesh).expect_err("no files").to_string();
    assert!(error.contains("missing") && error.contains("/dev/null holds no root certificate"), "{error}");
}
