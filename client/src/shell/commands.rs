//! Backslash commands.

use std::path::PathBuf;

use super::options::Format;

/// What a line that begins with a backslash asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run a statement in the user's name: `\d`, `\dt`, `\l`.
    Statement(String),
    /// Show timings, or not; `None` turns it over.
    Timing(Option<bool>),
    /// Print vertically, or not; `None` turns it over.
    Vertical(Option<bool>),
    /// Choose a format; `None` tells the present one.
    Format(Option<Format>),
    /// Run a file.
    Include(PathBuf),
    Help,
    Quit,
}

pub const HELP: &str = "\
\\d            list tables
\\d TABLE      list the columns of a table
\\dt           list tables
\\l            list databases
\\timing [on|off]     show how long each statement took
\\x [on|off]          show results vertically
\\format [FORMAT]     table, csv, tsv, json or vertical
\\i FILE       run the statements of a file
\\?            this help
\\q            leave

A statement ends with a semicolon and may take several lines. Ctrl-C drops the
input, or cancels the running statement. Ctrl-D leaves.
";

/// Every command, for completion.
pub const NAMES: [&str; 9] = ["\\d", "\\dt", "\\l", "\\timing", "\\x", "\\format", "\\i", "\\?", "\\q"];

/// Reads a line that begins with a backslash.
///
/// # Errors
/// When it is no command, or its argument makes no sense; in words.
pub fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = Some(argument.trim()).filter(|a| !a.is_empty());
    match (name, argument) {
        ("\\d" | "\\dt", None) => Ok(Command::Statement("SHOW TABLES".into())),
        ("\\d", Some(table)) => Ok(Command::Statement(format!("SHOW COLUMNS FROM {table}"))),
        ("\\l", None) => Ok(Command::Statement("SHOW DATABASES".into())),
        ("\\timing", _) => on_or_off(argument).map(Command::Timing),
        ("\\x", _) => on_or_off(argument).map(Command::Vertical),
        ("\\format", None) => Ok(Command::Format(None)),
        ("\\format", Some(format)) => format.parse().map(|f| Command::Format(Some(f))),
        ("\\i", Some(path)) => Ok(Command::Include(PathBuf::from(path.trim_matches('\'')))),
        ("\\i", None) => Err("\\i needs the name of a file".into()),
        ("\\?" | "\\h" | "\\help", None) => Ok(Command::Help),
        ("\\q", None) => Ok(Command::Quit),
        _ if NAMES.contains(&name) => Err(format!("{name} takes no argument")),
        _ => Err(format!("{name} is not a command; \\? lists them")),
    }
}

fn on_or_off(argument: Option<&str>) -> Result<Option<bool>, String> {
    match argument {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(other) => Err(format!("expected on or off, got {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood_as_psql_users_type_them() {
        assert_eq!(parse("\\d accounts;").unwrap(), Command::Statement("SHOW COLUMNS FROM accounts".into()));
        assert_eq!(parse("\\dt").unwrap(), Command::Statement("SHOW TABLES".into()));
        assert_eq!(parse("\\timing").unwrap(), Command::Timing(None));
        assert_eq!(parse("\\x on").unwrap(), Command::Vertical(Some(true)));
        assert_eq!(parse("\\format json").unwrap(), Command::Format(Some(Format::Json)));
        assert_eq!(parse("\\i 'a file.sql'").unwrap(), Command::Include("a file.sql".into()));
        for wrong in ["\\z", "\\timing maybe", "\\i", "\\format xml", "\\q now"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
