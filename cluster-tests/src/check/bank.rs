//! Judges a bank's history.

use proto::Timestamp;

use crate::workload::bank::{ACCOUNTS, BALANCE, Ending, History, RECENT_MAX};

/// What is wrong with a history, in sentences; empty if nothing is.
///
/// `ledger` holds the transfers that the database has in the end.
pub fn violations(history: &History, ledger: &[u64]) -> Vec<String> {
    let mut found: Vec<String> =
        history.surprises.iter().map(|s| format!("an error that no fault explains: {s}")).collect();
    for audit in &history.audits {
        let expected = ACCOUNTS as i64 * BALANCE;
        if audit.found.total != expected || audit.found.accounts != ACCOUNTS {
            let (accounts, total, at) = (audit.found.accounts, audit.found.total, audit.found.timestamp);
            found.push(format!("an audit at {at} found {total} in {accounts} accounts instead of {expected}"));
        }
    }
    for (number, transfer) in &history.transfers {
        let there = ledger.binary_search(number).is_ok();
        match transfer.ending {
            Ending::Committed { timestamp } if !there => {
                found.push(format!("transfer {number}, acknowledged at {timestamp}, is lost"));
            }
            Ending::Failed if there => {
                found.push(format!("transfer {number} was said to have failed, but took effect"))
            }
            _ => {}
        }
    }
    for number in ledger {
        if !history.transfers.contains_key(number) && !history.open.contains_key(number) {
            found.push(format!("transfer {number} was never begun"));
        }
    }
    found.extend(real_time_violations(history));
    found.extend(stale_audits(history));
    found
}

/// An audit must see whatever was acknowledged before it began.
fn stale_audits(history: &History) -> Vec<String> {
    let mut stale = Vec::new();
    for (number, audit) in history.audits.iter().enumerate() {
        let recent = &audit.found.recent;
        if !recent.is_sorted_by(|a, b| a > b) {
            stale.push(format!("audit {number} found the ledger out of order: {recent:?}"));
        }
        // A full page says nothing of what lies before it.
        let from = if recent.len() < RECENT_MAX { 0 } else { recent.last().copied().unwrap_or(0) };
        for (transfer, seen) in history.transfers.range(from..) {
            let acknowledged = matches!(seen.ending, Ending::Committed { .. }) && seen.ended < audit.started;
            if acknowledged && !recent.contains(transfer) {
                stale.push(format!("audit {number} did not see transfer {transfer}, acknowledged before it began"));
            }
        }
    }
    stale
}

/// Acknowledged before another began, a transaction must have the smaller timestamp: external consistency.
fn real_time_violations(history: &History) -> Vec<String> {
    let mut operations: Vec<(u64, u64, Timestamp, String, bool)> = Vec::new();
    for (number, transfer) in &history.transfers {
        if let Ending::Committed { timestamp } = transfer.ending {
            operations.push((transfer.started, transfer.ended, timestamp, format!("transfer {number}"), true));
        }
    }
    for (number, audit) in history.audits.iter().enumerate() {
        operations.push((audit.started, audit.ended, audit.found.timestamp, format!("audit {number}"), false));
    }
    let mut by_end: Vec<usize> = (0..operations.len()).collect();
    by_end.sort_by_key(|n| operations[*n].1);
    let mut by_start: Vec<usize> = (0..operations.len()).collect();
    by_start.sort_by_key(|n| operations[*n].0);
    let mut found = Vec::new();
    let mut ended = by_end.into_iter().filter(|n| operations[*n].4).peekable();
    let mut newest: Option<usize> = None;
    for n in by_start {
        while let Some(before) = ended.next_if(|before| operations[*before].1 < operations[n].0) {
            if newest.is_none_or(|newest| operations[newest].2 < operations[before].2) {
                newest = Some(before);
            }
        }
        // A reader at the writer's own timestamp sees it.
        let late = |newest: usize| {
            operations[newest].2 > operations[n].2 || (operations[n].4 && operations[newest].2 == operations[n].2)
        };
        if let Some(newest) = newest.filter(|newest| late(*newest)) {
            let (before, after) = (&operations[newest], &operations[n]);
            found.push(format!(
                "{} ended before {} began, but has timestamp {} against {}",
                before.3, after.3, before.2, after.2
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::bank::{Audit, Found, Transfer};

    fn committed(started: u64, ended: u64, timestamp: u64) -> Transfer {
        Transfer { started, ended, ending: Ending::Committed { timestamp: Timestamp(timestamp) } }
    }

    fn audit(started: u64, timestamp: u64, total: i64) -> Audit {
        let timestamp = Timestamp(timestamp);
        let found = Found { timestamp, accounts: ACCOUNTS, total, recent: vec![2, 1] };
        Audit { started, ended: started + 1, found }
    }

    const TOTAL: i64 = ACCOUNTS as i64 * BALANCE;

    #[test]
    fn a_good_history_is_passed() {
        let mut history = History::default();
        history.transfers.insert(1, committed(0, 10, 5));
        history.transfers.insert(2, committed(11, 20, 15));
        history.audits.push(audit(11, 5, TOTAL));
        assert_eq!(violations(&history, &[1, 2]), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_wrong_is_found() {
        let wrong = |history: &History, ledger: &[u64], words: &str| {
            let found = violations(history, ledger);
            assert!(found.iter().any(|f| f.contains(words)), "{words}: {found:?}");
        };
        let mut history = History::default();
        history.transfers.insert(1, committed(0, 10, 5));
        wrong(&history, &[], "is lost");
        wrong(&history, &[1, 2], "never begun");
        history.transfers.insert(2, Transfer { started: 0, ended: 9, ending: Ending::Failed });
        wrong(&history, &[1, 2], "took effect");
        history.audits.push(audit(11, 9, TOTAL - 1));
        wrong(&history, &[1], "found 1199 in");
        history.audits.push(audit(11, 4, TOTAL));
        wrong(&history, &[1], "transfer 1 ended before audit");
        history.transfers.insert(3, committed(12, 13, 5));
        history.audits.push(audit(20, 30, TOTAL));
        wrong(&history, &[1, 3], "did not see transfer 3");
        wrong(&history, &[1, 3], "transfer 1 ended before transfer 3");
    }
}
