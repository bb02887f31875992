//! DuckDB, asked through one Python process for all tests of this process.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// Runs one statement and gives its rows.
///
/// # Panics
/// When DuckDB refuses it: a lake that cannot be read is a failure of the test.
pub fn query(sql: &str) -> Vec<Vec<Value>> {
    try_query(sql).unwrap_or_else(|error| panic!("DuckDB refuses {sql}: {error}"))
}

/// Runs one statement; what DuckDB says when it refuses it.
fn try_query(sql: &str) -> Result<Vec<Vec<Value>>, String> {
    static DUCK: OnceLock<Mutex<Duck>> = OnceLock::new();
    let mut duck =
        DUCK.get_or_init(|| Mutex::new(Duck::start())).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    duck.ask(sql)
}

struct Duck {
    _process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Duck {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/e2e/duck.py");
        let mut process = Command::new("python3")
            .arg(script)
            .env("PYTHONPATH", installed())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed to run DuckDB");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let mut duck = Self { _process: process, input, output };
        assert!(duck.read().is_ok(), "DuckDB with its delta extension starts");
        duck
    }

    fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Value>>, String> {
        writeln!(self.input, "{}", json!({ "sql": sql })).expect("DuckDB runs");
        self.read()
    }

    fn read(&mut self) -> Result<Vec<Vec<Value>>, String> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("DuckDB answers");
        let mut answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("DuckDB has died; it said {line:?}"));
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(serde_json::from_value(answer["rows"].take()).expect("rows")),
        }
    }
}

/// The official packages, installed once.
fn installed() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/services/duckdb.sh");
    let run = Command::new(script).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(run.status.success(), "DuckDB cannot be installed");
    String::from_utf8(run.stdout).expect("a path").trim().to_owned()
}
