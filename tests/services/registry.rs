//! A schema registry for tests, which stands at the edge: it speaks the REST protocol of Confluent's as far as writers
//! and readers of topics use it, with its media type, its paths, its error codes. No real one can be had everywhere.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// `me` and `pass word`, as a header.
const CREDENTIALS: &str = "Basic bWU6cGFzcyB3b3Jk";

/// A running registry.
#[derive(Clone)]
pub struct Registry {
    pub address: SocketAddr,
    state: Arc<Mutex<Schemas>>,
}

#[derive(Default)]
struct Schemas {
    /// Ids count from 100, by the schema's text.
    ids: Vec<String>,
    /// So many of the first it has lost.
    lost: usize,
    /// Ids by subject, in the order of their versions.
    subjects: BTreeMap<String, Vec<usize>>,
    wants_login: bool,
    away: bool,
    asked: Vec<String>,
}

const FIRST_ID: usize = 100;

impl Registry {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(Schemas::default()));
        let router = Router::new()
            .route("/subjects/{subject}", post(look_up))
            .route("/subjects/{subject}/versions", post(register))
            .route("/schemas/ids/{id}", get(by_id))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a schema by hand; its id.
    pub fn add(&self, subject: &str, schema: &str) -> u32 {
        self.state.lock().expect("no panic").add(subject, schema)
    }

    /// The schema with this id.
    pub fn schema(&self, id: u32) -> Option<String> {
        self.state.lock().expect("no panic").ids.get((id as usize).checked_sub(FIRST_ID)?).cloned()
    }

    /// The subjects, each with the ids of its versions.
    pub fn subjects(&self) -> BTreeMap<String, Vec<u32>> {
        let ids = |ids: &Vec<usize>| ids.iter().map(|place| (FIRST_ID + place) as u32).collect();
        self.state.lock().expect("no panic").subjects.iter().map(|(name, of)| (name.clone(), ids(of))).collect()
    }

    /// From now on it wants to know who asks: `me`, with `pass word`.
    pub fn want_login(&self) {
        self.state.lock().expect("no panic").wants_login = true;
    }

    /// Whether it answers `503` from now on.
    pub fn set_away(&self, away: bool) {
        self.state.lock().expect("no panic").away = away;
    }

    /// From now on it knows none of its schemas, and gives them other ids.
    pub fn lose_all(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.subjects.clear();
        state.lost = state.ids.len();
    }

    /// It has back what it lost.
    pub fn find_again(&self) {
        self.state.lock().expect("no panic").lost = 0;
    }

    /// What it was asked, as method and path.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().expect("no panic").asked.clone()
    }
}

impl Schemas {
    fn add(&mut self, subject: &str, schema: &str) -> u32 {
        let known = self.ids.iter().skip(self.lost).position(|known| known == schema);
        let place = known.map(|place| self.lost + place).unwrap_or_else(|| {
            self.ids.push(schema.to_owned());
            self.ids.len() - 1
        });
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&place) {
            versions.push(place);
        }
        (FIRST_ID + place) as u32
    }

    /// What is refused whatever is asked.
    fn refusal(&mut self, asked: String, headers: &HeaderMap, has_body: bool) -> Option<Response> {
        self.asked.push(asked);
        if self.away {
            return Some((StatusCode::SERVICE_UNAVAILABLE, "no leader").into_response());
        }
        let is = |name: header::HeaderName, wanted: &str| headers.get(name).is_some_and(|value| value == wanted);
        if self.wants_login && !is(header::AUTHORIZATION, CREDENTIALS) {
            return Some(error(StatusCode::UNAUTHORIZED, 401, "Unauthorized"));
        }
        if has_body && !is(header::CONTENT_TYPE, MEDIA_TYPE) {
            return Some(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, "HTTP 415 Unsupported Media Type"));
        }
        None
    }
}

type Shared = State<Arc<Mutex<Schemas>>>;

async fn look_up(State(state): Shared, Path(subject): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = state.lock().expect("no panic");
    if let Some(refusal) = state.refusal(format!("POST /subjects/{subject}"), &headers, true) {
        return refusal;
    }
    let schema = match schema_of(&body) {
        Ok(schema) => schema,
        Err(refusal) => return *refusal,
    };
    let Some(versions) = state.subjects.get(&subject) else {
        return error(StatusCode::NOT_FOUND, 40_401, &format!("Subject '{subject}' not found."));
    };
    match versions.iter().position(|place| state.ids[*place] == schema) {
        Some(version) => {
            let id = FIRST_ID + versions[version];
            answer(&json!({ "subject": subject, "version": version + 1, "id": id, "schema": schema }))
        }
        None => error(StatusCode::NOT_FOUND, 40_403, "Schema not found"),
    }
}

async fn register(State(state): Shared, Path(subject): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = state.lock().expect("no panic");
    if let Some(refusal) = state.refusal(format!("POST /subjects/{subject}/versions"), &headers, true) {
        return refusal;
    }
    let schema = match schema_of(&body) {
        Ok(schema) => schema,
        Err(refusal) => return *refusal,
    };
    // Its rule is that no version may differ from the first.
    if state.subjects.get(&subject).is_some_and(|versions| versions.iter().all(|place| state.ids[*place] != schema)) {
        let said = format!("Schema being registered is incompatible with an earlier schema for subject \"{subject}\"");
        return error(StatusCode::CONFLICT, 409, &said);
    }
    answer(&json!({ "id": state.add(&subject, &schema) }))
}

async fn by_id(State(state): Shared, Path(id): Path<u32>, headers: HeaderMap) -> Response {
    let mut state = state.lock().expect("no panic");
    if let Some(refusal) = state.refusal(format!("GET /schemas/ids/{id}"), &headers, false) {
        return refusal;
    }
    match (id as usize)
        .checked_sub(FIRST_ID)
        .filter(|place| *place >= state.lost)
        .and_then(|place| state.ids.get(place))
    {
        Some(schema) => answer(&json!({ "schema": schema })),
        None => error(StatusCode::NOT_FOUND, 40_403, &format!("Schema {id} not found")),
    }
}

fn schema_of(body: &[u8]) -> Result<String, Box<Response>> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let schema = body["schema"].as_str().unwrap_or_default();
    match serde_json::from_str::<Value>(schema) {
        Ok(_) => Ok(schema.to_owned()),
        Err(why) => Err(Box::new(error(StatusCode::UNPROCESSABLE_ENTITY, 42_201, &format!("Invalid schema: {why}")))),
    }
}

fn answer(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], body.to_string()).into_response()
}

fn error(status: StatusCode, code: u32, message: &str) -> Response {
    (status, answer(&json!({ "error_code": code, "message": message }))).into_response()
}
