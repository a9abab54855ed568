//! What the functions of text compute. Positions and lengths count characters, from 1.

use proto::{DataType, Datum};

use super::super::error::{Error, Result, state};
use super::{Function, arithmetic, scalar};

/// The longest text or bytes that a function makes, in bytes.
const RESULT_BYTES_MAX: usize = 1 << 24;

/// Calls a function of text.
///
/// # Errors
/// What the function defines; `54000` for results that would be too long.
pub fn call(function: Function, args: &[Datum]) -> Result<Datum> {
    let result = match (function, args) {
        (Function::Concat, args) => concat(args, ""),
        (Function::ConcatWithSeparator, [Datum::Null, ..]) => return Ok(Datum::Null),
        (Function::ConcatWithSeparator, [Datum::Text(separator), rest @ ..]) => concat(rest, separator),
        (Function::ConcatBytes, [Datum::Bytea(a), Datum::Bytea(b)]) => {
            within_limit(a.len().saturating_add(b.len()))?;
            return Ok(Datum::Bytea([a.as_slice(), b].concat()));
        }
        (Function::OctetLength, [Datum::Bytea(bytes)]) => return length(bytes.len()),
        (Function::Chr, [Datum::Int4(code)]) => chr(*code)?,
        (_, [Datum::Text(text), rest @ ..]) => return of_text(function, text, rest),
        _ => return Err(scalar::unbound(function)),
    };
    within_limit(result.len())?;
    Ok(Datum::Text(result))
}

fn within_limit(bytes: usize) -> Result<()> {
    if bytes <= RESULT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the result has {bytes} bytes, more than the {RESULT_BYTES_MAX} that a function may return");
    Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message))
}

fn length(count: usize) -> Result<Datum> {
    i32::try_from(count).map(Datum::Int4).map_err(|_| arithmetic::out_of_range(DataType::Int4))
}

fn of_text(function: Function, text: &str, rest: &[Datum]) -> Result<Datum> {
    let result = match (function, rest) {
        (Function::CharLength, []) => return length(text.chars().count()),
        (Function::OctetLength, []) => return length(text.len()),
        (Function::Ascii, []) => {
            let code = text.chars().next().map_or(0, u32::from);
            return length(usize::try_from(code).unwrap_or(0));
        }
        (Function::Position, [Datum::Text(part)]) => {
            return length(text.find(part.as_str()).map_or(0, |at| text[..at].chars().count() + 1));
        }
        (Function::StartsWith, [Datum::Text(prefix)]) => return Ok(Datum::Bool(text.starts_with(prefix.as_str()))),
        (Function::Lower, []) => text.to_lowercase(),
        (Function::Upper, []) => text.to_uppercase(),
        (Function::Initcap, []) => initcap(text),
        (Function::Reverse, []) => text.chars().rev().collect(),
        (Function::ConcatTexts, [Datum::Text(other)]) => [text, other].concat(),
        (Function::Substring, [Datum::Int4(start)]) => substring(text, *start, None)?,
        (Function::Substring, [Datum::Int4(start), Datum::Int4(count)]) => substring(text, *start, Some(*count))?,
        (Function::Left | Function::Right, [Datum::Int4(count)]) => end_of(function, text, *count),
        (Function::LeftPad | Function::RightPad, [Datum::Int4(width), fill @ ..]) => {
            let fill = if let [Datum::Text(fill)] = fill { fill } else { " " };
            pad(text, *width, fill, function == Function::LeftPad)?
        }
        (Function::Trim | Function::LeftTrim | Function::RightTrim, cut) => {
            let set = if let [Datum::Text(set)] = cut { set } else { " " };
            trim(function, text, set)
        }
        (Function::Replace, [Datum::Text(from), Datum::Text(_)]) if from.is_empty() => text.to_string(),
        (Function::Replace, [Datum::Text(from), Datum::Text(to)]) => {
            let grown = text.matches(from.as_str()).count().saturating_mul(to.len());
            within_limit(text.len().saturating_add(grown))?;
            text.replace(from.as_str(), to)
        }
        (Function::Repeat, [Datum::Int4(count)]) => {
            let count = usize::try_from(*count).unwrap_or(0);
            within_limit(text.len().saturating_mul(count))?;
            text.repeat(count)
        }
        (Function::SplitPart, [Datum::Text(separator), Datum::Int4(index)]) => split_part(text, separator, *index)?,
        _ => return Err(scalar::unbound(function)),
    };
    within_limit(result.len())?;
    Ok(Datum::Text(result))
}

