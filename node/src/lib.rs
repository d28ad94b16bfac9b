//! The node: configuration, journal, clock, the one loop, HTTP API and command line
