//! Pure: what is due, and what is to be done about it.

pub mod cron;
pub mod duration;
pub mod object_hash;
pub mod windows;
