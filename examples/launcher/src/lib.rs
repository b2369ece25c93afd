//! What of the launcher other programs use: the relay.

pub mod relay;
