//! What a statement is, and which tables have to be known to plan it.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::DataType;
use sqlparser::ast::{self, Statement as Sql};

use super::super::error::{Error, Result, state};
use super::super::expr::bind::{Parameters, Scope, ScopeColumn, normalize};
use super::super::limits::Limits;
use super::super::parser::{Ast, Extension, Locator, Statement};
use super::super::schema::Table;
use super::super::system::{self, SystemTable};
use super::super::variables::SessionInfo;
use super::{Column, PlacementChanges, Plan, Planned, Show, ddl, dml, explain, select, session};

/// The tables that a statement names, as the catalog knows them.
pub type Tables = BTreeMap<String, Option<Arc<Table>>>;

/// The names of the tables that planning a statement has to know.
///
/// # Errors
/// For names with qualifiers that do not exist.
pub fn tables_of(statement: &Statement) -> Result<Vec<String>> {
    let locator = statement.locator();
    let mut names = Vec::new();
    let mut add = |name: &ast::ObjectName| -> Result<()> {
        names.push(table_name(name, locator)?.0);
        Ok(())
    };
    match statement.ast() {
        Ast::Extension(extension) => {
            if let Some(name) = named_by_extension(extension) {
                add(name)?;
            }
        }
        Ast::Sql(sql) => {
            for name in named_tables(sql) {
                if system_table(name)?.is_none() {
                    add(name)?;
                }
            }
        }
    }
    Ok(names)
}

fn named_by_extension(extension: &Extension) -> Option<&ast::ObjectName> {
    match extension {
        Extension::SplitAt { table, .. }
        | Extension::Unsplit { table, .. }
        | Extension::SetOptions { table, .. }
        | Extension::ShowRange { table, .. }
        | Extension::ShowColumns { table } => Some(table),
        Extension::ShowRanges { table } | Extension::ShowPlacement { table } => table.as_ref(),
        _ => None,
    }
}

/// The table of the system that a name names, if it does.
fn system_table(name: &ast::ObjectName) -> Result<Option<SystemTable>> {
    match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(schema), ast::ObjectNamePart::Identifier(table)]
            if normalize(schema) == system::SCHEMA =>
        {
            SystemTable::named(&normalize(table)).map(Some)
        }
        _ => Ok(None),
    }
}

fn named_tables(sql: &Sql) -> Vec<&ast::ObjectName> {
    match sql {
        Sql::Query(query) => tables_of_query(query),
        Sql::Insert(insert) => {
            let target = match &insert.table {
                ast::TableObject::TableName(name) => Some(name),
                _ => None,
            };
            target.into_iter().chain(insert.source.iter().flat_map(|q| tables_of_query(q))).collect()
        }
        Sql::Update(update) => tables_of_from(std::slice::from_ref(&update.table)),
        Sql::Delete(delete) => match &delete.from {
            ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from) => tables_of_from(from),
        },
        Sql::Truncate(truncate) => truncate.table_names.iter().map(|t| &t.name).collect(),
        Sql::Explain { statement, .. } => named_tables(statement),
        _ => Vec::new(),
    }
}

fn tables_of_query(query: &ast::Query) -> Vec<&ast::ObjectName> {
    match &*query.body {
        ast::SetExpr::Select(select) => tables_of_from(&select.from),
        ast::SetExpr::Query(query) => tables_of_query(query),
        _ => Vec::new(),
    }
}

fn tables_of_from(from: &[ast::TableWithJoins]) -> Vec<&ast::ObjectName> {
    let named = |t: &ast::TableWithJoins| matches!(t.relation, ast::TableFactor::Table { .. });
    from.iter()
        .filter(|t| named(t))
        .filter_map(|t| if let ast::TableFactor::Table { name, .. } = &t.relation { Some(name) } else { None })
        .collect()
}

