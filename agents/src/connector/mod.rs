//! Hands: what can be done to the outside world.
