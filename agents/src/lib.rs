//! Hands and eyes: agents, sources and connectors
