//! Queries.
//!
//! The tree of a query, from the leaf up: access, filter, aggregation and its filter (`HAVING`), sort, lock, projection,
//! `DISTINCT` (and then the sort), limit. Locking comes after sorting so that `LIMIT` bounds what is locked.

use proto::{DataType, Datum};
use sqlparser::ast;

use super::super::error::{Error, Result, state};
use super::super::expr::Expr;
use super::super::expr::aggregate::AggregateCall;
use super::super::expr::bind::{Aggregates, Binder, Scope, Typed, normalize};
use super::super::types::CastContext;
use super::projection::{self, Item};
use super::statement::{Planner, Source};
use super::{Column, Node, SortKey, access, grouping};

/// Plans a query.
///
/// # Errors
/// Everything that can be wrong with it; `0A000` by name for what does not exist here.
pub fn plan(planner: &mut Planner<'_>, query: &ast::Query) -> Result<(Node, Vec<Column>)> {
    refuse_rest(query)?;
    let lock = lock_of(&query.locks)?;
    let (node, columns) = match &*query.body {
        ast::SetExpr::Select(select) => plan_select(planner, select, query.order_by.as_ref(), lock)?,
        ast::SetExpr::Values(values) => plan_values(planner, values, query.order_by.as_ref())?,
        ast::SetExpr::Query(inner) if query.order_by.is_none() && !lock => plan(planner, inner)?,
        ast::SetExpr::SetOperation { op, .. } => return Err(Error::unsupported(op)),
        ast::SetExpr::Table(_) => return Err(Error::unsupported("TABLE").hint("Use SELECT * FROM.")),
        _ => return Err(Error::unsupported("this kind of query")),
    };
    let (limit, offset) = limits_of(planner, query)?;
    let node = match (&limit, &offset) {
        (None, None) => node,
        _ => Node::Limit { input: Box::new(node), limit, offset },
    };
    Ok((node, columns))
}

fn refuse_rest(query: &ast::Query) -> Result<()> {
    if query.with.is_some() {
        return Err(Error::unsupported("WITH"));
    }
    let foreign = query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty();
    if foreign { Err(Error::unsupported("this kind of query")) } else { Ok(()) }
}

/// Whether rows are locked.
fn lock_of(locks: &[ast::LockClause]) -> Result<bool> {
    match locks {
        [] => Ok(false),
        [ast::LockClause { lock_type: ast::LockType::Update, of: None, nonblock: None }] => Ok(true),
        [ast::LockClause { lock_type: ast::LockType::Share, .. }] => {
            Err(Error::unsupported("FOR SHARE").hint("Reads are serializable without it."))
        }
        [ast::LockClause { nonblock: Some(_), .. }] => Err(Error::unsupported("NOWAIT or SKIP LOCKED")),
        _ => Err(Error::unsupported("FOR UPDATE OF")),
    }
}

fn limits_of(planner: &mut Planner<'_>, query: &ast::Query) -> Result<(Option<Expr>, Option<Expr>)> {
    let (limit, offset) = match (&query.limit_clause, &query.fetch) {
        (None, None) => (None, None),
        (Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }), fetch) if limit_by.is_empty() => {
            let fetched = fetch_count(fetch.as_ref())?;
            (limit.as_ref().or(fetched), offset.as_ref().map(|o| &o.value))
        }
        (None, fetch) => (fetch_count(fetch.as_ref())?, None),
        _ => return Err(Error::unsupported("this form of LIMIT")),
    };
    let mut bind = |expr: Option<&ast::Expr>, clause: &'static str| -> Result<Option<Expr>> {
        let Some(expr) = expr else { return Ok(None) };
        let scope = Scope::default();
        let aggregates = Aggregates::Refused(clause);
        let mut binder = Binder::new(&scope, &mut planner.parameters, planner.locator, planner.limits, aggregates);
        let typed = binder.bind(expr)?;
        let bound = binder.coerce(typed, DataType::Int8, CastContext::Assignment)?.expr;
        Ok(if bound == Expr::Const(Datum::Null) { None } else { Some(bound) })
    };
    Ok((bind(limit, "LIMIT")?, bind(offset, "OFFSET")?))
}

fn fetch_count(fetch: Option<&ast::Fetch>) -> Result<Option<&ast::Expr>> {
    match fetch {
        None => Ok(None),
        Some(ast::Fetch { with_ties: false, percent: false, quantity: Some(count) }) => Ok(Some(count)),
        Some(_) => Err(Error::unsupported("this form of FETCH").hint("Use LIMIT.")),
    }
}

