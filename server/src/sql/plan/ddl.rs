//! `CREATE TABLE`, `DROP TABLE`, `TRUNCATE`, `ALTER TABLE ... SPLIT AT`, `... UNSPLIT` and `SHOW RANGE ... FOR ROW`.

use proto::{DataType, PlacementRules};
use sqlparser::ast::{self, ColumnOption, Statement as Sql, TableConstraint};

use super::super::error::{Error, Result, state};
use super::super::expr::Expr;
use super::super::expr::bind::{Aggregates, Binder, Scope, normalize};
use super::super::schema::{Column, Table, TableDescriptor};
use super::super::types::{self, CastContext};
use super::dml::bind_default;
use super::statement::{Planner, table_name};
use super::{PlacementChanges, Plan, Show};

/// The name of the hidden key of a table without a primary key.
const ROW_ID: &str = "rowid";

/// Plans a `CREATE TABLE`. The catalog gives the id.
///
/// # Errors
/// Everything that can be wrong with a definition.
pub fn create_table(planner: &Planner<'_>, create: &ast::CreateTable) -> Result<Plan> {
    refuse_options(create)?;
    let (name, position) = table_name(&create.name, planner.locator)?;
    let mut key_name = format!("{name}_pkey");
    let mut columns = Vec::with_capacity(create.columns.len());
    let mut key: Vec<usize> = Vec::new();
    let several = || {
        let message = format!("multiple primary keys for table \"{name}\" are not allowed");
        Error::new(state::INVALID_TABLE_DEFINITION, message).at(position)
    };
    for (i, definition) in create.columns.iter().enumerate() {
        let id = u32::try_from(i + 1).unwrap_or(u32::MAX);
        let (column, is_key) = column(planner, id, definition)?;
        if columns.iter().any(|c: &Column| c.name == column.name) {
            let message = format!("column \"{}\" specified more than once", column.name);
            let position = planner.locator.position(definition.name.span);
            return Err(Error::new(state::DUPLICATE_COLUMN, message).at(position));
        }
        if is_key && !key.is_empty() {
            return Err(several());
        }
        if is_key {
            key.push(i);
        }
        columns.push(column);
    }
    for constraint in &create.constraints {
        let TableConstraint::PrimaryKey(constraint) = constraint else { return Err(refused(constraint)) };
        if !key.is_empty() {
            return Err(several());
        }
        key = key_columns(planner, constraint, &columns)?;
        if let Some(name) = &constraint.name {
            key_name = normalize(name);
        }
    }
    if columns.len() > planner.limits.columns_max {
        let message = format!("tables can have at most {} columns", planner.limits.columns_max);
        return Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message));
    }
    if key.is_empty() {
        key.push(columns.len());
        columns.push(row_id(&columns));
    }
    for &place in &key {
        columns[place].nullable = false;
    }
    let primary_key = key.iter().map(|&place| columns[place].id).collect();
    let placement = placement(planner, create)?;
    let descriptor =
        TableDescriptor { id: 0, name, version: 1, columns, primary_key, primary_key_name: key_name, placement };
    Ok(Plan::CreateTable { descriptor, if_not_exists: create.if_not_exists })
}

fn refuse_options(create: &ast::CreateTable) -> Result<()> {
    if create.temporary || create.global.is_some() {
        return Err(Error::unsupported("TEMPORARY"));
    }
    if create.unlogged {
        return Err(Error::unsupported("UNLOGGED"));
    }
    if create.query.is_some() || create.like.is_some() || create.clone.is_some() {
        return Err(Error::unsupported("CREATE TABLE from another table"));
    }
    if create.partition_by.is_some() || create.partition_of.is_some() {
        return Err(Error::unsupported("PARTITION").hint("Tables are split into ranges by themselves."));
    }
    if create.inherits.is_some() {
        return Err(Error::unsupported("INHERITS"));
    }
    let foreign = create.or_replace
        || create.external
        || create.transient
        || create.volatile
        || create.primary_key.is_some()
        || create.order_by.is_some()
        || create.on_commit.is_some()
        || create.without_rowid
        || create.strict
        || create.comment.is_some()
        || !matches!(create.table_options, ast::CreateTableOptions::None | ast::CreateTableOptions::With(_));
    if foreign { Err(Error::unsupported("an option of CREATE TABLE")) } else { Ok(()) }
}

