//! Precedence and refusals, on files in a temporary directory. The environment of the test process is not touched:
//! that an environment variable beats the file is tested on the grammar's own precedence of `env` over defaults.

use super::*;
use crate::cli::Command as Verb;

struct File(tempfile::NamedTempFile);

impl File {
    fn new(text: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        Self(file)
    }

    fn parse(&self, words: &str) -> Result<Cli, ParseError> {
        let mut line: Vec<OsString> = vec!["tributary".into(), "--config".into(), self.0.path().into()];
        line.extend(words.split_whitespace().map(OsString::from));
        parse(&line)
    }

    fn settings(&self, words: &str) -> Vec<Setting> {
        let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        in_force(&words, Some(self.0.path())).expect("settings")
    }

    fn refusal(&self) -> String {
        match self.parse("up") {
            Err(ParseError::File(error)) => format!("{error:#}"),
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn listen(cli: Cli) -> String {
    match cli.command {
        Verb::Up(args) => args.api.listen,
        other => panic!("not up: {other:?}"),
    }
}

#[test]
fn flags_beat_the_file_and_the_file_beats_defaults() {
    let file = File::new("data = '/from/file'\n[up]\nlisten = '0.0.0.0:1'\n");
    assert_eq!(listen(file.parse("up").expect("parses")), "0.0.0.0:1");
    assert_eq!(listen(file.parse("up --listen 0.0.0.0:2").expect("parses")), "0.0.0.0:2");
    let Verb::Up(up) = file.parse("up").expect("parses").command else { panic!("not up") };
    assert_eq!(up.backends.place.data, PathBuf::from("/from/file"));
    assert_eq!(up.process.admin, "127.0.0.1:9090");
}

#[test]
fn the_nearer_table_wins() {
    let file = File::new("data = '/far'\n[up]\ndata = '/near'\n");
    let Verb::Up(up) = file.parse("up").expect("parses").command else { panic!("not up") };
    assert_eq!(up.backends.place.data, PathBuf::from("/near"));
}

#[test]
fn the_file_satisfies_a_required_flag() {
    let file = File::new("key = 'em_sk_x'\n");
    assert!(file.parse("batches list").is_ok());
    let bare = ["tributary", "batches", "list"].map(OsString::from);
    if std::env::var_os("TRIBUTARY_KEY").is_none() {
        assert!(matches!(parse(&bare), Err(ParseError::Usage(_))));
    }
}

#[test]
fn lists_numbers_and_truth_values() {
    let file = File::new("json = true\n[keys.create]\npermission = ['api:read', 'api:write']\nrate-limit = 5\n");
    let cli = file.parse("keys create --workspace w --label l --source s").expect("parses");
    let text = format!("{:?}", cli.command);
    assert!(text.contains("Read, Write") && text.contains("Some(5)") && text.contains("json: true"), "{text}");
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    for (text, named) in [
        ("lisen = 'x'", "`lisen`"),
        ("[upp]\nlisten = 'x'", "`[upp]`"),
        ("[up]\npermission = 'api:read'", "`permission`"),
        ("[keys.made]\nlabel = 'x'", "`[made]`"),
        ("listen = 1979-05-27", "`listen`"),
        ("listen = ", "not TOML"),
        ("config = 'other.toml'", "`config`"),
    ] {
        let error = File::new(text).refusal();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let line = ["tributary", "--config", "/nowhere/at/all.toml", "up"].map(OsString::from);
    match parse(&line) {
        Err(ParseError::File(error)) => assert!(format!("{error:#}").contains("/nowhere/at/all.toml")),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn config_says_where_each_setting_comes_from() {
    let file = File::new("log = 'debug'\n[up]\nlisten = '0.0.0.0:1'\n");
    let settings = file.settings("up --admin 127.0.0.1:0");
    let find = |flag: &str| settings.iter().find(|s| s.flag == flag).unwrap_or_else(|| panic!("{flag}: {settings:?}"));
    assert_eq!((find("listen").value.as_deref(), find("listen").from), (Some("0.0.0.0:1"), "file"));
    assert_eq!((find("admin").value.as_deref(), find("admin").from), (Some("127.0.0.1:0"), "flag"));
    assert_eq!((find("log").value.as_deref(), find("log").from), (Some("debug"), "file"));
    assert_eq!((find("rate-limit").value.as_deref(), find("rate-limit").from), (Some("10"), "default"));
}

#[test]
fn config_hides_secrets_and_needs_no_required_flags() {
    let file = File::new("");
    let settings = file.settings("batches wait --key em_sk_secret");
    let key = settings.iter().find(|s| s.flag == "key").expect("listed");
    assert_eq!((key.value.as_deref(), key.from), (Some("(not shown)"), "flag"));
    assert!(!file.settings("send").is_empty());
}

#[test]
fn the_environment_beats_the_file() {
    // Checked through the grammar alone, because the process's environment is shared by all tests.
    let path = std::env::var("PATH").expect("PATH is set");
    let grammar = Command::new("t").arg(Arg::new("place").long("place").env("PATH").default_value("from the file"));
    let matches = grammar.get_matches_from(["t"]);
    assert_eq!(matches.get_one::<String>("place"), Some(&path));
    assert_eq!(matches.value_source("place"), Some(ValueSource::EnvVariable));
}