fn plan_values(
    planner: &mut Planner<'_>,
    values: &ast::Values,
    order_by: Option<&ast::OrderBy>,
) -> Result<(Node, Vec<Column>)> {
    if order_by.is_some() {
        return Err(Error::unsupported("ORDER BY after VALUES"));
    }
    let scope = Scope::default();
    let aggregates = Aggregates::Refused("VALUES");
    let mut binder = Binder::new(&scope, &mut planner.parameters, planner.locator, planner.limits, aggregates);
    let width = values.rows.first().map_or(0, |r| r.len());
    let mut by_column: Vec<Vec<Typed>> = vec![Vec::with_capacity(values.rows.len()); width];
    for row in &values.rows {
        if row.len() != width {
            return Err(Error::new(state::SYNTAX_ERROR, "VALUES lists must all be the same length"));
        }
        for (column, expr) in by_column.iter_mut().zip(row.iter()) {
            column.push(binder.bind(expr)?);
        }
    }
    let mut rows: Vec<Vec<Expr>> = vec![Vec::with_capacity(width); values.rows.len()];
    let mut columns = Vec::with_capacity(width);
    for (i, column) in by_column.into_iter().enumerate() {
        let (exprs, data_type) = binder.unite(column, "VALUES")?;
        columns.push(Column { name: format!("column{}", i + 1), data_type });
        for (row, expr) in rows.iter_mut().zip(exprs) {
            row.push(expr);
        }
    }
    Ok((Node::Values(rows), columns))
}

/// The parts of a `SELECT` after binding.
struct Bound {
    conditions: Vec<Expr>,
    items: Vec<Item>,
    keys: Vec<Expr>,
    calls: Vec<AggregateCall>,
    having: Option<Expr>,
    order: Vec<SortKey>,
    grouped: bool,
    distinct: bool,
}

fn plan_select(
    planner: &mut Planner<'_>,
    select: &ast::Select,
    order_by: Option<&ast::OrderBy>,
    lock: bool,
) -> Result<(Node, Vec<Column>)> {
    refuse_clauses(select)?;
    let (source, scope) = match select.from.as_slice() {
        [] => (None, Scope::default()),
        [from] => {
            let (source, scope) = planner.source(from)?;
            (Some(source), scope)
        }
        _ => return Err(Error::unsupported("JOIN")),
    };
    let bound = bind_select(planner, select, order_by, &scope)?;
    if lock && (bound.grouped || bound.distinct) {
        let with = if bound.distinct { "DISTINCT" } else { "aggregate functions or GROUP BY" };
        return Err(Error::new(state::FEATURE_NOT_SUPPORTED, format!("FOR UPDATE is not allowed with {with}")));
    }
    if lock && matches!(source, Some(Source::System(_))) {
        let message = "FOR UPDATE is not allowed with a table of the system";
        return Err(Error::new(state::FEATURE_NOT_SUPPORTED, message));
    }
    let columns = projection::columns(&bound.items);
    Ok((build(planner, source, &scope, bound, lock)?, columns))
}

fn refuse_clauses(select: &ast::Select) -> Result<()> {
    if select.into.is_some() {
        return Err(Error::unsupported("SELECT INTO"));
    }
    if !select.named_window.is_empty() || select.qualify.is_some() {
        return Err(Error::unsupported("a window function"));
    }
    let foreign = select.top.is_some()
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.value_table_mode.is_some()
        || select.select_modifiers.as_ref().is_some_and(ast::SelectModifiers::is_any_set)
        || select.flavor != ast::SelectFlavor::Standard;
    if foreign { Err(Error::unsupported("this form of SELECT")) } else { Ok(()) }
}

fn bind_select(
    planner: &mut Planner<'_>,
    select: &ast::Select,
    order_by: Option<&ast::OrderBy>,
    scope: &Scope,
) -> Result<Bound> {
    let aggregates = Aggregates::Refused("WHERE");
    let mut binder = Binder::new(scope, &mut planner.parameters, planner.locator, planner.limits, aggregates);
    let selection = select.selection.as_ref().map(|s| binder.bind_condition(s, "WHERE")).transpose()?;
    binder.aggregates = Aggregates::Collected(Vec::new());
    let items = projection::bind(&mut binder, &select.projection)?;
    let keys = grouping::bind_keys(&mut binder, &select.group_by, &items)?;
    let having = select.having.as_ref().map(|h| binder.bind_condition(h, "HAVING")).transpose()?;
    let distinct = match &select.distinct {
        None | Some(ast::Distinct::All) => false,
        Some(ast::Distinct::Distinct) => true,
        Some(ast::Distinct::On(_)) => return Err(Error::unsupported("DISTINCT ON")),
    };
    let order = bind_order(&mut binder, order_by, &items)?;
    let calls = match binder.aggregates {
        Aggregates::Collected(calls) => calls,
        Aggregates::Refused(_) => Vec::new(),
    };
    let grouped = !keys.is_empty() || !calls.is_empty() || having.is_some();
    let conditions = selection.map_or_else(Vec::new, Expr::conjuncts);
    Ok(Bound { conditions, items, keys, calls, having, order, grouped, distinct })
}

