//! What somebody on this machine asks for.

use cauldron_coordinator::bodies::{Feature, KIND_RESTRICTION, KIND_VOTE, Proposal, Restriction, Target};
use cauldron_coordinator::ledger::Origin;
use cauldron_coordinator::vote::SignedVote;
use cauldron_identity::authority::{Entry, EntryBody, KIND_ENTRY, Term, TermOutcome};
use cauldron_identity::codec::to_cbor;
use cauldron_identity::{Lane, Role, Scope, SpiffeId, planted};

use crate::core::NodeCore;
use crate::enrol::{EnrolRequest, TokenId, TokenProof};
use crate::input::{Command, Refusal, Reply, Ticket};
use crate::local::{self, Token};

impl NodeCore {
    pub(crate) fn command(&mut self, ticket: Ticket, command: Command) {
        let result = match command {
            Command::Propose { proposal, traceparent } => self.propose(*proposal, traceparent),
            Command::ProposeSaga { steps, traceparent } => self.propose_saga(steps, traceparent),
            Command::OpenSession(open) => self.open_session(*open),
            Command::Step { session, proposal, traceparent } => self.step(session, *proposal, traceparent),
            Command::Returned { step, result, problem } => self.returned(step, result, problem),
            Command::ByHand(proposal) => self.by_hand(*proposal),
            Command::Deputy(deputy) => self.deputy(&deputy),
            Command::Bundle(bundle) => self.bring_bundle(&bundle),
            Command::Vote(vote) => self.vote(&vote),
            Command::BreakGlass(used) => self.use_glass(*used),
            Command::Review(review) => self.review_glass(&review),
            Command::Reconcile(word) => self.reconcile(&word),
            Command::SiteLift(lift) => self.lift_at_site(&lift),
            Command::Undo { proposal, by, reason, out_of_turn } => self.undo_asked(&proposal, by, reason, out_of_turn),
            Command::Restrict(restriction) => self.restrict(&restriction),
            Command::Offer { prefix, to } => self.offer(&prefix, &to),
            Command::Accept { offer } => self.accept(offer),
            Command::Token { id, secret_hash, spiffe_id, expires_ms } => {
                self.mint(id, secret_hash, &spiffe_id, expires_ms)
            }
            Command::Admit { request, exporter } => self.admit_node(&request, &exporter),
            Command::Authority(body) => self.authority_entry(&body),
            Command::Term(body) => self.term_entry(&body),
            Command::TimeReset => self.time_reset(),
            Command::Root(step) => self.root_step(step),
            Command::Trust(trust) => {
                self.dirty |= self.roots.own.as_ref() != Some(&trust);
                self.roots.own = Some(trust);
                Ok(Reply::Ok)
            }
            Command::Issued(issued) => self.issued(issued),
            Command::Edit { key, edit, if_digest } => self.edit(&key, &edit, if_digest.as_deref()),
            Command::Budget(act) => self.budget(act),
            Command::Remember { name, value } => {
                self.persist(local::note(&name, value.clone()));
                self.notes.insert(name, value);
                Ok(Reply::Ok)
            }
        };
        self.reply(ticket, result);
    }

    fn vote(&mut self, vote: &SignedVote) -> Result<Reply, Refusal> {
        let statement = vote.statement().map_err(|e| Refusal::new("vote_unreadable", e.to_string()))?;
        let Some(proposal) = self.log.get(&statement.proposal) else {
            let sentence = format!("no proposal {} is here; ask a node of its site", statement.proposal.short());
            return Err(Refusal::new("unknown_proposal", sentence));
        };
        let (scope, trace) = (proposal.header().scope.clone(), proposal.header().traceparent.clone());
        // What the owner would refuse is refused here, while the person can still do something about it.
        vote.verify(&self.authority).map_err(|e| Refusal::new("vote_invalid", e.to_string()))?;
        if self.ledger.has_vote(&statement.proposal, &vote.id()) {
            return Ok(Reply::Already(statement.proposal));
        }
        self.append(scope, KIND_VOTE, vec![statement.proposal], to_cbor(vote), trace).map(|f| Reply::Recorded(f.id()))
    }

