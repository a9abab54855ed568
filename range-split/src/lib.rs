//! Which range holds which key, and the decisions that change it: pure functions and data.

pub mod map;

pub use map::RangeMap;
