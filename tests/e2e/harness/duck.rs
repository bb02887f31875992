//! DuckDB, asked through one Python process for all tests of this process.

use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

const VERSION: &str = "1.5.5";
/// The last is what DuckDB's Python client reads times with a zone by.
const PACKAGES: [&str; 4] =
    ["duckdb==1.5.5", "duckdb-extensions==1.5.5", "duckdb-extension-delta==1.5.5", "pytz==2025.2"];

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

/// The official packages, installed once into the target directory.
fn installed() -> PathBuf {
    // …/target/<profile>/tributary → …/target
    let binary = Path::new(env!("CARGO_BIN_EXE_tributary"));
    let target = binary.parent().and_then(Path::parent).expect("a target directory");
    let place = target.join(format!("duckdb-{VERSION}"));
    let lock = File::create(target.join(format!("duckdb-{VERSION}.lock"))).expect("a lock file");
    lock.lock().expect("the lock");
    if !place.join("complete").exists() {
        eprintln!("installing DuckDB {VERSION} with its delta extension into {}", place.display());
        let status = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"])
            .args(["--upgrade", "--target"])
            .arg(&place)
            .args(PACKAGES)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "pip cannot install DuckDB {VERSION}");
        std::fs::write(place.join("complete"), "").expect("a note that it is complete");
    }
    place
}
