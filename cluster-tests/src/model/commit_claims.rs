//! What must hold in every state of the commit model, and what must be seen in some.

use stateright::Property;

use super::commit::{A, B, Commit, Phase, Record, State, X};

/// The first transaction's commit: its attempt and timestamp.
fn committed(state: &State) -> Option<(u8, u8)> {
    match state.decided {
        Some(Record::Committed { attempt, s }) => Some((attempt, s)),
        Some(_) => None,
        None => state.implicitly_committed(),
    }
}

/// The reads of what committed hold at its commit timestamp.
fn serializable(_: &Commit, state: &State) -> bool {
    let first = committed(state);
    let second = state.versions[X];
    let first_holds = first.is_none_or(|(_, s)| second.is_some_and(|ts| ts <= s) == state.gateway.saw);
    let second_holds = second.is_none_or(|ts| state.second.saw == [first.is_some_and(|(_, s)| s <= ts); 2]);
    first_holds && second_holds
}

/// A reader at one timestamp sees both writes or none.
fn atomic(_: &Commit, state: &State) -> bool {
    let [a, b] = state.second.valid_to;
    a == 0 || a != b || state.second.saw[A] == state.second.saw[B]
}

/// What is committed is there, as an intent that will become a version or as the version; what is aborted is not.
fn nothing_lost(_: &Commit, state: &State) -> bool {
    let versions = [state.versions[A], state.versions[B]];
    match (committed(state), state.decided) {
        (Some((attempt, s)), _) => (0..2).all(|key| {
            let intent = state.intents[key].is_some_and(|i| i.attempt == attempt && i.ts <= s);
            versions[key] == Some(s) || (versions[key].is_none() && intent && state.record != Record::Collected)
        }),
        _ => versions == [None; 2],
    }
}

fn acknowledged_is_committed(_: &Commit, state: &State) -> bool {
    state.gateway.phase != Phase::Acked || committed(state).is_some()
}

fn refused_is_aborted(_: &Commit, state: &State) -> bool {
    state.gateway.phase != Phase::Failed || state.decided == Some(Record::Aborted)
}

fn implicit_stays(_: &Commit, state: &State) -> bool {
    state.implied.is_none_or(|implied| committed(state) == Some(implied))
}

/// A record never leaves its final state, except by being collected.
fn final_is_final(_: &Commit, state: &State) -> bool {
    state.decided.is_none_or(|decided| state.record == decided || state.record == Record::Collected)
}

pub fn properties() -> Vec<Property<Commit>> {
    vec![
        Property::always("I2 I5 serializable", serializable),
        Property::always("I6 atomic", atomic),
        Property::always("I9 nothing committed is lost", nothing_lost),
        Property::always("I6 acknowledged is committed", acknowledged_is_committed),
        Property::always("I10 refused is aborted", refused_is_aborted),
        Property::always("I6 I8 implicitly committed stays so", implicit_stays),
        Property::always("I8 a final record is final", final_is_final),
        Property::sometimes("committed by recovery", |_, s: &State| {
            s.recovered && matches!(s.decided, Some(Record::Committed { .. }))
        }),
        Property::sometimes("aborted by recovery, a write prevented", |_, s: &State| {
            s.recovered && s.decided == Some(Record::Aborted)
        }),
        Property::sometimes("acknowledged in the second attempt", |_, s: &State| {
            s.gateway.phase == Phase::Acked && s.gateway.attempt == 2
        }),
        Property::sometimes("both commit", |_, s: &State| s.versions.iter().all(Option::is_some)),
        Property::sometimes("a new leader, and acknowledged", |_, s: &State| {
            s.leader_changed && s.gateway.phase == Phase::Acked
        }),
        Property::sometimes("collected, and both committed", |_, s: &State| {
            s.record == Record::Collected && s.versions.iter().all(Option::is_some)
        }),
    ]
}
