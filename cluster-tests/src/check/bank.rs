//! Judges a bank's history.

use super::commit_order::{self, Timed};
use crate::workload::bank::{BALANCE, Ending, Found, History, RECENT_MAX, Transfer};
use crate::workload::operation::ACCOUNTS;

/// What is wrong with a history, in sentences; empty if nothing is.
///
/// `ledger` holds the transfers that the database has in the end. `real_time` asks for real-time order.
pub fn violations(history: &History, ledger: &[u64], real_time: bool) -> Vec<String> {
    let mut found: Vec<String> =
        history.surprises.iter().map(|s| format!("an error that no fault explains: {s}")).collect();
    for audit in &history.audits {
        let expected = ACCOUNTS as i64 * BALANCE;
        if audit.found.total != expected || audit.found.accounts != ACCOUNTS {
            let (accounts, total, at) = (audit.found.accounts, audit.found.total, audit.found.timestamp);
            found.push(format!("an audit at {at} found {total} in {accounts} accounts instead of {expected}"));
        }
    }
    found.extend(history.past.iter().flat_map(|audit| past_audit(history, audit)));
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
    if real_time {
        found.extend(commit_order::real_time(&timed(history)).iter().map(commit_order::Violation::to_string));
        found.extend(stale_audits(history));
    }
    found
}

/// An audit of the past sees exactly what had been committed by then: before it, and not after, as the timestamps say.
fn past_audit(history: &History, audit: &Found) -> Vec<String> {
    let Found { timestamp: at, accounts, total, recent } = audit;
    let mut wrong = Vec::new();
    let committed = |transfer: &Transfer| match transfer.ending {
        Ending::Committed { timestamp } => Some(timestamp),
        _ => None,
    };
    // Before anything was done there may not have been any accounts.
    let untouched = !history.transfers.values().filter_map(committed).any(|timestamp| timestamp <= *at);
    let nothing = untouched && recent.is_empty() && (*accounts, *total) == (0, 0);
    let expected = ACCOUNTS as i64 * BALANCE;
    if (*accounts, *total) != (ACCOUNTS, expected) && !nothing {
        wrong.push(format!("an audit of the past at {at} found {total} in {accounts} accounts instead of {expected}"));
    }
    // A full page says nothing of what lies before it.
    let from = if recent.len() < RECENT_MAX { 0 } else { recent.last().copied().unwrap_or(0) };
    for (number, transfer) in history.transfers.range(from..) {
        let seen = recent.contains(number);
        match (transfer.ending, committed(transfer)) {
            (_, Some(timestamp)) if timestamp <= *at && !seen => {
                wrong.push(format!(
                    "an audit of the past at {at} did not see transfer {number}, committed at {timestamp}"
                ));
            }
            (_, Some(timestamp)) if timestamp > *at && seen => {
                wrong.push(format!("an audit of the past at {at} saw transfer {number}, committed at {timestamp}"));
            }
            (Ending::Failed, _) if seen => {
                wrong.push(format!("an audit of the past at {at} saw transfer {number}, which failed"));
            }
            _ => {}
        }
    }
    wrong
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

/// Everything that was acknowledged, with its timestamp.
fn timed(history: &History) -> Vec<Timed> {
    let mut all = Vec::new();
    for (number, transfer) in &history.transfers {
        if let Ending::Committed { timestamp } = transfer.ending {
            let (name, started_ns, ended_ns) = (format!("transfer {number}"), transfer.started, Some(transfer.ended));
            all.push(Timed { name, started_ns, ended_ns, timestamp, writes: true });
        }
    }
    for (number, audit) in history.audits.iter().enumerate() {
        let (name, started_ns, ended_ns) = (format!("audit {number}"), audit.started, Some(audit.ended));
        all.push(Timed { name, started_ns, ended_ns, timestamp: audit.found.timestamp, writes: false });
    }
    all
}

#[cfg(test)]
mod tests {
    use proto::Timestamp;

    use super::*;
    use crate::workload::bank::Audit;

    fn committed(started: u64, ended: u64, timestamp: u64) -> Transfer {
        Transfer { started, ended, ending: Ending::Committed { timestamp: Timestamp(timestamp) } }
    }

    fn audit(started: u64, timestamp: u64, total: i64) -> Audit {
        let timestamp = Timestamp(timestamp);
        let found = Found { timestamp, accounts: ACCOUNTS, total, recent: vec![2, 1] };
        Audit { started, ended: started + 1, found }
    }

    fn past(at: u64, total: i64, recent: &[u64]) -> Found {
        Found { timestamp: Timestamp(at), accounts: ACCOUNTS, total, recent: recent.to_vec() }
    }

    const TOTAL: i64 = ACCOUNTS as i64 * BALANCE;

    #[test]
    fn a_good_history_is_passed() {
        let mut history = History::default();
        history.transfers.insert(1, committed(0, 10, 5));
        history.transfers.insert(2, committed(11, 20, 15));
        history.audits.push(audit(11, 5, TOTAL));
        history.past.push(past(4, TOTAL, &[]));
        history.past.push(past(5, TOTAL, &[1]));
        history.past.push(Found { accounts: 0, ..past(4, 0, &[]) });
        assert_eq!(violations(&history, &[1, 2], true), Vec::<String>::new());
    }

    #[test]
    fn the_past_is_told_as_it_was() {
        let wrong = |at: u64, total, recent: &[u64], words: &str| {
            let mut history = History::default();
            history.transfers.insert(1, committed(0, 10, 5));
            history.transfers.insert(2, Transfer { started: 0, ended: 9, ending: Ending::Failed });
            history.past.push(past(at, total, recent));
            let found = violations(&history, &[1], true);
            assert!(found.iter().any(|f| f.contains(words)), "{words}: {found:?}");
        };
        wrong(4, TOTAL, &[1], "saw transfer 1");
        wrong(5, TOTAL, &[], "did not see transfer 1");
        wrong(6, TOTAL, &[2, 1], "saw transfer 2, which failed");
        wrong(6, TOTAL - 1, &[1], "found 1199 in");
        wrong(6, 0, &[1], "found 0 in");
    }

    #[test]
    fn each_kind_of_wrong_is_found() {
        let wrong = |history: &History, ledger: &[u64], words: &str| {
            let found = violations(history, ledger, true);
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
