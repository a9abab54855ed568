//! Operators and predicates: choosing the operation by the operands' types.

use proto::DataType;
use sqlparser::ast::{self, BinaryOperator as Op};

use super::super::error::{Error, Result, state};
use super::super::types::{self, CastContext};
use super::bind::{Binder, Typed};
use super::{Arithmetic, Comparison, Expr, Function, literal, resolve};

const NO_OPERATOR: &str =
    "No operator matches the given name and argument types. You might need to add explicit type casts.";

fn undefined(symbol: &str, left: &Typed, right: &Typed) -> Error {
    let (a, b) = (left.data_type.name(), right.data_type.name());
    Error::new(state::UNDEFINED_FUNCTION, format!("operator does not exist: {a} {symbol} {b}"))
        .hint(NO_OPERATOR)
        .at(left.position)
}

fn comparison(op: &Op) -> Option<Comparison> {
    Some(match op {
        Op::Eq => Comparison::Eq,
        Op::NotEq => Comparison::NotEq,
        Op::Lt => Comparison::Lt,
        Op::LtEq => Comparison::LtEq,
        Op::Gt => Comparison::Gt,
        Op::GtEq => Comparison::GtEq,
        _ => return None,
    })
}

fn arithmetic(op: &Op) -> Option<Arithmetic> {
    Some(match op {
        Op::Plus => Arithmetic::Add,
        Op::Minus => Arithmetic::Subtract,
        Op::Multiply => Arithmetic::Multiply,
        Op::Divide => Arithmetic::Divide,
        Op::Modulo => Arithmetic::Modulo,
        Op::BitwiseAnd => Arithmetic::BitAnd,
        Op::BitwiseOr => Arithmetic::BitOr,
        Op::PGBitwiseXor => Arithmetic::BitXor,
        Op::PGBitwiseShiftLeft => Arithmetic::ShiftLeft,
        Op::PGBitwiseShiftRight => Arithmetic::ShiftRight,
        _ => return None,
    })
}

/// A binary operator on bound operands.
///
/// # Errors
/// `42883` when no operator fits, `0A000` for operators that do not exist here.
pub fn binary(binder: &mut Binder<'_>, op: &Op, left: Typed, right: Typed) -> Result<Typed> {
    let position = left.position;
    if let Some(op) = comparison(op) {
        return compare(binder, op, left, right);
    }
    if let Some(op) = arithmetic(op) {
        return arithmetic_on(binder, op, left, right);
    }
    let bool_of = |expr| Typed { expr, data_type: DataType::Bool, position };
    match op {
        Op::And | Op::Or => {
            let name = if *op == Op::And { "AND" } else { "OR" };
            let mut list = match binder.condition(left, name)? {
                Expr::And(list) if *op == Op::And => list,
                Expr::Or(list) if *op == Op::Or => list,
                other => vec![other],
            };
            list.push(binder.condition(right, name)?);
            Ok(bool_of(if *op == Op::And { Expr::And(list) } else { Expr::Or(list) }))
        }
        Op::StringConcat => concatenate(binder, left, right),
        Op::PGExp => resolve::call(binder, "power", vec![left, right], position),
        Op::PGLikeMatch => like(binder, left, right, None, false, false),
        Op::PGNotLikeMatch => like(binder, left, right, None, true, false),
        Op::PGILikeMatch => like(binder, left, right, None, false, true),
        Op::PGNotILikeMatch => like(binder, left, right, None, true, true),
        other => Err(Error::unsupported(format!("operator {other}")).at(position)),
    }
}

/// Brings two operands to their common type.
fn align(binder: &mut Binder<'_>, left: Typed, right: Typed, symbol: &str) -> Result<(Expr, Expr, DataType)> {
    let common = types::common_type(left.data_type, right.data_type);
    let common = common.ok_or_else(|| undefined(symbol, &left, &right))?;
    let common = if common == DataType::Unknown { DataType::Text } else { common.base() };
    let left = binder.coerce(left, common, CastContext::Implicit)?;
    let right = binder.coerce(right, common, CastContext::Implicit)?;
    Ok((left.expr, right.expr, common))
}

