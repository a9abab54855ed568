//! Dates of the proleptic Gregorian calendar and moments in UTC, as PostgreSQL reads and writes them.

use std::fmt::Write;

/// The first day that PostgreSQL knows: 4714-11-24 BC.
pub const DAYS_MIN: i32 = -2_440_588;
/// The day after the last one that a date can have: 5874898-01-01.
pub const DAYS_MAX: i32 = 2_145_042_906;
/// Midnight of [`DAYS_MIN`].
pub const MICROS_MIN: i64 = DAYS_MIN as i64 * MICROS_PER_DAY;
/// The end of the year 294246, exclusive. PostgreSQL, which counts from the year 2000, goes on for thirty more.
pub const MICROS_MAX: i64 = 106_751_983 * MICROS_PER_DAY;
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Why a text is no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateError {
    /// Not written like a date.
    Syntax,
    /// Written like one, but there is no such day or time.
    Field,
    /// Beyond what the type can hold.
    Range,
}

/// The year, month and day of a day count. Year 0 is 1 BC.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

/// The day count of a year, month and day, which must exist.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Writes `2024-02-29`, and ` BC` behind years before 1.
pub fn write_date(days: i64, out: &mut String) {
    let before_christ = write_day(days, out);
    out.push_str(before_christ);
}

fn write_day(days: i64, out: &mut String) -> &'static str {
    let (year, month, day) = civil_from_days(days);
    let (shown, suffix) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
    suffix
}

/// Writes `2024-02-29 12:34:56.789+00`.
pub fn write_timestamp(micros: i64, out: &mut String) {
    let before_christ = write_day(micros.div_euclid(MICROS_PER_DAY), out);
    let time = micros.rem_euclid(MICROS_PER_DAY);
    let (seconds, fraction) = (time / 1_000_000, time % 1_000_000);
    let _ = write!(out, " {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
    out.push_str("+00");
    out.push_str(before_christ);
}

/// Reads a date: `2024-02-29`, `20240229`, either with ` BC`, `epoch`. A time behind it is read and dropped.
///
/// # Errors
/// See [`DateError`].
pub fn parse_date(text: &str) -> Result<i32, DateError> {
    let (days, _) = parse(text)?;
    let days = i32::try_from(days).map_err(|_| DateError::Range)?;
    if (DAYS_MIN..DAYS_MAX).contains(&days) { Ok(days) } else { Err(DateError::Range) }
}

/// Reads a moment: a date, and behind `T` or a space a time with an optional offset from UTC.
///
/// # Errors
/// See [`DateError`].
pub fn parse_timestamp(text: &str) -> Result<i64, DateError> {
    let (days, micros) = parse(text)?;
    let total = days.checked_mul(MICROS_PER_DAY).and_then(|d| d.checked_add(micros)).ok_or(DateError::Range)?;
    if (MICROS_MIN..MICROS_MAX).contains(&total) { Ok(total) } else { Err(DateError::Range) }
}

/// Days, and microseconds of the day in UTC (possibly negative or beyond a day because of the offset).
fn parse(text: &str) -> Result<(i64, i64), DateError> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("epoch") {
        return Ok((0, 0));
    }
    let (text, before_christ) = match text.len().checked_sub(2).and_then(|at| text.split_at_checked(at)) {
        Some((rest, era)) if era.eq_ignore_ascii_case("bc") => (rest.trim_end(), true),
        Some((rest, era)) if era.eq_ignore_ascii_case("ad") => (rest.trim_end(), false),
        _ => (text, false),
    };
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    };
    let days = parse_day(date, before_christ)?;
    let micros = if time.is_empty() { 0 } else { parse_time(time)? };
    Ok((days, micros))
}

fn number(text: &str, digits_max: usize) -> Result<u32, DateError> {
    if text.is_empty() || text.len() > digits_max || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DateError::Syntax);
    }
    text.parse().map_err(|_| DateError::Syntax)
}

fn parse_day(text: &str, before_christ: bool) -> Result<i64, DateError> {
    let mut parts = text.split('-');
    let (year, month, day) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(y), Some(m), Some(d), None) if y.len() >= 3 => (number(y, 7)?, number(m, 2)?, number(d, 2)?),
        (Some(all), None, ..) if all.len() == 8 && all.is_ascii() => {
            (number(&all[..4], 4)?, number(&all[4..6], 2)?, number(&all[6..], 2)?)
        }
        _ => return Err(DateError::Syntax),
    };
    let year = if before_christ { 1 - i64::from(year) } else { i64::from(year) };
    let real_year = before_christ || year > 0;
    if !real_year || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return Err(DateError::Field);
    }
    Ok(days_from_civil(year, month, day))
}

