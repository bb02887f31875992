//! The command line's grammar. What each command does is in the module of its name.

use crate::{batches, bench, cluster::ScyllaArgs, dead_letters, keys, lag, lake, logging, send, settings, up};
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, time::Duration};

const EXAMPLES: &str = "Examples:
  tributary up
  tributary send messages.ndjson.gz --key em_sk_0123
  tributary batches list --key em_sk_0123
  tributary keys create --workspace acme --label loader --source crm --permission api:write
  tributary lag --watch
  tributary lake check

Every flag can also be an environment variable (TRIBUTARY_…) or stand in a TOML file (--config).
Flags win over the environment, the environment over the file, the file over the defaults.
Exit codes: 0 done, 1 failed, 2 usage.";

/// A self-hosted data-lake ingestion system: records in over HTTP, Delta tables out.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// A TOML file with settings: `flag = value`, in a table `[command]` to speak to one command only
    #[arg(long, global = true, env = "TRIBUTARY_CONFIG", value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub logging: logging::LoggingArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: API, pipeline and lake
    Up(up::UpArgs),
    /// Run the API, as one of many processes on Kafka and ScyllaDB
    Serve(up::ServeArgs),
    /// Run lanes, as one of many processes on Kafka and ScyllaDB
    Pipeline(up::PipelineArgs),
    /// Send NDJSON or JSON files as batches
    Send(send::SendArgs),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Follow batches and read their rejected records
    #[command(subcommand)]
    Batches(batches::BatchesCommand),
    /// Show how far the lake is behind: records, seconds, drain time, owners
    Lag(lag::LagArgs),
    /// List, replay and discard messages that could not be processed
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Find, check and repair the lake's tables
    #[command(subcommand)]
    Lake(lake::LakeCommand),
    /// Send synthetic records at a rate, and report throughput, latency, lag and freshness
    Bench(Box<bench::BenchArgs>),
    /// Show the settings in force and where each comes from
    Config(settings::ConfigArgs),
}

/// Where the state is.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Directory of the embedded log and tables
    #[arg(long, env = "TRIBUTARY_DATA", value_name = "DIR", default_value = "./data")]
    pub data: PathBuf,
    /// Where the Delta tables are: a directory, or a URL of file://, s3://, gs:// or az:// [default: DIR/lake]
    #[arg(long, env = "TRIBUTARY_LAKE", value_name = "URL")]
    pub lake: Option<String>,
    #[command(flatten)]
    pub scylla: ScyllaArgs,
}

impl Place {
    /// Whether other processes can have the tables open too.
    pub fn is_shared(&self) -> bool {
        !self.scylla.scylla.is_empty()
    }
}

#[cfg(test)]
impl Place {
    /// All of it in one directory.
    pub fn embedded(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), lake: None, scylla: ScyllaArgs::default() }
    }
}

/// Where the API is and who asks.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// The API's address
    #[arg(long, env = "TRIBUTARY_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: url::Url,
    /// An API key (better in the environment than in the list of processes)
    #[arg(long, env = "TRIBUTARY_KEY", value_name = "KEY", hide_env_values = true)]
    pub key: String,
}

