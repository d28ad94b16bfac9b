//! Who is who: SPIFFE IDs, SVIDs, author keys, the charter, the authority chain and sealed facts
