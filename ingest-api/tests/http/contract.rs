//! The served OpenAPI document, and that what is served keeps to it.

use crate::harness::{Answer, Server, answer, lines, record, record_with, start, start_with};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tributary_backends::tables::Permission;

async fn document(server: &Server) -> Value {
    let served = answer(server.client.get(server.url("/openapi.json"))).await;
    assert_eq!(served.status, StatusCode::OK);
    served.json
}

/// Checks a value against a schema of the document: the keywords that the document uses, and no other.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |why: &str| Err(format!("{at}: {why}: {value} against {schema}"));
    if let Some(target) = schema["$ref"].as_str() {
        let found = document.pointer(target.trim_start_matches('#')).ok_or(format!("{at}: no {target}"))?;
        return check(document, found, value, at);
    }
    if let Some(any) = schema["oneOf"].as_array() {
        let fits = any.iter().filter(|schema| check(document, schema, value, at).is_ok()).count();
        return if fits == 1 { Ok(()) } else { fail("fits not exactly one") };
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.contains(&kind) {
        return fail("wrong type");
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        return fail("not one of the values");
    }
    if let (Some(least), Some(n)) = (schema["minimum"].as_f64(), value.as_f64())
        && n < least
    {
        return fail("too small");
    }
    if let Some(items) = value.as_array() {
        for (n, item) in items.iter().enumerate() {
            check(document, &schema["items"], item, &format!("{at}/{n}"))?;
        }
    }
    if let Some(members) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                return fail(&format!("{name} is missing"));
            }
        }
        for (name, member) in members {
            match &schema["properties"][name] {
                Value::Null => return fail(&format!("{name} is not documented")),
                property => check(document, property, member, &format!("{at}/{name}"))?,
            }
        }
    }
    Ok(())
}

/// Checks an answer against what the document says about its operation.
fn conforms(document: &Value, path: &str, method: &str, answer: &Answer) {
    let responses = &document["paths"][path][method]["responses"];
    let status = answer.status.as_u16().to_string();
    let response = if responses[&status].is_null() { &responses["default"] } else { &responses[&status] };
    let schema = &response["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{method} {path} {status} is not documented");
    check(document, schema, &answer.json, "").unwrap_or_else(|why| panic!("{method} {path} {status}: {why}"));
    if !answer.status.is_success() {
        let (error, message) = (answer.json["error"].as_str(), answer.json["message"].as_str());
        assert!(
            error.is_some_and(|e| e.len() <= 64 && e.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')),
            "{answer:?}"
        );
        assert!(message.is_some_and(|m| !m.is_empty() && m.chars().count() <= 2_048), "{answer:?}");
    }
}

const INGEST: &str = "/api/v1/ingest";
const LIST: &str = "/api/v1/ingest/batches";
const BATCH: &str = "/api/v1/ingest/batches/{batchId}";
const REJECTS: &str = "/api/v1/ingest/batches/{batchId}/rejects";
const ATTACHMENTS: &str = "/api/v1/ingest/batches/{batchId}/attachments";

#[tokio::test]
async fn the_document_is_openapi_3_1_and_names_every_path() {
    let server = start().await;
    let document = document(&server).await;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
    let paths: Vec<&String> = document["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(paths, [INGEST, LIST, BATCH, ATTACHMENTS, REJECTS]);
    assert_eq!(document["components"]["securitySchemes"]["api_key"]["name"], "x-api-key");
    let elsewhere = answer(server.client.get(server.url("/api/v1/openapi.json"))).await;
    assert_eq!(elsewhere.json, document);
}

/// Every `$ref` of the document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_whole_and_lists_the_errors() {
    let server = start().await;
    let document = document(&server).await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.contains(&"#/components/schemas/Envelope"));
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    for status in ["400", "401", "403", "408", "413", "415", "429", "500", "503"] {
        assert!(document["paths"][INGEST]["post"]["responses"][status].is_object(), "{status}");
    }
    assert!(document["paths"][BATCH]["get"]["responses"]["404"].is_object());
}