fn parse_time(text: &str) -> Result<i64, DateError> {
    let split = text.find(['+', '-', 'Z', 'z', 'U', 'u', 'G', 'g', ' ']).unwrap_or(text.len());
    let (clock, zone) = text.split_at(split);
    let mut parts = clock.split(':');
    let hour = number(parts.next().unwrap_or(""), 2)?;
    let minute = number(parts.next().ok_or(DateError::Syntax)?, 2)?;
    let (second, micros) = match parts.next() {
        None => (0, 0),
        Some(seconds) => parse_seconds(seconds)?,
    };
    if parts.next().is_some() {
        return Err(DateError::Syntax);
    }
    let end_of_day = hour == 24 && minute == 0 && second == 0 && micros == 0;
    if (hour > 23 && !end_of_day) || minute > 59 || second > 60 {
        return Err(DateError::Field);
    }
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Ok((seconds - parse_zone(zone.trim())?) * 1_000_000 + micros)
}

/// Whole seconds, and microseconds rounded from as many digits as there are.
fn parse_seconds(text: &str) -> Result<(u32, i64), DateError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DateError::Syntax);
    }
    let padded: String = fraction.chars().chain(std::iter::repeat('0')).take(7).collect();
    let tenths_of_micros: i64 = padded.parse().map_err(|_| DateError::Syntax)?;
    Ok((number(whole, 2)?, (tenths_of_micros + 5) / 10))
}

/// Seconds east of UTC.
fn parse_zone(text: &str) -> Result<i64, DateError> {
    if text.is_empty() || ["z", "utc", "gmt"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Ok(0);
    }
    let (sign, digits) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(DateError::Syntax),
    };
    let mut parts = digits.split(':');
    let first = parts.next().unwrap_or("");
    let (hours, minutes) = match (first.len(), parts.next()) {
        (4, None) if first.is_ascii() => (number(&first[..2], 2)?, number(&first[2..], 2)?),
        (_, Some(minutes)) => (number(first, 2)?, number(minutes, 2)?),
        (_, None) => (number(first, 2)?, 0),
    };
    let seconds = parts.next().map_or(Ok(0), |s| number(s, 2))?;
    if hours > 15 || minutes > 59 || seconds > 59 || parts.next().is_some() {
        return Err(DateError::Field);
    }
    Ok(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60 + i64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(text: &str) -> String {
        let mut out = String::new();
        write_timestamp(parse_timestamp(text).unwrap(), &mut out);
        out
    }

    #[test]
    fn days_and_dates_are_inverse_over_the_whole_range() {
        for days in (i64::from(DAYS_MIN)..i64::from(DAYS_MAX)).step_by(999_983) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(civil_from_days(MICROS_MAX / MICROS_PER_DAY), (294_247, 1, 2));
        assert_eq!(civil_from_days(i64::from(DAYS_MAX)), (5_874_898, 1, 1));
        assert_eq!(civil_from_days(i64::from(DAYS_MIN)), (-4713, 11, 24));
    }

    #[test]
    fn offsets_are_brought_to_utc() {
        assert_eq!(timestamp("2024-02-29T12:34:56.5+02:00"), "2024-02-29 10:34:56.5+00");
        assert_eq!(timestamp("2024-02-29 00:00 -0130"), "2024-02-29 01:30:00+00");
        assert_eq!(timestamp("20240229"), "2024-02-29 00:00:00+00");
        assert_eq!(timestamp("0044-03-15 BC"), "0044-03-15 00:00:00+00 BC");
        assert_eq!(timestamp("2024-12-31 23:59:59.9999999"), "2025-01-01 00:00:00+00");
    }

    #[test]
    fn days_that_never_were_are_refused() {
        assert_eq!(parse_date("2023-02-29"), Err(DateError::Field));
        assert_eq!(parse_date("0000-01-01"), Err(DateError::Field));
        assert_eq!(parse_date("yesterday-ish"), Err(DateError::Syntax));
        assert_eq!(parse_date("9999999-01-01"), Err(DateError::Range));
        assert_eq!(parse_timestamp("2024-01-01 25:00"), Err(DateError::Field));
    }
}
