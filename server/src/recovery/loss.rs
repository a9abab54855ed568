//! What a recovery may lose, in words.

use std::sync::Arc;

use minicbor::bytes::ByteVec;
use proto::{Key, Span, Timestamp, codec};

use super::findings::Findings;
use super::scene::{Copy, Scene};
use crate::sql::exec::place::place;
use crate::sql::schema::{Table, TableDescriptor};

/// The tables that survivors know of.
pub fn tables(findings: &[Findings]) -> Vec<Arc<Table>> {
    let decode = |bytes: &ByteVec| codec::decode::<TableDescriptor>("a table descriptor", bytes).ok();
    let mut tables: Vec<Table> = Vec::new();
    for table in findings.iter().flat_map(|found| &found.tables).filter_map(decode) {
        // A damaged descriptor costs a name, and nothing else.
        let Ok(table) = Table::new(table) else { continue };
        match tables.iter_mut().find(|known| known.id() == table.id()) {
            Some(known) if known.version() < table.version() => *known = table,
            Some(_) => {}
            None => tables.push(table),
        }
    }
    tables.into_iter().map(Arc::new).collect()
}

/// Bounds in SQL terms.
pub fn keys(span: &Span, tables: &[Arc<Table>]) -> String {
    let end = |key: &Key| place(key, tables);
    format!("{} .. {}", end(&span.start), end(&span.end))
}

/// The names of the tables that have rows in a span.
pub fn tables_in(span: &Span, tables: &[Arc<Table>]) -> Vec<String> {
    tables.iter().filter(|table| table.span().overlaps(span)).map(|table| table.name().to_string()).collect()
}

/// A moment for people: UTC, to the millisecond.
pub fn moment(timestamp: Timestamp) -> String {
    let micros = i64::try_from(timestamp.micros()).unwrap_or(i64::MAX);
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| timestamp.to_string(), |time| time.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string())
}

/// Up to where a copy goes.
fn reaches(copy: &Copy) -> String {
    let last = copy.found.reach();
    let when = match copy.found.newest {
        Timestamp::ZERO => "nothing in its log tells from when".to_string(),
        newest => format!("its newest write is from {}", moment(newest)),
    };
    format!("entry {} of term {}; {when}", last.index, last.term)
}

/// What to expect of contents that only an entry beyond the log would have made whole.
fn torn(whole_at: u64) -> String {
    format!(
        "Its contents are not of one moment: they were copied to it from another replica while they changed, and entry {whole_at}, which would have mended \
         that, did not come. Of what was written while they were copied, and of transactions that were not finished then, rows may be missing, \
         although they were acknowledged: check all of it."
    )
}

/// What is lost where a copy becomes the range.
pub fn of_rebuilding(scene: &Scene<'_>, copy: &Copy) -> String {
    let mut text = match copy.found.torn {
        Some(whole_at) => format!("{}'s log goes up to {}. {} ", copy.node, reaches(copy), torn(whole_at)),
        None => format!("{} holds everything up to {}. ", copy.node, reaches(copy)),
    };
    if let Some(further) = scene.passed_over(copy) {
        let (node, up_to) = (further.node, reaches(further));
        text += &format!(
            "{node}'s log goes further, up to {up_to}; but its contents are not of one moment, and were not taken. "
        );
    }
    if copy.found.torn.is_some() || scene.may_lack(copy) {
        text += "Whatever others acknowledged after that is lost; nothing tells whether there was anything.";
    } else {
        text += "Nothing that was acknowledged is missing: without it the others were no majority.";
    }
    let unsure = copy.found.reach().index.saturating_sub(copy.found.committed);
    if unsure > 0 {
        text += &format!(
            " The last {unsure} of its entries were not known to be committed; they take effect now, so that what may have been \
             acknowledged is kept."
        );
    }
    text
}

/// What is lost where an older copy of another range fills a gap.
pub fn of_filling(copy: &Copy) -> String {
    let text = format!(
        "These keys had been split off {}, and no replica of what they became survives. They are taken from {}'s older copy, which goes up to \
         {}: whatever was acknowledged after that is lost.",
        copy.found.range(),
        copy.node,
        reaches(copy)
    );
    copy.found.torn.map_or(text.clone(), |whole_at| format!("{text} {}", torn(whole_at)))
}

/// What is lost in any case.
pub fn in_general() -> Vec<String> {
    vec![
        "A transaction over several ranges may be there in some of them and not in others: each range ends where its survivor's log ends. \
         Check what your application keeps in step across rows."
            .into(),
        "Sequences of events that clients have seen may be missing at their end: a client that was told of a commit may not find it.".into(),
    ]
}
