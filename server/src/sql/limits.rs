//! Every limit of the SQL layer, by name.

use std::time::Duration;

/// What a node allows a statement and a session. The defaults suit a server; simulations draw others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The length of the text of one query string.
    pub statement_bytes_max: usize,
    /// The parameters of one statement; the wire protocol counts them in 16 bits.
    pub parameters_max: usize,
    /// How deeply expressions, and chains of operators, may nest. Keeps recursion inside a thread's stack.
    pub expression_depth_max: usize,
    /// Rows that an operator hands on, and a client receives, at once.
    pub batch_rows_max: usize,
    /// Bytes that a page of a scan may hold.
    pub batch_bytes_max: usize,
    /// Memory for one sort, `DISTINCT`, `GROUP BY`, `RETURNING` or buffered block of results.
    pub operator_bytes_max: usize,
    /// Keys that `IN` lists may turn into lookups; longer ones become a scan with a filter.
    pub points_max: usize,
    /// Columns of a table, and expressions of a select list.
    pub columns_max: usize,
    /// Attempts at a transaction before a conflict is reported to the client.
    pub attempts_max: u32,
    /// Attempts without a pause between them.
    pub attempts_at_once: u32,
    /// The longest pause before an attempt.
    pub backoff_max: Duration,
    /// Statements whose parse, and whose plans, a node remembers.
    pub plan_cache_entries_max: usize,
    /// Texts longer than this are not remembered.
    pub plan_cache_text_bytes_max: usize,
    /// How long after it was read a node may use a cached table descriptor.
    pub catalog_lease: Duration,
    /// What `DROP TABLE` waits beyond the lease, for clocks that run at different speeds.
    pub catalog_margin: Duration,
    /// Rows that `DROP TABLE` deletes in one transaction.
    pub drop_batch_rows: usize,
    /// Bytes of results that are kept for a transaction with an idempotency key.
    pub idempotency_bytes_max: usize,
    /// How long they, and the key, are kept.
    pub idempotency_retention: Duration,
    /// Keys that one transaction looks at to see which can go, how many bytes they may have, and the pause between two such transactions.
    pub idempotency_page_rows: usize,
    pub idempotency_page_bytes: usize,
    pub idempotency_page_pause: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            statement_bytes_max: 1 << 20,
            parameters_max: 65_535,
            expression_depth_max: 400,
            batch_rows_max: 1024,
            batch_bytes_max: 1 << 20,
            operator_bytes_max: 64 << 20,
            points_max: 10_000,
            columns_max: 1600,
            attempts_max: 64,
            attempts_at_once: 4,
            backoff_max: Duration::from_millis(200),
            plan_cache_entries_max: 1024,
            plan_cache_text_bytes_max: 16 << 10,
            catalog_lease: Duration::from_secs(2),
            catalog_margin: Duration::from_millis(500),
            drop_batch_rows: 500,
            idempotency_bytes_max: 64 << 10,
            idempotency_retention: Duration::from_secs(24 * 3600),
            idempotency_page_rows: 500,
            idempotency_page_bytes: 1 << 20,
            idempotency_page_pause: Duration::from_millis(50),
        }
    }
}
