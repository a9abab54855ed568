//! A majority is lost for good, and the cluster is rebuilt from who survives.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, PATIENCE, Process, eventually, meridian, one_line, start_expecting_failure};

const LONG: Duration = Duration::from_secs(60);

fn recover(args: &[&str]) -> Output {
    meridian().arg("recover").args(args).output().unwrap()
}

fn said(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn apply(store: &Path, plan: &str) -> Output {
    recover(&["apply", "--store", store.to_str().unwrap(), plan])
}

/// Five nodes of which three hold all ranges, and rows in three tables.
async fn five_nodes(name: &str) -> Cluster {
    let mut cluster = Cluster::start(name);
    let client = cluster.client(&[0, 1, 2]).await;
    // One after the other, so that their numbers are known.
    for known in [4, 5] {
        cluster.add_node();
        let began = Instant::now();
        while client.query("SHOW NODES", &[]).await.map_or(0, |rows| rows.len()) < known {
            assert!(began.elapsed() < PATIENCE, "the nodes do not know each other");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    eventually(&client, "CREATE TABLE orders (id INT8 PRIMARY KEY, note TEXT)", PATIENCE).await;
    for cut in [10, 20] {
        eventually(&client, &format!("ALTER TABLE orders SPLIT AT VALUES ({cut})"), PATIENCE).await;
    }
    for id in 0..30 {
        eventually(&client, &format!("INSERT INTO orders VALUES ({id}, 'x')"), PATIENCE).await;
    }
    // What was acknowledged reaches the third replica in a moment.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_has_lost_two_of_three_replicas_is_rebuilt_from_the_third() {
    let mut cluster = five_nodes("recover").await;
    let stores: Vec<String> = (0..5).map(|n| cluster.store(n).to_str().unwrap().to_string()).collect();
    let file = |name: &str| cluster.scratch.0.join(name).to_str().unwrap().to_string();
    let (collected, plan) = (file("n5.findings"), file("plan.json"));
    one_line(
        recover(&["collect", "--store", &stores[4], "--out", &collected]),
        "in use by another process: stop the node",
    );
    cluster.nodes.iter_mut().for_each(Process::kill_9);

    // What is forgotten or wrong is said, and nothing is written.
    said(recover(&["collect", "--store", &stores[4], "--out", &collected]));
    let survivors = [stores[0].as_str(), stores[3].as_str(), collected.as_str()];
    let planned = |dead: &str, stores: &[&str]| recover(&[&["plan", "--dead", dead, "--out", &plan], stores].concat());
    one_line(planned("2", &survivors), "give it up for good with --dead 3");
    one_line(planned("2,3", &survivors[..2]), "give it up for good with --dead 5");
    one_line(planned("1,2,3", &survivors), "it is one or the other");
    one_line(planned("2,3", &["/nonexistent"]), "is not there");
    assert!(!Path::new(&plan).exists());

    let text = said(planned("2,3", &survivors));
    assert!(text.contains("given up for good, and barred: n2") && text.contains("4 are rebuilt"), "{text}");
    assert!(text.contains("orders (10) .. orders (20)") && text.contains("(dead)"), "{text}");
    assert!(text.contains("n1 holds everything up to entry") && text.contains("is lost; nothing tells"), "{text}");
    one_line(planned("2,3", &survivors), "is there already");

    one_line(apply(&cluster.store(1), &plan), "the plan gives n2 up");
    for number in [0, 3, 4] {
        assert!(said(apply(&cluster.store(number), &plan)).contains("is applied"));
        assert!(said(apply(&cluster.store(number), &plan)).contains("had been applied here before"));
    }
    for number in [0, 3, 4] {
        cluster.nodes[number] = cluster.start_node(number);
    }

    let client = cluster.client(&[0, 3, 4]).await;
    eventually(&client, "INSERT INTO orders VALUES (100, 'new')", PATIENCE).await;
    eventually(&client, "UPDATE orders SET note = 'y' WHERE id = 15", PATIENCE).await;
    let rows = client.query("SELECT count(*) FROM orders", &[]).await.unwrap();
    assert_eq!(rows[0].get::<i64>(0).unwrap(), 31);
    let addresses = [0, 3, 4].map(|n| cluster.addresses[n].as_str()).join(",");
    let began = Instant::now();
    loop {
        let output = recover(&["verify", "--addr", &addresses, &plan]);
        if output.status.success() {
            assert!(said(output).contains("All is well."));
            break;
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(began.elapsed() < LONG, "{text}{}", String::from_utf8_lossy(&output.stderr));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Who was given up is told so when he comes back.
    let join = cluster.addresses[0].clone();
    one_line(
        start_expecting_failure(&cluster.store(1), &cluster.addresses[1], &join),
        "n2 was decommissioned, or given up",
    );
    // The plan is of the past by now.
    cluster.nodes[3].kill_9();
    one_line(apply(&cluster.store(3), &plan), "was started since the plan was made");
    eventually(&client, "INSERT INTO orders VALUES (101, 'newer')", PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_which_nothing_survives_are_given_up_when_that_is_said() {
    let far = ["--locality", "region=us,zone=x"];
    let mut cluster = Cluster::start("give-up");
    cluster.add_node_with(&far);
    let client = cluster.client(&[0, 1]).await;
    for table in ["near", "far"] {
        eventually(&client, &format!("CREATE TABLE {table} (id INT8 PRIMARY KEY)"), PATIENCE).await;
        eventually(&client, &format!("INSERT INTO {table} VALUES (1), (2)"), PATIENCE).await;
    }
    eventually(&client, "ALTER TABLE far SET (replicas = 1, constraints = '+region=us')", PATIENCE).await;
    let began = Instant::now();
    let stands = "SELECT replicas FROM meridian.ranges WHERE table_name = 'far' AND replicas = '4'";
    while client.query(stands, &[]).await.map_or(0, |rows| rows.len()) == 0 {
        assert!(began.elapsed() < LONG, "the table does not go where it is wished");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stores: Vec<String> = (0..3).map(|n| cluster.store(n).to_str().unwrap().to_string()).collect();
    let plan = cluster.scratch.0.join("plan.json").to_str().unwrap().to_string();
    let stores: Vec<&str> = stores.iter().map(String::as_str).collect();
    let planned = |flags: &[&str]| recover(&[&["plan", "--dead", "n4", "--out", &plan], flags, &stores].concat());
    let refused = loop {
        cluster.nodes.iter_mut().for_each(Process::kill_9);
        let output = planned(&[]);
        if !output.status.success() {
            break output;
        }
        // Some replica has not heard yet that it was removed, and would be made the range again.
        assert!(said(output).contains("far") && began.elapsed() < LONG, "a removed replica never goes");
        std::fs::remove_file(&plan).unwrap();
        for number in 0..3 {
            cluster.nodes[number] = cluster.start_node(number);
        }
        cluster.nodes[3] = Process::start_with(&cluster.store(3), &cluster.addresses[3], &cluster.addresses, &far);
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    one_line(
        refused,
        "of tables far: bring back a store that held them, or give up their rows with --accept-lost-keys",
    );
    let text = said(planned(&["--accept-lost-keys"]));
    assert!(text.contains("All rows in these keys are lost") && text.contains("1 begin without contents"), "{text}");
    for number in 0..3 {
        said(apply(&cluster.store(number), &plan));
        cluster.nodes[number] = cluster.start_node(number);
    }
    let client = cluster.client(&[0, 1, 2]).await;
    eventually(&client, "INSERT INTO far VALUES (3)", PATIENCE).await;
    let count = |table: &'static str| {
        let client = client.clone();
        async move { client.query(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap()[0].get::<i64>(0).unwrap() }
    };
    assert_eq!((count("near").await, count("far").await), (2, 1));
    let (began, addresses) = (Instant::now(), cluster.addresses[..3].join(","));
    while !recover(&["verify", "--addr", &addresses, &plan]).status.success() {
        assert!(began.elapsed() < LONG, "not all is well");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    one_line(
        start_expecting_failure(&cluster.store(3), &cluster.addresses[3], &addresses),
        "n4 was decommissioned, or given up",
    );
}
