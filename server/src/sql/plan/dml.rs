//! `INSERT`, `UPDATE` and `DELETE`.

use std::sync::Arc;

use proto::{DataType, Datum};
use sqlparser::ast;

use super::super::error::{Error, Result, similar, state};
use super::super::expr::Expr;
use super::super::expr::bind::{Aggregates, Binder, Parameters, Scope, Typed, normalize};
use super::super::limits::Limits;
use super::super::parser::{self, Locator};
use super::super::schema::Table;
use super::super::types::{self, CastContext};
use super::statement::{Planner, scope_of};
use super::{Column, Delete, Insert, Node, Plan, Update, access, projection, select};

/// Plans an `INSERT`.
///
/// # Errors
/// Everything that can be wrong with it.
pub fn insert(planner: &mut Planner<'_>, insert: &ast::Insert) -> Result<(Plan, Vec<Column>)> {
    refuse_insert(insert)?;
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(Error::unsupported("INSERT into something that is no table"));
    };
    let table = planner.table(name)?;
    let targets = targets(planner.locator, &table, &insert.columns)?;
    let named = !insert.columns.is_empty();
    let source = match &insert.source {
        None => Node::Values(vec![default_row(planner.limits, &table, &[])?]),
        Some(query) => match &*query.body {
            ast::SetExpr::Values(values) if query.order_by.is_none() && query.limit_clause.is_none() => {
                insert_values(planner, &table, &targets, named, values)?
            }
            _ => insert_query(planner, &table, &targets, named, query)?,
        },
    };
    let shown = insert.table_alias.as_ref().map_or_else(|| table.name().to_string(), |a| normalize(&a.alias));
    let scope = scope_of(&table, shown);
    let aggregates = Aggregates::Refused("RETURNING");
    let mut binder = Binder::new(&scope, &mut planner.parameters, planner.locator, planner.limits, aggregates);
    let (returning, columns) = projection::returning(&mut binder, insert.returning.as_deref())?;
    let skip_conflicts = on_conflict(insert.on.as_ref(), &table)?;
    Ok((Plan::Insert(Insert { table, source, skip_conflicts, returning }), columns))
}

fn refuse_insert(insert: &ast::Insert) -> Result<()> {
    let foreign = insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || !insert.assignments.is_empty()
        || insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || insert.output.is_some()
        || insert.replace_into
        || insert.priority.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some();
    if foreign { Err(Error::unsupported("this form of INSERT")) } else { Ok(()) }
}

/// Whether conflicting rows are skipped.
fn on_conflict(on: Option<&ast::OnInsert>, table: &Table) -> Result<bool> {
    match on {
        None => Ok(false),
        Some(ast::OnInsert::OnConflict(ast::OnConflict {
            conflict_target,
            action: ast::OnConflictAction::DoNothing,
        })) => {
            let fits = match conflict_target {
                None => true,
                Some(ast::ConflictTarget::Columns(names)) => {
                    let key = table.key_ordinals();
                    names.len() == key.len()
                        && names.iter().all(|n| table.ordinal(&normalize(n)).is_some_and(|o| key.contains(&o)))
                }
                Some(ast::ConflictTarget::OnConstraint(name)) => {
                    name.to_string() == table.descriptor().primary_key_name
                }
            };
            if fits {
                return Ok(true);
            }
            let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
            Err(Error::new(state::INVALID_COLUMN_REFERENCE, message))
        }
        Some(_) => Err(Error::unsupported("ON CONFLICT DO UPDATE")),
    }
}

/// The places of the columns that values are given for.
fn targets(locator: &Locator, table: &Table, names: &[ast::ObjectName]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..table.columns().len()).filter(|&i| !table.columns()[i].hidden).collect());
    }
    let mut out = Vec::with_capacity(names.len());
    for name in names {
        let [ast::ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
            return Err(Error::unsupported("a qualified column name here"));
        };
        let ordinal = target(locator, table, name)?;
        if out.contains(&ordinal) {
            let message = format!("column \"{}\" specified more than once", normalize(name));
            return Err(Error::new(state::DUPLICATE_COLUMN, message).at(locator.position(name.span)));
        }
        out.push(ordinal);
    }
    Ok(out)
}

fn target(locator: &Locator, table: &Table, name: &ast::Ident) -> Result<usize> {
    let wanted = normalize(name);
    table.ordinal(&wanted).ok_or_else(|| {
        let message = format!("column \"{wanted}\" of relation \"{}\" does not exist", table.name());
        let error = Error::new(state::UNDEFINED_COLUMN, message).at(locator.position(name.span));
        match similar(&wanted, table.columns().iter().map(|c| c.name.as_str())) {
            Some(known) => error.hint(format!("Perhaps you meant \"{known}\".")),
            None => error,
        }
    })
}

