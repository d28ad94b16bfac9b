//! The enrol lane: one exchange, bound to its TLS session, within limits.

use super::*;
use crate::limits::{ENROL_BURST_PER_ADDRESS, ENROL_REQUEST_BYTES_MAX};
use crate::{EnrolError, EnrolRequest, enrol_client};

const DOMAIN: &str = "test/enrol";

/// An authority that signs the exporter it sees and returns the request reversed.
async fn authority_node(world: &World) -> Node {
    let (tx, mut requests) = mpsc::channel::<EnrolRequest>(4);
    let mut config = world.config("hq");
    config.enrol = Some(tx);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            if request.bytes == b"silence" {
                continue;
            }
            let mut reply = author("charter").sign(DOMAIN, &request.exporter).as_bytes().to_vec();
            reply.extend(request.bytes.iter().rev());
            let _ = request.reply.send(reply);
        }
    });
    Node::start(config).await
}

fn proven(exporter: &[u8; 32], reply: &[u8]) -> Result<Vec<u8>, String> {
    let (signature, rest) = reply.split_first_chunk::<64>().ok_or("no signature")?;
    let signature = cauldron_identity::Signature::from_bytes(*signature);
    author("charter").public().verify(DOMAIN, exporter, &signature).map_err(|e| e.to_string())?;
    Ok(rest.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_is_bound_to_its_session_and_the_mesh_lane_beside_it_works() {
    let world = World::new();
    let mut hq = authority_node(&world).await;
    let at = hq.address.to_string();
    let mut seen = None;
    let reply = enrol_client(
        &at,
        |exporter| {
            seen = Some(*exporter);
            b"csr".to_vec()
        },
        proven,
    );
    assert_eq!(reply.await.expect("enrolled"), b"rsc");
    assert!(seen.is_some_and(|exporter| exporter != [0; 32]));
    let large = vec![9; ENROL_REQUEST_BYTES_MAX];
    assert_eq!(enrol_client(&at, |_| large.clone(), proven).await.expect("enrolled"), large);

    let lies = enrol_client(&at, |_| b"csr".to_vec(), |_, reply| proven(&[0; 32], reply)).await;
    assert!(matches!(lies, Err(EnrolError::Check { .. })), "{lies:?}");

    let mut node = world.node("n").await;
    join(&mut node, &mut hq).await;
    let served = hq.handle.counters().enrolments.load(std::sync::atomic::Ordering::Relaxed);
    assert!(served >= 2, "{served}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_enrols_nobody_says_so_and_one_that_is_silent_is_given_up() {
    let world = World::new();
    let plain = world.node("plain").await;
    let refused = enrol_client(&plain.address.to_string(), |_| b"csr".to_vec(), proven).await;
    assert!(matches!(refused, Err(EnrolError::Refused { code: Some(CloseCode::EnrolClosed), .. })), "{refused:?}");
    let hq = authority_node(&world).await;
    let silent = enrol_client(&hq.address.to_string(), |_| b"silence".to_vec(), proven).await;
    assert!(matches!(silent, Err(EnrolError::Refused { code: Some(CloseCode::EnrolTimeout), .. })), "{silent:?}");
    let unknown = enrol_client("nobody.invalid:1", |_| b"csr".to_vec(), proven).await;
    assert!(matches!(unknown, Err(EnrolError::Resolve { .. })), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_bounded_in_size_and_rate() {
    let world = World::new();
    let hq = authority_node(&world).await;
    let at = hq.address.to_string();
    let long = enrol_client(&at, |_| vec![0; ENROL_REQUEST_BYTES_MAX + 1], proven).await;
    assert!(matches!(long, Err(EnrolError::RequestLength(_))), "{long:?}");

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let crypto = crate::tls::enrol_client(&provider).expect("a configuration");
    let endpoint = quinn::Endpoint::client(LOOPBACK.parse().expect("an address")).expect("a socket");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, hq.address, crate::tls::SERVER_NAME).expect("dials").await;
    let connection = connection.expect("connects");
    let (mut send, _receive) = connection.open_bi().await.expect("a stream");
    // The server may close in the middle of it.
    let _ = send.write_all(&vec![0; ENROL_REQUEST_BYTES_MAX + 1]).await;
    let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await else { panic!("not closed") };
    assert_eq!(CloseCode::from_wire(close.error_code.into()), Some(CloseCode::EnrolRequest));

    let mut refused = false;
    for _ in 0..3 * ENROL_BURST_PER_ADDRESS {
        match enrol_client(&at, |_| b"x".to_vec(), proven).await {
            Ok(_) => {}
            Err(EnrolError::Refused { code: Some(CloseCode::EnrolRate), .. }) => {
                refused = true;
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused);
    assert!(hq.handle.counters().refused(CloseCode::EnrolRate) >= 1);
}
