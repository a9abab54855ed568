//! One range under load, and two neighbours that might be merged.
//!
//! A row's keys are all that begin with the same part up to a `/`.
//!
//! ```text
//! limits bytes_max=1000 rate_max=100 window=10 merge_age_min=300
//! range a..z bytes=500                    begins its life now
//! run 30 per_second=200 k1 k1 k2 a..m     seconds, and what is touched, in turn
//! run 30 per_second=200 ascending         ever greater keys
//! split m/1 k                             decides; these keys are near the middle
//! left a..m bytes=10 rate=5 changed=0 rules="replicas = 5" pinned busy
//! right m..z
//! merge now=400
//! ```

use std::time::Duration;

use goldenscript::{Command, Runner};
use proto::{Key, PlacementRules, Span};
use range_split::load::{LoadSampler, Touch};
use range_split::policy::{self, Neighbour, RangeFacts, Split, SplitLimits};

use super::words::{Args, Output, span};

#[derive(Default)]
pub struct PolicyRunner {
    limits: SplitLimits,
    now: Duration,
    dice: u64,
    count: u64,
    range: Option<(Span, u64)>,
    load: LoadSampler,
    left: Option<Side>,
    right: Option<Side>,
}

struct Side {
    span: Span,
    bytes: u64,
    rate: u64,
    changed: Duration,
    rules: PlacementRules,
    pinned: bool,
    in_flight: bool,
}

fn row(key: &Key) -> Key {
    let end = key.0.iter().position(|b| *b == b'/').map_or(key.0.len(), |at| at + 1);
    Key(key.0[..end].to_vec())
}

impl PolicyRunner {
    fn limits(&mut self, args: &Args<'_>) -> Output {
        let seconds = |name| args.named(name).map(|s| s.map(Duration::from_secs));
        let limits = &mut self.limits;
        args.set("bytes_max", &mut limits.bytes_max)?;
        args.set("rate_max", &mut limits.rate_max)?;
        args.set("touches_min", &mut limits.touches_min)?;
        limits.window = seconds("window")?.unwrap_or(limits.window);
        limits.merge_age_min = seconds("merge_age_min")?.unwrap_or(limits.merge_age_min);
        Ok(String::new())
    }

    fn run_load(&mut self, args: &Args<'_>) -> Output {
        let seconds = args.number(0)?;
        let per_second: u64 = args.named("per_second")?.ok_or("per_second= is missing")?;
        let touched = &args.words[1..];
        for n in 0..seconds * per_second {
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.count += 1;
            let touched = match touched[n as usize % touched.len()] {
                "ascending" => format!("k{:09}", self.count),
                "descending" => format!("k{:09}", 999_999_999 - self.count),
                "spread" => format!("k{:09}", self.dice >> 35),
                other => other.to_string(),
            };
            let now = self.now + Duration::from_micros(n * 1_000_000 / per_second);
            let touch = Touch { now, span: &span(&touched), cost: 1, dice: self.dice >> 11 };
            self.load.record(touch, row, &self.limits);
        }
        self.now += Duration::from_secs(seconds);
        Ok(format!("{} per second", self.load.rate(self.now, &self.limits)))
    }

    fn split(&self, args: &Args<'_>) -> Output {
        let (span, bytes) = self.range.as_ref().ok_or("there is no range")?;
        let middle: Vec<Key> = args.words.iter().map(|w| Key::from(*w)).collect();
        let facts = RangeFacts { span, bytes: *bytes, middle: &middle, load: &self.load };
        Ok(match policy::split(self.now, &facts, row, &self.limits) {
            Split::Nothing => "nothing".into(),
            Split::FindMiddle => "find the middle".into(),
            Split::At { key, reason } => format!("split at {key}: {reason}"),
            Split::Refused(refusal) => match refusal.key() {
                Some(key) => format!("refused at {key}: {refusal}"),
                None => format!("refused: {refusal}"),
            },
        })
    }

    fn merge(&self, args: &Args<'_>) -> Output {
        let now = Duration::from_secs(args.named("now")?.unwrap_or(0));
        let (Some(left), Some(right)) = (&self.left, &self.right) else { return Err("two ranges are wanted".into()) };
        let (left, right) = (left.facts(), right.facts());
        let decision = policy::merge(now, &left, &right, &self.limits);
        let word = if matches!(decision, policy::Merge::Together { .. }) { "merge" } else { "keep" };
        Ok(format!("{word}: {decision}"))
    }
}

impl Side {
    fn read(args: &Args<'_>) -> Result<Side, Box<dyn std::error::Error>> {
        Ok(Side {
            span: span(args.words.first().ok_or("a span is missing")?),
            bytes: args.named("bytes")?.unwrap_or(0),
            rate: args.named("rate")?.unwrap_or(0),
            changed: Duration::from_secs(args.named("changed")?.unwrap_or(0)),
            rules: args.named("rules")?.unwrap_or_default(),
            pinned: args.words.contains(&"pinned"),
            in_flight: args.words.contains(&"busy"),
        })
    }

    fn facts(&self) -> Neighbour<'_> {
        let Side { span, bytes, rate, changed, rules, pinned, in_flight } = self;
        Neighbour { span, bytes: *bytes, rate: *rate, changed: *changed, rules, pinned: *pinned, in_flight: *in_flight }
    }
}

impl Runner for PolicyRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Output {
        let args = Args::of(command);
        match command.name.as_str() {
            "limits" => self.limits(&args),
            "range" => {
                let span = span(args.words.first().ok_or("a span is missing")?);
                self.range = Some((span, args.named("bytes")?.unwrap_or(0)));
                self.load = LoadSampler::new(self.now);
                Ok(String::new())
            }
            "run" => self.run_load(&args),
            "split" => self.split(&args),
            "left" => {
                self.left = Some(Side::read(&args)?);
                Ok(String::new())
            }
            "right" => {
                self.right = Some(Side::read(&args)?);
                Ok(String::new())
            }
            "merge" => self.merge(&args),
            other => Err(format!("there is no command {other}").into()),
        }
    }
}
