//! cloison-sandbox.