/// Joins what is not NULL.
fn concat(args: &[Datum], separator: &str) -> String {
    let parts: Vec<String> = args.iter().filter_map(Datum::to_text).collect();
    parts.join(separator)
}

fn chr(code: i32) -> Result<String> {
    let valid = u32::try_from(code).ok().filter(|c| *c != 0).and_then(char::from_u32);
    valid.map(String::from).ok_or_else(|| {
        Error::new(state::PROGRAM_LIMIT_EXCEEDED, format!("requested character is not valid for encoding: {code}"))
    })
}

fn initcap(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric();
    }
    out
}

fn substring(text: &str, start: i32, count: Option<i32>) -> Result<String> {
    let start = i64::from(start);
    let end = match count {
        None => i64::MAX,
        Some(count) if count < 0 => {
            return Err(Error::new(state::SUBSTRING_ERROR, "negative substring length not allowed"));
        }
        Some(count) => start + i64::from(count),
    };
    let skip = usize::try_from(start.max(1) - 1).unwrap_or(usize::MAX);
    let take = usize::try_from(end - start.max(1)).unwrap_or(0);
    Ok(text.chars().skip(skip).take(take).collect())
}

/// `left` and `right`; a negative count leaves that many out at the other end.
fn end_of(function: Function, text: &str, count: i32) -> String {
    let total = text.chars().count();
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let kept = if count >= 0 { size.min(total) } else { total.saturating_sub(size) };
    if function == Function::Left {
        text.chars().take(kept).collect()
    } else {
        text.chars().skip(total - kept).collect()
    }
}

fn pad(text: &str, width: i32, fill: &str, in_front: bool) -> Result<String> {
    let width = usize::try_from(width).unwrap_or(0);
    within_limit(width)?;
    let have = text.chars().count();
    if have >= width || fill.is_empty() {
        return Ok(text.chars().take(width).collect());
    }
    let padding: String = fill.chars().cycle().take(width - have).collect();
    Ok(if in_front { padding + text } else { text.to_string() + &padding })
}

fn trim(function: Function, text: &str, set: &str) -> String {
    let in_set = |c: char| set.contains(c);
    match function {
        Function::LeftTrim => text.trim_start_matches(in_set),
        Function::RightTrim => text.trim_end_matches(in_set),
        _ => text.trim_matches(in_set),
    }
    .to_string()
}

fn split_part(text: &str, separator: &str, index: i32) -> Result<String> {
    if index == 0 {
        return Err(Error::new(state::INVALID_PARAMETER, "field position must not be zero"));
    }
    let nth = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX) - 1;
    if separator.is_empty() {
        return Ok(if nth == 0 { text.to_string() } else { String::new() });
    }
    let part = if index > 0 { text.split(separator).nth(nth) } else { text.rsplit(separator).nth(nth) };
    Ok(part.unwrap_or("").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substrings_count_from_one_and_may_start_before_the_text() {
        assert_eq!(substring("hello", 2, Some(3)).unwrap(), "ell");
        assert_eq!(substring("hello", -1, Some(4)).unwrap(), "he");
        assert_eq!(substring("hello", i32::MIN, Some(i32::MAX)).unwrap(), "");
        assert_eq!(substring("hello", 9, None).unwrap(), "");
    }

    #[test]
    fn nothing_grows_without_bound() {
        let long = call(Function::Repeat, &[Datum::Text("abc".into()), Datum::Int4(i32::MAX)]);
        assert_eq!(long.unwrap_err().sqlstate, "54000");
        assert!(pad("", i32::MAX, "x", true).is_err());
    }
}
