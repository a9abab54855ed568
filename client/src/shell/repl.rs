//! The conversation with a person at a terminal.

use super::complete::Names;
use super::editor::{Editor, Event};
use super::interpreter::{Interpreter, Stop};
use super::options::Exit;
use super::report;
use crate::driver::TransactionStatus;

/// Reads, runs and prints until the user leaves.
pub async fn run(mut interpreter: Interpreter) -> Exit {
    if let Err(error) = greet(&mut interpreter).await {
        eprintln!("ERROR: {}", error.message());
        return if report::is_unreachable(&error) { Exit::Unreachable } else { Exit::Failed };
    }
    let mut editor = match Editor::start() {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("ERROR: cannot use this terminal: {error}");
            return Exit::Failed;
        }
    };
    let mut names = Names::default();
    let mut entry = String::new();
    loop {
        editor.prompt(&prompt(&interpreter));
        match next_line(&mut editor, &mut interpreter, &mut names).await {
            Event::Line(line) => {
                entry.push_str(&line);
                let result = interpreter.feed(&line).await;
                if interpreter.is_waiting_for_first_line() {
                    editor.remember(std::mem::take(&mut entry));
                } else {
                    entry.push('\n');
                }
                match result {
                    Ok(()) => {}
                    Err(Stop::Quit) => return Exit::Success,
                    Err(Stop::Output(error)) => return report::print_stop(&Stop::Output(error)),
                    Err(stop) => {
                        report::print_stop(&stop);
                        interpreter.drop_pending();
                        entry.clear();
                    }
                }
            }
            Event::Interrupted => {
                interpreter.drop_pending();
                entry.clear();
            }
            Event::End => return Exit::Success,
            Event::Failed(error) => {
                eprintln!("ERROR: cannot read from this terminal: {error}");
                return Exit::Failed;
            }
            Event::Lookup(_) => unreachable!("next_line answers look-ups itself"),
        }
    }
}

/// Waits for a line; meanwhile looks up names for completion.
async fn next_line(editor: &mut Editor, interpreter: &mut Interpreter, names: &mut Names) -> Event {
    loop {
        match editor.next().await {
            Event::Lookup(lookup) => {
                if std::mem::take(&mut interpreter.schema_changed) {
                    *names = Names::default();
                }
                names.answer(lookup, &mut interpreter.connection).await;
            }
            event => return event,
        }
    }
}

async fn greet(interpreter: &mut Interpreter) -> crate::driver::Result<()> {
    let session = interpreter.connection.session().await?;
    let greeting = format!(
        "Meridian {}, connected to node {} at {}. \\? for help.\n",
        session.server_version(),
        session.node_id(),
        session.address()
    );
    // If the terminal is gone, the editor will find out.
    let _ = interpreter.say(&greeting);
    Ok(())
}

/// The database, then the state of the transaction, or `->` for the next line of a statement.
fn prompt(interpreter: &Interpreter) -> String {
    let state = match interpreter.transaction_status() {
        _ if !interpreter.is_waiting_for_first_line() => "->",
        TransactionStatus::Idle => "=>",
        TransactionStatus::InTransaction => "=*>",
        TransactionStatus::Failed => "=!>",
    };
    format!("{}{state} ", interpreter.connection.database())
}