/// The name of a table and its position.
///
/// # Errors
/// `3F000` for schemas other than `public`, `0A000` for the system's.
pub fn table_name(name: &ast::ObjectName, locator: &Locator) -> Result<(String, Option<usize>)> {
    let mut idents = Vec::new();
    for part in &name.0 {
        match part {
            ast::ObjectNamePart::Identifier(ident) => idents.push(ident),
            ast::ObjectNamePart::Function(_) => return Err(Error::unsupported("a function as a table name")),
        }
    }
    let position = idents.first().and_then(|i| locator.position(i.span));
    let (schema, table) = match idents.as_slice() {
        [table] => (None, table),
        [schema, table] => (Some(normalize(schema)), table),
        _ => return Err(Error::unsupported("a table name with more than a schema").at(position)),
    };
    match schema.as_deref() {
        None | Some(SessionInfo::SCHEMA) => Ok((normalize(table), position)),
        Some("pg_catalog" | "information_schema") => {
            Err(Error::unsupported("the system catalog").hint("Use SHOW TABLES and SHOW COLUMNS FROM.").at(position))
        }
        Some(system::SCHEMA) => {
            let message = format!("\"{}.{}\" lies in the schema of the system", system::SCHEMA, normalize(table));
            let error = Error::new(state::WRONG_OBJECT_TYPE, message);
            Err(error.hint("Its tables can be read with SELECT, and nothing else.").at(position))
        }
        Some(other) => Err(Error::new("3F000", format!("schema \"{other}\" does not exist")).at(position)),
    }
}

/// Makes plans. Holds what is known about the statement.
pub struct Planner<'a> {
    pub tables: &'a Tables,
    pub limits: &'a Limits,
    pub locator: &'a Locator,
    pub parameters: Parameters,
    /// The tables that the plan uses.
    pub used: Vec<Arc<Table>>,
}

impl Planner<'_> {
    /// A table that has to exist.
    ///
    /// # Errors
    /// `42P01`.
    pub fn table(&mut self, name: &ast::ObjectName) -> Result<Arc<Table>> {
        let (name, position) = table_name(name, self.locator)?;
        match self.tables.get(&name) {
            Some(Some(table)) => {
                self.used.push(table.clone());
                Ok(table.clone())
            }
            _ => Err(undefined_table(&name).at(position)),
        }
    }

    /// What a query takes its rows from, with its scope.
    ///
    /// # Errors
    /// As [`Planner::relation`].
    pub fn source(&mut self, from: &ast::TableWithJoins) -> Result<(Source, Scope)> {
        if let ast::TableFactor::Table { name, alias, .. } = &from.relation
            && let Some(system) = system_table(name)?
        {
            let table = system.as_table()?;
            let plain = from.joins.is_empty() && alias.as_ref().is_none_or(|a| a.columns.is_empty());
            if !plain {
                return Err(Error::unsupported("JOIN, or a column alias, of a table of the system"));
            }
            let shown = alias.as_ref().map_or_else(|| table.name().to_string(), |a| normalize(&a.name));
            let scope = scope_of(&table, shown);
            return Ok((Source::System(system), scope));
        }
        let (table, scope) = self.relation(from)?;
        Ok((Source::Table(table), scope))
    }

    /// A table in `FROM`, with its scope.
    ///
    /// # Errors
    /// `42P01`; `0A000` for anything but a plain table.
    pub fn relation(&mut self, from: &ast::TableWithJoins) -> Result<(Arc<Table>, Scope)> {
        if !from.joins.is_empty() {
            return Err(Error::unsupported("JOIN"));
        }
        match &from.relation {
            ast::TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let table = self.table(name)?;
                if alias.as_ref().is_some_and(|a| !a.columns.is_empty() || a.at.is_some()) {
                    return Err(Error::unsupported("a column alias of a table"));
                }
                let shown = alias.as_ref().map_or_else(|| table.name().to_string(), |a| normalize(&a.name));
                let scope = scope_of(&table, shown);
                Ok((table, scope))
            }
            ast::TableFactor::Derived { .. } => Err(Error::unsupported("a subquery")),
            ast::TableFactor::NestedJoin { .. } => Err(Error::unsupported("JOIN")),
            ast::TableFactor::Table { sample: Some(_), .. } => Err(Error::unsupported("TABLESAMPLE")),
            ast::TableFactor::Table { args: Some(_), .. } | ast::TableFactor::Function { .. } => {
                Err(Error::unsupported("a function in FROM"))
            }
            _ => Err(Error::unsupported("this kind of table in FROM")),
        }
    }
}

/// Where a query's rows come from.
#[derive(Clone, Debug)]
pub enum Source {
    Table(Arc<Table>),
    System(SystemTable),
}

