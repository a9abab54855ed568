//! Every limit, batch size, timeout and threshold of the core, by name.
//!
//! The simulator draws them per seed, so that edges are met early; production takes the defaults.

use std::sync::Arc;
use std::time::Duration;

use range_split::placement::Settings;
use range_split::policy::SplitLimits;
use txn::locks::LockTimes;

use crate::probe::{Probe, Silent};

/// See the module. Durations are on the monotonic clock.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// How often a store looks at its waiting requests.
    pub tick: Duration,
    /// How many ticks make one Raft tick.
    pub raft_tick_every: u32,
    /// Raft ticks without a leader before an election; each timeout is drawn between this and twice this.
    pub election_ticks: usize,
    /// Raft ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Replicas whose stores vouch for each other count one Raft tick in so many; see [`crate::range::leisure`].
    pub leisure: u32,
    /// How long a sync may take before the disk counts as stalled: a leader renews nothing on such a disk and gives its leadership away.
    /// Below the election timeout, which is `raft_tick_every` × `election_ticks` ticks at least.
    pub disk_stall_after: Duration,
    /// The read window `W`: how far beyond an acknowledged heartbeat a leader serves reads. A new leader writes this much
    /// above its clock at first, and its clients wait for it.
    pub read_window: Duration,
    /// How often a node tells the others what its clock shows.
    pub clock_report_every: Duration,
    /// How long what a node says of its clock counts.
    pub clock_horizon: Duration,
    /// How far ahead of the clock the HLC ceiling is synced.
    pub ceiling_step: Duration,
    /// How long a request waits at a range for an intent before its gateway settles the intent's owner.
    pub push_after: Duration,
    /// How long a request waits at a range for a lock before it has to ask again.
    pub lock_wait: Duration,
    /// How long a request waits at a range for anything else.
    pub wait_max: Duration,
    /// Requests waiting at a range past which more are refused.
    pub waiting_max: usize,
    pub locks: LockTimes,
    /// How long a preparing transaction may be silent before anyone may abort it.
    pub txn_expiry: Duration,
    /// How often a coordinator that still prepares says that it lives.
    pub txn_heartbeat: Duration,
    /// Keys, and spans, per half of a timestamp cache.
    pub read_keys_max: usize,
    pub read_spans_max: usize,
    /// Bytes of one command.
    pub command_bytes_max: usize,
    /// Bytes of commands in flight in one range.
    pub uncommitted_bytes_max: u64,
    /// Bytes of log that a store keeps in memory before it flushes the engine and truncates.
    pub log_bytes_max: usize,
    /// How long a gateway waits for one answer before it asks again, perhaps elsewhere.
    pub attempt_timeout: Duration,
    /// How long a gateway goes on asking before it reports the range unavailable.
    pub request_deadline: Duration,
    /// Keys and values in a transaction's buffer, and the keys and spans it remembers having read: bytes.
    pub txn_bytes_max: usize,
    /// Requests of one gateway in flight past which more wait.
    pub requests_in_flight_max: usize,
    /// Bytes of one piece of a range's contents, on their way to a replica that lacks them.
    pub snapshot_piece_bytes: u64,
    /// Bytes of contents that a store takes in in a second.
    pub snapshot_bytes_per_second: u64,
    /// Replicas of a store that take in contents at a time.
    pub snapshots_max: usize,
    /// After so long without an answer a piece is asked for again.
    pub snapshot_ask_again: Duration,
    /// After so long without a piece a replica gives up what it has taken in; so long a log is kept for whoever asks no more.
    pub snapshot_patience: Duration,
    /// After so long a frozen range has somebody find out what became of the merge that it is frozen for.
    pub merge_patience: Duration,
    /// When ranges are split, and by which measure.
    pub splitting: SplitLimits,
    /// Whether ranges are split without being asked.
    pub split_ranges: bool,
    /// How long a range is asked nothing before it falls quiet; see [`crate::range::quiet`]. To fall quiet and to wake costs more than a second awake.
    pub quiet_after: Duration,
    /// How far behind the clock a leader closes timestamps: transactions that take longer are pushed; see [`crate::range::closing`].
    pub close_lag: Duration,
    /// How often it does so: along with what it writes four times as often, by itself less often ([`Knobs::close_alone_every`]).
    pub close_every: Duration,
    /// How often stores that share quiet ranges tell each other that they live; and after how long without a word one counts as silent: not
    /// below the election timeout.
    pub beat_every: Duration,
    pub silent_after: Duration,
    /// Quiet ranges of which a follower asks its leader's store with each beat.
    pub roll_call: usize,
    /// Quiet ranges that a store wakes in a Raft tick, if it wakes them all.
    pub wakes_per_tick: usize,
    /// How often a node reports what it leads to the placement driver, what has changed; and how often everything, though nobody asks for it.
    pub report_every: Duration,
    pub report_all_every: Duration,
    /// How the placement driver places replicas and leaders.
    pub placement: Settings,
    /// Whether it does.
    pub place_replicas: bool,
    /// How often it looks.
    pub placement_every: Duration,
    /// How long idempotency keys are kept, with the results of their transactions.
    pub idempotency_retention: Duration,
    /// Where fault points and coverage end: see [`crate::probe`].
    pub probe: Arc<dyn Probe>,
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs {
            tick: Duration::from_millis(5),
            raft_tick_every: 10,
            election_ticks: 10,
            heartbeat_ticks: 2,
            leisure: 5,
            disk_stall_after: Duration::from_millis(400),
            read_window: Duration::from_millis(600),
            clock_report_every: Duration::from_millis(250),
            clock_horizon: Duration::from_secs(2),
            ceiling_step: Duration::from_secs(1),
            push_after: Duration::from_millis(20),
            lock_wait: Duration::from_millis(400),
            wait_max: Duration::from_secs(2),
            waiting_max: 10_000,
            locks: LockTimes { wound_after: Duration::from_millis(10), expire_after: Duration::from_secs(1) },
            txn_expiry: Duration::from_secs(1),
            txn_heartbeat: Duration::from_millis(300),
            read_keys_max: 50_000,
            read_spans_max: 256,
            command_bytes_max: 16 << 20,
            uncommitted_bytes_max: 64 << 20,
            log_bytes_max: 32 << 20,
            attempt_timeout: Duration::from_millis(700),
            request_deadline: Duration::from_secs(15),
            txn_bytes_max: 64 << 20,
            requests_in_flight_max: 10_000,
            snapshot_piece_bytes: 512 << 10,
            snapshot_bytes_per_second: 64 << 20,
            snapshots_max: 4,
            snapshot_ask_again: Duration::from_millis(300),
            snapshot_patience: Duration::from_secs(10),
            merge_patience: Duration::from_secs(3),
            splitting: SplitLimits::default(),
            split_ranges: true,
            quiet_after: Duration::from_secs(3),
            close_lag: Duration::from_secs(3),
            close_every: Duration::from_millis(500),
            beat_every: Duration::from_millis(100),
            silent_after: Duration::from_millis(600),
            roll_call: 128,
            wakes_per_tick: 500,
            report_every: Duration::from_secs(1),
            report_all_every: Duration::from_secs(600),
            placement: Settings::default(),
            place_replicas: true,
            placement_every: Duration::from_secs(1),
            idempotency_retention: Duration::from_secs(24 * 3600),
            probe: Arc::new(Silent),
        }
    }
}

impl Knobs {
    /// How often timestamps are closed where there is nothing to write. Followers learn of it up to 750 ms later, and by then what they knew before must
    /// still reach back to [`Knobs::follower_lag`].
    pub fn close_alone_every(&self) -> Duration {
        self.close_every * 5 / 2
    }

    /// How far behind the clock a replica that keeps up can be read: what is closed trails, and takes its time to arrive.
    pub fn follower_lag(&self) -> Duration {
        self.close_lag + self.close_every * 4
    }
}
