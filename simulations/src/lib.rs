//! A seeded discrete-event world of node cores with invariants and planted bugs