    fn restrict(&mut self, restriction: &Restriction) -> Result<Reply, Refusal> {
        let order = restriction.order().map_err(|e| Refusal::new("order_unreadable", e.to_string()))?;
        if order.mesh != self.authority.mesh() {
            return Err(Refusal::new("other_mesh", "the order is for another mesh"));
        }
        if let Target::Feature(name) = &order.target
            && let Err(why) = name.parse::<Feature>()
        {
            return Err(Refusal::new("bad_feature", why));
        }
        // The narrowest scope that contains what is restricted.
        let scope = match &order.target {
            Target::Lineage(lineage) => match self.log.get(lineage) {
                Some(fact) => fact.header().scope.restrict(),
                None => {
                    return Err(Refusal::new("unknown_proposal", "no such proposal is here; ask a node of its site"));
                }
            },
            Target::Site(site) => Scope::site_restrict(site).map_err(|e| Refusal::new("bad_site", e.to_string()))?,
            _ if self.role.is_mesh_coordinator() => Scope::mesh_restrict(),
            _ => match self.role.site() {
                Some(site) => Scope::site_restrict(site).map_err(|e| Refusal::new("bad_site", e.to_string()))?,
                None => Scope::mesh_restrict(),
            },
        };
        if !self.authority.may_write(&self.me, &scope, KIND_RESTRICTION) {
            let sentence = format!("this node may not restrict {scope}; ask a coordinator");
            return Err(Refusal::new("not_a_writer", sentence));
        }
        // "Recorded" must mean that it counts.
        let header = self.would_be(scope.clone(), KIND_RESTRICTION);
        restriction.judge(&header, &self.authority).map_err(|e| {
            let sentence = format!("{e}; ask a coordinator, or have somebody on duty sign it");
            Refusal::new("restriction_not_counted", sentence)
        })?;
        self.append(scope, KIND_RESTRICTION, vec![], to_cbor(restriction), None).map(|f| Reply::Recorded(f.id()))
    }

    /// Whether [`NodeCore::append`] would write this; of what it depends on, nothing is looked at.
    pub(crate) fn would_append(
        &self,
        scope: &Scope,
        kind: &str,
        body: Vec<u8>,
        traceparent: Option<String>,
    ) -> Result<(), Refusal> {
        self.may_write()?;
        let (scope, kind, incarnation) = (scope.clone(), kind.to_owned(), self.incarnation);
        let draft = cauldron_crdt::Draft { scope, incarnation, kind, deps: vec![], body, hlc: 0, traceparent };
        self.log.would_take(&self.me, &draft).map_err(|why| Refusal::new(why.code(), why.to_string()))
    }

    /// Where a fact of this node would stand, as far as judging its author goes.
    pub(crate) fn would_be(&self, scope: Scope, kind: &'static str) -> Origin {
        let (author, incarnation) = (self.me, self.incarnation);
        Origin { scope, author, incarnation, seq: u64::MAX, hlc: 0, kind, traceparent: None }
    }

    fn mint(
        &mut self,
        id: TokenId,
        secret_hash: [u8; 32],
        spiffe_id: &SpiffeId,
        expires_ms: u64,
    ) -> Result<Reply, Refusal> {
        self.only_sequencer("mints join tokens")?;
        let role = Role::of(spiffe_id).map_err(|e| Refusal::new("bad_spiffe_id", e.to_string()))?;
        let domain = &self.authority.charter().trust_domain;
        if !matches!(role, Role::Node { .. }) || spiffe_id.trust_domain().as_str() != domain {
            let sentence = format!("{spiffe_id} is no node of {domain}; use spiffe://{domain}/site/<site>/node/<node>");
            return Err(Refusal::new("bad_spiffe_id", sentence));
        }
        let token = Token { secret_hash, spiffe_id: spiffe_id.to_string(), expires_ms, redeemed_by: None };
        self.persist(local::token(id, &token));
        self.tokens.insert(id, token);
        Ok(Reply::Minted)
    }