/// What `WITH (...)` says.
fn placement(planner: &Planner<'_>, create: &ast::CreateTable) -> Result<Option<PlacementRules>> {
    let ast::CreateTableOptions::With(options) = &create.table_options else { return Ok(None) };
    let mut named = Vec::with_capacity(options.len());
    for option in options {
        match option {
            ast::SqlOption::KeyValue { key, value } => named.push((key.clone(), Some(value.clone()))),
            _ => return Err(Error::unsupported("an option of CREATE TABLE")),
        }
    }
    PlacementChanges::read(&named, planner.locator)?.apply(None)
}

/// A column, and whether it is declared the primary key.
fn column(planner: &Planner<'_>, id: u32, definition: &ast::ColumnDef) -> Result<(Column, bool)> {
    let position = planner.locator.position(definition.name.span);
    let data_type = types::from_ast(&definition.data_type).map_err(|e| e.at(position))?;
    let name = normalize(&definition.name);
    let mut column = Column { id, name, data_type, nullable: true, default: None, hidden: false };
    let mut is_key = false;
    for option in &definition.options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => column.nullable = false,
            ColumnOption::Default(expr) => {
                let text = expr.to_string();
                bind_default(&text, data_type, planner.limits).map_err(|e| {
                    let mut error = e;
                    error.position = position;
                    error
                })?;
                column.default = Some(text);
            }
            ColumnOption::PrimaryKey(_) => is_key = true,
            ColumnOption::Unique(_) => return Err(Error::unsupported("UNIQUE").at(position)),
            ColumnOption::ForeignKey(_) => return Err(Error::unsupported("REFERENCES").at(position)),
            ColumnOption::Check(_) => return Err(Error::unsupported("CHECK").at(position)),
            ColumnOption::Collation(_) => return Err(Error::unsupported("COLLATE").at(position)),
            ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                return Err(Error::unsupported("GENERATED").at(position));
            }
            _ => return Err(Error::unsupported("an option of a column").at(position)),
        }
    }
    Ok((column, is_key))
}

fn refused(constraint: &TableConstraint) -> Error {
    Error::unsupported(match constraint {
        TableConstraint::Unique(_) | TableConstraint::UniqueUsingIndex(_) => "UNIQUE",
        TableConstraint::ForeignKey(_) => "FOREIGN KEY",
        TableConstraint::Check(_) => "CHECK",
        TableConstraint::Exclude(_) => "EXCLUDE",
        _ => "this kind of constraint",
    })
}

fn key_columns(
    planner: &Planner<'_>,
    constraint: &ast::PrimaryKeyConstraint,
    columns: &[Column],
) -> Result<Vec<usize>> {
    let mut key = Vec::with_capacity(constraint.columns.len());
    for part in &constraint.columns {
        let plain = part.operator_class.is_none()
            && part.column.options.sort.is_none()
            && part.column.options.nulls_first.is_none();
        let ast::Expr::Identifier(name) = &part.column.expr else {
            return Err(Error::unsupported("an expression in a primary key"));
        };
        if !plain {
            return Err(Error::unsupported("a sort order in a primary key"));
        }
        let position = planner.locator.position(name.span);
        let wanted = normalize(name);
        let place = columns.iter().position(|c| c.name == wanted).ok_or_else(|| {
            let message = format!("column \"{wanted}\" named in key does not exist");
            Error::new(state::UNDEFINED_COLUMN, message).at(position)
        })?;
        if key.contains(&place) {
            let message = format!("column \"{wanted}\" appears twice in primary key constraint");
            return Err(Error::new(state::DUPLICATE_COLUMN, message).at(position));
        }
        key.push(place);
    }
    Ok(key)
}

/// A hidden random key, which also spreads the rows over the ranges.
fn row_id(columns: &[Column]) -> Column {
    let taken = |name: &str| columns.iter().any(|c| c.name == name);
    let mut name = ROW_ID.to_string();
    let mut suffix = 1;
    while taken(&name) {
        name = format!("{ROW_ID}_{suffix}");
        suffix += 1;
    }
    Column {
        id: u32::try_from(columns.len() + 1).unwrap_or(u32::MAX),
        name,
        data_type: DataType::Uuid,
        nullable: false,
        default: Some("gen_random_uuid()".to_string()),
        hidden: true,
    }
}

