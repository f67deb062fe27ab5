//! Templates: Go's `text/template` with ESO's functions.

pub mod chance;
pub mod crypto;