#[tokio::test]
async fn successes_are_as_documented() {
    let server = start().await;
    let document = document(&server).await;
    let bad = record_with("2", "{}", r#","_no":1"#);
    let accepted = server.post_ndjson(format!("{}{bad}\n", lines(1))).await;
    conforms(&document, INGEST, "post", &accepted);
    let attached = server.post_json(record_with("3", "{}", r#","_attachments":[{"type":"file"}]"#)).await;
    let id = accepted.json["batchId"].as_str().expect("id");
    for id in [id, attached.json["batchId"].as_str().expect("id")] {
        let batch = server.get(&format!("{LIST}/{id}")).await;
        assert_eq!(batch.status, StatusCode::OK);
        conforms(&document, BATCH, "get", &batch);
    }
    for query in ["", "?limit=1"] {
        conforms(&document, LIST, "get", &server.get(&format!("{LIST}{query}")).await);
    }
    let rejects = server.get(&format!("{LIST}/{id}/rejects")).await;
    assert_eq!(rejects.status, StatusCode::OK);
    conforms(&document, REJECTS, "get", &rejects);
    let id = attached.json["batchId"].as_str().expect("id");
    server
        .tables
        .put_attachments(&[crate::attachments::whole(id), crate::attachments::bare(id, 0, 0)])
        .await
        .expect("stored");
    let attachments = server.get(&format!("{LIST}/{id}/attachments")).await;
    assert_eq!(attachments.json["attachments"].as_array().map(Vec::len), Some(2), "{attachments:?}");
    conforms(&document, ATTACHMENTS, "get", &attachments);
}

#[tokio::test]
async fn every_error_is_in_the_documented_shape() {
    let mut server = start_with(|config| config.timeouts.key_cache = std::time::Duration::ZERO).await;
    let document = document(&server).await;
    let mut answers = vec![
        (400, server.post_json("[]").await),
        (400, server.post_json("{}").await),
        (413, server.post_ndjson("x".repeat(6 << 20)).await),
        (415, answer(server.ingest("text/plain", "x")).await),
        (401, answer(server.client.post(server.url(INGEST))).await),
        (404, server.get("/api/v1/nothing").await),
        (404, server.get("/").await),
        (404, server.get(&format!("{LIST}/unknown")).await),
        (405, answer(server.request(Method::DELETE, INGEST)).await),
        (405, server.get(INGEST).await),
    ];
    server.log.away.store(true, Ordering::SeqCst);
    answers.push((503, server.post_json(record("1", "{}")).await));
    server.key = server.add_key("default", &[Permission::Read], Some(1)).await.1;
    answers.push((403, server.post_json("{}").await));
    let limited = loop {
        let limited = server.get(LIST).await;
        if limited.status == StatusCode::TOO_MANY_REQUESTS {
            break limited;
        }
    };
    answers.push((429, limited));
    for (status, answer) in answers {
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        conforms(&document, INGEST, "post", &answer);
        if status == 405 {
            assert!(answer.headers.contains_key("allow"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn the_check_itself_finds_what_is_wrong() {
    let server = start().await;
    let document = document(&server).await;
    let schema = json!({"$ref": "#/components/schemas/IngestAccepted"});
    let good = json!({"batchId": "b", "acceptedCount": 1, "rejectedCount": 0, "totalErrorCount": 0, "errors": []});
    check(&document, &schema, &good, "").expect("good");
    for (name, value) in
        [("batchId", json!(1)), ("acceptedCount", json!("1")), ("errors", json!([{}])), ("more", json!(1))]
    {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(check(&document, &schema, &bad, "").is_err(), "{name}");
    }
    let mut missing = good;
    missing.as_object_mut().expect("object").remove("errors");
    assert!(check(&document, &schema, &missing, "").is_err());
}
