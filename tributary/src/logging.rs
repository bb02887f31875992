//! Diagnostics go to stderr, what a command has to say to stdout.

use crate::traces::Traces;
use anyhow::Context;
use clap::{Args, ValueEnum};
use std::io::{self, IsTerminal, Write};
use tracing_subscriber::{Layer, Registry, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};
use tributary_backends::trace;

/// How much is said on stderr, and in which form.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct LoggingArgs {
    /// What to log: off, error, warn, info, debug, trace, or by module (`info,tributary_pipeline=debug`)
    /// [default: info for `up`, warn for the others]
    #[arg(long, global = true, env = "TRIBUTARY_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Form of the log lines
    #[arg(long, global = true, env = "TRIBUTARY_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Libraries whose `info` tells of every snapshot, every table file, every request that is sent again: heard only when
/// named in the filter. And those that tell of each try that failed, which their callers say with what to do, once.
const CHATTY: &str = "fjall=warn,lsm_tree=warn,delta_kernel=off,delta_kernel_default_engine=off,object_store=warn,\
                      scylla=off,rustls_platform_verifier=off";

/// Starts logging, and traces if there are any; `quiet` commands log only warnings unless told otherwise.
pub fn start(args: &LoggingArgs, quiet: bool, traces: Option<&Traces>) -> anyhow::Result<()> {
    let wanted = args.log.as_deref().unwrap_or(if quiet { "warn" } else { "info" });
    let filter: Targets = format!("{CHATTY},{}=off,{wanted}", trace::TARGET)
        .parse()
        .with_context(|| format!("--log {wanted}: not a level, nor levels by module"))?;
    let colours = io::stderr().is_terminal() && args.log_format == LogFormat::Text;
    let lines = fmt::layer::<Registry>().with_writer(move || OneLine { to: io::stderr(), colours });
    let lines = match args.log_format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    match traces {
        // One filter for all, so that what nobody hears costs nothing.
        None => tracing_subscriber::registry().with(lines).with(filter).init(),
        Some(traces) => tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces.layer()).init(),
    }
    Ok(())
}

/// Writes each event as one line, whatever a sender, a file or a server has put into it: control characters, and those
/// that turn the direction of text, are escaped as in JSON.
struct OneLine<W> {
    to: W,
    /// The formatter's own escape sequences, which choose a colour, are let through.
    colours: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (event, end) = bytes.strip_suffix(b"\n").map_or((bytes, &b""[..]), |event| (event, b"\n"));
        let text = String::from_utf8_lossy(event);
        if !text.contains(is_unwelcome) {
            self.to.write_all(bytes)?;
            return Ok(bytes.len());
        }
        let mut line = String::with_capacity(text.len() + 16);
        for (at, letter) in text.char_indices() {
            if is_unwelcome(letter) && !(self.colours && chooses_colour(&text[at..])) {
                line.push_str(&format!("\\u{:04x}", u32::from(letter)));
            } else {
                line.push(letter);
            }
        }
        self.to.write_all(&[line.as_bytes(), end].concat())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Breaks a line, moves a cursor, or turns the direction of what follows.
fn is_unwelcome(letter: char) -> bool {
    let turns =
        matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || matches!(letter, '\u{2028}' | '\u{2029}') || letter.is_control()
}

/// `ESC [ 1;31 m` and its like.
fn chooses_colour(text: &str) -> bool {
    let codes =
        text.strip_prefix("\u{1b}[").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    codes.is_some_and(|rest| rest.starts_with('m'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of a hostile text, as text and as JSON.
    fn logged(hostile: &str) -> [String; 2] {
        [false, true].map(|json| {
            let kept = Kept::default();
            let writer = kept.clone();
            let lines = fmt::layer::<Registry>()
                .with_writer(move || OneLine { to: writer.clone(), colours: false })
                .with_ansi(false);
            let lines = if json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                let span = tracing::info_span!("batch", workspace = hostile);
                let _in = span.enter();
                tracing::warn!(error = %hostile, source = hostile, "it said {hostile}");
            });
            let bytes = kept.0.lock().unwrap().clone();
            String::from_utf8(bytes).expect("UTF-8")
        })
    }

    proptest! {
        #[test]
        fn an_event_is_one_line_whatever_is_in_it(
            hostile in prop_oneof![any::<String>(), "[\\x00-\\x1f\\x7f-\\u{9f}\"\\\\\u{202e}a]{0,40}"],
        ) {
            let [text, json] = logged(&hostile);
            for line in [&text, &json] {
                let line = line.strip_suffix('\n').expect("a line");
                prop_assert!(!line.contains(is_unwelcome), "{line:?}");
            }
            let object: serde_json::Value = serde_json::from_str(&json).expect("one object");
            prop_assert_eq!(object["source"].as_str(), Some(hostile.as_str()), "it reads back as it was");
        }
    }

    #[test]
    fn colours_are_let_through_and_nothing_else() {
        let mut kept = Kept::default();
        let line = "\u{1b}[1;31mWARN\u{1b}[0m \u{1b}[2J\u{1b}]0;title\u{7}\n";
        OneLine { to: &mut kept, colours: true }.write_all(line.as_bytes()).unwrap();
        let written = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written, "\u{1b}[1;31mWARN\u{1b}[0m \\u001b[2J\\u001b]0;title\\u0007\n");
    }

    #[test]
    fn a_forged_line_and_a_terminal_escape_stay_text() {
        let [text, json] = logged("x\n2026-01-01T00:00:00Z ERROR all is lost\u{1b}[2J\u{9b}2J\u{202e}");
        assert_eq!((text.lines().count(), json.lines().count()), (1, 1));
        assert!(text.contains("x\\u000a2026-01-01") || text.contains("x\\n2026-01-01"), "{text}");
    }
}
