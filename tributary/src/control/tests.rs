//! The socket, with real embedded tables and a lake in a temporary directory.

use super::*;
use crate::{lag::watch::Watch, up::pipeline};
use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tributary_backends::{data_dir::DataDir, log::embedded};

fn new_key(workspace: &str) -> Request {
    Request::CreateKey(NewKey {
        workspace: workspace.to_owned(),
        label: "a \"label\"\u{2028}".to_owned(),
        source: "crm".to_owned(),
        permissions: vec![Permission::Write, Permission::Read],
        rate_limit: Some(0),
    })
}

fn list() -> Request {
    Request::ListKeys { workspace: None }
}

async fn keys(place: &Place) -> Vec<KeyView> {
    match ask(place, list()).await.expect("listed") {
        Answer::Keys(keys) => keys,
        other => panic!("not keys: {other:?}"),
    }
}

async fn created(place: &Place, workspace: &str) -> CreatedKey {
    match ask(place, new_key(workspace)).await.expect("created") {
        Answer::KeyCreated(created) => created,
        other => panic!("not created: {other:?}"),
    }
}

async fn refusal(place: &Place, request: Request) -> String {
    format!("{:#}", ask(place, request).await.expect_err("refused"))
}

/// A process that runs on a data directory, without API and lanes.
struct Running {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<std::io::Result<()>>>,
    /// Each `+` a start of its pipeline, each `-` an end.
    stints: Arc<Mutex<String>>,
    _lock: Arc<DataDir>,
}

impl Running {
    async fn start(place: &Place) -> Self {
        let lock = Arc::new(state::lock(&place.data).expect("locked"));
        let state = Arc::new(State::open(place, Some(&lock)).await.expect("opened"));
        let listener = wire::listen(&place.data).expect("a socket");
        let (handle, pauses) = pipeline::handle();
        let log = embedded::open(&lock.log_dir(), embedded::Options::default(), state.world.clone()).expect("a log");
        let watch = Arc::new(Watch::new(log.clone(), Some(state.tables.clone()), state.world.clone(), None));
        let running = execute::Running { pipeline: handle, watch, log };
        let (stop, stints) = (CancellationToken::new(), Arc::new(Mutex::new(String::new())));
        let noted = stints.clone();
        let make = move |stop: CancellationToken| {
            let noted = noted.clone();
            async move {
                noted.lock().expect("not poisoned").push('+');
                stop.cancelled().await;
                noted.lock().expect("not poisoned").push('-');
                Ok(())
            }
        };
        let server = server::serve(listener, state, running, place.data.clone(), stop.clone());
        let tasks = vec![tokio::spawn(pipeline::supervise(make, pauses, stop.clone())), tokio::spawn(server)];
        Self { stop, tasks, stints, _lock: lock }
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.expect("no panic").expect("ended well");
        }
    }
}

fn place(data: PathBuf) -> Place {
    Place::embedded(data)
}

#[test]
fn what_goes_over_the_socket_comes_out_the_same() {
    let workspace = Some("w".to_owned());
    let requests = [
        new_key("w"),
        list(),
        Request::RevokeKey { id: "key_1".to_owned() },
        Request::TableUrl { workspace: "w".to_owned() },
        Request::CheckLake { workspace: workspace.clone() },
        Request::RebuildIndex { workspace },
    ];
    for request in requests {
        let text = serde_json::to_string(&request).expect("json");
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(serde_json::from_str::<Request>(&text).expect("read back"), request);
    }
    let created = CreatedKey { id: "i".to_owned(), key: "k".to_owned(), workspace: "w".to_owned() };
    let rebuilt = RebuiltIndex { workspace: "w".to_owned(), entries: 7 };
    let answers = [
        Answer::KeyCreated(created),
        Answer::Keys(Vec::new()),
        Answer::KeyRevoked,
        Answer::TableUrl("file:///x".to_owned()),
        Answer::Checked(Vec::new()),
        Answer::IndexRebuilt(vec![rebuilt]),
    ];
    let replies =
        answers.map(|answer| Reply::Done(Box::new(answer))).into_iter().chain([Reply::Failed("two\nlines".to_owned())]);
    for reply in replies {
        let text = serde_json::to_string(&reply).expect("json");
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(serde_json::from_str::<Reply>(&text).expect("read back"), reply);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_work_on_the_same_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = place(directory.path().join("data"));
    let alone = created(&place, "alone").await;
    let running = Running::start(&place).await;
    let asked = created(&place, "asked").await;
    assert_eq!(keys(&place).await.iter().map(|key| key.id.clone()).collect::<Vec<_>>(), [&*alone.id, &*asked.id]);
    ask(&place, Request::RevokeKey { id: alone.id.clone() }).await.expect("revoked");
    running.end().await;
    let left = keys(&place).await;
    assert!(left[0].revoked_at.is_some() && left[1].revoked_at.is_none(), "{left:?}");
    let told = serde_json::to_string(&left).expect("json");
    assert!(!told.contains(&alone.key) && !told.contains(&asked.key), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_the_same_both_ways() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = place(directory.path().join("data"));
    created(&place, "w").await;
    let requests = [
        new_key("../out"),
        Request::RevokeKey { id: "key_unknown".to_owned() },
        Request::TableUrl { workspace: "a/b".to_owned() },
        Request::CheckLake { workspace: Some("nobody".to_owned()) },
    ];
    let mut alone = Vec::new();
    for request in requests.clone() {
        alone.push(refusal(&place, request).await);
    }
    let running = Running::start(&place).await;
    for (request, alone) in requests.into_iter().zip(alone) {
        assert_eq!(refusal(&place, request).await, alone);
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_rests_while_its_index_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = place(directory.path().join("data"));
    let running = Running::start(&place).await;
    let answer = ask(&place, Request::RebuildIndex { workspace: None }).await.expect("rebuilt");
    assert_eq!(answer, Answer::IndexRebuilt(Vec::new()));
    assert_eq!(running.stints.lock().expect("not poisoned").get(..2), Some("+-"));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_private_and_fits_a_long_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = place(directory.path().join("x".repeat(120)).join("data"));
    let running = Running::start(&place).await;
    let socket = DataDir::socket_path(&place.data);
    let mode = std::fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(keys(&place).await, Vec::new());
    running.end().await;
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_process_leaves_nothing_in_the_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = place(directory.path().join("data"));
    created(&place, "w").await;
    // As after `kill -9`: the socket is there, nobody listens, the lock is free.
    drop(wire::listen(&place.data).expect("a socket"));
    assert_eq!(keys(&place).await.len(), 1);
    Running::start(&place).await.end().await;
}

#[tokio::test]
async fn a_process_that_does_not_listen_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = place(directory.path().join("data"));
    let _held = state::lock(&place.data).expect("locked");
    let error = refusal(&place, list()).await;
    assert!(error.contains("in use by another process"), "{error}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_not_made_by_asking() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = place(directory.path().join("typo"));
    assert!(refusal(&place, list()).await.contains("--data"));
    assert!(!place.data.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_with_a_reason() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let directory = tempfile::tempdir().expect("a directory");
    let place = place(directory.path().join("data"));
    let running = Running::start(&place).await;
    let mut stream = wire::connect(&place.data).await.expect("reachable").expect("running");
    stream.write_all(b"{\"do\":\"dance\"}\n").await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.contains("not a message of this version"), "{answer}");
    running.end().await;
}
