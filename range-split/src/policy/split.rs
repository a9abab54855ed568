//! Whether a range is to be split, and where.

use std::fmt;
use std::time::Duration;

use proto::{Key, Span};

use crate::load::{Candidate, LoadSampler, RowBoundary};
use crate::policy::SplitLimits;
use crate::show;

/// What is known about a range that might be split.
#[derive(Clone, Copy, Debug)]
pub struct RangeFacts<'a> {
    pub span: &'a Span,
    pub bytes: u64,
    /// Keys near the middle by size, the best first. Empty until [`Split::FindMiddle`] has asked for them.
    pub middle: &'a [Key],
    pub load: &'a LoadSampler,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// Nothing: the range is neither too large nor too hot, or not for long enough.
    Nothing,
    /// The range is too large; find keys near its middle and ask again.
    FindMiddle,
    /// Split it, so that the right half begins with this key, the first of a row.
    At { key: Key, reason: SplitReason },
    /// It should be split, and no key helps.
    Refused(SplitRefusal),
}

/// Why a range is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitReason {
    Size {
        bytes: u64,
        bytes_max: u64,
    },
    /// `busier_permille`: what the busier half will bear of the load.
    Load {
        rate: u64,
        rate_max: u64,
        busier_permille: u64,
    },
}

/// Why no split helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitRefusal {
    /// The range is too large, and no row begins near its middle.
    OneBigRow { bytes: u64, bytes_max: u64 },
    /// Most of the load touches one row.
    OneHotRow { row: Key, permille: u64 },
    /// New keys are ever greater, or ever smaller, than all before, and the load follows them.
    MovingEnd { ascending: bool, permille: u64 },
    /// Most requests span so much that both halves would bear them.
    WideSpans { permille: u64 },
    /// There are keys to split at; the best leaves this much on one side.
    Uneven { key: Key, permille: u64 },
}

/// Decides about one range.
pub fn split(now: Duration, range: &RangeFacts<'_>, row: RowBoundary, limits: &SplitLimits) -> Split {
    let by_size = split_by_size(range, row, limits);
    match by_size {
        Split::Nothing | Split::Refused(_) => match split_by_load(now, range, limits) {
            Split::Nothing => by_size,
            Split::Refused(_) if by_size != Split::Nothing => by_size,
            by_load => by_load,
        },
        _ => by_size,
    }
}

/// Whether the right half may begin with a key.
fn is_inside(span: &Span, key: &Key) -> bool {
    span.start < *key && *key < span.end
}

fn split_by_size(range: &RangeFacts<'_>, row: RowBoundary, limits: &SplitLimits) -> Split {
    let (bytes, bytes_max) = (range.bytes, limits.bytes_max);
    if bytes <= bytes_max {
        return Split::Nothing;
    }
    if range.middle.is_empty() {
        return Split::FindMiddle;
    }
    match range.middle.iter().map(row).find(|key| is_inside(range.span, key)) {
        Some(key) => Split::At { key, reason: SplitReason::Size { bytes, bytes_max } },
        None => Split::Refused(SplitRefusal::OneBigRow { bytes, bytes_max }),
    }
}

fn split_by_load(now: Duration, range: &RangeFacts<'_>, limits: &SplitLimits) -> Split {
    let Some(finding) = range.load.finding(now, limits) else { return Split::Nothing };
    let keeps = |c: &Candidate| show::permille(c.busier_half(), c.total());
    let inside = finding.iter().filter(|c| is_inside(range.span, &c.key));
    match inside.map(|c| (keeps(c), &c.key)).min() {
        Some((busier_permille, key)) if busier_permille <= limits.busier_half_permille_max => {
            let (rate, rate_max) = (range.load.rate(now, limits), limits.rate_max);
            Split::At { key: key.clone(), reason: SplitReason::Load { rate, rate_max, busier_permille } }
        }
        best => Split::Refused(why_none_helps(range.span, finding, best, limits)),
    }
}

/// Reads the shape of a load from candidates none of which balances it.
fn why_none_helps(span: &Span, finding: &[Candidate], best: Option<(u64, &Key)>, limits: &SplitLimits) -> SplitRefusal {
    let row_permille = |c: &Candidate| show::permille(c.row, c.total());
    let hottest = finding.iter().map(|c| (row_permille(c), &c.key)).max();
    // Two rows of a third each could be parted; from a half on one row alone keeps its half busy.
    if let Some((permille, row)) = hottest.filter(|(permille, _)| *permille >= 500) {
        return SplitRefusal::OneHotRow { row: row.clone(), permille };
    }
    let Some((permille, key)) = best else {
        // Everything begins in the range's first row, and what is not that row alone goes on from there.
        return SplitRefusal::WideSpans { permille: 1000 - hottest.map_or(0, |(permille, _)| permille) };
    };
    let inside = finding.iter().filter(|c| is_inside(span, &c.key));
    let sum = |part: fn(&Candidate) -> u64| inside.clone().map(part).fold(0, u64::saturating_add);
    let share = |part| show::permille(sum(part), sum(Candidate::total));
    let (left, right, contained) = (share(|c| c.left), share(|c| c.right), share(|c| c.contained));
    if contained >= 500 {
        return SplitRefusal::WideSpans { permille: contained };
    }
    if left.max(right) < limits.busier_half_permille_max {
        return SplitRefusal::Uneven { key: key.clone(), permille };
    }
    SplitRefusal::MovingEnd { ascending: right >= left, permille: left.max(right) }
}

impl SplitRefusal {
    /// The row that it is about. Whoever shows it names the row in terms of its own.
    pub fn key(&self) -> Option<&Key> {
        match self {
            SplitRefusal::OneHotRow { row: key, .. } | SplitRefusal::Uneven { key, .. } => Some(key),
            SplitRefusal::OneBigRow { .. } | SplitRefusal::MovingEnd { .. } | SplitRefusal::WideSpans { .. } => None,
        }
    }
}

impl fmt::Display for SplitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitReason::Size { bytes, bytes_max } => {
                write!(f, "it holds {}, more than {}", show::bytes(*bytes), show::bytes(*bytes_max))
            }
            SplitReason::Load { rate, rate_max, busier_permille } => write!(
                f,
                "it bears {rate} requests a second, {rate_max} or more, and the busier half will keep {}",
                show::percent(*busier_permille)
            ),
        }
    }
}

impl fmt::Display for SplitRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitRefusal::OneBigRow { bytes, bytes_max } => write!(
                f,
                "the range holds {}, more than {}, and no row begins near its middle: a split cannot help; keep large values \
                 in several rows",
                show::bytes(*bytes),
                show::bytes(*bytes_max)
            ),
            SplitRefusal::OneHotRow { permille, .. } => write!(
                f,
                "one row takes {} of the load: a split cannot help; spread what it counts or queues over several rows, or \
                 read it at a timestamp in the past",
                show::percent(*permille)
            ),
            SplitRefusal::MovingEnd { ascending, permille } => write!(
                f,
                "{} of the load lies at keys {} than all before: a split cannot help, as the load moves on; let keys begin with \
                 a hash or a random part",
                show::percent(*permille),
                if *ascending { "greater" } else { "smaller" }
            ),
            SplitRefusal::WideSpans { permille } => write!(
                f,
                "{} of the load reads across the range: both halves would bear it; narrow the scans, with an index or a tighter \
                 condition",
                show::percent(*permille)
            ),
            SplitRefusal::Uneven { permille, .. } => write!(
                f,
                "a split would leave {} of the load on one side, and nowhere else less: not worth it",
                show::percent(*permille)
            ),
        }
    }
}
