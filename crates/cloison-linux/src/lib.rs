//! cloison-linux.
