//! The composed node, sans-IO: the same core runs in the binary and in the simulator
