//! The escape probes.
