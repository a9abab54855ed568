//! How rows become keys and values.
//!
//! A row is one key and one value. The key is the table's prefix and then the primary key's datums in an encoding whose
//! bytewise order is the order of the datums ([`key`]), so that a range of primary keys is a span. The
//! value holds the other columns by column id ([`row`]), so that a column can be added or dropped
//! without touching the rows.

pub mod key;
pub mod row;
