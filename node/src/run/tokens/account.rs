//! What each registered identity may ask for: a budget of new tokens, and its own share of those that are kept.
//!
//! A new token costs one exchange on the enrol lane, whose rate all machines behind one address share; an audience costs its
//! caller nothing. So every identity has a bucket of its own, and one more bounds all of a node to half of the lane: the other
//! half is for X.509-SVIDs, without which the mesh itself would stop. A bucket is charged before anybody is asked and is not
//! given back when that fails, since asking is what it bounds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cauldron_identity::SpiffeId;
use cauldron_identity::jwt::LIFETIME_S_DEFAULT;
use cauldron_mesh::limits::{ENROL_BURST_PER_ADDRESS, ENROL_REFILL};
use cauldron_workload_api::JwtRefused;

/// New tokens of one identity at once, after a pause: a program that starts and talks to some audiences. Then one more after
/// each interval.
const OWN: (u32, Duration) = (8, Duration::from_secs(10));
/// As [`OWN`], of all identities of this node: half of what the lane gives its address.
const ALL: (u32, Duration) = (15, Duration::from_secs(2));
/// Tokens of one identity that are kept for the next call; beyond, the one that ends first goes. As many as the budget renews
/// while one of them is kept.
const KEPT_MAX: usize = 16;
const _: () = assert!(ALL.0 * 2 <= ENROL_BURST_PER_ADDRESS && ALL.1.as_millis() >= ENROL_REFILL.as_millis() * 2);
const _: () = assert!(OWN.0 < ALL.0 && OWN.1.as_millis() >= ALL.1.as_millis() * 5);
const _: () = assert!(KEPT_MAX as u64 * OWN.1.as_secs() >= LIFETIME_S_DEFAULT / 2);

/// Both of the machine's clocks: budgets run by the one that nobody sets, tokens end by the other.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds since boot.
    pub boottime_ms: u64,
    /// Unix seconds.
    pub wall_s: u64,
}

/// One account for each registered identity; nobody else has one.
#[derive(Debug)]
pub struct Accounts {
    of: BTreeMap<SpiffeId, Account>,
    all: Mutex<Bucket>,
}

#[derive(Debug)]
struct Account {
    /// One request of an identity on the lane at a time: the others then find what it brought.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kept: BTreeMap<Vec<String>, Kept>,
    bucket: Bucket,
}

#[derive(Debug)]
struct Kept {
    token: String,
    until_s: u64,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    /// When `tokens` was last brought up to date; nothing before the first is taken.
    at_ms: Option<u64>,
    burst: u32,
    refill_ms: u64,
}

impl Bucket {
    fn full((burst, refill): (u32, Duration)) -> Self {
        let refill_ms = u64::try_from(refill.as_millis()).unwrap_or(u64::MAX);
        Self { tokens: burst, at_ms: None, burst, refill_ms }
    }

    /// Milliseconds until there is one to take.
    fn wait_ms(&mut self, now_ms: u64) -> u64 {
        let at_ms = *self.at_ms.get_or_insert(now_ms);
        let earned = now_ms.saturating_sub(at_ms) / self.refill_ms;
        self.tokens = self.tokens.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(self.burst);
        // What was waited beyond a whole interval counts for the next one, except in a full bucket.
        let at_ms = if self.tokens == self.burst { now_ms } else { at_ms + earned * self.refill_ms };
        self.at_ms = Some(at_ms);
        if self.tokens > 0 { 0 } else { (at_ms + self.refill_ms).saturating_sub(now_ms) }
    }
}

