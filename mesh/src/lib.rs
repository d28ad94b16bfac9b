//! Wires: libp2p on quinn and rustls with SPIFFE mutual TLS
