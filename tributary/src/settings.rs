//! Settings from four places: flags win over the environment, the environment over the TOML file, the file over the
//! defaults. The file becomes new *defaults* of the grammar, so that one parser treats all four alike.
//!
//! ```toml
//! data = "/var/lib/tributary"   # every command that has --data
//!
//! [up]                          # one command only
//! listen = "0.0.0.0:8080"
//!
//! [keys.create]
//! source = "crm"
//! ```

use crate::{cli::Cli, output};
use anyhow::{Context, bail, ensure};
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches, parser::ValueSource};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};
use toml::{Table, Value};

/// Why the command line cannot be understood.
#[derive(Debug)]
pub enum ParseError {
    /// The arguments themselves (also `--help` and `--version`): clap prints it and picks the exit code.
    Usage(clap::Error),
    /// The file of `--config`.
    File(anyhow::Error),
}

/// Arguments, environment and file → what to do.
pub fn parse(arguments: &[OsString]) -> Result<Cli, ParseError> {
    let (mut command, _) = with_file(Cli::command(), config_file(arguments).as_deref()).map_err(ParseError::File)?;
    let matches = command.try_get_matches_from_mut(arguments).map_err(ParseError::Usage)?;
    Cli::from_arg_matches(&matches).map_err(|error| ParseError::Usage(error.format(&mut command)))
}

/// The file that the arguments or the environment name. Errors elsewhere on the line are left to the real parse.
fn config_file(arguments: &[OsString]) -> Option<PathBuf> {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(arguments).ok()?;
    matches.try_get_one::<PathBuf>("config").ok().flatten().cloned()
}

/// The grammar with the file's values as defaults, and the settings that the file made: `up --listen`, ….
fn with_file(command: Command, file: Option<&Path>) -> anyhow::Result<(Command, BTreeSet<String>)> {
    let Some(file) = file else { return Ok((command, BTreeSet::new())) };
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read --config {}", file.display()))?;
    let table: Table = text.parse().with_context(|| format!("--config {} is not TOML", file.display()))?;
    let mut made = BTreeSet::new();
    let command = apply(command, "", &table, &mut made).with_context(|| format!("in {}", file.display()))?;
    Ok((command, made))
}

/// Applies one table to the command `path` and, for plain values, to every command below it.
fn apply(mut command: Command, path: &str, table: &Table, made: &mut BTreeSet<String>) -> anyhow::Result<Command> {
    // Plain values first: what stands in `[command]` is nearer and wins.
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        let values = texts(value).with_context(|| format!("`{key}`"))?;
        let before = made.len();
        command = set(command, path, key, &values, made);
        let known = made.len() > before || made.iter().any(|name| name.ends_with(&format!(" --{key}")));
        ensure!(known, "`{key}` is no setting of `tributary{path}` (see `tributary{path} --help`)");
    }
    for (key, value) in table {
        let Value::Table(inner) = value else { continue };
        ensure!(command.find_subcommand(key).is_some(), "`[{key}]` is no command of `tributary{path}`");
        let path = format!("{path} {key}");
        let mut outcome = Ok(());
        command = command.mut_subcommand(key, |child| match apply(child.clone(), &path, inner, made) {
            Ok(child) => child,
            Err(error) => {
                outcome = Err(error);
                child
            }
        });
        outcome?;
    }
    Ok(command)
}

/// Makes `values` the default of `--key` in the command and below it.
fn set(mut command: Command, path: &str, key: &str, values: &[String], made: &mut BTreeSet<String>) -> Command {
    let id = command.get_arguments().find(|arg| is_setting(arg, key)).map(|arg| arg.get_id().clone());
    if let Some(id) = id {
        made.insert(format!("{path} --{key}"));
        // A value from the file satisfies a required flag; clap wants that said.
        command = command.mut_arg(id, |arg| arg.required(false).default_values(values.to_vec()));
    }
    let children: Vec<String> = command.get_subcommands().map(|child| child.get_name().to_owned()).collect();
    for child in children {
        let path = format!("{path} {child}");
        command = command.mut_subcommand(child, |child| set(child, &path, key, values, made));
    }
    command
}

fn is_setting(arg: &Arg, key: &str) -> bool {
    arg.get_long() == Some(key) && !matches!(key, "config" | "help" | "version")
}

fn texts(value: &Value) -> anyhow::Result<Vec<String>> {
    Ok(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Float(number) => vec![number.to_string()],
        Value::Boolean(truth) => vec![truth.to_string()],
        Value::Array(values) => values.iter().map(texts).collect::<anyhow::Result<Vec<_>>>()?.concat(),
        Value::Datetime(_) | Value::Table(_) => bail!("a setting is a string, a number, true or false, or a list"),
    })
}

const EXAMPLES: &str = "Examples:
  tributary config
  tributary config --json
  tributary --config /etc/tributary.toml config up
  tributary config send --key em_sk_0123";

/// Show the settings in force.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    /// Print one JSON array
    #[arg(long, env = "TRIBUTARY_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    pub json: bool,
    /// The command to show, with the flags it would be given
    #[arg(value_name = "COMMAND", default_value = "up", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// One setting in force.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Setting {
    flag: String,
    value: Option<String>,
    from: &'static str,
}

/// Runs `tributary config`.
pub fn explain(args: &ConfigArgs, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings = in_force(&args.command, file)?;
    if args.json {
        output::json(&settings)?;
    } else {
        let rows = settings.into_iter().map(|s| vec![s.flag, s.value.unwrap_or_default(), s.from.to_owned()]);
        output::table(&["SETTING", "VALUE", "FROM"], rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn in_force(arguments: &[OsString], file: Option<&Path>) -> anyhow::Result<Vec<Setting>> {
    let (command, made) = with_file(Cli::command(), file)?;
    // Without its file names or key a command could not run, but its settings can still be shown.
    let mut command = relaxed(command);
    let line = std::iter::once(OsString::from("tributary")).chain(arguments.iter().cloned());
    let root = command.try_get_matches_from_mut(line).map_err(|error| anyhow::anyhow!("{error}"))?;
    let (mut grammar, mut matches, mut path) = (&command, &root, String::new());
    while let Some((name, inner)) = matches.subcommand() {
        grammar = grammar.find_subcommand(name).context("a command without a grammar")?;
        (matches, path) = (inner, format!("{path} {name}"));
    }
    Ok(grammar.get_arguments().filter_map(|arg| setting(arg, matches, &path, &made)).collect())
}

fn relaxed(command: Command) -> Command {
    command.mut_args(|arg| arg.required(false)).mut_subcommands(relaxed)
}

fn setting(arg: &Arg, matches: &ArgMatches, path: &str, made: &BTreeSet<String>) -> Option<Setting> {
    let long = arg.get_long().filter(|long| !matches!(*long, "help" | "version"))?;
    let id = arg.get_id().as_str();
    let raw = matches.try_get_raw(id).ok().flatten();
    let value = raw.map(|values| values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","));
    let from = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => "flag",
        Some(ValueSource::EnvVariable) => "environment",
        // A global flag's default is set at the root.
        _ if made.contains(&format!("{path} --{long}")) || made.contains(&format!(" --{long}")) => "file",
        _ => "default",
    };
    let secret = arg.is_hide_env_values_set() && value.is_some();
    Some(Setting { flag: long.to_owned(), value: if secret { Some("(not shown)".to_owned()) } else { value }, from })
}

#[cfg(test)]
mod tests;
