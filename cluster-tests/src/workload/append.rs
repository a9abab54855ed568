//! Lists that transactions append to and read: what the anomaly checkers see most in.
//!
//! Each client runs transactions of a few appends and reads on a few keys. One client of each node scans all lists that are in use.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use server::kv::{Db, Error, Kv};

use super::operation::{Action, Agenda};
use super::recorder::{Objects, Recorder, Shape, judge_order};
use super::{Tally, Workload, clients_of};
use crate::check;
use crate::check::history::History;

const LISTS: Objects = Objects { shape: Shape::List, prefix: "list/", writes_max: 100 };

/// The clients.
#[derive(Clone)]
pub struct Lists {
    recorder: Recorder,
    agenda: Agenda,
    stopped: Arc<Mutex<bool>>,
}

impl Lists {
    pub fn new(agenda: Agenda) -> Lists {
        Lists { recorder: Recorder::new(LISTS), agenda, stopped: Arc::default() }
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock().expect("no holder of this lock panics")
    }

    async fn work(&self, db: &Db, client: usize) {
        let mut process = self.recorder.process();
        while let Some(operation) = self.agenda.next(client).filter(|_| !self.is_stopped()) {
            match operation.action {
                Action::Transact { lock, parts } => self.recorder.transact(db, &mut process, &parts, lock).await,
                Action::ScanPast { back_us } => self.recorder.scan_past(db, Duration::from_micros(back_us)).await,
                _ => self.recorder.scan(db, &mut process).await,
            }
            db.sleep(Duration::from_micros(operation.rest_us)).await;
        }
    }
}

impl Workload for Lists {
    fn load(&self, _: Db) -> BoxFuture<'static, Result<(), Error>> {
        // A list that nobody has appended to is not there.
        Box::pin(async { Ok(()) })
    }

    fn tasks(&self, db: &Db) -> Vec<BoxFuture<'static, ()>> {
        clients_of(db, |client| {
            let (lists, db) = (self.clone(), db.clone());
            Box::pin(async move { lists.work(&db, client).await })
        })
    }

    fn split(&self, db: Db, dice: u64) -> BoxFuture<'static, ()> {
        let key = self.recorder.some_key(dice);
        // Under faults it may fail; the next one may not.
        Box::pin(async move { drop(db.split(&key).await) })
    }

    fn stop(&self) {
        *self.stopped.lock().expect("no holder of this lock panics") = true;
    }

    fn finish(&self, db: Db) -> BoxFuture<'static, Result<(), Error>> {
        let lists = self.clone();
        Box::pin(async move { lists.recorder.read_everything(&db).await })
    }

    fn judge(&self, real_time: bool) -> Vec<String> {
        let judged = check::append::judge(&self.recorder.history());
        let mut found = judge_order(&judged, real_time);
        found.extend(self.recorder.judge_reads());
        found
    }

    fn tally(&self) -> Tally {
        self.recorder.tally()
    }

    fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    fn histories(&self) -> Vec<(&'static str, History)> {
        vec![("append", self.recorder.history())]
    }
}
