//! stub
pub mod object_code;