/// `500ms`, `30s`, `10m`, `1h 30m`, or plain seconds → a duration, for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let signed: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(signed).map_err(|_| "a duration is not negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};
    use std::path::Path;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every line of a help text that starts with `tributary` and is indented is an example that must parse.
    #[test]
    fn every_example_parses() {
        let mut examples = Vec::new();
        collect_examples(&mut Cli::command(), &mut examples);
        assert!(examples.len() >= 15, "only {} examples: {examples:?}", examples.len());
        for example in examples {
            let words = example.split_whitespace().map(|word| word.trim_matches('\''));
            if let Err(error) = key_in_the_environment(Cli::command()).try_get_matches_from(words) {
                panic!("{example}: {error}");
            }
        }
    }

    /// What documents and alerts tell people to type, wherever it stands: a command of its own, or a few words in a sentence.
    #[test]
    fn every_command_in_the_documents_parses() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let docs =
            std::fs::read_dir(root.join("docs")).expect("documents").map(|entry| entry.expect("an entry").path());
        let mut files: Vec<_> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
        files.extend(["README.md", "docker/prometheus/rules.yaml"].map(|name| root.join(name)));
        let mut commands = Vec::new();
        for path in files {
            let text = std::fs::read_to_string(&path).expect("a document");
            let found = commands_of(&text).into_iter().map(|command| (path.clone(), command));
            commands.extend(found);
        }
        assert!(commands.len() >= 60, "only {}: {commands:#?}", commands.len());
        let wrong: Vec<_> =
            commands.iter().filter_map(|(path, command)| Some((path, command, misspelt(command)?))).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Of text in Markdown, or with code in single backquotes: what begins with the program's name.
    fn commands_of(text: &str) -> Vec<String> {
        let (mut found, mut fenced) = (Vec::new(), false);
        let mut prose = String::new();
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if fenced {
                let line = line.trim_start().trim_start_matches("$ ");
                let piped = line.split(" | ").map(str::trim).filter(|part| part.starts_with("tributary "));
                found.extend(piped.map(str::to_owned));
            } else {
                // A command may go on in the next line of its paragraph, which may be a comment.
                prose += line.trim_start().trim_start_matches("# ");
                prose.push(if line.trim().is_empty() { '\n' } else { ' ' });
            }
        }
        for paragraph in prose.lines() {
            found.extend(
                paragraph
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|code| code.starts_with("tributary "))
                    .map(str::to_owned),
            );
        }
        found
    }

    /// What clap has against a command. A word in capitals stands for any value, `…` for whatever belongs there.
    fn misspelt(command: &str) -> Option<String> {
        let mut words = shell_words(command);
        let ends =
            words.iter().position(|word| word.starts_with('#') || [">", ">>", "&", "&&", "|", "…"].contains(&&**word));
        let is_cut = ends.is_some_and(|end| words[end] == "…");
        words.truncate(ends.unwrap_or(words.len()));
        for word in &mut words {
            let value = match word.as_str() {
                "ID" | "LETTER" => "records/0/17",
                "N" => "7",
                "TIME" | "DURATION" => "2h",
                _ => continue,
            };
            value.clone_into(word);
        }
        let mut cli = key_in_the_environment(Cli::command());
        let error = cli.try_get_matches_from_mut(&words).err()?;
        // A group of commands alone, or one whose arguments are left to the sentence around it, is no mistake.
        let incomplete = [
            ErrorKind::MissingSubcommand,
            ErrorKind::MissingRequiredArgument,
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ];
        let asks_for_help = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
        let named_only = is_cut || words.iter().all(|word| !word.starts_with('-'));
        let fine = asks_for_help.contains(&error.kind()) || (named_only && incomplete.contains(&error.kind()));
        (!fine).then(|| error.to_string())
    }

    /// Words as a shell has them, as far as examples need it: single and double quotes.
    fn shell_words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for letter in line.chars() {
            match (quote, letter) {
                (Some(open), letter) if letter == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                (_, letter) => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn a_misspelt_command_is_found() {
        let text = "See `tributary lag --wach`, and\n`tributary keys\nlist`.\n\n```sh\ntributary serve --listen 1:2 # x\nzcat a | tributary send - > b\n```\n";
        let commands = commands_of(text);
        let all =
            ["tributary serve --listen 1:2 # x", "tributary send - > b", "tributary lag --wach", "tributary keys list"];
        assert_eq!(commands, all);
        assert!(misspelt(&commands[2]).is_some_and(|why| why.contains("--wach")));
        assert!(misspelt("tributary lagg").is_some() && misspelt("tributary dead-letters replay --reson x").is_some());
        assert!(misspelt("tributary dead-letters replay 'records/0' --reason x").is_some());
        for fine in [
            "tributary lag",
            "tributary send --help",
            "tributary dead-letters replay ID --reason 'a b' # c",
            "tributary batches list --key KEY",
        ] {
            assert_eq!(misspelt(fine), None, "{fine}");
        }
    }

    /// Examples leave out the key that stands in TRIBUTARY_KEY.
    fn key_in_the_environment(command: clap::Command) -> clap::Command {
        let command = command.mut_args(|arg| if arg.get_id() == "key" { arg.required(false) } else { arg });
        command.mut_subcommands(key_in_the_environment)
    }

    #[test]
    fn every_command_has_examples() {
        let mut without = Vec::new();
        walk(&mut Cli::command(), "tributary", &mut |path, command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !help.contains("\n  tributary ") {
                without.push(path.to_owned());
            }
        });
        assert_eq!(without, Vec::<String>::new());
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let mut wrong = Vec::new();
        walk(&mut Cli::command(), "tributary", &mut |path, command| {
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let Some(long) = arg.get_long() else { continue };
                if matches!(long, "help" | "version") {
                    continue;
                }
                let wanted = match long {
                    // The name that everything goes by which exports to a collector.
                    "otlp" => "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                    _ => format!("TRIBUTARY_{}", long.replace('-', "_").to_uppercase()),
                };
                let env = arg.get_env().and_then(|name| name.to_str()).unwrap_or_default();
                if env != wanted {
                    wrong.push(format!("{path} --{long}: {env:?}"));
                }
            }
        });
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn durations_are_what_people_write() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert!(duration("-1s").is_err() && duration("soon").is_err() && duration("").is_err());
    }

    fn collect_examples(command: &mut clap::Command, examples: &mut Vec<String>) {
        walk(command, "tributary", &mut |_, command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            examples.extend(help.lines().filter(|line| line.starts_with("  tributary ")).map(str::to_owned));
        });
    }

    fn walk(command: &mut clap::Command, path: &str, visit: &mut dyn FnMut(&str, &clap::Command)) {
        visit(path, command);
        for child in command.get_subcommands_mut() {
            let path = format!("{path} {}", child.get_name());
            walk(child, &path, visit);
        }
    }
}