/// What an omitted column gets.
fn default_of(limits: &Limits, table: &Table, ordinal: usize) -> Result<Expr> {
    let column = &table.columns()[ordinal];
    match &column.default {
        None => Ok(Expr::Const(Datum::Null)),
        Some(text) => bind_default(text, column.data_type, limits),
    }
}

/// Binds the expression of a `DEFAULT`.
///
/// # Errors
/// As binding does; `42804` when it does not fit the column.
pub fn bind_default(text: &str, to: DataType, limits: &Limits) -> Result<Expr> {
    let expr = parser::parse_expression(text, limits)?;
    let (scope, locator) = (Scope::default(), Locator::default());
    let mut parameters = Parameters::default();
    let aggregates = Aggregates::Refused("DEFAULT expressions");
    let mut binder = Binder::new(&scope, &mut parameters, &locator, limits, aggregates);
    let typed = binder.bind(&expr)?;
    let from = typed.data_type;
    if types::cast_context(from, to).is_none_or(|weakest| weakest > CastContext::Assignment) {
        let message = format!("column is of type {} but default expression is of type {}", to.name(), from.name());
        return Err(
            Error::new(state::DATATYPE_MISMATCH, message).hint("You will need to rewrite or cast the expression.")
        );
    }
    let bound = binder.coerce(typed, to, CastContext::Assignment)?.expr;
    if !parameters.finish()?.is_empty() {
        return Err(Error::new(state::UNDEFINED_PARAMETER, "there are no parameters in DEFAULT expressions"));
    }
    Ok(bound)
}

/// A row of defaults for all columns but those that values are given for, which are left NULL.
fn default_row(limits: &Limits, table: &Table, given: &[usize]) -> Result<Vec<Expr>> {
    let value = |i| if given.contains(&i) { Ok(Expr::Const(Datum::Null)) } else { default_of(limits, table, i) };
    (0..table.columns().len()).map(value).collect()
}

fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(name)
        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"))
}

/// Brings a value to a column's type.
fn assign(binder: &mut Binder<'_>, typed: Typed, column: &super::super::schema::Column) -> Result<Expr> {
    let (from, to) = (typed.data_type, column.data_type);
    if types::cast_context(from, to).is_none_or(|weakest| weakest > CastContext::Assignment) {
        let message =
            format!("column \"{}\" is of type {} but expression is of type {}", column.name, to.name(), from.name());
        return Err(Error::new(state::DATATYPE_MISMATCH, message)
            .hint("You will need to rewrite or cast the expression.")
            .at(typed.position));
    }
    Ok(binder.coerce(typed, to, CastContext::Assignment)?.expr)
}

fn count_mismatch(values: usize, targets: usize) -> Error {
    let message = if values > targets {
        "INSERT has more expressions than target columns"
    } else {
        "INSERT has more target columns than expressions"
    };
    Error::new(state::SYNTAX_ERROR, message)
}

fn insert_values(
    planner: &mut Planner<'_>,
    table: &Table,
    targets: &[usize],
    named: bool,
    values: &ast::Values,
) -> Result<Node> {
    let template = default_row(planner.limits, table, targets)?;
    let scope = Scope::default();
    let aggregates = Aggregates::Refused("VALUES");
    let mut binder = Binder::new(&scope, &mut planner.parameters, planner.locator, planner.limits, aggregates);
    let mut rows = Vec::with_capacity(values.rows.len());
    // As in PostgreSQL values for all columns may stop early, and the rest gets defaults; named ones may not.
    let width = values.rows.first().map_or(0, |r| r.len());
    for row in &values.rows {
        if row.len() != width {
            return Err(Error::new(state::SYNTAX_ERROR, "VALUES lists must all be the same length"));
        }
        if row.len() > targets.len() || (named && row.len() < targets.len()) {
            return Err(count_mismatch(row.len(), targets.len()));
        }
        let mut full = template.clone();
        for (i, &ordinal) in targets.iter().enumerate() {
            full[ordinal] = match row.get(i) {
                Some(expr) if !is_default(expr) => {
                    let typed = binder.bind(expr)?;
                    assign(&mut binder, typed, &table.columns()[ordinal])?
                }
                _ => default_of(binder.limits, table, ordinal)?,
            };
        }
        rows.push(full);
    }
    Ok(Node::Values(rows))
}

