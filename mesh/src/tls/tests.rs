use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::tests::world_source;

#[test]
fn nothing_but_access_denied_is_told() {
    let alert = rustls::AlertDescription::from(CertificateError::ApplicationVerificationFailure);
    assert_eq!(alert, rustls::AlertDescription::AccessDenied);
    assert_eq!(redacted(), Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
}

/// Shakes hands in memory with the very configurations that QUIC gets, and tells which key exchange came of it.
fn negotiated(client: &Terms, server: &Terms) -> Result<NamedGroup, Error> {
    let (source_of_client, source_of_server) = world_source();
    let client = mesh_client_config(client, &source_of_client, &Report::default())?;
    let server = server_config(server, &source_of_server, &Report::default())?;
    let name = ServerName::try_from(SERVER_NAME).expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("writes");
        server.read_tls(&mut wire.as_slice()).expect("reads");
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).expect("writes");
        client.read_tls(&mut wire.as_slice()).expect("reads");
        client.process_new_packets()?;
    }
    Ok(client.negotiated_key_exchange_group().expect("an exchange").name())
}

/// What a build without ML-KEM would offer.
fn classical() -> Terms {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
    Terms { provider: Arc::new(provider), versions: Version::ALL }
}

#[test]
fn the_hybrid_exchange_is_taken_where_both_have_it_and_required_where_that_is_said() {
    let prefer = Terms::new(PostQuantum::Prefer, Version::ALL);
    let require = Terms::new(PostQuantum::Require, Version::ALL);
    for (client, server) in [(&prefer, &prefer), (&prefer, &require), (&require, &prefer), (&require, &require)] {
        assert_eq!(negotiated(client, server), Ok(NamedGroup::X25519MLKEM768));
    }
    assert_eq!(negotiated(&classical(), &prefer), Ok(NamedGroup::X25519));
    assert_eq!(negotiated(&prefer, &classical()), Ok(NamedGroup::X25519));
    for (client, server) in [(&classical(), &require), (&require, &classical())] {
        let refused = negotiated(client, server).expect_err("nothing in common");
        assert_eq!(refused, rustls::PeerIncompatible::NoKxGroupsInCommon.into(), "said by the server");
    }
}
