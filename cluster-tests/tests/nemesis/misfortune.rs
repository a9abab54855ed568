//! What befalls nodes.

use std::time::{Duration, Instant};

use super::clients;
use super::cluster::{Cluster, NODES, SMALL};

/// Random numbers from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    fn node(&mut self) -> usize {
        usize::try_from(self.below(NODES as u64)).expect("there are few nodes")
    }

    fn duration(&mut self) -> Duration {
        Duration::from_millis(500 + self.below(3_500))
    }
}

/// One thing that goes wrong for a while.
#[derive(Clone, Copy, Debug)]
pub enum Misfortune {
    /// The process is killed and started again later.
    Kill { node: usize, down: Duration },
    /// Everybody is killed at once.
    KillAll,
    /// The process is stopped, and goes on later as if nothing had happened.
    Freeze { node: usize, frozen: Duration },
    /// Nothing passes between a node and the others.
    Isolate { node: usize, cut: Duration },
    /// Nothing passes from one node to another.
    OneWay { from: usize, to: usize, cut: Duration },
    /// A link comes and goes.
    Flap { node: usize, times: u64 },
    /// The disk is full; later there is room again.
    FillDisk { full: Duration },
    /// The wall clock jumps by so many seconds, and back.
    ClockJump { node: usize, seconds: i64, wrong: Duration },
}

impl Misfortune {
    /// One of each kind, in an order that the dice choose.
    pub fn each(dice: &mut Dice) -> Vec<Misfortune> {
        let mut all: Vec<Misfortune> = (0..9).map(|kind| Misfortune::of_kind(kind, dice)).collect();
        for place in (1..all.len()).rev() {
            let other = usize::try_from(dice.below(place as u64 + 1)).expect("there are few");
            all.swap(place, other);
        }
        all
    }

    pub fn draw(dice: &mut Dice) -> Misfortune {
        let kind = dice.below(9);
        Misfortune::of_kind(kind, dice)
    }

    fn of_kind(kind: u64, dice: &mut Dice) -> Misfortune {
        let node = dice.node();
        match kind {
            0 => Misfortune::Kill { node, down: dice.duration() },
            1 => Misfortune::KillAll,
            2 => Misfortune::Freeze { node, frozen: dice.duration() },
            3 => Misfortune::Isolate { node, cut: dice.duration() },
            4 => Misfortune::OneWay { from: node, to: (node + 1) % NODES, cut: dice.duration() },
            5 => Misfortune::Flap { node, times: 3 + dice.below(5) },
            6 => Misfortune::FillDisk { full: dice.duration() },
            7 => Misfortune::ClockJump { node, seconds: 3600, wrong: dice.duration() },
            _ => Misfortune::ClockJump { node, seconds: -3600, wrong: dice.duration() },
        }
    }

    /// Lets it happen, waits for its end, and checks that the node took it as it should.
    pub async fn befall(self, cluster: &mut Cluster) {
        match self {
            Misfortune::Kill { node, down } => {
                cluster.kill(node);
                tokio::time::sleep(down).await;
                cluster.start_node(node);
            }
            Misfortune::KillAll => {
                (0..NODES).for_each(|node| cluster.kill(node));
                (0..NODES).for_each(|node| cluster.start_node(node));
            }
            Misfortune::Freeze { node, frozen } => {
                cluster.signal(node, "STOP");
                tokio::time::sleep(frozen).await;
                cluster.signal(node, "CONT");
            }
            Misfortune::Isolate { node, cut } => {
                isolate(cluster, node, true);
                tokio::time::sleep(cut).await;
                isolate(cluster, node, false);
            }
            Misfortune::OneWay { from, to, cut } => {
                cluster.links.set_cut(from, to, true);
                tokio::time::sleep(cut).await;
                cluster.links.set_cut(from, to, false);
            }
            Misfortune::Flap { node, times } => {
                for _ in 0..times {
                    isolate(cluster, node, true);
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    isolate(cluster, node, false);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            Misfortune::FillDisk { full } => fill_disk(cluster, full).await,
            Misfortune::ClockJump { node, seconds, wrong } => {
                cluster.set_clock(node, seconds);
                let standing = cluster.await_standing(node, |standing| standing != "confirmed").await;
                println!("          n{}'s clock is {standing}", node + 1);
                tokio::time::sleep(wrong).await;
                cluster.set_clock(node, 0);
                cluster.await_standing(node, |standing| standing == "confirmed").await;
            }
        }
    }
}

fn isolate(cluster: &Cluster, node: usize, cut: bool) {
    for other in (0..NODES).filter(|other| *other != node) {
        cluster.links.set_cut(node, other, cut);
        cluster.links.set_cut(other, node, cut);
    }
}

/// A node whose disk is full goes on in the log segment that it has. When that is full as well it cannot promise anything, so it ends, and
/// says why; with room again it starts.
async fn fill_disk(cluster: &mut Cluster, full: Duration) {
    cluster.small_disk.fill();
    let began = Instant::now();
    let client = clients::connect(&cluster.addresses()).await;
    clients::insist(&client, "CREATE TABLE IF NOT EXISTS bulk (id INT8 PRIMARY KEY, v TEXT)").await;
    clients::insist(&client, "INSERT INTO bulk VALUES (1, '') ON CONFLICT DO NOTHING").await;
    let text = "bulk ".repeat(100_000);
    while cluster.runs(SMALL) {
        // Whether it succeeds is no matter: it fills the log.
        let _ = client.execute("UPDATE bulk SET v = $1 WHERE id = 1", &[&text]).await;
        assert!(began.elapsed() < Duration::from_secs(20), "the node goes on without a disk: {}", cluster.log(SMALL));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = cluster.log(SMALL);
    assert!(said.contains("No space left on device"), "{said}");
    tokio::time::sleep(full).await;
    cluster.small_disk.empty();
    cluster.kill(SMALL);
    cluster.start_node(SMALL);
    println!("          n{} ended with a full disk and is back", SMALL + 1);
}
