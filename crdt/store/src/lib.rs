//! The store trait and its engines
