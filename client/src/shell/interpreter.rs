//! Turns lines into statements and commands, and carries them out.

use std::io::{self, Write};
use std::time::Instant;

use super::commands::{self, Command};
use super::connection::Connection;
use super::options::Format;
use super::output::{Settings, printer};
use super::scan::scan;
use super::source::Lines;
use crate::driver::{Error, Notice, Result as DriverResult, Session, TransactionStatus};

/// Files that include files that include files...
const INCLUDE_DEPTH_MAX: usize = 16;

/// The longest statement.
const STATEMENT_BYTES_MAX: usize = 64 << 20;

/// Why the interpreter did not go on.
pub enum Stop {
    /// A statement failed.
    Statement { error: Error, sql: String, place: Option<String>, lost: Option<&'static str> },
    /// A command or the input itself made no sense.
    Input { message: String, place: Option<String> },
    /// Nobody takes the output any more.
    Output(io::Error),
    /// `\q`.
    Quit,
}

impl Stop {
    pub fn input(message: impl Into<String>) -> Stop {
        Stop::Input { message: message.into(), place: None }
    }

    /// The same, at a line of a file.
    fn at(self, file: Option<&str>, line: usize) -> Stop {
        let place = file.map(|file| format!("{file}:{line}"));
        match self {
            Stop::Statement { error, sql, place: None, lost } => Stop::Statement { error, sql, place, lost },
            Stop::Input { message, place: None } => Stop::Input { message, place },
            other => other,
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

/// The part of the shell that is the same for scripts and for people.
pub struct Interpreter {
    pub connection: Connection,
    pub settings: Settings,
    out: Box<dyn Write + Send>,
    /// Input that has not come to a semicolon.
    pending: String,
    /// Whether that is nothing but space and finished comments.
    pending_is_blank: bool,
    /// Whether names of tables and columns may have changed since someone last asked.
    pub schema_changed: bool,
    include_depth: usize,
}

impl Interpreter {
    pub fn new(connection: Connection, settings: Settings, out: Box<dyn Write + Send>) -> Interpreter {
        Interpreter {
            connection,
            settings,
            out,
            pending: String::new(),
            pending_is_blank: true,
            schema_changed: false,
            include_depth: 0,
        }
    }

    /// Runs a script to its end; a last statement needs no semicolon.
    pub async fn run_script(&mut self, mut lines: Lines, file: Option<&str>) -> Result<(), Stop> {
        let (mut line, mut begun) = (0, 1);
        while let Some(text) = lines.next().await {
            line += 1;
            if self.is_waiting_for_first_line() {
                begun = line;
            }
            let text = text.map_err(|e| Stop::input(format!("cannot read on: {e}")).at(file, line))?;
            self.feed(&text).await.map_err(|stop| stop.at(file, begun))?;
        }
        self.finish().await.map_err(|stop| stop.at(file, begun))
    }

    /// Takes one line of input.
    pub async fn feed(&mut self, line: &str) -> Result<(), Stop> {
        if self.is_waiting_for_first_line() && line.trim_start().starts_with('\\') {
            self.drop_pending();
            let command = commands::parse(line).map_err(Stop::input)?;
            return self.obey(command).await;
        }
        self.pending.push_str(line);
        self.pending.push('\n');
        if !line.contains(';') && self.pending.len() <= STATEMENT_BYTES_MAX {
            // Only a comment's end can make a begun statement blank again, so most lines need no second look.
            if self.pending_is_blank || line.contains("*/") {
                self.pending_is_blank = scan(&self.pending).rest_is_blank;
            }
            return Ok(());
        }
        self.run_complete_statements().await
    }

    /// Whether nothing but space and comments has come in since the last statement.
    pub fn is_waiting_for_first_line(&self) -> bool {
        self.pending_is_blank
    }

    /// Drops input that has not come to its semicolon.
    pub fn drop_pending(&mut self) {
        self.take_pending();
    }

    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn take_pending(&mut self) -> String {
        self.pending_is_blank = true;
        std::mem::take(&mut self.pending)
    }

    async fn run_complete_statements(&mut self) -> Result<(), Stop> {
        let pending = self.take_pending();
        let scanned = scan(&pending);
        for sql in &scanned.statements {
            self.run_statement(sql).await?;
        }
        if scanned.rest.len() > STATEMENT_BYTES_MAX {
            return Err(Stop::input(format!("a statement is longer than {STATEMENT_BYTES_MAX} bytes")));
        }
        if !scanned.rest_is_blank {
            self.pending = scanned.rest.trim_start().to_string();
            self.pending_is_blank = false;
        }
        Ok(())
    }

    /// Runs what is left at the end of the input.
    async fn finish(&mut self) -> Result<(), Stop> {
        let is_blank = self.pending_is_blank;
        let pending = self.take_pending();
        if is_blank { Ok(()) } else { self.run_statement(pending.trim()).await }
    }

    async fn obey(&mut self, command: Command) -> Result<(), Stop> {
        match command {
            Command::Statement(sql) => self.run_statement(&sql).await?,
            Command::Timing(on) => {
                self.settings.timing = on.unwrap_or(!self.settings.timing);
                self.say(if self.settings.timing { "Timing is on.\n" } else { "Timing is off.\n" })?;
            }
            Command::Vertical(on) => {
                let on = on.unwrap_or(self.settings.format != Format::Vertical);
                self.settings.format = if on { Format::Vertical } else { Format::Table };
                self.say(&format!("The format is {}.\n", self.settings.format))?;
            }
            Command::Format(format) => {
                self.settings.format = format.unwrap_or(self.settings.format);
                self.say(&format!("The format is {}.\n", self.settings.format))?;
            }
            Command::Include(path) => {
                if self.include_depth == INCLUDE_DEPTH_MAX {
                    return Err(Stop::input(format!("files include each other more than {INCLUDE_DEPTH_MAX} deep")));
                }
                let name = path.display().to_string();
                let lines = Lines::file(&path).map_err(|e| Stop::input(format!("{name}: {e}")))?;
                self.include_depth += 1;
                let result = Box::pin(self.run_script(lines, Some(&name))).await;
                self.include_depth -= 1;
                result?;
            }
            Command::Help => self.say(commands::HELP)?,
            Command::Quit => return Err(Stop::Quit),
        }
        Ok(())
    }

    async fn run_statement(&mut self, sql: &str) -> Result<(), Stop> {
        if self.settings.echo {
            self.say(&format!("{sql};\n"))?;
        }
        let result = self.execute(sql).await;
        self.out.flush()?;
        match result {
            Ok(()) => Ok(()),
            Err(Trouble::Output(error)) => Err(Stop::Output(error)),
            Err(Trouble::Statement(error)) => {
                let lost = self.connection.drop_if_lost();
                Err(Stop::Statement { error, sql: sql.to_string(), place: None, lost })
            }
        }
    }

    async fn execute(&mut self, sql: &str) -> Result<(), Trouble> {
        let session = self.connection.session().await?;
        let canceller = session.canceller();
        let result = {
            let work = run_and_print(session, sql, &self.settings, self.out.as_mut());
            tokio::pin!(work);
            let mut interrupts = 0;
            loop {
                tokio::select! {
                    result = &mut work => break Some(result),
                    Ok(()) = tokio::signal::ctrl_c() => {
                        interrupts += 1;
                        if interrupts > 1 {
                            break None;
                        }
                        canceller.cancel().await;
                    }
                }
            }
        };
        match result {
            Some(result) => {
                self.schema_changed |= result?;
                Ok(())
            }
            None => {
                self.connection.close();
                Err(Trouble::Statement(Error::application(
                    "gave up waiting for the statement to be cancelled, and closed its session",
                )))
            }
        }
    }

    pub fn transaction_status(&self) -> TransactionStatus {
        self.connection.transaction_status()
    }
}

/// What can go wrong with a statement.
enum Trouble {
    Statement(Error),
    Output(io::Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Statement(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Output(error)
    }
}

/// Runs a statement and prints its result. Says whether it may have changed the schema.
async fn run_and_print(
    session: &mut Session,
    sql: &str,
    settings: &Settings,
    out: &mut (dyn Write + Send),
) -> Result<bool, Trouble> {
    let started = Instant::now();
    let mut rows = session.stream(sql, &[]).await?;
    let has_rows = !rows.columns().is_empty();
    let mut count = 0;
    if has_rows {
        let mut printer = printer(settings, rows.columns());
        printer.begin(out)?;
        let end: DriverResult<()> = loop {
            match rows.next().await {
                Ok(Some(row)) => printer.row(out, row)?,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            count += 1;
        };
        printer.end(out)?;
        end?;
    } else {
        rows.next().await?;
    }
    let completion = rows.completion().expect("rows end with a completion");
    print_notices(&completion.notices);
    if settings.format.is_for_people() {
        match has_rows {
            true => writeln!(out, "({count} {})", if count == 1 { "row" } else { "rows" })?,
            false => writeln!(out, "{}", completion.tag)?,
        }
    }
    if settings.timing {
        writeln!(out, "Time: {:.3} ms", started.elapsed().as_secs_f64() * 1e3)?;
    }
    Ok(["CREATE", "DROP", "ALTER"].iter().any(|word| completion.tag.starts_with(word)))
}

fn print_notices(notices: &[Notice]) {
    for notice in notices {
        eprintln!("{}: {}", notice.severity, notice.message);
    }
}
