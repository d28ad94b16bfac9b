//! State: chains of facts, scopes, sync and push, documents behind a fence