impl Accounts {
    /// One for each of `identities`.
    pub fn new<'a>(identities: impl Iterator<Item = &'a SpiffeId>) -> Self {
        let account = |id: &SpiffeId| {
            let state = State { kept: BTreeMap::new(), bucket: Bucket::full(OWN) };
            (id.clone(), Account { turn: tokio::sync::Mutex::default(), state: Mutex::new(state) })
        };
        Self { of: identities.map(account).collect(), all: Mutex::new(Bucket::full(ALL)) }
    }

    /// A token that is kept, or a new one that `sign` makes within the budget and that may be handed out again for
    /// `kept_for`.
    ///
    /// # Errors
    /// [`JwtRefused`]: of `sign`, [`JwtRefused::TooMany`] where the budget is used up, [`JwtRefused::Denied`] for an identity
    /// without an account.
    pub async fn token(
        &self,
        id: &SpiffeId,
        audience: &[String],
        kept_for: Duration,
        now: impl Fn() -> Now,
        sign: impl Future<Output = Result<String, JwtRefused>>,
    ) -> Result<String, JwtRefused> {
        let account = self.of.get(id).ok_or_else(|| JwtRefused::Denied(format!("{id} is not registered here")))?;
        if let Some(token) = account.kept(audience, now().wall_s) {
            return Ok(token);
        }
        let _turn = account.turn.lock().await;
        let at = now();
        if let Some(token) = account.kept(audience, at.wall_s) {
            return Ok(token);
        }
        self.charge(account, at.boottime_ms).map_err(|spent| too_many(id, &spent))?;
        let token = sign.await?;
        account.keep(audience, token.clone(), at.wall_s, kept_for);
        Ok(token)
    }

    /// Takes one from both buckets, or from neither.
    fn charge(&self, account: &Account, now_ms: u64) -> Result<(), Spent> {
        let own = &mut account.state().bucket;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match (own.wait_ms(now_ms), all.wait_ms(now_ms)) {
            (0, 0) => {
                own.tokens -= 1;
                all.tokens -= 1;
                Ok(())
            }
            (0, wait_ms) => Err(Spent::Everybody { wait_ms }),
            (wait_ms, _) => Err(Spent::Own { wait_ms }),
        }
    }
}

/// Whose budget is used up.
enum Spent {
    Own { wait_ms: u64 },
    Everybody { wait_ms: u64 },
}

impl Account {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, audience: &[String], wall_s: u64) -> Option<String> {
        let state = self.state();
        state.kept.get(audience).filter(|kept| wall_s < kept.until_s).map(|kept| kept.token.clone())
    }

    fn keep(&self, audience: &[String], token: String, wall_s: u64, kept_for: Duration) {
        let kept = &mut self.state().kept;
        kept.retain(|_, kept| wall_s < kept.until_s);
        kept.insert(audience.to_vec(), Kept { token, until_s: wall_s.saturating_add(kept_for.as_secs()) });
        while kept.len() > KEPT_MAX {
            let first = kept.iter().min_by_key(|(_, kept)| kept.until_s).map(|(audience, _)| audience.clone());
            first.and_then(|audience| kept.remove(&audience));
        }
    }
}

