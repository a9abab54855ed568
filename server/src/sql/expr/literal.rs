//! Literals and parameters.

use proto::datum::decimal;
use proto::{DataType, Datum};
use sqlparser::ast::{Value, ValueWithSpan};

use super::super::error::{Error, Result, state};
use super::Expr;
use super::bind::{Binder, Typed};

/// Binds a literal. A string, and `NULL`, is of unknown type until its context gives it one.
///
/// # Errors
/// `0A000` for kinds of literals that do not exist here, `22003` for numbers beyond all limits.
pub fn bind(binder: &mut Binder<'_>, value: &ValueWithSpan) -> Result<Typed> {
    let position = binder.locator.position(value.span);
    let (expr, data_type) = match &value.value {
        Value::Number(text, _) => number(text, false).map_err(|e| e.at(position))?,
        Value::Boolean(v) => (Expr::Const(Datum::Bool(*v)), DataType::Bool),
        Value::Null => (Expr::Const(Datum::Null), DataType::Unknown),
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) | Value::UnicodeStringLiteral(text) => {
            (Expr::Const(Datum::Text(no_zero(text).map_err(|e| e.at(position))?)), DataType::Unknown)
        }
        Value::DollarQuotedString(quoted) => {
            (Expr::Const(Datum::Text(no_zero(&quoted.value).map_err(|e| e.at(position))?)), DataType::Unknown)
        }
        Value::Placeholder(name) => parameter(binder, name).map_err(|e| e.at(position))?,
        _ => return Err(Error::unsupported("this kind of literal").at(position)),
    };
    Ok(Typed { expr, data_type, position })
}

fn no_zero(text: &str) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    Ok(text.to_string())
}

/// The narrowest of integer, bigint and numeric that holds the digits.
///
/// # Errors
/// `42601`, `22003`.
pub fn number(digits: &str, negative: bool) -> Result<(Expr, DataType)> {
    let text = format!("{}{}", if negative { "-" } else { "" }, digits.replace('_', ""));
    let datum = if let Ok(v) = text.parse::<i32>() {
        Datum::Int4(v)
    } else if let Ok(v) = text.parse::<i64>() {
        Datum::Int8(v)
    } else {
        match decimal::parse(&text) {
            Some(Some(v)) => Datum::Numeric(v),
            Some(None) => return Err(Error::new(state::OUT_OF_RANGE, "value overflows numeric format")),
            None => return Err(Error::new(state::SYNTAX_ERROR, format!("syntax error at or near \"{digits}\""))),
        }
    };
    let data_type = datum.data_type();
    Ok((Expr::Const(datum), data_type))
}

fn parameter(binder: &mut Binder<'_>, name: &str) -> Result<(Expr, DataType)> {
    let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
    let limit = binder.limits.parameters_max;
    match number {
        Some(number) if (1..=limit).contains(&number) => {
            let data_type = binder.parameters.mention(number - 1);
            Ok((Expr::Param(number - 1), data_type))
        }
        Some(number) if number > limit => {
            let message = format!("parameter ${number} is beyond the limit of {limit} parameters");
            Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message))
        }
        _ => Err(Error::new(state::UNDEFINED_PARAMETER, format!("there is no parameter {name}"))),
    }
}
