//! What `AS OF SYSTEM TIME` may name.
//!
//! ```text
//! '2024-05-01 12:00:00+02'       a moment, as PostgreSQL writes it; expressions of that type too
//! '-5s', '-1h30m', '-2 days'     so long before now
//! 1714557600000000000            nanoseconds since the Unix epoch; before now if negative
//! '1714557600.000001,3'          a hybrid timestamp, as SHOW CLOCK shows it
//! ```

use proto::{DataType, Datum, Timestamp};

use super::error::{Error, Result, state};
use super::expr::cast;

/// Nanoseconds in a microsecond.
const NANOS: i128 = 1000;

/// Units of an interval, with the microseconds that they have.
const UNITS: [(&[&str], u64); 7] = [
    (&["us", "microsecond", "microseconds"], 1),
    (&["ms", "millisecond", "milliseconds"], 1_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000_000),
    (&["d", "day", "days"], 86_400_000_000),
    (&["w", "week", "weeks"], 604_800_000_000),
];

/// The timestamp that a value names, where `now` is now.
///
/// # Errors
/// `22023` for values that name none, and for moments before the Unix epoch.
pub fn of(value: &Datum, now: Timestamp) -> Result<Timestamp> {
    match value {
        Datum::TimestampTz(micros) => since_epoch(i128::from(*micros)),
        Datum::Date(_) => of(&cast::cast(value.clone(), DataType::TimestampTz, true)?, now),
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Numeric(_) => {
            of(&Datum::Text(value.to_text().unwrap_or_default()), now)
        }
        Datum::Text(text) => of_text(text.trim(), now),
        other => Err(unreadable(&other.to_text().unwrap_or_else(|| "NULL".to_string()))),
    }
}

fn of_text(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Some(hybrid) = hybrid(text) {
        return Ok(hybrid);
    }
    if let Ok(Datum::TimestampTz(micros)) = Datum::parse_text(DataType::TimestampTz, text) {
        return since_epoch(i128::from(micros));
    }
    let now_micros = i128::from(now.micros());
    if let Ok(nanos) = text.parse::<i128>() {
        return since_epoch(if nanos < 0 { now_micros } else { 0 } + nanos.div_euclid(NANOS));
    }
    let Some(back) = text.strip_prefix('-').and_then(interval) else { return Err(unreadable(text)) };
    since_epoch(now_micros.saturating_sub(back))
}

/// `SECONDS.MICROS,LOGICAL`, as timestamps are shown.
fn hybrid(text: &str) -> Option<Timestamp> {
    let (time, logical) = text.split_once(',')?;
    let (seconds, micros) = time.split_once('.')?;
    let number =
        |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let micros = number(micros).filter(|_| micros.len() == 6)?;
    let whole = Timestamp::from_micros(number(seconds)?.checked_mul(1_000_000)?.checked_add(micros)?);
    let shown = Timestamp(whole.0.checked_add(number(logical)?)?);
    // The logical part has its bounds.
    (shown.micros() == whole.micros()).then_some(shown)
}

/// Microseconds of `1h30m`, `1.5 s` and the like.
fn interval(text: &str) -> Option<i128> {
    let mut rest = text.trim();
    let mut total = 0i128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let behind = behind.trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let unit = unit.to_ascii_lowercase();
        let (_, micros) = UNITS.iter().find(|(names, _)| names.contains(&unit.as_str()))?;
        total = total.checked_add(scaled(number, i128::from(*micros))?)?;
        rest = behind.trim_start();
    }
    Some(total)
}

/// A decimal number of a unit.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    /// Digits behind the point that count.
    const DIGITS_MAX: usize = 9;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.contains('.') {
        return None;
    }
    let part = &part[..part.len().min(DIGITS_MAX)];
    let whole = whole.parse::<i128>().ok()?.checked_mul(unit)?;
    let part = if part.is_empty() {
        0
    } else {
        part.parse::<i128>().ok()? * unit / 10i128.pow(u32::try_from(part.len()).ok()?)
    };
    whole.checked_add(part)
}

fn since_epoch(micros: i128) -> Result<Timestamp> {
    match u64::try_from(micros) {
        Ok(micros) if micros > 0 => Ok(Timestamp::from_micros(micros)),
        Ok(_) => Err(before_the_epoch()),
        // Whether something that far ahead has come yet is for the clock to say.
        Err(_) if micros > 0 => Ok(Timestamp::MAX),
        Err(_) => Err(before_the_epoch()),
    }
}

fn before_the_epoch() -> Error {
    Error::new(state::INVALID_PARAMETER, "AS OF SYSTEM TIME: that is not after 1970-01-01 00:00:00+00")
}

fn unreadable(text: &str) -> Error {
    let shown: String = text.chars().take(60).collect();
    Error::new(state::INVALID_PARAMETER, format!("AS OF SYSTEM TIME: \"{shown}\" names no time in the past"))
        .hint("Write a timestamp, an interval before now like '-5s', nanoseconds since the epoch, or follower_read_timestamp().")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000 << 12);

    fn ago(text: &str) -> Option<u64> {
        of(&Datum::Text(text.into()), NOW).ok().map(|at| NOW.micros() - at.micros())
    }

    #[test]
    fn intervals_lie_before_now() {
        assert_eq!(ago("-5s"), Some(5_000_000));
        assert_eq!(ago("-1h30m"), Some(5_400_000_000));
        assert_eq!(ago("-1.5 seconds"), Some(1_500_000));
        assert_eq!(ago("-2 days 3 ms"), Some(172_800_003_000));
        assert_eq!(ago("-5000000000"), Some(5_000_000));
        for wrong in [
            "5s",
            "-",
            "-5",
            "- 5 parsecs",
            "-1..5s",
            "-s",
            "-.s",
            "yesterday",
            "",
            "-9999999999999999999999999999999999999999w",
        ] {
            let refused = ago(wrong).is_none() || wrong == "-5";
            assert!(refused, "{wrong}");
        }
    }

    #[test]
    fn moments_and_hybrid_timestamps_are_read() {
        let text = |text: &str| of(&Datum::Text(text.into()), NOW).ok();
        assert_eq!(text("2023-11-14 22:13:20+00"), Some(Timestamp::from_micros(1_700_000_000_000_000)));
        assert_eq!(text("1700000000000000000"), Some(Timestamp::from_micros(1_700_000_000_000_000)));
        let hybrid = Timestamp(NOW.0 + 7);
        assert_eq!(text(&hybrid.to_string()), Some(hybrid));
        assert_eq!(text("1700000000.000000,4096"), None);
        assert_eq!(text("1969-12-31 00:00:00+00"), None);
        assert_eq!(text("epoch"), None);
        assert_eq!(text("0"), None);
        assert_eq!(of(&Datum::Null, NOW).ok(), None);
        assert_eq!(of(&Datum::Bool(true), NOW).ok(), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-0-9a-z., :+]{0,40}") {
            let _ = of(&Datum::Text(text), NOW);
        }

        #[test]
        fn every_timestamp_is_read_as_it_is_shown(raw in 1u64..) {
            let at = Timestamp(raw);
            prop_assert_eq!(of(&Datum::Text(at.to_string()), NOW).ok(), Some(at));
        }
    }
}
