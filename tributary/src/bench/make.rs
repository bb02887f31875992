//! Requests, made before they are due, several at a time, and given out in their order.

use super::workload::{Body, Workload};
use crate::send::client::{Client, Encoded};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

/// A request that is ready to be sent.
pub struct Made {
    /// Its number, from 0.
    pub n: u64,
    /// As it goes over the wire.
    pub body: Encoded,
    /// Before compression.
    pub bytes: u64,
    /// Records in it that are no later version of another one.
    pub identities: u64,
}

/// One that is being made.
pub type Making = JoinHandle<Option<Made>>;

/// Makes `all` requests, as far ahead as `give` has room, until nobody takes them any more.
pub async fn all(workload: Workload, clients: Vec<Client>, all: u64, give: mpsc::Sender<Making>) {
    for n in 0..all {
        let Some(client) = clients.get(workload.workspace(n)).cloned() else { return };
        if give.send(spawn_blocking(move || one(&workload, &client, n))).await.is_err() {
            return;
        }
    }
}

/// `None` never: compressing into memory does not fail.
fn one(workload: &Workload, client: &Client, n: u64) -> Option<Made> {
    let Body { lines, identities } = workload.body(n);
    let bytes = lines.len() as u64;
    Some(Made { n, body: client.encoded(lines).ok()?, bytes, identities })
}