/// Plans a `DROP TABLE`.
///
/// # Errors
/// `0A000` for dropping anything else.
pub fn drop_tables(planner: &Planner<'_>, sql: &Sql) -> Result<Plan> {
    let Sql::Drop { object_type, if_exists, names, cascade, temporary, .. } = sql else {
        return Err(Error::unsupported("this kind of DROP"));
    };
    if *object_type != ast::ObjectType::Table || *temporary {
        return Err(Error::unsupported(format!("DROP {object_type}")));
    }
    if *cascade {
        return Err(Error::unsupported("CASCADE").hint("Nothing depends on a table."));
    }
    let names = names.iter().map(|n| Ok(table_name(n, planner.locator)?.0)).collect::<Result<_>>()?;
    Ok(Plan::DropTables { names, if_exists: *if_exists })
}

/// Plans a `TRUNCATE`.
///
/// # Errors
/// `42P01`, `0A000`.
pub fn truncate(planner: &mut Planner<'_>, truncate: &ast::Truncate) -> Result<Plan> {
    let foreign = truncate.partitions.is_some()
        || truncate.if_exists
        || truncate.identity.is_some()
        || truncate.on_cluster.is_some()
        || truncate.cascade == Some(ast::CascadeOption::Cascade);
    if foreign {
        return Err(Error::unsupported("an option of TRUNCATE"));
    }
    let tables = truncate.table_names.iter().map(|t| planner.table(&t.name)).collect::<Result<_>>()?;
    Ok(Plan::Truncate(tables))
}

/// Plans `ALTER TABLE ... SPLIT AT`: values for the first columns of the primary key.
///
/// # Errors
/// `42601` for too many values; `42804` for values that do not fit.
pub fn split_at(planner: &mut Planner<'_>, name: &ast::ObjectName, rows: &[Vec<ast::Expr>]) -> Result<Plan> {
    let table = planner.table(name)?;
    let rows = rows.iter().map(|row| key_values(planner, &table, row, "SPLIT AT")).collect::<Result<_>>()?;
    Ok(Plan::SplitAt { table, rows })
}

/// Plans `ALTER TABLE ... UNSPLIT`.
///
/// # Errors
/// As [`split_at`].
pub fn unsplit(planner: &mut Planner<'_>, name: &ast::ObjectName, rows: Option<&[Vec<ast::Expr>]>) -> Result<Plan> {
    let table = planner.table(name)?;
    let mut key_of = |row: &Vec<ast::Expr>| key_values(planner, &table, row, "UNSPLIT AT");
    let rows = rows.map(|rows| rows.iter().map(&mut key_of).collect::<Result<_>>()).transpose()?;
    Ok(Plan::Unsplit { table, rows })
}

/// Binds values for the first columns of a table's primary key.
fn key_values(planner: &mut Planner<'_>, table: &Table, row: &[ast::Expr], clause: &'static str) -> Result<Vec<Expr>> {
    let types: Vec<DataType> = table.key_types().collect();
    if row.len() > types.len() {
        let message = format!("{clause} has {} values, but the primary key has {} columns", row.len(), types.len());
        return Err(Error::new(state::SYNTAX_ERROR, message));
    }
    let scope = Scope::default();
    let aggregates = Aggregates::Refused(clause);
    let mut binder = Binder::new(&scope, &mut planner.parameters, planner.locator, planner.limits, aggregates);
    let mut values = Vec::with_capacity(row.len());
    for (expr, to) in row.iter().zip(types) {
        let typed = binder.bind(expr)?;
        values.push(binder.coerce(typed, to, CastContext::Assignment)?.expr);
    }
    Ok(values)
}

/// Plans `SHOW RANGE FROM TABLE ... FOR ROW`: the values of the whole primary key.
///
/// # Errors
/// As [`split_at`]; `42601` for too few values as well.
pub fn range_of_row(planner: &mut Planner<'_>, name: &ast::ObjectName, row: &[ast::Expr]) -> Result<Show> {
    let table = planner.table(name)?;
    let (given, wanted) = (row.len(), table.key_ordinals().len());
    if given < wanted {
        let message = format!("FOR ROW has {given} values, but the primary key has {wanted} columns");
        return Err(Error::new(state::SYNTAX_ERROR, message));
    }
    let values = key_values(planner, &table, row, "FOR ROW")?;
    Ok(Show::RangeOfRow(table, values))
}
