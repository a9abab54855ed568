//! The steps of the commit model: gateway, leaders, recovery, and the second transaction. A step that cannot happen is `None`.

use super::bug::Bug;
use super::commit::{
    A, ATTEMPT_MAX, B, Commit, Effect, Intent, Phase, READ_AT, Record, Recovery, State, TIMESTAMP_MAX, X, range_of,
};

/// A step happened, or could not.
type Step = Option<()>;

fn when(condition: bool) -> Step {
    condition.then_some(())
}

// The gateway.
impl State {
    /// The first transaction reads `X` and begins its first attempt.
    pub fn first_reads(&mut self) -> Step {
        when(self.gateway.phase == Phase::Start && !self.latched(X))?;
        self.gateway.saw = self.sees(X, READ_AT);
        self.reads[X] = self.reads[X].max(READ_AT);
        self.begin(READ_AT);
        Some(())
    }

    fn begin(&mut self, s: u8) {
        let gateway = &mut self.gateway;
        gateway.attempt += 1;
        gateway.s[usize::from(gateway.attempt) - 1] = s;
        gateway.got = [None; 2];
        gateway.staged = false;
        gateway.phase = Phase::Staging;
    }

    fn alive(&self, phase: Phase) -> Step {
        when(self.gateway.phase == phase)
    }

    fn current_s(&self) -> u8 {
        self.gateway.s[usize::from(self.gateway.attempt) - 1]
    }

    /// A participant said that it pushed this attempt.
    pub fn take_push(&mut self, model: &Commit) -> Step {
        self.alive(Phase::Staging)?;
        let to = self.gateway.got.iter().flatten().copied().max()?;
        when(to > self.current_s())?;
        if self.gateway.attempt == ATTEMPT_MAX || to > TIMESTAMP_MAX {
            self.gateway.phase = Phase::Aborting;
        } else if model.has(Bug::ValidationAfterStaging) {
            self.begin(to);
        } else {
            self.gateway.phase = Phase::Validating { to };
        }
        Some(())
    }

    /// Validation is a read at its upper end (I5).
    pub fn validate(&mut self) -> Step {
        let to = match self.gateway.phase {
            Phase::Validating { to } => to,
            // Only if the bug is planted is there anything left to validate here.
            Phase::Staging => self.current_s(),
            _ => return None,
        };
        when(self.gateway.valid_to < to && !self.latched(X))?;
        self.reads[X] = self.reads[X].max(to);
        if self.sees(X, to) != self.gateway.saw {
            self.gateway.phase = Phase::Aborting;
            return Some(());
        }
        self.gateway.valid_to = to;
        if self.gateway.phase != Phase::Staging {
            self.begin(to);
        }
        Some(())
    }

    /// All is written where it should be: the client is answered.
    pub fn acknowledge(&mut self) -> Step {
        self.alive(Phase::Staging)?;
        let s = self.current_s();
        let written = self.gateway.got.iter().all(|got| got.is_some_and(|ts| ts <= s));
        when(written && self.gateway.staged && self.gateway.valid_to >= s)?;
        self.gateway.phase = Phase::Acked;
        Some(())
    }

    pub fn commit_record(&mut self) -> Step {
        self.alive(Phase::Acked)?;
        let (attempt, s) = (self.gateway.attempt, self.current_s());
        when(self.record == Record::Staging { attempt, s })?;
        self.propose(0, Effect::Record(Record::Committed { attempt, s }))
    }

    /// Whoever is told "no" is told so after an aborted record was written (I10).
    pub fn abort_record(&mut self) -> Step {
        self.alive(Phase::Aborting)?;
        when(!self.record_latched())?;
        match self.record {
            Record::Absent | Record::Staging { .. } => self.propose(0, Effect::Record(Record::Aborted)),
            Record::Committed { .. } => self.learn(Phase::Acked),
            Record::Aborted => self.learn(Phase::Failed),
            // Nobody can tell any more: receipts must outlive their coordinator.
            Record::Collected => None,
        }
    }

    fn learn(&mut self, phase: Phase) -> Step {
        when(!matches!(self.gateway.phase, Phase::Acked | Phase::Failed))?;
        self.gateway.phase = phase;
        Some(())
    }

    fn told(&mut self, key: usize, intent: Intent) {
        if intent.attempt == self.gateway.attempt {
            self.gateway.got[key].get_or_insert(intent.ts);
        }
    }
}

// A leader.
impl State {
    fn propose(&mut self, range: usize, effect: Effect) -> Step {
        when(self.leaders[range].in_flight.is_none())?;
        self.leaders[range].in_flight = Some(effect);
        Some(())
    }

