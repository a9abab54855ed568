//! Mistakes that can be planted into the models, to show that they would be found.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A replica acknowledges an entry that its disk may still lose.
    AckBeforeFsync,
    /// A new leader does not count its range as read.
    NoLowWaterMark,
    /// An answer leaves before its time has passed.
    NoCommitWait,
    /// A pushed transaction stages its new attempt first, and validates then.
    ValidationAfterStaging,
    /// A late copy of an earlier attempt's prepare is written as a fresh intent.
    LateDuplicateIntent,
    /// A verdict on one attempt is applied to whatever attempt the record shows.
    RecoveryRacesRestage,
    /// A later attempt is prepared while the record still shows the earlier one, which somebody may have found committed.
    PreparedBeforeRecord,
    /// An entry that was evaluated in an earlier term takes effect in a later one.
    EntryOfAnotherTerm,
    /// A late message creates a record again that was collected.
    RecordResurrected,
    /// The garbage-collection threshold does not push writers.
    WriteBelowThreshold,
    /// A reader below the garbage-collection threshold is not refused.
    ReadBelowThreshold,
    /// A record is collected while intents still need it.
    RecordCollectedEarly,
    /// A leader counts its range as read up to a smaller window than its predecessor's fence used.
    ShrunkWindow,
}
