//! Plans: small trees over operations on key ranges.
//!
//! A query is a tree of [`Node`]s. At its leaves rows come from [`Node::Points`], one `get` of full primary keys, or from
//! [`Node::Scan`], a bounded walk over a part of the table; everything above works on rows. Planning is a
//! few rules and no costs: equalities on the whole primary key are points, conditions on a prefix of it are
//! bounds, what is left is a filter, and an order that the keys have anyway is not sorted.
//!
//! [`statement`] decides what a statement is, [`select`] and [`dml`] plan queries and changes, [`ddl`] table definitions, [`placement`] their placement,
//! [`session`] the statements about sessions, [`access`] finds points and bounds in conditions, and
//! [`explain`] shows the result.

pub mod access;
pub mod ddl;
pub mod dml;
pub mod explain;
pub mod grouping;
pub mod placement;
pub mod projection;
pub mod select;
pub mod session;
pub mod statement;

use std::sync::Arc;

use proto::DataType;

use super::expr::Expr;
use super::expr::aggregate::AggregateCall;
use super::schema::{Table, TableDescriptor};
use super::system::SystemTable;

pub use placement::PlacementChanges;
pub use session::{Show, TransactionModes};

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
}

/// A planned statement.
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    /// Of the result; empty when there is none.
    pub columns: Vec<Column>,
    pub parameters: Vec<DataType>,
    /// The tables that the plan was made for.
    pub tables: Vec<Arc<Table>>,
}

/// What to do for a statement.
#[derive(Debug)]
pub enum Plan {
    Query(Node),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    CreateTable {
        descriptor: TableDescriptor,
        if_not_exists: bool,
    },
    DropTables {
        names: Vec<String>,
        if_exists: bool,
    },
    Truncate(Vec<Arc<Table>>),
    /// Changes where a table's rows are to stand.
    Place {
        table: Arc<Table>,
        changes: PlacementChanges,
    },
    SplitAt {
        table: Arc<Table>,
        rows: Vec<Vec<Expr>>,
    },
    /// Without rows: all boundaries in the table.
    Unsplit {
        table: Arc<Table>,
        rows: Option<Vec<Vec<Expr>>>,
    },
    /// The lines to show.
    Explain(Vec<String>),
    Show(Show),
    Begin(TransactionModes),
    Commit,
    Rollback,
    SetTransaction(TransactionModes),
    SetSessionTransaction(TransactionModes),
    /// `None` resets to the default.
    Set {
        name: String,
        value: Option<String>,
        /// Until the transaction ends.
        local: bool,
    },
    ResetAll,
    DiscardAll,
    /// The edges keep prepared statements; here is nothing to do.
    Deallocate,
}

impl Plan {
    /// The first word of the completion tag, where that is all of it or a count follows.
    pub fn tag(&self) -> &'static str {
        match self {
            Plan::Query(_) => "SELECT",
            Plan::Insert(_) => "INSERT",
            Plan::Update(_) => "UPDATE",
            Plan::Delete(_) => "DELETE",
            Plan::CreateTable { .. } => "CREATE TABLE",
            Plan::DropTables { .. } => "DROP TABLE",
            Plan::Truncate(_) => "TRUNCATE TABLE",
            Plan::SplitAt { .. } | Plan::Unsplit { .. } | Plan::Place { .. } => "ALTER TABLE",
            Plan::Explain(_) => "EXPLAIN",
            Plan::Show(_) => "SHOW",
            Plan::Begin(_) => "BEGIN",
            Plan::Commit => "COMMIT",
            Plan::Rollback => "ROLLBACK",
            Plan::SetTransaction(_) | Plan::SetSessionTransaction(_) | Plan::Set { .. } => "SET",
            Plan::ResetAll => "RESET",
            Plan::DiscardAll => "DISCARD ALL",
            Plan::Deallocate => "DEALLOCATE",
        }
    }

    /// Whether it writes, and so is refused in read-only transactions.
    pub fn writes(&self) -> bool {
        matches!(
            self,
            Plan::Insert(_)
                | Plan::Update(_)
                | Plan::Delete(_)
                | Plan::CreateTable { .. }
                | Plan::DropTables { .. }
                | Plan::Truncate(_)
                | Plan::Place { .. }
        )
    }
}

/// An operator on rows, and the operators that it takes its rows from.
#[derive(Debug)]
pub enum Node {
    /// Rows of expressions.
    Values(Vec<Vec<Expr>>),
    /// Rows by their full primary keys: the values of each key column, in all combinations. In key order.
    Points {
        table: Arc<Table>,
        keys: Vec<Vec<Expr>>,
        lock: bool,
        reverse: bool,
    },
    Scan {
        table: Arc<Table>,
        bounds: Bounds,
        reverse: bool,
    },
    /// What the cluster tells of itself.
    System(SystemTable),
    Filter {
        input: Box<Node>,
        predicate: Expr,
    },
    /// Locks rows, reads them again and drops those that do not match any more.
    Lock {
        input: Box<Node>,
        table: Arc<Table>,
        predicate: Option<Expr>,
    },
    Project {
        input: Box<Node>,
        exprs: Vec<Expr>,
    },
    /// One row a group: the keys, then the results of the calls. Without keys exactly one row.
    Aggregate {
        input: Box<Node>,
        keys: Vec<Expr>,
        calls: Vec<AggregateCall>,
    },
    Sort {
        input: Box<Node>,
        keys: Vec<SortKey>,
    },
    Distinct {
        input: Box<Node>,
    },
    Limit {
        input: Box<Node>,
        limit: Option<Expr>,
        offset: Option<Expr>,
    },
}

/// The part of a table that a scan covers. The expressions look at no row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Values of the first columns of the primary key.
    pub prefix: Vec<Expr>,
    /// Of the next column: the bound, and whether it is inside.
    pub low: Option<(Expr, bool)>,
    pub high: Option<(Expr, bool)>,
}

/// One key of a sort.
#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    pub expr: Expr,
    pub descending: bool,
    pub nulls_first: bool,
}

/// `INSERT`.
#[derive(Debug)]
pub struct Insert {
    pub table: Arc<Table>,
    /// Complete rows of the table.
    pub source: Node,
    /// `ON CONFLICT DO NOTHING`.
    pub skip_conflicts: bool,
    pub returning: Option<Vec<Expr>>,
}

/// `UPDATE`.
#[derive(Debug)]
pub struct Update {
    pub table: Arc<Table>,
    /// The rows to change, locked.
    pub source: Node,
    /// New values by the column's place, computed on the old row.
    pub assignments: Vec<(usize, Expr)>,
    pub returning: Option<Vec<Expr>>,
}

impl Update {
    /// Whether rows may move to other keys.
    pub fn changes_key(&self) -> bool {
        self.assignments.iter().any(|(ordinal, _)| self.table.is_key(*ordinal))
    }
}

/// `DELETE`.
#[derive(Debug)]
pub struct Delete {
    pub table: Arc<Table>,
    /// The rows to delete, locked.
    pub source: Node,
    pub returning: Option<Vec<Expr>>,
}
