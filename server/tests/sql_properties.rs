//! Properties of the SQL layer as a whole: no input makes it panic, its futures can be sent between threads, and the
//! plan of a predicate never changes which rows it finds.

use std::sync::Arc;

use futures::executor::block_on;
use proptest::prelude::*;
use proto::Datum;
use server::sql::testing::MemoryKv;
use server::sql::{Limits, Session, SessionOptions, Sql};

fn session() -> Session {
    Sql::new(Arc::new(MemoryKv::default()), Limits::default()).session(SessionOptions::default())
}

async fn run(session: &mut Session, text: &str) -> Result<Vec<Vec<Datum>>, server::sql::Error> {
    let mut last = Vec::new();
    for statement in session.parse(text)? {
        let prepared = session.prepare(&statement, &[]).await?;
        let params = vec![Datum::Null; prepared.parameters.len()];
        last = session.execute(&prepared, params).await?.collect().await?.0;
    }
    Ok(last)
}

#[test]
fn futures_are_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let mut session = send(session());
    let statement = session.parse("SELECT 1").unwrap().remove(0);
    let prepared = block_on(send(session.prepare(&statement, &[]))).unwrap();
    {
        let mut rows = send(block_on(send(session.execute(&prepared, Vec::new()))).unwrap());
        assert_eq!(block_on(send(rows.next())).unwrap(), Some(vec![vec![Datum::Int4(1)]]));
    }
    block_on(send(session.execute_block(&[statement])));
    block_on(send(session.close()));
}

#[test]
fn long_chains_and_deep_nests_run_or_are_refused() {
    let mut session = session();
    let texts = [
        format!("SELECT 1{}", " + 1".repeat(390)),
        format!("SELECT true{}", " AND true".repeat(390)),
        format!("SELECT {}1{}", "(".repeat(300), ")".repeat(300)),
        format!("SELECT 1{}", "::int".repeat(150)),
        format!("SELECT 1{}", " IS NULL".repeat(150)),
        format!("SELECT {} true", "NOT ".repeat(390)),
        format!("SELECT {} 1", "- ".repeat(390)),
        format!("SELECT {}1{}", "abs(".repeat(100), ")".repeat(100)),
        format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(90), " END".repeat(90)),
        format!("SELECT 1 WHERE 1 IN ({})", vec!["1"; 10_000].join(", ")),
    ];
    for text in &texts {
        let _ = block_on(run(&mut session, text));
    }
}

/// Words that make statements which are nearly right.
const WORDS: &[&str] = &[
    "SELECT",
    "*",
    "FROM",
    "t",
    "WHERE",
    "id",
    "v",
    "s",
    "=",
    "<",
    ">=",
    "1",
    "2.5",
    "'x'",
    "NULL",
    "true",
    "$1",
    "+",
    "-",
    "/",
    "%",
    "||",
    "(",
    ")",
    ",",
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "LIKE",
    "IS",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "GROUP",
    "BY",
    "ORDER",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "count",
    "sum",
    "avg",
    "coalesce",
    "substr",
    "INSERT",
    "INTO",
    "VALUES",
    "DEFAULT",
    "RETURNING",
    "UPDATE",
    "SET",
    "DELETE",
    "::",
    "int",
    "text",
    "numeric",
    "date",
    "AS",
    "DISTINCT",
    "FOR",
    "EXPLAIN",
    "SHOW",
    "RANGES",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    ";",
    "t.id",
    "round",
];

fn soup() -> impl Strategy<Value = String> {
    let begin = prop::sample::select(vec![
        "SELECT",
        "SELECT * FROM t WHERE",
        "INSERT INTO t VALUES (",
        "UPDATE t SET v =",
        "DELETE FROM t WHERE",
        "",
        "SELECT id FROM t ORDER BY",
        "SELECT count(*) FROM t GROUP BY",
        "EXPLAIN SELECT",
        "CREATE TABLE u (id",
    ]);
    (begin, prop::collection::vec(prop::sample::select(WORDS), 0..14))
        .prop_map(|(begin, words)| format!("{begin} {}", words.join(" ")))
}

/// Conditions on the columns of a table with the key (a, b).
fn condition() -> impl Strategy<Value = String> {
    let column = prop::sample::select(vec!["a", "b", "v"]);
    let op = prop::sample::select(vec!["=", "<", "<=", ">", ">=", "<>"]);
    let leaf = prop_oneof![
        (column.clone(), op, -1i32..6).prop_map(|(c, op, n)| format!("{c} {op} {n}")),
        (column.clone(), -1i32..6, -1i32..6).prop_map(|(c, m, n)| format!("{c} BETWEEN {m} AND {n}")),
        (column, prop::collection::vec(-1i32..6, 1..4)).prop_map(|(c, list)| {
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            format!("{c} IN ({})", list.join(", "))
        }),
    ];
    let joined = |word: &'static str| move |parts: Vec<String>| format!("({})", parts.join(word));
    prop_oneof![
        leaf.clone(),
        prop::collection::vec(leaf.clone(), 2..4).prop_map(joined(" AND ")),
        prop::collection::vec(leaf, 2..4).prop_map(joined(" OR ")),
    ]
}

proptest! {
    #[test]
    fn no_soup_of_words_makes_a_statement_panic(text in soup()) {
        let mut session = session();
        block_on(async {
            run(&mut session, "CREATE TABLE t (id INT PRIMARY KEY, v NUMERIC, s TEXT); INSERT INTO t VALUES (1, 2, 'x')")
                .await
                .unwrap();
            let _ = run(&mut session, &text).await;
        });
    }

    #[test]
    fn access_paths_find_what_a_filter_finds(conditions in prop::collection::vec(condition(), 8)) {
        let mut session = session();
        block_on(async {
            run(&mut session, "CREATE TABLE t (a INT, b INT, v INT, PRIMARY KEY (a, b))").await.unwrap();
            let rows: Vec<String> =
                (0..25).map(|i| format!("({}, {}, {})", i / 5, i % 5, (i * 7) % 5)).collect();
            run(&mut session, &format!("INSERT INTO t VALUES {}", rows.join(", "))).await.unwrap();
            for condition in &conditions {
                let planned = format!("SELECT a, b FROM t WHERE {condition} ORDER BY a, b");
                let planned = run(&mut session, &planned).await.unwrap();
                // A condition inside of CASE is nothing that an access path can use.
                let filtered = format!("SELECT a, b FROM t WHERE CASE WHEN {condition} THEN true END ORDER BY a, b");
                let filtered = run(&mut session, &filtered).await.unwrap();
                prop_assert_eq!(planned, filtered, "{}", condition);
            }
            Ok(())
        })?;
    }
}