fn compare(binder: &mut Binder<'_>, op: Comparison, left: Typed, right: Typed) -> Result<Typed> {
    let position = left.position;
    let (left, right, _) = align(binder, left, right, op.symbol())?;
    let expr = Expr::Compare { op, left: Box::new(left), right: Box::new(right) };
    Ok(Typed { expr, data_type: DataType::Bool, position })
}

fn arithmetic_on(binder: &mut Binder<'_>, op: Arithmetic, left: Typed, right: Typed) -> Result<Typed> {
    let position = left.position;
    let build = |left: Expr, right: Expr, data_type| Typed {
        expr: Expr::Arithmetic { op, left: Box::new(left), right: Box::new(right) },
        data_type,
        position,
    };
    match (left.data_type.base(), right.data_type.base()) {
        (DataType::Unknown, DataType::Unknown) => {
            let message = format!("operator is not unique: unknown {} unknown", op.symbol());
            Err(Error::new(state::AMBIGUOUS_FUNCTION, message)
                .hint("Could not choose a best candidate operator. You might need to add explicit type casts.")
                .at(position))
        }
        (DataType::Date, other) if dates_allow(op, other) => {
            let to = if types::is_integer(other) || op == Arithmetic::Add { DataType::Int4 } else { DataType::Date };
            let result = if to == DataType::Date { DataType::Int4 } else { DataType::Date };
            let right = binder.coerce(right, to, CastContext::Assignment)?;
            Ok(build(left.expr, right.expr, result))
        }
        (other, DataType::Date) if op == Arithmetic::Add && types::is_integer(other) => {
            let left = binder.coerce(left, DataType::Int4, CastContext::Assignment)?;
            Ok(build(left.expr, right.expr, DataType::Date))
        }
        (DataType::TimestampTz, _) | (_, DataType::TimestampTz)
            if matches!(op, Arithmetic::Add | Arithmetic::Subtract) =>
        {
            Err(Error::unsupported("arithmetic on timestamps (type interval)").at(position))
        }
        _ => {
            let described = undefined(op.symbol(), &left, &right);
            let (left, right, common) = align(binder, left, right, op.symbol())?;
            if applies(op, common) { Ok(build(left, right, common)) } else { Err(described) }
        }
    }
}

fn dates_allow(op: Arithmetic, other: DataType) -> bool {
    match op {
        Arithmetic::Add => types::is_integer(other) || other == DataType::Unknown,
        Arithmetic::Subtract => types::is_integer(other) || matches!(other, DataType::Date | DataType::Unknown),
        _ => false,
    }
}

fn applies(op: Arithmetic, data_type: DataType) -> bool {
    match op {
        Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Multiply | Arithmetic::Divide => {
            types::numeric_rank(data_type).is_some()
        }
        Arithmetic::Modulo => types::is_integer(data_type) || data_type == DataType::NUMERIC,
        _ => types::is_integer(data_type),
    }
}

/// `||`: bytes with bytes; otherwise text with anything.
fn concatenate(binder: &mut Binder<'_>, left: Typed, right: Typed) -> Result<Typed> {
    let position = left.position;
    let (a, b) = (left.data_type.base(), right.data_type.base());
    let bytes = |t| matches!(t, DataType::Bytea | DataType::Unknown);
    let textual = |t| matches!(t, DataType::Text | DataType::Unknown);
    let (to, function) = if bytes(a) && bytes(b) && (a == DataType::Bytea || b == DataType::Bytea) {
        (DataType::Bytea, Function::ConcatBytes)
    } else if textual(a) || textual(b) {
        (DataType::Text, Function::ConcatTexts)
    } else {
        return Err(undefined("||", &left, &right));
    };
    let left = binder.coerce(left, to, CastContext::Assignment)?;
    let right = binder.coerce(right, to, CastContext::Assignment)?;
    Ok(Typed { expr: Expr::Call { function, args: vec![left.expr, right.expr] }, data_type: to, position })
}

