//! A proxy before an object store that does harm to the requests it is told to: real HTTP on both sides.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_LENGTH, IF_NONE_MATCH},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};

/// What is done to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It is answered with this status and S3 error code, and does not reach the server.
    Answer(u16, &'static str),
    /// It reaches the server, and its answer is replaced.
    AnswerInstead(u16, &'static str),
    /// It reaches the server, and the connection ends without an answer.
    DropAnswer,
    /// The connection to the server ends in the middle of the body, then that to the client.
    CutUpload,
    /// The answer ends in the middle of its body.
    CutDownload,
    /// It reaches the server this much later.
    Delay(Duration),
    /// It never gets an answer, and the connection stays.
    Swallow,
    /// Its condition is taken off.
    Unconditional,
}

/// Which requests are harmed, and how many times.
#[derive(Debug, Clone)]
struct Rule {
    method: Method,
    part: &'static str,
    harm: Harm,
    times: usize,
}

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    /// Method and path with query of everything that came.
    seen: Mutex<Vec<(Method, String)>>,
}

/// Carries requests to one server.
pub struct Proxy {
    /// Its own URL.
    pub url: String,
    shared: Arc<Shared>,
    _listening: tokio_util::task::AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own; `to` is the server's URL.
    pub async fn start(to: &str) -> Self {
        let to = to.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::<Shared>::default();
        let listening = tokio::spawn(listen(listener, to, shared.clone()));
        Self { url, shared, _listening: tokio_util::task::AbortOnDropHandle::new(listening) }
    }

    /// The next `times` requests of `method` with `part` in path or query are harmed.
    pub fn harm(&self, method: Method, part: &'static str, harm: Harm, times: usize) {
        self.shared.rules.lock().expect("no panic").push(Rule { method, part, harm, times });
    }

    /// How many requests are still to be harmed.
    pub fn left(&self) -> usize {
        self.shared.rules.lock().expect("no panic").iter().map(|rule| rule.times).sum()
    }

    /// No more harm.
    pub fn heal(&self) {
        self.shared.rules.lock().expect("no panic").clear();
    }

    /// How many requests of `method` with `part` in path or query have come.
    pub fn count(&self, method: &Method, part: &str) -> usize {
        let seen = self.shared.seen.lock().expect("no panic");
        seen.iter().filter(|(seen, target)| seen == method && target.contains(part)).count()
    }
}

async fn listen(listener: TcpListener, to: String, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let (to, shared) = (to.clone(), shared.clone());
        tokio::spawn(async move {
            // In tasks of their own: a client that goes away does not take back what it has sent.
            let service = service_fn(|request| {
                let passed = tokio::spawn(pass(request, to.clone(), shared.clone()));
                async move { passed.await.map_err(io::Error::other)? }
            });
            // An error is the harm that was asked for.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
        });
    }
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

async fn pass(request: Request<Incoming>, to: String, shared: Arc<Shared>) -> io::Result<Answer> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let target = head.uri.to_string();
    let harm = shared.harm_to(&head.method, &target);
    shared.seen.lock().expect("no panic").push((head.method.clone(), target));
    match harm {
        Some(Harm::Answer(status, code)) => return Ok(refusal(status, code)),
        Some(Harm::CutUpload) => {
            let half = body.slice(..body.len() / 2);
            head.headers.insert(CONTENT_LENGTH, body.len().into());
            let cut = stream::iter([Ok(Frame::data(half)), Err(io::ErrorKind::ConnectionReset.into())]);
            let sent = ask(&to, Request::from_parts(head, BodyExt::boxed(StreamBody::new(cut)))).await;
            return Err(sent.err().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()));
        }
        Some(Harm::Swallow) => return std::future::pending().await,
        Some(Harm::Delay(by)) => tokio::time::sleep(by).await,
        Some(Harm::Unconditional) => drop(head.headers.remove(IF_NONE_MATCH)),
        _ => {}
    }
    let answer = ask(&to, Request::from_parts(head, whole(body))).await?;
    match harm {
        Some(Harm::AnswerInstead(status, code)) => Ok(refusal(status, code)),
        Some(Harm::DropAnswer) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Harm::CutDownload) => {
            let (head, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            let half = body.slice(..body.len() / 2);
            let cut = stream::iter([Ok(Frame::data(half)), Err(io::ErrorKind::ConnectionReset.into())]);
            Ok(Response::from_parts(head, BodyExt::boxed(StreamBody::new(cut))))
        }
        _ => Ok(answer),
    }
}

impl Shared {
    fn harm_to(&self, method: &Method, target: &str) -> Option<Harm> {
        let mut rules = self.rules.lock().expect("no panic");
        let mut rules = rules.iter_mut();
        let rule = rules.find(|rule| rule.times > 0 && rule.method == *method && target.contains(rule.part))?;
        rule.times -= 1;
        Some(rule.harm)
    }
}

async fn ask(to: &str, request: Request<BoxBody<Bytes, io::Error>>) -> io::Result<Answer> {
    let server = TokioIo::new(TcpStream::connect(to).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(server).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    Ok(answer.map(|body| body.map_err(io::Error::other).boxed()))
}

fn whole(body: Bytes) -> BoxBody<Bytes, io::Error> {
    BodyExt::boxed(StreamBody::new(stream::iter([body]).map(|body| Ok(Frame::data(body)))))
}

fn refusal(status: u16, code: &str) -> Answer {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>The proxy says so.</Message></Error>");
    let mut answer = Response::new(whole(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
}
