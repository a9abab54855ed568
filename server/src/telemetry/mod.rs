//! Logs: structured events through `tracing`, as text or JSON, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How events are written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging.
///
/// # Errors
/// A sentence, when the directives make no sense.
pub fn start(directives: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(directives).map_err(|e| format!("--log {directives:?} makes no sense: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    result.map_err(|e| format!("logging cannot be started: {e}"))
}
