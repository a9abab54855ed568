//! Grouping: from expressions over rows with aggregate calls in them to expressions over groups.

use sqlparser::ast;

use super::super::error::{Error, Result, state};
use super::super::expr::Expr;
use super::super::expr::bind::{Aggregates, Binder, Scope, normalize};
use super::projection::Item;

/// Binds `GROUP BY`: expressions, places in the select list and names of its items. A name means a column first.
///
/// # Errors
/// As binding does; `42P10` for places that do not exist.
pub fn bind_keys(binder: &mut Binder<'_>, group_by: &ast::GroupByExpr, items: &[Item]) -> Result<Vec<Expr>> {
    let exprs = match group_by {
        ast::GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => exprs,
        _ => return Err(Error::unsupported("this form of GROUP BY")),
    };
    let collected = std::mem::replace(&mut binder.aggregates, Aggregates::Refused("GROUP BY"));
    let keys = exprs.iter().map(|expr| bind_key(binder, expr, items)).collect();
    binder.aggregates = collected;
    keys
}

fn bind_key(binder: &mut Binder<'_>, expr: &ast::Expr, items: &[Item]) -> Result<Expr> {
    let item = if let Some(place) = place_of(expr) {
        Some(item_at(place, items, "GROUP BY")?)
    } else if let ast::Expr::Identifier(name) = expr
        && !binder.scope.columns.iter().any(|c| c.name == normalize(name))
    {
        items.iter().find(|i| i.name == normalize(name))
    } else {
        None
    };
    match item {
        Some(item) if item.typed.expr.any(&|e| matches!(e, Expr::Aggregate(_))) => {
            Err(Error::new(state::GROUPING_ERROR, "aggregate functions are not allowed in GROUP BY"))
        }
        Some(item) => Ok(item.typed.expr.clone()),
        None => {
            let typed = binder.bind(expr)?;
            Ok(binder.settle(typed)?.expr)
        }
    }
}

/// A bare integer, which `GROUP BY` and `ORDER BY` take for a place in the select list.
pub fn place_of(expr: &ast::Expr) -> Option<&str> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits),
            _ => None,
        },
        _ => None,
    }
}

/// The item at a place.
///
/// # Errors
/// `42P10`.
pub fn item_at<'a>(place: &str, items: &'a [Item], clause: &str) -> Result<&'a Item> {
    let index = place.parse::<usize>().ok().and_then(|p| p.checked_sub(1));
    index.and_then(|i| items.get(i)).ok_or_else(|| {
        let message = format!("{clause} position {place} is not in select list");
        Error::new(state::INVALID_COLUMN_REFERENCE, message)
    })
}

/// Rewrites an expression over rows into one over groups: keys, then the results of the calls.
///
/// # Errors
/// `42803` for a column that is neither grouped nor inside of an aggregate call.
pub fn over_groups(mut expr: Expr, keys: &[Expr], scope: &Scope, position: Option<usize>) -> Result<Expr> {
    if let Some(place) = keys.iter().position(|key| *key == expr) {
        return Ok(Expr::Column(place));
    }
    match expr {
        Expr::Aggregate(index) => Ok(Expr::Column(keys.len() + index)),
        Expr::Column(index) => {
            let column = scope.columns.get(index).map_or("?", |c| c.name.as_str());
            let table = scope.table.as_deref().unwrap_or("");
            let message = format!(
                "column \"{table}.{column}\" must appear in the GROUP BY clause or be used in an aggregate function"
            );
            Err(Error::new(state::GROUPING_ERROR, message).at(position))
        }
        _ => {
            for child in expr.children_mut() {
                *child = over_groups(std::mem::replace(child, Expr::TRUE), keys, scope, position)?;
            }
            Ok(expr)
        }
    }
}
