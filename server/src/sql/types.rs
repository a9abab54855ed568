//! The type system's rules: names of types, which casts exist, and which type two operands meet in.

use proto::DataType;
use sqlparser::ast;

use super::error::{Error, Result, state};

/// When a conversion happens without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// Among operands and arguments: only conversions that lose nothing to speak of.
    Implicit,
    /// Into a column, by `INSERT` and `UPDATE`.
    Assignment,
    /// Written as a cast.
    Explicit,
}

/// The weakest context in which one type converts to another, as PostgreSQL's `pg_cast` has it; `None` if never.
pub fn cast_context(from: DataType, to: DataType) -> Option<CastContext> {
    use CastContext::{Assignment, Explicit, Implicit};
    let (from, to) = (from.base(), to.base());
    if from == to || from == DataType::Unknown {
        return Some(Implicit);
    }
    match (numeric_rank(from), numeric_rank(to)) {
        (Some(a), Some(b)) => return Some(if a < b { Implicit } else { Assignment }),
        (Some(_), None) if to == DataType::Bool => return (from == DataType::Int4).then_some(Explicit),
        (None, Some(_)) if from == DataType::Bool => return (to == DataType::Int4).then_some(Explicit),
        _ => {}
    }
    match (from, to) {
        (DataType::Date, DataType::TimestampTz) => Some(Implicit),
        (DataType::TimestampTz, DataType::Date) => Some(Assignment),
        (_, DataType::Text) => Some(Assignment),
        (DataType::Text, _) => Some(Explicit),
        _ => None,
    }
}

/// The place of a number type in the order of promotion.
pub fn numeric_rank(data_type: DataType) -> Option<u8> {
    match data_type {
        DataType::Int2 => Some(0),
        DataType::Int4 => Some(1),
        DataType::Int8 => Some(2),
        DataType::Numeric { .. } => Some(3),
        DataType::Float8 => Some(4),
        _ => None,
    }
}

pub fn is_integer(data_type: DataType) -> bool {
    matches!(data_type, DataType::Int2 | DataType::Int4 | DataType::Int8)
}

/// The type in which values of two types are compared or united; `None` if there is none. `Unknown` gives way.
pub fn common_type(a: DataType, b: DataType) -> Option<DataType> {
    match (a, b) {
        (DataType::Unknown, other) | (other, DataType::Unknown) => Some(other),
        (a, b) if a == b => Some(a),
        (a, b) if a.base() == b.base() => Some(a.base()),
        (a, b) => {
            let widens = |from, to| cast_context(from, to) == Some(CastContext::Implicit);
            if widens(a, b) {
                Some(b.base())
            } else if widens(b, a) {
                Some(a.base())
            } else {
                None
            }
        }
    }
}

/// PostgreSQL's limit on the declared precision of a `NUMERIC`.
const PRECISION_MAX: u64 = 1000;
/// PostgreSQL's limit on the declared length of a `VARCHAR`.
const VARCHAR_MAX: u64 = 10_485_760;

/// The type that a type name in a statement stands for.
///
/// # Errors
/// `0A000` for types of PostgreSQL's that do not exist here, `42704` for the rest, `22023` for bad modifiers.
pub fn from_ast(data_type: &ast::DataType) -> Result<DataType> {
    use ast::DataType as Ast;
    Ok(match data_type {
        Ast::Bool | Ast::Boolean => DataType::Bool,
        Ast::Int2(None) | Ast::SmallInt(None) => DataType::Int2,
        Ast::Int(None) | Ast::Int4(None) | Ast::Integer(None) => DataType::Int4,
        Ast::Int8(None) | Ast::BigInt(None) => DataType::Int8,
        Ast::Float8 | Ast::DoublePrecision | Ast::Float(ast::ExactNumberInfo::None) => DataType::Float8,
        Ast::Float(ast::ExactNumberInfo::Precision(25..=53)) => DataType::Float8,
        Ast::Numeric(info) | Ast::Decimal(info) | Ast::Dec(info) => numeric(*info)?,
        Ast::Text => DataType::Text,
        Ast::Varchar(length) | Ast::CharacterVarying(length) | Ast::CharVarying(length) => varchar(length.as_ref())?,
        Ast::Bytea => DataType::Bytea,
        Ast::Timestamp(None, ast::TimezoneInfo::Tz | ast::TimezoneInfo::WithTimeZone) => DataType::TimestampTz,
        Ast::Date => DataType::Date,
        Ast::Uuid => DataType::Uuid,
        other => return Err(refused(other)),
    })
}

fn refused(data_type: &ast::DataType) -> Error {
    use ast::DataType as Ast;
    let named = Error::unsupported(format!("type {}", data_type.to_string().to_lowercase()));
    match data_type {
        Ast::Timestamp(_, ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone) => {
            named.hint("Use TIMESTAMPTZ, which stores a moment.")
        }
        Ast::Timestamp(Some(_), _) => named.hint("Use TIMESTAMPTZ without a precision."),
        Ast::Real | Ast::Float4 | Ast::Float(_) => named.hint("Use DOUBLE PRECISION."),
        Ast::Char(_) | Ast::Character(_) => named.hint("Use TEXT or VARCHAR(n)."),
        Ast::Custom(name, _) => {
            let name = name.to_string().to_lowercase();
            if ["serial", "bigserial", "smallserial", "serial4", "serial8"].contains(&name.as_str()) {
                named.hint("Use UUID DEFAULT gen_random_uuid(), whose keys also spread over the cluster.")
            } else {
                Error::new(state::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))
            }
        }
        _ => named,
    }
}

fn numeric(info: ast::ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match info {
        ast::ExactNumberInfo::None => return Ok(DataType::NUMERIC),
        ast::ExactNumberInfo::Precision(precision) => (precision, 0),
        ast::ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if !(1..=PRECISION_MAX).contains(&precision) {
        let message = format!("NUMERIC precision {precision} must be between 1 and {PRECISION_MAX}");
        return Err(Error::new(state::INVALID_PARAMETER, message));
    }
    let scale = u16::try_from(scale).ok().filter(|s| u64::from(*s) <= precision);
    let Some(scale) = scale else {
        return Err(Error::unsupported("a NUMERIC scale below 0 or above the precision"));
    };
    Ok(DataType::Numeric { precision: u16::try_from(precision).ok(), scale: Some(scale) })
}

fn varchar(length: Option<&ast::CharacterLength>) -> Result<DataType> {
    match length {
        None => Ok(DataType::Varchar(None)),
        Some(ast::CharacterLength::IntegerLength { length, unit: None }) if (1..=VARCHAR_MAX).contains(length) => {
            Ok(DataType::Varchar(u32::try_from(*length).ok()))
        }
        Some(_) => {
            let message = format!("the length of type varchar must be between 1 and {VARCHAR_MAX}");
            Err(Error::new(state::INVALID_PARAMETER, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_goes_up_and_never_sideways() {
        assert_eq!(common_type(DataType::Int2, DataType::NUMERIC), Some(DataType::NUMERIC));
        assert_eq!(common_type(DataType::Float8, DataType::Int8), Some(DataType::Float8));
        assert_eq!(common_type(DataType::Date, DataType::TimestampTz), Some(DataType::TimestampTz));
        assert_eq!(common_type(DataType::Text, DataType::Int4), None);
        assert_eq!(common_type(DataType::Unknown, DataType::Uuid), Some(DataType::Uuid));
        assert_eq!(common_type(DataType::Varchar(Some(3)), DataType::Text), Some(DataType::Text));
    }
}
