//! Every cell of the table in `docs/isolation.md`: the interleaving that would show an anomaly, run at each level.

use std::time::Duration;

use cluster_tests::sim::{Options, World};
use cluster_tests::workload::sql_bank;
use futures::future::{BoxFuture, join};
use proto::Datum;
use server::kv::{Db, Error, Kv};
use server::sql::Session;

const SECOND: u64 = 1_000_000_000;

/// A transaction of its own session. Once a statement has failed it has come to nothing, and goes on so.
struct Txn {
    session: Session,
    failed: bool,
}

impl Txn {
    async fn begin(db: &Db, level: &str) -> Txn {
        let mut txn = Txn { session: sql_bank::session(&sql_bank::open(db)), failed: false };
        txn.run(&format!("BEGIN ISOLATION LEVEL {level}")).await;
        txn
    }

    /// Runs a statement; its rows, as numbers. A serialization failure is an answer too, any other error is not.
    async fn run(&mut self, text: &str) -> Vec<Vec<i64>> {
        if self.failed {
            return Vec::new();
        }
        match sql_bank::run(&mut self.session, text, &[]).await {
            Ok((rows, _)) => rows.iter().map(|row| row.iter().map(number).collect()).collect(),
            Err(error) => {
                assert_eq!(error.sqlstate, "40001", "{text}: {}", error.message);
                self.failed = true;
                Vec::new()
            }
        }
    }

    /// The one number that a query returns; `None` once the transaction has failed.
    async fn one(&mut self, text: &str) -> Option<i64> {
        self.run(text).await.first().map(|row| row[0])
    }

    async fn get(&mut self, id: i64) -> Option<i64> {
        self.one(&format!("SELECT v FROM t WHERE id = {id}")).await
    }

    async fn set(&mut self, id: i64, v: i64) {
        self.run(&format!("UPDATE t SET v = {v} WHERE id = {id}")).await;
    }

    /// Whether it has taken effect.
    async fn commit(&mut self) -> bool {
        self.run("COMMIT").await;
        !self.failed
    }

    async fn rollback(&mut self) {
        self.run("ROLLBACK").await;
    }
}

fn number(datum: &Datum) -> i64 {
    match datum {
        Datum::Numeric(sum) => sum.to_string().parse().expect("the sums here are whole"),
        other => other.as_int().expect("the tests select numbers"),
    }
}

/// Two gateways, and the level at which all of a scenario's transactions run.
struct Stage {
    here: Db,
    there: Db,
    level: &'static str,
}

impl Stage {
    async fn two(&self) -> (Txn, Txn) {
        (Txn::begin(&self.here, self.level).await, Txn::begin(&self.there, self.level).await)
    }

    async fn another(&self) -> Txn {
        Txn::begin(&self.here, self.level).await
    }

    /// What is committed now.
    async fn now(&self, id: i64) -> i64 {
        let mut txn = Txn::begin(&self.here, "SERIALIZABLE").await;
        txn.get(id).await.expect("nobody is in the way")
    }
}

/// Runs an anomaly's interleaving on rows 1 and 2, both 10 at first; says whether it showed.
async fn shows(anomaly: &str, stage: Stage) -> bool {
    match anomaly {
        "dirty write (G0)" => dirty_write(stage).await,
        "dirty read (G1a)" => dirty_read(stage).await,
        "intermediate read (G1b)" => intermediate_read(stage).await,
        "circular information flow (G1c)" => circular_flow(stage).await,
        "non-repeatable read" => non_repeatable_read(stage).await,
        "phantom read" => phantom(stage).await,
        "read skew (G-single)" => read_skew(stage).await,
        "lost update" => lost_update(stage).await,
        "write skew (G2-item)" => write_skew(stage, "").await,
        "write skew on a predicate (G2)" => predicate_skew(stage).await,
        "write skew on locked rows" => write_skew(stage, " FOR UPDATE").await,
        "read-only anomaly" => read_only_anomaly(stage).await,
        "long fork" => long_fork(stage).await,
        "stale read" => stale_read(stage).await,
        other => panic!("there is no test for {other:?}"),
    }
}

