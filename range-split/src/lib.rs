//! Which range holds which key, and the decisions that change it: pure functions and data.
//!
//! * [`map`]: descriptors in key order, as far as they are known.
//! * [`load`] and [`policy`]: how much a range is asked, and when it is split or merged.
//! * [`placement`]: which node holds which replica, and which one leads.

mod show;
pub mod map;
pub mod load;
pub mod policy;
pub mod placement;

pub use map::RangeMap;