/// A unary operator.
///
/// # Errors
/// As [`binary`].
pub fn unary(binder: &mut Binder<'_>, op: ast::UnaryOperator, expr: &ast::Expr) -> Result<Typed> {
    // The least integers have no positive counterpart, so the sign belongs to the literal.
    if let (ast::UnaryOperator::Minus, ast::Expr::Value(value)) = (op, expr)
        && let ast::Value::Number(digits, _) = &value.value
    {
        let position = binder.locator.position(value.span);
        let (expr, data_type) = literal::number(digits, true).map_err(|e| e.at(position))?;
        return Ok(Typed { expr, data_type, position });
    }
    let inner = binder.bind(expr)?;
    let (position, data_type) = (inner.position, inner.data_type);
    let numeric = types::numeric_rank(data_type).is_some();
    let result = |expr, data_type| Ok(Typed { expr, data_type, position });
    match op {
        ast::UnaryOperator::Not => {
            let inner = binder.condition(inner, "NOT")?;
            result(Expr::Not(Box::new(inner)), DataType::Bool)
        }
        ast::UnaryOperator::Minus if numeric => result(Expr::Negate(Box::new(inner.expr)), data_type.base()),
        ast::UnaryOperator::Plus if numeric => Ok(inner),
        ast::UnaryOperator::BitwiseNot if types::is_integer(data_type) => {
            result(Expr::BitNot(Box::new(inner.expr)), data_type)
        }
        ast::UnaryOperator::Minus | ast::UnaryOperator::Plus | ast::UnaryOperator::BitwiseNot => {
            let message = format!("operator does not exist: {op} {}", data_type.name());
            Err(Error::new(state::UNDEFINED_FUNCTION, message).hint(NO_OPERATOR).at(position))
        }
        other => Err(Error::unsupported(format!("operator {other}")).at(position)),
    }
}

/// Predicates with a syntax of their own.
///
/// # Errors
/// As [`binary`]; `0A000` by name for all kinds of expressions that do not exist here.
pub fn predicate(binder: &mut Binder<'_>, expr: &ast::Expr) -> Result<Typed> {
    let truth = |binder: &mut Binder<'_>, inner: &ast::Expr, truth, negated| {
        let inner = binder.bind(inner)?;
        let position = inner.position;
        let expr = Box::new(binder.condition(inner, "IS")?);
        Ok(Typed { expr: Expr::IsTruth { expr, truth, negated }, data_type: DataType::Bool, position })
    };
    match expr {
        ast::Expr::IsTrue(inner) => truth(binder, inner, Some(true), false),
        ast::Expr::IsNotTrue(inner) => truth(binder, inner, Some(true), true),
        ast::Expr::IsFalse(inner) => truth(binder, inner, Some(false), false),
        ast::Expr::IsNotFalse(inner) => truth(binder, inner, Some(false), true),
        ast::Expr::IsUnknown(inner) => truth(binder, inner, None, false),
        ast::Expr::IsNotUnknown(inner) => truth(binder, inner, None, true),
        ast::Expr::IsNull(inner) => is_null(binder, inner, false),
        ast::Expr::IsNotNull(inner) => is_null(binder, inner, true),
        ast::Expr::IsDistinctFrom(left, right) => distinct(binder, left, right, false),
        ast::Expr::IsNotDistinctFrom(left, right) => distinct(binder, left, right, true),
        ast::Expr::Between { expr, negated, low, high } => between(binder, expr, low, high, *negated),
        ast::Expr::InList { expr, list, negated } => in_list(binder, expr, list, *negated),
        ast::Expr::Like { negated, any: false, expr, pattern, escape_char } => {
            let (text, pattern) = (binder.bind(expr)?, binder.bind(pattern)?);
            like(binder, text, pattern, escape_char.as_deref(), *negated, false)
        }
        ast::Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
            let (text, pattern) = (binder.bind(expr)?, binder.bind(pattern)?);
            like(binder, text, pattern, escape_char.as_deref(), *negated, true)
        }
        other => Err(Error::unsupported(name_of(other))),
    }
}

