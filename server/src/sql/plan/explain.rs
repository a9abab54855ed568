//! Plans as text, for `EXPLAIN`: one operator a line, its input indented below it.

use std::fmt::Write;

use super::super::expr::{Expr, show};
use super::super::schema::Table;
use super::{Bounds, Node, Plan, SortKey};

/// The lines of a plan.
pub fn lines(plan: &Plan) -> Vec<String> {
    let mut out = Vec::new();
    match plan {
        Plan::Query(node) => add(node, 0, &mut out),
        Plan::Insert(insert) => {
            let conflicts = if insert.skip_conflicts { " (skip conflicts)" } else { "" };
            out.push(format!("Insert {}{conflicts}", insert.table.name()));
            add(&insert.source, 1, &mut out);
        }
        Plan::Update(update) => {
            let names = table_columns(&update.table);
            let set =
                |(ordinal, expr): &(usize, Expr)| format!("{} = {}", names[*ordinal], show::expression(expr, &names));
            let sets: Vec<String> = update.assignments.iter().map(set).collect();
            let moving = if update.changes_key() { " (moves rows)" } else { "" };
            out.push(format!("Update {}{moving}: {}", update.table.name(), sets.join(", ")));
            add(&update.source, 1, &mut out);
        }
        Plan::Delete(delete) => {
            out.push(format!("Delete {}", delete.table.name()));
            add(&delete.source, 1, &mut out);
        }
        other => out.push(other.tag().to_string()),
    }
    out
}

fn add(node: &Node, depth: usize, out: &mut Vec<String>) {
    let (text, input) = describe(node);
    out.push(format!("{}{text}", "  ".repeat(depth)));
    if let Some(input) = input {
        add(input, depth + 1, out);
    }
}

fn describe(node: &Node) -> (String, Option<&Node>) {
    match node {
        Node::Values(rows) => (format!("Values: {} rows", rows.len()), None),
        Node::Points { table, keys, lock, reverse } => (points(table, keys, *lock, *reverse), None),
        Node::Scan { table, bounds, reverse } => (scan(table, bounds, *reverse), None),
        Node::System(table) => (format!("System {}", table.name()), None),
        Node::Filter { input, predicate } => {
            (format!("Filter: {}", show::expression(predicate, &columns(input))), Some(input))
        }
        Node::Lock { input, table, .. } => (format!("Lock {}", table.name()), Some(input)),
        Node::Project { input, exprs } => (format!("Project: {}", list(exprs, &columns(input))), Some(input)),
        Node::Aggregate { input, keys, calls } => {
            let names = columns(input);
            let calls: Vec<String> = calls.iter().map(|c| show::aggregate(c, &names)).collect();
            let by = if keys.is_empty() { String::new() } else { format!(" by {}", list(keys, &names)) };
            (format!("Aggregate{by}: {}", calls.join(", ")), Some(input))
        }
        Node::Sort { input, keys } => (format!("Sort: {}", order(keys, &columns(input))), Some(input)),
        Node::Distinct { input } => ("Distinct".to_string(), Some(input)),
        Node::Limit { input, limit, offset } => {
            let mut text = "Limit:".to_string();
            if let Some(limit) = limit {
                let _ = write!(text, " {}", show::expression(limit, &[]));
            }
            if let Some(offset) = offset {
                let _ = write!(text, " offset {}", show::expression(offset, &[]));
            }
            (text, Some(input))
        }
    }
}

fn list(exprs: &[Expr], names: &[String]) -> String {
    let texts: Vec<String> = exprs.iter().map(|e| show::expression(e, names)).collect();
    texts.join(", ")
}

fn order(keys: &[SortKey], names: &[String]) -> String {
    let key = |k: &SortKey| {
        let direction = if k.descending { " DESC" } else { "" };
        let nulls = match (k.nulls_first, k.descending) {
            (true, false) => " NULLS FIRST",
            (false, true) => " NULLS LAST",
            _ => "",
        };
        format!("{}{direction}{nulls}", show::expression(&k.expr, names))
    };
    keys.iter().map(key).collect::<Vec<_>>().join(", ")
}

fn table_columns(table: &Table) -> Vec<String> {
    table.columns().iter().map(|c| c.name.clone()).collect()
}

/// What the columns of an operator's rows are called.
fn columns(node: &Node) -> Vec<String> {
    match node {
        Node::Values(rows) => (1..=rows.first().map_or(0, Vec::len)).map(|i| format!("column{i}")).collect(),
        Node::Points { table, .. } | Node::Scan { table, .. } => table_columns(table),
        Node::System(table) => table.columns().into_iter().map(|column| column.name).collect(),
        Node::Filter { input, .. }
        | Node::Lock { input, .. }
        | Node::Sort { input, .. }
        | Node::Distinct { input }
        | Node::Limit { input, .. } => columns(input),
        Node::Project { input, exprs } => {
            let names = columns(input);
            exprs.iter().map(|e| show::expression(e, &names)).collect()
        }
        Node::Aggregate { input, keys, calls } => {
            let names = columns(input);
            let keys = keys.iter().map(|k| show::expression(k, &names));
            keys.chain(calls.iter().map(|c| show::aggregate(c, &names))).collect()
        }
    }
}

fn points(table: &Table, keys: &[Vec<Expr>], lock: bool, reverse: bool) -> String {
    let names = table_columns(table);
    let columns = table.key_ordinals().iter().zip(keys);
    let condition = |(&ordinal, values): (&usize, &Vec<Expr>)| match values.as_slice() {
        [value] => format!("{} = {}", names[ordinal], show::expression(value, &[])),
        values => format!("{} IN ({})", names[ordinal], list(values, &[])),
    };
    let conditions: Vec<String> = columns.map(condition).collect();
    let lock = if lock { ", lock" } else { "" };
    let reverse = if reverse { ", reverse" } else { "" };
    format!("PointLookup {} [{}]{lock}{reverse}", table.name(), conditions.join(", "))
}

fn scan(table: &Table, bounds: &Bounds, reverse: bool) -> String {
    let names = table_columns(table);
    let name = |place: usize| table.key_ordinals().get(place).map_or("?", |&o| names[o].as_str());
    let value = |e: &Expr| show::expression(e, &[]);
    let mut parts: Vec<String> =
        bounds.prefix.iter().enumerate().map(|(i, e)| format!("{} = {}", name(i), value(e))).collect();
    let next = name(bounds.prefix.len());
    if let Some((low, inside)) = &bounds.low {
        parts.push(format!("{next} {} {}", if *inside { ">=" } else { ">" }, value(low)));
    }
    if let Some((high, inside)) = &bounds.high {
        parts.push(format!("{next} {} {}", if *inside { "<=" } else { "<" }, value(high)));
    }
    let bounds = if parts.is_empty() { "all".to_string() } else { parts.join(", ") };
    let reverse = if reverse { ", reverse" } else { "" };
    format!("Scan {} [{bounds}]{reverse}", table.name())
}