/// `42P01`.
pub fn undefined_table(name: &str) -> Error {
    let mut error = Error::new(state::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"));
    error.table = Some(name.to_string());
    error
}

/// The columns of a table under a name.
pub fn scope_of(table: &Table, name: String) -> Scope {
    let columns =
        table.columns().iter().map(|c| ScopeColumn { name: c.name.clone(), data_type: c.data_type, hidden: c.hidden });
    Scope { table: Some(name), columns: columns.collect() }
}

/// Plans a statement.
///
/// # Errors
/// Everything that can be wrong with a statement before it runs.
pub fn plan(statement: &Statement, hints: &[Option<DataType>], tables: &Tables, limits: &Limits) -> Result<Planned> {
    let mut planner =
        Planner { tables, limits, locator: statement.locator(), parameters: Parameters::new(hints), used: Vec::new() };
    let (plan, columns) = match statement.ast() {
        Ast::Sql(sql) => plan_sql(&mut planner, sql)?,
        Ast::Extension(extension) => plan_extension(&mut planner, extension)?,
    };
    Ok(Planned { plan, columns, parameters: planner.parameters.finish()?, tables: planner.used })
}

fn plan_sql(planner: &mut Planner<'_>, sql: &Sql) -> Result<(Plan, Vec<Column>)> {
    match sql {
        Sql::Query(query) => {
            let (node, columns) = select::plan(planner, query)?;
            Ok((Plan::Query(node), columns))
        }
        Sql::Insert(insert) => dml::insert(planner, insert),
        Sql::Update(update) => dml::update(planner, update),
        Sql::Delete(delete) => dml::delete(planner, delete),
        Sql::CreateTable(create) => Ok((ddl::create_table(planner, create)?, Vec::new())),
        Sql::Drop { .. } => Ok((ddl::drop_tables(planner, sql)?, Vec::new())),
        Sql::Truncate(truncate) => Ok((ddl::truncate(planner, truncate)?, Vec::new())),
        Sql::Explain { statement, analyze, query_plan, estimate, options, .. } => {
            if *analyze || *query_plan || *estimate || options.is_some() {
                return Err(Error::unsupported("an option of EXPLAIN"));
            }
            let (plan, _) = plan_sql(planner, statement)?;
            let columns = vec![Column { name: "QUERY PLAN".to_string(), data_type: DataType::Text }];
            Ok((Plan::Explain(explain::lines(&plan)), columns))
        }
        other => session::plan(other),
    }
}

fn plan_extension(planner: &mut Planner<'_>, extension: &Extension) -> Result<(Plan, Vec<Column>)> {
    let show = match extension {
        Extension::SplitAt { table, rows } => return Ok((ddl::split_at(planner, table, rows)?, Vec::new())),
        Extension::Unsplit { table, rows } => {
            return Ok((ddl::unsplit(planner, table, rows.as_deref())?, Vec::new()));
        }
        Extension::Abort => return Ok((Plan::Rollback, Vec::new())),
        Extension::ShowRanges { table } => Show::Ranges(table.as_ref().map(|t| planner.table(t)).transpose()?),
        Extension::SetOptions { table, options } => {
            let changes = PlacementChanges::read(options, planner.locator)?;
            return Ok((Plan::Place { table: planner.table(table)?, changes }, Vec::new()));
        }
        Extension::ShowRange { table, row } => ddl::range_of_row(planner, table, row)?,
        Extension::ShowPlacement { table } => Show::Placement(table.as_ref().map(|t| planner.table(t)).transpose()?),
        Extension::ShowJobs { limit } => Show::Jobs(*limit),
        Extension::ShowRefusals => Show::Refusals,
        Extension::ShowColumns { table } => Show::Columns(planner.table(table)?),
        Extension::ShowClock => Show::Clock,
        Extension::ShowRetries => Show::Retries,
        Extension::ShowNodes => Show::Nodes,
        Extension::ShowDatabases => Show::Databases,
        Extension::ShowTables => Show::Tables,
        Extension::ShowTransactionId => Show::TransactionId,
        Extension::ShowTransaction { id } => Show::Transaction(session::transaction_address(id)?),
    };
    let columns = show.columns();
    Ok((Plan::Show(show), columns))
}
