//! keyferry.
fn main() {}
