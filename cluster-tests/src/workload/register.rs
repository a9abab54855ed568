//! Registers that transactions write and read, and others on which clients do single operations.
//!
//! The first are searched for anomalies like lists; a register shows less of its past, but it is written unseen, which a list never is. The second
//! (*cells*) are judged one by one for linearizability. One client of each node does single operations, one transactions, and one scans the
//! registers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use server::kv::{Db, Error, Kv};

use super::operation::{Action, Agenda, CLIENTS};
use super::recorder::{Objects, Recorder, Shape, brief, judge_order};
use super::{Tally, Workload, clients_of};
use crate::check;
use crate::check::history::History;
use crate::check::linearizable::{self, Finding};

const REGISTERS: Objects = Objects { shape: Shape::Register, prefix: "register/", writes_max: 100 };
/// The search for an order takes exponential time if it is unlucky, so cells live shortly.
const CELLS: Objects = Objects { shape: Shape::Register, prefix: "cell/", writes_max: 40 };
/// Steps of the search past which a cell is not judged.
const STEPS_MAX: u64 = 200_000;

/// The clients.
#[derive(Clone)]
pub struct Registers {
    registers: Recorder,
    cells: Recorder,
    agenda: Agenda,
    stopped: Arc<Mutex<bool>>,
}

impl Registers {
    pub fn new(agenda: Agenda) -> Registers {
        let (registers, cells) = (Recorder::new(REGISTERS), Recorder::new(CELLS));
        Registers { registers, cells, agenda, stopped: Arc::default() }
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock().expect("no holder of this lock panics")
    }

    async fn work(&self, db: &Db, client: usize) {
        let recorder = if client.is_multiple_of(CLIENTS) { &self.cells } else { &self.registers };
        let mut process = recorder.process();
        while let Some(operation) = self.agenda.next(client).filter(|_| !self.is_stopped()) {
            match operation.action {
                Action::Transact { lock, parts } => recorder.transact(db, &mut process, &parts, lock).await,
                Action::ScanPast { back_us } => recorder.scan_past(db, Duration::from_micros(back_us)).await,
                _ => recorder.scan(db, &mut process).await,
            }
            db.sleep(Duration::from_micros(operation.rest_us)).await;
        }
    }
}

impl Workload for Registers {
    fn load(&self, _: Db) -> BoxFuture<'static, Result<(), Error>> {
        // A register that nobody has written is not there.
        Box::pin(async { Ok(()) })
    }

    fn tasks(&self, db: &Db) -> Vec<BoxFuture<'static, ()>> {
        clients_of(db, |client| {
            let (registers, db) = (self.clone(), db.clone());
            Box::pin(async move { registers.work(&db, client).await })
        })
    }

    fn split(&self, db: Db, dice: u64) -> BoxFuture<'static, ()> {
        let recorder = if dice & 1 == 0 { &self.registers } else { &self.cells };
        let key = recorder.some_key(dice >> 1);
        // Under faults it may fail; the next one may not.
        Box::pin(async move { drop(db.split(&key).await) })
    }

    fn stop(&self) {
        *self.stopped.lock().expect("no holder of this lock panics") = true;
    }

    fn finish(&self, db: Db) -> BoxFuture<'static, Result<(), Error>> {
        let registers = self.clone();
        // Cells are for single operations, and each was read often enough.
        Box::pin(async move { registers.registers.read_everything(&db).await })
    }

    fn judge(&self, real_time: bool) -> Vec<String> {
        let judged = check::register::judge(&self.registers.history());
        let mut found = judge_order(&judged, real_time);
        found.extend(self.registers.judge_reads());
        if real_time {
            let mut findings = linearizable::judge(&self.cells.history(), STEPS_MAX);
            findings.retain(|finding| !matches!(finding, Finding::Undecided { .. }));
            found.extend(brief(&findings));
        }
        found.extend(self.cells.judge_reads());
        found
    }

    fn tally(&self) -> Tally {
        let (registers, cells) = (self.registers.tally(), self.cells.tally());
        Tally {
            committed: registers.committed + cells.committed,
            unknown: registers.unknown + cells.unknown,
            audits: registers.audits + cells.audits,
            retries: registers.retries + cells.retries,
        }
    }

    fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    fn histories(&self) -> Vec<(&'static str, History)> {
        vec![("register", self.registers.history()), ("cell", self.cells.history())]
    }
}
