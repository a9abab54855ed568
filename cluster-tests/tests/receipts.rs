//! Whoever has a transaction's address can ask any node how it ended, and the answer stays true.

use cluster_tests::sim::{Options, World};
use futures::future::BoxFuture;
use proto::transaction::{TxnAddress, TxnOutcome};
use proto::{Key, Timestamp, TxnId, keyspace};
use server::kv::{BeginOptions, Committed, Db, Error, Kv, Transaction};

const SECOND: u64 = 1_000_000_000;

fn key(n: u64) -> Key {
    Key([&[keyspace::APPLICATION], n.to_be_bytes().as_slice()].concat())
}

/// A calm cluster whose keys lie in several ranges.
fn cluster() -> World {
    let no_split = |_: Db, _: u64| -> BoxFuture<'static, ()> { Box::pin(async {}) };
    let mut world = World::new(Options::calm(7, 3), |_, _| Vec::new(), no_split);
    world.run_until(3 * SECOND, |_| false);
    for n in 1..4 {
        world.ask(0, SECOND, |db| Box::pin(async move { db.split(&key(n)).await })).expect("the split succeeds");
    }
    world
}

/// Writes in so many ranges and does not commit yet.
async fn begin(db: &Db, ranges: u64) -> Result<(Box<dyn Transaction>, TxnAddress), Error> {
    let mut txn = db.begin(BeginOptions::default()).await?;
    assert_eq!(txn.address(), None);
    for n in 0..ranges {
        txn.put(key(n), b"value".to_vec())?;
    }
    let address = txn.address().expect("it has written");
    Ok((txn, address))
}

/// What was told of a transaction, and what it came to.
type Answers = (TxnOutcome, Result<Committed, Error>);

fn outcome(world: &mut World, node: usize, address: &TxnAddress) -> Result<TxnOutcome, String> {
    let address = address.clone();
    world.ask(node, 2 * SECOND, |db| Box::pin(async move { db.outcome(&address).await }))
}

#[test]
fn a_commit_is_told_with_its_timestamp_on_every_node() {
    let mut world = cluster();
    for ranges in [1, 3] {
        let work = move |db: Db| -> BoxFuture<'static, Result<(Committed, TxnAddress), Error>> {
            Box::pin(async move {
                let (mut txn, address) = begin(&db, ranges).await?;
                Ok((txn.commit().await?, address))
            })
        };
        let (committed, address) = world.ask(0, SECOND, work).expect("it commits");
        for node in 0..3 {
            assert_eq!(outcome(&mut world, node, &address), Ok(TxnOutcome::Committed(committed.timestamp)));
        }
    }
}

#[test]
fn a_transaction_that_has_not_ended_is_aborted_by_the_question() {
    for ranges in [1, 3] {
        let mut world = cluster();
        let work = move |db: Db| -> BoxFuture<'static, Result<Answers, Error>> {
            Box::pin(async move {
                let (mut txn, address) = begin(&db, ranges).await?;
                let told = db.outcome(&address).await?;
                Ok((told, txn.commit().await))
            })
        };
        let (told, committed) = world.ask(0, 2 * SECOND, work).expect("it is answered");
        assert_eq!(told, TxnOutcome::Aborted);
        assert!(matches!(committed, Err(Error::Retry(_))), "{committed:?}");
    }
}

#[test]
fn an_address_that_makes_no_sense_is_refused_and_harms_nobody() {
    let mut world = cluster();
    for anchor in [vec![], vec![0], vec![1, 5], vec![0xff; 4], vec![0xff; 40]] {
        let address = TxnAddress { id: TxnId(1), start: Timestamp::MAX, anchor: Key(anchor) };
        let refused = outcome(&mut world, 1, &address);
        assert!(refused.as_ref().is_err_and(|why| why.contains("is not the id")), "{refused:?}");
    }
    // Of a transaction that nobody has heard of it can be said that it will not commit.
    let unknown = TxnAddress { id: TxnId(1), start: Timestamp::MAX, anchor: key(2) };
    assert_eq!(outcome(&mut world, 1, &unknown), Ok(TxnOutcome::Aborted));
    assert_eq!(outcome(&mut world, 2, &unknown), Ok(TxnOutcome::Aborted));
}
