//! Pure: from fetched values to the keys and values of a Secret.

pub mod json;
pub mod number;
pub mod path;