    /// Whether a command in flight holds this key's latch (I3).
    fn latched(&self, key: usize) -> bool {
        match self.leaders[range_of(key)].in_flight {
            Some(Effect::Intent { key: held, .. } | Effect::Resolved { key: held, .. }) => held == key,
            Some(Effect::Second { .. }) => key == X,
            _ => false,
        }
    }

    fn record_latched(&self) -> bool {
        matches!(self.leaders[0].in_flight, Some(Effect::Record(_)))
    }

    /// Whether a read at `at` finds a version.
    fn sees(&self, key: usize, at: u8) -> bool {
        self.versions[key].is_some_and(|version| version <= at)
    }

    /// A prepare arrives, perhaps not for the first time (I2, I7).
    pub fn prepare(&mut self, model: &Commit, key: usize, attempt: u8) -> Step {
        when(self.leaders[range_of(key)].in_flight.is_none())?;
        // A later attempt is prepared only after the record has moved on to it.
        when(
            attempt == 1
                || attempt < self.gateway.attempt
                || self.gateway.staged
                || model.has(Bug::PreparedBeforeRecord),
        )?;
        let requested = self.gateway.s[usize::from(attempt) - 1];
        let overwritten = |found: &Intent| found.attempt < attempt || model.has(Bug::LateDuplicateIntent);
        if let Some(found) = self.intents[key].filter(|found| found.attempt == attempt || !overwritten(found)) {
            self.told(key, found);
            return Some(());
        }
        let floor = self.reads[key].max(self.versions[key].unwrap_or(0)) + 1;
        let below = self.intents[key].map_or(0, |found| found.ts);
        let ts = requested.max(floor).max(below);
        when(ts <= TIMESTAMP_MAX + 1)?;
        self.propose(range_of(key), Effect::Intent { key, intent: Intent { attempt, ts } })
    }

    /// The staging record arrives, perhaps not for the first time (I7, I10).
    pub fn stage(&mut self, model: &Commit, attempt: u8) -> Step {
        when(self.leaders[0].in_flight.is_none())?;
        let staging = Record::Staging { attempt, s: self.gateway.s[usize::from(attempt) - 1] };
        match self.record {
            Record::Absent => self.propose(0, Effect::Record(staging)),
            Record::Staging { attempt: found, .. } if found < attempt => self.propose(0, Effect::Record(staging)),
            Record::Staging { attempt: found, .. } => {
                self.gateway.staged |= found == self.gateway.attempt;
                Some(())
            }
            Record::Committed { .. } => self.learn(Phase::Acked),
            Record::Aborted => self.learn(Phase::Failed),
            Record::Collected if model.has(Bug::RecordResurrected) => self.propose(0, Effect::Record(staging)),
            Record::Collected => None,
        }
    }

    /// An entry is replicated and applied, and the leader answers.
    pub fn apply(&mut self, range: usize) -> Step {
        let effect = self.leaders[range].in_flight.take()?;
        self.take_effect(effect);
        match effect {
            Effect::Intent { key, intent } => self.told(key, intent),
            Effect::Record(Record::Staging { attempt, .. }) => {
                self.gateway.staged |= attempt == self.gateway.attempt;
            }
            _ => {}
        }
        Some(())
    }

    fn take_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Intent { key, intent } => self.intents[key] = Some(intent),
            Effect::Resolved { key, version } => {
                self.intents[key] = None;
                self.versions[key] = version.or(self.versions[key]);
            }
            Effect::Second { ts } => self.versions[X] = Some(ts),
            Effect::Record(record) => {
                self.record = record;
                if matches!(record, Record::Committed { .. } | Record::Aborted) {
                    self.decided.get_or_insert(record);
                }
            }
        }
    }

    /// A new leader: the entry in flight came through or never will, and the timestamp cache is lost but for the low-water mark.
    pub fn change_leader(&mut self, model: &Commit, range: usize, applied: bool) -> Step {
        when(!self.leader_changed)?;
        let in_flight = self.leaders[range].in_flight.take();
        // Without anything in flight both are the same.
        when(in_flight.is_some() || applied)?;
        self.leader_changed = true;
        if applied {
            in_flight.into_iter().for_each(|effect| self.take_effect(effect));
        } else if model.has(Bug::EntryOfAnotherTerm) {
            self.leaders[range].stray = in_flight;
        }
        let keys = [A, X, B].into_iter().filter(|key| range_of(*key) == range);
        let mark = keys.clone().map(|key| self.reads[key]).max().unwrap_or(0);
        for key in keys {
            self.reads[key] = if model.has(Bug::NoLowWaterMark) { 0 } else { mark };
        }
        Some(())
    }

    pub fn apply_stray(&mut self, range: usize) -> Step {
        let effect = self.leaders[range].stray.take()?;
        self.take_effect(effect);
        Some(())
    }
}