/// What to call an expression that does not exist here.
fn name_of(expr: &ast::Expr) -> &'static str {
    match expr {
        ast::Expr::Subquery(_) | ast::Expr::InSubquery { .. } | ast::Expr::Exists { .. } => "a subquery",
        ast::Expr::AnyOp { .. } | ast::Expr::AllOp { .. } => "ANY and ALL",
        ast::Expr::Array(_) | ast::Expr::CompoundFieldAccess { .. } => "type array",
        ast::Expr::Interval(_) => "type interval",
        ast::Expr::AtTimeZone { .. } => "AT TIME ZONE",
        ast::Expr::Collate { .. } => "COLLATE",
        ast::Expr::SimilarTo { .. } => "SIMILAR TO",
        ast::Expr::RLike { .. } => "a regular expression",
        ast::Expr::Overlay { .. } => "OVERLAY",
        ast::Expr::JsonAccess { .. } | ast::Expr::IsJson { .. } => "type json",
        ast::Expr::GroupingSets(_) | ast::Expr::Cube(_) | ast::Expr::Rollup(_) => "a grouping set",
        ast::Expr::Tuple(_) => "a row value outside of =, <> and IN",
        _ => "this kind of expression",
    }
}

fn is_null(binder: &mut Binder<'_>, inner: &ast::Expr, negated: bool) -> Result<Typed> {
    let inner = binder.bind(inner)?;
    let inner = binder.settle(inner)?;
    let expr = Expr::IsNull { expr: Box::new(inner.expr), negated };
    Ok(Typed { expr, data_type: DataType::Bool, position: inner.position })
}

fn distinct(binder: &mut Binder<'_>, left: &ast::Expr, right: &ast::Expr, negated: bool) -> Result<Typed> {
    let (left, right) = (binder.bind(left)?, binder.bind(right)?);
    let position = left.position;
    let (left, right, _) = align(binder, left, right, "=")?;
    let expr = Expr::Distinct { left: Box::new(left), right: Box::new(right), negated };
    Ok(Typed { expr, data_type: DataType::Bool, position })
}

/// The common type of an operand and what it is compared with.
fn align_all(binder: &mut Binder<'_>, operand: Typed, others: Vec<Typed>, symbol: &str) -> Result<(Expr, Vec<Expr>)> {
    let mut common = operand.data_type;
    for other in &others {
        common = types::common_type(common, other.data_type).ok_or_else(|| undefined(symbol, &operand, other))?;
    }
    let common = if common == DataType::Unknown { DataType::Text } else { common.base() };
    let operand = binder.coerce(operand, common, CastContext::Implicit)?.expr;
    let coerce = |other| Ok(binder.coerce(other, common, CastContext::Implicit)?.expr);
    Ok((operand, others.into_iter().map(coerce).collect::<Result<_>>()?))
}

fn between(
    binder: &mut Binder<'_>,
    expr: &ast::Expr,
    low: &ast::Expr,
    high: &ast::Expr,
    negated: bool,
) -> Result<Typed> {
    let operand = binder.bind(expr)?;
    let position = operand.position;
    let bounds = vec![binder.bind(low)?, binder.bind(high)?];
    let (expr, mut bounds) = align_all(binder, operand, bounds, ">=")?;
    let (high, low) = (bounds.pop().unwrap_or(Expr::TRUE), bounds.pop().unwrap_or(Expr::TRUE));
    let expr = Expr::Between { expr: Box::new(expr), low: Box::new(low), high: Box::new(high), negated };
    Ok(Typed { expr, data_type: DataType::Bool, position })
}

