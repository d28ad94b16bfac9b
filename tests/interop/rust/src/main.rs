//! `cauldron-interop SPIFFE_ID`, with SPIFFE_ENDPOINT_SOCKET set: fetches, validates, and waits for a rotation.

use std::time::Duration;

use futures_util::StreamExt as _;
use spiffe::{JwtSvid, SpiffeId, WorkloadApiClient, X509Source};

type Error = Box<dyn std::error::Error>;

const AUDIENCE: &str = "https://db.acme.example";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let wanted = SpiffeId::new(std::env::args().nth(1).ok_or("name the SPIFFE ID that is expected")?)?;
    let client = WorkloadApiClient::connect_env().await?;

    let svid = client.fetch_x509_svid().await?;
    assert_eq!(*svid.spiffe_id(), wanted);
    let bundles = client.fetch_x509_bundles().await?;
    assert!(bundles.get(wanted.trust_domain()).is_some_and(|bundle| !bundle.authorities().is_empty()));
    println!("rust      X.509-SVID of {wanted}");

    let token = client.fetch_jwt_token([AUDIENCE], None).await?;
    let validated = client.validate_jwt_token(AUDIENCE, &token).await?;
    assert_eq!(*validated.spiffe_id(), wanted);
    assert!(client.validate_jwt_token("https://elsewhere.example", &token).await.is_err());
    let keys = client.fetch_jwt_bundles().await?;
    let offline = JwtSvid::parse_and_validate(&token, &keys, &[AUDIENCE])?;
    assert_eq!(*offline.spiffe_id(), wanted);
    println!("rust      JWT-SVID fetched and validated, by the server and against the fetched keys");

    let source = X509Source::new().await?;
    let first = source.svid()?;
    let mut contexts = client.stream_x509_contexts().await?;
    let rotated = async {
        loop {
            let context = contexts.next().await.ok_or("the stream ended")??;
            let now = context.default_svid().ok_or("no SVID in an update")?.clone();
            if now.leaf().as_bytes() != first.leaf().as_bytes() {
                return Ok::<_, Error>(now);
            }
        }
    };
    let second = tokio::time::timeout(Duration::from_secs(60), rotated).await??;
    assert_eq!(*second.spiffe_id(), wanted);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(source.svid()?.leaf().as_bytes(), second.leaf().as_bytes(), "X509Source follows too");
    println!("rust      a rotation arrived on the stream");
    Ok(())
}
