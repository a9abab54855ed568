//! The result of a run, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::audit::Audits;
use super::options::BankOptions;
use super::stats::Counters;
use super::tally::Tally;

/// Whether the money was always all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Ok,
    Violation,
}

/// How some latency was distributed, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    pub mean_us: f64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    pub p99_9_us: u64,
    pub max_us: u64,
}

/// Where the time of commits went, as the servers saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CommitSplit {
    /// Waiting for other transactions, and being evaluated.
    pub queue: Distribution,
    /// Log write, fsync, a quorum of replicas.
    pub replication: Distribution,
    /// Until the clock had passed the commit timestamp for certain.
    pub clock_wait: Distribution,
}

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub accounts: u64,
    pub clients: usize,
    pub ranges: u64,
    pub skew: f64,
    pub seed: u64,
    /// The measured time.
    pub seconds: f64,
    /// Transfers that committed, with or without moving money.
    pub transfers: u64,
    /// Transfers that committed without moving money, for want of it.
    pub insufficient: u64,
    pub transfers_per_second: f64,
    /// From a transfer's first BEGIN to the answer to its last COMMIT, retries included.
    pub transfer: Distribution,
    /// From COMMIT to its answer.
    pub commit: Distribution,
    pub commit_split: CommitSplit,
    /// Transactions that the clients ran again, by reason.
    pub client_retries: BTreeMap<String, u64>,
    /// Statements that the servers ran again, by reason.
    pub server_retries: BTreeMap<String, u64>,
    /// Commits whose answer was lost.
    pub outcomes_unknown: u64,
    /// Sessions lost and opened again.
    pub reconnects: u64,
    /// The longest time without any commit, in microseconds.
    pub longest_pause_us: u64,
    /// The servers' counters; absent if they could not be had.
    pub server_counters: Option<Counters>,
    pub audits: u64,
    pub violations: u64,
    /// The first violations, in words.
    pub violations_told: Vec<String>,
    pub expected_total: i128,
    pub final_total: i128,
    pub verdict: Verdict,
}

impl Report {
    pub(super) fn new(
        options: &BankOptions,
        elapsed: Duration,
        tally: &Tally,
        audits: &Audits,
        final_total: i128,
        server_counters: Option<Counters>,
    ) -> Report {
        let totals = tally.totals();
        let findings = audits.findings();
        let intact = findings.violations == 0 && final_total == options.expected_total();
        Report {
            accounts: options.accounts,
            clients: options.clients,
            ranges: options.ranges,
            skew: options.skew,
            seed: options.seed,
            seconds: elapsed.as_secs_f64(),
            transfers: totals.transfers,
            insufficient: totals.insufficient,
            transfers_per_second: totals.transfers as f64 / elapsed.as_secs_f64(),
            transfer: Distribution::of(&totals.transfer),
            commit: Distribution::of(&totals.commit),
            commit_split: CommitSplit {
                queue: Distribution::of(&totals.queue),
                replication: Distribution::of(&totals.replication),
                clock_wait: Distribution::of(&totals.clock_wait),
            },
            client_retries: totals.client_retries,
            server_retries: totals.server_retries,
            outcomes_unknown: totals.outcomes_unknown,
            reconnects: totals.reconnects,
            longest_pause_us: u64::try_from(totals.longest_pause.as_micros()).unwrap_or(u64::MAX),
            server_counters,
            audits: findings.audits,
            violations: findings.violations,
            violations_told: findings.told,
            expected_total: options.expected_total(),
            final_total,
            verdict: if intact { Verdict::Ok } else { Verdict::Violation },
        }
    }

    /// What the process is to exit with: 1 for a violation.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Ok => 0,
            Verdict::Violation => 1,
        }
    }
}