// Recovery, resolution, collection.
impl State {
    /// Whether the transaction is committed though its record does not say so yet (I6): the attempt and its timestamp.
    pub fn implicitly_committed(&self) -> Option<(u8, u8)> {
        let Record::Staging { attempt, s } = self.record else { return None };
        let written = |intent: &Option<Intent>| intent.is_some_and(|i| i.attempt == attempt && i.ts <= s);
        self.intents.iter().all(written).then_some((attempt, s))
    }

    pub fn recover(&mut self) -> Step {
        let Record::Staging { attempt, s } = self.record else { return None };
        when(self.recovery == Recovery::Idle && !self.record_latched())?;
        self.recovery = Recovery::Asking { attempt, s, found: [None; 2] };
        Some(())
    }

    /// A missing write is prevented by a read at `s`, which the leader remembers.
    pub fn query(&mut self, key: usize) -> Step {
        when(!self.latched(key))?;
        let Recovery::Asking { attempt, s, found } = &mut self.recovery else { return None };
        when(found[key].is_none())?;
        let there = self.intents[key].is_some_and(|i| i.attempt == *attempt && i.ts <= *s);
        found[key] = Some(there);
        if !there {
            self.reads[key] = self.reads[key].max(*s);
        }
        Some(())
    }

    /// The verdict is final when the record is; if the record has changed meanwhile, it means nothing (I7, I8).
    pub fn verdict(&mut self, model: &Commit) -> Step {
        let Recovery::Asking { attempt, s, found: [Some(a), Some(b)] } = self.recovery else { return None };
        when(!self.record_latched())?;
        self.recovery = Recovery::Idle;
        let same = self.record == Record::Staging { attempt, s };
        let staging = matches!(self.record, Record::Staging { .. });
        if same || (staging && model.has(Bug::RecoveryRacesRestage)) {
            let verdict = if a && b { Record::Committed { attempt, s } } else { Record::Aborted };
            self.recovered = true;
            return self.propose(0, Effect::Record(verdict));
        }
        Some(())
    }

    /// A push that finds no record writes one (I9); the coordinator counts as dead at any time.
    pub fn abort_absent(&mut self) -> Step {
        when(self.record == Record::Absent && self.intents.iter().any(Option::is_some))?;
        self.propose(0, Effect::Record(Record::Aborted))
    }

    /// The record's verdict reaches an intent (I9), or the record is gone and the intent with it.
    pub fn resolve(&mut self, key: usize) -> Step {
        let intent = self.intents[key]?;
        let version = match self.decided? {
            _ if self.record == Record::Collected => None,
            Record::Committed { attempt, s } => (intent.attempt == attempt && intent.ts <= s).then_some(s),
            _ => None,
        };
        self.propose(range_of(key), Effect::Resolved { key, version })
    }

    /// A record goes once nothing needs it.
    pub fn collect(&mut self, model: &Commit) -> Step {
        let settled = match self.record {
            Record::Committed { .. } => [A, B].iter().all(|key| self.versions[*key].is_some()),
            Record::Aborted => self.intents.iter().all(Option::is_none),
            _ => return None,
        };
        when(settled || model.has(Bug::RecordCollectedEarly))?;
        self.propose(0, Effect::Record(Record::Collected))
    }
}

// The second transaction.
impl State {
    /// It reads a key, or validates the read further up. An intent in the way must be settled first.
    pub fn second_reads(&mut self, key: usize) -> Step {
        let at = self.second.at;
        when(!self.second.gave_up && self.second.valid_to[key] < at && !self.latched(key))?;
        when(self.intents[key].is_none_or(|intent| intent.ts > at))?;
        let sees = self.sees(key, at);
        if self.second.valid_to[key] > 0 && sees != self.second.saw[key] {
            self.second.gave_up = true;
            return Some(());
        }
        self.second.saw[key] = sees;
        self.second.valid_to[key] = at;
        self.reads[key] = self.reads[key].max(at);
        Some(())
    }

    pub fn second_commits(&mut self) -> Step {
        when(!self.second.gave_up && self.versions[X].is_none())?;
        when(self.leaders[0].in_flight.is_none() && self.second.valid_to == [self.second.at; 2])?;
        let pushed = self.second.at.max(self.reads[X] + 1);
        if pushed == self.second.at {
            return self.propose(0, Effect::Second { ts: pushed });
        }
        self.second.at = pushed;
        self.second.gave_up = pushed > TIMESTAMP_MAX;
        Some(())
    }
}
