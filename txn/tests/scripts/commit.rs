//! One coordinator: events in, actions out.
//!
//! ```text
//! begin read=10 [blind]         a transaction that read at 10; a blind one has nothing to validate
//! start one | several           its writes lie in one range, or in several
//! committed 12                  the one range committed it
//! pushed 15 | staged 15 | valid | not_one_range | lost
//! refused changed | aborted | wounded | too_old | invalid | unavailable
//! record committed 12 | aborted what the record says
//! ```
//!
//! After each step it says whether the outcome is open: whoever lost touch now could not tell it.

use std::error::Error;

use goldenscript::{Command, Context, Runner};
use proto::request::{Changed, Outcome};
use proto::transaction::{TxnMeta, TxnRecord, TxnStatus};
use proto::{Key, Timestamp, TxnId};
use txn::coordinator::{Action, Coordinator, Event, Failure};

use super::words::{Args, Output, show, show_txn, timestamp};

#[derive(Default)]
pub struct CommitRunner {
    coordinator: Option<Coordinator>,
}

fn failure(word: &str) -> Result<Failure, Box<dyn Error>> {
    let changed = Changed { key: Key::from("k"), at: Timestamp::from_micros(11), other: Some(TxnId(2)) };
    Ok(match word {
        "changed" => Failure::Changed(changed),
        "aborted" => Failure::Aborted,
        "wounded" => Failure::Wounded(Some(TxnId(2))),
        "too_old" => Failure::TooOld,
        "invalid" => Failure::Refused("no sense".into()),
        "unavailable" => Failure::Unavailable("nobody there".into()),
        other => return Err(format!("there is no failure {other}").into()),
    })
}

fn show_failure(failure: &Failure) -> String {
    match failure {
        Failure::Changed(changed) => format!("{} changed at {}", changed.key, show(changed.at)),
        Failure::Aborted => "somebody aborted it".into(),
        Failure::Wounded(by) => format!("wounded by {}", by.map_or("somebody".into(), show_txn)),
        Failure::TooOld => "too old".into(),
        Failure::Refused(why) => format!("refused: {why}"),
        Failure::Unavailable(why) => format!("unavailable: {why}"),
    }
}

fn show_action(action: &Action) -> String {
    match action {
        Action::CommitOne { timestamp } => format!("→ commit in one range at or above {}", show(*timestamp)),
        Action::Stage { attempt, timestamp } => format!("→ stage attempt {attempt} at {}", show(*timestamp)),
        Action::Validate { to } => format!("→ validate the reads up to {}", show(*to)),
        Action::Settle { pushed: false } => "→ settle the record".into(),
        Action::Settle { pushed: true } => "→ settle the record; the attempt was pushed".into(),
        Action::Complete { attempt, timestamp } => {
            format!("→ complete: the record says attempt {attempt} at {}, the intents follow", show(*timestamp))
        }
        Action::Finish(Ok(timestamp)) => format!("⇒ committed at {}", show(*timestamp)),
        Action::Finish(Err(failure)) => format!("⇒ failed: {}", show_failure(failure)),
        Action::Resolve(Outcome::Committed { timestamp, .. }) => {
            format!("→ resolve the intents: committed at {}", show(*timestamp))
        }
        Action::Resolve(outcome) => format!("→ resolve the intents: {outcome:?}"),
    }
}

impl CommitRunner {
    fn show(&self, actions: &[Action]) -> String {
        let mut lines: Vec<String> = actions.iter().map(show_action).collect();
        if self.coordinator.as_ref().is_some_and(Coordinator::is_undecided) {
            lines.push("(the outcome is open)".into());
        }
        lines.join("\n")
    }

    fn event(name: &str, mut args: Args<'_>) -> Result<Event, Box<dyn Error>> {
        Ok(match name {
            "committed" => Event::CommittedOne(timestamp(args.word()?)?),
            "pushed" => Event::Pushed(timestamp(args.word()?)?),
            "staged" => Event::Staged(timestamp(args.word()?)?),
            "not_one_range" => Event::NotOneRange,
            "valid" => Event::Valid,
            "lost" => Event::Lost,
            "refused" => Event::Refused(failure(args.word()?)?),
            "record" => {
                let (status, at) = match args.word()? {
                    "committed" => (TxnStatus::Committed, timestamp(args.word()?)?),
                    "aborted" => (TxnStatus::Aborted, Timestamp::from_micros(10)),
                    other => return Err(format!("there is no status {other}").into()),
                };
                Event::Record(TxnRecord {
                    id: TxnId(1),
                    attempt: 1,
                    status,
                    timestamp: at,
                    heartbeat: at,
                    priority: at,
                    start: at,
                    keys: Vec::new(),
                })
            }
            other => return Err(format!("there is no command {other}").into()),
        })
    }
}

impl Runner for CommitRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Output {
        let mut args = Args::of(command);
        if command.name == "begin" {
            let read = args.required("read")?;
            let txn = TxnMeta { id: TxnId(1), attempt: 1, anchor: Key::from("a"), priority: read, start: read };
            self.coordinator = Some(Coordinator::new(txn, read, !args.flag("blind")));
            return Ok(String::new());
        }
        let coordinator = self.coordinator.as_mut().ok_or("nothing was begun")?;
        let actions = match command.name.as_str() {
            "start" => coordinator.start(args.word()? == "one"),
            name => coordinator.step(Self::event(name, args)?),
        };
        Ok(self.show(&actions))
    }
}
