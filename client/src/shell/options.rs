//! What the shell is told when it starts, and what it tells when it ends.

use std::fmt;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Table,
    Csv,
    Tsv,
    Json,
    Vertical,
}

impl Format {
    pub const ALL: [Format; 5] = [Format::Table, Format::Csv, Format::Tsv, Format::Json, Format::Vertical];

    pub fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Json => "json",
            Format::Vertical => "vertical",
        }
    }

    /// Whether it is meant for people, who want footers and command tags, or for programs, which want only data.
    pub(super) fn is_for_people(self) -> bool {
        matches!(self, Format::Table | Format::Vertical)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let known = Format::ALL.into_iter().find(|format| format.name() == text);
        known.ok_or_else(|| {
            let names: Vec<_> = Format::ALL.iter().map(|f| f.name()).collect();
            format!("{text:?} is not a format: expected {}", names.join(", "))
        })
    }
}

/// What the shell is to do.
#[derive(Clone, Debug)]
pub struct ShellOptions {
    /// `host:port` of some nodes, separated by commas.
    pub addresses: String,
    pub user: String,
    pub database: String,
    /// Statements to run, before the files.
    pub execute: Vec<String>,
    /// Files to run.
    pub files: Vec<PathBuf>,
    /// The format of results; a table by default.
    pub format: Option<Format>,
    /// Print each statement before running it.
    pub echo: bool,
}

impl ShellOptions {
    /// The defaults, for some nodes.
    pub fn new(addresses: impl Into<String>) -> ShellOptions {
        ShellOptions {
            addresses: addresses.into(),
            user: "meridian".into(),
            database: "meridian".into(),
            execute: Vec::new(),
            files: Vec::new(),
            format: None,
            echo: false,
        }
    }

    /// Whether a person is to be asked for input.
    pub(super) fn is_interactive(&self) -> bool {
        self.execute.is_empty() && self.files.is_empty() && std::io::stdin().is_terminal()
    }
}

/// How the shell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Success,
    /// A statement, a command or the output failed.
    Failed,
    /// No node could be reached.
    Unreachable,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Unreachable => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
