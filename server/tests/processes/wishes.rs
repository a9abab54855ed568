//! Tables whose rows are to stand where an operator wishes.

use std::time::{Duration, Instant};

use client::driver::Client;

use super::cluster::{Cluster, PATIENCE, Process, eventually};

/// Where the fourth node stands.
const FAR: [&str; 2] = ["--locality", "region=us,zone=x"];
const LONG: Duration = Duration::from_secs(60);

/// The first columns of the rows of a query, as text.
async fn ask(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_default();
    rows.iter().map(|row| row.get::<Option<String>>(0).unwrap().unwrap_or_default()).collect()
}

async fn until(client: &Client, sql: &str, right: impl Fn(&[String]) -> bool) {
    let began = Instant::now();
    loop {
        let seen = ask(client, sql).await;
        if right(&seen) {
            return;
        }
        if began.elapsed() > LONG {
            let ranges = client.query("SHOW RANGES", &[]).await;
            let jobs = client.query("SHOW JOBS LIMIT 20", &[]).await;
            panic!("{sql}: {seen:?}\n{ranges:#?}\n{jobs:#?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_stands_where_it_is_wished() {
    let mut cluster = Cluster::start("wishes");
    cluster.add_node_with(&FAR);
    let client = cluster.client(&[0, 1]).await;
    for table in ["before", "far", "after"] {
        eventually(&client, &format!("CREATE TABLE {table} (id INT8 PRIMARY KEY)"), PATIENCE).await;
        eventually(&client, &format!("INSERT INTO {table} VALUES (1), (2), (3)"), PATIENCE).await;
    }
    let wish = "replicas = 1, constraints = '+region=us', leader_preference = 'region=us'";
    eventually(&client, &format!("ALTER TABLE far SET ({wish})"), PATIENCE).await;

    // It is split off, and goes there; its ranges keep to it when they are split.
    eventually(&client, "ALTER TABLE far SPLIT AT VALUES (2)", PATIENCE).await;
    let stands = "SELECT replicas || ' led by ' || leader::text FROM meridian.ranges WHERE table_name = 'far'";
    until(&client, stands, |seen| seen == ["4 led by 4", "4 led by 4"]).await;
    let others = "SELECT replicas FROM meridian.ranges WHERE table_name IS NULL AND replicas NOT LIKE '%:%'";
    until(&client, others, |seen| seen.iter().all(|nodes| nodes.split(',').count() == 3)).await;
    assert_eq!(ask(&client, "SELECT count(*)::text FROM far").await, ["3"]);
    let why = "SELECT why FROM meridian.decisions WHERE what = 'split at far' AND outcome = 'done'";
    assert_eq!(ask(&client, why).await, ["table \"far\" has placement rules of its own, which begin here"]);
    let row = client.query("SHOW RANGE FROM TABLE far FOR ROW (2)", &[]).await.unwrap();
    assert_eq!(row[0].get::<String>("start_key").unwrap(), "far (2)");
    until(&client, "SELECT leaders::text FROM meridian.nodes WHERE node_id = 4", |seen| seen != ["0"]).await;

    // A range that nobody leads is shown as such, and soon.
    cluster.nodes[3].kill_9();
    let began = Instant::now();
    until(&client, "SELECT leader::text FROM meridian.ranges WHERE table_name = 'far'", |seen| seen == ["", ""]).await;
    assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    cluster.nodes[3] = Process::start_with(&cluster.store(3), &cluster.addresses[3], &cluster.addresses, &FAR);
    until(&client, stands, |seen| seen == ["4 led by 4", "4 led by 4"]).await;

    // What cannot be kept is said.
    eventually(&client, "ALTER TABLE before SET (constraints = '+region=moon')", PATIENCE).await;
    until(&client, "SELECT refusal FROM meridian.refusals", |seen| seen.iter().any(|why| why.contains("moon"))).await;
    eventually(&client, "ALTER TABLE before RESET (constraints)", PATIENCE).await;
    until(&client, "SELECT refusal FROM meridian.refusals", |seen| !seen.iter().any(|why| why.contains("moon"))).await;

    // Without a wish it goes back to as many replicas as any.
    eventually(&client, "ALTER TABLE far RESET (replicas, constraints, leader_preference)", PATIENCE).await;
    let counts = "SELECT replicas FROM meridian.ranges WHERE table_name = 'far'";
    until(&client, counts, |seen| {
        let settled = |nodes: &String| !nodes.contains(':') && nodes.split(',').count() == 3;
        seen.len() == 2 && seen.iter().all(settled)
    })
    .await;
    assert_eq!(ask(&client, "SELECT count(*)::text FROM far").await, ["3"]);
}
