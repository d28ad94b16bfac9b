"""The PyPI package `spiffe` as a workload: `workload_api.py SPIFFE_ID`, with SPIFFE_ENDPOINT_SOCKET set."""

import sys
import threading
import time

from spiffe import SpiffeId, TrustDomain, WorkloadApiClient, X509Source
from spiffe import JwtSource

wanted = sys.argv[1]
domain = TrustDomain(SpiffeId(wanted).trust_domain.name)

with WorkloadApiClient() as client:
    svid = client.fetch_x509_svid()
    assert str(svid.spiffe_id) == wanted, f"we are {svid.spiffe_id}, not {wanted}"
    assert svid.leaf.public_key().public_numbers() == svid.private_key.public_key().public_numbers()
    bundles = client.fetch_x509_bundles()
    assert bundles.get_bundle_for_trust_domain(domain).x509_authorities
    print(f"python    X.509-SVID of {svid.spiffe_id}")

    token = client.fetch_jwt_svid(audience={"https://db.acme.example"})
    assert str(token.spiffe_id) == wanted
    again = client.validate_jwt_svid(token.token, "https://db.acme.example")
    assert again.spiffe_id == token.spiffe_id
    try:
        client.validate_jwt_svid(token.token, "https://elsewhere.example")
        raise SystemExit("a token for another audience was valid")
    except Exception as refused:  # noqa: BLE001: the package has one kind of error per call
        assert "audience" in str(refused).lower() or "INVALID_ARGUMENT" in str(refused), refused
    keys = client.fetch_jwt_bundles().get_bundle_for_trust_domain(domain)
    assert keys.jwt_authorities
    print("python    JWT-SVID fetched and validated, by the server and against the fetched keys")

with JwtSource() as source:
    assert str(source.fetch_svid(audience={"a"}).spiffe_id) == wanted

with X509Source() as source:
    first = source.get_x509_context().default_svid.leaf.serial_number
    changed = threading.Event()
    source.subscribe_for_updates(changed.set)
    until = time.monotonic() + 60
    while source.get_x509_context().default_svid.leaf.serial_number == first:
        assert changed.wait(max(0.1, until - time.monotonic())) and time.monotonic() < until, "no rotation within a minute"
        changed.clear()
    print("python    a rotation arrived on the stream")