fn insert_query(
    planner: &mut Planner<'_>,
    table: &Table,
    targets: &[usize],
    named: bool,
    query: &ast::Query,
) -> Result<Node> {
    let (input, columns) = select::plan(planner, query)?;
    if columns.len() > targets.len() || (named && columns.len() < targets.len()) {
        return Err(count_mismatch(columns.len(), targets.len()));
    }
    let targets = &targets[..columns.len()];
    let mut exprs = default_row(planner.limits, table, targets)?;
    let scope = Scope::default();
    let aggregates = Aggregates::Refused("INSERT");
    let mut binder = Binder::new(&scope, &mut planner.parameters, planner.locator, planner.limits, aggregates);
    for (i, (&ordinal, column)) in targets.iter().zip(&columns).enumerate() {
        let typed = Typed { expr: Expr::Column(i), data_type: column.data_type, position: None };
        exprs[ordinal] = assign(&mut binder, typed, &table.columns()[ordinal])?;
    }
    Ok(Node::Project { input: Box::new(input), exprs })
}

/// The rows that `UPDATE` and `DELETE` work on, locked.
fn locked_source(planner: &Planner<'_>, table: &Arc<Table>, condition: Option<Expr>) -> Node {
    let access = access::plan(table, condition.map_or_else(Vec::new, Expr::conjuncts), planner.limits);
    if access.is_points() {
        return access.into_node(true, false);
    }
    let predicate = Expr::all_of(access.residual.clone());
    Node::Lock { input: Box::new(access.into_node(false, false)), table: table.clone(), predicate }
}

/// Plans an `UPDATE`.
///
/// # Errors
/// Everything that can be wrong with it.
pub fn update(planner: &mut Planner<'_>, update: &ast::Update) -> Result<(Plan, Vec<Column>)> {
    if update.from.is_some() {
        return Err(Error::unsupported("UPDATE ... FROM"));
    }
    if update.or.is_some() || update.output.is_some() || !update.order_by.is_empty() || update.limit.is_some() {
        return Err(Error::unsupported("this form of UPDATE"));
    }
    let (table, scope) = planner.relation(&update.table)?;
    let locator = planner.locator;
    let aggregates = Aggregates::Refused("UPDATE");
    let mut binder = Binder::new(&scope, &mut planner.parameters, locator, planner.limits, aggregates);
    let mut assignments: Vec<(usize, Expr)> = Vec::with_capacity(update.assignments.len());
    for assignment in &update.assignments {
        let ast::AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(Error::unsupported("assignment to several columns at once"));
        };
        let [ast::ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
            return Err(Error::unsupported("a qualified column name here"));
        };
        let ordinal = target(locator, &table, name)?;
        if assignments.iter().any(|(other, _)| *other == ordinal) {
            let message = format!("multiple assignments to same column \"{}\"", normalize(name));
            return Err(Error::new(state::SYNTAX_ERROR, message).at(locator.position(name.span)));
        }
        let value = if is_default(&assignment.value) {
            default_of(binder.limits, &table, ordinal)?
        } else {
            let typed = binder.bind(&assignment.value)?;
            assign(&mut binder, typed, &table.columns()[ordinal])?
        };
        assignments.push((ordinal, value));
    }
    binder.aggregates = Aggregates::Refused("WHERE");
    let condition = update.selection.as_ref().map(|s| binder.bind_condition(s, "WHERE")).transpose()?;
    binder.aggregates = Aggregates::Refused("RETURNING");
    let (returning, columns) = projection::returning(&mut binder, update.returning.as_deref())?;
    let source = locked_source(planner, &table, condition);
    Ok((Plan::Update(Update { table, source, assignments, returning }), columns))
}

/// Plans a `DELETE`.
///
/// # Errors
/// Everything that can be wrong with it.
pub fn delete(planner: &mut Planner<'_>, delete: &ast::Delete) -> Result<(Plan, Vec<Column>)> {
    if delete.using.is_some() {
        return Err(Error::unsupported("DELETE ... USING"));
    }
    let ast::FromTable::WithFromKeyword(from) = &delete.from else {
        return Err(Error::new(state::SYNTAX_ERROR, "DELETE needs FROM"));
    };
    let foreign =
        !delete.tables.is_empty() || delete.output.is_some() || !delete.order_by.is_empty() || delete.limit.is_some();
    let [from] = from.as_slice() else { return Err(Error::unsupported("DELETE from several tables")) };
    if foreign {
        return Err(Error::unsupported("this form of DELETE"));
    }
    let (table, scope) = planner.relation(from)?;
    let aggregates = Aggregates::Refused("WHERE");
    let mut binder = Binder::new(&scope, &mut planner.parameters, planner.locator, planner.limits, aggregates);
    let condition = delete.selection.as_ref().map(|s| binder.bind_condition(s, "WHERE")).transpose()?;
    binder.aggregates = Aggregates::Refused("RETURNING");
    let (returning, columns) = projection::returning(&mut binder, delete.returning.as_deref())?;
    let source = locked_source(planner, &table, condition);
    Ok((Plan::Delete(Delete { table, source, returning }), columns))
}