/// Both write both rows; the rows must come from one of them.
async fn dirty_write(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    a.set(1, 11).await;
    // It has to wait for the first one's row.
    let waits = async {
        b.set(1, 12).await;
        b.set(2, 22).await;
        b.commit().await;
    };
    let goes_on = async {
        a.set(2, 21).await;
        a.commit().await;
    };
    join(waits, goes_on).await;
    !matches!((stage.now(1).await, stage.now(2).await), (11, 21) | (12, 22))
}

async fn dirty_read(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    a.set(1, 11).await;
    let seen = b.get(1).await;
    a.rollback().await;
    let again = b.get(1).await;
    b.commit().await && (seen == Some(11) || again == Some(11))
}

async fn intermediate_read(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    a.set(1, 11).await;
    let before = b.get(1).await;
    a.set(1, 12).await;
    a.commit().await;
    let after = b.get(1).await;
    b.commit().await && (before == Some(11) || after == Some(11))
}

/// Each sees what the other wrote.
async fn circular_flow(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    a.set(1, 11).await;
    b.set(2, 22).await;
    let (a_saw, b_saw) = (a.get(2).await, b.get(1).await);
    let (a_done, b_done) = (a.commit().await, b.commit().await);
    a_done && b_done && a_saw == Some(22) && b_saw == Some(11)
}

async fn non_repeatable_read(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    let first = a.get(1).await;
    b.set(1, 11).await;
    b.commit().await;
    let second = a.get(1).await;
    a.commit().await && first != second
}

async fn phantom(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    let first = a.one("SELECT count(*) FROM t WHERE v = 10").await;
    b.run("INSERT INTO t VALUES (3, 10)").await;
    b.commit().await;
    let second = a.one("SELECT count(*) FROM t WHERE v = 10").await;
    a.commit().await && first != second
}

/// One row before a commit, the other one after it.
async fn read_skew(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    let one = a.get(1).await;
    b.set(1, 11).await;
    b.set(2, 22).await;
    b.commit().await;
    let two = a.get(2).await;
    a.commit().await && one == Some(10) && two == Some(22)
}

async fn lost_update(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    let (seen, _) = (a.get(1).await, b.get(1).await);
    b.run("UPDATE t SET v = v + 1 WHERE id = 1").await;
    let other = b.commit().await;
    a.set(1, seen.unwrap_or(0) + 1).await;
    a.commit().await && other && stage.now(1).await == 11
}

/// Each may take 20 from its row as long as both rows together hold so much.
async fn write_skew(stage: Stage, lock: &str) -> bool {
    async fn withdraw(mut txn: Txn, stage: &Stage, id: i64, lock: &str) {
        let mut sum = 0;
        for row in [1, 2] {
            sum += txn.one(&format!("SELECT v FROM t WHERE id = {row}{lock}")).await.unwrap_or(0);
        }
        // Meanwhile the other one reads, if it need not wait.
        stage.here.sleep(Duration::from_millis(100)).await;
        if sum >= 20 {
            txn.set(id, -10).await;
        }
        txn.commit().await;
    }
    let (a, b) = stage.two().await;
    join(withdraw(a, &stage, 1, lock), withdraw(b, &stage, 2, lock)).await;
    stage.now(1).await + stage.now(2).await < 0
}

/// Each adds a row, as there are fewer than three.
async fn predicate_skew(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    let counts = (a.one("SELECT count(*) FROM t").await, b.one("SELECT count(*) FROM t").await);
    a.run("INSERT INTO t VALUES (3, 10)").await;
    b.run("INSERT INTO t VALUES (4, 10)").await;
    let done = (a.commit().await, b.commit().await);
    counts == (Some(2), Some(2)) && done == (true, true)
}