impl Distribution {
    fn of(histogram: &Histogram<u64>) -> Distribution {
        Distribution {
            mean_us: histogram.mean(),
            p50_us: histogram.value_at_quantile(0.5),
            p95_us: histogram.value_at_quantile(0.95),
            p99_us: histogram.value_at_quantile(0.99),
            p99_9_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "bank: {} accounts in {} ranges, {} clients, skew {}, seed {}",
            self.accounts, self.ranges, self.clients, self.skew, self.seed
        )?;
        writeln!(
            f,
            "transfers        {} in {:.1} s, {} of them short of money",
            self.transfers, self.seconds, self.insufficient
        )?;
        writeln!(f, "throughput       {:.1} tx/s", self.transfers_per_second)?;
        writeln!(f, "latency          {}", self.transfer)?;
        writeln!(f, "commit           {}", self.commit)?;
        for (name, part) in [
            ("queue", &self.commit_split.queue),
            ("replication", &self.commit_split.replication),
            ("clock wait", &self.commit_split.clock_wait),
        ] {
            writeln!(f, "  {name:<14} mean {}  p99 {}", ms(part.mean_us), ms(part.p99_us as f64))?;
        }
        writeln!(f, "client retries   {}", by_reason(&self.client_retries))?;
        writeln!(f, "server retries   {}", by_reason(&self.server_retries))?;
        writeln!(f, "unknown outcomes {}", self.outcomes_unknown)?;
        writeln!(f, "reconnects       {}", self.reconnects)?;
        writeln!(f, "longest pause    {}", ms(self.longest_pause_us as f64))?;
        match &self.server_counters {
            Some(c) => writeln!(
                f,
                "commits per sync {:.2} ({} commits, {} log syncs on all nodes)",
                c.commits_per_log_sync, c.commits, c.log_syncs
            )?,
            None => writeln!(f, "commits per sync not known: no node told its counters")?,
        }
        writeln!(f, "audits           {}, {} violations", self.audits, self.violations)?;
        for violation in &self.violations_told {
            writeln!(f, "  VIOLATION: {violation}")?;
        }
        writeln!(f, "total            {} (expected {})", self.final_total, self.expected_total)?;
        write!(
            f,
            "verdict          {}",
            match self.verdict {
                Verdict::Ok => "OK",
                Verdict::Violation => "VIOLATION",
            }
        )
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, micros) in
            [("p50", self.p50_us), ("p95", self.p95_us), ("p99", self.p99_us), ("p99.9", self.p99_9_us)]
        {
            write!(f, "{name} {}  ", ms(micros as f64))?;
        }
        write!(f, "max {}", ms(self.max_us as f64))
    }
}

fn ms(micros: f64) -> String {
    format!("{:.2} ms", micros / 1e3)
}

fn by_reason(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".into();
    }
    let each: Vec<String> = counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    format!("{} ({})", counts.values().sum::<u64>(), each.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::tally::Done;
    use super::*;

    fn report(final_total: i128) -> Report {
        let options = BankOptions::new("a:1");
        let tally = Tally::new(Instant::now());
        tally.done(Instant::now(), Done { is_sufficient: true, ..Done::default() });
        tally.retry("wounded");
        tally.retry("wounded");
        tally.retry("read_changed");
        Report::new(&options, Duration::from_secs(2), &tally, &Audits::default(), final_total, None)
    }

    #[test]
    fn missing_money_is_a_violation() {
        assert_eq!((report(1_000_000).verdict, report(1_000_000).exit_code()), (Verdict::Ok, 0));
        assert_eq!((report(999_999).verdict, report(999_999).exit_code()), (Verdict::Violation, 1));
        assert!(report(999_999).to_string().ends_with("verdict          VIOLATION"));
    }

    #[test]
    fn the_report_tells_numbers_with_units() {
        let report = report(1_000_000);
        assert_eq!(report.transfers_per_second, 0.5);
        let text = report.to_string();
        assert!(text.contains("client retries   3 (read_changed 1, wounded 2)"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(json["verdict"], "OK");
        assert_eq!(json["final_total"], 1_000_000);
        assert!(json["transfer"]["p99_us"].is_u64());
    }
}