fn in_list(binder: &mut Binder<'_>, expr: &ast::Expr, list: &[ast::Expr], negated: bool) -> Result<Typed> {
    if let ast::Expr::Tuple(fields) = expr {
        return row_in_list(binder, fields, list, negated);
    }
    let operand = binder.bind(expr)?;
    let position = operand.position;
    let list = list.iter().map(|e| binder.bind(e)).collect::<Result<Vec<_>>>()?;
    let (expr, list) = align_all(binder, operand, list, "=")?;
    let expr = Expr::InList { expr: Box::new(expr), list, negated };
    Ok(Typed { expr, data_type: DataType::Bool, position })
}

/// `(a, b) IN ((1, 2), (3, 4))`.
fn row_in_list(binder: &mut Binder<'_>, fields: &[ast::Expr], list: &[ast::Expr], negated: bool) -> Result<Typed> {
    let mut rows = Vec::with_capacity(list.len());
    for candidate in list {
        let ast::Expr::Tuple(values) = candidate else {
            return Err(Error::new(state::DATATYPE_MISMATCH, "a row is compared with something that is no row"));
        };
        rows.push(rows_equal(binder, fields, values)?);
    }
    let any = Expr::Or(rows);
    let expr = if negated { Expr::Not(Box::new(any)) } else { any };
    Ok(Typed { expr, data_type: DataType::Bool, position: None })
}

fn rows_equal(binder: &mut Binder<'_>, left: &[ast::Expr], right: &[ast::Expr]) -> Result<Expr> {
    if left.len() != right.len() {
        return Err(Error::new(state::SYNTAX_ERROR, "unequal number of entries in row expressions"));
    }
    let mut fields = Vec::with_capacity(left.len());
    for (a, b) in left.iter().zip(right) {
        let (a, b) = (binder.bind(a)?, binder.bind(b)?);
        fields.push(compare(binder, Comparison::Eq, a, b)?.expr.fold());
    }
    Ok(Expr::And(fields))
}

/// `(a, b) = (1, 2)` and `<>`; `None` if the operands are not rows.
///
/// # Errors
/// `0A000` for other comparisons of rows.
pub fn row_comparison(binder: &mut Binder<'_>, left: &ast::Expr, op: &Op, right: &ast::Expr) -> Result<Option<Typed>> {
    let (ast::Expr::Tuple(left), ast::Expr::Tuple(right)) = (left, right) else { return Ok(None) };
    let expr = match op {
        Op::Eq => rows_equal(binder, left, right)?,
        Op::NotEq => Expr::Not(Box::new(rows_equal(binder, left, right)?)),
        other => return Err(Error::unsupported(format!("operator {other} on rows"))),
    };
    Ok(Some(Typed { expr, data_type: DataType::Bool, position: None }))
}

fn like(
    binder: &mut Binder<'_>,
    text: Typed,
    pattern: Typed,
    escape: Option<&ast::Expr>,
    negated: bool,
    ignore_case: bool,
) -> Result<Typed> {
    let position = text.position;
    for operand in [&text, &pattern] {
        if !matches!(operand.data_type.base(), DataType::Text | DataType::Unknown) {
            return Err(undefined(if ignore_case { "~~*" } else { "~~" }, &text, &pattern));
        }
    }
    let escape = match escape {
        None => None,
        Some(escape) => {
            let bound = binder.bind(escape)?;
            Some(Box::new(binder.coerce(bound, DataType::Text, CastContext::Implicit)?.expr))
        }
    };
    let text = binder.coerce(text, DataType::Text, CastContext::Implicit)?.expr;
    let pattern = binder.coerce(pattern, DataType::Text, CastContext::Implicit)?.expr;
    let (expr, pattern) = (Box::new(text), Box::new(pattern));
    Ok(Typed { expr: Expr::Like { expr, pattern, escape, negated, ignore_case }, data_type: DataType::Bool, position })
}
