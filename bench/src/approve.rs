//! From a person's signed vote to the line in the firewall's file, through three real nodes.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cauldron_coordinator::vote::{Choice, Presentation, VoteStatement};
use cauldron_identity::authority::Credential;
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{AuthorKey, Digest};
use cauldron_tests::{Mesh, wait_until};
use serde_json::{Value, json};

/// Long enough to outlast the benchmark: the file grows by every action, as it does in service.
const TTL_S: u32 = 3_600;
/// Between two looks at the file; far below what is measured.
const LOOK_EVERY: Duration = Duration::from_micros(200);
const EFFECT_MAX: Duration = Duration::from_secs(10);

/// Milliseconds from handing a vote to hq until lyon's blocklist names the address, for `actions` actions one after the other.
pub fn times_ms(mesh: &Mesh, actions: u8) -> Result<Vec<f64>, String> {
    let key = founder_key(mesh)?;
    (1..=actions).map(|n| one(mesh, &key, n)).collect()
}

fn one(mesh: &Mesh, key: &AuthorKey, n: u8) -> Result<f64, String> {
    let address = format!("198.51.100.{n}");
    let id = mesh.lyon.propose(&address, TTL_S).ok_or("lyon recorded no proposal")?;
    mesh.hq.until_state(&id, "PENDING_APPROVAL");
    let vote = vote(&mesh.hq.get(&format!("/v1/approvals/{id}")), key, n)
        .ok_or_else(|| format!("hq does not show what is to be signed for {id}"))?;
    let path = format!("/v1/approvals/{id}/votes");

    let started = Instant::now();
    let answer = mesh.hq.post(&path, &vote);
    if answer.status != 200 {
        return Err(format!("hq refused the vote: {}", answer.body));
    }
    while mesh.blocked(&address) == 0 {
        if started.elapsed() > EFFECT_MAX {
            return Err(format!(
                "no effect after {} s: {}",
                EFFECT_MAX.as_secs(),
                mesh.lyon.get(&format!("/v1/why/{id}"))
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let took = started.elapsed().as_secs_f64() * 1e3;
    wait_until("the outcome is recorded", EFFECT_MAX, || match mesh.lyon.state(&id) {
        state if state == "DONE" => Ok(()),
        state => Err(state),
    });
    Ok(took)
}

fn founder_key(mesh: &Mesh) -> Result<AuthorKey, String> {
    key_file(&mesh.hq.dir().join("people").join("ana.key"))
}

/// The key in a plain key file.
pub(crate) fn key_file(path: &Path) -> Result<AuthorKey, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let payload = text.trim().rsplit('.').next().and_then(|word| URL_SAFE_NO_PAD.decode(word).ok()).unwrap_or_default();
    payload.first_chunk().map(AuthorKey::from_seed).ok_or_else(|| format!("{} is no key", path.display()))
}

/// The wall clock, milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
    u64::try_from(now.as_millis()).map_err(|e| e.to_string())
}

/// What `approvals approve` signs, over what hq shows.
pub(crate) fn vote(shown: &Value, key: &AuthorKey, n: u8) -> Option<Value> {
    let text = |pointer: &str| shown.pointer(pointer).and_then(Value::as_str);
    let now_ms = now_ms().ok()?;
    let lines = serde_json::from_value(shown["presentation"].clone()).ok()?;
    let statement = VoteStatement {
        mesh: text("/mesh")?.parse().ok()?,
        person: "ana".to_owned(),
        credential: Credential::of(key.public().into()).id(),
        lineage: text("/proposal/lineage")?.parse().ok()?,
        proposal: text("/proposal/id")?.parse().ok()?,
        terms: text("/terms")?.parse().ok()?,
        presentation: Presentation { lines }.digest(),
        served_by: text("/served_by")?.parse().ok()?,
        authority_head: text("/authority_head")?.parse().ok(),
        choice: Choice::Approve,
        reason: String::new(),
        dwell_ms: 0,
        issued_ms: now_ms,
        expires_ms: now_ms + 600_000,
        nonce: Digest::from_bytes([n; 32]),
    };
    Some(json!({ "vote": STANDARD.encode(to_cbor(&statement.sign(key))) }))
}