/// Binds `ORDER BY`: names and places of the select list, then expressions over the input.
fn bind_order(binder: &mut Binder<'_>, order_by: Option<&ast::OrderBy>, items: &[Item]) -> Result<Vec<SortKey>> {
    let Some(order_by) = order_by else { return Ok(Vec::new()) };
    let exprs = match &order_by.kind {
        ast::OrderByKind::Expressions(exprs) if order_by.interpolate.is_none() => exprs,
        _ => return Err(Error::unsupported("this form of ORDER BY")),
    };
    let mut keys = Vec::with_capacity(exprs.len());
    for key in exprs {
        let descending = match &key.options.sort {
            None | Some(ast::OrderBySort::Asc) => false,
            Some(ast::OrderBySort::Desc) => true,
            Some(_) => return Err(Error::unsupported("ORDER BY USING")),
        };
        let named = match &key.expr {
            ast::Expr::Identifier(name) => items.iter().find(|i| i.name == normalize(name)),
            _ => None,
        };
        let expr = match (grouping::place_of(&key.expr), named) {
            (Some(place), _) => grouping::item_at(place, items, "ORDER BY")?.typed.expr.clone(),
            (None, Some(item)) => item.typed.expr.clone(),
            (None, None) => {
                let typed = binder.bind(&key.expr)?;
                binder.settle(typed)?.expr
            }
        };
        let nulls_first = key.options.nulls_first.unwrap_or(descending);
        keys.push(SortKey { expr, descending, nulls_first });
    }
    Ok(keys)
}

fn build(planner: &Planner<'_>, source: Option<Source>, scope: &Scope, bound: Bound, lock: bool) -> Result<Node> {
    let Bound { conditions, mut items, keys, calls, having, mut order, grouped, distinct } = bound;
    let sorted_by_access = !grouped && !distinct;
    let mut node = match &source {
        Some(Source::Table(table)) => {
            let access = access::plan(table, conditions, planner.limits);
            let reverse = if sorted_by_access { access.provides(&order) } else { None };
            if reverse.is_some() {
                order.clear();
            }
            let lock_after = lock && !access.is_points();
            let residual = if lock_after { Expr::all_of(access.residual.clone()) } else { None };
            let leaf = access.into_node(lock, reverse.unwrap_or(false));
            let sorted = if sorted_by_access { sort(leaf, std::mem::take(&mut order)) } else { leaf };
            if lock_after {
                Node::Lock { input: Box::new(sorted), table: table.clone(), predicate: residual }
            } else {
                sorted
            }
        }
        Some(Source::System(system)) => {
            let found = filter(Node::System(*system), conditions);
            if sorted_by_access { sort(found, std::mem::take(&mut order)) } else { found }
        }
        None => filter(Node::Values(vec![Vec::new()]), conditions),
    };
    if grouped {
        for item in &mut items {
            let expr = std::mem::replace(&mut item.typed.expr, Expr::TRUE);
            item.typed.expr = grouping::over_groups(expr, &keys, scope, item.typed.position)?;
        }
        for key in &mut order {
            key.expr = grouping::over_groups(std::mem::replace(&mut key.expr, Expr::TRUE), &keys, scope, None)?;
        }
        let having = having.map(|h| grouping::over_groups(h, &keys, scope, None)).transpose()?;
        node = Node::Aggregate { input: Box::new(node), keys, calls };
        if let Some(predicate) = having {
            node = Node::Filter { input: Box::new(node), predicate };
        }
    }
    let exprs: Vec<Expr> = items.into_iter().map(|i| i.typed.expr).collect();
    if !distinct {
        let sorted = sort(node, order);
        return Ok(Node::Project { input: Box::new(sorted), exprs });
    }
    let order = over_output(order, &exprs)?;
    let projected = Node::Project { input: Box::new(node), exprs };
    Ok(sort(Node::Distinct { input: Box::new(projected) }, order))
}

fn filter(input: Node, conditions: Vec<Expr>) -> Node {
    match Expr::all_of(conditions) {
        Some(predicate) => Node::Filter { input: Box::new(input), predicate },
        None => input,
    }
}

fn sort(input: Node, keys: Vec<SortKey>) -> Node {
    if keys.is_empty() { input } else { Node::Sort { input: Box::new(input), keys } }
}

/// After `DISTINCT` only what is in the select list can be sorted by.
fn over_output(order: Vec<SortKey>, exprs: &[Expr]) -> Result<Vec<SortKey>> {
    let place = |key: SortKey| match exprs.iter().position(|e| *e == key.expr) {
        Some(index) => Ok(SortKey { expr: Expr::Column(index), ..key }),
        None => Err(Error::new(
            state::INVALID_COLUMN_REFERENCE,
            "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
        )),
    };
    order.into_iter().map(place).collect()
}
