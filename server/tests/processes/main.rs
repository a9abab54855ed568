//! Real processes: what a simulation cannot see of sockets, files and signals.

mod cluster;
mod membership;
mod placement;
mod recovery;
mod wishes;

use std::io::Read;
use std::time::Duration;

use client::driver::{Client, Outcome, TransactionOptions};

use cluster::{Cluster, PATIENCE, eventually, free_addresses, meridian, one_line, start_expecting_failure};

async fn count(client: &Client) -> i64 {
    client.query("SELECT count(*) FROM t", &[]).await.unwrap()[0].get::<i64>(0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_changes_nothing_but_a_pause_and_comes_back_with_its_data() {
    let mut cluster = Cluster::start("kill");
    let client = cluster.client(&[0, 1, 2]).await;
    eventually(&client, "CREATE TABLE t (id INT8 PRIMARY KEY)", PATIENCE).await;
    for id in 0..20 {
        eventually(&client, &format!("INSERT INTO t VALUES ({id})"), PATIENCE).await;
    }
    // How a transaction ended can be asked for by its id, also of one over keys.
    let mut transaction = client.key_range().begin(TransactionOptions::default()).await.unwrap();
    transaction.put(&[(b"key", b"value")]).await.unwrap();
    let id = transaction.id().unwrap().to_string();
    let timestamp = transaction.commit().await.unwrap();
    assert_eq!(client.outcome(&id).await.unwrap(), Outcome::Committed { timestamp });
    assert!(client.key_range().put(&[(b"key", b"other")]).await.unwrap() > timestamp);
    cluster.nodes[0].kill_9();
    let others = cluster.client(&[1, 2]).await;
    eventually(&others, "INSERT INTO t VALUES (100)", PATIENCE).await;
    assert_eq!(count(&others).await, 21);
    cluster.nodes[0] = cluster.start_node(0);
    eventually(&others, "INSERT INTO t VALUES (101)", PATIENCE).await;
    // Any node answers any client; the restarted one must make up the quorum with the third.
    cluster.nodes[1].kill_9();
    let survivors = cluster.client(&[0, 2]).await;
    eventually(&survivors, "INSERT INTO t VALUES (102)", PATIENCE).await;
    assert_eq!(count(&survivors).await, 23);
    // With two of three gone nobody guesses.
    cluster.nodes[2].kill_9();
    let alone = cluster.client(&[0]).await;
    let refused = tokio::time::timeout(Duration::from_secs(40), alone.execute("INSERT INTO t VALUES (103)", &[])).await;
    assert!(!matches!(refused, Ok(Ok(_))), "a minority acknowledged a write");
    cluster.nodes[1] = cluster.start_node(1);
    cluster.nodes[2] = cluster.start_node(2);
    let all = cluster.client(&[0, 1, 2]).await;
    eventually(&all, "INSERT INTO t VALUES (104)", PATIENCE).await;
    // 103 was never acknowledged: it may be there or not.
    let found = count(&all).await;
    assert!((24..=25).contains(&found), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_hands_over_and_ends_cleanly() {
    let mut cluster = Cluster::start("stop");
    let client = cluster.client(&[1, 2]).await;
    eventually(&client, "CREATE TABLE t (id INT8 PRIMARY KEY)", PATIENCE).await;
    cluster.nodes[0].signal("-TERM");
    let status = cluster.nodes[0].0.wait().unwrap();
    assert!(status.success(), "{status}");
    eventually(&client, "INSERT INTO t VALUES (1)", PATIENCE).await;
    cluster.nodes[0] = cluster.start_node(0);
    let restarted = cluster.client(&[0]).await;
    eventually(&restarted, "INSERT INTO t VALUES (2)", PATIENCE).await;
    assert_eq!(count(&restarted).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_the_start_is_said_in_one_line_and_damages_nothing() {
    let mut cluster = Cluster::start("wrong");
    let client = cluster.client(&[0, 1, 2]).await;
    eventually(&client, "CREATE TABLE t (id INT8 PRIMARY KEY)", PATIENCE).await;
    eventually(&client, "INSERT INTO t VALUES (1)", PATIENCE).await;

    let elsewhere = cluster.scratch.0.join("elsewhere");
    one_line(start_expecting_failure(&elsewhere, &cluster.addresses[0], ""), "the port is in use");
    let free = free_addresses(1).remove(0);
    one_line(start_expecting_failure(&cluster.store(0), &free, ""), "in use by another process");

    // A directory of another cluster.
    let other = Cluster::start("other");
    let stranger = cluster.store(2);
    cluster.nodes[2].kill_9();
    one_line(start_expecting_failure(&stranger, &cluster.addresses[2], &other.addresses.join(",")), "of cluster");

    // A flipped bit in the identity, and one in the log.
    let identity = cluster.store(2).join("identity");
    let before = std::fs::read(&identity).unwrap();
    let mut damaged = before.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&identity, &damaged).unwrap();
    one_line(start_expecting_failure(&cluster.store(2), &free, ""), "identity is damaged");
    assert_eq!(std::fs::read(&identity).unwrap(), damaged, "nothing was changed");
    std::fs::write(&identity, &before).unwrap();

    let log = std::fs::read_dir(cluster.store(2).join("log")).unwrap();
    let segment = log.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "log")).min().unwrap();
    let good = std::fs::read(&segment).unwrap();
    let mut bad = good.clone();
    bad[30] ^= 1;
    std::fs::write(&segment, &bad).unwrap();
    one_line(start_expecting_failure(&cluster.store(2), &free, ""), "damaged at byte 16");
    std::fs::write(&segment, &good).unwrap();

    // Mended, it comes back with everything.
    cluster.nodes[2] = cluster.start_node(2);
    let restarted = cluster.client(&[2]).await;
    eventually(&restarted, "INSERT INTO t VALUES (2)", PATIENCE).await;
    assert_eq!(count(&restarted).await, 2);
}

#[test]
fn wrong_flags_are_explained() {
    let output = meridian().args(["start", "--store", "/tmp/x", "--clock-max-error", "soon"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not a duration"));
    let output = meridian().args(["init", "--addr", &free_addresses(1)[0]]).output().unwrap();
    one_line(output, "no node answers at");
    let output = meridian().args(["sql", "--addr", &free_addresses(1)[0], "-e", "SELECT 1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_demo_runs_the_bank_and_ends_by_itself_without_a_terminal() {
    let output = meridian().args(["demo", "--nodes", "3", "--bench", "2s"]).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = (&output.stderr[..]).read_to_string(&mut text);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("p99"), "{text}");
}

/// Whoever is stopped lets its clients go first: a commit whose answer is lost would have been cut off.
#[test]
fn nodes_are_restarted_one_after_the_other_and_no_commit_is_cut_off() {
    let few = ["--rounds", "1", "--pause", "1s", "--accounts", "100", "--clients", "8", "--idle-ranges", "8"];
    let output = meridian().args(["bench", "restart"]).args(few).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = (&output.stderr[..]).read_to_string(&mut text);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("none failed") && text.contains("of 0 commits the outcome was unknown"), "{text}");
}
