//! Who may act: proposals, guardrails, votes, permits, restrictions
