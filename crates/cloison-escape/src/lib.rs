//! cloison-escape.