    /// Admits a node by token, or lets an enrolled author renew. Both may be repeated by the same author.
    fn admit_node(&mut self, request: &EnrolRequest, exporter: &[u8; 32]) -> Result<Reply, Refusal> {
        // Whoever holds its site's intermediate renews for the site; it admits nobody and writes nothing.
        let of_site = self.role.site().filter(|_| !self.is_sequencer() && request.token.is_none()).map(str::to_owned);
        if of_site.is_none() {
            self.only_sequencer("admits nodes")?;
        }
        if request.mesh != self.authority.mesh() {
            return Err(Refusal::new(
                "other_mesh",
                "this is another mesh; compare the token with `cauldron charter show`",
            ));
        }
        let author = request.enrol.author.author_id();
        let spiffe_id = SpiffeId::new(&request.enrol.spiffe_id)
            .map_err(|e| Refusal::new("bad_spiffe_id", format!("{}: {e}", request.enrol.spiffe_id)))?;
        if let Some(token) = &request.token {
            self.redeem(token, request, exporter)?;
        }
        match self.authority.member(&author) {
            Some(member) if member.spiffe_id != spiffe_id => {
                Err(Refusal::new("other_name", format!("this author key is enrolled as {}", member.spiffe_id)))
            }
            Some(member) if self.authority.is_cut(&author, member.incarnation) => {
                Err(Refusal::new("cut", "this author was cut; a replaced box is a new author with a new token"))
            }
            Some(_) if self.authority.is_suspended(&author) => {
                Err(Refusal::new("suspended", "this author is suspended; ask a coordinator's operator why"))
            }
            Some(member) if of_site.is_some() && member.role.site() != of_site.as_deref() => {
                Err(Refusal::new("other_site", "this node renews for its own site only; ask a coordinator"))
            }
            Some(_) => match &request.workload {
                None => Ok(Reply::Admitted { spiffe_id }),
                Some(workload) => admit_workload(&workload.spiffe_id, &spiffe_id),
            },
            None if request.workload.is_some() => Err(Refusal::new(
                "not_enrolled",
                "an author joins for itself first, and asks for its workloads afterwards",
            )),
            None if request.token.is_none() => {
                Err(Refusal::new("not_enrolled", "this author is not enrolled; join with a token"))
            }
            None => self.enrol(request, spiffe_id),
        }
    }

    fn enrol(&mut self, request: &EnrolRequest, spiffe_id: SpiffeId) -> Result<Reply, Refusal> {
        self.write_entry(&Entry::Enrol(request.enrol.clone()))?;
        match self.authority.entries().last().and_then(|a| a.refused.clone()) {
            None => Ok(Reply::Admitted { spiffe_id }),
            Some(why) => Err(Refusal::new("enrolment_refused", why)),
        }
    }

    fn redeem(&mut self, proof: &TokenProof, request: &EnrolRequest, exporter: &[u8; 32]) -> Result<(), Refusal> {
        let (spiffe_id, author) = (request.enrol.spiffe_id.as_str(), request.enrol.author.author_id());
        let unknown =
            || Refusal::new("token_unknown", "this token is not known here; mint a new one on the coordinator");
        let token = self.tokens.get_mut(&proof.id).ok_or_else(unknown)?;
        if !proof.holds(&token.secret_hash, request, exporter) {
            return Err(unknown());
        }
        if token.spiffe_id != spiffe_id {
            return Err(Refusal::new("token_name", format!("this token admits {}, not {spiffe_id}", token.spiffe_id)));
        }
        if self.now.wall_ms > token.expires_ms {
            return Err(Refusal::new("token_expired", "this token has expired; mint a new one on the coordinator"));
        }
        match token.redeemed_by {
            Some(by) if by != author => {
                return Err(Refusal::new("token_used", "another author key has redeemed this token; mint a new one"));
            }
            Some(_) if planted::active("token-single-shot") => {
                return Err(Refusal::new("token_used", "this token was redeemed"));
            }
            Some(_) => {}
            None => {
                token.redeemed_by = Some(author);
                let record = local::token(proof.id, token);
                self.persist(record);
            }
        }
        Ok(())
    }

