//! When a range is split, and when two are merged.
//!
//! ```text
//!                 bytes > bytes_max                 → near the middle, at a row's first key   ┐ split
//!                 rate ≥ rate_max for a window      → at the key that halves the load best    ┘
//!   both old, alike and small, and so is their sum  → one range                                 merge
//! ```
//!
//! Three numbers keep the two from chasing each other. A split by size leaves halves whose sum is above `bytes_max`, and a merge
//! wants a sum of at most *half* of it; the same holds for rates; and whatever was split or merged is left alone for
//! `merge_age_min`. So with sizes and loads that stand still, decisions come to rest: each split makes more ranges out of an amount that
//! is finite, and no merge undoes one.
//!
//! When a range is too large or too hot and no key helps, the answer is a refusal that says why, and what an operator can do: there
//! is no point in cutting a range whose load sits on one row, or at an end that moves on with each insert.
//!
//! What is left out: a split's middle is found by the caller, on disk, and only when asked for ([`Split::FindMiddle`]); a merge's
//! replicas have to be brought together first, which is the placement driver's work; ranges that were split by hand have to be
//! marked as pinned by whoever knows.

pub mod limits;
pub mod split;
pub mod merge;

pub use limits::SplitLimits;
pub use merge::{Keep, Merge, Neighbour, merge};
pub use split::{RangeFacts, Split, SplitReason, SplitRefusal, split};