fn too_many(id: &SpiffeId, spent: &Spent) -> JwtRefused {
    let (who, wait_ms) = match spent {
        Spent::Own { wait_ms } => (id.to_string(), wait_ms),
        Spent::Everybody { wait_ms } => ("this node's programs together".to_owned(), wait_ms),
    };
    let wait_s = wait_ms.div_ceil(1000);
    JwtRefused::TooMany(format!(
        "too many new tokens for {who}; the next one in {wait_s} s, and one for the same audience is handed out again"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const KEPT_FOR: Duration = Duration::from_secs(LIFETIME_S_DEFAULT / 2);

    struct World {
        accounts: Accounts,
        now_s: AtomicU64,
        signed: AtomicU64,
    }

    fn id(name: &str) -> SpiffeId {
        SpiffeId::new(format!("spiffe://acme.test/site/lyon/node/n1/agent/{name}")).expect("a SPIFFE ID")
    }

    impl World {
        fn of(identities: &[&str]) -> Self {
            let ids: Vec<SpiffeId> = identities.iter().map(|name| id(name)).collect();
            Self { accounts: Accounts::new(ids.iter()), now_s: AtomicU64::new(1_000), signed: AtomicU64::new(0) }
        }

        fn wait(&self, time: Duration) {
            self.now_s.fetch_add(time.as_secs(), Ordering::Relaxed);
        }

        fn now(&self) -> Now {
            let wall_s = self.now_s.load(Ordering::Relaxed);
            Now { boottime_ms: wall_s * 1000, wall_s }
        }

        async fn ask(&self, name: &str, audience: &str) -> Result<String, JwtRefused> {
            let sign = async {
                tokio::task::yield_now().await;
                Ok(format!("token {}", self.signed.fetch_add(1, Ordering::Relaxed)))
            };
            self.accounts.token(&id(name), &[audience.to_owned()], KEPT_FOR, || self.now(), sign).await
        }

        fn kept(&self, name: &str) -> usize {
            self.accounts.of[&id(name)].state().kept.len()
        }

        /// Asks for ever new audiences until it is refused.
        async fn exhaust(&self, name: &str) -> u32 {
            for n in 0.. {
                match self.ask(name, &format!("{n} at {}", self.now().wall_s)).await {
                    Ok(_) => {}
                    Err(JwtRefused::TooMany(_)) => return n,
                    Err(other) => panic!("{other:?}"),
                }
            }
            unreachable!("a budget ends")
        }
    }

    #[tokio::test]
    async fn ever_new_audiences_use_up_one_identity_s_budget_and_nobody_else_s() {
        let world = World::of(&["web", "db"]);
        assert_eq!(world.exhaust("web").await, OWN.0);
        let Err(JwtRefused::TooMany(why)) = world.ask("web", "new").await else { panic!("refused") };
        assert!(why.contains("/agent/web") && why.contains("the next one in 10 s"), "{why}");
        world.ask("db", "a").await.expect("another's budget is untouched");
        world.wait(OWN.1);
        assert_eq!(world.exhaust("web").await, 1);
        world.wait(OWN.1 * 1000);
        assert_eq!(world.exhaust("web").await, OWN.0, "no more than at first");
        assert!(matches!(world.ask("stranger", "a").await, Err(JwtRefused::Denied(_))));
    }

    #[tokio::test]
    async fn all_identities_together_leave_half_of_the_lane() {
        let names: Vec<String> = (0..64).map(|n| format!("a{n}")).collect();
        let world = World::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let everybody = || async {
            let mut signed = 0;
            for name in &names {
                signed += world.exhaust(name).await;
            }
            signed
        };
        assert_eq!(everybody().await, ENROL_BURST_PER_ADDRESS / 2);
        let Err(JwtRefused::TooMany(why)) = world.ask("a63", "new").await else { panic!("refused") };
        assert!(why.contains("this node's programs together; the next one in 2 s"), "{why}");
        let mut signed = 0;
        for _ in 0..60 {
            world.wait(ENROL_REFILL);
            signed += everybody().await;
        }
        assert_eq!(signed, 30, "of the 60 that the lane gives in this time");
    }

    #[tokio::test]
    async fn a_kept_token_costs_nothing_and_nobody_can_push_out_another_s() {
        let world = World::of(&["web", "db"]);
        let first = world.ask("db", "a").await.expect("new");
        for _ in 0..KEPT_FOR.as_secs() - 1 {
            world.exhaust("web").await;
            world.wait(Duration::from_secs(1));
            assert_eq!(world.ask("db", "a").await, Ok(first.clone()));
        }
        assert_eq!((world.kept("web"), world.kept("db")), (KEPT_MAX, 1));
        world.wait(Duration::from_secs(1));
        assert_ne!(world.ask("db", "a").await, Ok(first), "after half of its life");
    }

    #[tokio::test]
    async fn of_more_than_are_kept_the_newest_stay() {
        let world = World::of(&["web"]);
        for n in 0..2 * KEPT_MAX {
            let token = world.ask("web", &format!("{n}")).await.expect("within the budget");
            assert_eq!(world.ask("web", &format!("{n}")).await, Ok(token));
            assert!(world.kept("web") <= KEPT_MAX);
            world.wait(OWN.1);
        }
    }

    #[tokio::test]
    async fn those_who_ask_for_the_same_at_once_share_one_token() {
        let world = World::of(&["web"]);
        let all = futures::future::join_all((0..50).map(|_| world.ask("web", "a"))).await;
        assert!(all.iter().all(|token| *token == Ok("token 0".to_owned())), "{all:?}");
    }

    #[tokio::test]
    async fn a_failure_is_charged_and_not_kept() {
        let world = World::of(&["web"]);
        for n in 0..=OWN.0 {
            let dark = async { Err(JwtRefused::Unavailable("dark".to_owned())) };
            let refused = world.accounts.token(&id("web"), &["a".to_owned()], KEPT_FOR, || world.now(), dark).await;
            assert_eq!(matches!(refused, Err(JwtRefused::Unavailable(_))), n < OWN.0, "{refused:?}");
        }
        world.wait(OWN.1);
        world.ask("web", "a").await.expect("light again");
    }
}