    /// A term from a file: any node takes it, keeps it and passes it on.
    fn term_entry(&mut self, body: &EntryBody) -> Result<Reply, Refusal> {
        let id = Term::id(&self.authority.mesh(), body);
        match self.take_term(body) {
            TermOutcome::Began(_) | TermOutcome::Waits => Ok(Reply::Recorded(id)),
            TermOutcome::Known => Ok(Reply::Already(id)),
            TermOutcome::Beside(why) | TermOutcome::Refused(why) => Err(Refusal::new("entry_refused", why)),
        }
    }

    fn authority_entry(&mut self, body: &EntryBody) -> Result<Reply, Refusal> {
        if matches!(body.entry(), Ok(Entry::Term(_))) {
            return self.term_entry(body);
        }
        self.only_sequencer("writes the authority chain")?;
        if let Ok(Entry::Amend(amend)) = body.entry() {
            self.keeps_its_root(&amend)?;
        }
        if let Ok(Entry::Lift(lift)) = body.entry() {
            self.lifts_something(&lift)?;
        }
        if body.prev != self.authority.head() || body.index != self.authority.index() + 1 {
            let sentence = format!(
                "the authority chain has moved on: it is at entry {}; have the entry signed again for that head",
                self.authority.index()
            );
            return Err(Refusal::new("head_moved", sentence));
        }
        // Tried on a copy first: a chain that people read should not fill with entries that change nothing.
        self.authority.would_accept(body).map_err(|why| Refusal::new("entry_refused", why))?;
        let fact = self.append(Scope::authority(), KIND_ENTRY, vec![], to_cbor(body), None)?;
        Ok(Reply::Recorded(fact.id()))
    }

    pub(crate) fn only_sequencer(&self, what: &str) -> Result<(), Refusal> {
        if let Some(seq) = self.authority.frozen() {
            let sentence = format!(
                "authority is frozen: the sequencer signed two entries for position {seq}; the council must name a new term \
                 (`cauldron authority term`)"
            );
            return Err(Refusal::new("frozen", sentence));
        }
        if self.is_sequencer() {
            return self.may_write();
        }
        let sequencer = &self.authority.sequencer().spiffe_id;
        Err(Refusal::new("not_the_sequencer", format!("only {sequencer} {what}; ask there")))
    }

    /// Where facts about a site's work go.
    pub(crate) fn site_scope(&self, proposal: &Proposal) -> Result<Scope, Refusal> {
        let scope = Scope::site(&proposal.site).map_err(|e| Refusal::new("bad_site", e.to_string()))?;
        debug_assert_eq!(scope.lane(), Lane::Data);
        if self.authority.may_read(&self.me, &scope) || self.role.site() == Some(&proposal.site) {
            Ok(scope)
        } else {
            Err(Refusal::new("other_site", format!("this node may not write {scope}; propose at a node of that site")))
        }
    }
}

/// A workload's identity lies below that of the author that asks for it.
fn admit_workload(asked: &str, host: &SpiffeId) -> Result<Reply, Refusal> {
    let spiffe_id =
        SpiffeId::new(asked).map_err(|e| Refusal::new("bad_spiffe_id", format!("a workload's SPIFFE ID: {e}")))?;
    if !cauldron_identity::spiffe_id::is_agent_of(&spiffe_id, host) {
        let reason = format!("{host} may ask for {host}/agent/<name> alone, not for {spiffe_id}");
        return Err(Refusal::new("not_below", reason));
    }
    Ok(Reply::Admitted { spiffe_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_gets_identities_below_its_own_and_no_others() {
        let host = SpiffeId::new("spiffe://acme.test/site/lyon/node/lyon").expect("id");
        let code = |asked: &str| admit_workload(asked, &host).expect_err("refused").code;
        assert!(admit_workload("spiffe://acme.test/site/lyon/node/lyon/agent/web", &host).is_ok());
        assert_eq!(code("spiffe://acme.test/site/porto/node/porto/agent/web"), "not_below");
        assert_eq!(code("spiffe://acme.test/site/lyon/node/lyon"), "not_below");
        assert_eq!(code("spiffe://acme.test/coordinator/hq"), "not_below");
        assert_eq!(code("https://acme.test/x"), "bad_spiffe_id");
    }
}
