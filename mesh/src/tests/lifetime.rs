//! SVIDs and trust change while connections live.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_keeps_links_and_new_connections_see_the_new_svid() {
    let world = World::new();
    let (mut a, mut b, mut c) = (world.node("a").await, world.node("b").await, world.node("c").await);
    let (to_b, to_a) = join(&mut a, &mut b).await;
    let (chain, key) = svid(&world.ca, &id("b"), now_s(), 7_200);
    b.source.rotate(chain, &key).expect("rotates");
    a.handle.send(to_b.link, b"still".to_vec()).expect("queued");
    assert_eq!(b.frame(to_a.link).await, b"still");
    let (c_to_b, _) = join(&mut c, &mut b).await;
    assert!(c_to_b.not_after_s > to_b.not_after_s + 3_000);
    a.stays_alone(Duration::from_millis(300)).await;
    assert_eq!(a.handle.status().await.links.len(), 1);

    let (chain, key) = svid(&world.ca, &id("other"), now_s(), 60);
    let error = b.source.rotate(chain, &key).expect_err("another name").to_string();
    assert!(error.contains(&id("b")) && error.contains(&id("other")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_svid_ends_its_connections_and_a_renewed_one_comes_back() {
    let world = World::new();
    let mut config = world.config("b");
    config.source = world.source("b", 3);
    let (mut a, mut b) = (world.node("a").await, Node::start(config).await);
    let (to_b, _) = join(&mut a, &mut b).await;
    let reason = a.down(to_b.link).await;
    let late = now_s().saturating_sub(to_b.not_after_s);
    assert!(now_s() > to_b.not_after_s && late < 10, "closed {late} s after expiry");
    assert!(reason.contains("expired at"), "{reason}");
    assert_eq!(a.handle.counters().closed(CloseCode::SvidExpired), 1);

    let (code, reason) = a.refused().await;
    assert_eq!(code, CloseCode::Certificate, "{reason}");
    assert!(reason.contains("expired at"), "{reason}");
    assert!(b.source.own_status().is_err());
    let (chain, key) = svid(&world.ca, &id("b"), now_s(), 60);
    b.source.rotate(chain, &key).expect("rotates");
    a.up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withdrawn_trust_ends_live_connections_and_keeps_them_out() {
    let world = World::new();
    let (mut a, mut b) = (world.node("a").await, world.node("b").await);
    let (to_b, to_a) = join(&mut a, &mut b).await;
    let stranger = authority("b.test");
    a.source.set_bundles(trust(&[&stranger]));
    let reason = a.down(to_b.link).await;
    assert!(reason.contains("belongs to trust domain `a.test`, we trust `b.test`"), "{reason}");
    let told = b.down(to_a.link).await;
    assert!(told.contains("untrusted") && !told.contains("b.test"), "{told}");
    assert_eq!(a.handle.counters().closed(CloseCode::Untrusted), 1);
    let (code, _) = a.refused().await;
    assert_eq!(code, CloseCode::Certificate);
    a.source.set_bundles(trust(&[&world.ca, &stranger]));
    a.up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_root_takes_over_while_the_old_one_is_still_trusted() {
    let world = World::new();
    let next = authority("a.test");
    let both = || {
        let roots = vec![world.ca.certificate().clone(), next.certificate().clone()];
        Bundles::from(cauldron_identity::x509::Bundle::new(world.ca.trust_domain().clone(), roots).expect("a bundle"))
    };
    let (mut a, mut b, mut c) = (world.node("a").await, world.node("b").await, world.node("c").await);
    let (old, _) = join(&mut a, &mut b).await;
    for node in [&a, &b, &c] {
        node.source.set_bundles(both());
    }
    for (name, node) in [("a", &a), ("b", &b), ("c", &c)] {
        let (chain, key) = svid(&next, &id(name), now_s(), 600);
        node.source.rotate(chain, &key).expect("rotates");
    }
    let (new, _) = join(&mut c, &mut a).await;
    for node in [&a, &b, &c] {
        node.source.set_bundles(trust(&[&next]));
    }
    a.down(old.link).await;
    a.up().await;
    c.handle.send(new.link, b"untouched".to_vec()).expect("the link by the new root stayed");
}
