//! The SQL shell, `meridian sql`.
//!
//! [`run`] takes what to do from `-e`, from `-f`, from a pipe, or from a person at a terminal. All of them end up in
//! one [`Interpreter`](interpreter::Interpreter), which is fed lines: it gathers statements up to their semicolon,
//! obeys backslash commands, sends each statement over one [`Session`](crate::driver::Session) and
//! prints what comes back in the chosen [`Format`]. A script stops at its first error; at a terminal the error is shown
//! and the next line is asked for.
//!
//! The terminal belongs to a thread of its own ([`editor`]), because reading keys blocks. Ctrl-C at the prompt drops the
//! input; while a statement runs it asks the server to cancel it, and a second one gives up the connection.
//!
//! Left out: variables, `\copy`, a pager, and any notion of users and passwords.

mod options;
mod scan;
mod source;
mod commands;
mod interpreter;
mod connection;
mod output;
mod report;
mod repl;
mod editor;
mod complete;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};

pub use options::{Exit, Format, ShellOptions};

use connection::Connection;
use interpreter::{Interpreter, Stop};
use output::Settings;
use source::Lines;

/// Runs the shell until there is nothing left to do.
pub async fn run(options: ShellOptions) -> Exit {
    match prepare(&options) {
        Ok(interpreter) => run_sources(interpreter, &options).await,
        Err(error) => {
            eprintln!("ERROR: {}", error.message());
            Exit::Failed
        }
    }
}

fn prepare(options: &ShellOptions) -> crate::driver::Result<Interpreter> {
    let connection = Connection::new(&options.addresses, &options.user, &options.database)?;
    let at_terminal = std::io::stdout().is_terminal();
    let settings = Settings {
        format: options.format.unwrap_or_default(),
        timing: options.is_interactive(),
        echo: options.echo,
        unicode: at_terminal,
    };
    let out: Box<dyn Write + Send> = Box::new(std::io::BufWriter::new(std::io::stdout()));
    Ok(Interpreter::new(connection, settings, out))
}

async fn run_sources(mut interpreter: Interpreter, options: &ShellOptions) -> Exit {
    if options.is_interactive() {
        return repl::run(interpreter).await;
    }
    let result = run_scripts(&mut interpreter, options).await;
    match result {
        Ok(()) | Err(Stop::Quit) => Exit::Success,
        Err(stop) => report::print_stop(&stop),
    }
}

async fn run_scripts(interpreter: &mut Interpreter, options: &ShellOptions) -> Result<(), Stop> {
    for text in &options.execute {
        interpreter.run_script(Lines::text(text), None).await?;
    }
    for path in &options.files {
        let lines = Lines::file(path).map_err(|e| Stop::input(format!("{}: {e}", path.display())))?;
        interpreter.run_script(lines, Some(&path.display().to_string())).await?;
    }
    if options.execute.is_empty() && options.files.is_empty() {
        interpreter.run_script(Lines::stdin(), None).await?;
    }
    Ok(())
}