/// Row 1 is a checking account, row 2 a savings account, both at 0 here. One transaction deposits 20 in savings; one withdraws 10 from
/// checking, with a fee of 1 if there is nothing in savings. A reader sees the deposit and not the withdrawal: then no fee was due.
async fn read_only_anomaly(stage: Stage) -> bool {
    let mut prepare = stage.another().await;
    prepare.run("UPDATE t SET v = 0").await;
    prepare.commit().await;
    let (mut withdrawal, mut deposit) = stage.two().await;
    let total = withdrawal.get(1).await.unwrap_or(0) + withdrawal.get(2).await.unwrap_or(0);
    deposit.get(2).await;
    deposit.set(2, 20).await;
    deposit.commit().await;
    let mut reader = stage.another().await;
    let seen = (reader.get(1).await, reader.get(2).await);
    reader.commit().await;
    let fee = i64::from(total - 10 < 0);
    withdrawal.set(1, -10 - fee).await;
    withdrawal.commit().await && seen == (Some(0), Some(20)) && stage.now(1).await == -11
}

/// Two readers see two writes in opposite orders.
async fn long_fork(stage: Stage) -> bool {
    let (mut a, mut b) = stage.two().await;
    let (mut reader, mut other) = (stage.another().await, Txn::begin(&stage.there, stage.level).await);
    let early = (reader.get(1).await, other.get(2).await);
    a.set(1, 11).await;
    a.commit().await;
    b.set(2, 22).await;
    b.commit().await;
    let late = (reader.get(2).await, other.get(1).await);
    let done = reader.commit().await & other.commit().await;
    done && early == (Some(10), Some(10)) && late == (Some(22), Some(11))
}

/// On another node, at once after the acknowledgement.
async fn stale_read(stage: Stage) -> bool {
    for v in 11..20 {
        let mut writer = stage.another().await;
        writer.set(1, v).await;
        if writer.commit().await {
            let mut reader = Txn::begin(&stage.there, stage.level).await;
            if reader.get(1).await != Some(v) {
                return true;
            }
        }
    }
    false
}

/// Runs one cell on a cluster of its own.
fn cell(anomaly: String, level: &'static str) -> bool {
    let mut options = Options::calm(5, 3);
    options.max_error = Duration::from_millis(2);
    let no_split = |_: Db, _: u64| -> BoxFuture<'static, ()> { Box::pin(async {}) };
    let mut world = World::new(options, |_, _| Vec::new(), no_split);
    world.run_until(3 * SECOND, |_| false);
    let there = world.db(1).expect("all nodes run");
    let work = move |here: Db| -> BoxFuture<'static, Result<bool, Error>> {
        Box::pin(async move {
            let mut session = sql_bank::session(&sql_bank::open(&here));
            for text in [
                "CREATE TABLE t (id INT8 PRIMARY KEY, v INT8 NOT NULL)",
                "ALTER TABLE t SPLIT AT VALUES (2)",
                "INSERT INTO t VALUES (1, 10), (2, 10)",
            ] {
                sql_bank::run(&mut session, text, &[]).await.expect("the calm cluster takes it");
            }
            Ok(shows(&anomaly, Stage { here, there, level }).await)
        })
    };
    world.ask(0, 30 * SECOND, work).expect("the scenario ends")
}

#[test]
fn the_levels_are_what_the_documentation_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/isolation.md");
    let text = std::fs::read_to_string(path).expect("the documentation is there");
    let table = text.lines().skip_while(|line| !line.starts_with("| anomaly |")).skip(2);
    let mut cells = 0;
    let mut wrong = Vec::new();
    for line in table.take_while(|line| line.starts_with('|')) {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        for (level, said) in [("SERIALIZABLE", columns[1]), ("REPEATABLE READ", columns[2])] {
            assert!(matches!(said, "possible" | "impossible"), "{line}");
            cells += 1;
            if cell(columns[0].to_string(), level) != (said == "possible") {
                wrong.push(format!("{}: {said} at {level}, says the table, and it is not so", columns[0]));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(cells, 28);
}
